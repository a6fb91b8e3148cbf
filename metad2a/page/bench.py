"""One heavy job at a time: a line with room for a few, in which everyone sees their place."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from metad2a.errors import InputError
from metad2a.page.orders import AFTER_SECONDS, Order, Outcome, Point
from metad2a.page.worker import Worker

SEATS = 8
"""Jobs that may wait; more are turned away with a word."""
_LOOK_SECONDS = 0.3
_STOP_SECONDS = 60.0
"""How long a cancelled job may take to judge and save what it has, before it is ended without."""
_CURVE = 300
"""Points of the loss curve; where there are more, every other one goes."""
_GRACE_SECONDS = 90.0
"""What a job may take beside its budget, once it has begun."""
_BEGIN_SECONDS = 180.0
"""How long a job may take until it is first heard of; a busy server is slow to start a process."""
_START_SECONDS = 10.0
"""What a job usually takes beside its budget, for the waiting time that is shown."""


@dataclass(frozen=True)
class Waiting:
    """A place in the line."""

    place: int
    """1 is next."""
    seconds: float
    """Until the job begins, about."""


@dataclass(frozen=True)
class Running:
    """How far a job is."""

    fraction: float
    stage: str
    seconds: float
    left: float
    """Seconds until its end."""
    surely: bool
    """Whether that is about right, or the most that it can be."""
    losses: tuple[tuple[float, float], ...] = ()
    """(share of the job, loss) so far, where the job has losses."""
    epoch: float = 0.0
    epochs: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()
    """(epoch, accuracy in percent) so far, of a training."""


@dataclass(eq=False)
class Ticket:
    """A job's place in the line, and what is asked of it and known of it there."""

    order: Order
    cancelled: bool = False
    dropped: bool = False
    """Whether what the job has by now is not wanted either."""
    began: float | None = None
    losses: list[tuple[float, float]] = field(default_factory=list)

    def cancel(self) -> None:
        """Ask for the end, wherever the job is; asked again, for the end at once."""
        self.dropped = self.cancelled
        self.cancelled = True


class Bench:
    """The line of jobs of one server, in the order of asking."""

    def __init__(self) -> None:
        self._line: list[Ticket] = []

    @property
    def crowded(self) -> bool:
        """Whether someone waits."""
        return len(self._line) > 1

    async def run(self, ticket: Ticket) -> AsyncGenerator[Waiting | Running | Outcome | None, None]:
        """Wait for the turn and do the job; closed early, it leaves the line and ends the job.

        Yields:
            Places in the line, then progress, last the outcome; None in its place where the job
            was cancelled before it had one.

        Raises:
            InputError: the line is full, or the job cannot be done.
        """
        if len(self._line) > SEATS:
            raise InputError(
                f"{SEATS} jobs are waiting already, which is all that this server "
                "takes. Try again in some minutes."
            )
        self._line.append(ticket)
        try:
            while self._line[0] is not ticket and not ticket.cancelled:
                yield Waiting(self._line.index(ticket), self._wait(ticket))
                await asyncio.sleep(_LOOK_SECONDS)
            if ticket.cancelled:
                yield None
                return
            async with aclosing(self._work(ticket)) as answers:
                async for one in answers:
                    yield one
        finally:
            self._line.remove(ticket)

    def _wait(self, ticket: Ticket) -> float:
        """Return about how many seconds the jobs ahead still take."""
        ahead = self._line[: self._line.index(ticket)]
        spent = time.monotonic() - (ahead[0].began or time.monotonic())
        return max(1.0, sum(60 * one.order.minutes + _START_SECONDS for one in ahead) - spent)

    async def _work(self, ticket: Ticket) -> AsyncGenerator[Running | Outcome | None, None]:
        began = ticket.began = time.monotonic()
        deadline = began + _BEGIN_SECONDS
        heard = asked = False
        worker = Worker(ticket.order)
        clock = _Clock(60 * ticket.order.minutes)
        try:
            while True:
                for one in worker.news():
                    if isinstance(one, Outcome):
                        yield one
                        return
                    clock.hear(one)
                    if not (heard or asked):
                        heard = True
                        deadline = time.monotonic() + 60 * ticket.order.minutes + _GRACE_SECONDS
                    if not math.isnan(one.loss):
                        ticket.losses.append((clock.last.fraction, one.loss))
                if len(ticket.losses) > _CURVE:
                    del ticket.losses[::2]
                now = time.monotonic()
                if ticket.cancelled and not asked:
                    asked, deadline = True, now + _STOP_SECONDS
                    worker.stop()
                if now > deadline or ticket.dropped:
                    if asked:
                        yield None
                        return
                    raise InputError(
                        "The job took far longer than its time and was ended. Try "
                        "again with more time, or fewer networks."
                    )
                share, left = clock.read(now - began)
                last = clock.last
                yield Running(
                    share,
                    "stopping" if asked else last.stage,
                    now - began,
                    left,
                    last.surely,
                    tuple(ticket.losses),
                    last.epoch,
                    last.epochs,
                    last.curve,
                )
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            worker.close()


class _Clock:
    """How much of a job is done, and how long it still takes; the bar never goes back.

    Args:
        seconds: that the job spends.
    """

    def __init__(self, seconds: float) -> None:
        self.last = Point(0.0, "starting")
        self._seconds, self._share = seconds, 0.0
        self._heard = time.monotonic()
        self._first: float | None = None

    def hear(self, point: Point) -> None:
        """Take what the job tells."""
        # Searches look ahead by their pace, so that a slow step can set them back.
        fraction = max(point.fraction, self.last.fraction)
        curve = point.curve or self.last.curve
        self.last = replace(point, fraction=fraction, curve=curve)
        self._heard = time.monotonic()
        if fraction > 0 and self._first is None:
            self._first = self._heard

    def read(self, spent: float) -> tuple[float, float]:
        """Return the share that is done and the seconds that are left.

        Args:
            spent: seconds since the job began.
        """
        now = time.monotonic()
        if self.last.left is None:
            # Searches spend a time; training that will not be finished in it is no progress.
            used = 0.0 if self._first is None else now - self._first
            share = max(self.last.fraction, used / self._seconds)
            late = max(0.0, used - self._seconds)
            left = max(0.0, (1 - min(share, 1.0)) * self._seconds + AFTER_SECONDS - late)
        else:
            left = max(0.0, self.last.left - (now - self._heard))
            share = spent / max(spent + left, 1e-9)
        self._share = min(max(self._share, share), 1.0)
        return self._share, left
