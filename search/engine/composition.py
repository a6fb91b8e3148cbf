"""Methods by name and in composition: ``"dropnas"``, ``"dropnas+curriculum+pwsnas"``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metad2a.errors import InputError
from metad2a.registry import suggest_name
from metad2a.spaces import SearchSpace
from search.engine.method import METHODS, WRAPPERS, Method, Phase, Wrapper


@dataclass(frozen=True)
class Stage:
    """A phase and the part of the training budget that it takes, as fractions from 0 to 1."""

    phase: Phase
    start: float
    end: float


@dataclass(frozen=True)
class Composition:
    """One method and the wrappers around it, in the order in which they were named."""

    name: str
    method: Method
    wrappers: tuple[Wrapper, ...]

    def stages(self) -> list[Stage]:
        """Return the phases in order: those of the wrappers, then the method."""
        left = 1 - sum(w.share for w in self.wrappers if w.phase is not None)
        parts = [(w.phase, w.share) for w in self.wrappers if w.phase is not None]
        stages, start = [], 0.0
        for phase, share in [*parts, (self.method, left)]:
            stages.append(Stage(phase, start, start + share))
            start += share
        return stages

    def check(self, space: SearchSpace) -> None:
        """Refuse a space in which a part makes no sense.

        Raises:
            InputError: names the part and the reason.
        """
        parts: list[Method | Wrapper] = [self.method, *self.wrappers]
        for name, part in zip(self.name.split("+"), parts, strict=True):
            reason = part.unfit(space)
            if reason:
                raise InputError(f"{name!r} does not work in the space {space.name!r}: {reason}")


def compose(
    name: str, options: Mapping[str, Any] | None = None, faithful: bool = False
) -> Composition:
    """Make a method and its wrappers.

    Args:
        name: one method and any wrappers, joined by ``+``, in any order.
        options: settings of the parts, ``{"dropnas.rate": 1e-5}``; text is read as the type of
            the default.
        faithful: restore the quirks of published code, where a part has any.

    Raises:
        InputError: an unknown part or option, no method or two, a part named twice, or a
            composition that makes no sense, with the reason.
    """
    parts = [part.strip() for part in name.split("+")]
    known = [*METHODS.names(), *WRAPPERS.names()]
    for part in parts:
        if part not in known:
            raise InputError(f"Unknown search method {part!r}.{suggest_name(part, known)}")
        if parts.count(part) > 1:
            raise InputError(f"{name!r} names {part!r} twice; name it once.")
    methods = [part for part in parts if part in METHODS.names()]
    if len(methods) != 1:
        found = " and ".join(map(repr, methods)) if methods else "none"
        raise InputError(
            f"{name!r} needs exactly one method, and has {found}. Wrappers such as "
            f"{WRAPPERS.names()[0]!r} go around one of: {', '.join(METHODS.names())}."
        )
    given = _by_part(options or {}, parts)
    method = _make(METHODS.get(methods[0]), methods[0], given, faithful)
    around = [part for part in parts if part != methods[0]]
    wrappers = tuple(_make(WRAPPERS.get(part), part, given, faithful) for part in around)
    for part, wrapper in zip(around, wrappers, strict=True):
        reason = wrapper.refuse(method)
        if reason:
            raise InputError(f"{methods[0]!r} cannot be combined with {part!r}: {reason}")
    return Composition("+".join([methods[0], *around]), method, wrappers)


def settings(plugin: type) -> dict[str, Any]:
    """Return the options of a method or wrapper with their defaults, but for ``faithful``."""
    found = inspect.signature(plugin).parameters
    return {n: p.default for n, p in found.items() if n != "faithful"}


def _by_part(options: Mapping[str, Any], parts: list[str]) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for key, value in options.items():
        part, _, option = key.partition(".")
        if part not in given or not option:
            raise InputError(
                f"Option {key!r} belongs to no part of {'+'.join(parts)!r}; write it "
                f"as PART.OPTION, for example {parts[0]!r} + '.' + its option."
            )
        given[part][option] = value
    return given


def _make(plugin: type, name: str, given: Mapping[str, dict[str, Any]], faithful: bool) -> Any:
    """Create a part with its options, each converted to the type of its default."""
    known = settings(plugin)
    values = {}
    for option, value in given[name].items():
        if option not in known:
            raise InputError(
                f"{name!r} has no option {option!r}."
                + (suggest_name(option, list(known)) if known else " It has none.")
            )
        values[option] = _convert(f"{name}.{option}", value, known[option])
    if "faithful" in inspect.signature(plugin).parameters:
        values["faithful"] = faithful
    return plugin(**values)


def _convert(name: str, value: Any, default: Any) -> Any:
    kind = type(default)
    if not isinstance(default, (bool, int, float, str)):
        return value  # tasks and the like, given from Python
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if kind is int and float(value) != int(float(value)):
            raise ValueError(value)
        return kind(float(value)) if kind is int else kind(value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise InputError(
            f"Option {name}={value!r} must be {wanted}; its default is {default}."
        ) from error
