"""SSWP-NAS: one stage, no labels, and the weights that were found are kept.

Source: SSWP-NAS (2022) and its published code. The supernet is the network that comes out in the
end. It learns from two views of images (``_contrastive.py``) with the binary gates of
ProxylessNAS (Cai et al., ICLR 2019), and turns into the final network step by step: weights only
(warm-up), weights and alphas (search), then one part after another is frozen to its most probable
operation (progressive pruning). Its weights are then finetuned with labels. The authors claim the
state of the art on CIFAR-10, CIFAR-100 and ImageNet without labels, and that kept weights beat new
ones where labels are few.

Deviations. The paper gives each cell alphas of its own and freezes cell by cell; a result here is
one architecture for all cells of a type, so alphas belong to slots, and slots are frozen in the
order of the data's flow. Its fixed 300 and 600 epochs are shares of the budget. The DARTS supernet
has a batch norm after each pool that the plain network lacks; the finetune makes up for it.

The finetune is SGD at 0.2, after a rise over 20 of 600 epochs, along a cosine; here 600 epochs are
whatever the budget leaves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.errors import InputError
from metad2a.registry import suggest_name
from metad2a.spaces import Architecture, SearchSpace
from metad2a.spaces.supernets.gates import Gates
from search.engine.checkpoint import under, with_prefix
from search.engine.inheritance import inherited
from search.engine.learner import Learner
from search.engine.method import METHODS, Ranking, Training
from search.engine.run import Run
from search.gradient.alphas import ArchitectureParameters, preserve_mass
from search.gradient.differentiable import DifferentiableMethod
from search.gradient.group_dropout import groups
from search.gradient.two_path import draw_pairs, two_path_gates
from search.methods._contrastive import OBJECTIVES
from search.methods._pruning import Pruning

_WARM_UP, _SEARCHED = 0.2, 0.6  # of the pretraining: when alphas start, and when freezing does
_EVERY = 5  # steps of the weights for one of the alphas
_DROP = 0.2  # how often a drawn skip is replaced by an operation with parameters
_CLIP = 5.0  # norm of the gradient of supernet and heads together
_FINETUNE = Training(lr=0.2, lr_final=0.0, weight_decay=3e-4, clip=5.0)
_RISE = 20 / 600  # of the finetune


@METHODS.register("sswp")
class Sswp(DifferentiableMethod):
    """Self-supervised one-stage search that keeps its weights (SSWP-NAS, 2022).

    Args:
        loss: ``"infonce"``, ``"byol"`` or ``"supervised"``.
        finetune: fraction (0 <= f < 1) of the budget for training the kept weights with labels.
        alpha_lr: learning rate of Adam on alphas.

    Raises:
        InputError: an unknown loss, or another fraction.
    """

    bilevel = True
    shared_training = False
    protocol = "kept weights, finetuned with labels, on held-out images"

    def __init__(
        self, loss: str = "infonce", finetune: float = 0.3, alpha_lr: float = 1e-3
    ) -> None:
        if loss not in OBJECTIVES:
            raise InputError(f"Unknown loss {loss!r}.{suggest_name(loss, list(OBJECTIVES))}")
        if not 0 <= finetune < 1:
            raise InputError(
                f"finetune={finetune} must be a fraction of the budget, 0 or more and below 1."
            )
        self.loss, self.finetune, self.alpha_lr = loss, finetune, alpha_lr
        self.training = Training(
            batch=96, lr=0.025, lr_final=0.0, span=1 - finetune, weight_decay=4e-5
        )

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks begin pretrained."""
        return (
            (
                "it learns without labels what these networks bring along; use 'sandwich', which keeps "
                "its weights too."
            )
            if space.pretrained
            else None
        )

    def begin(self, run: Run) -> None:
        """Split the images; start from nearly equal alphas and new heads."""
        run.split_sides()
        self._run = run  # whose networks are built anew when a checkpoint is taken over
        self.alphas = ArchitectureParameters(
            run.subspace.mask,
            run.rng,
            lr=self.alpha_lr,
            betas=(0.0, 0.999),
            weight_decay=0.0,
            device=run.place.device,
        )
        self.objective = OBJECTIVES[self.loss](run)
        self.pruning = Pruning(run.space)
        self.winner: Architecture | None = None
        self.kept: Finetune | None = None

    # -- training ----------------------------------------------------------------------------

    def step(self, run: Run) -> float:
        """Take one step of pretraining, or of the finetune."""
        done = run.fraction / (1 - self.finetune)
        if done >= 1:
            _, kept = self._extract(run)
            return kept.train(run, (run.fraction + self.finetune - 1) / self.finetune)
        due = run.space.slots * max(0.0, (done - _SEARCHED) / (1 - _SEARCHED))
        while done >= _SEARCHED and len(self.pruning.frozen) <= due:
            self.pruning.freeze(self._logs(), run.subspace)
        loss = self._train_weights(run, dropout=done >= _WARM_UP)
        if done >= _WARM_UP and run.steps % _EVERY == 0 and not self.pruning.complete:
            self._train_alphas(run)
        return loss

    def _train_weights(self, run: Run, dropout: bool) -> float:
        """Descend the loss along one path by its weights and the head's."""
        weights = [*run.network.parameters(), *self.objective.parameters()]
        for weight in weights:
            weight.grad = None
        loss = self.objective.loss(run, "weights", Gates(self.draw_path(run, dropout)))
        loss.backward()
        nn.utils.clip_grad_norm_(weights, _CLIP)
        value = float(loss.detach())
        if run.descend(value):
            self.objective.descend(run)
        return value

    def draw_path(self, run: Run, dropout: bool) -> np.ndarray:
        """Draw one operation a slot, bool (slots, operations).

        With ``dropout`` a slot where a skip was among the two drawn may get another operation, one
        with parameters.
        """
        p = self._probabilities(run)
        active, idle = draw_pairs(p, run.rng)
        if dropout:
            parametric = p * groups(run.space.operations)[0]
            skip = [name.startswith("skip") for name in run.space.operations]
            again = (
                (active | idle)[:, skip].any(1)
                & parametric.any(1)
                & (run.rng.random(len(p)) < _DROP)
            )
            active[again] = draw_pairs(parametric[again], run.rng)[0]
        return active

    def _train_alphas(self, run: Run) -> None:
        """Descend the loss on the other images by alpha, between two operations of each slot."""
        active, idle = draw_pairs(self._probabilities(run), run.rng)
        run.network.requires_grad_(False)
        try:
            gates = two_path_gates(self.alphas.alpha, active, idle)
            loss = self.objective.loss(run, "architecture", gates)
            (gradient,) = torch.autograd.grad(loss, self.alphas.alpha)
        finally:
            run.network.requires_grad_(True)
        if run.finite(float(loss.detach())):
            pair = (active | idle) & idle.any(1, keepdims=True)
            before = self.alphas.alpha.detach().clone()
            self.alphas.update(gradient, pair)
            preserve_mass(self.alphas.alpha, pair, before)

    def _probabilities(self, run: Run) -> np.ndarray:
        running = self.pruning.running(run.subspace.mask)
        p: np.ndarray = self.alphas.probabilities(running).detach().cpu().numpy()
        return p

    def _logs(self) -> np.ndarray:
        """Return float64 (slots, operations), log p; in a frozen slot as it was then."""
        logs: np.ndarray = self.alphas.alpha.detach().double().log_softmax(1).cpu().numpy()
        return logs

    def slot_scores(self, run: Run) -> np.ndarray:
        """Return log p, as far as nothing was decided; ``none`` comes last."""
        return self.pruning.scores(self._logs(), run.subspace.mask)

    # -- the network that is kept ------------------------------------------------------------

    def _extract(self, run: Run) -> tuple[Architecture, Finetune]:
        """Decide, and keep the weights of what was decided; later calls change nothing."""
        if self.winner is None or self.kept is None:
            while not self.pruning.complete:
                self.pruning.freeze(self._logs(), run.subspace)
            self.pruning.limit(self._logs(), run.subspace)
            self.winner = self.pruning.best(self._logs(), run.subspace)
            self.kept = Finetune(run, self.winner)
            for slot in self.pruning.replaced:
                run.note(
                    f"slot {slot} would be one skip or pool too many: it has "
                    f"{run.space.operations[self.winner[slot]]} instead"
                )
            run.note(f"the weights of {run.space.format(self.winner)} are kept")
        return self.winner, self.kept

    def derive(self, run: Run) -> Ranking:
        """Name the architecture whose weights are kept, then what came close."""
        winner, _ = self._extract(run)
        near = dict(super().derive(run))
        value = near.pop(winner, float(self.score(run, [winner])[0]))
        return [(winner, value), *near.items()]  # limits may leave one of a higher score

    def network(self, run: Run, architecture: Architecture) -> nn.Module:
        """Return the kept network; of another architecture, one with the supernet's weights."""
        if self.kept is not None and architecture == self.winner:
            return self.kept.network.eval()
        return inherited(run, architecture)

    def accuracy(self, run: Run, architecture: Architecture) -> float:
        """Return the accuracy (0..1) of :meth:`network` on the held-out images, in float32."""
        return run.judge.plain(self.network(run, architecture))

    # -- checkpoints -------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return alphas, heads, and the kept network."""
        kept = {} if self.kept is None else with_prefix("kept", self.kept.tensors())
        return {**super().tensors(), **with_prefix("objective", self.objective.tensors()), **kept}

    def facts(self) -> dict[str, Any]:
        """Return what was decided so far."""
        return {
            "frozen": self.pruning.frozen,
            "replaced": self.pruning.replaced,
            "winner": self.winner,
        }

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        super().restore(tensors, facts)
        self.objective.restore(under("objective", tensors), {})
        self.pruning.frozen, self.pruning.replaced = facts["frozen"], facts["replaced"]
        if facts["winner"] is not None:
            self.winner = tuple(facts["winner"])
            self.kept = Finetune(self._run, self.winner)
            self.kept.load(under("kept", tensors))


def rate(done: float) -> float:
    """Return the learning rate when a fraction (0..1) of the finetune is done."""
    cosine = (1 + math.cos(math.pi * done)) / 2
    return _FINETUNE.lr * cosine * min(1.0, 0.1 + done / _RISE)


class Finetune(Learner):
    """The network of an architecture; from now on all training images train weights."""

    def __init__(self, run: Run, architecture: Architecture) -> None:
        super().__init__(inherited(run, architecture), _FINETUNE)
        if run.sides["weights"] is not run.sides["architecture"]:
            every = np.concatenate([run.sides["weights"], run.sides["architecture"]])
            run.sides = dict.fromkeys(run.sides, every)

    def train(self, run: Run, done: float) -> float:
        """Take one step and return its loss; ``done`` is the fraction of the finetune."""
        return self.learn(run, run.rate_scale * rate(done))
