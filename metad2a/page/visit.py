"""A visit: the dataset that someone gave, the list that they see, their job, and what it brought."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from metad2a.errors import InputError
from metad2a.page.bench import Ticket
from metad2a.page.described import Described
from metad2a.page.orders import Found, Order, because
from metad2a.page.training import TrainedHere

if TYPE_CHECKING:
    from metad2a.result import Suggestions
    from metad2a.suggestion import Candidate, Measured


@dataclass(eq=False)
class Visit:
    """What the server keeps of one visitor between two clicks."""

    described: Described
    k: int
    """How many networks are listed, the first ones of ``result``."""
    wanted: int = field(init=False)
    """How many there would be if there were enough."""
    result: Suggestions = field(init=False)
    """What is suggested within the limits, with what was measured."""
    ticket: Ticket | None = None
    trained: TrainedHere | None = None
    """The network that was trained last."""
    _found: list[Candidate] = field(default_factory=list)
    """What searches put in front, whatever the limits."""
    _reached: dict[str, Measured] = field(default_factory=dict)
    """What trainings reached, by architecture."""

    def __post_init__(self) -> None:
        self._suggested = self.described.first
        self.limit(self.k, None, None)

    @property
    def space(self) -> str:
        """Name of the search space."""
        return self.described.first.answers.space.name

    @property
    def pretrained(self) -> bool:
        """Whether its networks have pretrained weights."""
        return self.described.first.answers.space.pretrained

    @property
    def lines(self) -> list[tuple[str, tuple[float, ...]]]:
        """Rank and learning curve of each network of the list that a search has trained."""
        found = {one.architecture for one in self._found if one.measured}
        return [
            (str(one.rank), one.measured.curve)
            for one in self.result[: self.k]
            if one.measured and one.architecture in found
        ]

    def limit(self, k: int, max_params: int | None, max_macs: int | None) -> None:
        """Make the list anew, for another length or other limits; what was measured stays.

        Raises:
            BudgetError: a limit is below the smallest network.
        """
        self._suggested = self.described.within(max_params, max_macs)
        self.result = self._with_measurements()
        self.wanted, self.k = k, min(k, len(self.result))

    def start(self, order: Order) -> Ticket:
        """Return a job, to be put into the line.

        Raises:
            InputError: the visitor has one already.
        """
        if self.ticket is not None:
            raise InputError("A job of yours runs already. Cancel it, or wait for its end.")
        self.ticket = Ticket(order)
        return self.ticket

    def found(self, outcome: Found) -> None:
        """Put what a search found at the head of the list."""
        names = {one.architecture for one in outcome.candidates}
        earlier = [one for one in self._found if one.architecture not in names and one.measured]
        self._found = [*outcome.candidates, *earlier]
        self.result = self._with_measurements()
        self.k = min(max(self.wanted, len(outcome.candidates)), len(self.result))

    def learnt(self, trained: TrainedHere) -> TrainedHere | None:
        """Keep a trained network, and put what it reached beside its prediction.

        Returns:
            The one before, whose files are no longer wanted.
        """
        from metad2a.suggestion import Measured

        told, before = trained.told, self.trained
        self.trained = trained
        if told["network"]["space"] == self.space:
            self._reached[told["network"]["architecture"]] = Measured(
                trained.accuracy,
                f"{self.result.protocol}, on test images",
                told["seconds"],
                tuple(value for _, value in trained.curve),
            )
            self.result = self._with_measurements()
        return before

    def _with_measurements(self) -> Suggestions:
        """Return the suggestions with what is known of their networks, within the same limits."""
        limits = self._suggested.limits
        first = [
            one
            for one in self._found
            if one.params <= (limits.max_params or one.params)
            and one.macs <= (limits.max_macs or one.macs)
        ]
        names = {one.architecture for one in first}
        rest = [one for one in self._suggested if one.architecture not in names]
        if first:
            rest = [replace(one, reason=because(one)) for one in rest]
        listed = [
            replace(one, measured=self._reached[one.architecture])
            if one.architecture in self._reached
            else one
            for one in [*first, *rest]
        ]
        return self._suggested.revised(listed, 0.0)
