"""Files that endpoints and fields take: what was uploaded here and nothing else."""

from __future__ import annotations

from typing import Any

import gradio as gr

from metad2a.page.uploads import Uploads


def only_uploads(component: Any, uploads: Uploads) -> None:
    """Make a component take uploads alone, and leave no file of its own behind.

    Gradio's components download any address that is given in the place of an upload, without a
    limit of size, and its file field leaves an empty file in its folder each time that it is read.
    """

    def resolve(path: Any) -> str:
        """Return the path of an upload; it lies where it should already."""
        if "://" not in str(path):
            return str(path)
        found = uploads.at_address(str(path))
        if found is None:
            raise gr.Error("Addresses are not opened here. Upload the file.", print_exception=False)
        return found

    reads_files = isinstance(component, gr.File)
    # On the object: for a class of ours, Gradio would write a stub file beside this module.
    component.move_resource_to_block_cache = resolve
    if reads_files:
        component.preprocess = _path


def _path(payload: Any) -> str | None:
    return None if payload is None else str(payload.path)
