"""The one entrance for data: whatever the user has becomes an :class:`ImageDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metad2a.datasets.base import FORMS, EncodedDataset, ImageDataset
from metad2a.datasets.sandbox import SandboxedDataset
from metad2a.errors import InputError


def load_dataset(
    source: Any,
    labels: Any = None,
    *,
    classes: Sequence[str] | None = None,
    sandbox: bool = False,
) -> ImageDataset:
    """List labelled images of any known form; none is decoded yet.

    Args:
        source: the path of a class-folder tree, an archive of one, an image Parquet, or a CSV or
            JSONL manifest; a Hugging Face ``Dataset`` or ``DatasetDict``; a torch ``Dataset``;
            ``(images, labels)``; ``"sklearn:digits"``; or what this returns.
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
    dataset = source if isinstance(source, ImageDataset) else _open(source)
    if not sandbox or not isinstance(dataset, EncodedDataset):
        return dataset
    return dataset if isinstance(dataset, SandboxedDataset) else SandboxedDataset(dataset)


def _open(source: Any) -> ImageDataset:
    """Open a source with the form that accepts it."""
    if isinstance(source, (str, Path)) and not str(source).startswith("sklearn:"):
        source = Path(source).expanduser()
        if not source.exists():
            raise InputError(
                f"{str(source)!r} does not exist. Give the path of a folder, a zip, "
                "a tar, a manifest or a Parquet file, or 'sklearn:digits' for a "
                "bundled example."
            )
    for form in FORMS:
        if form.accepts(source):
            return form.open(source)
    given = repr(str(source)) if isinstance(source, Path) else f"A {type(source).__name__}"
    wanted = "; ".join(form.wanted for form in FORMS)
    raise InputError(f"{given} is no dataset of a known form. Give one of: {wanted}.")
