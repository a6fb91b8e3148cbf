"""Labels for pictures, by a network in a folder that ``save`` made.

What is read of the folder are ``architecture.json``, ``labels.json``, ``preprocessing.json`` and
``model.safetensors``; no code in it is run. Pictures go the way of the training's
(``metad2a.datasets.decode``).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from torch import nn

    from metad2a.datasets.levels import Levels
    from metad2a.export.delivery import Delivery

__all__ = ["Prediction", "Predictor", "load", "predict"]

_BATCH = 32
_LARGEST_TEXT = 16 * 2**20
_LARGEST_NUMBER, _LONGEST, _DEEPEST = 100_000, 10_000, 6
"""In the sizes of a network: numbers, entries of a list, lists in lists."""
_MOST_CELLS = 200


@dataclass(frozen=True)
class Prediction:
    """What a picture shows."""

    file: str
    """Its path as it was given or found; of what is no file, its place: ``image 0``."""
    label: str | None
    """Name of the likeliest class; None: the picture cannot be read."""
    probability: float | None
    """Of that class, 0 to 1, as the network holds it."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest classes and their probabilities, the likeliest first."""
    error: str | None = None
    """Why the picture cannot be read."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON; ``error`` only where there is one."""
        found = {**asdict(self), "top": [[name, share] for name, share in self.top]}
        if self.error is None:
            del found["error"]
        return found

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.file}: {self.error}"
        return f"{self.file}: " + ", ".join(f"{name} {share:.1%}" for name, share in self.top)


class Predictor:
    """A network with its labels and its preprocessing.

    Args:
        network: takes float32 images (batch, 3, resolution, resolution), 0..1, and gives logits
            (``metad2a.export.delivered.Delivered``), on any device.
        classes: names, in the order of the logits.
        resolution: height and width of its images, in pixels.
        levels: black and white of the pictures with more than 8 bits that it was trained on; None:
            there were none.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: Sequence[str],
        resolution: int,
        levels: Levels | None = None,
    ) -> None:
        self.network = network.eval()
        self.classes, self.resolution, self.levels = tuple(classes), resolution, levels

    @classmethod
    def of(cls, delivery: Delivery) -> Predictor:
        """Return a predictor with the network itself, on its own device."""
        from metad2a.export.delivered import Delivered

        device = next(delivery.network.parameters()).device
        network = Delivered(delivery.network, delivery.mean, delivery.deviation).to(device)
        return cls(network, delivery.classes, delivery.resolution, delivery.levels)

    def predict(self, sources: Any, top: int = 3) -> list[Prediction]:
        """Return a prediction for every picture, in order; see :func:`predict`."""
        return list(self.each(sources, top))

    def each(
        self, sources: Any, top: int = 3, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Prediction]:
        """Return an iterator over the predictions, in order; memory stays flat.

        Args:
            sources: as :func:`predict` has it, like ``top``.
            top: see there.
            progress: called with the number of pictures that are done and that of all.

        Raises:
            InputError: ``top`` is below 1, a source is of an unknown type, or a folder holds no
                picture.
        """
        if top < 1:
            raise InputError(f"top={top} names no class; give 1 or more.")
        pictures = _pictures(sources)
        return self._each(pictures, min(top, len(self.classes)), progress)

    def _each(
        self,
        pictures: Sequence[tuple[str, Any]],
        top: int,
        progress: Callable[[int, int], None] | None,
    ) -> Iterator[Prediction]:
        for start in range(0, len(pictures), _BATCH):
            part = pictures[start : start + _BATCH]
            squares, errors = [], {}
            for index, (_, picture) in enumerate(part):
                try:
                    squares.append(self._square(picture))
                except Exception as error:
                    errors[index] = _reason(error)
            found = iter(self._likeliest(squares, top) if squares else ())
            for index, (name, _) in enumerate(part):
                if index in errors:
                    yield Prediction(name, None, None, error=errors[index])
                else:
                    shares = next(found)
                    yield Prediction(name, *shares[0], shares)
            if progress is not None:
                progress(start + len(part), len(pictures))

    def _square(self, picture: Any) -> np.ndarray:
        """Return a picture as uint8 (resolution, resolution, 3)."""
        from PIL import Image, ImageOps

        from metad2a.datasets.arrays import array_to_rgb, check_values
        from metad2a.datasets.base import read_image_file
        from metad2a.datasets.decode import decode, square, to_rgb
        from metad2a.datasets.levels import levels_of, spread_of
        from metad2a.settings import OWN

        if isinstance(picture, Path):
            data = read_image_file(picture, OWN)
            ending = picture.suffix.lower()
            image = decode(data, 2 * self.resolution, self._levels, OWN, ending)[0]
        elif isinstance(picture, Image.Image):
            image = to_rgb(ImageOps.exif_transpose(picture), self._levels)
        else:
            check_values(picture)
            own = spread_of(picture)
            levels = self.levels or levels_of([] if own is None else [own])
            image = array_to_rgb(picture, levels, channels_first=False)
        return square(image, self.resolution)

    @property
    def _levels(self) -> Callable[[], Levels] | None:
        """What decoding asks for black and white; None: a picture's own."""
        levels = self.levels
        return None if levels is None else lambda: levels

    def _likeliest(
        self, squares: Sequence[np.ndarray], top: int
    ) -> list[tuple[tuple[str, float], ...]]:
        import torch

        device = next(self.network.parameters()).device
        images = torch.from_numpy(np.stack(squares)).to(device).permute(0, 3, 1, 2)
        with torch.no_grad():
            chances = self.network(images.contiguous().float() / 255).softmax(1)
        shares, places = chances.topk(top)
        return [
            tuple((self.classes[place], share) for place, share in zip(*row, strict=True))
            for row in zip(places.tolist(), shares.tolist(), strict=True)
        ]


