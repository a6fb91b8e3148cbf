"""What ONNX Runtime says of a file: that it computes the same, how fast, and in 8 bits how well.

The 8-bit form is static (Jacob et al., CVPR 2018): each convolution's weights have a scale a
channel, each activation's range is what training images reach. Weights keep 7 of their 8 bits, as
the instructions of processors without VNNI saturate otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a._files import new_file
from metad2a.errors import ArtifactError, InputError
from metad2a.export.onnx_model import INPUT, OUTPUT

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

TOLERANCE = 1e-3
"""Greatest difference of a logit from the network's, as a share of the greatest logit, or of 1."""
CALIBRATION = 200
"""Training images that set the ranges, at most."""
_BATCH = 16
_PASSES, _SECONDS = 15, 1.0
"""Of a latency: the median of so many passes, or of fewer within so many seconds."""


@dataclass(frozen=True)
class Measured:
    """An ONNX file's size and latency."""

    bytes: int
    ms: float | None
    """Milliseconds for one image, one CPU thread, the median; None without ONNX Runtime."""


@dataclass(frozen=True)
class Int8:
    """What 8 bits cost, on the same images."""

    images: int
    accuracy: float
    """Percent of the images, in 8 bits..."""
    float_accuracy: float
    """...and in 32."""

    @property
    def drop(self) -> float:
        """Points of accuracy that are lost; less than 0: won."""
        return self.float_accuracy - self.accuracy

    def __str__(self) -> str:
        return (
            f"int8: {self.accuracy:.1f} % of {self.images:,} images, {self.float_accuracy:.1f} % "
            f"in float32 ({-self.drop:+.1f} points)"
        )


def installed() -> bool:
    """Whether ONNX Runtime is here."""
    return find_spec("onnxruntime") is not None


def check_int8(calibration: Tensor | None) -> None:
    """Refuse what no 8-bit form can be made with.

    Raises:
        InputError: ONNX Runtime is not installed, or there are no images to calibrate with.
    """
    if not installed():
        raise InputError(
            "8-bit ONNX files need onnxruntime, not installed here: pip install 'metad2a[int8]'"
        )
    if calibration is None or not len(calibration):
        raise InputError(
            "8-bit ONNX files need training images for the ranges of their values; give some, "
            f"best {CALIBRATION}."
        )


def check(path: Path, network: nn.Module, images: Tensor) -> None:
    """Compare a file with the network that it was written from.

    Args:
        path: the ONNX file.
        network: takes the same images; on the CPU.
        images: float32 (n, 3, side, side), 0..1.

    Raises:
        ArtifactError: ONNX Runtime cannot run the file, or a logit differs by more than
            :data:`TOLERANCE`.
    """
    import torch

    with torch.no_grad():
        wanted = network(images).numpy()
    found = _run(_session(path), images)
    difference = float(abs(found - wanted).max())
    if not difference <= TOLERANCE * max(1.0, float(abs(wanted).max())):
        raise ArtifactError(
            f"{path.name} is wrong: ONNX Runtime's logits differ from the network's by up to "
            f"{difference:.2g}."
        )


def measure(path: Path, side: int) -> Measured:
    """Return size and latency of a file whose images have ``side`` pixels a side."""
    import torch

    size = path.stat().st_size
    if not installed():
        return Measured(size, None)

    session, image = _session(path, threads=1), torch.zeros(1, 3, side, side)
    _run(session, image)
    found: list[float] = []
    while len(found) < _PASSES and sum(found) < 1000 * _SECONDS:
        start = time.perf_counter()
        _run(session, image)
        found.append(1000 * (time.perf_counter() - start))
    return Measured(size, statistics.median(found))


def quantise(path: Path, out: Path, calibration: Tensor) -> None:
    """Write the 8-bit form of a float file.

    Args:
        path: of the float file; its metadata are kept.
        out: of the 8-bit file, replaced whole or not at all.
        calibration: uint8 (n, 3, side, side), training images.

    Raises:
        InputError: as :func:`check_int8`.
        ArtifactError: ONNX Runtime cannot do it, or the file cannot be written.
    """
    check_int8(calibration)
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with new_file(out) as made, _quiet():
        try:
            quantize_static(
                str(path),
                str(made),
                _Reader(calibration[:CALIBRATION]),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # Its errors have no common base.
            raise ArtifactError(f"ONNX Runtime makes no 8-bit file: {str(error)[:200]}") from error


def compare(path: Path, int8: Path, test: Iterable[tuple[Tensor, ...]]) -> Int8 | None:
    """Return the accuracy of both files; None where there are no images.

    Args:
        path: the float file.
        int8: the 8-bit file.
        test: batches of uint8 (m, 3, side, side) images and int64 (m,) labels.
    """
    sessions = _session(path), _session(int8)
    right, count = [0, 0], 0
    for images, labels, *_ in test:
        truth = labels.cpu().numpy()
        for index, session in enumerate(sessions):
            right[index] += int((_run(session, _scaled(images)).argmax(1) == truth).sum())
        count += len(truth)
    return Int8(count, 100 * right[1] / count, 100 * right[0] / count) if count else None


class _Reader:
    """Hands out the images to calibrate with, as ONNX Runtime wants them."""

    def __init__(self, images: Tensor) -> None:
        self.batches: Iterator[Tensor] = iter(images.split(_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the name of the input; None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: _scaled(batch).numpy()}


def _scaled(images: Tensor) -> Tensor:
    return images.cpu().contiguous().float() / 255


def _session(path: Path, threads: int = 0) -> Any:
    """Open a file; 0 threads are one a core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its errors have no common base.
        raise ArtifactError(f"ONNX Runtime cannot run {path.name}: {str(error)[:200]}") from error


def _run(session: Any, images: Tensor) -> Any:
    return session.run([OUTPUT], {INPUT: images.numpy()})[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice from the log."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
