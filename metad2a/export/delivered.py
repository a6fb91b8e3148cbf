"""A network as it is handed out: with normalisation, weights and preprocessing.

What follows the constants is pasted into every ``model.py`` (``metad2a.export.model_py``), which
puts the network and the constants in their places. So this file needs torch alone, and Pillow to
read pictures.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Stand-ins; each model.py has its own.
Network: type[nn.Module] = nn.Identity
CONFIG: dict[str, Any] = {}
CLASSES: list[str] = []
MEAN, DEVIATION = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]
RESOLUTION, FILL, LONGEST = 224, 127, 1.5
LEVELS: list[float] | None = None


class Delivered(nn.Module):
    """A network behind the normalisation that it was trained with.

    Args:
        network: takes images (batch, 3, h, w), normalised, and gives logits (batch, classes).
        mean: of each channel, red first, for values from 0 to 1.
        deviation: by which each channel is divided then.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map float images (batch, 3, h, w), 0..1, to logits (batch, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.deviation)
        return logits


def build() -> nn.Module:
    """Return the network with new weights; it takes normalised images and gives logits."""
    return Network(**CONFIG)


def load(weights: str = "model.safetensors") -> nn.Module:
    """Return the network with its weights, for images from 0 to 1 (see :func:`preprocess`).

    Args:
        weights: the file; a relative path starts where this file lies.
    """
    network = build()
    network.load_state_dict(read_tensors(Path(__file__).parent / weights))
    return Delivered(network, MEAN, DEVIATION).eval()


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file; what it says of itself is checked against its length.

    Raises:
        ValueError: it is none, or damaged.
    """
    kinds = {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "U8": torch.uint8,
    }
    content = memoryview(Path(path).read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0] if len(content) > 8 else len(content) + 1
    if start > len(content):
        raise ValueError(f"{path}: no safetensors file, or a part of one")
    header = json.loads(bytes(content[8:start]))
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (first, last) = kinds[entry["dtype"]], entry["shape"], entry["data_offsets"]
        count = 1
        for length in shape:
            count *= length
        if not 0 <= first <= last <= len(content) - start or last - first != count * kind.itemsize:
            raise ValueError(f"{path}: the tensor {name!r} does not lie within the file")
        data = bytearray(content[start + first : start + last])
        # An empty buffer holds no tensor.
        found = torch.frombuffer(data, dtype=kind) if count else torch.empty(0, dtype=kind)
        tensors[name] = found.view(shape)
    return tensors


def preprocess(image: Any) -> Tensor:
    """Fit a picture into the square that the network was trained on; needs Pillow.

    Its sides keep their ratio: the shorter one becomes RESOLUTION, and the middle of the longer one
    is kept. What is longer than LONGEST to one is made smaller, and filled with gray.

    Args:
        image: path of an image file, or a Pillow image of any mode.

    Returns:
        float32 (1, 3, RESOLUTION, RESOLUTION), 0..1, on the CPU.
    """
    from PIL import Image, ImageOps

    if not isinstance(image, Image.Image):
        with Image.open(image) as opened:
            # A large JPEG is decoded at a fraction of its size, as for training.
            opened.draft(None, (2 * RESOLUTION, 2 * RESOLUTION))
            opened.load()
            return preprocess(opened)
    with contextlib.suppress(Exception):  # A damaged EXIF block leaves the picture as stored.
        image = ImageOps.exif_transpose(image)
    image = to_rgb(image)
    scale = min(RESOLUTION / min(image.size), LONGEST * RESOLUTION / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    # Whole pixels to the left and above, of the picture and of the square.
    left, top = (max(0, side - RESOLUTION) // 2 for side in image.size)
    right, foot = min(width, left + RESOLUTION), min(height, top + RESOLUTION)
    image = image.crop((left, top, right, foot))
    square = Image.new("RGB", (RESOLUTION, RESOLUTION), (FILL, FILL, FILL))
    square.paste(image, ((RESOLUTION - image.width) // 2, (RESOLUTION - image.height) // 2))
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    pixels = pixels.view(1, RESOLUTION, RESOLUTION, 3).permute(0, 3, 1, 2)
    return pixels.contiguous().float() / 255


def own_levels(values: Tensor) -> list[float]:
    """Return the values of black and white of one picture with more than 8 bits, float64 (n,).

    White is the end of the range of 1, 8, 10, 12, 14 or 16 bits that holds all values, if an eighth
    of that is used; else black and white are the lowest and the highest, less some odd pixels.
    """
    values = values[values.isfinite()]
    if not len(values):
        raise ValueError("no pixel value is finite")
    some = values[:: max(1, len(values) // 2**20)]
    low, high = some.quantile(torch.tensor([0.001, 0.999], dtype=some.dtype)).tolist()
    lowest, highest = values.min().item(), values.max().item()
    if lowest >= 0 and highest <= 65535:
        white = next(2.0**bits - 1 for bits in (1, 8, 10, 12, 14, 16) if highest <= 2**bits - 1)
        if high - low >= white / 8 or high == low:
            return [0.0, white]
    return [low, high if high > low else low + 1.0]


def to_rgb(image: Any) -> Any:
    """Return a Pillow image of any mode as RGB: alpha on white, 16-bit and float gray scaled."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        real = image.mode.startswith("F")
        image = image if real else image.convert("I")
        kind = torch.float32 if real else torch.int32
        values = torch.frombuffer(bytearray(image.tobytes()), dtype=kind).double()
        black, white = LEVELS or own_levels(values)
        gray = ((values - black) * (255.0 / (white - black))).round()
        gray = torch.where(values.isfinite(), gray, 0.0).clamp(0, 255).to(torch.uint8)
        return Image.frombytes("L", image.size, bytes(gray.tolist())).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        if image.mode in ("La", "RGBa"):
            image = image.convert(image.mode.upper())
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")


def main(files: Sequence[str]) -> None:
    """Print the three likeliest labels of each image file."""
    if not files:
        print("usage: python model.py IMAGE...")
        return
    network = load()
    for file in files:
        with torch.no_grad():
            chances = network(preprocess(file))[0].softmax(0)
        found = chances.topk(min(3, len(CLASSES)))
        told = zip(found.values.tolist(), found.indices.tolist(), strict=True)
        print(f"{file}: {', '.join(f'{CLASSES[i]} {100 * share:.1f} %' for share, i in told)}")


if __name__ == "__main__":
    main(sys.argv[1:])
