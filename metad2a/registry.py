"""Plug-ins found by name: a file in the right folder is all that it takes to add one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from metad2a.errors import InputError

T = TypeVar("T")


def suggest_name(name: str, known: list[str]) -> str:
    """Return a "did you mean" sentence for an unknown ``name`` and list what is ``known``."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{hint} Known: {', '.join(known)}."


class Registry(Generic[T]):
    """Named plug-ins of one kind, loaded from the modules of one package on first use."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._items: dict[str, T] = {}
        self._loaded = False
        self._loading = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its object under ``name``.

        Raises:
            ValueError: two plug-ins claim the same name.
        """

        def decorate(item: T) -> T:
            if name in self._items:
                raise ValueError(f"{self.kind} {name!r} is registered twice; rename one of them.")
            self._items[name] = item
            return item

        return decorate

    def _load(self) -> None:
        if self._loaded:
            return
        # Another thread waits until all are there; a plug-in that looks itself up does not.
        with self._loading:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            self._loaded = True

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        self._load()
        return sorted(self._items)

    def get(self, name: str) -> T:
        """Return the plug-in called ``name``.

        Raises:
            InputError: there is none; the message offers the nearest name.
        """
        self._load()
        if name not in self._items:
            raise InputError(f"Unknown {self.kind} {name!r}.{suggest_name(name, self.names())}")
        return self._items[name]

    def __iter__(self) -> Iterator[T]:
        return iter([self.get(name) for name in self.names()])
