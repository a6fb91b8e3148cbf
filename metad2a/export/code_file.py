"""``model.py``: the network as plain PyTorch code that needs nothing of this package.

The code is written for one architecture: only the operations that it uses, edges by their names,
and sums where its nodes are. The names of its parts are those of the networks that are built here,
so that weights go from one to the other strictly.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from metad2a.export._writers import writer
from metad2a.export.design import Design, Standardisation
from metad2a.export.facts import facts, usage

if TYPE_CHECKING:
    from metad2a.suggestion import Candidate

_WIDTH, _NAMES, _INDENT = 99, 12, "    "
_STANDARDISED = '''\
class Standardised(nn.Module):
    """A network behind the mean and deviation of the images (0 to 1) that it was trained on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor({mean}).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor({deviation}).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - self.mean) / self.deviation)
'''
_BUILD = '''\
def build() -> nn.Module:
    """Return the network with new weights."""
    return {made}
'''
_USE = """\
    from model import build

    network = build()   # untrained: weights are drawn anew
"""
_USE_WEIGHTS = """\
    from safetensors.torch import load_file   # pip install safetensors
    from model import build

    network = build()
    network.load_state_dict(load_file("model.safetensors"))
    network.eval()
"""


def code(candidate: Candidate | Design) -> str:
    """Write the network as one Python module that imports torch alone.

    Args:
        candidate: of ``suggest``, ``search.refine`` or ``search.check``, or a design. If it holds a
            trained network, the code is of that one: of its sizes, standardisation included.

    Returns:
        Source with a function ``build`` that returns the network, whose ``state_dict`` has the
        names and shapes of ``candidate.build()``'s.

    Raises:
        InputError: there is no writer for its space, or its trained network is of another make.
    """
    design = Design.of(candidate)
    parts = writer(design.space).classes(design)
    made = "Network()"
    if design.standardisation is not None:
        parts.append(_standardised(design.standardisation))
        made = "Standardised(Network())"
    body = "\n\n".join([*parts, _BUILD.format(made=made)])
    imports = "import torch\nfrom torch import Tensor, nn\n"
    if "F." in body:
        imports += "from torch.nn import functional as F\n"
    return f"{_docstring(design)}\n{imports}\n\n{body}"


def _docstring(design: Design) -> str:
    told = facts(design)
    lines = [*_wrapped(told.pop("architecture"), _INDENT), ""]
    for name, value in told.items():
        lines += _wrapped(value, name.ljust(_NAMES), " " * _NAMES)
    lines += ["", *_wrapped(usage(design))]
    text = "\n".join(lines)
    use = _USE if design.network is None else _USE_WEIGHTS
    return f'''"""An image classifier, designed by metad2a. Needs torch, and nothing else.

{_escaped(text)}

{use}"""
'''


def _wrapped(text: str, first: str = "", others: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if others is None else others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _escaped(text: str) -> str:
    """Return text that ends no string and starts no escape where it stands in a docstring."""
    printable = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return printable.replace("\\", "\\\\").replace('"', '\\"')


def _standardised(found: Standardisation) -> str:
    # The shortest decimals that give the same 32-bit numbers.
    mean, deviation = (
        "[" + ", ".join(str(np.float32(value)) for value in values) + "]"
        for values in (found.mean, found.deviation)
    )
    return _STANDARDISED.format(mean=mean, deviation=deviation)
