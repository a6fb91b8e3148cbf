"""What ``config.json`` of a model may say, checked before anything is made from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from metad2a.errors import ArtifactError
from metad2a.model.predictor import PredictorConfig
from metad2a.model.set_encoder import HEADS
from metad2a.model.wording import listed
from metad2a.spaces import SPACES

_KEYS = ("space", "protocol", "predictor")
_LARGEST = 4096
_MOST_LAYERS = 32
"""Most members and most rounds: each is made of Python objects, even where nothing is allocated."""


def check_config(config: Mapping[str, Any]) -> PredictorConfig:
    """Return the sizes that a model's config asks for.

    Args:
        config: JSON values, without the folder's own keys.

    Raises:
        ArtifactError: lists all that is wrong: keys missing or unknown, values of another type or
            out of range, a space that is not known here.
    """
    sizes = config.get("predictor", {})
    problems = _keys("", config, _KEYS)
    if isinstance(sizes, dict):
        fields = [field.name for field in dataclasses.fields(PredictorConfig)]
        problems += _keys("predictor.", sizes, fields)
        problems += [text for key, value in sizes.items() if (text := _size(key, value))]
    else:
        problems.append("'predictor' is not an object")
    problems += [
        f"{key!r} is not a string"
        for key in ("space", "protocol")
        if not isinstance(config.get(key, ""), str)
    ]
    if not problems:
        problems += _space(config["space"], sizes["node_features"])
    if problems:
        raise ArtifactError(
            listed("The model's config.json does not fit this version of metad2a", problems)
            + "\nUse a model made for this version, or model=None for the one inside the package."
        )
    return PredictorConfig(**{**sizes, "scores": tuple(sizes["scores"])})


def _keys(prefix: str, found: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    missing = [f"missing key '{prefix}{key}'" for key in wanted if key not in found]
    return missing + [f"unknown key '{prefix}{key}'" for key in found if key not in wanted]


def _size(key: str, value: object) -> str:
    """Return what is wrong with a size, or nothing."""
    if key == "scores":
        wanted = "a list of names"
        fine = (
            isinstance(value, list)
            and 0 < len(value) < 100
            and all(isinstance(name, str) for name in value)
        )
    else:
        most = _MOST_LAYERS if key in ("members", "graph_rounds") else _LARGEST
        step = HEADS if key == "set_width" else 1
        wanted = f"1 to {most}" if step == 1 else f"a multiple of {step} up to {most}"
        fine = type(value) is int and 0 < value <= most and value % step == 0
    return "" if fine else f"'predictor.{key}' is {str(value)[:60]!r}; it must be {wanted}"


def _space(name: str, node_features: int) -> list[str]:
    if name not in SPACES.names():
        return [f"space {name!r} is unknown here ({', '.join(SPACES.names())})"]
    features = len(SPACES.get(name).node_features)
    if node_features != features:
        return [f"'predictor.node_features' is {node_features}; the space {name!r} has {features}"]
    return []
