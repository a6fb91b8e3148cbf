"""PWSNAS: before a method searches, its space is shrunk and its weights are shared by fewer.

Source: Hu, Wang, Gu, "PWSNAS: Powering Weight Sharing NAS With General Search Space Shrinking
Framework", TNNLS 2022. Its abstract names two guides: redundant operations are dropped by an angle
(here that of ABS, the authors' earlier work, see ``search.subspace.shrinking``), and the degree of
weight sharing is reduced by more parameters (``search.subspace.cloning``, our interpretation, as the
full text's formulas were not at hand). The authors apply it to SPOS, FairNAS, ProxylessNAS, DARTS and P-DARTS.
For ABS around these they report ImageNet top-1 accuracies of 75.97 % (75.33 % without), 74.42
(74.24), 76.14 (75.56), 75.59 (74.88) and 75.89 % (75.58 %).

ABS trains the method's weights anew after shrinking; here they go on, since within a user's budget
a warm start is worth more. P-DARTS starts each stage from new weights anyway and so keeps the
narrow space only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metad2a.errors import InputError
from metad2a.spaces import SearchSpace
from search.engine.method import WRAPPERS, Method, Wrapper
from search.engine.run import Run
from search.subspace.shrinking import Shrinking


@WRAPPERS.register("pwsnas")
class Pwsnas(Wrapper):
    """Shrink the space by angles and clone what is shared most (Hu et al., TNNLS 2022).

    Args:
        drop: fraction (0..1) of the operations that are dropped in all.
        events: in how many times; 0 is as published: once, or in the DARTS space and around FairNAS
            as many times as each slot loses an operation.
        faithful: as ABS does, let the method begin with new weights, and let the parts that all
            architectures share count in angles (``search.subspace.shrinking`` says what speaks
            against).

    Raises:
        InputError: an option is out of range.
    """

    share = 0.5

    def __init__(self, drop: float = 2 / 3, events: int = 0, faithful: bool = False) -> None:
        if not 0 < drop < 1 or events < 0:
            raise InputError(
                f"drop={drop} must lie between 0 and 1, and events={events} must be 0 or more."
            )
        self.phase = Shrinking(drop, events, faithful)
        self.clones = 0

    def refuse(self, method: Method) -> str | None:
        """Refuse methods without a shared training on labels."""
        return (
            None
            if method.shared_training
            else ("it trains no shared weights on labels, whose angles would tell what to drop.")
        )

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks begin pretrained."""
        return (
            (
                "angles tell how far each operation has come from random weights, and here all "
                "operations of a block are slices of trained ones."
            )
            if space.pretrained
            else None
        )

    def begin(self, run: Run) -> None:
        """Do nothing: the phase does it all."""

    def after_step(self, run: Run) -> None:
        """Note where a method took new weights, without clones."""
        clones = len(run.supernet.clones)
        if clones < self.clones:
            run.note(
                "the method began with new weights: what was cloned is one again, what was "
                "dropped stays so"
            )
        self.clones = clones

    def facts(self) -> dict[str, Any]:
        """Return how many clones there were."""
        return {"clones": self.clones}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take it over."""
        self.clones = facts["clones"]
