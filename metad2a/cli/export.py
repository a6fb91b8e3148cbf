"""``metad2a export ARCH``: a network as code, ONNX, drawing or description."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.cli.common import UsageError, add_json, answer, integer
from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.export import Delivery
    from metad2a.spaces import Architecture, SearchSpace

FORMATS = ("py", "onnx", "svg", "png", "mmd", "json")
_BINARY = ("onnx", "png")
_DRAWN = ("svg", "png", "mmd")
_SIZES = ("channels", "cells")
_DESCRIPTION, _LABELS = "architecture.json", "labels.json"
_LONGEST = 16 * 2**20
"""Bytes of a description; ours have some thousand."""


@dataclass(frozen=True)
class _Named:
    """What the arguments name."""

    space: SearchSpace
    architecture: Architecture
    classes: tuple[str, ...] | None = None
    """None where neither the arguments nor a file say it."""
    macro: dict[str, int] = field(default_factory=dict)
    folder: Path | None = None
    """With the weights of a trained network, if they are what is wanted."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "architecture",
        metavar="ARCH",
        help="string form of the space, architecture.json, or a folder with one "
        "(its weights are exported too)",
    )
    parser.add_argument(
        "--space", metavar="S", help="search space (default: the file's, or nasbench201)"
    )
    parser.add_argument(
        "--classes", type=integer, metavar="N", help="outputs of the network (default: the file's)"
    )
    parser.add_argument("--to", choices=FORMATS, help="default: what the name of --out ends in")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where it is written (default: text goes to standard output)",
    )
    for name in _SIZES:
        parser.add_argument(
            f"--{name}",
            type=integer,
            metavar=name[0].upper(),
            help="of a new network (default: the space's)",
        )
    add_json(parser)


def run(args: Namespace) -> int:
    """Write the file, or print the text."""
    to = args.to or (args.out.suffix[1:].lower() if args.out else None)
    if to not in FORMATS:
        raise UsageError(
            f"Say what to export to: --to {'|'.join(FORMATS)}, or an --out that ends "
            "in one of them."
        )
    if args.out is None and to in _BINARY:
        raise UsageError(f"--to {to} needs --out FILE.")
    named = _named(args)
    told: dict[str, Any] = {
        "to": to,
        "out": None if args.out is None else str(args.out),
        **named.space.to_json(named.architecture),
    }
    if to in _DRAWN:
        from metad2a import draw

        content = draw.FORMATS[f".{to}"](named.space, named.architecture)
    else:
        delivery = _delivery(named)
        told |= {
            "classes": len(delivery.classes),
            "params": delivery.figures.params,
            "macs": delivery.figures.macs,
            "resolution": delivery.resolution,
            "trained": delivery.trained,
        }
        if to == "onnx":
            from metad2a.export import write_onnx

            write_onnx(delivery, args.out)
            content = b""
        else:
            from metad2a.export import code, description

            content = (code if to == "py" else description)(delivery).encode()
    if args.out is not None and to != "onnx":
        from metad2a._files import write_file

        write_file(args.out, content)
    told["text"] = content.decode() if args.out is None else None
    answer(args, told, f"Wrote {args.out}." if args.out else content.decode().rstrip("\n"))
    return 0


def _named(args: Namespace) -> _Named:
    """Return what the arguments name, read from a file where they name one."""
    from metad2a.spaces import SPACES

    macro = {name: value for name in _SIZES if (value := getattr(args, name)) is not None}
    if _is_place(args.architecture):
        found = _described(Path(args.architecture))
        if args.space not in (None, found.space.name):
            raise InputError(
                f"--space {args.space}, but {args.architecture!r} is of the space "
                f"{found.space.name!r}; leave --space out."
            )
        if args.classes is None and not macro:
            return found
        # Another network than the one with weights.
        found = replace(found, macro={**found.macro, **macro}, folder=None)
    else:
        space = SPACES.get(args.space or "nasbench201")
        found = _Named(space, space.parse(args.architecture), None, macro)
    if args.classes is None:
        return found
    return replace(found, classes=_names(args.classes))


def _names(count: int) -> tuple[str, ...]:
    """Return names of so many classes, or refuse the number."""
    from metad2a.export.untrained import MOST_CLASSES

    if not 2 <= count <= MOST_CLASSES:
        raise InputError(
            f"classes={count} cannot be exported; give a whole number from 2 to {MOST_CLASSES:,}."
        )
    return tuple(f"class {index}" for index in range(count))


def _described(place: Path) -> _Named:
    """Read ``architecture.json`` of a folder, or what `metad2a suggest --json` says of a candidate.

    Raises:
        InputError: it cannot be read, or a value is missing or wrong.
    """
    from metad2a.spaces.base import architecture_from_json

    file = place / _DESCRIPTION if place.is_dir() else place
    data = _read(file)
    space, architecture = architecture_from_json(data)
    labels, classes, names = file.with_name(_LABELS), data.get("classes"), None
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        names = tuple(classes)
    elif file.name == _DESCRIPTION and labels.exists():
        names = tuple(str(name) for name in _read(labels).values())
    elif type(classes) is int:
        names = _names(classes)
    elif classes is not None:
        raise InputError(f"{str(file)!r} has {classes!r:.60} for classes; it must be their names.")
    network, weights = data.get("network"), data.get("weights")
    config = network.get("config") if isinstance(network, dict) else None
    macro = {
        name: config[name]
        for name in space.counted_macro
        if isinstance(config, dict) and name in config
    }
    folder = file.parent if file.name == _DESCRIPTION and isinstance(weights, dict) else None
    return _Named(space, architecture, names, macro, folder)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST:,} bytes")
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except OSError as error:
        raise InputError(
            f"{str(file)!r} cannot be read; give a folder made by `save`, or its {_DESCRIPTION}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{str(file)!r} is no JSON description of an architecture: {str(error)[:100]}. "
            "Give one that was written by `save`."
        ) from error
    return found


def _delivery(named: _Named) -> Delivery:
    from metad2a.export import untrained

    if named.classes is None:
        raise InputError("The number of classes is not known; give --classes N.")
    if named.folder is None:
        return untrained(named.space, named.architecture, named.classes, **named.macro)
    return _trained(named, named.folder)


def _trained(named: _Named, folder: Path) -> Delivery:
    """Return the trained network of a folder."""
    from metad2a.export import Delivery, Figures
    from metad2a.prediction import load
    from metad2a.spaces.counting import count

    found = load(folder)
    network = found.network.get_submodule("network")
    mean, deviation = (
        found.network.get_buffer(name).flatten().tolist() for name in ("mean", "deviation")
    )
    cost = count(network, found.resolution)
    return Delivery(
        network=network,
        space=named.space.name,
        architecture=named.space.format(named.architecture),
        classes=found.classes,
        resolution=found.resolution,
        mean=mean,
        deviation=deviation,
        figures=Figures(cost.params, cost.macs),
    )


def _is_place(text: str) -> bool:
    """Whether an argument is a file or a folder: no architecture looks like one."""
    try:
        return text.endswith(".json") or Path(text).exists()
    except (OSError, ValueError):  # longer than a path can be, or with a NUL
        return False
