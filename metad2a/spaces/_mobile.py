"""What spaces of inverted residual networks share: decisions, costs, graphs, networks.

Such a network is a stem, stages of blocks, and a classifier behind pooling. Decided are the
resolution of its images, how many stages and blocks it has, and of each block the kernel and how
far it expands its channels. A decision about a stage or block that is not there means nothing: the
canonical form has a 0 there.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces.base import Architecture, Cost, Decision, SearchSpace
from metad2a.spaces.sketch import Block as Drawn

if TYPE_CHECKING:
    from torch_geometric.data import Batch, Data

    from metad2a.spaces._chain import Chain
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from metad2a.spaces.pretrained import Weights

RESOLUTIONS = (32, 48, 64, 80, 96, 112, 128, 160, 192, 224)
"""Sides, in pixels, at which networks of these spaces may run."""
NODE_FEATURES = (
    "stem",
    "block",
    "head",
    "output",
    "squeeze",
    "residual",
    "log2_inputs",
    "log2_outputs",
    "expansion",
    "kernel",
    "stride",
    "log2_side",
)
"""Numbers of a node: 0 or 1 for its kind, for squeeze-and-excitation and for a residual
connection; channels in and out; width over channels in; kernel; stride; side of what comes out, in
pixels. The output's inputs and outputs are pooled features, and those that the classifier sees.
All are divided by :data:`SCALES`, so that none is above 1.3."""
SCALES = {
    "log2_inputs": 10,
    "log2_outputs": 10,
    "expansion": 6,
    "kernel": 7,
    "stride": 2,
    "log2_side": 7,
}


def divisible(channels: float) -> int:
    """Return channels rounded to a multiple of 8, losing no more than a tenth.

    Source: Sandler et al., "MobileNetV2", CVPR 2018, and all that came after it.
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@dataclass(frozen=True)
class Stage:
    """Blocks with one number of channels; choices are in ascending order."""

    channels: int
    stride: int
    """Of the first block; all others have 1."""
    blocks: tuple[int, ...]
    """Choices of how many blocks there are."""
    expansions: tuple[int, ...]
    """Choices of a block's width over the channels that come in."""
    kernels: tuple[int, ...]
    """Choices of a block's kernel."""
    activation: str
    squeeze: bool = False
    """Whether blocks have squeeze-and-excitation, of a quarter of the width."""


@dataclass(frozen=True)
class Block:
    """A block that networks of the space may have."""

    stage: int
    """The first is 0."""
    place: int
    """Within the stage; the first is 0."""
    inputs: int
    """Channels that come in."""
    stride: int
    kernel_slot: int | None
    """The decision about the kernel; None where there is no choice."""
    expansion_slot: int | None


