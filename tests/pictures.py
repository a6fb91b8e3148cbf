"""Images that the tests of datasets share."""

import io

import numpy as np
from PIL import Image

_RNG = np.random.default_rng(0)
IMAGES = _RNG.integers(0, 256, (12, 9, 8, 3), dtype=np.uint8)
LABELS = [0, 1, 2] * 4
"""Of :data:`IMAGES`."""
TORN = _RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8)
"""Large enough for its file to be cut in the middle."""


def png(image: np.ndarray) -> bytes:
    """Return an image as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
