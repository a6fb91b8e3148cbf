"""Networks within a latency limit, as measured on this machine.

No formula gives a network's milliseconds, and measuring hundreds of networks takes minutes. So
networks are measured best predicted first, and those are passed over that a linear estimate, one
share for each number of the nodes of their graphs and one for multiply-adds, holds to be too slow. The estimate is fitted anew to every
measurement, and only ever says what to measure next: what is returned was measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import BudgetError, InputError

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.spaces import Architecture, SearchSpace

WARM_UP, REPEATS = 2, 11
"""Passes of a network before any counts, and those whose median is its latency."""
MOST = 40
"""Networks measured for one answer."""
SECONDS = 20.0
"""Seconds after which no further network is measured, once one was found."""
DEVICE = "CPU, 1 thread"
"""Where a machine has other work, threads wait for one another: no property of a network."""
_LONGEST = 10**6  # milliseconds
_RUNGS = 4
_TRIES = 3
"""Networks measured though they are estimated to be too slow, and no faster than the fastest so
far: an estimate can be wrong."""
_MARGIN = 1.1
"""What a limit should leave for the noise of a measurement."""


@dataclass(frozen=True)
class Latency:
    """How latencies were measured."""

    limit_ms: float
    device: str
    batch: int
    resolution: int | None
    """Height and width of the image, in pixels; None where each network has its own."""
    measured: int
    """Networks that were measured."""

    def __str__(self) -> str:
        return (
            f"Latency: at most {self.limit_ms:g} ms on this machine ({self.where()}); median "
            f"of {REPEATS} passes, {self.measured} networks measured."
        )

    def where(self) -> str:
        """Return device, batch and resolution, in words."""
        side = self.resolution
        pixels = f"{side}x{side} pixels" if side else "each at its own resolution"
        return f"{self.device}, batch {self.batch}, {pixels}"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return asdict(self)


def checked_limit(limit: Any) -> float:
    """Return a limit in milliseconds as a float, or refuse it.

    Raises:
        InputError: it is no number above 0, or an absurd one.
    """
    number = isinstance(limit, Real) and not isinstance(limit, bool)
    if not number or not 0 < limit <= _LONGEST:
        raise InputError(
            f"max_latency_ms={limit!r} must be a number of milliseconds above 0 and "
            f"up to {_LONGEST:,}, such as 5 or 0.5."
        )
    return float(limit)


def widened(
    space: SearchSpace, cells: np.ndarray, classes: int, generate: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Return int (n, slots) architectures with smaller and smaller ones generated beside them.

    The best predicted networks are large, so there may be no fast one among them.

    Args:
        space: of the architectures.
        cells: int (m, slots), generated without regard to latency; m > 0.
        classes: outputs of the networks.
        generate: gives int (n, slots) for a limit on multiply-adds.
    """
    least = space.smallest(classes).macs
    most = int(space.costs(cells, classes)[:, 1].max())
    rungs = np.geomspace(most, least, _RUNGS + 1)[1:]
    found: np.ndarray = np.concatenate([cells, *(generate(max(least, int(r))) for r in rungs)])
    _, first = np.unique(found, axis=0, return_index=True)
    return found[np.sort(first)]


def measure(space: SearchSpace, architecture: Architecture, classes: int) -> float:
    """Return the milliseconds that one image takes through a network on the CPU.

    The network is :meth:`SearchSpace.build`'s, in evaluation mode, and the image one of the network's
    resolution. Torch's global random numbers and threads are left as they were.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        network = space.build(architecture, classes).eval()
    side = space.resolution(architecture)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(WARM_UP + REPEATS):
                start = time.perf_counter()
                network(image)
                times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * float(np.median(times[WARM_UP:]))


def timed(candidate: Candidate) -> Candidate:
    """Return a candidate with its latency on this machine, measured if it was not yet."""
    from metad2a.spaces import SPACES

    if candidate.latency_ms is not None:
        return candidate
    space = SPACES.get(candidate.space)
    return replace(
        candidate, latency_ms=measure(space, space.parse(candidate.architecture), candidate.classes)
    )


def within(
    space: SearchSpace, cells: np.ndarray, classes: int, limit_ms: float, k: int
) -> tuple[list[int], list[float], Latency]:
    """Find the first ``k`` architectures whose networks keep to a limit.

    Args:
        space: of the architectures.
        cells: int (n, slots), best predicted first; n > 0.
        classes: outputs of the networks.
        limit_ms: most milliseconds, see :func:`measure`.
        k: how many; fewer come back where the bounds of work, :data:`MOST` and :data:`SECONDS`, or
            the architectures end before.

    Returns:
        Indices of ``cells`` in their order, the milliseconds of each, and how they were measured.

    Raises:
        BudgetError: no network measured keeps to the limit; names the fastest.
    """
    uses = _uses(space, cells, classes)
    measured: dict[int, float] = {}
    end, tries = time.perf_counter() + SECONDS, _TRIES
    while len(measured) < min(MOST, len(cells)):
        fine = sorted(i for i, ms in measured.items() if ms <= limit_ms)
        if fine and time.perf_counter() > end:
            break
        estimate = _estimate(uses, measured)
        estimate[list(measured)] = math.inf
        promising = np.flatnonzero(estimate <= limit_ms)
        if len(fine) >= k and (not len(promising) or promising[0] > fine[k - 1]):
            break
        if len(promising):
            chosen = int(promising[0])
        else:
            chosen = int(estimate.argmin())
            if estimate[chosen] >= min(measured.values()):
                tries -= 1
            if tries < 0:
                break
        measured[chosen] = measure(space, tuple(cells[chosen].tolist()), classes)
    fine = sorted(i for i, ms in measured.items() if ms <= limit_ms)[:k]
    sides = {space.resolution(tuple(cells[i].tolist())) for i in measured}
    side = sides.pop() if len(sides) == 1 else None
    how = Latency(limit_ms, DEVICE, 1, side, len(measured))
    if not fine:
        fastest = min(measured.values())
        raise BudgetError(
            f"max_latency_ms={limit_ms:g} cannot be met: the fastest of {how.measured} networks "
            f"measured on this machine ({how.where()}) takes {fastest:.2f} ms. Use "
            f"max_latency_ms={math.ceil(100 * _MARGIN * fastest) / 100:g} or more."
        )
    return fine, [measured[i] for i in fine], how


def _uses(space: SearchSpace, cells: np.ndarray, classes: int) -> np.ndarray:
    """Return float (n, 2 + node features): 1, 1e8 MACs, and each feature summed over the nodes.

    In spaces of cells, whose features are one-hot, that is how often each operation is used.
    """
    nodes, lengths = space.graph_nodes(cells)
    sums = np.add.reduceat(nodes.astype(np.float64), np.cumsum(lengths) - lengths)
    macs = space.costs(cells, classes)[:, 1:] / 1e8
    return np.concatenate([np.ones((len(cells), 1)), macs, sums], axis=1)


def _estimate(uses: np.ndarray, measured: dict[int, float]) -> np.ndarray:
    """Return float (n,) milliseconds. What was not met yet counts little, so that it is tried."""
    rows = list(measured)
    shares, *_ = np.linalg.lstsq(uses[rows], np.array([measured[i] for i in rows]), rcond=None)
    estimate: np.ndarray = uses @ shares
    return estimate
