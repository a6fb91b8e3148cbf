"""Visits that can be gone on with: a page that is loaded again shows what it showed before."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.page.visit import Visit

MOST = 100
"""Visits that are remembered; the one longest unused is forgotten first."""


class Visits:
    """The visits of one server by keys that nobody guesses; a tab of a browser knows its own.

    Args:
        seconds: how long a visit is remembered without a new dataset, job or result.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[str, tuple[Visit, float]] = {}
        self._lock = threading.Lock()

    def keep(self, visit: Visit) -> str:
        """Remember a visit and return its key: the one that it has, or a new one."""
        with self._lock:
            own = (key for key, (known, _) in self._known.items() if known is visit)
            key = next(own, None) or secrets.token_hex(16)
            self._known.pop(key, None)
            self._known[key] = (visit, time.time())
            while len(self._known) > MOST:
                del self._known[self._oldest()]
            return key

    def _oldest(self) -> str:
        """Return the key of the visit longest unused; one with a job is in use."""
        idle = (key for key, (visit, _) in self._known.items() if visit.job is None)
        return next(idle, next(iter(self._known)))

    def find(self, key: str) -> Visit | None:
        """Return the visit of a key; None where it is too long ago, or there never was one."""
        self.sweep()
        with self._lock:
            found = self._known.get(key)
        return None if found is None else found[0]

    def sweep(self, now: float | None = None) -> None:
        """Forget visits without a new dataset, job or result for too long."""
        oldest = (time.time() if now is None else now) - self._seconds
        with self._lock:
            self._known = {
                key: (visit, used)
                for key, (visit, used) in self._known.items()
                if used >= oldest or visit.job is not None
            }
