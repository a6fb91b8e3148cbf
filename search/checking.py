"""``check``: train suggested networks from scratch, by one named protocol, and rank them anew.

A protocol's steps are fixed, so that accuracies compare between candidates, datasets and days. The
longest protocol that the time allows for all candidates is taken; where not even the shortest
fits, the candidates predicted best are trained and the others stay as they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from metad2a.errors import InputError
from metad2a.spaces import WeightSharing
from metad2a.suggestion import Candidate, Measured, Suggestions
from metad2a.training.device import plan
from search.budget import Budget
from search.data import TaskData
from search.delivery import deliver, delivered_accuracy
from search.engine import Progress
from search.searching import load_within
from search.sharing import sharing
from search.trainer import TrainRecipe, train

STEPS = {
    "standalone-v1": 200,
    "standalone-1000-v1": 1_000,
    "standalone-5000-v1": 5_000,
    "standalone-25000-v1": 25_000,
}
"""Protocols by name: steps of 32 images by the recipe of ``search.trainer``."""
_TRIAL_STEPS = 4  # timed to foresee what fits; the first one is left out
_MARGIN = 0.85  # share of the time that is planned with


class _UnfinishedError(Exception):
    """A training cannot be finished: cancelled, or out of time."""


def recipe(space: WeightSharing, protocol: str) -> TrainRecipe:
    """Return the frozen recipe of a protocol: the space's small networks, a number of steps.

    Raises:
        InputError: there is no such protocol.
    """
    if protocol not in STEPS:
        raise InputError(f"Unknown protocol {protocol!r}. Known: {', '.join(STEPS)}.")
    macro = space.search_macro
    return TrainRecipe(channels=macro["channels"], cells=macro["cells"], steps=STEPS[protocol])


def check(
    result: Suggestions,
    minutes: float = 10,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    *,
    protocol: str | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Suggestions:
    """Train the candidates of ``suggest`` stand-alone and rank them by what they reached.

    Args:
        result: what ``metad2a.suggest`` or ``search.refine`` returned. Every fifth image of a
            class of its dataset is held out to measure with.
        minutes: of wall clock, in all.
        seed: of initial weights, batches and crops.
        device: see :func:`metad2a.training.device.plan`.
        progress: told after each step.
        protocol: a name of :data:`STEPS`; the longest that fits the time where None.
        should_stop: asked after each step; True ends with the candidates trained so far.

    Returns:
        The candidates, trained ones first, best first. ``measured`` holds accuracy and learning
        curve, and ``network`` the trained network, which ``build()`` returns.

    Raises:
        InputError: the dataset or an argument cannot be used.
    """
    budget = Budget(seconds=60 * minutes)
    space, place = sharing(result[0].space), plan(device)
    given = None if protocol is None else recipe(space, protocol)
    data = load_within(result.dataset, space, seed, budget)

    def stopped() -> bool:
        return budget.over() or (should_stop is not None and should_stop())

    chosen = protocol or _fitting(result, space, data, budget, str(place.device))
    training = given or recipe(space, chosen)
    steps, done, trained = training.steps, 0, list[Candidate]()

    def on_step(step: int) -> None:
        if progress is not None:
            share = (done * steps + step) / (len(result) * steps)
            progress(
                Progress(
                    share,
                    f"training {done + 1} of {len(result)}",
                    float("nan"),
                    (done * steps + step) * training.batch,
                    budget.elapsed,
                )
            )
        if stopped() and step < steps:
            raise _UnfinishedError

    for candidate in result:
        if stopped():
            break
        try:
            found = train(
                data,
                space,
                space.parse(candidate.architecture),
                seed,
                training,
                str(place.device),
                on_step,
            )
        except _UnfinishedError:
            break
        done += 1
        network = deliver(found.network, data)
        measured = Measured(
            100 * delivered_accuracy(network, data),
            f"{chosen}, on held-out images",
            found.seconds,
            tuple(100 * value for value in found.curve),
        )
        trained.append(replace(candidate, measured=measured, network=network))
    trained.sort(key=lambda c: -c.measured.accuracy if c.measured else 0.0)
    return result.revised([*trained, *result[done:]], budget.elapsed)


def _fitting(
    result: Suggestions, space: WeightSharing, data: TaskData, budget: Budget, device: str
) -> str:
    """Return the longest protocol that all candidates can be trained by in the time left."""
    times: list[float] = []
    shortest = next(iter(STEPS))
    costly = max(result, key=lambda candidate: candidate.macs)
    trial = replace(recipe(space, shortest), steps=_TRIAL_STEPS)
    train(
        data,
        space,
        space.parse(costly.architecture),
        0,
        trial,
        device,
        lambda _: times.append(time.perf_counter()),
    )
    pace = (times[-2] - times[0]) / (len(times) - 2)  # the last steps also judge
    fitting = [
        name
        for name, steps in STEPS.items()
        if pace * steps * len(result) <= _MARGIN * (budget.limit - budget.elapsed)
    ]
    return fitting[-1] if fitting else shortest
