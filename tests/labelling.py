"""Labellers for the tests of builds: a quick one, and one for every way to fail.

They come into being anew in each worker, so that what they remember is in files. Their ``repr`` is
the code that makes them, by which they get into the processes that tests start.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from metad2a.protocol import Protocol
from search.labellers.base import LABELLERS, Labeller, Measurement

PATIENCE = 120.0
"""Seconds until a labeller that waits for a file gives up."""
_spoilt = False


@dataclass(frozen=True)
class Quick(Labeller):
    """An accuracy that is a hash of task, architecture and seed, after ``wait`` seconds.

    Notes the process that measures in the folder ``seen``, and waits for the file ``gate``.
    """

    name: str = "quick"
    wait: float = 0.0
    seen: str = ""
    gate: str = ""
    shared: bool = False

    @property
    def protocols(self):
        return (Protocol(self.name, "accuracy", f"The hash {self.name}."),)

    def measure(self, images, space, architectures, seed, device="cpu"):
        if self.seen:
            (Path(self.seen) / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        until = time.monotonic() + PATIENCE
        while self.gate and not Path(self.gate).exists():
            if time.monotonic() > until:
                raise TimeoutError("nobody opened the gate")
            time.sleep(0.02)
        base = int(images.data.train_x.long().sum())
        for one in architectures:
            time.sleep(self.wait)
            digest = hashlib.sha256(f"{self.name}/{base}/{one}/{seed}".encode()).digest()
            value = int.from_bytes(digest[:4]) / 2**32
            yield from self.rows(space, one, seed, value)

    def rows(self, space, one, seed, value):
        yield Measurement(self.name, one, seed, value, 0.1, (value / 2, value))


@dataclass(frozen=True)
class TwoProtocols(Quick):
    """A second protocol, a score that is undefined for cells whose first slot is a skip."""

    @property
    def protocols(self):
        return (*super().protocols, Protocol(f"{self.name}-score", "score", "Another hash."))

    def rows(self, space, one, seed, value):
        yield from super().rows(space, one, seed, value)
        if one[0] != 1:
            yield Measurement(f"{self.name}-score", one, seed, -value * 1e5, 0.1)


@dataclass(frozen=True)
class Faulty(Quick):
    """Fails in the way ``fault`` (see :data:`FAULTS`): always, or until the file ``once`` is there.

    ``once`` is made just before it fails; ``only`` is a task's number of classes, 0 for all tasks.
    """

    fault: str = "raises"
    once: str = ""
    only: int = 0

    def measure(self, images, space, architectures, seed, device="cpu"):
        if self.only in (0, images.classes) and not (self.once and Path(self.once).exists()):
            if self.once:
                Path(self.once).touch()
            FAULTS[self.fault]()
        if _spoilt:
            _spoil()
        if device != "cpu":
            _use(device)
        yield from super().measure(images, space, architectures, seed, device)


@dataclass(frozen=True)
class Trained(Labeller):
    """The training behind ``standalone``, shorter, and the trained weights to the last bit.

    Where a file ``first`` is given, the first job makes it, and the second then never ends.
    """

    first: str = ""

    @property
    def protocols(self):
        return (
            Protocol("trained", "accuracy", "A short training."),
            Protocol("weights", "score", "The sum of the trained weights, in float64."),
        )

    def measure(self, images, space, architectures, seed, device="cpu"):
        from metad2a.protocol import Standalone
        from search.labellers.standalone import train

        for one in architectures:
            done = train(images.data, space, one, seed, Standalone(steps=20), device)
            if self.first and Path(self.first).exists():
                _hang()
            weights = sum(float(each.double().sum()) for each in done.network.state_dict().values())
            yield Measurement("trained", one, seed, done.accuracy, done.seconds, done.curve)
            yield Measurement("weights", one, seed, weights, done.seconds)
        if self.first:
            Path(self.first).touch()


@dataclass(frozen=True)
class Wrong(Quick):
    """Measures one architecture after the other, the last one as ``value``; "nan" is no number."""

    value: str = "nan"

    def measure(self, images, space, architectures, seed, device="cpu"):
        *good, last = super().measure(images, space, architectures, seed, device)
        yield from good
        yield Measurement(self.name, last.architecture, seed, float(self.value), 0.1)


def _raise():
    raise RuntimeError("out of luck")


def _abort():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def _leave():
    sys.exit(0)


def _leave_at_once():
    os._exit(0)


def _be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def _hang():
    time.sleep(3600)


def _eat_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**26
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    bytearray(2**28)


def _spoil():
    """A GPU whose context is lost answers nothing more to the process."""
    global _spoilt  # noqa: PLW0603  (so does a real one)
    _spoilt = True
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def _break_the_gpu():
    import torch

    place = torch.tensor([5], device="cuda")
    torch.zeros(1, device="cuda")[place].cpu()  # an assertion on the device ends its context


def _use(device):
    import torch

    assert torch.ones(2, device=device).sum().item() == 2


FAULTS = {
    "raises": _raise,
    "aborts": _abort,
    "leaves": _leave,
    "leaves at once": _leave_at_once,
    "is killed": _be_killed,
    "hangs": _hang,
    "eats memory": _eat_memory,
    "spoils": _spoil,
    "breaks the GPU": _break_the_gpu,
}
"""Name of a way to fail to what does it."""


def run(labellers):
    """Run the command line of this process with more labellers."""
    from metad2a.cli import main

    for name, labeller in labellers.items():
        LABELLERS.register(name)(labeller)
    sys.exit(main())
