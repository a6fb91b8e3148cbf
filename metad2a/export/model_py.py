"""``model.py``: a network as one Python file that needs torch alone.

The file that defines the network (``metad2a.spaces.networks``) is pasted whole, and so is what
loads weights and reads pictures (``metad2a.export.delivered``): nothing is written a second time.
Between them stand the constants: the network's sizes, the names of the classes, the preprocessing.
"""

from __future__ import annotations

import ast
import inspect
import pprint
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metad2a.datasets import decode
from metad2a.export import delivered
from metad2a.export.delivery import Delivery

WIDTH = 99
_LOAD = """\
    from model import CLASSES, load, preprocess

    network = load()                                # images from 0 to 1 -> logits
    chances = network(preprocess("image.jpg")).softmax(1)
"""
_BUILD = """\
    from model import build

    network = build()                               # untrained: weights are drawn anew
"""


def code(delivery: Delivery) -> str:
    """Write the network as one Python file.

    The file has ``build()``, which returns the plain network with new weights, ``load()``, which
    returns it with those of ``model.safetensors`` and with its normalisation, and ``preprocess()``
    for pictures. Run as a script it prints the labels of image files.

    Args:
        delivery: the network and what belongs to it; its weights are not read.

    Raises:
        ValueError: the network's own file imports something besides torch and the standard library.
    """
    network = type(delivery.network)
    about, imports, body = _parts(Path(inspect.getfile(network)))
    _, more, rest = _parts(Path(delivered.__file__))
    # The stand-ins for the constants end where the first class begins.
    rest = rest[rest.index("class Delivered") :]
    constants = {
        "CONFIG": delivery.network.config,
        "CLASSES": list(delivery.classes),
        "MEAN": _decimals(delivery.mean),
        "DEVIATION": _decimals(delivery.deviation),
        "RESOLUTION": delivery.resolution,
        "FILL": decode.FILL,
        "LONGEST": decode.LONGEST,
        # Black and white of the pictures with more than 8 bits in the training.
        "LEVELS": delivery.levels and [delivery.levels.black, delivery.levels.white],
    }
    head = [
        _docstring(delivery, about),
        "from __future__ import annotations\n",
        _imports({*imports, *more}),
        "".join(f"{name} = {_literal(value, name)}\n" for name, value in constants.items()),
    ]
    parts = ["\n".join(head), f"{body.strip()}\n", f"Network = {network.__name__}\n", rest]
    return "\n\n".join(parts)


def _parts(path: Path) -> tuple[str, list[tuple[str, str]], str]:
    """Return a file's docstring, its imports as (module, name) and what comes after them."""
    text = path.read_text(encoding="utf-8")
    tree, imports, end = ast.parse(text), [], 0
    for node in tree.body:
        if isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{a.name} as {a.asname}" if a.asname else a.name for a in node.names]
            imports += [(node.module or "", name) for name in names]
        elif not isinstance(node, ast.Expr):
            break
        end = node.end_lineno or end
    for module, _ in imports:
        top = module.partition(".")[0]
        if top != "torch" and top not in sys.stdlib_module_names:
            raise ValueError(f"{path.name} imports {module!r}; a plain network needs torch alone")
    return ast.get_docstring(tree) or "", imports, "\n".join(text.splitlines()[end:]) + "\n"


def _imports(wanted: set[tuple[str, str]]) -> str:
    """Return import lines, the standard library's before torch's."""
    wanted = {(module, name) for module, name in wanted if module != "__future__"}
    groups = []
    for foreign in (False, True):
        modules = {m for m, _ in wanted if m.startswith("torch") == foreign}
        plain = [f"import {m}\n" for m in sorted(modules) if (m, "") in wanted]
        chosen = [
            f"from {m} import {', '.join(names)}\n"
            for m in sorted(modules)
            if (names := sorted({n for module, n in wanted if module == m and n}))
        ]
        groups.append("".join([*plain, *chosen]))
    return "\n".join(groups)


def _literal(value: Any, name: str) -> str:
    """Return a Python literal; texts are quoted so that nothing in them is code."""
    if isinstance(value, dict):
        items = [
            f"    {key!r}: {_literal(inner, f'     {key}')},\n" for key, inner in value.items()
        ]
        return f"{{\n{''.join(items)}}}"
    start = len(name) + 3
    shown = pprint.pformat(value, width=WIDTH - start, compact=True, sort_dicts=False)
    return shown.replace("\n", "\n" + " " * start)


def _decimals(values: Any) -> list[float]:
    """Return the shortest decimals that give the same 32-bit numbers."""
    import numpy as np

    return [float(str(np.float32(value))) for value in values]


def _docstring(delivery: Delivery, about: str) -> str:
    lines = [*_wrapped(delivery.architecture, "    "), ""]
    for name, value in facts(delivery).items():
        lines += _wrapped(value, name.ljust(12), " " * 12)
    use = _LOAD if delivery.trained else _BUILD
    return f'''"""An image classifier, made by metad2a. Needs torch, and Pillow to read pictures.

{_escaped(chr(10).join(lines))}

{use}
{_escaped(about)}
"""
'''


def facts(delivery: Delivery) -> Mapping[str, str]:
    """Return what is told of a network in words, one line each."""
    return dict(_facts(delivery))


def _facts(delivery: Delivery) -> Iterator[tuple[str, str]]:
    figures, side = delivery.figures, delivery.resolution
    yield "space", delivery.space
    yield "classes", f"{len(delivery.classes):,}"
    yield "parameters", f"{figures.params:,}"
    yield "MACs", f"{figures.macs:,} for one image of {side}x{side} pixels"
    if figures.accuracy is not None:
        told = f"{figures.accuracy:.1f} %"
        if figures.confusion is not None:
            told += f" of {int(figures.confusion.sum()):,} images that had no part in the training"
        yield "accuracy", told
    if figures.balanced_accuracy is not None:
        yield "balanced", f"{figures.balanced_accuracy:.1f} %, the mean over the classes"
    if figures.predicted is not None:
        told = f"{figures.predicted:.1f} % before the training"
        if figures.interval is not None:
            low, high = figures.interval
            told += f", 90 % interval {low:.1f} to {high:.1f} %"
        yield "predicted", told


def _wrapped(text: str, first: str, others: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if others is None else others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _escaped(text: str) -> str:
    """Return text that ends no string and starts no escape where it stands in a docstring."""
    printable = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return printable.replace("\\", "\\\\").replace('"', '\\"')
