"""``suggest``: labelled images in, the architectures predicted to do best on them out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a._torch_state import usual
from metad2a.datasets import load_dataset
from metad2a.errors import BudgetError, InputError
from metad2a.latency import checked_limit
from metad2a.result import CostLimits, Suggestions, answered, results_of
from metad2a.spaces import SPACES

if TYPE_CHECKING:
    from metad2a.answers import Answers
    from metad2a.datasets import ImageDataset
    from metad2a.model.metad2a import MetaD2A
    from metad2a.spaces import SearchSpace

SPACE = "efficientnet_lite"
"""Where networks are from when neither a space nor a model is given."""
AUTO = "auto"
"""In the place of a space: the one whose best network is expected to do best."""


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


def _whole(name: str, value: Any, least: int) -> int:
    """Return a number as an int, or refuse it; what NumPy and torch take ends at 2**63 - 1."""
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not least <= value < 2**63:
        raise InputError(f"{name}={value!r} must be a whole number from {least} to 2**63 - 1.")
    return int(value)
