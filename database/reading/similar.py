"""The stored datasets nearest to one, by what the model sees in them.

What the model sees is worked out from images once and kept in the cache folder, under the
fingerprint: a second time no images are needed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Row, func, select

from database.reading.datasets import Ranked, find_dataset, top
from database.schema import DATASETS, EVALUATIONS, PROTOCOLS, TASKS
from database.store import Store
from metad2a.errors import InputError
from metad2a.settings import cache_folder

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset
    from metad2a.model.description import Description

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Similar:
    """A stored dataset, and how far it is.

    Attributes:
        name: of the dataset.
        family: what it was grouped with.
        fingerprint: of its content.
        embedding: root mean square difference of the embeddings by the packaged model, in
            standard deviations over the datasets it learnt from.
        best: what did best on it, under the accuracy protocol with the most values; None where
            nothing was measured.
    """

    name: str
    family: str
    fingerprint: str
    embedding: float
    best: Ranked | None


def similar(
    store: Store,
    source: ImageDataset | Path | str,
    data_folder: Path | None = None,
    k: int = 5,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[Similar]:
    """Return the ``k`` stored datasets nearest to ``source``, without itself, the nearest first.

    Those whose images are neither at hand nor in the cache are left out.

    Args:
        store: the database.
        source: what ``load_dataset`` takes, or a stored dataset's name or fingerprint.
        data_folder: holds one folder a dataset; needed for what is not in the cache yet.
        k: how many.
        progress: told how many stored datasets have been looked at, of all, and which is next.

    Raises:
        InputError: ``source`` is unknown or unfit, ``k`` is below 1, or no distance is known.
        DatabaseError: the store cannot be read.
    """
    if k < 1:
        raise InputError(f"k={k} datasets cannot be listed; ask for 1 or more.")
    fingerprint, own = _source(store, source, data_folder)
    with store.reading() as connection:
        others = connection.execute(
            select(DATASETS).where(DATASETS.c.fingerprint != fingerprint)
        ).all()
    found = []
    for done, row in enumerate(others):
        progress(done, len(others), row.name)
        embedding = None if own is None else _embedding(row, data_folder)
        if own is not None and embedding is not None:
            found.append((_apart(own, embedding), row))
    progress(len(others), len(others), "")
    if not found:
        raise InputError(
            f"No distance to any of the {len(others)} other datasets of the database is known: "
            "what the model sees in their images is not in the cache. Give the folder that holds "
            "one folder a dataset (--data)."
        )
    found.sort(key=lambda one: (one[0], one[1].name))
    return [
        Similar(row.name, row.family, row.fingerprint, away, _best(store, row))
        for away, row in found[:k]
    ]


def _source(
    store: Store, source: ImageDataset | Path | str, data_folder: Path | None
) -> tuple[str, np.ndarray | None]:
    """Return the fingerprint of the dataset asked about, and its embedding if it can be had."""
    from metad2a.datasets import load_dataset

    if not isinstance(source, str) or Path(source).exists() or source.startswith("sklearn:"):
        with load_dataset(source) as dataset:
            fingerprint = dataset.fingerprint()
            return fingerprint, _embed(_known(fingerprint) or _describe(dataset, fingerprint))
    with store.reading() as connection:
        row = find_dataset(connection, source)
    return row.fingerprint, _embedding(row, data_folder)


def _best(store: Store, dataset: Row[Any]) -> Ranked | None:
    """Return the winner under the accuracy protocol with the most values, or else a score's."""
    own = select(TASKS.c.id).where(TASKS.c.dataset_id == dataset.id)
    counts = (
        select(EVALUATIONS.c.protocol_id, func.count().label("n"))
        .where(EVALUATIONS.c.task_id.in_(own))
        .group_by(EVALUATIONS.c.protocol_id)
        .subquery()
    )
    query = (
        select(PROTOCOLS.c.name)
        .join_from(PROTOCOLS, counts, counts.c.protocol_id == PROTOCOLS.c.id)
        # "accuracy" sorts before "score".
        .order_by(PROTOCOLS.c.kind, counts.c.n.desc(), PROTOCOLS.c.name)
        .limit(1)
    )
    with store.reading() as connection:
        protocol = connection.scalar(query)
    return None if protocol is None else top(store, dataset.fingerprint, protocol, 1)[0]


# -- embeddings ------------------------------------------------------------------------------


def _embedding(row: Row[Any], data_folder: Path | None) -> np.ndarray | None:
    """Return a stored dataset's embedding, or None where neither cache nor images have it."""
    from metad2a.datasets import load_dataset

    description = _known(row.fingerprint)
    if description is None and data_folder is not None:
        try:
            with load_dataset(data_folder / row.name) as dataset:
                if (actual := dataset.fingerprint()) != row.fingerprint:
                    raise InputError(f"its fingerprint is {actual}, not {row.fingerprint}")
                description = _describe(dataset, row.fingerprint)
        except InputError as error:
            _log.warning("The images of %s cannot be used: %s", row.name, error)
    return None if description is None else _embed(description)


def _embed(description: Description) -> np.ndarray:
    """Return float (members * embedding,), each entry of mean 0 and deviation 1 over datasets."""
    from metad2a.model.known import embed
    from metad2a.model.metad2a import packaged

    return embed(packaged().predictor, description)


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    return math.sqrt(float(((first - second) ** 2).mean()))


def _known(fingerprint: str) -> Description | None:
    from metad2a.model.description_files import load_description

    path = _kept(fingerprint)
    return load_description(path) if path is not None and path.exists() else None


def _kept(fingerprint: str) -> Path | None:
    """Return the file in which a dataset's description is kept, where any is."""
    from metad2a.model.description_files import description_file

    folder = cache_folder()
    return None if folder is None else description_file(folder / "descriptions", fingerprint[:32])


def _describe(dataset: ImageDataset, fingerprint: str) -> Description:
    """Describe a dataset, and keep that."""
    from metad2a.model.description import describe
    from metad2a.model.description_files import save_description

    description, _ = describe(dataset, seed=0)
    path = _kept(fingerprint)
    if path is not None:
        save_description(path, description)
    return description
