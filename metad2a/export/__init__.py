"""Architectures that leave: code that needs torch alone, ONNX, a card, a folder with all of it.

Everything is written from a :class:`Design`; :func:`code`, :func:`onnx`, :func:`card` and
:func:`save` also take a candidate of ``suggest``, ``search.refine`` or ``search.check``.
"""

from metad2a.export.architecture_json import FORMAT_VERSION, from_json, to_json
from metad2a.export.card_file import card
from metad2a.export.code_file import code
from metad2a.export.design import Design
from metad2a.export.onnx_file import onnx
from metad2a.export.saving import load, save

__all__ = [
    "FORMAT_VERSION",
    "Design",
    "card",
    "code",
    "from_json",
    "load",
    "onnx",
    "save",
    "to_json",
]
