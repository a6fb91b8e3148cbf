"""P-DARTS: three searches, each with a deeper network and fewer operations than the one before.

Source: Chen, Xie, Wu, Tian, "Progressive Differentiable Architecture Search: Bridging the Depth Gap
between Search and Evaluation", ICCV 2019, and its published code. Each stage trains a new network
and new alphas; at the end of a stage the operations of least probability leave each edge (*search
space approximation*). Skip connections are held back by a dropout that fades in the course of a
stage, and by a limit on their number in the normal cell (*search space regularisation*). The
authors report 2.50 % test error on CIFAR-10 and 15.92 % on CIFAR-100.

The published depths, 5, 11 and 17 cells, count in the ratio to the first: the supernet of a search
has ``cells``, 11/5 and 17/5 of that (in NAS-Bench-201 that many a stage of the network). Of 8
operations an edge 5 and then 3 are left, of NAS-Bench-201's 5 in proportion 3 and 2. ``none``
leaves the mixture like any other operation, and is then not named; in the DARTS space it still
stands for the edges that are not used. The last ``none`` of the published code leave by the rule
of the space, which names it in NAS-Bench-201 and never in the DARTS space.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.errors import InputError
from metad2a.spaces import SearchSpace
from metad2a.spaces.supernets.gates import Gates
from search.engine.forms import Form
from search.engine.method import METHODS, Ranking, Training
from search.engine.run import Run
from search.gradient.alphas import ArchitectureParameters
from search.methods.darts import Darts

_DEPTHS = (1.0, 11 / 5, 17 / 5)  # of the stages' networks, in the first one's
_LEFT = (5 / 8, 3 / 8)  # of the operations, after the first and the second stage
_DROPOUT = (0.1, 0.4, 0.7)  # of skip connections, at the start of each stage
_EPOCHS, _WEIGHTS_ONLY = 25, 10  # of a stage; before the alphas start to move
_CLIP = 5.0  # norm of the gradients of the weights, and of the alphas
_FADE = 0.2  # of the dropout from then on, by exp(-0.2) an epoch


def skip_rate(stage: int, epoch: int) -> float:
    """Return the dropout rate of skip connections in an epoch, 0 to 24, of a stage, 0 to 2."""
    if epoch < _WEIGHTS_ONLY:
        return _DROPOUT[stage] * (_EPOCHS - epoch - 1) / _EPOCHS
    return _DROPOUT[stage] * math.exp(-_FADE * (epoch - _WEIGHTS_ONLY))


def _clipped(gradient: Tensor) -> Tensor:
    """Return the gradient of all alphas, of a norm up to that of the weights', as published."""
    clipped: Tensor = gradient * (_CLIP / gradient.norm().clamp_min(_CLIP))
    return clipped


