"""The job of a visitor: it goes on while their page is loaded again or out of reach, for a while.

Pages look at a job; none of them carries it. So a page that comes back, in another tab or on another
device, finds it where it is by now, and whatever it brought by its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from metad2a.errors import InputError
from metad2a.page.bench import Bench, Running, Ticket, Waiting
from metad2a.page.orders import Order, Outcome

LOOK_SECONDS = 1.0
"""How often a page looks."""
ALONE_SECONDS = 120.0
"""How long a job that nobody looks at may keep others waiting. Pages of phones that lie in a pocket
do not look."""
_LEFT_SECONDS = 5 * LOOK_SECONDS
"""How long a job goes on that its visitor has left for another dataset: another page that looks at it
does so before."""
_FORSAKEN = (
    f"It was ended: for {ALONE_SECONDS / 60:.0f} minutes no page had looked at it, and others "
    "waited. Start it again."
)

Over = Callable[[Outcome | InputError | OSError | None, bool], None]
"""What is done with an outcome, or the reason for which there is none, or None where the job was
cancelled before it had one; and with whether it was cancelled."""


class Job:
    """An order on its way to its outcome, whether anybody looks or not.

    Must be made where an event loop runs.

    Args:
        bench: the line that it joins.
        order: what is to be done.
        over: called once, at the end, in a thread of its own.
    """

    def __init__(self, bench: Bench, order: Order, over: Over) -> None:
        self.order = order
        self._bench, self._ticket, self._over = bench, Ticket(order), over
        self._now: Waiting | Running | None = None
        self._seen, self._left = time.monotonic(), False
        self._task = asyncio.create_task(self._go())

    def look(self) -> Waiting | Running | None:
        """Return how the job stands, None before it knows; who looks is there."""
        self._seen, self._left = time.monotonic(), False
        return self._now

    def cancel(self) -> None:
        """Ask for the end with what there is; asked again, for the end at once."""
        self._ticket.cancel()

    def leave(self) -> None:
        """Say that the visitor does not come back; the job ends unless another page looks."""
        self._left = True

    async def _go(self) -> None:
        outcome: Outcome | InputError | OSError | None = InputError("The job broke off.")
        try:
            async with aclosing(self._bench.run(self._ticket)) as answers:
                async for one in answers:
                    if isinstance(one, Waiting | Running):
                        self._now = one
                    else:
                        outcome = one
                    if self._forsaken():
                        outcome = InputError(_FORSAKEN)
                        break
        except (InputError, OSError) as error:
            outcome = error
        except BaseException:
            self._over(outcome, self._ticket.cancelled)
            raise
        # Networks are suggested anew by it, which takes a second; other pages go on meanwhile.
        await asyncio.to_thread(self._over, outcome, self._ticket.cancelled)

    def _forsaken(self) -> bool:
        """Whether nobody has looked for so long that the job's turn is another's."""
        alone = time.monotonic() - self._seen
        if self._left:
            return alone > _LEFT_SECONDS
        return self._bench.crowded and alone > ALONE_SECONDS
