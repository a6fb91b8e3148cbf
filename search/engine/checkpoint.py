"""Checkpoints: one safetensors file whose header carries a JSON note. No pickle.

One file, so that tensors and note can never come from two different moments; it is written beside
its place and then moved there, so that a crash leaves the previous checkpoint whole. Tensors have
names; those of a part have its name before theirs.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metad2a.errors import ArtifactError, InputError

FORMAT = 2
_KEY = "metad2a-checkpoint"


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Write atomically.

    Args:
        path: the file; its folder is made where it is missing.
        tensors: name to tensor, on any device and in any memory order.
        identity: JSON values that say which run this is; reading it back requires the same.
        facts: JSON values that describe how far the run is.

    Raises:
        ArtifactError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    note = json.dumps({"format": FORMAT, "identity": dict(identity), "facts": dict(facts)})
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, temporary, metadata={_KEY: note})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"Cannot write the checkpoint {path}: {error}. Check that the folder "
            "is writable and the disk has room."
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it is gone when all went well
            temporary.unlink()


def is_there(path: Path) -> bool:
    """Whether there is a checkpoint; in a folder that may not be looked into there is none."""
    try:
        return path.exists()
    except OSError:
        return False


def read_checkpoint(
    path: Path, identity: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors (on the CPU) and facts of a checkpoint of exactly this run.

    Raises:
        ArtifactError: the file is missing, damaged, no checkpoint, or of another format.
        InputError: it belongs to another run; the message names what differs.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version, found, facts = note["format"], dict(note["identity"]), dict(note["facts"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not a readable checkpoint ({type(error).__name__}: "
            f"{error}). Delete it to start afresh."
        ) from error
    if version != FORMAT:
        raise ArtifactError(
            f"Checkpoint {path} has format {version!r}, this version reads "
            f"{FORMAT}. Delete it to start afresh, or use the version that wrote "
            "it."
        )
    # Compared as JSON, since a tuple comes back as a list.
    wanted = json.loads(json.dumps(dict(identity)))
    differing = [
        f"{key}={found.get(key)!r} there, {wanted.get(key)!r} here"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key) != wanted.get(key)
    ]
    if differing:
        raise InputError(
            f"Checkpoint {path} belongs to another run ({'; '.join(differing)}). "
            "Use the same settings and data, another file, or delete it."
        )
    return tensors, facts


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names ``prefix.name``."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named ``prefix.name``, by name."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def momentum(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser keeps of each parameter, as ``parameter.what``."""
    return {
        f"{name}.{what}": value
        for name, parameter in network.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
        if value is not None
    }


def load_momentum(
    network: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Take over what :func:`momentum` returned, in the memory order of the parameters.

    Raises:
        KeyError: there is no such parameter.
    """
    parameters = dict(network.named_parameters())
    for name, value in tensors.items():
        owner, _, what = name.rpartition(".")
        parameter = parameters[owner]
        # A number of steps lies where fused optimisers want it.
        kept = torch.empty_like(parameter) if value.dim() else torch.empty_like(value)
        optimiser.state[parameter][what] = kept.copy_(value).detach().to(parameter.device)
