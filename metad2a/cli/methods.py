"""``metad2a methods``: the plug-ins that search and the database builder can use."""

from __future__ import annotations

import inspect
import math
from argparse import ArgumentParser, Namespace
from typing import Any

from metad2a.cli.common import add_json, answer, columns
from metad2a.registry import Registry


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_json(parser)


def run(args: Namespace) -> int:
    """Print each plug-in with the first line of its documentation."""
    from search.engine.composition import settings
    from search.engine.method import METHODS, WRAPPERS
    from search.labellers.base import LABELLERS
    from search.scores.base import EVALUATORS

    found = {
        "methods": _described(METHODS),
        "wrappers": _described(WRAPPERS),
        "evaluators": _described(EVALUATORS),
        "labellers": _described(LABELLERS),
    }
    for one in found["labellers"]:
        one["protocols"] = [
            {"name": protocol.name, "kind": protocol.kind, "description": protocol.description}
            for protocol in LABELLERS.get(one["name"]).protocols
        ]
    for kind, registry in (("methods", METHODS), ("wrappers", WRAPPERS)):
        for one in found[kind]:
            options = settings(registry.get(one["name"]))
            one["options"] = {name: _plain(default) for name, default in options.items()}
    parts = [
        f"{kind}\n" + columns([("", one["name"], one["description"]) for one in plugins])
        for kind, plugins in found.items()
    ]
    answer(args, found, "\n\n".join(parts))
    return 0


def _plain(default: Any) -> bool | int | float | str | None:
    """Return a default as JSON can hold it; None for what can only be given from Python."""
    if isinstance(default, float) and not math.isfinite(default):
        return str(default)
    return default if isinstance(default, (bool, int, float, str)) else None


def _described(registry: Registry[Any]) -> list[dict[str, Any]]:
    described = []
    for name in registry.names():
        item = registry.get(name)
        text = inspect.getdoc(item if inspect.isclass(item) else type(item)) or ""
        described.append({"name": name, "description": text.split("\n")[0].replace("``", "")})
    return described
