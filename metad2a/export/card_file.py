"""``card.md``: what a network is, what is known of it, how to use it, and where not to trust it."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from metad2a.export.design import Design
from metad2a.export.facts import facts, usage

if TYPE_CHECKING:
    from metad2a.suggestion import Candidate

_USE = """\
from model import build

network = build()"""
_USE_WEIGHTS = """\
from safetensors.torch import load_file
from model import build

network = build()
network.load_state_dict(load_file("model.safetensors"))
network.eval()"""


def card(candidate: Candidate | Design) -> str:
    """Write a network's card as Markdown, for the folder that :func:`metad2a.export.save` makes.

    Args:
        candidate: as in :func:`metad2a.export.code`.

    Raises:
        InputError: its trained network is of another make.
    """
    design = Design.of(candidate)
    trained, told = design.network is not None, facts(design)
    architecture = told.pop("architecture")
    rows = "\n".join(f"| {name} | {_plain(value)} |" for name, value in told.items())
    weights = (
        "`model.safetensors` holds the weights that it learnt."
        if trained
        else "It is untrained: this folder has no weights."
    )
    return f"""# An image classifier for {design.classes:,} classes

![Its cells](architecture.svg)

| | |
|---|---|
{rows}

```text
{architecture}
```

## Use

`model.py` needs torch alone. {weights}

```python
{_USE_WEIGHTS if trained else _USE}
```

{usage(design)} `architecture.json` has all of the above for programs.

## Limits

{_limits(design)}
"""


def _limits(design: Design) -> str:
    found = []
    if design.prediction is not None:
        found.append(
            "* The predicted accuracy is what one short training recipe is expected to "
            "reach on the images that the network was suggested for; it is a ranking "
            "first of all. Train it, and judge it on images of your own."
        )
    if design.measured is not None:
        found.append(
            "* The measured accuracy is of held-out images of one dataset, by the "
            "protocol named; only accuracies of one protocol compare."
        )
    found.append("* One label an image. An image of none of the classes gets one all the same.")
    return "\n".join(found)


def _plain(text: str) -> str:
    """Return text as Markdown shows it letter by letter in a table."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", escape(text, quote=False))
