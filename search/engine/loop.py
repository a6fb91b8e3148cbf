"""The loop: phases one after another within a budget, with progress, checkpoints and an end."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from metad2a.errors import ArtifactError
from search.engine.checkpoint import (
    is_there,
    load_momentum,
    momentum,
    read_checkpoint,
    under,
    with_prefix,
    write_checkpoint,
)
from search.engine.composition import Composition
from search.engine.method import Ranking, Stateful
from search.engine.run import Run

_SAVE_SECONDS = 60.0
_COUNTERS = (
    "phase",
    "steps",
    "images",
    "rate_scale",
    "batch_limit",
    "batch_fit",
    "bad_steps",
    "macro",
    "cursors",
    "history",
)


@dataclass(frozen=True)
class Progress:
    """How far a search is."""

    fraction: float
    """Of the budget, 0 to 1."""
    stage: str
    """The class name of the phase, or ``"judging"`` after the training."""
    loss: float
    """Of the last step; NaN before the first."""
    images: int
    seconds: float


class Engine:
    """Conducts a run of a composition.

    Args:
        run: the state.
        composed: the method and its wrappers.
        identity: JSON values that say which run this is; a checkpoint of another one is refused.
        checkpoint: a file to go on from where it exists; written every minute, when the search is
            cancelled and at the end of the training. One that cannot be written is warned of.
        progress: told after each step.

    Raises:
        InputError: the checkpoint is of another run.
        ArtifactError: the checkpoint is damaged, or of another format.
    """

    def __init__(
        self,
        run: Run,
        composed: Composition,
        identity: dict[str, Any],
        checkpoint: Path | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.run, self.composed, self.identity = run, composed, identity
        self.checkpoint, self.progress = checkpoint, progress
        self.stages = composed.stages()
        self.loss = math.nan
        run.method = composed.method
        run.resumed = checkpoint is not None and is_there(checkpoint)
        for wrapper in composed.wrappers:
            wrapper.begin(run)
        if checkpoint is not None and run.resumed:
            load_run(run, composed, checkpoint, identity, self._enter)
        else:
            self._enter(0)

    def train(self) -> bool:
        """Spend the training budget; False where the run was cancelled before."""
        saved_at, paces = time.monotonic(), [0.0]
        while not self.run.stop():
            # Half a step over is nearer than half under; one slow step is no measure.
            fraction = self._fraction(min(paces) / 2)
            if fraction >= 1:
                break
            while fraction >= self.stages[self.run.phase].end:
                self.run.end_phase()
                self.stages[self.run.phase].phase.finish(self.run)
                self._enter(self.run.phase + 1)
            stage = self.stages[self.run.phase]
            self.run.fraction = (fraction - stage.start) / (stage.end - stage.start)
            before = time.monotonic()
            self.loss = self.run.advance(stage.phase)
            for wrapper in self.composed.wrappers:
                wrapper.after_step(self.run)
            took = time.monotonic() - before
            paces = [*paces, took][-2:]
            self.run.fit_batch(took)
            self.run.record(self.loss)
            self._tell(type(stage.phase).__name__, fraction)
            if time.monotonic() - saved_at > _SAVE_SECONDS:
                self._save()
                saved_at = time.monotonic()
        self._save()
        return self._fraction(0) >= 1 or not self.run.stop()

    def judge(self) -> Ranking:
        """Let the method name the winner."""
        while self.run.phase < len(self.stages) - 1:  # cancelled, or a budget of a few steps
            self._enter(self.run.phase + 1)
        self.run.begin_judging()
        self._tell("judging", 1.0)
        return self.composed.method.derive(self.run)

    def _fraction(self, ahead: float) -> float:
        budget = self.run.budget
        reserve = self.composed.method.judging(budget.limit) + self.run.delivery
        return budget.fraction(self.run.images, reserve, ahead)

    def _enter(self, number: int) -> None:
        self.run.phase, self.run.fraction = number, 0.0
        phase = self.run.current = self.stages[number].phase
        self.run.begin_phase(phase.training)
        phase.begin(self.run)

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        try:
            save_run(self.run, self.composed, self.checkpoint, self.identity)
        except ArtifactError as error:  # What has been found is worth more than going on later.
            warnings.warn(f"{error} The search goes on without it.", stacklevel=2)
            self.checkpoint = None

    def _tell(self, stage: str, fraction: float) -> None:
        if self.progress is not None:
            run = self.run
            self.progress(Progress(fraction, stage, self.loss, run.images, run.budget.elapsed))


def save_run(run: Run, composed: Composition, path: Path, identity: dict[str, Any]) -> None:
    """Write the run's state, and that of its phase and wrappers.

    Raises:
        ArtifactError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {name: getattr(run, name) for name in _COUNTERS}
    facts |= {
        "spent": run.budget.elapsed,
        "mask": run.subspace.mask.tolist(),
        "supernet": run.has_supernet,
        "parts": {},
    }
    if run.has_supernet:
        facts["clones"] = run.supernet.clones
        for name, network in (("network", run.network), ("initial", run.initial)):
            tensors |= with_prefix(name, network.state_dict())
        tensors |= with_prefix("momentum", momentum(run.network, run.optimiser))
    for name, part in _parts(run, composed).items():
        tensors |= with_prefix(name, part.tensors())
        facts["parts"][name] = part.facts()
    write_checkpoint(path, tensors, identity, facts)


def load_run(
    run: Run,
    composed: Composition,
    path: Path,
    identity: dict[str, Any],
    enter: Callable[[int], None],
) -> None:
    """Make a fresh run go on where the checkpoint's stopped.

    Args:
        run: as it is before its first step.
        composed: its method and wrappers.
        path: the checkpoint.
        identity: of this run.
        enter: begins the phase of a number.

    Raises:
        InputError: the checkpoint belongs to another run.
        ArtifactError: it is damaged, of another format, or does not fit.
    """
    tensors, facts = read_checkpoint(path, identity)
    try:
        enter(int(facts["phase"]))
        for name in _COUNTERS:
            setattr(run, name, facts[name])
        run.budget.spent = float(facts["spent"])
        run.subspace.mask = np.array(facts["mask"], dtype=bool)
        if facts["supernet"]:
            run.renew(**run.macro)
            for slot, operation, by in facts["clones"]:
                run.clone(slot, operation, by)
            run.network.load_state_dict(under("network", tensors))
            run.initial.load_state_dict(under("initial", tensors))
            load_momentum(run.network, run.optimiser, under("momentum", tensors))
        for name, part in _parts(run, composed).items():
            part.restore(under(name, tensors), facts["parts"][name])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise ArtifactError(
            f"Checkpoint {path} does not fit this search: "
            f"{type(error).__name__}: {error}. Delete it to start afresh."
        ) from error


def _parts(run: Run, composed: Composition) -> dict[str, Stateful]:
    """Return whatever has a state of its own: the present phase and all wrappers."""
    phase = composed.stages()[run.phase].phase
    wrappers = {f"wrapper{i}": cast(Stateful, w) for i, w in enumerate(composed.wrappers)}
    return {"phase": phase, **wrappers}
