"""A trained network with all that is known of it: what ``train``, ``check`` and ``refine`` return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.spaces import SPACES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from metad2a.datasets import DatasetReport
    from metad2a.datasets.batches import Batches
    from metad2a.datasets.levels import Levels
    from metad2a.export.folder import Saved
    from metad2a.prediction import Prediction
    from metad2a.protocol import FineTune
    from metad2a.training.evaluate import Evaluation


@dataclass(frozen=True)
class TrainedNetwork:
    """Which network it is: what was shown, costed, trained, measured and is saved."""

    space: str
    architecture: str
    """The space's own string form."""
    params: int
    macs: int
    """Multiply-adds of one image at ``resolution``."""
    resolution: int


@dataclass(eq=False)
class Trained:
    """A trained network, what it reached on images that nothing was chosen by, and how."""

    network: TrainedNetwork
    module: nn.Module
    """The plain network on the CPU; it takes images normalised by ``mean`` and ``deviation``."""
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    recipe: FineTune
    """With the epochs that were trained."""
    reason: str
    """Why this network and this recipe."""
    evaluation: Evaluation
    """On the test side."""
    chosen_by: float | None
    """Accuracy in percent on the images that choices were made by; flattering."""
    predicted: float | None
    """Accuracy in percent that was predicted before anything was trained."""
    interval: tuple[float, float] | None
    curve: tuple[tuple[float, float], ...]
    """(epoch, accuracy in percent on the choice side); epoch 0 is the frozen network."""
    tried: tuple[Mapping[str, Any], ...]
    """Every attempt: its network, recipe and accuracy on the choice side."""
    report: DatasetReport | None
    images: int
    """That trained."""
    epochs: float
    seconds: float
    """From the call to the last judgement."""
    own_test: bool
    """Whether the test side is the dataset's own, or was held out."""
    partial: bool = False
    """Whether the training was stopped before its end."""
    pretrained: bool = True
    levels: Levels | None = None
    """Black and white of the pictures with more than 8 bits; None: there were none."""
    calibration: Tensor | None = field(default=None, repr=False)
    test: Batches | None = field(default=None, repr=False)
    """What tells how much int8 loses; it stays in the process that has trained."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes to another process."""
        return self.__dict__ | {"test": None}

    @property
    def accuracy(self) -> float:
        """Percent of the test side's images that are right."""
        return self.evaluation.accuracy

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the classes of the percent that is right, on the test side."""
        return self.evaluation.balanced_accuracy

    @property
    def confusion(self) -> np.ndarray:
        """Int64 (classes, classes): test images by true (row) and given (column) class."""
        return self.evaluation.confusion

    def plan(self) -> dict[str, Any]:
        """Return what the minutes were spent on, as JSON values."""
        recipe = self.recipe
        return {
            "rate": recipe.rate,
            "frozen_stages": recipe.frozen_stages,
            "batch_norm": recipe.batch_norm,
            "epochs": round(self.epochs, 2),
            "classifier": "closed form" if recipe.closed_form else "random",
            "reason": self.reason,
        }

    def predict(self, sources: Any, top: int = 3) -> list[Prediction]:
        """Name the classes of images; see :func:`metad2a.predict`.

        Args:
            sources: a file, a folder, a Pillow image, an array, or a list of these.
            top: most classes named of each image.
        """
        from metad2a.prediction import Predictor

        return Predictor.of(self.delivery()).predict(sources, top=top)

    def delivery(self) -> Any:
        """Return what :func:`metad2a.export.folder.save` writes a folder from."""
        from metad2a.export.delivery import Delivery, Figures

        space = SPACES.get(self.network.space)
        return Delivery(
            network=self.module,
            space=self.network.space,
            architecture=self.network.architecture,
            classes=self.classes,
            resolution=self.network.resolution,
            mean=self.mean,
            deviation=self.deviation,
            figures=Figures(
                params=self.network.params,
                macs=self.network.macs,
                accuracy=self.accuracy,
                balanced_accuracy=self.balanced_accuracy,
                confusion=self.confusion,
                curve=self.curve,
                predicted=self.predicted,
                interval=self.interval,
                plan=self.plan(),
                images=self.images,
                epochs=self.epochs,
                seconds=self.seconds,
            ),
            report="" if self.report is None else str(self.report),
            pretrained=space.weights_name if self.pretrained else "",
            weights_licence=space.weights_licence if self.pretrained else "",
            levels=self.levels,
            calibration=self.calibration,
            test=() if self.test is None else self.test.epoch(64),
        )

    def save(self, folder: str | Path, *, onnx: bool = True, int8: bool = False) -> Saved:
        """Write weights, ``model.py``, ``model.onnx``, labels, preprocessing, card and pictures.

        Args:
            folder: a new or an empty one, or one that an earlier call made, which is replaced.
            onnx: write ``model.onnx``.
            int8: write ``model.int8.onnx`` too, and say what it loses on the test side.

        Returns:
            The folder, its files, and what was left out.

        Raises:
            InputError: the folder holds other files, or a package that is asked for is missing.
            ArtifactError: the folder cannot be written.
        """
        from metad2a.export.folder import save

        return save(self.delivery(), folder, onnx=onnx, int8=int8)

    def to_dict(self, files: Sequence[str] = ()) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "network": asdict(self.network),
            "plan": self.plan(),
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "predicted": self.predicted,
            "interval": None if self.interval is None else list(self.interval),
            "images": self.images,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "partial": self.partial,
            "test_images": self.evaluation.images,
            "classes": list(self.classes),
            "curve": [list(point) for point in self.curve],
            "tried": list(self.tried),
            "files": list(files),
        }

    def _repr_html_(self) -> str:
        from metad2a.notebook import trained

        return trained(self)

    def __str__(self) -> str:
        network = self.network
        side = "its own" if self.own_test else "held out"
        lines = [
            f"{self.accuracy:.1f} % right on {self.evaluation.images:,} test images ({side}), "
            f"balanced over the classes {self.balanced_accuracy:.1f} %",
            f"{network.space} {network.architecture}: {network.params:,} parameters, "
            f"{network.macs:,} MACs at {network.resolution} px",
            f"{self.reason}; {self.epochs:.1f} epochs over {self.images:,} images, "
            f"{self.seconds:.0f} s",
        ]
        if self.predicted is not None and self.interval is not None:
            low, high = self.interval
            lines.insert(1, f"predicted: {self.predicted:.1f} % ({low:.0f} to {high:.0f})")
        if self.partial:
            lines.append("Stopped before the end: more time would have given more.")
        return "\n".join(lines)
