"""Messages that quote what others wrote: names out of a stranger's file, a client's errors."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LISTED = 2000
"""Lines of a list: all that two networks of ours can differ in, not all that can be made up."""
_LONGEST = 300


def printable(text: str) -> str:
    """Return text with each character that a terminal could take for a command replaced.

    Line breaks and tabs stay.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def one_line(text: str, longest: int = _LONGEST) -> str:
    """Return text in one line of at most ``longest`` characters and a mark of what was cut."""
    kept = " ".join(printable(text[:longest]).split())
    return kept + (" ..." if len(text) > longest else "")


def without_token(error: Exception) -> str:
    """Return what an error says; a header that cannot be sent is quoted with the token in it."""
    return re.sub(r"Bearer .*", "Bearer ...", str(error), flags=re.DOTALL)


def listed(head: str, problems: Sequence[str]) -> str:
    """Return a message with one line for each problem."""
    shown = [f"\n- {one_line(problem)}" for problem in problems[:_LISTED]]
    rest = len(problems) - len(shown)
    return f"{head}:" + "".join(shown) + (f"\n- and {rest:,} more" if rest > 0 else "")
