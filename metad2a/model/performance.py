"""What a network, trained in a given way, will reach on a dataset: learnt from many trainings.

Features of dataset (counts and landmarks), network (costs, resolution, depth, widths) and recipe
go into a Gaussian process over the distance of the accuracy from always naming the largest class,
in logits. Networks of the user's that were trained are results of a new task: they move its level
and its taste, exactly (:meth:`Performance.given`).

The intervals are calibrated on families of datasets left out (Vovk, Gammerman and Shafer,
"Algorithmic Learning in a Random World", 2005: the quantile of scaled residuals), apart for how
many results of the dataset itself are known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from metad2a.errors import ArtifactError, InputError
from metad2a.model.gaussian_process import GaussianProcess, Points
from metad2a.model.landmarks import HEAD, RESOLUTIONS, STAGES, Landmarks, at_chance
from metad2a.protocol import FineTune

if TYPE_CHECKING:
    from metad2a.spaces import Architecture, SearchSpace

DATASET = (
    "log10_images",
    "log2_classes",
    "log2_images_per_class",
    "balance",
    "largest",
    "gray",
    "log2_side",
    "flip_loss",
    "chirality",
    "growth",
    "between",
    "alike",
    "shift",
    "apart",
    "log2_unsampled",
)
"""Features of a dataset, counts and statistics."""
MARKS = (
    "best",
    "level",
    "head_128",
    "head_gain",
    "large_gain",
    "depth_gain",
    "shallow_gain",
)
"""Features of a dataset, from its landmarks; distances from chance, and their differences."""
PAIR = ("near", "near_tuned", "log2_enlarged", "log_doubt")
"""Features of a network on a dataset: the landmark nearest to it, the same where it is trained, by
how much it enlarges the images, and the standard error of the landmark."""
NETWORK = (
    "log2_macs",
    "log2_params",
    "log2_resolution",
    "stage",
    "blocks",
    "log2_expansion",
    "kernel",
    "transplanted",
)
"""Features of a network; the last is 1 where the space has no pretrained network to keep whole."""
RECIPE = ("tuned", "log10_rate", "log2_epochs", "log2_steps", "frozen_share", "moving")
"""Features of a recipe; of a frozen network all are 0."""
FEATURES = (*DATASET, *MARKS, *PAIR, *NETWORK, *RECIPE)
"""All features, in their order."""
NEAR = FEATURES.index("near")
"""Place of the nearest landmark among the features."""
LEVEL = 0.9
"""Coverage that the intervals aim at."""
HALF_WIDTH = 1.6449
"""Half the width of a 90 % interval, in deviations of a normal distribution."""
GIVEN = (0, 2, 5)
"""Numbers of known results for which intervals are calibrated apart."""
SHIFTED = (
    "The test images look to be of another kind than the training images (no label of theirs was looked at): "
    "what is expected on them is less than on images like those that train."
)
_OWN = tuple(range(len(FEATURES) - len(NETWORK) - len(RECIPE), len(FEATURES)))
_FORM = 1
_ASSET = Path(__file__).parent.parent / "assets" / "performance.safetensors"


@dataclass(frozen=True)
class Row:
    """One training: a network and a recipe on a task, and what it reached."""

    dataset: str
    family: str
    """Of datasets that are alike; never on both sides of a validation."""
    task: str
    landmarks: Landmarks
    """Of the task's training images."""
    space: str
    architecture: str
    """The space's own string form."""
    recipe: FineTune
    classes: int
    images: int
    """Training images."""
    judged: int
    """Test images."""
    value: float
    """Accuracy on them, 0..1."""


@dataclass(frozen=True)
class Forecast:
    """Accuracies in percent, float64 (n,) each, in the order of the pairs asked about."""

    mean: np.ndarray
    low: np.ndarray
    """Lower bound of the 90 % interval."""
    high: np.ndarray
    note: str = ""
    """What the user must know of all of them; empty where there is nothing."""


# -- features ----------------------------------------------------------------------------------


