"""The network of which all networks of a chain of inverted residual blocks are slices.

Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020,
section 3: the first stages, the first blocks of a stage, the most important channels of a block,
the centre of a kernel (``metad2a.spaces.pretrained`` says what else a slice takes along). It begins
with the pretrained weights, and every slice computes what ``space.build(pretrained=True)`` does.

Each expansion of a block has a batch norm of its own behind the projection, as slimmable networks
have (Yu et al., ICLR 2019): what is projected from fewer channels has other statistics. Each number
of stages has its own classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.spaces.base import ABSENT
from metad2a.spaces.networks.inverted_residual import (
    ConvNorm,
    InvertedResidual,
    InvertedResidualNetwork,
    SqueezeExcite,
)
from metad2a.spaces.pretrained import narrowed, shrunk
from metad2a.spaces.supernets.gates import Choice, Gates
from metad2a.spaces.supernets.mixed import MixedNetwork, MixedOperation

if TYPE_CHECKING:
    from metad2a.spaces._chain import Chain
    from metad2a.spaces.base import Architecture
    from metad2a.spaces.pretrained import Weights

_NONE = 1e-6  # of a mixture, below which its operations are taken for computed, but not for used


class DepthwiseSlice(nn.Module):
    """Filters of which smaller ones are slices: fewer channels, and the centre.

    Args:
        weight: float (channels, 1, kernel, kernel), the most important channels first.
        own: smaller kernels that are not the centre of the largest, by their side.
        stride: of the convolution.
        same: whether it is padded as TensorFlow pads.
    """

    convolve: Callable[[Tensor, Tensor, int, int], Tensor] | None = None
    """What convolves (input, weight, stride, padding) where one side is padded as the other."""

    def __init__(self, weight: Tensor, own: dict[int, Tensor], stride: int, same: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.own = nn.ParameterDict({str(side): kernel for side, kernel in own.items()})
        self.stride, self.same = stride, same and stride > 1

    def filters(self, width: int, kernel: int) -> Tensor:
        """Return float (width, 1, kernel, kernel)."""
        if kernel == self.weight.shape[-1]:
            return self.weight[:width]
        if str(kernel) in self.own:
            return cast(Tensor, self.own[str(kernel)])[:width]
        return shrunk(self.weight[:width], kernel)

    def forward(self, x: Tensor, kernel: int) -> Tensor:
        """Map (batch, width, h, w) to (batch, width, h / stride, w / stride), rounded up."""
        width, padding = x.shape[1], kernel // 2
        weight = self.filters(width, kernel)
        if self.same:
            pads: list[int] = []
            for side in (x.shape[3], x.shape[2]):
                total = max((-(-side // self.stride) - 1) * self.stride + kernel - side, 0)
                pads += [total // 2, total - total // 2]
            x, padding = F.pad(x, pads), 0
        elif self.convolve is not None:
            return self.convolve(x, weight, self.stride, padding)
        return F.conv2d(x, weight, None, self.stride, padding, groups=width)


class BlockSlice(nn.Module):
    """A block of which narrower ones with smaller kernels are slices.

    Args:
        choices: kernel and expansion of each operation of a slot, from the second one on.
        blocks: by expansion, the block of the largest kernel with the weights that it inherits.
        order: int64 (channels,), the channels of the widest block, the most important first.
        own: smaller kernels that are not the centre of the largest, channels as in ``blocks``.
    """

    def __init__(
        self,
        choices: Sequence[tuple[int, int]],
        blocks: dict[int, InvertedResidual],
        order: Tensor,
        own: dict[int, Tensor],
    ) -> None:
        super().__init__()
        self.choices = tuple(choices)
        widest = blocks[max(blocks)]
        self.widths = {e: one.depthwise.conv.out_channels for e, one in blocks.items()}
        self.squeezed = {
            e: one.squeeze.reduce.out_channels for e, one in blocks.items() if one.squeeze
        }
        self.skip = widest.skip
        self.activation = widest.depthwise.activation
        self.expand, self.expand_norm = _ordered(cast(ConvNorm, widest.expand), order)
        depthwise, self.depthwise_norm = _ordered(widest.depthwise, order)
        self.depthwise = DepthwiseSlice(
            depthwise.weight.data,
            {side: kernel[order] for side, kernel in own.items()},
            widest.depthwise.conv.stride[0],
            widest.depthwise.same,
        )
        self.squeeze = widest.squeeze
        if self.squeeze is not None:
            self.squeeze.reduce.weight.data = self.squeeze.reduce.weight.data[:, order]
            for leaf in (self.squeeze.expand.weight, cast(Tensor, self.squeeze.expand.bias)):
                leaf.data = leaf.data[order]
        self.project = widest.project.conv
        self.project.weight.data = self.project.weight.data[:, order]
        self.project_norms = nn.ModuleDict({str(e): one.project.norm for e, one in blocks.items()})

    def forward(self, x: Tensor, operation: int) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, outputs, h / stride, w / stride), rounded up."""
        kernel, expansion = self.choices[operation - 1]
        width = self.widths[expansion]
        y = F.conv2d(x, self.expand.weight[:width])
        y = self.activation(_normed(self.expand_norm, y))
        y = self.activation(_normed(self.depthwise_norm, self.depthwise(y, kernel)))
        if self.squeeze is not None:
            y = y * F.hardsigmoid(self._squeezed(y.mean((2, 3), keepdim=True), expansion))
        y = F.conv2d(y, self.project.weight[:, :width])
        projected: Tensor = self.project_norms[str(expansion)](y)
        return x + projected if self.skip else projected

    def _squeezed(self, pooled: Tensor, expansion: int) -> Tensor:
        parts = self._squeeze_parts(expansion)
        hidden = F.relu(F.conv2d(pooled, parts["reduce.weight"], parts["reduce.bias"]))
        return F.conv2d(hidden, parts["expand.weight"], parts["expand.bias"])

    def _squeeze_parts(self, expansion: int) -> dict[str, Tensor]:
        squeeze = cast(SqueezeExcite, self.squeeze)
        width, squeezed = self.widths[expansion], self.squeezed[expansion]
        return {
            "reduce.weight": squeeze.reduce.weight[:squeezed, :width],
            "reduce.bias": cast(Tensor, squeeze.reduce.bias)[:squeezed],
            "expand.weight": squeeze.expand.weight[:width, :squeezed],
            "expand.bias": cast(Tensor, squeeze.expand.bias)[:width],
        }

    def state(self, operation: int) -> dict[str, Tensor]:
        """Return a slice's tensors, by the names of ``InvertedResidual.state_dict``."""
        kernel, expansion = self.choices[operation - 1]
        width = self.widths[expansion]
        found = {
            "expand.conv.weight": self.expand.weight[:width],
            "depthwise.conv.weight": self.depthwise.filters(width, kernel),
            "project.conv.weight": self.project.weight[:, :width],
        }
        if self.squeeze is not None:
            parts = self._squeeze_parts(expansion).items()
            found |= {f"squeeze.{name}": part for name, part in parts}
        for name, norm in (
            ("expand", self.expand_norm),
            ("depthwise", self.depthwise_norm),
            ("project", cast(nn.BatchNorm2d, self.project_norms[str(expansion)])),
        ):
            for leaf, tensor in norm.state_dict().items():
                part = tensor[:width] if tensor.dim() and name != "project" else tensor
                found[f"{name}.norm.{leaf}"] = part
        return found

    # -- what is asked of the mixed operations of spaces of cells ------------------------------

    def operation(self, index: int) -> list[nn.Module]:
        """Return what computes an operation: none where the block is absent."""
        return [] if index == ABSENT else [self]

    def weights(self, index: int) -> list[Tensor]:
        """Return the convolution weights of an operation."""
        return [] if index == ABSENT else [t for t in self.state(index).values() if t.dim() == 4]

    def params(self, index: int) -> int:
        """Count the parameters of an operation."""
        learnt = (".weight", ".bias")
        state = {} if index == ABSENT else self.state(index)
        return sum(tensor.numel() for name, tensor in state.items() if name.endswith(learnt))


