"""Labellers: what can be measured of an architecture on a task, each under a named protocol.

A protocol is a frozen recipe: its name stands for every hyper-parameter. Changing one is a new
name, so that old and new rows never mix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metad2a.protocol import Protocol
from metad2a.registry import Registry
from metad2a.spaces import Architecture, SearchSpace
from search.data import TaskImages


@dataclass(frozen=True)
class Measurement:
    """One value of one architecture under one protocol.

    ``curve`` holds a learning curve (test accuracy 0..1, at moments that the protocol fixes) where
    there is one.
    """

    protocol: str
    architecture: Architecture
    seed: int
    value: float
    seconds: float
    curve: tuple[float, ...] = ()


class Labeller(ABC):
    """Measures architectures on a task under one or several protocols."""

    protocols: tuple[Protocol, ...]
    shared: bool = False
    """Whether the architectures of a task share its work, and are best measured all at once."""

    @abstractmethod
    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield a measurement for every protocol and architecture, in order of architectures.

        A score that is undefined for an architecture (a dead cell, say) is not yielded.
        """


LABELLERS: Registry[Labeller] = Registry("labeller", "search.labellers")
