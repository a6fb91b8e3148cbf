"""``architecture.json``: all that is known of a network, for programs (docs/export.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError
from metad2a.export.design import Design
from metad2a.spaces.base import architecture_from_json

if TYPE_CHECKING:
    from metad2a.suggestion import Candidate, Measured

FORMAT_VERSION = 1


def to_json(candidate: Candidate | Design, weights: Mapping[str, str] | None = None) -> str:
    """Write a network's description.

    Args:
        candidate: as in :func:`metad2a.export.code`.
        weights: ``file`` and ``sha256`` of its weights, where they are kept beside.

    Raises:
        InputError: its trained network is of another make.
    """
    design = Design.of(candidate)
    accuracy, low, high = design.prediction or (None, None, None)
    data = {
        "format_version": FORMAT_VERSION,
        **design.space.to_json(design.architecture),
        "classes": design.classes,
        "macro": dict(design.macro),
        "resolution": design.side,
        "params": design.cost.params,
        "macs": design.cost.macs,
        "latency_ms": design.latency_ms,
        "prediction": None if accuracy is None else {"accuracy": accuracy, "interval": [low, high]},
        "measured": None if design.measured is None else asdict(design.measured),
        "reason": design.reason,
        "standardisation": None
        if design.standardisation is None
        else asdict(design.standardisation),
        "weights": None if weights is None else dict(weights),
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(data: Any) -> Design:
    """Read what :func:`to_json` wrote, without the weights; unknown keys are passed over.

    Args:
        data: the JSON value, which may be anybody's.

    Raises:
        InputError: a value is missing, of another type or out of its range.
    """
    if not isinstance(data, Mapping):
        raise _wrong("the whole", data, "an object")
    version = data.get("format_version", FORMAT_VERSION)
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise _wrong(
            "format_version",
            version,
            f"a whole number up to {FORMAT_VERSION}; for a newer one upgrade metad2a",
        )
    space, architecture = architecture_from_json(data)
    macro, prediction = _object(data, "macro") or {}, _object(data, "prediction")
    design = Design.new(space, architecture, data.get("classes"), **macro)
    reason = data.get("reason", "")
    if not isinstance(reason, str):
        raise _wrong("reason", reason, "a text")
    design = replace(design, reason=reason, measured=_measured(_object(data, "measured")))
    if data.get("latency_ms") is not None:
        [latency] = _numbers("latency_ms", [data["latency_ms"]], 1)
        design = replace(design, latency_ms=latency)
    if prediction is None:
        return design
    [accuracy] = _numbers("prediction.accuracy", [prediction.get("accuracy")], 1)
    low, high = _numbers("prediction.interval", prediction.get("interval"), 2)
    return replace(design, prediction=(accuracy, low, high))


def _measured(data: Mapping[str, Any] | None) -> Measured | None:
    from metad2a.suggestion import Measured

    if data is None:
        return None
    accuracy, seconds = _numbers(
        "measured.accuracy and measured.seconds", [data.get("accuracy"), data.get("seconds")], 2
    )
    protocol, curve = data.get("protocol"), data.get("curve", [])
    if not isinstance(protocol, str):
        raise _wrong("measured.protocol", protocol, "a text")
    return Measured(accuracy, protocol, seconds, _numbers("measured.curve", curve, None))


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = data.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(key, value, "an object or null")
    return value


def _numbers(key: str, values: Any, count: int | None) -> tuple[float, ...]:
    """Return finite numbers, as many as ``count`` says."""
    if (
        isinstance(values, list)
        and count in (None, len(values))
        and all(type(v) in (int, float) and abs(v) < 1e300 for v in values)
    ):
        return tuple(map(float, values))
    what = "finite numbers" if count is None else f"{count} finite number{'s'[: count > 1]}"
    raise _wrong(key, values, what)


def _wrong(key: str, value: object, expected: str) -> InputError:
    shown = repr(value)
    return InputError(
        f"The description of an architecture has {shown[:60]}"
        f"{'...' if len(shown) > 60 else ''} for {key}; it must be {expected}."
    )
