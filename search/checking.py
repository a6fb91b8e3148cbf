"""``check``: train suggested networks as ``metad2a.train`` does, and see what they reach."""

from __future__ import annotations

import time
from collections.abc import Callable

from metad2a._torch_state import usual
from metad2a.candidate import Candidate
from metad2a.errors import InputError
from metad2a.result import Suggestions
from search.engine.loop import Progress
from search.suggested import Told, measured, revised, seconds_of, trained_one


@usual()
def check(
    result: Suggestions,
    minutes: float = 10,
    candidates: int = 1,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    *,
    should_stop: Callable[[], bool] | None = None,
) -> Suggestions:
    """Train candidates of ``suggest`` and put what they reach beside what was predicted.

    The first one has all of the time, unless more are asked for: half of the time for each of two
    networks tells which is better after half of the time.

    Args:
        result: what ``metad2a.suggest`` returned.
        minutes: of wall clock, in all.
        candidates: how many are trained, the first of the list; each has an equal part of the time.
        seed: of the sides, the order and the augmentation of all trainings.
        device: see :func:`metad2a.training.device.plan`.
        progress: told now and then.
        should_stop: asked before each step; True ends with what was trained so far.

    Returns:
        The candidates, those that were trained first. Of several the first is the best on the
        images that choices are made by, so that its accuracy on the test side is of a network that
        the test side did not choose. ``measured`` holds that accuracy and the learning curve,
        ``trained`` the network with all that is known of it; it is what ``build`` and ``save`` give.

    Raises:
        InputError: the dataset or an argument cannot be used.
    """
    started, seconds = time.perf_counter(), seconds_of(minutes)
    if isinstance(candidates, bool) or not isinstance(candidates, int) or candidates < 1:
        raise InputError(f"candidates={candidates!r} must be a whole number from 1 up.")
    chosen = list(result[:candidates])
    told, done = Told(progress, result, seed, started), list[Candidate]()
    for number, candidate in enumerate(chosen):
        left = seconds - (time.perf_counter() - started)
        if (should_stop is not None and should_stop()) or (done and left <= 0):
            break
        name = "training" if len(chosen) == 1 else f"training {number + 1} of {len(chosen)}"
        found = trained_one(
            result,
            candidate,
            left / (len(chosen) - number),
            seed,
            device,
            told.of(name, number / len(chosen), (number + 1) / len(chosen)),
            should_stop,
        )
        done.append(measured(candidate, found))
    return revised(result, done, result[len(done) :], time.perf_counter() - started)
