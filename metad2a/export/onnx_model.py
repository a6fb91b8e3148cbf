"""``model.onnx``: a network's operations, recorded while it looks at an image, as an ONNX graph.

The network runs once; every tensor operation on its way from the images to the logits becomes a
node. Torch's own exporters do the same for any network: one traces each operation many times over
(45 s on one core for the whole EfficientNet-Lite0), the other one is deprecated and writes the
arithmetic of paddings into the graph. The few operations of the plain networks
(``metad2a.spaces.networks``) take a second, and batch norms and paddings go into the convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from metad2a._files import new_file
from metad2a.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT, OUTPUT = "images", "logits"
OPSET, IR = 17, 8
"""Of 2022: what older runtimes read too."""
_BATCH = 2
"""Of the images that are recorded; a size that is none of an image's own."""
_MOST_BYTES = 2**31
"""Of one ONNX file, which is a protocol buffer."""


@dataclass(eq=False)
class _Value:
    """A tensor of the recorded pass."""

    shape: tuple[int, ...]
    constant: Tensor | None = None
    """What it is, where no image has part in it."""
    step: _Step | None = None
    """What made it; None: it is the images, or constant."""
    users: list[_Step] = field(default_factory=list)
    name: str = ""
    """In the graph."""


@dataclass(eq=False)
class _Step:
    """An operation of the recorded pass."""

    operation: str
    arguments: dict[str, Any]
    """By the names of torch's schema; tensors are :class:`_Value`."""
    output: _Value