def describe_dataset(landmarks: Landmarks, classes: int, images: int) -> np.ndarray:
    """Return float64 (:data:`DATASET` and :data:`MARKS`,)."""
    far = landmarks.distance
    row = {side: far[RESOLUTIONS.index(side)] for side in RESOLUTIONS}
    shallow, head = STAGES.index(4), STAGES.index(HEAD)
    large = row[224][head] - row[128][head]
    counts = [
        math.log10(images),
        math.log2(classes),
        math.log2(images / classes),
        landmarks.balance,
        landmarks.largest,
        float(landmarks.gray),
        math.log2(landmarks.side),
        landmarks.flip_loss,
        landmarks.chirality,
        landmarks.growth,
        landmarks.between,
        landmarks.alike,
        landmarks.shift,
        landmarks.apart,
        math.log2(max(classes, landmarks.sampled) / landmarks.sampled),
    ]
    marks = [
        float(np.nanmax(far)),
        float((row[64].mean() + row[128].mean()) / 2),
        row[128][head],
        row[128][head] - row[64][head],
        0.0 if math.isnan(large) else large,
        row[64][head] - row[64][shallow],
        row[128][shallow] - row[32][shallow],
    ]
    return np.array(counts + marks, dtype=np.float64)


def describe_networks(
    space: SearchSpace, architectures: Sequence[Architecture], classes: int
) -> np.ndarray:
    """Return float64 (n, :data:`NETWORK`)."""
    array = np.asarray(architectures, dtype=np.int64).reshape(-1, space.slots)
    params, macs = space.costs(array, classes).T
    resolutions = np.array([space.resolution(tuple(one)) for one in array.tolist()])
    x, lengths = space.graph_nodes(array)
    x, of = x.astype(np.float64), np.repeat(np.arange(len(array)), lengths)
    names = list(space.node_features)
    block = x[:, names.index("block")] > 0 if "block" in names else np.ones(len(x), dtype=bool)
    count = np.maximum(np.bincount(of[block], minlength=len(array)), 1)

    def mean(name: str, of_value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        if name not in names:
            return np.zeros(len(array))
        values = of_value(x[block, names.index(name)])
        found: np.ndarray = np.bincount(of[block], values, minlength=len(array)) / count
        return found

    return np.stack(
        [
            np.log2(macs),
            np.log2(params),
            np.log2(resolutions),
            _stages(space, array),
            count.astype(np.float64),
            mean("expansion", lambda v: np.log2(np.maximum(v, 1e-3))),
            mean("kernel", lambda v: v),
            np.full(len(array), float(not space.anchors())),
        ],
        axis=1,
    )


def _stages(space: SearchSpace, array: np.ndarray) -> np.ndarray:
    """Return float64 (n,): the landmark's stage that is as deep; a network with all is the head."""
    for slot, decision in enumerate(space.decisions):
        if decision.name == "stages":
            values = np.array([float(value) for value in decision.values])
            values[-1] = HEAD
            found: np.ndarray = values[array[:, slot]]
            return found
    return np.full(len(array), float(HEAD))


def describe_recipes(recipes: Sequence[FineTune], stages: np.ndarray, images: int) -> np.ndarray:
    """Return float64 (n, :data:`RECIPE`); ``stages``: float (n,), of the networks."""
    rows = []
    for recipe, depth in zip(recipes, stages.tolist(), strict=True):
        if recipe.rate == 0:
            rows.append([0.0] * len(RECIPE))
            continue
        steps = max(1.0, recipe.epochs * images / recipe.batch)
        rows.append(
            [
                1.0,
                math.log10(recipe.rate / 1e-3),
                math.log2(max(recipe.epochs, 0.1)) - 3,
                math.log2(steps) - 8,
                recipe.frozen_stages / depth,
                float(recipe.batch_norm == "moving"),
            ]
        )
    return np.array(rows, dtype=np.float64).reshape(-1, len(RECIPE))


def describe(
    landmarks: Landmarks,
    space: SearchSpace,
    architectures: Sequence[Architecture],
    recipes: Sequence[FineTune],
    classes: int,
    images: int,
) -> np.ndarray:
    """Return float64 (n, :data:`FEATURES`) of pairs of network and recipe on a dataset."""
    networks = describe_networks(space, architectures, classes)
    stages = networks[:, NETWORK.index("stage")]
    ways = describe_recipes(recipes, stages, images)
    sides = networks[:, NETWORK.index("log2_resolution")]
    known: dict[tuple[float, float], float] = {}
    for pair in zip(sides.tolist(), stages.tolist(), strict=True):
        if pair not in known:
            known[pair] = landmarks.near(2 ** pair[0], pair[1])
    near = np.array([known[pair] for pair in zip(sides.tolist(), stages.tolist(), strict=True)])
    enlarged = sides - math.log2(landmarks.side)
    share = 1 / (1 + np.exp(-near - math.log(landmarks.guess / (1 - landmarks.guess))))
    doubt = -0.5 * np.log((landmarks.count + 1) * share * (1 - share))
    pairs = np.stack([near, near * ways[:, 0], enlarged, doubt], axis=1)
    dataset = np.broadcast_to(
        describe_dataset(landmarks, classes, images), (len(networks), len(DATASET) + len(MARKS))
    )
    return np.concatenate([dataset, pairs, networks, ways], axis=1)


def _describe_rows(rows: Sequence[Row]) -> np.ndarray:
    """Return float64 (n, :data:`FEATURES`), each task's networks at once."""
    from metad2a.spaces import SPACES

    found = np.empty((len(rows), len(FEATURES)))
    parts: dict[tuple[str, str, int], list[int]] = {}
    for i, row in enumerate(rows):
        parts.setdefault((row.task, row.space, row.images), []).append(i)
    for (_, name, _), mine in parts.items():
        space, first = SPACES.get(name), rows[mine[0]]
        found[mine] = describe(
            first.landmarks,
            space,
            [space.canonical(space.parse(rows[i].architecture)) for i in mine],
            [rows[i].recipe for i in mine],
            first.classes,
            first.images,
        )
    return found


# -- accuracies --------------------------------------------------------------------------------


def _logit(share: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Return logits of shares of ``judged``, with half an image added to either side."""
    part = 0.5 / judged
    found: np.ndarray = np.log(share + part) - np.log(1 - share + part)
    return found


def _chance(landmarks: Landmarks) -> float:
    """Return the logit of always naming the largest class, from which distances are."""
    return math.log(landmarks.largest / (1 - landmarks.largest))


def _distance(value: np.ndarray, judged: np.ndarray, largest: np.ndarray) -> np.ndarray:
    found: np.ndarray = _logit(value, judged) - np.log(largest / (1 - largest))
    return found


def _sampling(value: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Return the variance of a logit accuracy that so many test images leave."""
    share = (value * judged + 1) / (judged + 2)
    found: np.ndarray = 1 / (judged * share * (1 - share))
    return found


def percent(logits: np.ndarray) -> np.ndarray:
    """Return accuracies in percent of logits."""
    found: np.ndarray = 100 / (1 + np.exp(-logits))
    return found


# -- the model ---------------------------------------------------------------------------------


class Performance:
    """The predictor. Make one with :meth:`fit` or :meth:`load`."""

    def __init__(
        self,
        process: GaussianProcess,
        centre: np.ndarray,
        scale: np.ndarray,
        level: tuple[float, float],
        factors: Mapping[int, float],
        known: int = 0,
    ) -> None:
        self.process, self.centre, self.scale = process, centre, scale
        self.level, self.factors, self.known = level, dict(factors), known

    @classmethod
    def fit(cls, rows: Sequence[Row], steps: int = 60) -> Performance:
        """Learn from trainings.

        Args:
            rows, steps: as :meth:`LeftOut.of` takes them.

        Raises:
            InputError: the rows are of fewer than two families.
        """
        return LeftOut.of(rows, steps).calibrated()

    def predict(
        self,
        landmarks: Landmarks,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        recipes: Sequence[FineTune],
        classes: int,
        images: int,
    ) -> Forecast:
        """Return what is expected of pairs of network and recipe on a dataset.

        Args:
            landmarks: of the dataset's training images.
            space: of the networks.
            architectures: n of them, canonical.
            recipes: n of them, one for each network.
            classes: of the dataset.
            images: that train.
        """
        if not len(architectures):
            return Forecast(np.empty(0), np.empty(0), np.empty(0))
        if landmarks.chance and not self.known:
            n = len(architectures)
            return Forecast(*at_chance(n, landmarks.largest, landmarks.guess, landmarks.count))
        x = describe(landmarks, space, architectures, recipes, classes, images)
        mean, deviation = self.distances(x)
        logit, half = mean + _chance(landmarks), HALF_WIDTH * self.factor * deviation
        note = SHIFTED if landmarks.shifted else ""
        return Forecast(percent(logit), percent(logit - half), percent(logit + half), note)

    def means(
        self,
        landmarks: Landmarks,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        recipes: Sequence[FineTune],
        classes: int,
        images: int,
    ) -> np.ndarray:
        """Return the means of :meth:`predict` alone, float64 (n,), in a third of its time."""
        if landmarks.chance and not self.known:
            return np.full(len(architectures), 100 * landmarks.largest)
        x = describe(landmarks, space, architectures, recipes, classes, images)
        mean = self.process.mean(self._points(x, np.zeros(len(x))))
        return percent(self._from_chance(x, mean) + _chance(landmarks))

    def distances(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation, float64 (n,) each, of distances at features (n, FEATURES)."""
        mean, variance = self.process.predict(self._points(x, np.zeros(len(x))))
        return self._from_chance(x, mean), self.level[1] * variance.sqrt().numpy()

    def _from_chance(self, x: np.ndarray, mean: Tensor) -> np.ndarray:
        """Return the distances, float64 (n,), of which the process says ``mean`` at features x."""
        middle, spread = self.level
        found: np.ndarray = x[:, NEAR] + middle + spread * mean.numpy()
        return found

    @property
    def factor(self) -> float:
        """By how much intervals are wider than the process thinks, for the results known."""
        return self.factors[max(n for n in self.factors if n <= self.known)]

    def given(
        self,
        landmarks: Landmarks,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        recipes: Sequence[FineTune],
        classes: int,
        images: int,
        accuracies: Sequence[float],
        judged: int,
    ) -> Performance:
        """Return the predictor of one dataset that knows results on it.

        Args:
            landmarks, space, architectures, recipes, classes, images: as in :meth:`predict`.
            accuracies: of the pairs, in percent.
            judged: images on which they were measured.
        """
        if not len(architectures):
            return self
        value = np.asarray(accuracies, dtype=np.float64) / 100
        count = np.full(len(value), float(judged))
        x = describe(landmarks, space, architectures, recipes, classes, images)
        y = _distance(value, count, np.full(len(value), landmarks.largest))
        return self.given_distances(x, y, _sampling(value, count))

    def given_distances(self, x: np.ndarray, y: np.ndarray, variance: np.ndarray) -> Performance:
        """Take in distances (n,) at features (n, FEATURES), with their variance by sampling."""
        middle, spread = self.level
        values = torch.from_numpy((y - x[:, NEAR] - middle) / spread)
        process = self.process.given(self._points(x, variance), values)
        known = self.known + len(y)
        return Performance(process, self.centre, self.scale, self.level, self.factors, known)

    def _points(self, x: np.ndarray, variance: np.ndarray) -> Points:
        """Return points of the new task, whose groups are numbered -1."""
        groups = np.full((len(x), 2), -1)
        return _points(x, self.centre, self.scale, groups, variance, self.level[1])

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path, about: Mapping[str, object] | None = None) -> None:
        """Write one safetensors file.

        Args:
            path: of the file.
            about: JSON values to be kept with it, such as what it was learnt from.
        """
        from safetensors.torch import save_file

        head = {
            "form": _FORM,
            "features": FEATURES,
            "level": self.level,
            "factors": sorted(self.factors.items()),
            "about": dict(about or {}),
        }
        tensors = self.process.tensors() | {
            "centre": torch.from_numpy(self.centre),
            "scale": torch.from_numpy(self.scale),
        }
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: one.contiguous() for name, one in tensors.items()},
            path,
            {"performance": json.dumps(head)},
        )

    @classmethod
    def load(cls, path: str | Path) -> Performance:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: the file is missing, damaged or of another version.
        """
        from safetensors import safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                head = json.loads((file.metadata() or {})["performance"])
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if head["form"] != _FORM or tuple(head["features"]) != FEATURES:
                raise ValueError("it was made by another version")
            process = GaussianProcess.of(tensors)
            return cls(
                process,
                tensors["centre"].double().numpy(),
                tensors["scale"].double().numpy(),
                (float(head["level"][0]), float(head["level"][1])),
                {int(n): float(factor) for n, factor in head["factors"]},
            )
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ArtifactError(
                f"The performance model {str(path)!r} cannot be read: {error}. Install metad2a "
                "again, or make the model again."
            ) from error
        except Exception as error:  # safetensors' own errors are of no public type.
            raise ArtifactError(
                f"The performance model {str(path)!r} is damaged: {error}. Install metad2a again, "
                "or make the model again."
            ) from error


@lru_cache(maxsize=1)
def packaged() -> Performance:
    """Return the model inside the package, read once a process."""
    return Performance.load(_ASSET)


def _points(
    x: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    groups: np.ndarray,
    variance: np.ndarray,
    spread: float,
) -> Points:
    """Return points of raw features (n, FEATURES); ``variance`` and doubts in squared logits."""
    return Points(
        # An odd dataset must not lead a straight line astray.
        torch.from_numpy(np.clip((x - centre) / scale, -3, 3)),
        torch.from_numpy(groups.astype(np.int64)),
        torch.from_numpy((x[:, FEATURES.index("tuned")] > 0).astype(np.int64)),
        torch.from_numpy(variance / spread**2),
        torch.from_numpy(np.exp(x[:, FEATURES.index("log_doubt")]) / spread),
    )


@dataclass(frozen=True)
class Problem:
    """Rows as numbers."""

    x: np.ndarray
    """float64 (n, FEATURES), raw."""
    y: np.ndarray
    """float64 (n,), distances in logits."""
    variance: np.ndarray
    groups: np.ndarray
    """int64 (n, 2): dataset and task."""
    family: np.ndarray
    """int64 (n,)."""
    chance: np.ndarray
    """float64 (n,): logit of the largest class's share."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Problem:
        """Describe rows."""
        value, judged, largest = (
            np.array(column, dtype=np.float64)
            for column in zip(
                *((row.value, row.judged, row.landmarks.largest) for row in rows), strict=True
            )
        )
        return cls(
            _describe_rows(rows),
            _distance(value, judged, largest),
            _sampling(value, judged),
            np.stack([_numbers([r.dataset for r in rows]), _numbers([r.task for r in rows])], 1),
            _numbers([row.family for row in rows]),
            np.log(largest / (1 - largest)),
        )

    def fitted(
        self,
        rows: np.ndarray,
        steps: int,
        start: GaussianProcess | None = None,
    ) -> Performance:
        """Return a model of some rows, not calibrated, its hyperparameters from ``start`` on."""
        x = self.x[rows]
        # What is learnt is what training, images and the network add to the nearest landmark.
        y = self.y[rows] - x[:, NEAR]
        centre, scale = x.mean(0), x.std(0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        level = float(y.mean()), float(y.std()) or 1.0
        process = GaussianProcess(len(FEATURES), _OWN, 2, 2)
        if start is not None:
            process.parameters = start.parameters
        points = _points(x, centre, scale, self.groups[rows], self.variance[rows], level[1])
        process.fit(points, torch.from_numpy((y - level[0]) / level[1]), steps)
        return Performance(process, centre, scale, level, {0: 1.0})

    def without_each_family(
        self,
        start: GaussianProcess,
        steps: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[int, Performance]:
        """Return a model without each family, its hyperparameters from ``start`` on, not calibrated.

        Args:
            start: a process that knows all rows.
            steps: of the optimiser.
            progress: told of families done, of all.
        """
        families = np.unique(self.family).tolist()
        found = {}
        for family in families:
            kept = np.flatnonzero(self.family != family)
            found[family] = self.fitted(kept, steps, start=start)
            progress(len(found), len(families))
        return found

    def scaled(
        self, models: Mapping[int, Performance], count: int, draws: int = 3
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return residuals of rows by models that do not know their family, and the families.

        Args:
            models: of :meth:`without_each_family`.
            count: results of a row's own task that are known.
            draws: of those.

        Returns:
            Absolute residuals in deviations, float64 (m,), and int64 (m,).
        """
        residuals, families = [np.empty(0)], [np.empty(0, dtype=np.int64)]
        for family, model in models.items():
            held = np.flatnonzero(self.family == family)
            task = self.groups[held, 1]
            for number in np.unique(task):
                mine = held[task == number]
                for draw in range(draws if count else 1):
                    order = np.random.default_rng([draw, int(number)]).permutation(mine)
                    known, asked = order[:count], order[count:]
                    if not len(asked):
                        continue
                    knowing = self.knowing(model, known)
                    mean, deviation = knowing.distances(self.x[asked])
                    residuals.append(np.abs(self.y[asked] - mean) / deviation)
                    families.append(np.full(len(asked), family))
        return np.concatenate(residuals), np.concatenate(families)

    def knowing(self, model: Performance, rows: np.ndarray) -> Performance:
        """Return a model that knows the results of some rows, all of one task."""
        if not len(rows):
            return model
        return model.given_distances(self.x[rows], self.y[rows], self.variance[rows])


@dataclass(frozen=True)
class LeftOut:
    """A model of all rows and one without each family: what calibrates it, and what judges it."""

    problem: Problem
    everywhere: Performance
    """Of all rows, not calibrated."""
    without: dict[int, Performance]
    """Without a family, by its number, not calibrated."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        steps: int = 60,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> LeftOut:
        """Learn from trainings, and from those of all families but one.

        Args:
            rows: of two families of datasets at least.
            steps: of the optimiser of the hyperparameters; a third where a family is left out, from
                what all rows have given.
            progress: told of families done, of all.

        Raises:
            InputError: the rows are of fewer than two families.
        """
        families = {row.family for row in rows}
        if len(families) < 2:
            raise InputError(
                f"The {len(rows)} trainings are of {len(families)} families of datasets; 2 are "
                "needed, so that one can be left out to calibrate the intervals. Add trainings."
            )
        problem = Problem.of(rows)
        made = problem.fitted(np.arange(len(rows)), steps)
        without = problem.without_each_family(made.process, max(1, steps // 3), progress)
        return cls(problem, made, without)

    def calibrated(self) -> Performance:
        """Return the model of all rows, its intervals by what the others are off by."""
        found = {count: self.problem.scaled(self.without, count) for count in GIVEN}
        factors = {n: conformal(*one) for n, one in found.items() if len(one[0])}
        made = self.everywhere
        return Performance(made.process, made.centre, made.scale, made.level, factors)


def conformal(scaled: np.ndarray, family: np.ndarray) -> float:
    """Return the factor by which intervals must be widened to cover :data:`LEVEL` of new families.

    Families count alike (Lee, Barber and Willett, "Distribution-free inference with hierarchical data",
    2023, whose correction for the number of families is left out: models that do not know the family
    are cautious already, and with it 93 % were inside).

    Args:
        scaled: float (n,): absolute residuals in deviations, of rows left out.
        family: int (n,): of each row.
    """
    _, number, counts = np.unique(family, return_inverse=True, return_counts=True)
    order = np.argsort(scaled)
    reached = np.cumsum(1 / counts[number[order]]) / len(counts)
    place = min(int(np.searchsorted(reached, LEVEL)), len(scaled) - 1)
    return float(scaled[order[place]]) / HALF_WIDTH


def _numbers(names: Sequence[str]) -> np.ndarray:
    """Return int64 (n,): 0, 1, ... for equal names."""
    found: np.ndarray = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return found
