"""File names from strangers: text that is compared and shown, never a path that is opened.

Letters of any script, markup and formulas are kept as they are; whoever shows a name escapes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import accumulate

from metad2a.errors import InputError
from metad2a.settings import LIMITS

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional controls: they change the order of the text around a name, too."""
_CONTROLS = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Unicode categories of control characters, surrogates and line separators."""


def as_text(raw: bytes) -> str:
    """Return a stored name as text: UTF-8, or else CP437, the old code page of archives.

    Archives seldom say how they are encoded, and every byte string has a CP437 reading.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def shown(name: str) -> str:
    """Return the start of a name, quoted and with its invisible characters escaped."""
    return repr(name if len(name) <= 100 else f"{name[:100]}...")


def inner_path(name: str) -> str:
    """Return a member's name as a relative path with ``/``, without empty parts and ``.``.

    Raises:
        InputError: the path is absolute, has a drive, a part ``..`` or a NUL.
    """
    path = name.replace("\\", "/")
    parts = path.split("/")
    if path.startswith("/") or re.match("[A-Za-z]:", path) or ".." in parts or "\0" in path:
        raise InputError(
            f"{shown(name)} is a path that leaves the archive. Pack the folder again, "
            "with relative paths."
        )
    return "/".join(part for part in parts if part not in ("", "."))


def check_lengths(path: str) -> None:
    """Refuse a relative path that is too deep, or that has a part with too long a name.

    Raises:
        InputError: it is.
    """
    *folders, _ = parts = path.split("/")
    if len(folders) > LIMITS.depth:
        raise InputError(
            f"{shown(path)} lies {len(folders):,} folders deep, and the limit is "
            f"{LIMITS.depth}. Use one folder a class."
        )
    for part in parts:
        size = len(part.encode("utf-8", "replace"))
        if size > LIMITS.name_bytes:
            raise InputError(
                f"The name {shown(part)} has {size:,} bytes, and the limit is "
                f"{LIMITS.name_bytes}. Give it a shorter name."
            )


def check_characters(path: str) -> None:
    """Refuse characters that act on what shows them: controls, line ends, changes of direction.

    Raises:
        InputError: there is one.
    """
    if path.isascii() and path.isprintable():
        return
    for character in path:
        if character in _REORDERING or unicodedata.category(character) in _CONTROLS:
            raise InputError(
                f"The name {shown(path)} has the control character "
                f"U+{ord(character):04X}. Rename the file or folder."
            )


def refuse_twins(paths: Iterable[str]) -> None:
    """Refuse names of files or folders that look alike or are one name on another system.

    Two names are twins if they differ only in upper and lower case, in the Unicode form of an
    accent, in invisible characters, or in dots and spaces at their ends.

    Raises:
        InputError: there are two; the message names them.
    """
    seen: dict[str, str] = {}
    for path in paths:
        for inner in accumulate(path.split("/"), "{}/{}".format):
            known = seen.setdefault(_folded(inner), inner)
            if known != inner:
                raise InputError(
                    f"{known[:100]!a} and {inner[:100]!a} are the same name on some "
                    "systems. Rename one, or put their images together."
                )


def _folded(path: str) -> str:
    """Return what twins have in common."""
    if not path.isascii():
        visible = "".join(c for c in path.casefold() if unicodedata.category(c) != "Cf")
        path = unicodedata.normalize("NFC", visible)
    return "/".join(part.rstrip(". ") for part in path.lower().split("/"))
