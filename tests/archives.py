"""Small archives of class folders for the tests, and the one way in which bad ones are refused."""

import contextlib
import io
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metad2a.datasets import check, load_dataset
from metad2a.errors import InputError


def picture(seed: int) -> bytes:
    """A PNG of 12 x 9 random pixels."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


TREE = {f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate("ab") for i in range(3)}
"""Paths and contents of two classes with three images each."""


def patched(data: bytes, magic: bytes, offset: int, layout: str, *values: int) -> bytes:
    """Overwrite little-endian fields of the last zip record that starts with ``magic``."""
    out = bytearray(data)
    struct.pack_into("<" + layout, out, data.rindex(magic) + offset, *values)
    return bytes(out)


def zip_bytes(tree: Mapping[str, bytes], mode: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", mode) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Two of its names may end as one.
        for name, data in tree.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tar_bytes(
    tree: Mapping[str, bytes], compression: str = "", form: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar; ``compression`` is empty, ``gz``, ``bz2`` or ``xz``."""
    stream = io.BytesIO()
    fast = {"": {}, "xz": {"preset": 0}}.get(compression, {"compresslevel": 1})
    with tarfile.open(fileobj=stream, mode=f"w:{compression}", format=form, **fast) as archive:
        for name, data in tree.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


PACKERS = {
    ".zip": zip_bytes,
    ".tar": tar_bytes,
    ".tar.gz": lambda tree: tar_bytes(tree, "gz"),
    ".tar.bz2": lambda tree: tar_bytes(tree, "bz2"),
    ".tar.xz": lambda tree: tar_bytes(tree, "xz"),
}


def read(folder: Path, data: bytes, ending: str = ".zip") -> list[str]:
    """Write an archive, check that all of its images can be read, and return their names."""
    path = folder / f"x{ending}"
    path.write_bytes(data)
    with load_dataset(path) as dataset:
        report = check(dataset)
        assert (report.checked, report.skipped) == (len(dataset), ())
        return [dataset.locate(i) for i in range(len(dataset))]


def listed(folder: Path, data: bytes, ending: str = ".zip") -> list[str]:
    """Write an archive and return the names of its images; none of them is read."""
    path = folder / f"x{ending}"
    path.write_bytes(data)
    with load_dataset(path) as dataset:
        return [dataset.locate(i) for i in range(len(dataset))]


def open_files(folder: Path) -> list[str]:
    """Which files of a folder this process holds open, deleted ones too, where the system tells.

    What else is open may be closed at any time, as garbage of tests before.
    """
    found = []
    for handle in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):
            found.append(str(handle.readlink()))
    return [name for name in found if name.startswith(str(folder))]


def refusal(folder: Path, data: bytes, ending: str = ".zip") -> str:
    """Return why an archive is refused: in its listing, with nothing left behind or given away."""
    path = folder / f"x{ending}"
    path.write_bytes(data)
    left = folder / "temporary"
    left.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(left))
        with pytest.raises(InputError) as caught:
            load_dataset(path, sandbox=True)
    assert list(left.iterdir()) == []
    assert open_files(folder) == []
    message = str(caught.value)
    assert message.startswith(f"{path.name!r}: ")
    assert str(folder) not in message and "Traceback" not in message and len(message) < 500
    return message