def predict(folder: str | Path, sources: Any, top: int = 3) -> list[Prediction]:
    """Say what pictures show.

    Args:
        folder: one that ``save`` or ``metad2a train`` made.
        sources: a picture or several: paths of image files, folders of them (searched all the way
            down), Pillow images, or arrays (h, w), (h, w, channels) or (channels, h, w) with
            values of any usual range.
        top: how many of the likeliest classes are told.

    Returns:
        A prediction for each picture, in order. One that cannot be read has ``error`` instead.

    Raises:
        InputError: a source is of an unknown type, a folder holds no picture, ``top`` is below 1.
        ArtifactError: the folder is damaged, or was not made by this project.
    """
    return load(folder).predict(sources, top)


def _reason(error: Exception) -> str:
    from metad2a.datasets.decode import UnreadableImage

    return str(error) if isinstance(error, UnreadableImage) else f"{type(error).__name__}: {error}"


def _pictures(sources: Any) -> list[tuple[str, Any]]:
    """Return name and picture of all sources: paths, Pillow images and arrays."""
    several = isinstance(sources, Iterable) and not _is_one(sources)
    found: list[tuple[str, Any]] = []
    for source in sources if several else [sources]:
        if isinstance(source, str | Path):
            found += _files(source)
        elif _is_one(source):
            found.append((f"image {len(found)}", _as_picture(source)))
        else:
            raise InputError(
                f"A picture cannot be a {type(source).__name__}; give paths, Pillow images or "
                "arrays."
            )
    return found


def _is_one(source: Any) -> bool:
    """Whether something is one source; an array is, unless it is a batch of pictures."""
    if isinstance(source, str | Path):
        return True
    shape = getattr(source, "shape", None)
    if shape is not None:
        return len(shape) <= 3
    return hasattr(source, "getexif")


def _as_picture(source: Any) -> Any:
    from metad2a.datasets.arrays import as_numpy

    return source if hasattr(source, "getexif") else as_numpy(source, "The pictures")


def _files(source: str | Path) -> list[tuple[str, Path]]:
    """Return a file as it was given, or the pictures below a folder."""
    from metad2a.datasets.layout import is_image

    place = Path(source)
    try:
        if not place.is_dir():
            return [(str(source), place)]
        inside = sorted(p for p in place.rglob("*") if is_image(p.relative_to(place).as_posix()))
    except (OSError, ValueError):  # A name that no file can have: it is told when it is read.
        return [(str(source), place)]
    if not inside:
        raise InputError(
            f"The folder {str(source)!r} holds no picture; give one with .jpg, .png, .webp, .bmp, "
            ".gif, .tif or .ppm files."
        )
    return [(str(path), path) for path in inside]


