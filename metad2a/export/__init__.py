"""Networks that leave: code that needs torch alone, ONNX, a card, a folder with all of it.

Everything is written from a :class:`Delivery`: a network, the names of its classes, preprocessing
and figures, whoever made it.
"""

from metad2a.export.delivery import Delivery, Figures
from metad2a.export.folder import Saved, description, save, write_onnx
from metad2a.export.model_py import code
from metad2a.export.untrained import untrained

__all__ = [
    "Delivery",
    "Figures",
    "Saved",
    "code",
    "description",
    "save",
    "untrained",
    "write_onnx",
]
