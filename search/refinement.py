"""``refine``: a search that starts from suggestions and puts measurements beside predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.latency import timed
from metad2a.spaces import SPACES
from metad2a.suggestion import Candidate, Measured, Suggestions
from search.engine import Progress
from search.searching import Search, conduct


def refine(
    result: Suggestions,
    method: str = "dropnas",
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
) -> Suggestions:
    """Search on from what ``suggest`` returned, on the same dataset and under the same limits.

    Methods that judge single architectures start from the candidates as their first population;
    the others start in the space of the operations that the candidates use.

    Args:
        result: what ``metad2a.suggest`` returned.
        method, minutes, seed, device, progress, images, channels, cells, checkpoint, should_stop,
            faithful, options: as in :func:`search.search`.

    Returns:
        The candidates and what the search found, in the order of its scores: the winner first.
        ``measured`` holds the accuracy on held-out images by the search's own weights, where it
        has any; ``network`` the winner's, where the method keeps it. A winner that proves slower
        than a limit on latency is left out.

    Raises:
        InputError, BudgetError, ArtifactError: as :func:`search.search`.
    """
    started = time.perf_counter()
    name = result[0].space
    space = SPACES.get(name)
    suggested = [space.parse(candidate.architecture) for candidate in result]
    found = conduct(
        result.dataset,
        name,
        method,
        minutes,
        seed,
        device,
        result.limits.max_params,
        result.limits.max_macs,
        progress,
        images=images,
        channels=channels,
        cells=cells,
        checkpoint=checkpoint,
        should_stop=should_stop,
        faithful=faithful,
        options=options,
        warm=tuple(suggested),
    )
    winner = found.ranking[0][0]
    others = [a for a in suggested if a != winner]
    scores = found.composed.method.score(found.run, others)
    order = [winner, *(others[i] for i in np.argsort(-scores, kind="stable"))]
    candidates = result.predict(np.array(order))
    known = {candidate.architecture: candidate for candidate in result}
    measured = [
        _measure(
            found,
            known.get(c.architecture, replace(c, reason="found by this search")),
            a,
            winner=a == winner,
        )
        for c, a in zip(candidates, order, strict=True)
    ]
    if result.limits.max_latency_ms is not None:
        measured = [
            c
            for c in map(timed, measured)
            if c.latency_ms is not None and c.latency_ms <= result.limits.max_latency_ms
        ]
    return result.revised(measured, time.perf_counter() - started)


def _measure(
    found: Search, candidate: Candidate, architecture: tuple[int, ...], winner: bool
) -> Candidate:
    """Put what the search knows of an architecture into its candidate."""
    kept = found.delivered(architecture)
    value = found.accuracy(architecture, kept)
    measured = (
        None
        if value is None
        else Measured(100 * value, found.composed.method.protocol, found.run.budget.elapsed)
    )
    reason = candidate.reason
    if winner:
        reason += f"; the winner of {found.composed.name} on this dataset"
    return replace(candidate, measured=measured, network=kept, reason=reason)
