"""``model.onnx``: the network in evaluation mode for ONNX Runtime and its like."""

from __future__ import annotations

import contextlib
import io
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a._files import new_file
from metad2a.errors import InputError
from metad2a.export.design import Design

if TYPE_CHECKING:
    from metad2a.suggestion import Candidate

INPUT, OUTPUT = "images", "logits"
_PACKAGES = ("onnx", "onnxscript")
_MOST_BYTES = 2**31
"""Of one ONNX file, which is a protocol buffer."""


def onnx(candidate: Candidate | Design, path: str | Path) -> None:
    """Write the network as one ONNX file, by ``torch.export``.

    Its input ``images`` is float32 (batch, 3, side, side) with any batch, its output ``logits``
    float32 (batch, classes). It takes from seconds to a minute.

    Args:
        candidate: as in :func:`metad2a.export.code`. An untrained network gets the weights of
            seed 0.
        path: the file, replaced whole or not at all.

    Raises:
        InputError: the packages of the extra ``onnx`` are missing, the network is too large for
            one file, or its trained network is of another make.
        ArtifactError: the file cannot be written.
    """
    check_installed()
    design = Design.of(candidate)
    size = 4 * design.cost.params
    if size >= _MOST_BYTES:
        raise InputError(
            f"A network of {design.cost.params:,} parameters does not fit into one "
            f"ONNX file, which holds less than {_MOST_BYTES:,} bytes; choose fewer "
            "channels or cells."
        )
    import torch

    # The exporter warns of its own workings, and with some versions of onnxscript it prints.
    with (
        new_file(path) as made,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            design.build().eval(),
            (torch.zeros(2, 3, design.side, design.side),),
            made,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )


def check_installed() -> None:
    """Refuse where the packages that ONNX files are written with are missing.

    Raises:
        InputError: names them and the remedy.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"ONNX files need {' and '.join(missing)}, not installed here: "
            "pip install 'metad2a[onnx]'"
        )
