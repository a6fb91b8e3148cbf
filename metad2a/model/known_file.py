"""``known.json`` in a model's folder: the datasets that the model learnt from.

It holds, for each, where the model's set encoders put it and what did best on it; the images
themselves are nowhere. A model is whole without it: then nothing is said of neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a._files import write_file
from metad2a.errors import ArtifactError, InputError
from metad2a.model.artifact import DIGEST_KEY, KNOWN, read_config
from metad2a.model.known import KnownDataset
from metad2a.model.wording import listed

if TYPE_CHECKING:
    from metad2a.spaces import SearchSpace

_MOST = 1000
_LARGEST = 16 * 2**20  # bytes
_LONGEST = 200  # characters of a name


def write_known(folder: str | Path, known: Sequence[KnownDataset]) -> None:
    """Write ``known.json`` beside the weights that it belongs to; of nothing known, no file."""
    if not known:
        return
    path = Path(folder) / KNOWN
    rows = [
        asdict(one) | {"embedding": [round(float(x), 3) for x in one.embedding]} for one in known
    ]
    # One dataset a line, so that a change of one shows as one.
    text = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    digest = read_config(folder)[DIGEST_KEY]
    write_file(path, f'{{"{DIGEST_KEY}": "{digest}", "datasets": [\n{text}\n]}}\n'.encode())


def read_known(folder: str | Path, space: SearchSpace, size: int) -> tuple[KnownDataset, ...]:
    """Read ``known.json`` of a model folder; () where there is none for its weights.

    Args:
        folder: whose other files are whole.
        space: the model's.
        size: numbers of an embedding.

    Raises:
        ArtifactError: the file is damaged.
    """
    path = Path(folder) / KNOWN
    if not path.exists():
        return ()
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
        if len(raw) > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST:,} bytes")
        content = json.loads(raw)
        if not isinstance(content, dict) or set(content) != {DIGEST_KEY, "datasets"}:
            raise ValueError(f"it is no object of {DIGEST_KEY!r} and 'datasets'")
        if content[DIGEST_KEY] != read_config(folder)[DIGEST_KEY]:
            # Left from weights that were replaced; of these it says nothing.
            return ()
        rows = content["datasets"]
        if not isinstance(rows, list) or len(rows) > _MOST:
            raise ValueError(f"'datasets' is no list of at most {_MOST:,}")
        return tuple(_dataset(row, space, size) for row in rows)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(
            listed(f"{KNOWN} of the model cannot be used", [str(reason)]) + "\nDelete it, which "
            "only hides the nearest datasets, or write it again with 'metad2a meta known'."
        ) from error


def _dataset(row: Any, space: SearchSpace, size: int) -> KnownDataset:
    """Return one row of the file, or raise ValueError for what it is not."""
    fields = KnownDataset.__dataclass_fields__
    if not isinstance(row, dict) or set(row) != set(fields):
        raise ValueError(f"a dataset is no object of {', '.join(fields)}")
    for key in ("name", "family"):
        text = row[key]
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST or not text.isprintable():
            raise ValueError(
                f"{key!r} of a dataset is no printable text of 1 to {_LONGEST} characters"
            )
    if not _numbers([row["best_accuracy"]], 0, 100):
        raise ValueError(f"'best_accuracy' of {row['name']!r} is no percentage")
    place = row["embedding"]
    if not isinstance(place, list) or len(place) != size or not _numbers(place, -1e3, 1e3):
        raise ValueError(
            f"'embedding' of {row['name']!r} is no list of {size} numbers from -1000 to 1000"
        )
    cell = row["best_architecture"]
    if not isinstance(cell, str):
        raise ValueError(f"'best_architecture' of {row['name']!r} is no text")
    try:
        space.parse(cell)
    except InputError as error:
        raise ValueError(f"'best_architecture' of {row['name']!r}: {error}") from error
    return KnownDataset(**row | {"embedding": tuple(map(float, place))})


def _numbers(values: Sequence[Any], least: float, most: float) -> bool:
    return all(type(x) in (int, float) and least <= x <= most for x in values)
