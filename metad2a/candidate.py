"""A suggested network: what it is, what is expected of it, what was measured."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.spaces import SPACES

if TYPE_CHECKING:
    from torch import nn

    from metad2a.datasets import ImageDataset
    from metad2a.draw import Drawing
    from metad2a.export import Delivery, Saved
    from metad2a.protocol import FineTune
    from metad2a.training.trained import Trained


@dataclass(frozen=True)
class Measured:
    """What a training or a search found a candidate to do, beside what was predicted."""

    accuracy: float
    """On held-out images of the dataset, in percent."""
    protocol: str
    """How it was measured; only accuracies of one protocol compare."""
    seconds: float
    """Of the training; 0 where the accuracy alone was given."""
    curve: tuple[float, ...] = ()
    """Accuracy on the way, in percent, where it was followed."""


@dataclass(frozen=True)
class Candidate:
    """One suggested network."""

    rank: int
    """1 is the best predicted; of a network that is not listed, its place among all compared."""
    space: str
    architecture: str
    """The space's own string form."""
    accuracy: float
    """Predicted test accuracy under the result's protocol, in percent."""
    interval: tuple[float, float]
    """Bounds of the 90 % interval, in percent."""
    params: int
    """Trainable parameters of :meth:`build`'s network."""
    macs: int
    """Multiply-adds of one image at the space's resolution."""
    class_names: tuple[str, ...]
    """Of the dataset, in the order of the network's outputs."""
    reason: str
    resolution: int
    """Side, in pixels, of the images at which the network runs and is counted."""
    latency_ms: float | None = None
    """As measured under a latency limit; None where none was set."""
    measured: Measured | None = None
    """What ``search.refine`` or ``search.check`` measured, or what was given; else None."""
    trained: Trained | None = field(default=None, repr=False, compare=False)
    """What ``search.refine`` or ``search.check`` trained, with all that is known of it."""
    recipe: FineTune | None = None
    """How it is expected to be trained; None where its protocol alone says that."""
    dataset: ImageDataset | None = field(default=None, repr=False, compare=False)
    """The images that it was suggested for."""

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def bytes(self) -> int:
        """Bytes of the parameters as 32-bit numbers."""
        return 4 * self.params

    def draw(self, path: str | Path | None = None) -> Drawing:
        """Return the network as SVG, and write a drawing to ``path`` if one is given.

        A notebook shows what is returned as a picture.

        Args:
            path: its ending names the format: ``.svg``, ``.png``, ``.mmd`` or ``.md`` (Mermaid);
                see :func:`metad2a.draw.write`.

        Raises:
            InputError: the ending is another one, or PNG is wanted and the extra ``png`` is not
                installed.
            ArtifactError: the file cannot be written.
        """
        from metad2a.draw import svg, write

        space = SPACES.get(self.space)
        if path is not None:
            write(space, self.architecture, path)
        return svg(space, self.architecture)

    def save(self, folder: str | Path, *, onnx: bool = True, **macro: int) -> Saved:
        """Write the network into a folder: a trained one as ``train`` does, weights and all.

        One that nobody trained leaves as code and labels, without weights and ONNX file, and its
        card says so.

        Args:
            folder: a new or an empty one, or one that an earlier call made, which is replaced.
            onnx: write ``model.onnx`` too, of a trained network.
            macro: sizes as in :meth:`build`, of a new, untrained network.

        Returns:
            The folder, its files, and what was left out.

        Raises:
            InputError: the folder holds other files, or a size cannot be exported.
            ArtifactError: the folder cannot be written.
        """
        from metad2a.export import save as write_all

        return write_all(self.delivery(**macro), folder, onnx=onnx)

    def delivery(self, **macro: int) -> Delivery:
        """Return what leaves: the trained network, if there is one, else an untrained one.

        Args:
            macro: sizes as in :meth:`build`, of a new, untrained network.

        Raises:
            InputError: a size cannot be exported.
        """
        if self.trained is not None and not macro:
            kept: Delivery = self.trained.delivery()
            return kept
        from metad2a.export import untrained

        space = SPACES.get(self.space)
        plain = untrained(space, space.parse(self.architecture), self.class_names, **macro)
        if macro:
            return plain
        told = replace(plain.figures, predicted=self.accuracy, interval=self.interval)
        return replace(plain, figures=told)

    def build(self, *, pretrained: bool = True, **macro: Any) -> nn.Module:
        """Return a PyTorch network with the dataset's classes, of :attr:`params` and :attr:`macs`.

        Where it was trained, it is a copy of that network behind its normalisation: it takes images
        from 0 to 1. Else it is the plain network, which takes normalised images, and its classifier
        is new.

        Args:
            pretrained: begin with the space's pretrained weights, where it has any.
            macro: sizes of the space's network other than the default ones, such as ``channels``
                and ``cells``; :attr:`params` and :attr:`macs` hold for the default ones. A network
                of given sizes is always a new, untrained one.

        Raises:
            InputError: the space has no such size, or it is below 1.
        """
        if self.trained is not None and not macro:
            from metad2a.export.delivered import Delivered

            kept = self.trained
            return Delivered(copy.deepcopy(kept.module), kept.mean, kept.deviation).eval()
        space = SPACES.get(self.space)
        architecture = space.parse(self.architecture)
        begun = pretrained and space.pretrained
        return space.build(architecture, self.classes, pretrained=begun, **macro)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints of a candidate."""
        return {
            "rank": self.rank,
            "space": self.space,
            "architecture": self.architecture,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "params": self.params,
            "macs": self.macs,
            "resolution": self.resolution,
            "bytes": self.bytes,
            "classes": list(self.class_names),
            "latency_ms": self.latency_ms,
            "reason": self.reason,
            "measured": None if self.measured is None else asdict(self.measured),
        }
