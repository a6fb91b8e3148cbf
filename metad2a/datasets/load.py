"""The one entrance for data: whatever the user has becomes an :class:`ImageDataset`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metad2a.datasets.base import FORMS, EncodedDataset, ImageDataset
from metad2a.datasets.sandbox import SandboxedDataset
from metad2a.errors import InputError

SCHEMES = ("sklearn:", "hf:")
"""What begins the name of a source that is no path."""
_UNREAD = {
    ".rar": "Unpack it and give the folder, or pack it as zip, 7z or tar.",
    ".lz4": "Unpack it and give the folder, or pack it as .tar.zst or .tar.gz.",
    ".mat": "Load it with scipy.io.loadmat, and give (images, labels) or an .npz of both.",
    ".tfrecord": "Write the images into class folders, or into an .npz as images and labels.",
    ".tfrecords": "Write the images into class folders, or into an .npz as images and labels.",
    ".pkl": "A pickle can run any program when it is opened. Write an .npz of images and labels.",
    ".pickle": "A pickle can run any program when it is opened. Write an .npz of images and labels.",
    ".pt": "A pickle can run any program when it is opened. Write an .npz of images and labels.",
    ".pth": "A pickle can run any program when it is opened. Write an .npz of images and labels.",
    ".npy": "It holds one array. Write images and labels: numpy.savez(path, images=x, labels=y).",
}
"""Endings of files that people have and that are not read, and what to do instead."""


def load_dataset(
    source: Any,
    labels: Any = None,
    *,
    classes: Sequence[str] | None = None,
    sandbox: bool = False,
) -> ImageDataset:
    """List labelled images of any known form; none is decoded yet.

    Args:
        source: a path (text, bytes or ``os.PathLike``) of a class-folder tree, an archive of one,
            stored arrays, an image Parquet, or a manifest; ``"hf:org/name"`` or
            ``"sklearn:digits"``; a Hugging Face ``Dataset`` or ``DatasetDict``; a torch ``Dataset``
            or ``DataLoader``; a DataFrame; ``(images, labels)`` or ``(paths, labels)``; or what
            this returns.
        labels: labels where ``source`` holds only the images: (N,) integers or strings.
        classes: names of the classes that integer ``labels`` index.
        sandbox: decode image files in a child process with limits of memory and time, and all of
            them within a total time, as is right for files from strangers; see
            :mod:`metad2a.datasets.sandbox`. Close the dataset to end the child. Arrays and the
            items of a torch ``Dataset`` are the caller's own objects and stay in this process.

    Raises:
        InputError: the source is missing, of no known form, or cannot be used.
    """
    if labels is not None:
        source = (source, labels)
    if classes is not None:
        if not isinstance(source, tuple) or len(source) != 2:
            raise InputError(
                "classes= names the classes of arrays; other forms bring their own "
                "names. Leave it out, or give images and labels."
            )
        source = (*source, list(classes))
    dataset = source if isinstance(source, ImageDataset) else _open(source, sandbox)
    if not sandbox or not isinstance(dataset, EncodedDataset):
        return dataset
    return dataset if isinstance(dataset, SandboxedDataset) else SandboxedDataset(dataset)


def _open(source: Any, strangers: bool) -> ImageDataset:
    """Open a source with the form that accepts it."""
    if isinstance(source, (str, bytes, os.PathLike)):
        source = os.fsdecode(source)
        if not source:
            raise InputError("The path of the dataset is empty. Give that of a folder or a file.")
        if not source.startswith(SCHEMES):
            source = _existing(source)
    for form in sorted(FORMS, key=lambda form: form.general):
        if form.accepts(source):
            if strangers and not form.for_strangers:
                raise InputError(
                    f"A {form.name} is not opened with sandbox=True: what reads it runs in this "
                    "process. Convert it to class folders, an .npz or a Parquet file."
                )
            return form.open(source)
    given = repr(str(source)) if isinstance(source, Path) else f"A {type(source).__name__}"
    if isinstance(source, Path) and source.suffix.lower() in _UNREAD:
        raise InputError(f"{given} is of a kind that is not read. {_UNREAD[source.suffix.lower()]}")
    wanted = "; ".join(form.wanted for form in FORMS)
    raise InputError(f"{given} is no dataset of a known form. Give one of: {wanted}.")


def _existing(text: str) -> Path:
    """Return a path that exists."""
    path = Path(text).expanduser()
    if path.exists():
        return path
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", text)
    raise InputError(
        f"{text!r} does not exist. Give the path of a folder, a zip, a tar, a manifest or a "
        "Parquet file, or 'sklearn:digits' for a bundled example."
        + (f" For a dataset of the Hugging Face Hub, write 'hf:{text}'." if hub else "")
    )