def load(folder: str | Path) -> Predictor:
    """Read a folder that ``save`` or ``metad2a train`` made.

    Raises:
        InputError: there is no such folder.
        ArtifactError: it was not made by this project, a file is missing or damaged, or files are
            of different networks.
    """
    from metad2a.export.delivered import Delivered
    from metad2a.export.folder import ARCHITECTURE, FORMAT_VERSION, LABELS, PREPROCESSING

    place = Path(folder)
    if not place.is_dir():
        raise InputError(
            f"There is no folder {str(folder)!r}; give one that `metad2a train --out` made."
        )
    described = _read(place, ARCHITECTURE)
    version, weights = (described.get(key) for key in ("format_version", "weights"))
    if type(version) is not int or version < FORMAT_VERSION or weights is None:
        raise _wrong(place, ARCHITECTURE, "is of no trained network: train one into a folder")
    if version > FORMAT_VERSION:
        raise _wrong(place, ARCHITECTURE, "is of a newer metad2a: upgrade this one")
    labels, prepared = _read(place, LABELS), _read(place, PREPROCESSING)
    names = [labels.get(str(index)) for index in range(len(labels))]
    if not all(isinstance(name, str) for name in names) or len(names) < 2:
        raise _wrong(place, LABELS, "does not name the classes 0, 1, 2, ...")
    resolution, mean, deviation = _preprocessing(place, prepared)
    network = _network(place, described, len(names))
    return Predictor(
        Delivered(network, mean, deviation),
        [str(name) for name in names],
        resolution,
        _levels(place, prepared.get("levels")),
    )


def _levels(place: Path, found: Any) -> Levels | None:
    """Return black and white of pictures with more than 8 bits, where the training had such."""
    from metad2a.datasets.levels import Levels
    from metad2a.export.folder import PREPROCESSING

    if found is None:
        return None
    numbers = isinstance(found, list) and all(type(v) in (int, float) for v in found)
    if not numbers or len(found) != 2 or not -1e38 < found[0] < found[1] < 1e38:
        raise _wrong(place, PREPROCESSING, f"has {found!r:.60} for levels, not [black, white]")
    return Levels(float(found[0]), float(found[1]))


