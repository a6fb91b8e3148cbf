"""Broken and hostile archives without end, and the one thing that must hold for all of them."""

import bz2
import gzip
import lzma
import random
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from archives import TREE, tar_bytes, zip_bytes

from metad2a.datasets import UnreadableImage, load_dataset
from metad2a.errors import InputError

NUMBERS = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
ODD = (
    "..",
    ".",
    "",
    "/",
    "\\",
    "a",
    "A",
    "é",
    "e\u0301",
    "\u202e",
    "\u200d",
    "x\0y",
    "\n",
    "\x1b[2J",
    "C:",
    "con",
    "x" * 300,
    "<b>",
    "=1+1",
    "train",
    "test",
    "__MACOSX",
    ".x",
    "1.png",
    "2.PNG",
)
ZIP_RECORDS = re.compile(rb"PK[\x01\x03\x05\x06][\x02\x04\x06\x07]")
BLOCK = 512


def cases(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield file names and contents of hostile archives, the same ones for the same seed."""
    rng = random.Random(seed)
    for number in range(8):
        tree = TREE if number % 2 else {odd_name(rng): data for data in TREE.values()}
        zipped = zip_bytes(tree, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
        # The oldest form has no place for long names.
        forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)[: 2 + number % 2]
        tarred = tar_bytes(tree, form=rng.choice(forms))
        edit = rng.choice(EDITS)
        yield f"{seed}-{number}.zip", edit(records(zipped, rng), rng)
        tarred = edit(headers(tarred, rng), rng)
        yield f"{seed}-{number}.tar", tarred
        compress = rng.choice((gzip.compress, bz2.compress, lzma.compress))
        yield f"{seed}-{number}.tar.gz", rng.choice(EDITS)(compress(tarred), rng)


def odd_name(rng: random.Random) -> str:
    """Return a path of odd parts."""
    return "/".join(rng.choices(ODD, k=rng.randint(1, 8))) + rng.choice((".png", "1.png", "/1.png"))


def records(data: bytes, rng: random.Random) -> bytes:
    """Write odd numbers into some records of a zip."""
    out = bytearray(data)
    places = [match.start() for match in ZIP_RECORDS.finditer(data)]
    for _ in range(rng.randint(0, 3)):
        width = rng.choice((1, 2, 4, 8))
        at = rng.choice(places) + rng.randint(4, 45)
        out[at : at + width] = rng.choice(NUMBERS).to_bytes(8, "little")[:width]
    return bytes(out)


def headers(data: bytes, rng: random.Random) -> bytes:
    """Write odd things into some headers of a tar, and mend their checksums."""
    out = bytearray(data)
    places = [at for at in range(0, len(data), BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(rng.randint(0, 3)):
        at = rng.choice(places)
        field = rng.choice(((0, 100), (100, 8), (124, 12), (156, 1), (257, 8), (345, 155)))
        odd = rng.choice(
            (
                b"%o" % rng.choice(NUMBERS),
                b"\x80" + b"\xff" * 11,
                b"-1",
                b"\xff" * 12,
                rng.randbytes(field[1]),
                rng.choice(b"0123456789xgLKSXDMNV").to_bytes(),
            )
        )
        start = at + field[0]
        out[start : start + field[1]] = odd[: field[1]].ljust(field[1], b"\0")
        out[at + 148 : at + 156] = b" " * 8
        out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + BLOCK])
    return bytes(out)


def flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def spliced(data: bytes, rng: random.Random) -> bytes:
    """Put a slice of it somewhere else, over what is there or between."""
    start, at = rng.randrange(len(data)), rng.randrange(len(data))
    piece = data[start : start + rng.randint(1, 2000)]
    return data[:at] + piece + data[at + rng.choice((0, len(piece))) :]


EDITS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda data, rng: data,
    flipped,
    spliced,
    lambda data, rng: data[: rng.randrange(len(data))],
    lambda data, rng: data + rng.randbytes(rng.randint(1, 2000)),
    lambda data, rng: data + data,
)


def outcome(path: Path) -> list[str] | None:
    """Open an archive and read all of it; return the names of its images, or None if refused.

    Whatever else is raised is a fault, and so is a refusal that tells where the file lies.
    """
    try:
        dataset = load_dataset(path)
    except InputError as error:
        assert str(path.parent) not in str(error), error
        return None
    with dataset:
        for index in range(len(dataset)):
            try:
                dataset.image(index)
            except UnreadableImage as error:
                assert str(path.parent) not in str(error), error
        return [dataset.locate(i) for i in range(len(dataset))]