def _ordered(part: ConvNorm, order: Tensor) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Put the output channels of a convolution and its batch norm into an order."""
    for tensor in (part.conv.weight, *part.norm.parameters(), *part.norm.buffers()):
        if tensor.dim():
            tensor.data = tensor.data[order]
    return part.conv, part.norm


def _normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise by the first channels of a batch norm; a momentum of None averages over batches."""
    width = x.shape[1]
    factor = norm.momentum or 0.0
    if norm.training:
        tracked = cast(Tensor, norm.num_batches_tracked).add_(1)
        factor = 1.0 / float(tracked) if norm.momentum is None else norm.momentum
    return F.batch_norm(
        x,
        cast(Tensor, norm.running_mean)[:width],
        cast(Tensor, norm.running_var)[:width],
        norm.weight[:width],
        norm.bias[:width],
        norm.training,
        factor,
        norm.eps,
    )


class MobileSuperNet(MixedNetwork):
    """The largest network of a chain, with the space's pretrained weights, and all others in it.

    Args:
        chain: whose operations the slots have.
        classes: outputs; the classifiers are new and small.
    """

    def __init__(self, chain: Chain, classes: int) -> None:
        super().__init__()
        space, weights = chain.space, chain.space.weights()
        self.chain, self.classes = chain, classes
        self.slots, self.operations = chain.slots, len(chain.operations)
        largest = tuple(len(decision.values) - 1 for decision in space.decisions)
        network = InvertedResidualNetwork(**space.config(largest, classes, pretrained=True))
        space.start(network)
        self.stem, self.first = network.stem, network.stages[0]
        self.head, self.hidden = network.head, network.hidden
        self.stages = nn.ModuleList(
            nn.ModuleList(_sliced(chain, weights, slot, network.config) for slot in slots)
            for slots in chain.stages
        )
        self.classifier = network.classifier
        ends = [stages for stages in space.depths if stages < len(space.layout)]
        self.exits = nn.ModuleDict(
            {str(n): nn.Linear(space.layout[n - 1].channels, classes) for n in ends}
        )
        for classifier in (self.classifier, *self.exits.values()):
            nn.init.normal_(cast(nn.Linear, classifier).weight, std=0.01)
            nn.init.zeros_(cast(nn.Linear, classifier).bias)

    # -- passes --------------------------------------------------------------------------------

    def forward(self, x: Tensor, choice: Architecture | Choice) -> Tensor:
        """Map float images (batch, 3, h, w), scaled to -1..1, to logits (batch, classes).

        An absent block passes on what comes in. Where the first block of a stage is absent the
        network ends before it; of a mixture of ends and operations, the logits of every end count
        as much as its weight and those of whatever leads to it.
        """
        logits: Tensor | None = None
        for features, share, classifier in self.ends(x, choice):
            term: Tensor = classifier(features)
            term = term if share is None else share * term
            logits = term if logits is None else logits + term
        return cast(Tensor, logits)

    def pooled(self, x: Tensor, choice: Choice) -> Tensor:
        """Return float (batch, F), what the only classifier that is reached sees.

        Raises:
            InputError: there are several.
        """
        found = [features for features, _, _ in self.ends(x, choice)]
        if len(found) > 1:
            raise InputError(
                f"A mixture of networks of {len(found)} depths has no features of its own; ask for "
                "those of one path."
            )
        return found[0]

    def ends(
        self, x: Tensor, choice: Architecture | Choice
    ) -> Iterator[tuple[Tensor, Tensor | None, nn.Linear]]:
        """Yield the features of every end that a choice has, their share, and their classifier.

        A share is a scalar tensor, None for one. Gates without weights, in which the first block of
        a stage is both absent and present, have the features of all first stages on the way.
        """
        gates = self._checked(x, choice)
        if not isinstance(gates, Gates):
            raise InputError(
                "Paths through slices cannot be routed together; send them one by one."
            )
        x = self.first(self.stem(x))
        share: Tensor | None = None
        slot = 0
        for number, stage in enumerate(self.stages, start=1):
            for block in cast(nn.ModuleList, stage):
                weights = None if gates.weights is None else gates.weights[slot]
                plan = dict(gates.plan[slot])
                ended = plan.pop(ABSENT, None) if slot == self.chain.stages[number - 1][0] else None
                if ended is not None:
                    with torch.set_grad_enabled(torch.is_grad_enabled() and not ended):
                        features = self._finished(x, number)
                    own = None if weights is None else weights[ABSENT]
                    yield features, _product(share, own), self._classifier(number)
                    if not plan:
                        return
                    if weights is not None:
                        left = weights[list(plan)].sum()
                        share = _product(share, left)
                        # What is left of the mixture is a whole one behind the end.
                        weights = weights / left if float(left.detach()) > _NONE else None
                x = self._mixed(cast(BlockSlice, block), x, plan, weights)
                slot += 1
        yield self._finished(x, len(self.stages) + 1), share, self.classifier

    def every_end(self, architecture: Architecture) -> Gates:
        """Return the gates by which :meth:`ends` gives all ends of a member's first stages."""
        gates = Gates.path(architecture, self.operations)
        for stages in self.exits:
            gates.active[self.chain.stages[int(stages) - 1][0], ABSENT] = True
        return Gates(gates.active)

    def _mixed(
        self, block: BlockSlice, x: Tensor, plan: dict[int, bool], weights: Tensor | None
    ) -> Tensor:
        """Return the weighted sum of a block's operations, each of which may be frozen."""
        value: Tensor | None = None
        for operation, frozen in plan.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                term = x if operation == ABSENT else block(x, operation)
            term = term if weights is None else weights[operation] * term
            value = term if value is None else value + term
        return cast(Tensor, value)

    def _finished(self, x: Tensor, stages: int) -> Tensor:
        """Return the pooled features of a network of so many stages."""
        if stages <= len(self.stages):
            return x.mean((2, 3))
        if self.head is not None:
            x = self.head(x)
        x = x.mean((2, 3))
        return x if self.hidden is None else self.hidden(x)

    def _classifier(self, stages: int) -> nn.Linear:
        if str(stages) not in self.exits:
            raise InputError(
                f"No network of {self.chain.name!r} ends after {stages} stages; its first block of "
                "the next one must be there."
            )
        return cast(nn.Linear, self.exits[str(stages)])

    # -- slices --------------------------------------------------------------------------------

    @torch.no_grad()
    def plain(self, architecture: Architecture) -> InvertedResidualNetwork:
        """Return the plain network of a member with its part of the weights and statistics.

        In evaluation it gives what this one gives for the architecture.
        """
        config = self.chain.space.config(
            self.chain.member(architecture), self.classes, pretrained=True
        )
        network = InvertedResidualNetwork(**config)
        whole = len(network.stages) == len(self.stages) + 1
        parts: list[tuple[nn.Module, nn.Module | None]] = [
            (network.stem, self.stem),
            (network.stages[0], self.first),
            (
                network.classifier,
                self.classifier if whole else self._classifier(len(network.stages)),
            ),
        ]
        if whole:
            parts += [(cast(nn.Module, network.head), self.head)] if network.head else []
            parts += [(network.hidden, self.hidden)] if network.hidden else []
        for heir, parent in parts:
            heir.load_state_dict(cast(nn.Module, parent).state_dict())
        for slots, heirs, stage in zip(
            self.chain.stages, list(network.stages)[1:], self.stages, strict=False
        ):
            for slot, heir, block in zip(
                slots, cast(nn.Sequential, heirs), cast(nn.ModuleList, stage), strict=False
            ):
                heir.load_state_dict(cast(BlockSlice, block).state(architecture[slot]))
        return network

    def edges(self, slot: int) -> list[MixedOperation]:
        """Return the block of a slot, which answers what mixed operations do."""
        block = [cast(BlockSlice, b) for stage in self.stages for b in cast(nn.ModuleList, stage)]
        return cast("list[MixedOperation]", [block[slot]])

    def fixed_weights(self) -> list[Tensor]:
        """Return the weights of stem, first stage, head and classifiers."""
        parts = [self.stem, self.first, self.head, self.hidden, self.classifier, self.exits]
        there = [part for part in parts if part is not None]
        return [p for part in there for p in part.parameters() if p.dim() > 1]

    def clone(self, slot: int, operation: int, by_slot: int) -> int:
        """Refuse: slices of one block are one set of weights.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"Operation {operation} of slot {slot} of {self.chain.name!r} cannot be cloned by slot "
            f"{by_slot}: it is a slice of what all operations of its slot share."
        )


def _product(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return one if other is None else other
    return one * other


def _sliced(chain: Chain, weights: Weights, slot: int, config: dict[str, object]) -> BlockSlice:
    """Return the block of a slot with the weights that the space's networks inherit."""
    space, block = chain.space, chain.blocks[slot]
    stage = space.layout[block.stage]
    prefix = f"stages.{block.stage}.{block.place}"
    stages = cast("list[list[tuple[int, int, int, int, str, int]]]", config["stages"])
    outputs, _, kernel, stride, activation, _ = stages[block.stage][block.place]
    blocks = {}
    for expansion in stage.expansions:
        made = InvertedResidual(
            block.inputs,
            outputs,
            block.inputs * expansion,
            kernel,
            stride,
            activation,
            space.squeezed(block, expansion),
            cast(bool, config["same"]),
            cast(float, config["eps"]),
        )
        made.load_state_dict(narrowed(weights, prefix, made))
        blocks[expansion] = made
    width = block.inputs * stage.expansions[-1]
    order = weights.ranking.get(prefix, torch.arange(width))
    own = {
        side: weights.kernels[prefix, side]
        for side in stage.kernels
        if (prefix, side) in weights.kernels
    }
    return BlockSlice(chain.choices, blocks, order, own)
