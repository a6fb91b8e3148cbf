"""The part of a space that a search may still use: allowed operations, and the user's limits.

Whatever a method samples, derives or returns comes from here, so limits hold in every method.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from metad2a.errors import BudgetError
from metad2a.spaces import Architecture, WeightSharing

_DRAWS = 64  # before an infeasible draw is made cheaper instead of thrown away
_LOOKED_AT = 20_000  # architectures, before a search for members in order of score gives up
_HALVINGS = 40  # of the price's interval: 2^-40 of it is below any score's resolution


@lru_cache(maxsize=2**14)
def _is_connected(space: WeightSharing, architecture: Architecture) -> bool:
    """Whether an architecture is connected; whoever evolves some asks about the same ones often."""
    return space.is_connected(architecture)


class Subspace:
    """Allowed operations (``mask``, bool (slots, operations)) of a space under cost limits.

    Raises:
        BudgetError: a limit is below the smallest network of the space.
    """

    def __init__(
        self,
        space: WeightSharing,
        classes: int,
        max_params: int | None = None,
        max_macs: int | None = None,
    ) -> None:
        space.check_limits(classes, max_params, max_macs)
        self.space = space
        self.mask = space.allowed()
        fixed, self._table = space.cost_table(classes, space.input_size)
        fixed_costs = np.array([fixed.params, fixed.macs])
        limits = np.array([np.inf if m is None else m for m in (max_params, max_macs)])
        self._room = limits - fixed_costs  # what the slots together may cost
        bound = np.isfinite(self._room)
        self._slots, self._limited = np.arange(space.slots), bool(bound.any())
        # Cost as a share of the room, summed over the limits there are.
        self._price = (self._table / np.where(bound, np.maximum(self._room, 1), np.inf)).sum(2)
        if self._limited:
            self._leave_out_the_impossible()

    def _leave_out_the_impossible(self) -> None:
        """Forbid what no feasible architecture has, so that no method spends training on it."""
        cheap = -self._table.sum(2, dtype=np.float64)
        bonus = 1.0 - cheap.sum()
        for slot, operation in np.argwhere(self.mask):
            wanted = cheap.copy()
            wanted[slot, operation] = bonus
            found = self.space.discretise(wanted)
            self.mask[slot, operation] = found[slot] == operation and self.contains(found)
        if self.space.left_over is not None:  # it is on no bill
            self.mask[:, self.space.left_over] = True

    # -- membership --------------------------------------------------------------------------

    def fits(self, architectures: np.ndarray) -> np.ndarray:
        """Return bool (n,): which of int (n, slots) architectures obey the limits."""
        chosen = self._table[np.arange(self.space.slots), np.asarray(architectures)]
        obeyed: np.ndarray = (chosen.sum(1) <= self._room).all(1)
        return obeyed

    def contains(self, architecture: Architecture) -> bool:
        """Whether an architecture is allowed, connected and within the limits."""
        return bool(
            self.mask[self._slots, architecture].all()
            and (not self._limited or self.fits(np.array([architecture]))[0])
            and _is_connected(self.space, architecture)
        )

    # -- members -----------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a member: uniformly by rejection or, where members are rare, by cheapening."""
        return self._draw(lambda: self.space.sample(rng, self.mask), rng)

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Return a member one mutation away, or a cheapened one where none was found."""
        return self._draw(lambda: self.space.mutate(architecture, rng, self.mask), rng)

    def cross(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Return a member that takes its slots from two parents, cheapened where need be."""
        return self._draw(lambda: self.space.cross(first, second, rng), rng)

    def _draw(self, propose: Callable[[], Architecture], rng: np.random.Generator) -> Architecture:
        for _ in range(_DRAWS):
            candidate = propose()
            if self.contains(candidate):
                return candidate
        return self._cheapen(self.space.sample(rng, self.mask), rng)

    def _cheapen(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Give random slots their cheapest operation until the limits hold.

        Only slots in use are changed, and never to ``none``, so a connected one stays connected.
        """
        while not self.space.is_connected(architecture):
            architecture = self.space.sample(rng, self.mask)
        changed = list(architecture)
        cheapest = self._cheapness().argmax(1)
        for slot in rng.permutation(self.space.slots):
            if self.fits(np.array([changed]))[0]:
                break
            if changed[slot] != self._none:
                changed[slot] = int(cheapest[slot])
                changed = list(self.space.repaired(tuple(changed)))
        found = tuple(changed)
        return found if self.contains(found) else self.best(np.zeros(self.mask.shape))[0]

    @property
    def _none(self) -> int:
        operations = self.space.operations
        return operations.index("none") if "none" in operations else -1

    def _without_none(self, scores: np.ndarray) -> np.ndarray:
        """Return float (slots, operations) scores, ``-inf`` for ``none``."""
        if self._none >= 0:
            scores[:, self._none] = -np.inf
        return scores

    def _cheapness(self) -> np.ndarray:
        """Return float (slots, operations): minus the cost; ``-inf``: not allowed, or ``none``."""
        return self._without_none(
            np.where(self.mask, -self._table.sum(2, dtype=np.float64), -np.inf)
        )

    # -- the winner --------------------------------------------------------------------------

    def best(self, scores: np.ndarray) -> tuple[Architecture, float]:
        """Name the member with the largest sum of float (slots, operations) scores.

        The space's own rule decides (``WeightSharing.discretise``). Where its choice exceeds a
        limit, the price of cost rises from zero until the choice obeys (Lagrangian relaxation),
        and then single slots are improved for as long as limits allow.

        Raises:
            BudgetError: no member obeys the limits.
        """
        allowed = np.where(self.mask, scores, -np.inf)
        found = self.space.discretise(allowed)
        if not self.contains(found):
            found = self._affordable(allowed)
        return found, self.score(scores, [found])[0]

    def in_order(self, scores: np.ndarray) -> Iterator[tuple[Architecture, float]]:
        """Yield members by their sums of float (slots, operations) scores, from the largest down.

        A best-first search: parts that are chosen apart (``WeightSharing.options``) have their
        options in order, so whatever follows an architecture has no larger sum. It gives up where
        limits leave so few members that thousands of architectures would be looked at for nothing.

        Raises:
            InputError: the scores forbid all architectures.
        """
        parts = []
        for options in self.space.options(self.mask & (scores > -np.inf)):
            values = [sum(float(scores[pair]) for pair in option) for option in options]
            costs = [
                self._table[tuple(zip(*option, strict=True))].sum(0).tolist() for option in options
            ]
            order = np.argsort(np.negative(values), kind="stable").tolist()
            parts.append([(values[i], costs[i][0], costs[i][1], options[i]) for i in order])
        if not all(parts):
            return
        # Sum of scores, negative since a heap has its least first; parameters and MACs of the slots.
        waiting = [
            (
                -sum(part[0][0] for part in parts),
                (0,) * len(parts),
                sum(part[0][1] for part in parts),
                sum(part[0][2] for part in parts),
            )
        ]
        for _ in range(_LOOKED_AT):
            if not waiting:
                return
            total, places, params, macs = heapq.heappop(waiting)
            if params <= self._room[0] and macs <= self._room[1]:
                chosen = [self.space.left_over or 0] * self.space.slots
                for part, place in zip(parts, places, strict=True):
                    for slot, operation in part[place][3]:
                        chosen[slot] = operation
                if self.contains(tuple(chosen)):
                    yield tuple(chosen), -total
            # Only from its last moved part on: so each architecture is come to once.
            last = max((i for i, place in enumerate(places) if place), default=0)
            for i in range(last, len(parts)):
                place = places[i]
                if place + 1 < len(parts[i]):
                    moved = (*places[:i], place + 1, *places[i + 1 :])
                    now, then = parts[i][place], parts[i][place + 1]
                    heapq.heappush(
                        waiting,
                        (
                            total + now[0] - then[0],
                            moved,
                            params - now[1] + then[1],
                            macs - now[2] + then[2],
                        ),
                    )

    def score(self, scores: np.ndarray, architectures: list[Architecture]) -> np.ndarray:
        """Return float64 (n,): sums of float (slots, operations) scores over the slots in use."""
        cells = self.space.as_array(architectures)
        own = scores[np.arange(self.space.slots), cells]
        if self.space.left_over is not None:
            own = np.where(cells == self.space.left_over, 0.0, own)
        total: np.ndarray = own.sum(1, dtype=np.float64)
        return total

    def choices(self) -> np.ndarray:
        """Return bool (slots, operations): what is allowed and is a choice, not what is left."""
        chosen = self.mask.copy()
        if self.space.left_over is not None:
            chosen[:, self.space.left_over] = False
        return chosen

    def _affordable(self, allowed: np.ndarray) -> Architecture:
        finite = allowed[np.isfinite(allowed)]
        spread = float(finite.max() - finite.min()) + 1.0
        steps = self._price[self._price > 0]
        low, high = 0.0, self.space.slots * spread / float(steps.min())
        found = self.space.discretise(allowed - high * self._price)
        if not self.contains(found):
            raise BudgetError(
                "No architecture of the operations that are still allowed obeys the limits. "
                "Raise max_params or max_macs, or allow more operations."
            )
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            tried = self.space.discretise(allowed - middle * self._price)
            if self.contains(tried):
                found, high = tried, middle
            else:
                low = middle
        return self._climb(found, allowed)

    def _climb(self, architecture: Architecture, allowed: np.ndarray) -> Architecture:
        """Take the best feasible change of one slot's operation until none is left."""
        slots = np.arange(self.space.slots)
        while True:
            current = np.array(architecture)
            used = current != self._none  # unused slots stay so
            gain = np.full(allowed.shape, -np.inf)
            gain[used] = allowed[used] - allowed[slots, current][used, None]
            self._without_none(gain)
            order = np.dstack(np.unravel_index(np.argsort(-gain, axis=None), gain.shape))[0]
            for slot, op in order:
                if not gain[slot, op] > 0:
                    return architecture
                tried = (*architecture[:slot], int(op), *architecture[slot + 1 :])
                if self.contains(tried):
                    architecture = tried
                    break
            else:
                return architecture

    # -- narrowing ---------------------------------------------------------------------------

    def can_drop(self, slot: int, operation: int) -> bool:
        """Whether a feasible architecture would be left, and an operation other than ``none``."""
        if not self.mask[slot, operation]:
            return False
        self.mask[slot, operation] = False
        try:
            cheapness = self._cheapness()
            if not np.isfinite(cheapness[slot]).any():
                return False
            return self.contains(self.space.discretise(cheapness)) or self.contains(
                tuple(cheapness.argmax(1))
            )
        finally:
            self.mask[slot, operation] = True

    def keep(self, architectures: np.ndarray) -> None:
        """Forbid every operation that none of int (n, slots) members uses in its slot."""
        used = np.zeros_like(self.mask)
        used[np.arange(self.space.slots), architectures] = True
        if self.space.left_over is not None:
            used[:, self.space.left_over] = True
            # A slot that no member uses must still be able to hold something.
            used[used.sum(1) == 1] = True
        self.mask &= used

    def drop(self, slot: int, operation: int) -> bool:
        """Forbid an operation; False where that would leave nothing feasible."""
        allowed = self.can_drop(slot, operation)
        if allowed:
            self.mask[slot, operation] = False
        return allowed