class MobileSpace(SearchSpace):
    """A space of inverted residual networks; subclasses give its layout and its string form."""

    node_features = NODE_FEATURES
    default_protocol = "finetune-v1"
    pretrained = True
    searchable = True

    stem: int
    """Channels of the first convolution (kernel 3, stride 2)."""
    layout: tuple[Stage, ...]
    first_stage: int = 1
    """What the first stage of the layout is called."""
    depths: tuple[int, ...]
    """Choices of how many stages there are."""
    head: int
    """Channels of a convolution before pooling, in networks of all stages only."""
    hidden: int
    """Units of a layer between pooling and classifier; 0: none."""
    activation: str
    """Of stem, head and hidden layer."""
    same: bool
    """Whether strided convolutions are padded as TensorFlow pads."""
    eps: float
    """Of the batch norms."""

    def __init__(self) -> None:
        decisions: list[Decision] = []

        def decide(name: str, values: tuple[int, ...]) -> int | None:
            if len(values) == 1:
                return None
            decisions.append(Decision(name, values))
            return len(decisions) - 1

        decide("resolution", RESOLUTIONS)
        self.stages_slot = decide("stages", self.depths)
        self.blocks_slots = [
            decide(f"blocks {number}", stage.blocks)
            for number, stage in enumerate(self.layout, start=self.first_stage)
        ]
        self._counts = [
            (slot, stage.blocks) for slot, stage in zip(self.blocks_slots, self.layout, strict=True)
        ]
        self.blocks: list[Block] = []
        inputs = self.stem
        for index, stage in enumerate(self.layout):
            for place in range(stage.blocks[-1]):
                label = f"{self.first_stage + index}.{place + 1}"
                self.blocks.append(
                    Block(
                        index,
                        place,
                        inputs,
                        1 if place else stage.stride,
                        decide(f"kernel {label}", stage.kernels),
                        decide(f"expansion {label}", stage.expansions),
                    )
                )
                inputs = stage.channels
        self.decisions = tuple(decisions)

    # -- decisions ---------------------------------------------------------------------------

    def chosen(self, architecture: Architecture, slot: int | None, values: Sequence[int]) -> int:
        """Return the value that an architecture has chosen, the only one where there is no slot."""
        return values[0 if slot is None else architecture[slot]]

    def resolution(self, architecture: Architecture) -> int:
        """Return the side, in pixels, of the images at which this network runs."""
        return RESOLUTIONS[architecture[0]]

    def stages(self, architecture: Architecture) -> int:
        """Return how many stages the network has."""
        return self.chosen(architecture, self.stages_slot, self.depths)

    def depth_in_stages(self, architecture: Architecture) -> int:
        """Return how many stages there are, of which the first may stay frozen."""
        return self.stages(architecture)

    def depth(self, architecture: Architecture, stage: int) -> int:
        """Return how many blocks a stage has, 0 where it is not there; the first stage is 0."""
        if stage >= self.stages(architecture):
            return 0
        return self.chosen(architecture, self.blocks_slots[stage], self.layout[stage].blocks)

    def _depths(self, architecture: Architecture) -> tuple[int, ...]:
        """Return how many blocks each stage has that is there."""
        counts = self._counts[: self.stages(architecture)]
        return tuple([values[0 if slot is None else architecture[slot]] for slot, values in counts])

    def present(self, architecture: Architecture) -> list[Block]:
        """Return the blocks that the network has."""
        return list(_there(self, self._depths(architecture))[0])

    def kernel(self, architecture: Architecture, block: Block) -> int:
        """Return the kernel of a block."""
        return self.chosen(architecture, block.kernel_slot, self.layout[block.stage].kernels)

    def expansion(self, architecture: Architecture, block: Block) -> int:
        """Return the width of a block over the channels that come in."""
        return self.chosen(architecture, block.expansion_slot, self.layout[block.stage].expansions)

    def squeezed(self, block: Block, expansion: int) -> int:
        """Return the channels of a block's squeeze-and-excitation, 0 where it has none."""
        squeeze = self.layout[block.stage].squeeze
        return divisible(block.inputs * expansion // 4) if squeeze else 0

    def active(self, architecture: Architecture) -> tuple[bool, ...]:
        """Return which decisions are about what is there."""
        return _there(self, self._depths(architecture))[1]

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with a 0 for every decision about what is not there."""
        on = self.active(architecture)
        return tuple(choice if here else 0 for choice, here in zip(architecture, on, strict=True))

    def read(self, part: str, what: str, value: str, values: Sequence[int | str]) -> int:
        """Return the index of a value in a part of a string.

        Raises:
            InputError: it is none of the values.
        """
        known = [str(one) for one in values]
        if value not in known:
            raise InputError(
                f"{part[:50]!r} of a network of {self.name!r}: {what} is {value[:20]!r}, but it "
                f"may be {', '.join(known[:-1])} or {known[-1]}."
            )
        return known.index(value)

    def read_digits(
        self, part: str, digits: str, slots: Sequence[int | None], found: list[int]
    ) -> None:
        """Read one digit a decision into the choices that were found; no slot, no decision.

        Raises:
            InputError: a digit is no choice of its decision.
        """
        for digit, slot in zip(digits, slots, strict=True):
            if slot is not None:
                decision = self.decisions[slot]
                found[slot] = self.read(part, decision.name, digit, decision.values)

    # -- costs -------------------------------------------------------------------------------

    def cost(self, architecture: Architecture, classes: int, resolution: int | None = None) -> Cost:
        """Return exact parameters and MACs of the network that :meth:`build` returns.

        Counted are multiply-adds of convolutions and linear layers, those of squeeze-and-excitation
        too; neither batch norms nor biases, activations or pooling.
        """
        params, macs = self.costs(np.asarray([architecture]), classes, resolution)[0]
        return Cost(int(params), int(macs))

    def costs(
        self, architectures: np.ndarray, classes: int, resolution: int | None = None
    ) -> np.ndarray:
        """Return int64 (n, 2) parameters and MACs of int (n, slots) architectures."""
        rows = np.asarray(architectures, dtype=np.int64).reshape(-1, self.slots)
        sides = RESOLUTIONS if resolution is None else (resolution,)
        at = rows[:, 0] if resolution is None else np.zeros(len(rows), dtype=np.int64)
        tables = _tables(self, sides)
        last = self._stages(rows) - 1
        blocks = np.arange(len(self.blocks))
        choice = (blocks, self._choices(rows, "expansion_slot"), self._choices(rows, "kernel_slot"))
        there = self._present(rows)
        out = np.zeros((len(rows), 2), dtype=np.int64)
        out[:, 0] = tables.ends_params[last] + (tables.params[choice] * there).sum(1)
        out[:, 1] = tables.ends_macs[at, last] + (tables.macs[at[:, None], *choice] * there).sum(1)
        seen = tables.features[last]
        out[:, 0] += (seen + 1) * classes
        out[:, 1] += seen * classes
        return out

    def smallest(self, classes: int) -> Cost:
        """Return the least parameters and the least MACs of any member, each on its own.

        Every choice but that of the stages costs more than those before it, whatever the others
        are; of the stages, each is tried.
        """
        rows = np.zeros((len(self.depths), self.slots), dtype=np.int64)
        if self.stages_slot is not None:
            rows[:, self.stages_slot] = np.arange(len(self.depths))
        params, macs = self.costs(rows, classes).min(0)
        return Cost(int(params), int(macs))

    def block_cost(
        self, block: Block, expansion: int, kernel: int, resolution: int
    ) -> tuple[int, int]:
        """Return parameters and multiply-adds of a block, by the indices of its choices."""
        tables = _tables(self, (resolution,))
        at = (self.blocks.index(block), expansion, kernel)
        return int(tables.params[at]), int(tables.macs[(0, *at)])

    def ends_cost(self, stages: int, classes: int, resolution: int) -> tuple[int, int]:
        """Return parameters and multiply-adds of all but the blocks, in a network of so many stages."""
        tables, last = _tables(self, (resolution,)), stages - 1
        seen = int(tables.features[last])
        return (
            int(tables.ends_params[last]) + (seen + 1) * classes,
            int(tables.ends_macs[0, last]) + seen * classes,
        )

    def _stages(self, rows: np.ndarray) -> np.ndarray:
        if self.stages_slot is None:
            return np.full(len(rows), self.depths[0])
        found: np.ndarray = np.asarray(self.depths)[rows[:, self.stages_slot]]
        return found

    def _choices(self, rows: np.ndarray, slot: str) -> np.ndarray:
        """Return int (n, blocks): what is chosen of each block, 0 where there is no choice."""
        slots = [getattr(block, slot) for block in self.blocks]
        taken = rows[:, [0 if s is None else s for s in slots]]
        found: np.ndarray = np.where([s is not None for s in slots], taken, 0)
        return found

    def _present(self, rows: np.ndarray) -> np.ndarray:
        """Return bool (n, blocks): which blocks the networks have."""
        stages = self._stages(rows)
        depths = np.empty((len(rows), len(self.layout)), dtype=np.int64)
        for index, (slot, stage) in enumerate(zip(self.blocks_slots, self.layout, strict=True)):
            depths[:, index] = np.asarray(stage.blocks)[0 if slot is None else rows[:, slot]]
            depths[:, index] *= index < stages
        at = np.array([block.stage for block in self.blocks])
        there: np.ndarray = np.array([block.place for block in self.blocks]) < depths[:, at]
        return there

    # -- networks ----------------------------------------------------------------------------

    def sketch(self, architecture: Architecture) -> list[Drawn]:
        """Return stem, blocks and head, as wide as they have channels."""
        side, most = -(-self.resolution(architecture) // 2), max(s.channels for s in self.layout)

        def row(group: str, label: str, channels: int, kind: int) -> Drawn:
            size = math.log2(channels / 8) / math.log2(most / 8)
            return Drawn(group, label, f"{channels} channels, {side} px", size, kind)

        rows = [row("stem", "3×3", self.stem, 0)]
        for block in self.present(architecture):
            stage = self.layout[block.stage]
            side = -(-side // block.stride)
            kernel, times = self.kernel(architecture, block), self.expansion(architecture, block)
            label = f"{kernel}×{kernel}, ×{times}{', SE' if stage.squeeze else ''}"
            group = f"stage {self.first_stage + block.stage}"
            rows.append(row(group, label, stage.channels, kernel // 2 + 1))
        if self.stages(architecture) == len(self.layout):
            rows.append(row("head", "1×1", self.head, 0))
        return rows

    def config(
        self, architecture: Architecture, classes: int, *, pretrained: bool = False
    ) -> dict[str, Any]:
        """Return the arguments of the architecture's ``InvertedResidualNetwork``.

        Args:
            architecture: one choice index per decision.
            classes: outputs of the network.
            pretrained: whether it is to have the space's weights, which may ask for a padding of
                their own.
        """
        stages: list[list[tuple[int, int, int, int, str, int]]] = [
            [] for _ in range(self.stages(architecture))
        ]
        for block in self.present(architecture):
            stage = self.layout[block.stage]
            width = block.inputs * self.expansion(architecture, block)
            stages[block.stage].append(
                (
                    stage.channels,
                    width,
                    self.kernel(architecture, block),
                    block.stride,
                    stage.activation,
                    self.squeezed(block, self.expansion(architecture, block)),
                )
            )
        whole = len(stages) == len(self.layout)
        return {
            "classes": classes,
            "stem": self.stem,
            "stages": stages,
            "head": self.head if whole else 0,
            "hidden": self.hidden if whole else 0,
            "activation": self.activation,
            "same": self.same,
            "eps": self.eps,
        }

    def build(
        self,
        architecture: Architecture,
        classes: int,
        *,
        pretrained: bool = False,
        **macro: int | None,
    ) -> InvertedResidualNetwork:
        """Return a plain network for float images (batch, 3, height, width), scaled to -1..1.

        Args:
            architecture: one choice index per decision.
            classes: outputs of the network.
            pretrained: begin with the space's weights; the classifier is new in any case, and
                small.
            macro: none; these networks have no size beside the architecture.

        Raises:
            InputError: a size is given.
            ArtifactError: the weights cannot be read.
        """
        from torch import nn

        from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

        self.sizes(macro)
        network = InvertedResidualNetwork(
            **self.config(architecture, classes, pretrained=pretrained)
        )
        nn.init.normal_(network.classifier.weight, std=0.01)
        nn.init.zeros_(network.classifier.bias)
        if pretrained:
            self.start(network)
        return network

    def start(self, network: InvertedResidualNetwork) -> None:
        """Give a network of this space its part of :meth:`weights`; not the classifier."""
        from metad2a.spaces.pretrained import inherit

        inherit(network, self.weights())

    @abstractmethod
    def weights(self) -> Weights:
        """Return the pretrained weights of the largest network, of which all others inherit.

        Raises:
            ArtifactError: they cannot be read.
        """

    def chain(self, resolution: int) -> Chain:
        """Return the networks of one resolution as a space whose weights are shared.

        Raises:
            InputError: the space does not have the resolution.
        """
        from metad2a.spaces._chain import Chain

        return Chain(self, resolution)

    # -- graphs ------------------------------------------------------------------------------

    def graph(self, architecture: Architecture) -> Data:
        """Return one architecture as a PyG graph (see :meth:`graphs`)."""
        return self.graphs(np.asarray([architecture])).get_example(0)

    def graphs(self, architectures: np.ndarray) -> Batch:
        """Return int (n, slots) architectures as one PyG batch, built without a Python loop.

        Stem, blocks, the head where there is one, and the output, each joined to the next.
        """
        return _chains(*self.graph_nodes(architectures))

    def graph_nodes(self, architectures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nodes of :meth:`graphs`, without PyG, whose import takes seconds."""
        rows = np.asarray(architectures, dtype=np.int64).reshape(-1, self.slots)
        last = self._stages(rows) - 1
        whole = last == len(self.layout) - 1
        features = _tables(self, RESOLUTIONS).features[last]
        sides = np.asarray([_sides(self, side) for side in RESOLUTIONS])[rows[:, 0]]
        x = np.zeros((len(rows), len(self.blocks) + 3, len(NODE_FEATURES)), dtype=np.float32)
        channels = np.array([stage.channels for stage in self.layout])
        final = channels[last]
        at = np.array([block.stage for block in self.blocks])
        inputs = np.array([block.inputs for block in self.blocks])
        strides = np.array([block.stride for block in self.blocks])
        squeeze = np.array([stage.squeeze for stage in self.layout])[at]

        def fill(nodes: Any, kind: str, **numbers: Any) -> None:
            for name, value in {kind: np.array(1), **numbers}.items():
                x[:, nodes, NODE_FEATURES.index(name)] = value / SCALES.get(name, 1)

        fill(
            0,
            "stem",
            log2_inputs=np.log2(3),
            log2_outputs=np.log2(self.stem),
            expansion=1,
            kernel=3,
            stride=2,
            log2_side=np.log2(sides[:, 0]),
        )
        fill(
            slice(1, -2),
            "block",
            squeeze=squeeze,
            residual=(strides == 1) & (inputs == channels[at]),
            log2_inputs=np.log2(inputs),
            log2_outputs=np.log2(channels[at]),
            expansion=self._values(rows, "expansions", "expansion_slot"),
            kernel=self._values(rows, "kernels", "kernel_slot"),
            stride=strides,
            log2_side=np.log2(sides[:, 1 + at]),
        )
        ends = {"expansion": 1, "kernel": 1, "stride": 1}
        pooled = np.where(whole & (self.head > 0), self.head, final)
        fill(
            -2,
            "head",
            log2_inputs=np.log2(final),
            log2_outputs=np.log2(pooled),
            log2_side=np.log2(sides[np.arange(len(rows)), 1 + last]),
            **ends,
        )
        fill(-1, "output", log2_inputs=np.log2(pooled), log2_outputs=np.log2(features), **ends)
        there = np.ones(x.shape[:2], dtype=bool)
        there[:, 1:-2] = self._present(rows)
        there[:, -2] = whole & (self.head > 0)
        return x[there], there.sum(1)

    def _values(self, rows: np.ndarray, choices: str, slot: str) -> np.ndarray:
        """Return int (n, blocks): the value that is chosen of each block."""
        widest = max(len(getattr(stage, choices)) for stage in self.layout)
        values = np.zeros((len(self.blocks), widest), dtype=np.int64)
        for index, block in enumerate(self.blocks):
            own = getattr(self.layout[block.stage], choices)
            values[index, : len(own)] = own
        found: np.ndarray = values[np.arange(len(self.blocks)), self._choices(rows, slot)]
        return found


@dataclass(frozen=True)
class _Tables:
    """What each choice costs, at some resolutions; parameters, and multiply-adds."""

    params: np.ndarray
    """int64 (blocks, expansions, kernels)."""
    macs: np.ndarray
    """int64 (resolutions, blocks, expansions, kernels)."""
    ends_params: np.ndarray
    """int64 (stages,), of stem, head and hidden layer, by the last stage."""
    ends_macs: np.ndarray
    """int64 (resolutions, stages)."""
    features: np.ndarray
    """int64 (stages,), inputs of the classifier."""


def _sides(space: MobileSpace, resolution: int) -> list[int]:
    """Return the side, in pixels, of what comes out of the stem and of each stage."""
    sides = [-(-resolution // 2)]
    for stage in space.layout:
        sides.append(-(-sides[-1] // stage.stride))
    return sides


@lru_cache(maxsize=2**13)
def _there(
    space: MobileSpace, depths: tuple[int, ...]
) -> tuple[tuple[Block, ...], tuple[bool, ...]]:
    """Return the blocks of networks with so many in each stage, and which decisions are about them.

    Whoever varies networks asks for the same ones tens of thousands of times.
    """
    blocks = tuple(
        block
        for block in space.blocks
        if block.stage < len(depths) and block.place < depths[block.stage]
    )
    there = {0, space.stages_slot, *space.blocks_slots[: len(depths)]}
    for block in blocks:
        there |= {block.kernel_slot, block.expansion_slot}
    return blocks, tuple(slot in there for slot in range(space.slots))


@lru_cache(maxsize=64)
def _tables(space: MobileSpace, resolutions: tuple[int, ...]) -> _Tables:
    layout = space.layout
    sides = np.array([_sides(space, resolution) for resolution in resolutions])
    widest = max(len(stage.expansions) for stage in layout), max(len(s.kernels) for s in layout)
    params = np.zeros((len(space.blocks), *widest), dtype=np.int64)
    macs = np.zeros((len(resolutions), *params.shape), dtype=np.int64)
    for index, block in enumerate(space.blocks):
        stage = layout[block.stage]
        after = sides[:, 1 + block.stage] ** 2
        before = sides[:, block.stage if block.place == 0 else 1 + block.stage] ** 2
        for e, expansion in enumerate(stage.expansions):
            width = block.inputs * expansion
            squeezed = divisible(width // 4) if stage.squeeze else 0
            expand = block.inputs * width if expansion > 1 else 0
            project = width * stage.channels
            for k, kernel in enumerate(stage.kernels):
                filters = kernel**2 * width
                # A batch norm has two parameters a channel, squeeze-and-excitation a bias.
                norms = 2 * (width * (2 if expand else 1) + stage.channels)
                squeeze = (2 * width + 1) * squeezed + (width if squeezed else 0)
                params[index, e, k] = expand + filters + project + norms + squeeze
                macs[:, index, e, k] = (
                    expand * before + (filters + project) * after + 2 * width * squeezed
                )
    channels = np.array([stage.channels for stage in layout])
    ends_params = np.full(len(layout), 27 * space.stem + 2 * space.stem)
    ends_macs = np.repeat(27 * space.stem * sides[:, :1] ** 2, len(layout), axis=1)
    features = channels.copy()
    if space.head:
        weights = channels[-1] * space.head
        ends_params[-1] += weights + 2 * space.head
        ends_macs[:, -1] += weights * sides[:, -1] ** 2
        features[-1] = space.head
    if space.hidden:
        ends_params[-1] += features[-1] * space.hidden
        ends_macs[:, -1] += features[-1] * space.hidden
        features[-1] = space.hidden
    return _Tables(params, macs, ends_params, ends_macs, features)


def _chains(x: np.ndarray, lengths: np.ndarray) -> Batch:
    """Return graphs whose nodes are each joined to the next.

    The result equals ``Batch.from_data_list`` of the single graphs, at a hundredth of its time.

    Args:
        x: float32 (nodes, features), one graph's nodes after another's.
        lengths: int64 (n,), nodes of each graph.
    """
    import torch
    from torch_geometric.data import Batch

    starts = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
    sources = torch.ones(len(x), dtype=torch.bool)
    sources[starts[1:] - 1] = False
    edges = sources.nonzero()[:, 0]
    batch = Batch(
        x=torch.from_numpy(x),
        edge_index=torch.stack([edges, edges + 1]),
        batch=torch.arange(len(lengths)).repeat_interleave(torch.from_numpy(lengths)),
        ptr=starts,
    )
    # What collating leaves for taking a batch apart again; PyG has no public way to say it.
    batch._num_graphs = len(lengths)
    batch._slice_dict = {"x": starts, "edge_index": starts - torch.arange(len(starts))}
    batch._inc_dict = {"x": torch.zeros(len(lengths), dtype=torch.long), "edge_index": starts[:-1]}
    return batch
