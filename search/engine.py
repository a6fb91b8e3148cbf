"""The loop: phases one after another within a budget, with progress, checkpoints and an end."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metad2a.errors import ArtifactError
from search import snapshot
from search.checkpoint import is_there
from search.composition import Composition
from search.method import Ranking
from search.run import Run

_SAVE_SECONDS = 60.0


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
            snapshot.load(run, composed, checkpoint, identity, self._enter)
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
            snapshot.save(self.run, self.composed, self.checkpoint, self.identity)
        except ArtifactError as error:  # What has been found is worth more than going on later.
            warnings.warn(f"{error} The search goes on without it.", stacklevel=2)
            self.checkpoint = None

    def _tell(self, stage: str, fraction: float) -> None:
        if self.progress is not None:
            run = self.run
            self.progress(Progress(fraction, stage, self.loss, run.images, run.budget.elapsed))