def _read(place: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of the folder."""
    try:
        with (place / name).open("rb") as file:
            content = file.read(_LARGEST_TEXT + 1)
        if len(content) > _LARGEST_TEXT:
            raise ValueError(f"it has more than {_LARGEST_TEXT:,} bytes")
        found = json.loads(content)
    except OSError as error:
        raise _wrong(place, name, f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(place, name, f"is damaged: {str(error)[:100]}") from error
    if not isinstance(found, dict):
        raise _wrong(place, name, "is damaged: it holds no object")
    return found


def _wrong(place: Path, name: str, why: str) -> ArtifactError:
    return ArtifactError(
        f"{name} in {str(place)!r} {why}. Give a folder as `metad2a train --out` made it, whole."
    )


def _preprocessing(place: Path, found: dict[str, Any]) -> tuple[int, list[float], list[float]]:
    """Return resolution, mean and deviation; what else is said must be what is done here."""
    from metad2a.datasets.decode import FILL, LONGEST
    from metad2a.export.delivery import FIT
    from metad2a.export.folder import PREPROCESSING
    from metad2a.settings import LIMITS

    done = {"colour": "RGB", "fit": FIT, "longest": LONGEST, "fill": FILL, "range": [0, 1]}
    for name, value in done.items():
        if found.get(name) != value:
            raise _wrong(
                place, PREPROCESSING, f"has {found.get(name)!r:.60} for {name}, not {value!r}"
            )
    resolution, scales = found.get("resolution"), found.get("normalisation")
    if type(resolution) is not int or not 1 <= resolution <= LIMITS.max_side:
        raise _wrong(
            place,
            PREPROCESSING,
            f"has {resolution!r:.60} for resolution, not a number of pixels from 1 to "
            f"{LIMITS.max_side:,}",
        )
    pairs = []
    for name in ("mean", "deviation"):
        values = scales.get(name) if isinstance(scales, dict) else None
        if (
            not isinstance(values, list)
            or len(values) != 3
            or not all(type(v) in (int, float) and abs(v) < 1e6 for v in values)
            or (name == "deviation" and min(values) <= 0)
        ):
            raise _wrong(place, PREPROCESSING, f"has {values!r:.60} for the {name} of 3 channels")
        pairs.append([float(value) for value in values])
    return resolution, pairs[0], pairs[1]


def _network(place: Path, described: dict[str, Any], classes: int) -> nn.Module:
    """Return the network with its weights; nothing is allocated before the two are compared."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    from metad2a.export.folder import ARCHITECTURE, LABELS, WEIGHTS

    network = _skeleton(place, described.get("network"))
    outputs = getattr(getattr(network, "classifier", None), "out_features", None)
    if outputs != classes:
        raise _wrong(place, LABELS, f"names {classes} classes, but the network has {outputs}")
    weights = described.get("weights")
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    try:
        content = (place / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise _wrong(
                place,
                WEIGHTS,
                f"is damaged, or of another network: its SHA-256 is not {ARCHITECTURE}'s",
            )
        tensors = from_bytes(content)
    except OSError as error:
        raise _wrong(place, WEIGHTS, f"cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise _wrong(place, WEIGHTS, f"is damaged: {str(error)[:100]}") from error
    wanted = {name: (t.shape, t.dtype) for name, t in network.state_dict().items()}
    found = {name: (t.shape, t.dtype) for name, t in tensors.items()}
    differing = sorted(n for n in wanted | found if wanted.get(n) != found.get(n))
    if differing:
        raise _wrong(
            place,
            WEIGHTS,
            f"does not fit the network of {ARCHITECTURE}: {len(differing)} tensors differ, "
            f"{differing[0]!r:.60} among them",
        )
    if any(not torch.isfinite(t).all() for t in tensors.values()):
        raise _wrong(place, WEIGHTS, "holds numbers that are not finite")
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _skeleton(place: Path, found: Any) -> nn.Module:
    """Return the network of a description, without memory for its weights."""
    import torch
    from torch import nn

    from metad2a.export.folder import ARCHITECTURE
    from metad2a.spaces import networks

    file, name, config = (
        (found.get(key) for key in ("file", "class", "config"))
        if isinstance(found, dict)
        else (None, None, None)
    )
    known = sorted(path.stem for path in Path(networks.__path__[0]).glob("[a-z]*.py"))
    if file not in known:
        raise _wrong(
            place, ARCHITECTURE, f"has {file!r:.60} for a kind of network, not {', '.join(known)}"
        )
    kind = vars(importlib.import_module(f"{networks.__name__}.{file}")).get(str(name))
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise _wrong(place, ARCHITECTURE, f"has {name!r:.60} for the class of a network")
    if not isinstance(config, dict) or not _is_sane(config):
        raise _wrong(place, ARCHITECTURE, "has sizes of a network that are out of range")
    try:
        with torch.device("meta"):
            return kind(**config)
    except Exception as error:  # Whatever a network makes of sizes that were never its own.
        raise _wrong(
            place, ARCHITECTURE, f"has sizes that make no network: {str(error)[:100]}"
        ) from error


def _is_sane(value: Any, depth: int = 0) -> bool:
    """Whether the sizes of a network are of a network that somebody could have trained."""
    if isinstance(value, dict):
        return value.get("cells", 0) in range(_MOST_CELLS + 1) and _is_sane(
            list(value.values()), depth
        )
    if isinstance(value, list):
        return (
            depth < _DEEPEST
            and len(value) <= _LONGEST
            and all(_is_sane(inner, depth + 1) for inner in value)
        )
    if isinstance(value, int | float):
        return 0 <= value <= _LARGEST_NUMBER
    return isinstance(value, str) and len(value) < 100