class _Recorder(TorchDispatchMode):
    """Keeps what happens to the images, in the order in which it happens."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = _Value(tuple(images.shape), name=INPUT)
        self.values: dict[int, _Value] = {id(images): self.images}
        # As long as a tensor lives, nothing else has its id.
        self.alive: list[Tensor] = [images]
        self.steps: list[_Step] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note it."""
        made = func(*args, **(kwargs or {}))
        first = made[0] if isinstance(made, list | tuple) else made
        if not isinstance(first, Tensor):
            return made
        self.alive.append(first)
        schema = func._schema
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | (kwargs or {})
        arguments = {
            a.name: self._noted(
                given.get(a.name, a.default_value if a.has_default_value() else None)
            )
            for a in schema.arguments
        }
        inputs = [v for v in _flat(arguments.values()) if isinstance(v, _Value)]
        value = _Value(tuple(first.shape))
        if all(v.constant is not None for v in inputs):
            value.constant = first.detach()
        else:
            name = schema.name.removeprefix("aten::").removesuffix("_").removeprefix("_")
            value.step = _Step(name, arguments, value)
            self.steps.append(value.step)
            for inner in inputs:
                inner.users.append(value.step)
        # An operation in place gives its tensor a new value.
        self.values[id(first)] = value
        return made

    def _noted(self, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return [self._noted(inner) for inner in given]
        if not isinstance(given, Tensor):
            return given
        if id(given) not in self.values:
            self.alive.append(given)
            self.values[id(given)] = _Value(tuple(given.shape), given.detach())
        return self.values[id(given)]


def _flat(values: Any) -> list[Any]:
    return [
        inner
        for value in values
        for inner in (_flat(value) if isinstance(value, list) else [value])
    ]


class _Graph:
    """Nodes and constants on their way into a file."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, inputs: Sequence[str], output: _Value, **attributes: Any) -> None:
        """Add a node, which makes ``output``; attributes that are None are left out."""
        from onnx import helper

        output.name = output.name or f"{kind.lower()}_{len(self.nodes)}"
        given = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, inputs, [output.name], output.name, **given))

    def keep(self, tensor: Tensor) -> str:
        """Add a constant, and return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        array = tensor.detach().contiguous().numpy()
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def of(self, given: _Value | float) -> str:
        """Return the name of a value, or of a number made a constant."""
        if not isinstance(given, _Value):
            return self.keep(torch.tensor(float(given)))
        if given.constant is not None and not given.name:
            given.name = self.keep(given.constant)
        return given.name


def _convolution(graph: _Graph, step: _Step) -> None:
    a, output = step.arguments, step.output
    weight, bias = a["weight"].constant, a["bias"].constant if a["bias"] else None
    if norm := _norm_after(step):
        output = norm.output
        scale, shift = (t.double() for t in _scale_and_shift(norm))
        if bias is not None:
            shift = shift + bias.double() * scale
        weight = (weight.double() * scale.view(-1, 1, 1, 1)).float()
        bias = shift.float()
    source, (down, across) = a["input"], a["padding"]
    pads = [down, across, down, across]
    if source.step and _is_in_convolution(source.step):
        left, right, top, bottom = source.step.arguments["pad"]
        pads = [top + down, left + across, bottom + down, right + across]
        source = source.step.arguments["self"]
    inputs = [graph.of(source), graph.keep(weight)]
    graph.add(
        "Conv",
        inputs if bias is None else [*inputs, graph.keep(bias)],
        output,
        kernel_shape=list(weight.shape[2:]),
        strides=a["stride"],
        pads=pads,
        dilations=a["dilation"],
        group=a["groups"],
    )


def _norm_after(step: _Step) -> _Step | None:
    """Return the batch norm that alone uses what a convolution gives."""
    users = step.output.users
    return users[0] if len(users) == 1 and "batch_norm" in users[0].operation else None


def _scale_and_shift(norm: _Step) -> tuple[Tensor, Tensor]:
    """Return what a batch norm multiplies each channel by, and adds then; float64 (channels,)."""
    a = norm.arguments
    mean, variance = (a[name].constant.double() for name in ("running_mean", "running_var"))
    scale = (variance + a["eps"]).rsqrt()
    if a["weight"]:
        scale = scale * a["weight"].constant.double()
    shift = -mean * scale
    return scale, shift + a["bias"].constant.double() if a["bias"] else shift


def _batch_norm(graph: _Graph, step: _Step) -> None:
    source = step.arguments["input"]
    if source.step and source.step.operation == "convolution" and _norm_after(source.step):
        return  # It is in the convolution.
    scale, shift = (graph.keep(t.float().view(1, -1, 1, 1)) for t in _scale_and_shift(step))
    scaled = _Value(step.output.shape)
    graph.add("Mul", [graph.of(source), scale], scaled)
    graph.add("Add", [scaled.name, shift], step.output)


def _is_in_convolution(pad: _Step) -> bool:
    """Whether a padding with zeros is for one convolution alone, which then does it itself."""
    users, a = pad.output.users, pad.arguments
    return (
        pad.operation == "constant_pad_nd"
        and len(users) == 1
        and users[0].operation == "convolution"
        and len(a["pad"]) == 4
        and min(a["pad"]) >= 0
        and not a["value"]
    )


def _pad(graph: _Graph, step: _Step) -> None:
    if _is_in_convolution(step):
        return
    a = step.arguments
    left, right, top, bottom = a["pad"]
    pads = graph.keep(torch.tensor([0, 0, top, left, 0, 0, bottom, right]))
    graph.add("Pad", [graph.of(a["self"]), pads, graph.of(float(a["value"]))], step.output)


def _pool(graph: _Graph, step: _Step) -> None:
    a, largest = step.arguments, step.operation.startswith("max")
    (down, across), kernel = _pair(a["padding"]), _pair(a["kernel_size"])
    # What lies beyond the padding, where sizes are rounded up, never counts.
    counted = None if largest else int(a["count_include_pad"] and bool(down or across))
    graph.add(
        "MaxPool" if largest else "AveragePool",
        [graph.of(a["self"])],
        step.output,
        kernel_shape=kernel,
        strides=_pair(a["stride"]) or kernel,
        pads=[down, across, down, across],
        ceil_mode=int(a["ceil_mode"]),
        count_include_pad=counted,
    )


def _pair(values: Sequence[int]) -> list[int]:
    return [*values, *values] if len(values) == 1 else list(values)


def _mean(graph: _Graph, step: _Step) -> None:
    a = step.arguments
    if sorted(axis % 4 for axis in a["dim"]) != [2, 3]:
        raise _unknown(step)
    if a["keepdim"]:
        graph.add("GlobalAveragePool", [graph.of(a["self"])], step.output)
        return
    pooled = _Value((*step.output.shape, 1, 1))
    graph.add("GlobalAveragePool", [graph.of(a["self"])], pooled)
    graph.add("Flatten", [pooled.name], step.output, axis=1)


def _view(graph: _Graph, step: _Step) -> None:
    source = step.arguments["self"]
    if step.output.shape != (source.shape[0], torch.Size(source.shape[1:]).numel()):
        raise _unknown(step)
    graph.add("Flatten", [graph.of(source)], step.output, axis=1)


def _slice(graph: _Graph, step: _Step) -> None:
    a = step.arguments
    if step.output.shape == a["self"].shape:
        _same(graph, step)
        return
    given = (a["start"] or 0, a["end"], a["dim"], a["step"])
    inputs = [graph.keep(torch.tensor([number])) for number in given]
    graph.add("Slice", [graph.of(a["self"]), *inputs], step.output)


def _linear(graph: _Graph, step: _Step) -> None:
    a = step.arguments
    bias = [graph.of(a["self"])] if step.operation == "addmm" else []
    first, second = (a["mat1"], a["mat2"]) if bias else (a["self"], a["mat2"])
    graph.add("Gemm", [graph.of(first), graph.of(second), *bias], step.output)


def _clip(graph: _Graph, step: _Step) -> None:
    a = step.arguments
    bounds = [graph.of(float(a[name])) for name in ("min_val", "max_val")]
    graph.add("Clip", [graph.of(a["self"]), *bounds], step.output)


def _concat(graph: _Graph, step: _Step) -> None:
    a = step.arguments
    graph.add("Concat", [graph.of(v) for v in a["tensors"]], step.output, axis=a["dim"])


def _zeros(graph: _Graph, step: _Step) -> None:
    graph.add("Mul", [graph.of(step.arguments["self"]), graph.of(0.0)], step.output)


def _same(graph: _Graph, step: _Step) -> None:
    step.output.name = graph.of(step.arguments["self"])


def _of_two(kind: str) -> Callable[[_Graph, _Step], None]:
    def write(graph: _Graph, step: _Step) -> None:
        a = step.arguments
        if a.get("alpha", 1) != 1:
            raise _unknown(step)
        graph.add(kind, [graph.of(a["self"]), graph.of(a["other"])], step.output)

    return write


def _of_one(kind: str, **attributes: float) -> Callable[[_Graph, _Step], None]:
    def write(graph: _Graph, step: _Step) -> None:
        graph.add(kind, [graph.of(step.arguments["self"])], step.output, **attributes)

    return write


OPERATIONS: dict[str, Callable[[_Graph, _Step], None]] = {
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "native_batch_norm_legit_no_training": _batch_norm,
    "constant_pad_nd": _pad,
    "avg_pool2d": _pool,
    "max_pool2d_with_indices": _pool,
    "mean": _mean,
    "view": _view,
    "unsafe_view": _view,
    "slice": _slice,
    "addmm": _linear,
    "mm": _linear,
    "hardtanh": _clip,
    "cat": _concat,
    "zeros_like": _zeros,
    "detach": _same,
    "alias": _same,
    "relu": _of_one("Relu"),
    "hardswish": _of_one("HardSwish"),
    "hardsigmoid": _of_one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "add": _of_two("Add"),
    "sub": _of_two("Sub"),
    "mul": _of_two("Mul"),
    "div": _of_two("Div"),
}
"""By torch's names, without the underscores of operations in place."""


def _unknown(step: _Step) -> ArtifactError:
    return ArtifactError(
        f"The network's operation {step.operation!r}, from shape "
        f"{[list(v.shape) for v in _flat(step.arguments.values()) if isinstance(v, _Value)]} to "
        f"{list(step.output.shape)}, has no ONNX form here. Use model.py, or add the operation to "
        "metad2a/export/onnx_model.py."
    )


def write(
    network: nn.Module, path: str | Path, resolution: int, metadata: Mapping[str, str]
) -> None:
    """Write a network as one ONNX file.

    Its input ``images`` is float32 (batch, 3, resolution, resolution) with any batch, its output
    ``logits`` float32 (batch, classes).

    Args:
        network: takes such images; on any device; it is not changed.
        path: the file, replaced whole or not at all.
        resolution: height and width of the images, in pixels.
        metadata: texts by name that the file carries.

    Raises:
        InputError: the network is too large for one file, or the package onnx is missing.
        ArtifactError: the network has an operation that is not known here, or the file cannot be
            written.
    """
    model = _model(network, resolution)
    for name, text in metadata.items():
        model.metadata_props.add(key=name, value=text)
    with new_file(path) as made:
        made.write_bytes(model.SerializeToString())


def _model(network: nn.Module, resolution: int) -> ModelProto:
    import copy

    try:
        from onnx import TensorProto, checker, helper
    except ModuleNotFoundError as error:
        raise InputError(
            "ONNX files need the package onnx, not installed here: pip install onnx"
        ) from error
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    if size >= _MOST_BYTES:
        raise InputError(
            f"The network's weights are {size:,} bytes, but an ONNX file holds less than "
            f"{_MOST_BYTES:,}; choose fewer channels or cells."
        )
    plain = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    images = torch.zeros(_BATCH, 3, resolution, resolution)
    with torch.no_grad(), _Recorder(images) as recorder:
        logits = plain(images)
    last = recorder.values[id(logits)]
    graph, steps = _Graph(), _alive(recorder.steps, last)
    last.name = OUTPUT
    for step in steps:
        if step.operation not in OPERATIONS:
            raise _unknown(step)
        OPERATIONS[step.operation](graph, step)
    kind = TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "metad2a",
        [helper.make_tensor_value_info(INPUT, kind, ["batch", *images.shape[1:]])],
        [helper.make_tensor_value_info(OUTPUT, kind, ["batch", *logits.shape[1:]])],
        graph.constants,
    )
    model = helper.make_model(
        made,
        producer_name="metad2a",
        ir_version=IR,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    checker.check_model(model, full_check=True)
    return model


def _alive(steps: Sequence[_Step], last: _Value) -> list[_Step]:
    """Return the steps that lead to the last value, in their order; values forget other users."""
    wanted, kept = {id(last)}, []
    for step in reversed(steps):
        if id(step.output) in wanted:
            kept.append(step)
            inputs = [v for v in _flat(step.arguments.values()) if isinstance(v, _Value)]
            wanted |= {id(v) for v in inputs}
    alive = {id(step) for step in kept}
    for step in kept:
        step.output.users = [user for user in step.output.users if id(user) in alive]
    return kept[::-1]
