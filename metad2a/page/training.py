"""The training of one network: the order, how long it still takes, and what is kept of its end."""

from __future__ import annotations

import io
import math
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError
from metad2a.page import values
from metad2a.page.orders import AFTER_SECONDS, SAVING_SECONDS, Order, Outcome, Point, Stop, Tell

if TYPE_CHECKING:
    import numpy as np

    from metad2a.page.backend import Train
    from metad2a.training.train import TrainProgress
    from metad2a.training.trained import Trained

ZIP = "network.zip"
_FOLDER = "network"
_LEAST_MINUTES = 0.05
_AFTER = (1.1, 1.0 + SAVING_SECONDS)
"""What comes after the steps, as a share of their time and in seconds: judging and writing."""


@dataclass(frozen=True, eq=False)
class TrainedHere(Outcome):
    """A trained network in a folder of the server, and all that is shown of it."""

    folder: Path
    files: Mapping[str, int]
    """Bytes by name."""
    notes: tuple[str, ...]
    """What the folder lacks, and why."""
    told: Mapping[str, Any]
    """What ``metad2a train --json`` prints."""
    confusion: np.ndarray
    """int64 (classes, classes): test images by true (row) and given (column) class."""
    own_test: bool
    """Whether the test side is the dataset's own, or was held out."""

    @classmethod
    def of(cls, trained: Trained, folder: Path) -> TrainedHere:
        """Write a trained network into a folder and keep what is shown."""
        saved = trained.save(folder)
        return cls(
            folder,
            dict(saved.files),
            tuple(saved.notes),
            _finite(trained.to_dict(sorted(saved.files))),
            trained.confusion,
            trained.own_test,
        )

    @property
    def accuracy(self) -> float:
        """Percent of the test images that are right."""
        return float(self.told["accuracy"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the network's outputs."""
        return tuple(self.told["classes"])

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(epoch, accuracy in percent), where it is known."""
        return [(x, y) for x, y in self.told["curve"] if y is not None]

    def zipped(self) -> bytes:
        """Return the folder as one file.

        Raises:
            InputError: it is no longer there.
        """
        content = io.BytesIO()
        # Weights hardly become smaller, and packing them takes seconds.
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
            for name in self.files:
                try:
                    archive.write(self.folder / name, f"{_FOLDER}/{name}")
                except FileNotFoundError as error:
                    raise InputError(
                        "The trained network is no longer here: everything is deleted after an "
                        "hour. Train it again."
                    ) from error
        return content.getvalue()


@dataclass(frozen=True, kw_only=True)
class TrainOrder(Order):
    """Train one network and write it into a folder."""

    work: Train
    network: str | int | None
    """Its string form, the number of a suggestion, or None for the best in the time."""

    def carry_out(self, tell: Tell, should_stop: Stop) -> TrainedHere:
        """Train, judge and save."""
        from metad2a.page.described import open_source

        begun = time.monotonic()
        foresight = _Foresight()
        tell(Point(0.0, "reading"))
        with open_source(self.source, self.uploaded) as dataset:
            network = self._named(dataset)
            spent = (time.monotonic() - begun) / 60
            trained = self.work(
                dataset,
                minutes=max(self.minutes - spent, _LEAST_MINUTES),
                network=network,
                space=self.space,
                max_params=self.max_params,
                max_macs=self.max_macs,
                progress=lambda progress: tell(foresight.point(progress)),
                should_stop=should_stop,
            )
            return saved(trained, self.place, tell)

    def _named(self, dataset: Any) -> str | None:
        """Return the string form of the network, or None where it is chosen while training."""
        from metad2a.spaces import SPACES
        from metad2a.suggestion import suggest

        if isinstance(self.network, str):
            return self.network
        if self.network is None and SPACES.get(self.space).pretrained:
            return None
        number = self.network or 1
        found = suggest(
            dataset,
            k=number,
            max_params=self.max_params,
            max_macs=self.max_macs,
            minutes=values.TRAINING,
            space=self.space,
        )
        if number > len(found):
            raise InputError(
                f"network={number}: within these limits there are suggestions 1 to {len(found)}."
            )
        return found[number - 1].architecture


def saved(trained: Trained, place: Path, tell: Tell) -> TrainedHere:
    """Write a trained network into the place of a job."""
    tell(Point(1.0, "saving", left=SAVING_SECONDS, surely=True))
    return TrainedHere.of(trained, place / _FOLDER)


class _Foresight:
    """How long a training still takes, by the pace of its steps."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def point(self, progress: TrainProgress) -> Point:
        """Return what is told of a training's progress."""
        now, left, surely = time.monotonic(), progress.remaining + AFTER_SECONDS, False
        if progress.phase != "training" or not progress.epochs:
            self._began = None
        elif self._began is None:
            self._began = (now, progress.epoch)
        elif progress.epoch > self._began[1]:
            begun, first = self._began
            pace = (now - begun) / (progress.epoch - first)
            rest = _AFTER[0] * pace * max(0.0, progress.epochs - progress.epoch) + _AFTER[1]
            left, surely = min(left, rest), True
        return Point(
            progress.fraction,
            progress.phase,
            math.nan if progress.loss is None else progress.loss,
            left,
            surely,
            progress.epoch,
            progress.epochs,
            tuple(point for point in progress.curve if math.isfinite(point[1])),
        )


def _finite(value: Any) -> Any:
    """Return plain values with None in the place of NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
