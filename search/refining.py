"""``refine``: look on from suggestions, by a search, and train the best.

A search starts from the suggestions, and the network that it finds is trained in the last part of the
time: from random weights in spaces of cells, from those that the search has left where networks
begin pretrained. There, without a method, the suggestions themselves are trained, one after another.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a._torch_state import usual
from metad2a.candidate import Candidate, Measured
from metad2a.errors import BudgetError, InputError
from metad2a.latency import timed
from metad2a.result import Suggestions
from metad2a.spaces import SPACES, Architecture, WeightSharing
from metad2a.training.sides import split
from metad2a.training.trained import Trained
from search.engine.loop import Progress
from search.searching import Conducted, Search
from search.suggested import Told, chosen_by, measured, revised, seconds_of, trained_one

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset
    from search.result import SearchResult

SEARCH_SHARE, TRAINING_SHARE = 0.5, 0.4
"""Of the time, at its beginning, for a search, and at its end for the training of the network that it
has found. Between them the search judges the suggestions, where there is the time."""
_LEAST_SECONDS = 20.0
"""Below this no further network is begun: reading and looking at the images would take it all."""


@dataclass(eq=False)
class Refined(Trained):
    """The network that was found and trained, and what else was found on the way."""

    suggestions: Suggestions = field(kw_only=True, repr=False)
    """The candidates, the trained ones first, with what was measured of each."""
    search: SearchResult | None = field(default=None, kw_only=True, repr=False)
    """What the search itself returned; None where none was conducted."""


@usual()
def refine(
    result: Suggestions,
    method: str | None = None,
    minutes: float = 10,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    *,
    images: int | None = None,
    channels: int | None = None,
    cells: int | None = None,
    checkpoint: str | Path | None = None,
    should_stop: Callable[[], bool] | None = None,
    faithful: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Refined:
    """Look on from what ``suggest`` returned, on the same dataset and under the same limits.

    In a space whose networks share weights, a search starts from the candidates: methods that judge
    single architectures have them as their first population, the others start in the space of the
    operations that the candidates use. The last :data:`TRAINING_SHARE` of the time trains the
    network that it names, in the size that is shown, as ``metad2a.train`` does. The search does not
    see the images of the test side.

    In a space with pretrained weights the search has the resolution of the first candidate, and the
    training begins with the weights that the search has left to the winner. Without a ``method`` the
    candidates are trained one after another: the first for half of the time, the next for half of
    what is left, and so on. As each of them has at most half the work of the one before, all get
    about as many epochs.

    Args:
        result: what ``metad2a.suggest`` returned.
        method: as in :func:`search.search`; where None, no search where networks begin pretrained.
        minutes: of wall clock, in all.
        seed: of the search and the training.
        device: see :func:`metad2a.training.device.plan`.
        progress: told now and then.
        images: a budget of images of the search, in the place of its part of the minutes; the
            training has its part all the same.
        channels, cells: of the supernet, as in :func:`search.search`.
        checkpoint: a file to go on from where it exists; the training keeps its state in another
            one beside it, with ``.training`` behind its name.
        should_stop: asked between steps; True ends with what there is.
        faithful, options: as in :func:`search.search`.

    Returns:
        The trained network that is best on the images that choices are made by; what
        ``metad2a.train`` returns, with the list of ``suggestions`` and the ``search`` beside it.

    Raises:
        InputError: the dataset or an argument cannot be used; settings of a search without one.
        BudgetError, ArtifactError: as :func:`search.search`.
    """
    started, seconds = time.perf_counter(), seconds_of(minutes)
    if not len(result):
        raise InputError("There is no suggestion to refine: the list is empty.")
    told = Told(progress, result, seed, started)
    space = SPACES.get(result[0].space)
    if method is None and not isinstance(space, WeightSharing):
        _refuse_settings(
            space.name,
            images=images,
            channels=channels,
            cells=cells,
            checkpoint=checkpoint,
            faithful=faithful or None,
            options=options,
        )
        return _in_turn(result, started, seconds, seed, device, told, should_stop)

    def searching(one: Progress) -> None:
        told.images = one.images
        if progress is not None:
            progress(replace(one, fraction=SEARCH_SHARE * one.fraction))

    place = None if checkpoint is None else Path(checkpoint)
    suggested = [space.parse(candidate.architecture) for candidate in result]
    found = Search(
        _without_test(result.dataset, seed),
        space.name,
        method,
        SEARCH_SHARE * seconds / 60,
        seed,
        device,
        result.limits.max_params,
        result.limits.max_macs,
        searching,
        images=images,
        channels=channels,
        cells=cells,
        resolution=space.resolution(suggested[0]) if space.pretrained else None,
        checkpoint=place,
        should_stop=should_stop,
        faithful=faithful,
        options=options,
        warm=tuple(suggested),
    ).conduct()
    summary, spare = found.result(), math.inf
    if images is None:
        spare = (1 - TRAINING_SHARE) * seconds - (time.perf_counter() - started)
    candidates = _by_the_search(result, found, summary.accuracy, suggested, spare)
    start = None
    kept_weights = summary.network if space.pretrained else None
    if kept_weights is not None and candidates[0].architecture == summary.architecture:
        start = kept_weights.network
    left = seconds - (time.perf_counter() - started)
    # A search that was stopped may end with another network when it is gone on with.
    best = trained_one(
        result,
        candidates[0],
        left if images is None else TRAINING_SHARE * seconds,
        seed,
        device,
        told.of("training", 1 - TRAINING_SHARE, 1.0),
        should_stop,
        place.with_name(f"{place.name}.training") if place is not None and found.complete else None,
        start,
    )
    if candidates[0].architecture == summary.architecture:
        best = replace(best, reason=f"{best.reason}; found by {found.composed.name}")
    spent = time.perf_counter() - started
    kept = revised(result, [measured(candidates[0], best)], candidates[1:], spent)
    return _refined(best, kept, spent, summary)


def _refuse_settings(space: str, **given: Any) -> None:
    """Refuse what only a search has.

    Raises:
        InputError: something is given.
    """
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name}={value!r} is of a search, but without a method `refine` trains suggestions "
                f"of the space {space!r} one after another. Leave it out, or name a method, such as "
                "'sandwich'."
            )


def _without_test(dataset: ImageDataset, seed: int) -> ImageDataset:
    """Return a dataset whose own test side are the images that will judge the training."""
    seen = copy.copy(dataset)
    seen.split = np.zeros(len(dataset), dtype=np.int8)
    seen.split[split(dataset, seed).test] = 1
    return seen


def _by_the_search(
    result: Suggestions,
    found: Conducted,
    accuracy: float | None,
    suggested: list[Architecture],
    seconds: float,
) -> list[Candidate]:
    """Return the winner of a search and the suggestions, with what it knows of them.

    The suggestions are in the order of its scores, where there is the time to judge them, else in
    their own. Those that prove slower than a limit on latency are left out.

    Args:
        result: the suggestions.
        found: the search.
        accuracy: of the winner, 0..1, where it was measured.
        suggested: their architectures.
        seconds: for judging them.
    """
    winner, (run, method) = found.member(found.ranking[0][0]), (found.run, found.composed.method)
    others = [a for a in suggested if a != winner]
    known_there = {a: there for a in others if (there := found.searched(a)) is not None}
    begun = time.perf_counter()
    values: dict[Architecture, float | None] = {winner: accuracy}
    for count, (other, member) in enumerate(known_there.items()):
        pace = (time.perf_counter() - begun) / max(1, count)
        # Scores take about as long as accuracies.
        if (2 * len(known_there) - count) * pace > seconds - (time.perf_counter() - begun):
            break
        share = (seconds - (time.perf_counter() - begun)) / (2 * len(known_there) - count)
        values[other] = found.accuracy(member, seconds=share)
    else:
        scores = dict(zip(known_there, method.score(run, list(known_there.values())), strict=True))
        others.sort(key=lambda one: -scores.get(one, -math.inf))
    order = [winner, *others]
    known = {candidate.architecture: candidate for candidate in result}
    candidates = []
    for one, architecture in zip(result.predict(np.array(order)), order, strict=True):
        candidate = known.get(one.architecture, replace(one, reason="found by this search"))
        value = values.get(architecture)
        seen = None if value is None else Measured(100 * value, found.protocol, run.budget.elapsed)
        reason = candidate.reason
        if architecture == winner:
            reason += f"; the winner of {found.composed.name} on this dataset"
        candidates.append(replace(candidate, measured=seen, reason=reason))
    limit = result.limits.max_latency_ms
    if limit is None:
        return candidates
    kept = [
        one
        for one in map(timed, candidates)
        if one.latency_ms is not None and one.latency_ms <= limit
    ]
    if not kept:
        raise BudgetError(
            f"max_latency_ms={limit:g} is met by none of the {len(candidates)} networks that the "
            "search compared. Suggest with a higher limit, or refine without one."
        )
    return kept


def _in_turn(
    result: Suggestions,
    started: float,
    seconds: float,
    seed: int,
    device: str,
    told: Told,
    should_stop: Callable[[], bool] | None,
) -> Refined:
    """Train one candidate after another, each for half of the time that is left."""
    done: list[Candidate] = []
    trained: list[Trained] = []
    for number, candidate in enumerate(result):
        left = seconds - (time.perf_counter() - started)
        if done and (left < _LEAST_SECONDS or (should_stop is not None and should_stop())):
            break
        last = number == len(result) - 1 or left < 2 * _LEAST_SECONDS
        share = left if last else left / 2
        begin = 1 - left / seconds
        name = f"training {number + 1} of up to {len(result)}"
        tell = told.of(name, begin, begin + share / seconds)
        found = trained_one(result, candidate, share, seed, device, tell, should_stop)
        done.append(measured(candidate, found))
        trained.append(found)
        if last:
            break
    spent = time.perf_counter() - started
    kept = revised(result, done, result[len(done) :], spent)
    return _refined(max(trained, key=chosen_by), kept, spent)


def _refined(
    best: Trained, suggestions: Suggestions, seconds: float, search: SearchResult | None = None
) -> Refined:
    """Return a trained network with what was found beside it; ``seconds`` are of all."""
    known = {one.name: getattr(best, one.name) for one in fields(best)} | {"seconds": seconds}
    return Refined(**known, suggestions=suggestions, search=search)
