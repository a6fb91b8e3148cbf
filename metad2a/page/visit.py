"""A visit: the dataset that someone gave, the list that they see, their job, and what it brought."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from metad2a.answers import Result
from metad2a.candidate import Measured
from metad2a.page.described import Described
from metad2a.page.searching import Found, because
from metad2a.page.training import TrainedHere
from metad2a.protocol import FINE_TUNE

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.page.jobs import Job
    from metad2a.result import CostLimits, Suggestions
    from metad2a.spaces import Architecture


@dataclass(eq=False)
class Visit:
    """What the server keeps of one visitor between two clicks."""

    described: Described
    wanted: int
    """How many networks are to be listed, if there are so many."""
    k: int = field(init=False)
    """How many are listed, the first ones of ``result``."""
    result: Suggestions = field(init=False)
    """What is suggested within the limits, with what was measured."""
    job: Job | None = None
    """What is being done for them."""
    ended: str = ""
    """What must be said of the end of the last job, as HTML."""
    trained: TrainedHere | None = None
    """The network that was trained last."""
    refused: bool = False
    """Whether the last limits could not be met, so that no list is shown."""
    _found: list[Candidate] = field(default_factory=list)
    """What searches put in front, whatever the limits."""
    _reached: dict[str, Candidate] = field(default_factory=dict)
    """What was trained, by architecture, with what it reached."""
    _results: dict[Architecture, Result] = field(default_factory=dict)
    """The same, as the model takes it in."""
    _note: str = ""
    """What must be known of the order of what was found."""

    def __post_init__(self) -> None:
        self._suggested = self.described.first
        self._arrange()

    @property
    def space(self) -> str:
        """Name of the search space."""
        return self.described.first.answers.space.name

    @property
    def pretrained(self) -> bool:
        """Whether its networks have pretrained weights."""
        return self.described.first.answers.space.pretrained

    @property
    def searched(self) -> bool:
        """Whether what a search measured is at the head of the list."""
        return any(one.measured and self._fits(one) for one in self._found)

    @property
    def lines(self) -> list[tuple[str, tuple[float, ...]]]:
        """Rank and learning curve of each network of the list that a search has trained."""
        found = {one.architecture for one in self._found if one.measured}
        return [
            (str(one.rank), one.measured.curve)
            for one in self.result[: self.k]
            if one.measured and one.architecture in found
        ]

    def limit(self, k: int, limits: CostLimits) -> None:
        """Make the list anew, for another length or other limits; what was measured stays.

        Raises:
            BudgetError: a limit is below the smallest network, or no network is so fast.
        """
        timed = limits.max_latency_ms is not None and k > self.wanted
        if limits != self._suggested.limits or timed:
            self._suggest(limits, k)
        self.wanted = k
        self._arrange()

    def _suggest(self, limits: CostLimits, k: int) -> None:
        """Suggest within limits, with what is known of networks that were trained here.

        What cells reach from scratch is not what is predicted of them, and stands apart.
        """
        suggested = self.described.within(limits, k)
        if self._results and self.pretrained:
            suggested = suggested.knowing(list(self._results.values()))
        self._suggested = suggested

    def _know(self, trained: TrainedHere) -> None:
        """Let the list know what a network reached, and suggest anew."""
        told = trained.told
        space, plan = self.described.first.answers.space, told["plan"]
        architecture = space.canonical(space.parse(told["network"]["architecture"]))
        recipe = replace(
            FINE_TUNE,
            rate=plan["rate"],
            frozen_stages=plan["frozen_stages"],
            batch_norm=plan["batch_norm"],
            epochs=told["epochs"],
        )
        self._results[architecture] = Result(
            architecture, trained.accuracy, recipe, told["test_images"]
        )
        self._suggest(self._suggested.limits, self.wanted)

    def found(self, outcome: Found) -> TrainedHere | None:
        """Put what a search found at the head of the list, and keep the network that it trained.

        Returns:
            The one before, if its files are no longer wanted.
        """
        names = {one.architecture for one in outcome.candidates}
        earlier = [one for one in self._found if one.architecture not in names and one.measured]
        self._found = [*outcome.candidates, *earlier]
        self._note = outcome.note
        self.wanted = max(self.wanted, len(outcome.candidates))
        if outcome.trained is not None and outcome.trained.told["network"]["space"] == self.space:
            self._know(outcome.trained)
        self._arrange()
        if outcome.trained is None:
            return None
        before, self.trained = self.trained, outcome.trained
        return before

    def learnt(self, trained: TrainedHere) -> TrainedHere | None:
        """Keep a trained network, and put what it reached beside its prediction.

        Returns:
            The one before, whose files are no longer wanted.
        """
        before, self.trained = self.trained, trained
        network = trained.told["network"]
        if network["space"] == self.space:
            one = self._candidate(network["architecture"])
            self._reached[one.architecture] = replace(
                one,
                measured=Measured(
                    trained.accuracy,
                    f"{self.result.protocol}, on test images",
                    trained.told["seconds"],
                    tuple(value for _, value in trained.curve),
                ),
                reason=f"trained here: {trained.accuracy:.1f} % of the test images right",
            )
            self._know(trained)
            self._arrange()
        return before

    def _candidate(self, architecture: str) -> Candidate:
        """Return a network of the list, or any other as the list would have it."""
        for one in self.result:
            if one.architecture == architecture:
                return one
        space = self.described.first.answers.space
        return self.result.predict(np.array([space.parse(architecture)]))[0]

    def _arrange(self) -> None:
        """Put what searches found in front, and what was trained into the part that is listed."""
        first = [one for one in self._found if self._fits(one)]
        names = {one.architecture for one in first}
        rest = [one for one in self._suggested if one.architecture not in names]
        if first:
            rest = [replace(one, reason=because(one)) for one in rest]
        trained = dict(self._reached)
        listed = []
        for place, one in enumerate([*first, *rest]):
            own = trained.get(one.architecture) if place < self.wanted else None
            if own is not None:
                del trained[one.architecture]
            listed.append(one if own is None else replace(one, measured=own.measured))
        self.k = min(self.wanted, len(listed))
        # After the others, whose ranks and reasons are of one another: what else was trained, and
        # what less work costs, which need not be among the best.
        front = {one.architecture: one for one in self._suggested.front.values()}
        shown = {one.architecture for one in listed[: self.k]}
        more = [
            one for name, one in (front | trained).items() if name not in shown and self._fits(one)
        ]
        names = {one.architecture for one in more} | set(trained)
        listed = [
            *listed[: self.k],
            *more,
            *(one for one in listed[self.k :] if one.architecture not in names),
        ]
        self.k += len(more)
        self.result = self._suggested.revised(listed, 0.0)
        self.result.note = f"{self.result.note} {self._note}".strip()

    def _fits(self, one: Candidate) -> bool:
        """Whether a network is within the limits."""
        limits = self._suggested.limits
        return (
            one.params <= (limits.max_params or one.params)
            and one.macs <= (limits.max_macs or one.macs)
            # What was trained before there was a limit on the time was not timed.
            and (
                limits.max_latency_ms is None
                or (one.latency_ms is not None and one.latency_ms <= limits.max_latency_ms)
            )
        )
