"""``metad2a export ARCH``: a network as code, ONNX, drawing or description."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.cli.common import UsageError, add_json, answer, integer
from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.export import Design

FORMATS = ("py", "onnx", "svg", "png", "mmd", "json")
_BINARY = ("onnx", "png")
_DRAWN = ("svg", "png", "mmd")
_SIZES = ("channels", "cells")


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
            help="of the network (default: the file's, or the space's)",
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
    design = _design(args, drawn=to in _DRAWN)
    text = None
    if args.out is None:
        text = _content(design, to).decode()
    elif to == "onnx":
        from metad2a.export import onnx

        onnx(design, args.out)
    else:
        from metad2a._files import write_file

        write_file(args.out, _content(design, to))
    told: dict[str, Any] = {
        "to": to,
        "out": None if args.out is None else str(args.out),
        "text": text,
        **design.space.to_json(design.architecture),
    }
    if to not in _DRAWN:
        told |= {
            "classes": design.classes,
            "macro": dict(design.macro),
            "params": design.cost.params,
            "macs": design.cost.macs,
            "trained": design.network is not None,
        }
    answer(args, told, f"Wrote {args.out}." if text is None else text.rstrip("\n"))
    return 0


def _content(design: Design, to: str) -> bytes:
    from metad2a import draw, export

    if to in _DRAWN:
        return draw.FORMATS[f".{to}"](design.space, design.architecture)
    write: Callable[[Design], str] = export.code if to == "py" else export.to_json
    return write(design).encode()


def _design(args: Namespace, drawn: bool) -> Design:
    from metad2a.export import Design, load
    from metad2a.spaces import SPACES

    macro = {name: value for name in _SIZES if (value := getattr(args, name)) is not None}
    if not _is_place(args.architecture):
        space = SPACES.get(args.space or "nasbench201")
        architecture = space.parse(args.architecture)
        if args.classes is None and not drawn:
            raise InputError("The number of classes is not known; give --classes N.")
        # A drawing is the same for any number of classes.
        classes = 2 if args.classes is None else args.classes
        return Design.new(space, architecture, classes, **macro)
    found = load(args.architecture)
    if args.space not in (None, found.space.name):
        raise InputError(
            f"--space {args.space}, but {args.architecture!r} is of the space "
            f"{found.space.name!r}; leave --space out."
        )
    return found.resized(found.classes if args.classes is None else args.classes, **macro)


def _is_place(text: str) -> bool:
    """Whether an argument is a file or a folder: no architecture looks like one."""
    try:
        return text.endswith(".json") or Path(text).exists()
    except (OSError, ValueError):  # longer than a path can be, or with a NUL
        return False
