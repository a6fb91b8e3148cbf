"""The one entrance for data: whatever the user has becomes an :class:`ImageDataset`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metad2a.datasets.base import FORMS, EncodedDataset, ImageDataset
from metad2a.datasets.forms.manifest import ManifestDataset
from metad2a.datasets.layout import Wish
from metad2a.datasets.names import shown
from metad2a.datasets.part import without_thin
from metad2a.datasets.sandbox import SandboxedDataset
from metad2a.errors import InputError
from metad2a.settings import strangers

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
    layout: str | None = None,
    classes_at: str | None = None,
    split: Mapping[str, str | Sequence[str]] | None = None,
    sandbox: bool = False,
) -> ImageDataset:
    """List labelled images of any known form; none is decoded yet.

    Args:
        source: a path (text, bytes or ``os.PathLike``) of a class-folder tree, an archive of one,
            stored arrays, an image Parquet, or a manifest; ``"hf:org/name"`` or
            ``"sklearn:digits"``; a Hugging Face ``Dataset`` or ``DatasetDict``; a torch ``Dataset``
            or ``DataLoader``; a DataFrame; ``(images, labels)`` or ``(paths, labels)``; or what
            this returns.
        labels: labels where ``source`` holds only the images: (N,) integers or strings, or, for a
            folder, the path of a manifest of the images in it.
        classes: names of the classes that integer ``labels`` index.
        layout: how a folder or an archive is arranged, a name of
            :data:`metad2a.datasets.layout.LAYOUTS`; without it that is recognised.
        classes_at: where in the paths of a folder or an archive the class stands: a pattern with
            ``{class}``, and perhaps ``{split}``, ``*`` and ``**``, such as ``"*/{class}"`` or
            ``"train/{class}_*.jpg"``; paths that are not like it are left out.
        split: folders of a folder or an archive by side, as paths or patterns: ``{"train": "a",
            "test": ["b", "c*"]}``. With ``"test"`` alone, all else is for training.
        sandbox: decode image files in a child process with limits of memory and time, and all of
            them within a total time, as is right for files from strangers; see
            :mod:`metad2a.datasets.sandbox`. Close the dataset to end the child. Arrays and the
            items of a torch ``Dataset`` are the caller's own objects and stay in this process.

    Raises:
        InputError: the source is missing, of no known form, or cannot be used.
    """
    wish = Wish(layout, classes_at, _patterns(split or {}))
    listed = isinstance(labels, (str, os.PathLike))
    if labels is not None and not listed:
        source = (source, labels)
    if classes is not None:
        if not isinstance(source, tuple) or len(source) != 2:
            raise InputError(
                "classes= names the classes of arrays; other forms bring their own "
                "names. Leave it out, or give images and labels."
            )
        source = (*source, list(classes))
    if isinstance(source, ImageDataset) and not listed:
        dataset = source
    else:
        token = strangers.set(sandbox)
        try:
            opened = (
                _listed(source, Path(labels).expanduser(), wish)
                if listed
                else _open(source, sandbox, wish)
            )
            dataset = without_thin(opened)
        finally:
            strangers.reset(token)
    if not sandbox or not isinstance(dataset, EncodedDataset):
        return dataset
    return dataset if isinstance(dataset, SandboxedDataset) else SandboxedDataset(dataset)


def _patterns(split: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {
        side: (os.fspath(folders),)
        if isinstance(folders, (str, os.PathLike))
        else tuple(map(os.fspath, folders))
        for side, folders in split.items()
    }


def _listed(source: Any, labels: Path, wish: Wish) -> ImageDataset:
    """Open the images of a folder that a manifest, wherever it lies, names."""
    folder = Path(os.fsdecode(source)) if isinstance(source, (str, bytes, os.PathLike)) else None
    if folder is None or not folder.expanduser().is_dir():
        raise InputError(
            f"labels={str(labels)!r} is the path of a manifest, and the images are to be in a "
            "folder. Give the folder, or labels as a list beside images."
        )
    if wish != Wish():
        raise InputError(
            "labels, a manifest, brings its own classes and sides. Leave out layout, classes_at "
            "and split."
        )
    place = next((one for one in (labels, folder / labels) if one.is_file()), None)
    if place is None:
        raise InputError(f"labels={str(labels)!r} does not exist. Give the path of a manifest.")
    return ManifestDataset(place, folder.expanduser())


def _open(source: Any, sandbox: bool, wish: Wish) -> ImageDataset:
    """Open a source with the form that accepts it."""
    if isinstance(source, (str, bytes, os.PathLike)):
        source = os.fsdecode(source)
        if not source:
            raise InputError("The path of the dataset is empty. Give that of a folder or a file.")
        if not source.startswith(SCHEMES):
            source = _existing(source)
    forms = sorted(FORMS, key=lambda form: form.general)
    if wish != Wish():  # A tree that has a stored form as well is read as the user says.
        forms.sort(key=lambda form: not form.arranged)
    for form in forms:
        if form.accepts(source):
            if sandbox and not form.for_strangers:
                raise InputError(
                    f"A {form.name} is not opened with sandbox=True: what reads it runs in this "
                    "process. Convert it to class folders, an .npz or a Parquet file."
                )
            return form.open(source) if wish == Wish() else form.open_as(source, wish)
    given = repr(str(source)) if isinstance(source, Path) else f"A {type(source).__name__}"
    if isinstance(source, Path) and source.suffix.lower() in _UNREAD:
        raise InputError(f"{given} is of a kind that is not read. {_UNREAD[source.suffix.lower()]}")
    wanted = "; ".join(form.wanted for form in FORMS)
    raise InputError(f"{given} is no dataset of a known form. Give one of: {wanted}.")


def _existing(text: str) -> Path:
    """Return a path that exists."""
    try:
        path = Path(text).expanduser()
        if path.exists():
            return path
    except RuntimeError as error:
        raise InputError(
            f"{text[:100]!r}: this user has no home that '~' could stand for. Give the whole path."
        ) from error
    except OSError as error:
        raise InputError(
            f"{shown(text)} is no path that can be opened: {error.strerror}. Give that of a folder "
            "or a file."
        ) from error
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", text)
    raise InputError(
        f"{shown(text)} does not exist. Give the path of a folder, a zip, a tar, a manifest or a "
        "Parquet file, or 'sklearn:digits' for a bundled example."
        + (f" For a dataset of the Hugging Face Hub, write 'hf:{text}'." if hub else "")
    )
