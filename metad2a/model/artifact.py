"""The model folder: four files, the same on disk and on the Hub, none of them a pickle.

``config.json`` says what the network is, ``model.safetensors`` holds its weights, ``README.md`` is
the model card and ``golden.json`` the answers expected on tiny synthetic datasets. Anything else in
the folder is never opened. ``config.json`` also carries the format's version and the digest of the
weights, so that a cut download, a damaged disk or files of two different models are noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.errors import ArtifactError
from metad2a.model.wording import listed

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 2
CONFIG, WEIGHTS, CARD, GOLDEN = "config.json", "model.safetensors", "README.md", "golden.json"
FILES = (CONFIG, WEIGHTS, CARD, GOLDEN)
KNOWN = "known.json"
"""What the model learnt from (``metad2a.model.known``): a fifth file, which may be absent."""
VERSION_KEY, DIGEST_KEY = "format_version", "weights_sha256"
"""The keys of ``config.json`` that are the folder's own."""
_LARGEST_TEXT = 16 * 2**20
"""Bytes of the largest config, card or golden file that is read; ours have a few thousand."""


@dataclass(frozen=True)
class Artifact:
    """What a model folder holds, in memory."""

    config: dict[str, Any]
    """JSON values that describe the network; without the folder's own two keys."""
    tensors: dict[str, Tensor]
    """Weights by name, on the CPU, all finite."""
    card: str
    """The model card, Markdown."""
    golden: dict[str, Any]
    """Expected answers, JSON values."""


def save_artifact(folder: str | Path, artifact: Artifact) -> None:
    """Write the four files into ``folder``, which is made if need be.

    Each file is replaced whole or not at all; ``config.json`` comes last and names the digest of
    the weights, so a save that is cut between two files is refused by :func:`load_artifact`.

    Raises:
        ArtifactError: a tensor is not finite, or the config uses one of the folder's own keys.
    """
    from safetensors.torch import save

    reserved = sorted({VERSION_KEY, DIGEST_KEY} & set(artifact.config))
    problems = [f"the config key {key!r} is reserved for the folder" for key in reserved]
    problems += _not_finite(artifact.tensors)
    if problems:
        raise ArtifactError(listed("The model cannot be saved", problems))
    weights = save({name: t.detach().cpu().contiguous() for name, t in artifact.tensors.items()})
    head = {VERSION_KEY: FORMAT_VERSION, DIGEST_KEY: hashlib.sha256(weights).hexdigest()}
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    _write(place / WEIGHTS, weights)
    _write(place / CARD, artifact.card.encode())
    _write(place / GOLDEN, _to_json(artifact.golden))
    _write(place / CONFIG, _to_json(head | artifact.config))


def load_artifact(folder: str | Path) -> Artifact:
    """Read a model folder, strictly.

    Which keys the config must have, and which tensors, is for the caller to check (see
    :func:`check_tensors`); everything that is true of every model is checked here.

    Raises:
        ArtifactError: lists all that is wrong: files missing, JSON or weights damaged, a newer
            format, tensors that are not finite.
    """
    place = Path(folder)
    problems = [f"{name} is missing" for name in FILES if not (place / name).is_file()]
    config = _read_json(place / CONFIG, problems)
    golden = _read_json(place / GOLDEN, problems)
    card = _read_text(place / CARD, problems)
    version = config.pop(VERSION_KEY, None)
    digest = config.pop(DIGEST_KEY, None)
    if not problems:
        problems += _check_version(version)
    tensors = {} if problems else _read_weights(place / WEIGHTS, digest, problems)
    if problems:
        raise ArtifactError(
            listed(f"{str(folder)!r} is not a usable model folder", problems)
            + f"\nA model folder holds {', '.join(FILES)}. Save it again, or download it again "
            "with `metad2a models pull`."
        )
    return Artifact(config, tensors, card, golden)


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read ``config.json`` alone, with the folder's own two keys; no value is checked.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    path = Path(folder) / CONFIG
    problems = [] if path.is_file() else [f"{CONFIG} is missing"]
    config = _read_json(path, problems)
    if problems:
        raise ArtifactError(listed("The config of the model cannot be read", problems))
    return config


def is_ours(config: Mapping[str, Any]) -> bool:
    """Tell whether a ``config.json`` is of this format, of whatever version."""
    return {VERSION_KEY, DIGEST_KEY} <= config.keys()


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and dtypes with those of the network that the config describes.

    Args:
        expected: usually a ``state_dict()``; values are not read, so it may lie on the ``meta``
            device, where a config that asks for a huge network allocates nothing.
        found: the tensors of the folder.

    Raises:
        ArtifactError: lists every tensor that is missing, unknown or of another shape or dtype.
    """
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        want, have = expected[name], found[name]
        if want.shape != have.shape:
            problems.append(f"{name} has shape {tuple(have.shape)}, expected {tuple(want.shape)}")
        if want.dtype != have.dtype:
            problems.append(f"{name} is {have.dtype}, expected {want.dtype}")
    if problems:
        raise ArtifactError(
            listed("The weights do not fit the config", sorted(problems))
            + "\nThe two files are of different models or versions; take both from one folder."
        )


def _check_version(version: object) -> list[str]:
    if type(version) is not int or version < 1:
        return [f"{CONFIG} has {VERSION_KEY} {version!r}, expected a whole number from 1 on"]
    if version > FORMAT_VERSION:
        return [
            f"{CONFIG} has {VERSION_KEY} {version}, this installation reads up to "
            f"{FORMAT_VERSION}: upgrade metad2a"
        ]
    return []


def _read_weights(path: Path, digest: object, problems: list[str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != actual:
        problems.append(
            f"{WEIGHTS} is damaged, cut short or of another model: its SHA-256 is {actual}, "
            f"{CONFIG} says {digest}"
        )
        return {}
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        problems.append(f"{WEIGHTS} cannot be read: {error}")
        return {}
    problems += _not_finite(tensors)
    return tensors


def _not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} holds values that are not finite"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]


def _read_text(path: Path, problems: list[str]) -> str:
    if not path.is_file():
        return ""
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            problems.append(
                f"{path.name} has {path.stat().st_size:,} bytes, more than the "
                f"{_LARGEST_TEXT:,} that are read"
            )
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path.name} cannot be read as UTF-8 text: {error}")
        return ""


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    before = len(problems)
    text = _read_text(path, problems)
    if not path.is_file() or len(problems) > before:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} is not JSON: {error}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name} holds a {type(value).__name__}, expected an object")
        return {}
    return value


def _to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Replace ``path`` in one step; a crash leaves the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; a model folder is as readable as its neighbours.
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
