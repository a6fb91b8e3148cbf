"""Copies of networks: what :func:`copy.deepcopy` returns, in a third of its time.

A supernet has hundreds of modules, each with a dozen dicts of hooks that are empty and numbers that
never change. To look at each of them takes longer than to train a small supernet for a step.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)

_PLAIN = frozenset({bool, int, float, str, type(None)})  # never change: they may be shared


def copied(network: Network) -> Network:
    """Return a copy of a network that shares nothing with it that could change."""
    return _copied(network, {})


def _copied(module: Network, known: dict[int, Any]) -> Network:
    """Return the one copy of a module; ``known`` is the memo of :func:`copy.deepcopy`."""
    if id(module) in known:
        found: Network = known[id(module)]
        return found
    made = known[id(module)] = module.__new__(type(module))
    state = vars(made)
    for name, value in vars(module).items():
        if type(value) in _PLAIN:
            state[name] = value
        elif name == "_modules":
            state[name] = {
                child: None if part is None else _copied(part, known)
                for child, part in value.items()
            }
        elif not value and isinstance(value, dict | list | set):
            state[name] = type(value)()
        else:
            state[name] = copy.deepcopy(value, known)
    return made
