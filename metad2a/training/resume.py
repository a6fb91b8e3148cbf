"""A training that was stopped, as one file without pickle: tensors, and facts as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metad2a._files import write_file
from metad2a.errors import ArtifactError


def save(path: Path, state: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write what :meth:`Training.state` returned, and facts beside it.

    Raises:
        ArtifactError: the file cannot be written.
    """
    from safetensors.torch import save as encode

    tensors: dict[str, Any] = {}
    for part in ("network", "averaged"):
        tensors |= {f"{part}/{name}": t.contiguous() for name, t in state[part].items()}
    for number, entry in state["optimiser"].items():
        tensors |= {f"optimiser/{number}/{name}": t.contiguous() for name, t in entry.items()}
    told = {"facts": facts, "done": state["done"], "steps": state["steps"]}
    write_file(path, encode(tensors, {"training": json.dumps(told)}))


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what :func:`save` wrote: the parts of a state, and the facts.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads(file.metadata()["training"])
            state: dict[str, Any] = {
                "network": {},
                "averaged": {},
                "optimiser": {},
                "done": int(told["done"]),
                "steps": int(told["steps"]),
            }
            for key in file.keys():  # noqa: SIM118  (no mapping)
                part, name = key.split("/", 1)
                if part == "optimiser":
                    number, name = name.split("/")
                    state[part].setdefault(int(number), {})[name] = file.get_tensor(key)
                else:
                    state[part][name] = file.get_tensor(key)
            return state, dict(told["facts"])
    except FileNotFoundError as error:
        raise ArtifactError(
            f"There is no stopped training {str(path)!r} to go on with. Start without resuming."
        ) from error
    except Exception as error:
        raise ArtifactError(
            f"The stopped training {str(path)!r} cannot be read: {error}. Remove the file, and "
            "start anew."
        ) from error
