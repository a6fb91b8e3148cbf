"""A visit: the dataset that someone gave, the list that they see, and their job, if one runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metad2a.errors import InputError
from metad2a.page.bench import Ticket
from metad2a.page.described import Described
from metad2a.page.worker import Order, Outcome

if TYPE_CHECKING:
    from metad2a.page.backend import Backend
    from metad2a.result import Suggestions

Kind = Literal["check", "refine"]


@dataclass(eq=False)
class Visit:
    """What the server keeps of one visitor between two clicks."""

    described: Described
    result: Suggestions
    k: int
    """How many networks are listed, the first ones of ``result``."""
    ticket: Ticket | None = None

    def limit(self, k: int, max_params: int | None, max_macs: int | None) -> None:
        """Make the list anew, for another length or other limits.

        Raises:
            BudgetError: a limit is below the smallest network.
        """
        self.result = self.described.within(max_params, max_macs)
        self.k = min(k, len(self.result))

    def order(self, backend: Backend, kind: Kind, minutes: float) -> Ticket:
        """Return a job on the list, to be put into the line.

        Raises:
            InputError: the visitor has one already.
        """
        if self.ticket is not None:
            raise InputError("A job of yours runs already. Cancel it, or wait for its end.")
        limits = self.result.limits
        self.ticket = Ticket(
            Order(
                getattr(backend, kind),
                self.described.source,
                self.described.uploaded,
                self.k,
                limits.max_params,
                limits.max_macs,
                minutes,
            )
        )
        return self.ticket

    def found(self, outcome: Outcome) -> None:
        """Put what a job found in the place of the list."""
        self.result = self.result.revised(outcome.candidates, outcome.seconds)
        self.k = len(outcome.candidates)
