"""A space of inverted residual networks as a search sees it: a chain of blocks at one resolution.

Slots are the blocks, in the order of the data's flow, and all choose among the same operations: a
kernel and an expansion, or to be absent. What a block costs depends on no other one, so costs add
up, and the methods for spaces of cells work here: ProxylessNAS (Cai, Zhu, Han, ICLR 2019), SPOS (Guo
et al., ECCV 2020) and FairNAS (Chu, Zhang, Xu, ICCV 2021) come from such chains. A stage without its
first block is not there, and neither are those after it; what is present comes first.

The resolution is that of the chain, since images of two sizes neither fit into one batch nor into one
set of batch-norm statistics. Architectures are tuples of one operation a slot;
:meth:`Chain.of` and :meth:`Chain.member` translate from and to the space's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces.base import ABSENT, Architecture, Cost, Decision, WeightSharing

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from metad2a.spaces._mobile import Block, MobileSpace
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from metad2a.spaces.sketch import Block as Drawn
    from metad2a.spaces.supernets.mobile import MobileSuperNet


class Chain(WeightSharing):
    """The networks of a space that run at one resolution.

    Args:
        space: whose first stage has nothing to decide.
        resolution: side of the images in pixels, one of the space's.

    Raises:
        InputError: the space does not have the resolution.
    """

    search_macro: Mapping[str, int] = MappingProxyType({})
    published_macro: Mapping[str, int] = MappingProxyType({})

    def __init__(self, space: MobileSpace, resolution: int) -> None:
        sides = space.decisions[0].values
        if resolution not in sides:
            raise InputError(
                f"resolution={resolution!r} is no resolution of the space {space.name!r}; it has "
                f"{', '.join(map(str, sides))}."
            )
        self.space, self.input_size = space, resolution
        self.name, self.node_features = space.name, space.node_features
        self.pretrained, self.default_protocol = space.pretrained, space.default_protocol
        self.weights_name, self.weights_licence = space.weights_name, space.weights_licence
        self.blocks: list[Block] = [block for block in space.blocks if block.stage > 0]
        stages = space.layout[1:]
        kernels = sorted({kernel for stage in stages for kernel in stage.kernels})
        expansions = sorted({times for stage in stages for times in stage.expansions})
        self.choices: list[tuple[int, int]] = [(k, e) for k in kernels for e in expansions]
        """Kernel and expansion of each operation, from the second one on."""
        self.operations = ("absent", *(f"mbconv{k}_e{e}" for k, e in self.choices))
        self.decisions = tuple(
            Decision(f"block {space.first_stage + block.stage}.{block.place + 1}", self.operations)
            for block in self.blocks
        )
        self.cell_types = {"network": range(len(self.blocks))}
        self.stages = [
            [slot for slot, block in enumerate(self.blocks) if block.stage == stage]
            for stage in range(1, len(space.layout))
        ]
        """The slots of each stage from the second one on."""
        self._allowed = np.array([self._allowed_of(block) for block in self.blocks])

    def _allowed_of(self, block: Block) -> list[bool]:
        """Return which operations a block may have."""
        stage = self.space.layout[block.stage]
        absent = (
            block.stage in self.space.depths if block.place == 0 else block.place in stage.blocks
        )
        return [absent, *(k in stage.kernels and e in stage.expansions for k, e in self.choices)]

    def allowed(self) -> np.ndarray:
        """Return bool (slots, operations): what a member may have in each slot."""
        return self._allowed.copy()

    # -- the same networks in the space's own terms ------------------------------------------

    def member(self, architecture: Architecture) -> Architecture:
        """Return an architecture as the space has it, at the chain's resolution."""
        space, architecture = self.space, self.canonical(architecture)
        found = [0] * space.slots
        found[0] = space.decisions[0].values.index(self.input_size)
        counts = [sum(architecture[slot] != ABSENT for slot in slots) for slots in self.stages]
        if space.stages_slot is not None:
            found[space.stages_slot] = space.depths.index(1 + sum(n > 0 for n in counts))
        for slot, blocks, count in zip(
            space.blocks_slots[1:], space.layout[1:], counts, strict=True
        ):
            if slot is not None and count:
                found[slot] = blocks.blocks.index(count)
        for block, operation in zip(self.blocks, architecture, strict=True):
            if operation != ABSENT:
                stage = space.layout[block.stage]
                kernel, expansion = self.choices[operation - 1]
                for slot, values, value in (
                    (block.kernel_slot, stage.kernels, kernel),
                    (block.expansion_slot, stage.expansions, expansion),
                ):
                    if slot is not None:
                        found[slot] = values.index(value)
        return space.canonical(tuple(found))

    def of(self, member: Architecture) -> Architecture:
        """Return a member of the space as the chain has it; its resolution is left out."""
        there = set(self.space.present(member))
        return tuple(
            1 + self.choices.index((self.space.kernel(member, b), self.space.expansion(member, b)))
            if b in there
            else ABSENT
            for b in self.blocks
        )

    def parse(self, text: str) -> Architecture:
        """Read the space's string form; its resolution is left out."""
        return self.of(self.space.canonical(self.space.parse(text)))

    def format(self, architecture: Architecture) -> str:
        """Write the space's string form."""
        return self.space.format(self.member(architecture))

    def build(
        self, architecture: Architecture, classes: int, *, pretrained: bool = False, **macro: Any
    ) -> InvertedResidualNetwork:
        """Return a plain network, as the space does."""
        return self.space.build(self.member(architecture), classes, pretrained=pretrained, **macro)

    def graphs(self, architectures: np.ndarray) -> Batch:
        """Return int (n, slots) architectures as one PyG batch."""
        rows = [self.member(one) for one in _tuples(architectures)]
        return self.space.graphs(np.asarray(rows).reshape(-1, self.space.slots))

    def sketch(self, architecture: Architecture) -> Sequence[Drawn]:
        """Return what a drawing shows."""
        return self.space.sketch(self.member(architecture))

    # -- costs -------------------------------------------------------------------------------

    def cost_table(self, classes: int, resolution: int) -> tuple[Cost, np.ndarray]:
        """Return the cost of the fixed parts, and int64 (slots, operations, 2) of the choices.

        The fixed parts are stem, first stage, and a classifier behind it. What each further stage
        changes of head and classifier is on the bill of its first block.
        """
        space = self.space
        ends = [
            np.array(space.ends_cost(stages, classes, resolution))
            for stages in range(1, len(space.layout) + 1)
        ]
        first = next(block for block in space.blocks if block.stage == 0)
        fixed = ends[0] + space.block_cost(first, 0, 0, resolution)
        table = np.zeros((self.slots, len(self.operations), 2), dtype=np.int64)
        for slot, block in enumerate(self.blocks):
            stage = space.layout[block.stage]
            more = (
                ends[block.stage] - ends[block.stage - 1] if block.place == 0 else np.zeros(2, int)
            )
            for operation, (kernel, expansion) in enumerate(self.choices, start=1):
                if self._allowed[slot, operation]:
                    e, k = stage.expansions.index(expansion), stage.kernels.index(kernel)
                    table[slot, operation] = more + space.block_cost(block, e, k, resolution)
        return Cost(int(fixed[0]), int(fixed[1])), table

    def smallest(self, classes: int) -> Cost:
        """Return the least parameters and the least MACs of any network at this resolution."""
        fixed, table = self.cost_table(classes, self.input_size)
        least = np.where(self._allowed[..., None], table, np.iinfo(np.int64).max).min(1).sum(0)
        return Cost(fixed.params + int(least[0]), fixed.macs + int(least[1]))

    # -- members -----------------------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture without what comes after a gap: blocks, or whole stages."""
        found = [ABSENT] * self.slots
        for slots in self.stages:
            for slot in slots:
                if architecture[slot] == ABSENT:
                    break
                found[slot] = architecture[slot]
            if found[slots[0]] == ABSENT:
                break
        return tuple(found)

    def connected(self, architectures: np.ndarray) -> np.ndarray:
        """Return bool (n,) for int (n, slots): which are canonical members, all of them connected."""
        rows = np.asarray(architectures, dtype=np.int64).reshape(-1, self.slots)
        return np.array(
            [
                self._allowed[np.arange(self.slots), row].all() and self.canonical(row) == row
                for row in _tuples(rows)
            ],
            dtype=bool,
        )

    def repaired(self, architecture: Architecture) -> Architecture:
        """Return :meth:`canonical`: after a change of one slot others may have to go."""
        return self.canonical(architecture)

    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill int (n, t) first slots up to int (n, slots): absent where that is allowed."""
        cheapest = self._allowed.argmax(1)[prefixes.shape[1] :]
        rest = np.broadcast_to(cheapest, (len(prefixes), len(cheapest)))
        return np.concatenate([prefixes, rest], axis=1)

    def sample(self, rng: np.random.Generator, allowed: np.ndarray | None = None) -> Architecture:
        """Draw a member: the number of stages, of blocks in each, and all operations are uniform.

        Args:
            rng: source of the draw.
            allowed: bool (slots, operations), at least one member; None: all.
        """
        mask = self._allowed if allowed is None else allowed
        may_go: np.ndarray = mask[:, ABSENT]
        may_stay = np.asarray(mask[:, 1:].any(1))
        found = [ABSENT] * self.slots
        starts = [*(slots[0] for slots in self.stages), self.slots]
        ends = [
            stages
            for stages, behind in enumerate(starts)
            if may_stay[starts[:stages]].all() and may_go[behind:].all()
        ]
        for slots in self.stages[: int(rng.choice(ends))]:
            counts = [
                count
                for count in range(1, len(slots) + 1)
                if may_stay[slots[:count]].all() and may_go[slots[count:]].all()
            ]
            for slot in slots[: int(rng.choice(counts))]:
                found[slot] = int(rng.choice(1 + np.flatnonzero(mask[slot, 1:])))
        return tuple(found)

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
        allowed: np.ndarray | None = None,
    ) -> Architecture:
        """Change one block that is there, or leave it out, or add one; the same if none may change.

        The arguments are those of :meth:`sample`.
        """
        mask = (self._allowed if allowed is None else allowed).copy()
        mask[np.arange(self.slots), architecture] = False
        there = np.array(architecture) != ABSENT
        for slots in self.stages:  # the first gap of a stage can be filled, later ones cannot
            for slot in slots[1:]:
                mask[slot] &= there[slot] or there[slot - 1]
        for slots, before in zip(self.stages[1:], self.stages, strict=False):
            mask[slots[0]] &= there[before[0]]
        changed = list(architecture)
        if mask.any():
            slot = int(rng.choice(np.flatnonzero(mask.any(1))))
            changed[slot] = int(rng.choice(np.flatnonzero(mask[slot])))
        return self.canonical(tuple(changed))

    def cross(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Take each slot from one of two parents, and leave out what comes after a gap."""
        return self.canonical(super().cross(first, second, rng))

    # -- for methods -------------------------------------------------------------------------

    def discretise(self, scores: np.ndarray) -> Architecture:
        """Name the member of the greatest sum of scores over all slots, absent ones too.

        Stage by stage the best number of blocks, then the best number of stages: exact.
        """
        scores = self.checked_scores(scores)
        scores[~self._allowed] = -np.inf
        gone = scores[:, ABSENT]
        best, there = 1 + scores[:, 1:].argmax(1), scores[:, 1:].max(1)
        found, sums, without = [], [], []
        for slots in self.stages:
            inside = [
                there[slots[:n]].sum() + gone[slots[n:]].sum() for n in range(1, len(slots) + 1)
            ]
            without.append(float(gone[slots].sum()))
            count = int(np.argmax(inside))
            sums.append(float(inside[count]))
            found.append(count + 1)
        totals = [
            sum(sums[:stages]) + sum(without[stages:]) for stages in range(len(self.stages) + 1)
        ]
        stages = int(np.argmax(totals))
        if totals[stages] == -np.inf:
            raise InputError(
                f"What is allowed holds no network of {self.name!r} at {self.input_size} px; allow "
                "more operations."
            )
        chosen = [ABSENT] * self.slots
        for slots, count in zip(self.stages[:stages], found, strict=False):
            for slot in slots[:count]:
                chosen[slot] = int(best[slot])
        return tuple(chosen)

    def supernet(self, classes: int, **macro: int | None) -> MobileSuperNet:
        """Return the network of which all others are slices, with the space's pretrained weights.

        Raises:
            InputError: a size is given.
        """
        from metad2a.spaces.supernets.mobile import MobileSuperNet

        self.sizes(macro)
        return MobileSuperNet(self, classes)

    def paths(self) -> list[tuple[int, ...]]:
        """Return the one path."""
        return [tuple(range(self.slots))]

    def preceding(self, slot: int) -> int | None:
        """Return the slot before."""
        return slot - 1 if slot else None

    def width_depth(self, architecture: Architecture) -> tuple[float, int]:
        """Return the mean expansion of the blocks, and how many there are."""
        there = [self.choices[op - 1][1] for op in architecture if op != ABSENT]
        return float(np.mean(there)) if there else 0.0, len(there)

    def enumerate(self) -> Iterator[Architecture]:
        """Refuse: there are too many."""
        raise InputError(f"The networks of {self.name!r} are too many to be enumerated.")


def _tuples(architectures: np.ndarray) -> list[Architecture]:
    return [tuple(row) for row in np.asarray(architectures).tolist()]