@METHODS.register("pdarts")
class PDarts(Darts):
    """Progressive DARTS (Chen et al., ICCV 2019).

    Args:
        alpha_lr: learning rate of the alphas' Adam.
        alpha_decay: weight decay of the alphas.
        skips: most skip connections in the normal cell.

    Raises:
        InputError: ``skips`` is negative.
    """

    epochs = 75
    training = Training(batch=96, lr=0.025, lr_final=0.0, cycles=3, weight_decay=3e-4, clip=_CLIP)

    def __init__(self, alpha_lr: float = 6e-4, alpha_decay: float = 1e-3, skips: int = 2) -> None:
        super().__init__(alpha_lr, alpha_decay)
        if skips < 0:
            raise InputError(f"skips={skips} limits a number of connections; use 0 or more.")
        self.skips = skips

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks begin pretrained."""
        return (
            (
                "it searches with a network that grows by cells, and the depth of these is what is "
                "searched; use 'darts'."
            )
            if space.pretrained
            else None
        )

    def begin(self, run: Run) -> None:
        """Split the images; the first stage starts with all that is allowed."""
        run.split_sides()
        self.stage, self.cells = 0, run.macro["cells"]
        self.active = run.subspace.mask.copy()
        self.zeroed: set[int] = set()  # slots whose skip connection is over the limit
        self._start(run)

    def _start(self, run: Run) -> None:
        """Give the stage a new network and new alphas."""
        run.renew(cells=round(self.cells * _DEPTHS[self.stage]))
        self.alphas = ArchitectureParameters(
            run.subspace.mask,
            run.rng,
            lr=self.alpha_lr,
            weight_decay=self.alpha_decay,
            device=run.place.device,
        )

    def _narrow(self, run: Run) -> None:
        """Take the operations of least probability from each edge."""
        scores = self.slot_scores(run)
        left = round(len(run.space.operations) * _LEFT[self.stage])
        for slot, row in enumerate(self.active):
            for op in sorted(np.flatnonzero(row), key=lambda op: scores[slot, op]):
                # Unused edges need ``none``: it leaves the mixture, and not the space.
                if row.sum() > left and (
                    run.space.operations[op] == "none" or run.subspace.drop(slot, int(op))
                ):
                    row[op] = False
        run.note(f"stage {self.stage + 2} goes on with {left} operations an edge")

    def mixture(self, run: Run) -> Gates:
        """Return the softmax mixture of the operations that are left."""
        return Gates.mixture(self.alphas.probabilities(self.active), self.active)

    def slot_scores(self, run: Run) -> np.ndarray:
        """Return log p of the operations that are left; others come after the last of their slot.

        Float64 (slots, operations). What has left may still be asked for, or forced by a limit.
        """
        p = self.alphas.probabilities(self.active).detach().double().cpu().numpy()
        logs = np.log(np.where(self.active, p, 1.0))
        last = logs.min(1, keepdims=True) - 1
        scores = np.where(self.active, logs, last)
        for slot in self.zeroed:
            scores[slot, run.space.operations.index("skip_connect")] = last[slot, 0]
        return scores

    def step(self, run: Run) -> float:
        """Train weights and then, from the tenth epoch of a stage on, alphas too."""
        done = run.fraction * len(_DEPTHS)
        while self.stage < min(int(done), len(_DEPTHS) - 1):
            self._narrow(run)
            self.stage += 1
            self._start(run)
        self.active &= run.subspace.mask
        epoch = int(_EPOCHS * (done - self.stage))
        with self._skip_dropout(run, skip_rate(self.stage, epoch)):
            if epoch >= _WEIGHTS_ONLY:
                gradient, loss = self.gate_gradient(
                    run, run.batch("architecture"), self.mixture(run)
                )
                if run.finite(loss):
                    self.alphas.update(_clipped(gradient), self.active)
            return run.train_weights(run.batch("weights"), [self.mixture(run)])

    @contextmanager
    def _skip_dropout(self, run: Run, rate: float) -> Iterator[None]:
        """Zero a share of what skip connections pass on, and scale the rest up.

        Those of stride 2 are convolutions and have none.
        """
        # Three networks, of a third of the time each, and a rate that changes: not worth compiling.
        run.form = Form(run.network, run.place, static=False)
        device = run.place.device
        source = torch.Generator(device).manual_seed(int(run.rng.integers(2**62)))

        def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            kept = torch.empty_like(output).bernoulli_(1 - rate, generator=source)
            return output * kept / (1 - rate)

        skip = run.space.operations.index("skip_connect")
        with ExitStack() as hooks:
            for slot in range(run.space.slots):
                for edge in run.supernet.edges(slot):
                    for one in edge.operation(skip):
                        if isinstance(one, nn.Identity):
                            hooks.callback(one.register_forward_hook(drop).remove)
            yield

    def derive(self, run: Run) -> Ranking:
        """Zero the weakest skip connection of the normal cell until few enough win; then rank."""
        skip = run.space.operations.index("skip_connect")
        normal = next(iter(run.space.cell_types.values()))
        self.zeroed = set()
        while True:
            scores = self.slot_scores(run)
            ((best, _),) = self._near(run, 1)
            found = {slot for slot in normal if best[slot] == skip}
            open_slots = found - self.zeroed  # under tight limits a zeroed one may win
            if len(found) <= self.skips or not open_slots:
                return super().derive(run)
            self.zeroed.add(min(open_slots, key=lambda slot: scores[slot, skip]))

    def facts(self) -> dict[str, Any]:
        """Return the stage, the first one's depth, and what is left of the mixture."""
        return {"stage": self.stage, "cells": self.cells, "active": self.active.tolist()}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over, and the alphas."""
        super().restore(tensors, facts)
        self.stage, self.cells = int(facts["stage"]), int(facts["cells"])
        self.active = np.array(facts["active"], dtype=bool)
