"""A suggested network, trained as ``metad2a.train`` does: what ``check`` and ``refine`` end in."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.answers import PieceAnswers
from metad2a.candidate import Candidate, Measured
from metad2a.errors import InputError
from metad2a.protocol import PROBE, SCRATCH, fine_tune
from metad2a.result import Suggestions
from metad2a.training.sides import split
from metad2a.training.train import TrainProgress, train
from search.engine.loop import Progress

if TYPE_CHECKING:
    from torch import nn

    from metad2a.training.trained import Trained

_LEAST_SECONDS = 0.5
"""What a training is given at least: where nothing is left, it ends after its first steps."""
RANKED = (
    "Networks that were trained are ranked by the images that choices are made by, so that what was "
    "measured on test images is of a network that they did not choose."
)
"""What must be known where several were."""


def seconds_of(minutes: float) -> float:
    """Return minutes as seconds.

    Raises:
        InputError: it is no number above 0, or an absurd one.
    """
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not 0 < minutes < 1e5:
        raise InputError(f"minutes={minutes!r} must be a number above 0 (and below 100,000).")
    return 60.0 * minutes


def trained_one(
    result: Suggestions,
    candidate: Candidate,
    seconds: float,
    seed: int,
    device: str,
    progress: Callable[[TrainProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
    start: nn.Module | None = None,
) -> Trained:
    """Train a candidate on the images that it was suggested for.

    What was predicted of it stands beside what it reaches. In a space with pretrained weights that
    is what the model expects of this network in this time, in a space of cells what was shown.

    Args:
        result: the suggestions that the candidate is of.
        candidate: its ``architecture`` is trained, in the size that its costs are of.
        seconds: from reading the images to judging.
        seed: as of ``metad2a.train``, like the others.
        device: where.
        progress: told now and then.
        should_stop: asked before each step.
        checkpoint: file of a stopped training, which is gone on with where it exists.
        start: the network with the weights to begin with, in the place of the space's own.

    Raises:
        InputError: the dataset or an argument cannot be used.
    """
    answers = result.answers
    found = train(
        result.dataset,
        minutes=max(seconds, _LEAST_SECONDS) / 60,
        network=candidate.architecture,
        space=candidate.space,
        seed=seed,
        device=device,
        outlook=answers.model if isinstance(answers, PieceAnswers) else None,
        progress=progress,
        should_stop=should_stop,
        checkpoint=checkpoint,
        resume=checkpoint is not None and checkpoint.exists(),
        start=start,
    )
    if found.predicted is not None:
        return found
    return dataclasses.replace(
        found,
        predicted=candidate.accuracy,
        interval=candidate.interval,
        reason=f"{found.reason}; predicted under the protocol {result.protocol}",
        report=found.report or result.report,
    )


def measured(candidate: Candidate, trained: Trained) -> Candidate:
    """Put into a candidate what its training gave."""
    value = Measured(
        trained.accuracy,
        f"{_protocol(trained)}, on {trained.evaluation.images:,} test images"
        + (", stopped before the end" if trained.partial else ""),
        trained.seconds,
        tuple(accuracy for _, accuracy in trained.curve),
    )
    return dataclasses.replace(candidate, measured=value, trained=trained)


def _protocol(trained: Trained) -> str:
    recipe = trained.recipe
    if recipe.rate == 0:
        return PROBE.name
    if not recipe.closed_form:
        return f"{SCRATCH.name}, {recipe.epochs:.1f} epochs"
    epochs = round(recipe.epochs, 1)
    return fine_tune(recipe.rate, epochs, recipe.frozen_stages, recipe.batch_norm).name


def chosen_by(trained: Trained | None) -> float:
    """Return by what trained networks are ranked: percent of the images that choices are made by.

    Of equals the earlier one is first, which is all of them where no image was kept for choices.
    """
    known = None if trained is None else trained.chosen_by
    return -math.inf if known is None else known


def revised(
    result: Suggestions, trained: Iterable[Candidate], others: Iterable[Candidate], seconds: float
) -> Suggestions:
    """Return a result with trained candidates first, those of which there are several ranked.

    Args:
        result: as it was.
        trained: in the order of their training.
        others: what comes after them, in order.
        seconds: that all of it took.
    """
    first = sorted(trained, key=lambda one: chosen_by(one.trained), reverse=True)
    found = result.revised([*first, *others], seconds)
    if len(first) > 1:
        found.note = f"{found.note} {RANKED}".strip()
    return found


class Told:
    """Tells of trainings as of a part of a larger job.

    Args:
        progress: is told.
        result: of which candidates are trained.
        seed: of the training.
        started: when the job began, by ``time.perf_counter``.
    """

    def __init__(
        self,
        progress: Callable[[Progress], None] | None,
        result: Suggestions,
        seed: int,
        started: float,
    ) -> None:
        self._progress, self._started = progress, started
        self._each = len(split(result.dataset, seed).train) if progress else 0
        self.images = 0
        """That passed so far, in what came before a training too."""

    def of(self, what: str, begin: float, end: float) -> Callable[[TrainProgress], None] | None:
        """Return what is told of the next training.

        Args:
            what: names it.
            begin: share of the job, 0..1, that is done before it.
            end: share of the job that is done after it.
        """
        progress, before = self._progress, self.images
        if progress is None:
            return None

        def tell(one: TrainProgress) -> None:
            self.images = max(self.images, before + round(one.epoch * self._each))
            progress(
                Progress(
                    begin + one.fraction * (end - begin),
                    f"{what}: {one.phase}",
                    math.nan if one.loss is None else one.loss,
                    self.images,
                    time.perf_counter() - self._started,
                )
            )

        return tell
