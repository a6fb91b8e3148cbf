"""A folder with all that is known of one network: written whole or not at all, and read again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a._files import new_folder, write_file
from metad2a.draw import svg
from metad2a.errors import ArtifactError, InputError
from metad2a.export.architecture_json import from_json, to_json
from metad2a.export.card_file import card
from metad2a.export.code_file import code
from metad2a.export.design import Design, skeleton
from metad2a.export.onnx_file import check_installed
from metad2a.export.onnx_file import onnx as write_onnx

if TYPE_CHECKING:
    from metad2a.suggestion import Candidate

ARCHITECTURE, WEIGHTS = "architecture.json", "model.safetensors"
FILES = (ARCHITECTURE, "model.py", "card.md", "architecture.svg", WEIGHTS, "model.onnx")
_LONGEST = 2**20
"""Bytes of a description; ours have some thousand."""


def save(candidate: Candidate | Design, folder: str | Path, *, onnx: bool = False) -> Path:
    """Write ``architecture.json``, ``model.py``, ``card.md``, ``architecture.svg`` and weights.

    Args:
        candidate: as in :func:`metad2a.export.code`. Where it holds a trained network,
            ``model.safetensors`` has its weights.
        folder: a new or an empty one, or one that an earlier call made, which is replaced.
        onnx: write ``model.onnx`` too; that takes from seconds to a minute, and the extra
            ``onnx``.

    Returns:
        The folder.

    Raises:
        InputError: the folder holds other files, or what :func:`metad2a.export.code` and
            :func:`metad2a.export.onnx` raise.
        ArtifactError: the folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    if onnx:
        check_installed()
    design = Design.of(candidate)
    texts = {
        "model.py": code(design),
        "card.md": card(design),
        "architecture.svg": svg(design.space, design.architecture),
    }
    with new_folder(folder, FILES) as made:
        kept = None
        if weights := design.weights():
            content = to_bytes(weights)
            write_file(made / WEIGHTS, content)
            kept = {"file": WEIGHTS, "sha256": hashlib.sha256(content).hexdigest()}
        texts[ARCHITECTURE] = to_json(design, kept)
        for name, text in texts.items():
            write_file(made / name, text.encode())
        if onnx:
            write_onnx(design, made / "model.onnx")
    return Path(folder)


def load(path: str | Path) -> Design:
    """Read a folder that :func:`save` made, or its ``architecture.json``, with the weights.

    Only these two files are opened.

    Raises:
        InputError: there is no description, or it is wrong.
        ArtifactError: the weights that it names are missing, damaged or of another network.
    """
    place = Path(path)
    place = place / ARCHITECTURE if place.is_dir() else place
    data = _read(place)
    design = from_json(data)
    weights = data.get("weights")
    if weights is None:
        return design
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    return _with_weights(design, place.with_name(WEIGHTS), digest, data.get("resolution"))


def _read(place: Path) -> Any:
    try:
        with place.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise InputError(
            f"{str(place)!r} cannot be read; give a folder made by `save`, or its {ARCHITECTURE}."
        ) from error
    try:
        if len(content) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST:,} bytes")
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{str(place)!r} is no JSON description of an architecture: {error}. "
            "Give one that was written by `save`."
        ) from error


def _with_weights(design: Design, place: Path, digest: object, side: object) -> Design:
    """Return a design with the network whose weights lie beside its description."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    from metad2a.export.standardised import StandardisedNetwork
    from metad2a.model.artifact import check_tensors

    try:
        content = place.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ArtifactError(
                f"{WEIGHTS} is damaged or of another network: its SHA-256 is not "
                f"the one in {ARCHITECTURE}. Save the candidate again."
            )
        tensors = from_bytes(content)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"{WEIGHTS}, which {ARCHITECTURE} names, is missing or cannot be "
            "read. Take both from one folder."
        ) from error
    network = skeleton(design.space, design.architecture, design.classes, design.macro)
    if {"mean", "deviation"} <= tensors.keys():
        if type(side) is not int or not 1 <= side <= 4096:
            raise InputError(
                f"The description has {side!r:.60} for resolution; it must be a "
                "whole number of pixels from 1 to 4096."
            )
        blank = torch.empty(1, 3, 1, 1, device="meta")
        network = StandardisedNetwork(network, blank, blank.clone(), side)
    check_tensors(network.state_dict(), tensors)
    network.load_state_dict(tensors, assign=True)
    return replace(design.trained(network.eval()), measured=design.measured)
