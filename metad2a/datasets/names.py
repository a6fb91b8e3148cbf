"""File names from strangers: text that is compared and shown, never a path that is opened.

Letters of any script, markup and formulas are kept as they are; whoever shows a name escapes it.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import accumulate

from metad2a.errors import InputError
from metad2a.settings import LIMITS, OWN, strangers

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


def as_texts(raws: Sequence[bytes]) -> tuple[list[str], str | None]:
    """Return the names of one archive as text, all in the encoding that fits them best together.

    One name says little: the GBK bytes of a cat are also a letter in UTF-8. Where not all are
    UTF-8, the encoding is taken whose readings are what people write: Japanese, Chinese, Korean,
    Russian or western letters.

    Returns:
        The names, and the encoding that was guessed; None where there was nothing to guess.
    """
    try:
        return [raw.decode("utf-8") for raw in raws], None
    except UnicodeDecodeError:
        foreign = {raw for raw in raws if not raw.isascii()}
    fits = {}
    for encoding, plausible in _ENCODINGS.items():
        with contextlib.suppress(UnicodeDecodeError):
            fits[encoding] = plausible([raw.decode(encoding) for raw in foreign], encoding)
    best = max(fits, key=lambda encoding: fits[encoding])  # the first of equals
    if fits[best] < _SURE:
        return [as_text(raw) for raw in raws], None
    return [raw.decode(best) for raw in raws], best


def _double(texts: Sequence[str], encoding: str) -> float:
    """Return the share, 0..1, of foreign characters that are common ones of a double-byte code."""
    found = _foreign(texts)
    if encoding == "cp949" and len({character for character, _ in found}) < _FEW:
        return 0.0  # So few common Chinese characters are Korean by chance.
    low, high = _COMMON[encoding]
    common = 0
    for character, among in found:
        code = character.encode(encoding)
        # A western letter and the next one may look like one character among other letters.
        western = among and chr(code[-1]).isascii() and chr(code[-1]).isalpha()
        common += len(code) == 2 and low <= code[0] <= high and not western
    return common / len(found)


def _letters(texts: Sequence[str], encoding: str) -> float:
    """Return the share, 0..1, of foreign characters that are letters of the code page."""
    found = _foreign(texts)
    script = "CYRILLIC" if encoding == "cp866" else "LATIN"
    fits = (
        unicodedata.name(character, "").startswith(script) and not (among and script == "CYRILLIC")
        for character, among in found
    )
    return sum(fits) / len(found)


def _foreign(texts: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the characters beyond ASCII, and whether each is next to an ASCII letter."""
    return [
        (character, any(near.isascii() and near.isalpha() for near in (before, after)))
        for text in texts
        for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False)
        if not character.isascii()
    ]


_COMMON = {"cp932": (0x81, 0x97), "cp949": (0xB0, 0xC8), "gbk": (0xB0, 0xD7), "big5": (0xA4, 0xC6)}
"""First bytes of the common characters: of the others each code has thousands that nobody writes."""
_ENCODINGS = {
    "cp932": _double,
    "cp949": _double,
    "gbk": _double,
    "big5": _double,
    "cp866": _letters,
    "cp437": _letters,
}
_FEW = 6
_SURE = 0.8
"""Share of foreign characters that must be plausible for an encoding to be taken."""


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
    limits = LIMITS if strangers.get() else OWN
    if len(folders) > limits.depth:
        raise InputError(
            f"{shown(path)} lies {len(folders):,} folders deep, and the limit is "
            f"{limits.depth}. Use one folder a class."
        )
    for part in parts:
        size = len(part.encode("utf-8", "replace"))
        if size > limits.name_bytes:
            raise InputError(
                f"The name {shown(part)} has {size:,} bytes, and the limit is "
                f"{limits.name_bytes}. Give it a shorter name."
            )


def check_characters(path: str) -> None:
    """Refuse characters that act on what shows them: controls, line ends, changes of direction.

    Raises:
        InputError: there is one.
    """
    if path.isascii() and path.isprintable():
        return
    for character in path:
        if _acts(character):
            raise InputError(
                f"The name {shown(path)} has the control character "
                f"U+{ord(character):04X}. Rename the file or folder."
            )


def plain(name: str) -> str:
    """Return a name with those characters written as escapes that act on what shows them."""
    if name.isascii() and name.isprintable():
        return name
    return "".join(f"\\u{ord(c):04x}" if _acts(c) else c for c in name)


def _acts(character: str) -> bool:
    return character in _REORDERING or unicodedata.category(character) in _CONTROLS


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
