"""``suggest``: labelled images in, the architectures predicted to do best on them out."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a._torch_state import usual
from metad2a.datasets import load_dataset
from metad2a.errors import BudgetError, InputError
from metad2a.latency import checked_limit, widened, within
from metad2a.result import GIVEN, Compared, CostLimits, Suggestions
from metad2a.spaces import SPACES

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from metad2a.answers import Answers, Result
    from metad2a.datasets import ImageDataset
    from metad2a.draw import Drawing
    from metad2a.export import Delivery, Saved
    from metad2a.model.metad2a import MetaD2A
    from metad2a.protocol import FineTune
    from metad2a.spaces import SearchSpace
    from metad2a.training.trained import Trained

__all__ = ["CANDIDATES", "Candidate", "CostLimits", "Measured", "Suggestions", "suggest"]

CANDIDATES = 512
"""Architectures generated, of which the best predicted are returned."""
SPACE = "efficientnet_lite"
"""Where networks are from when neither a space nor a model is given."""
AUTO = "auto"
"""In the place of a space: the one whose best network is expected to do best."""


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


@usual()
def suggest(
    source: Any,
    *,
    k: int = 5,
    seed: int = 0,
    minutes: float = 10.0,
    max_params: int | None = None,
    max_macs: int | None = None,
    max_latency_ms: float | None = None,
    model: str | Path | MetaD2A | None = None,
    space: str | None = None,
    given: Mapping[str, float] | None = None,
) -> Suggestions:
    """Suggest networks for a dataset. Nothing is trained on it.

    Args:
        source: anything that :func:`metad2a.load_dataset` takes: a folder, a zip, a Parquet file,
            a torch dataset, arrays.
        k: how many; fewer come back when fewer obey the limits.
        seed: of the image sample and of the draws; the same seed gives the same answer.
        minutes: what training may take on this machine: in a space with pretrained weights it
            decides what is best.
        max_params: most trainable parameters.
        max_macs: most multiply-adds of one image at the network's own resolution.
        max_latency_ms: most milliseconds of one image on this machine's CPU, as measured (see
            :mod:`metad2a.latency`): the answer then depends on the machine and on what else runs,
            and takes seconds longer.
        model: for spaces of cells: a loaded model, a folder, ``"org/name@revision"`` on the
            Hugging Face Hub, or None for the model inside the package.
        space: search space; None: the given model's own, without one ``"efficientnet_lite"``;
            ``"auto"``: of the spaces with pretrained weights, whose networks are trained alike, the one
            whose best network is expected to do best (:attr:`Suggestions.spaces` has the others').
        given: what networks of the space are known to reach on these images: accuracy in percent
            by the network's string (see :meth:`Suggestions.given`).

    Raises:
        InputError: the dataset or an argument cannot be used.
        BudgetError: a limit is below the smallest network, or faster than the fastest measured;
            names the smallest feasible value.
        ArtifactError: the model cannot be loaded.
    """
    start = time.perf_counter()
    k, seed = _whole("k", k, 1), _whole("seed", seed, 0)
    limits = CostLimits(
        None if max_params is None else _whole("max_params", max_params, 1),
        None if max_macs is None else _whole("max_macs", max_macs, 1),
        None if max_latency_ms is None else checked_limit(max_latency_ms),
    )
    if not (isinstance(minutes, (int, float)) and 0 < minutes < 10**5):
        raise InputError(f"minutes={minutes!r} must be a number above 0 (and below 100,000).")
    if space == AUTO:
        if given or model is not None:
            named = "given=" if given else "model="
            raise InputError(
                f"{named} is of one space, and space={AUTO!r} compares several. Name the space."
            )
        found = _of_every_space(load_dataset(source), seed, float(minutes), limits, k)
    else:
        chosen, loaded = _space_and_model(space, model)
        known = results_of(chosen, {} if given is None else given)
        dataset = load_dataset(source)
        chosen.check_limits(len(dataset.classes), limits.max_params, limits.max_macs)
        answers = _answers(chosen, dataset, seed, float(minutes), loaded)
        if known:
            answers = answers.given(known)
        found = answered(answers, dataset, limits, k)
    found.seconds = time.perf_counter() - start
    return found


def _of_every_space(
    dataset: ImageDataset, seed: int, minutes: float, limits: CostLimits, k: int
) -> Suggestions:
    """Return the suggestions of the pretrained space whose first is expected to do best.

    Networks of cells begin with random weights: what they reach was measured by other trainings,
    and far below.

    Raises:
        BudgetError: a limit is below the smallest network of every space.
    """
    from metad2a.answers import PieceAnswers
    from metad2a.model import performance

    found: list[Suggestions] = []
    refused: list[BudgetError] = []
    space, *others = (one for one in SPACES if one.pretrained)
    first = PieceAnswers(space, performance.packaged(), dataset, seed, minutes)
    for answers in (first, *map(first.in_space, others)):
        try:
            found.append(answered(answers, dataset, limits, k))
        except BudgetError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    found.sort(key=lambda one: -one[0].accuracy)
    found[0].spaces = tuple(one[0] for one in found)
    return found[0]


def _space_and_model(
    space: str | None, model: str | Path | MetaD2A | None
) -> tuple[SearchSpace, MetaD2A | None]:
    """Return the search space that is asked for, and the model for it where it is one of cells."""
    if space is None and model is not None:
        model = _loaded(model)
        space = model.space.name
    chosen = SPACES.get(SPACE if space is None else space)
    if chosen.pretrained:
        if model is not None:
            raise InputError(
                f"model={model!r} cannot answer in the space {chosen.name!r}, whose networks have "
                "pretrained weights; leave it out, or the space."
            )
        return chosen, None
    model = _loaded(model)
    if model.space.name != chosen.name:
        raise InputError(
            f"space={chosen.name!r}, but the model was trained for {model.space.name!r}; "
            "use that space or another model."
        )
    return chosen, model


def _loaded(model: str | Path | MetaD2A | None) -> MetaD2A:
    from metad2a.model.metad2a import MetaD2A, packaged

    if model is None:
        return packaged()
    return model if isinstance(model, MetaD2A) else MetaD2A.from_pretrained(model)


def _answers(
    space: SearchSpace,
    dataset: ImageDataset,
    seed: int,
    minutes: float,
    model: MetaD2A | None,
) -> Answers:
    """Return what answers in a space, with the dataset described."""
    if model is None:
        from metad2a.answers import PieceAnswers
        from metad2a.model import performance

        return PieceAnswers(space, performance.packaged(), dataset, seed, minutes)
    from metad2a.answers import CellAnswers

    return CellAnswers(model, dataset, seed)


@usual()
def answered(
    answers: Answers, dataset: ImageDataset, limits: CostLimits, k: int = 5
) -> Suggestions:
    """Return suggestions within limits from a dataset that is described already.

    Args:
        answers: of the dataset.
        dataset: with its images.
        limits: that all suggestions obey.
        k: how many.

    Raises:
        BudgetError: a limit cannot be met.
    """
    start = time.perf_counter()
    space, classes = answers.space, len(dataset.classes)
    space.check_limits(classes, limits.max_params, limits.max_macs)

    def propose(most_macs: int | None) -> np.ndarray:
        """Return int (n, slots) architectures within a limit on multiply-adds."""
        return answers.propose(max(CANDIDATES, k), limits.max_params, most_macs)

    cells = propose(limits.max_macs)
    latency = compared = None
    if limits.max_latency_ms is None:
        found, costs = answers.expect(cells), space.costs(cells, classes)
        order = answers.ranked(found, costs, k)
        candidates = candidates_of(answers, dataset, cells[order])
        compared = Compared(cells, found.mean, costs[:, 1])
    else:
        cells = widened(space, cells, classes, propose)
        best_first = (-answers.expect(cells).mean).argsort(kind="stable")
        kept, times, latency = within(space, cells[best_first], classes, limits.max_latency_ms, k)
        candidates = [
            replace(
                one,
                latency_ms=milliseconds,
                reason=f"{one.reason}; found to take at most {limits.max_latency_ms:g} ms here",
            )
            for one, milliseconds in zip(
                candidates_of(answers, dataset, cells[best_first[kept]]), times, strict=True
            )
        ]
    return Suggestions(
        candidates,
        answers,
        dataset,
        limits,
        time.perf_counter() - start,
        answers.expect(cells[:1]).note,
        latency,
        compared,
    )


def candidates_of(
    answers: Answers, dataset: ImageDataset, architectures: np.ndarray
) -> list[Candidate]:
    """Return int (n, slots) architectures as candidates, ranked in their order."""
    space = answers.space
    found = answers.expect(architectures)
    costs = space.costs(architectures, len(dataset.classes))
    known = {one.architecture: one.accuracy for one in answers.results}
    made = []
    for place, row in enumerate(map(tuple, architectures.tolist())):
        recipe = found.recipes[place] if found.recipes else None
        reached = known.get(space.canonical(row))
        made.append(
            Candidate(
                rank=place + 1,
                space=space.name,
                architecture=space.format(row),
                accuracy=float(found.mean[place]),
                interval=(float(found.low[place]), float(found.high[place])),
                params=int(costs[place, 0]),
                macs=int(costs[place, 1]),
                class_names=tuple(dataset.classes),
                reason=answers.reason(place + 1, row, recipe),
                resolution=space.resolution(row),
                measured=None if reached is None else Measured(reached, GIVEN, 0.0),
                recipe=recipe,
                dataset=dataset,
            )
        )
    return made


def results_of(space: SearchSpace, given: Mapping[str, float]) -> list[Result]:
    """Return results as a user gives them, checked.

    Args:
        space: of the networks.
        given: accuracy in percent by the network's string.

    Raises:
        InputError: names the first that is no network of the space, or no accuracy.
    """
    from metad2a.answers import Result

    if not isinstance(given, Mapping):
        raise InputError(
            f"given={str(given)[:80]!r} must be networks and accuracies: {{network: percent, ...}}."
        )
    found = []
    for number, (network, accuracy) in enumerate(given.items(), start=1):
        where = f"Result {number} of those given, {str(network)[:100]!r}: "
        try:
            architecture = space.canonical(space.parse(network))
        except InputError as error:
            raise InputError(f"{where}no network of the space {space.name!r}. {error}") from error
        except (AttributeError, TypeError) as error:
            raise InputError(f"{where}a network is given by its string.") from error
        real = isinstance(accuracy, Real) and not isinstance(accuracy, bool)
        if not real or not 0 <= accuracy <= 100:  # NaN is neither
            raise InputError(
                f"{where}the accuracy {accuracy!r} is not one in percent, a number from 0 to 100. "
                "Mend it, or leave the network out."
            )
        found.append(Result(architecture, float(accuracy)))
    if found and max(one.accuracy for one in found) <= 1:
        raise InputError(
            f"All {len(found)} accuracies given are 1 or below, {found[0].accuracy:g} first; they "
            "are wanted in percent. Multiply them by 100."
        )
    return found


def _whole(name: str, value: Any, least: int) -> int:
    """Return a number as an int, or refuse it; what NumPy and torch take ends at 2**63 - 1."""
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not least <= value < 2**63:
        raise InputError(f"{name}={value!r} must be a whole number from {least} to 2**63 - 1.")
    return int(value)
