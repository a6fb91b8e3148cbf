"""What ``suggest`` returns: the candidates, and all that is known of the dataset beside them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from metad2a._torch_state import usual
from metad2a.candidate import Candidate, Measured
from metad2a.errors import InputError
from metad2a.latency import widened, within

if TYPE_CHECKING:
    from metad2a.answers import Answers, Result
    from metad2a.datasets import DatasetReport, ImageDataset
    from metad2a.latency import Latency
    from metad2a.model.known import Known, Neighbourhood
    from metad2a.spaces import SearchSpace


CANDIDATES = 512
"""Architectures generated, of which the best predicted are returned."""
FRONT = {
    "within_1": "Smallest within 1 point",
    "within_3": "Smallest within 3 points",
    "fastest": "Fastest",
}
"""What is offered beside the best, in words."""
CAUTION = 3.0
"""The best of hundreds of expectations is too good to be true. What is expected within a third of so many
points was within them in 81 % of 72 tasks of left-out families; within two thirds in 74 % (docs/benchmarks.md)."""
GIVEN = "as given"
"""The protocol of accuracies that a user gives."""


@dataclass(frozen=True)
class CostLimits:
    """The most that a suggested network may cost; None is no limit."""

    max_params: int | None = None
    max_macs: int | None = None
    max_latency_ms: float | None = None
    """On the machine that measured it."""


@dataclass(frozen=True)
class Compared:
    """All networks that were compared, of which some are listed."""

    architectures: np.ndarray
    """int (n, slots)."""
    accuracy: np.ndarray
    """float64 (n,), expected, in percent."""
    macs: np.ndarray
    """int64 (n,), multiply-adds of one image."""


class Suggestions(Sequence[Candidate]):
    """The candidates, best first, with the report on the dataset.

    ``dataset`` and ``limits`` are what they were made for; ``answers`` is the dataset as the model
    sees it, so that other limits, a check or a search can go on from here without looking at the
    images again. ``note`` is what holds for all candidates and must be known; ``latency`` says how
    latencies were measured, and is None where there was no such limit; ``compared`` are the networks
    of which the best are listed, and None where only those listed are known to keep to the limits.
    """

    def __init__(
        self,
        candidates: list[Candidate],
        answers: Answers,
        dataset: ImageDataset,
        limits: CostLimits,
        seconds: float,
        note: str = "",
        latency: Latency | None = None,
        compared: Compared | None = None,
    ) -> None:
        self._candidates = candidates
        self.answers = answers
        self.dataset = dataset
        self.limits = limits
        self.seconds = seconds
        self.note = note
        self.latency = latency
        self.compared = compared
        self.spaces: tuple[Candidate, ...] = ()
        """The first suggestion of every space that was compared, the best first; empty where the
        space was given."""

    @property
    def report(self) -> DatasetReport:
        """What was read of the dataset."""
        return self.answers.report

    @property
    def protocol(self) -> str:
        """What the accuracies are of."""
        return self.answers.protocol

    @property
    def neighbourhood(self) -> Neighbourhood | None:
        """Where the dataset lies among those that were learnt from, where that is known."""
        return self.answers.neighbourhood

    @property
    def nearest(self) -> list[Known]:
        """The nearest datasets that the model learnt from; none where the model names none."""
        return [] if self.neighbourhood is None else list(self.neighbourhood.nearest)

    @property
    def far(self) -> bool:
        """Whether the dataset lies farther from all of those than they lie from one another."""
        return self.neighbourhood is not None and self.neighbourhood.far

    @property
    def ties(self) -> list[Candidate]:
        """The suggestions that nothing tells from the best one, itself among them.

        A second training of one network differs by as much as they are expected to.
        """
        best = max((one.accuracy for one in self), default=0.0)
        return [one for one in self if one.accuracy >= best - self.answers.noise(best)]

    def smallest_within(self, points: float) -> Candidate:
        """Return the network of the least work that most likely is within so many points of the best.

        That is, expected within a :data:`CAUTION`-th of them. It is one of all that were compared, and need not
        be listed.
        """
        if self.compared is None:
            best = max(candidate.accuracy for candidate in self)
            near = [one for one in self if one.accuracy >= best - points / CAUTION]
            return min(near, key=lambda one: (one.macs, -one.accuracy))
        found, macs = self.compared.accuracy, self.compared.macs
        close = np.flatnonzero(found >= found.max() - points / CAUTION)
        one = int(close[np.lexsort((-found[close], macs[close]))[0]])
        # How a small network is trained depends on whether there are larger ones beside it.
        made, _ = self.predict(self.compared.architectures[[one, int(macs.argmax())]])
        for listed in self:
            if listed.architecture == made.architecture:
                return listed
        close_by = (
            ""
            if math.isinf(points)
            else f" that is most likely within {points:g} points of the best"
        )
        return replace(
            made,
            rank=1 + int((found > found[one]).sum()),
            reason=f"the least work of all {len(macs):,} compared{close_by}",
        )

    @property
    def front(self) -> dict[str, Candidate]:
        """What less work costs: the smallest within 1 and within 3 points of the best, the fastest.

        The fastest is the end of the front, whatever is expected of it: of all compared the one of
        the least work, or of those listed the one of the least latency where that was measured.
        """
        if not len(self):
            return {}
        timed = [one for one in self if one.latency_ms is not None]
        return {
            "within_1": self.smallest_within(1.0),
            "within_3": self.smallest_within(3.0),
            "fastest": (
                min(timed, key=lambda one: one.latency_ms or 0.0)
                if timed
                else self.smallest_within(math.inf)
            ),
        }

    def given(self, results: Mapping[str, float] | None = None) -> Suggestions:
        """Return suggestions that know what networks reached on these images.

        What is expected of all others follows from that, and its intervals narrow: networks are
        proposed and ranked anew. In a space with pretrained weights a result is taken for one of
        ``train`` in the best way for that network, unless it was measured here; in a space of cells
        it may come from any way of training that was the same for all, so that one measured on a
        dozen images says little.

        Args:
            results: accuracy in percent by the network's string; None: what the candidates of this
                list reached that ``check`` or ``refine`` trained.

        Raises:
            InputError: a string is no network of the space, an accuracy is not one in percent, or
                there is no result at all.
        """
        from metad2a.answers import Result

        space = self.answers.space
        if results is not None:
            return self.knowing(results_of(space, results))
        trained = {one.architecture: one for one in self if one.trained is not None}
        found = self.knowing(
            [
                Result(
                    space.canonical(space.parse(name)),
                    one.trained.accuracy,
                    one.trained.recipe,
                    one.trained.evaluation.images,
                )
                for name, one in trained.items()
                if one.trained is not None
            ]
        )
        candidates = []
        for one in found:
            own = trained.get(one.architecture)
            candidates.append(
                one if own is None else replace(one, measured=own.measured, trained=own.trained)
            )
        return found.revised(candidates, 0.0)

    def knowing(self, results: Sequence[Result]) -> Suggestions:
        """Return the same as :meth:`given` of results whose training may be known.

        Raises:
            InputError: there are none.
        """
        if not results:
            raise InputError(
                "There are no results: give {network: accuracy in percent, ...}, or `check` first, "
                "so that a candidate is trained."
            )
        answers = self.answers.given(results)
        return answered(answers, self.dataset, self.limits, max(1, len(self)))

    def predict(self, architectures: np.ndarray) -> list[Candidate]:
        """Return int (n, slots) architectures as candidates, in their order."""
        return candidates_of(self.answers, self.dataset, architectures)

    def within(
        self,
        max_params: int | None = None,
        max_macs: int | None = None,
        max_latency_ms: float | None = None,
        k: int = 5,
    ) -> Suggestions:
        """Return suggestions within other limits; the images are not looked at again.

        Raises:
            BudgetError: a limit cannot be met.
        """
        return answered(
            self.answers, self.dataset, CostLimits(max_params, max_macs, max_latency_ms), k
        )

    def revised(self, candidates: Iterable[Candidate], seconds: float) -> Suggestions:
        """Return the same with other candidates, ranked in their order, and seconds added."""
        ranked = [replace(c, rank=rank) for rank, c in enumerate(candidates, start=1)]
        return Suggestions(
            ranked,
            self.answers,
            self.dataset,
            self.limits,
            self.seconds + seconds,
            self.note,
            self.latency,
            self.compared,
        )

    def __len__(self) -> int:
        return len(self._candidates)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> list[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | list[Candidate]:
        return self._candidates[index]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates)

    def _repr_html_(self) -> str:
        from metad2a.notebook import suggestions

        return suggestions(self, self._choices())

    def __str__(self) -> str:
        measured = any(c.measured for c in self)
        head = f"{'rank':>4}  {'accuracy':>8}  {'90 % interval':>14}  "
        lines = [
            head
            + (f"{'measured':>8}  " if measured else "")
            + f"{'parameters':>10}  {'MACs':>11}  "
            + (f"{'latency':>9}  " if self.latency else "")
            + "architecture"
        ]
        for c in self:
            found = f"{c.measured.accuracy:>6.1f} %  " if c.measured else f"{'–':>8}  "
            speed = f"{'–':>9}  " if c.latency_ms is None else f"{c.latency_ms:>6.2f} ms  "
            lines.append(
                f"{c.rank:>4}  {c.accuracy:>6.1f} %  {c.interval[0]:>5.1f} to "
                f"{c.interval[1]:>5.1f}  {found if measured else ''}{c.params:>10,}  "
                f"{c.macs:>11,}  {speed if self.latency else ''}{c.architecture}"
            )
        lines += [*self._choices(), self.answers.meaning()]
        for protocol in dict.fromkeys(c.measured.protocol for c in self if c.measured):
            lines.append(f"Measured: {protocol}.")
        if self.latency:
            lines.append(str(self.latency))
        if self.note:
            lines.append(self.note)
        around = [] if self.neighbourhood is None else self.neighbourhood.lines()
        return "\n".join([*lines, *around])

    def _choices(self) -> list[str]:
        """Return lines on ties and on what less work costs, unless a measurement says more."""
        if not len(self) or any(c.measured and c.measured.protocol != GIVEN for c in self):
            return []
        lines, ties = [], self.ties
        if len(ties) > 1:
            least = min(ties, key=lambda one: one.macs)
            points = self.answers.noise(max(one.accuracy for one in ties))
            lines.append(
                f"Tied with the best, within the {points:.1f} points that a second training differs "
                f"by: {', '.join(f'{one.rank}' for one in ties)}. The cheapest is {least.rank}."
            )
        named = [(FRONT[name], one) for name, one in self.front.items()]
        named += [(f"Best of {one.space}", one) for one in self.spaces[1:]]
        for name, one in named:
            lines.append(
                f"{name}: {one.accuracy:.1f} %, {one.params:,} parameters, {one.macs:,} MACs"
                f"{'' if one.latency_ms is None else f', {one.latency_ms:.2f} ms'}, "
                f"{one.architecture}"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        around = {} if self.neighbourhood is None else self.neighbourhood.to_dict()
        return {
            "candidates": [c.to_dict() for c in self],
            "ties": [one.rank for one in self.ties],
            "front": {name: one.to_dict() for name, one in self.front.items()},
            "spaces": [one.to_dict() for one in self.spaces],
            "classes": list(self.dataset.classes),
            "report": self.report.to_dict(),
            "protocol": self.protocol,
            "note": self.note,
            "seconds": self.seconds,
            "latency": None if self.latency is None else self.latency.to_dict(),
            **around,
        }


@usual()
def answered(
    answers: Answers, dataset: ImageDataset, limits: CostLimits, k: int = 5
) -> Suggestions:
    """Return suggestions within limits from a dataset that is described already.

    Args:
        answers: of the dataset.
        dataset: with its images.
        limits: that all suggestions obey.
        k: how many.

    Raises:
        BudgetError: a limit cannot be met.
    """
    start = time.perf_counter()
    space, classes = answers.space, len(dataset.classes)
    space.check_limits(classes, limits.max_params, limits.max_macs)

    def propose(most_macs: int | None) -> np.ndarray:
        """Return int (n, slots) architectures within a limit on multiply-adds."""
        return answers.propose(max(CANDIDATES, k), limits.max_params, most_macs)

    cells = propose(limits.max_macs)
    latency = compared = None
    if limits.max_latency_ms is None:
        found, costs = answers.expect(cells), space.costs(cells, classes)
        order = answers.ranked(found, costs, k)
        candidates = candidates_of(answers, dataset, cells[order])
        compared = Compared(cells, found.mean, costs[:, 1])
    else:
        cells = widened(space, cells, classes, propose)
        best_first = (-answers.expect(cells).mean).argsort(kind="stable")
        kept, times, latency = within(space, cells[best_first], classes, limits.max_latency_ms, k)
        candidates = [
            replace(
                one,
                latency_ms=milliseconds,
                reason=f"{one.reason}; found to take at most {limits.max_latency_ms:g} ms here",
            )
            for one, milliseconds in zip(
                candidates_of(answers, dataset, cells[best_first[kept]]), times, strict=True
            )
        ]
    return Suggestions(
        candidates,
        answers,
        dataset,
        limits,
        time.perf_counter() - start,
        answers.expect(cells[:1]).note,
        latency,
        compared,
    )


def candidates_of(
    answers: Answers, dataset: ImageDataset, architectures: np.ndarray
) -> list[Candidate]:
    """Return int (n, slots) architectures as candidates, ranked in their order."""
    space = answers.space
    found = answers.expect(architectures)
    costs = space.costs(architectures, len(dataset.classes))
    known = {one.architecture: one.accuracy for one in answers.results}
    made = []
    for place, row in enumerate(map(tuple, architectures.tolist())):
        recipe = found.recipes[place] if found.recipes else None
        reached = known.get(space.canonical(row))
        made.append(
            Candidate(
                rank=place + 1,
                space=space.name,
                architecture=space.format(row),
                accuracy=float(found.mean[place]),
                interval=(float(found.low[place]), float(found.high[place])),
                params=int(costs[place, 0]),
                macs=int(costs[place, 1]),
                class_names=tuple(dataset.classes),
                reason=answers.reason(place + 1, row, recipe),
                resolution=space.resolution(row),
                measured=None if reached is None else Measured(reached, GIVEN, 0.0),
                recipe=recipe,
                dataset=dataset,
            )
        )
    return made


def results_of(space: SearchSpace, given: Mapping[str, float]) -> list[Result]:
    """Return results as a user gives them, checked.

    Args:
        space: of the networks.
        given: accuracy in percent by the network's string.

    Raises:
        InputError: names the first that is no network of the space, or no accuracy.
    """
    from metad2a.answers import Result

    if not isinstance(given, Mapping):
        raise InputError(
            f"given={str(given)[:80]!r} must be networks and accuracies: {{network: percent, ...}}."
        )
    found = []
    for number, (network, accuracy) in enumerate(given.items(), start=1):
        where = f"Result {number} of those given, {str(network)[:100]!r}: "
        try:
            architecture = space.canonical(space.parse(network))
        except InputError as error:
            raise InputError(f"{where}no network of the space {space.name!r}. {error}") from error
        except (AttributeError, TypeError) as error:
            raise InputError(f"{where}a network is given by its string.") from error
        real = isinstance(accuracy, Real) and not isinstance(accuracy, bool)
        if not real or not 0 <= accuracy <= 100:  # NaN is neither
            raise InputError(
                f"{where}the accuracy {accuracy!r} is not one in percent, a number from 0 to 100. "
                "Mend it, or leave the network out."
            )
        found.append(Result(architecture, float(accuracy)))
    if found and max(one.accuracy for one in found) <= 1:
        raise InputError(
            f"All {len(found)} accuracies given are 1 or below, {found[0].accuracy:g} first; they "
            "are wanted in percent. Multiply them by 100."
        )
    return found
