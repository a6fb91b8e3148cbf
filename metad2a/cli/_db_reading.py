"""``metad2a db top|datasets|similar|verify|page``: what a database tells."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.cli._bar import counting
from metad2a.cli._data import DATA
from metad2a.cli.common import DATABASE, add_json, answer, columns, existing, integer

if TYPE_CHECKING:
    from database import Store

LISTED = 50
"""Findings of ``db verify`` that are printed; ``--json`` has them all."""


def configure(actions: Any) -> None:
    """Add the actions and their arguments to the subparsers of ``metad2a db``."""
    top = _add(
        actions,
        "top",
        "list the best architectures of a dataset",
        "They are ranked within each protocol by gain: how much more an architecture had "
        "than the mean of all those measured on the same task.",
    )
    top.add_argument("dataset", metavar="DATASET", help="name, or beginning of the fingerprint")
    top.add_argument("--protocol", metavar="NAME", help="the one that counts (default: each)")
    top.add_argument(
        "-k", type=integer, default=10, metavar="N", help="architectures a protocol (default: 10)"
    )

    _add(actions, "datasets", "list the datasets and what was measured on them")

    similar = _add(
        actions,
        "similar",
        "list the stored datasets nearest to one",
        "By the packaged model's embedding.",
    )
    similar.add_argument("data", metavar="DATA", help=f"{DATA}, or a stored dataset's name")
    similar.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        dest="folder",
        help="folder that holds one folder a dataset: needed once, after which "
        "what the model sees of them is in the cache",
    )
    similar.add_argument(
        "-k", type=integer, default=5, metavar="N", help="number of datasets (default: 5)"
    )

    verify = _add(
        actions,
        "verify",
        "look for rows that should not be there",
        "Nothing is changed. The exit code is 1 if anything is found.",
    )
    verify.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        dest="folder",
        help="folder that holds one folder a dataset, to compare the images with "
        "the stored fingerprints too",
    )

    page = _add(actions, "page", "write plots of a database as one HTML file")
    page.add_argument("out", type=Path, metavar="OUT.html", help="the file")


def _add(actions: Any, name: str, text: str, more: str = "") -> ArgumentParser:
    parser: ArgumentParser = actions.add_parser(
        name, help=text, description=f"{text.capitalize()}. {more}".strip()
    )
    parser.add_argument("database", metavar="DATABASE", help=DATABASE)
    add_json(parser)
    return parser


@contextlib.contextmanager
def _opened(args: Namespace) -> Iterator[Store]:
    from database import Store

    with Store(existing(args.database), create=False) as store:
        yield store


def _top(args: Namespace) -> int:
    from database.reading.datasets import top

    with _opened(args) as store:
        found = top(store, args.dataset, args.protocol, args.k)
    rows = [("protocol", "rank", "gain", "mean", "tasks", "values", "architecture")]
    rows += [
        (
            one.protocol,
            str(one.rank),
            f"{one.gain:+.4g}",
            f"{one.mean:.4g}",
            f"{one.tasks:,}",
            f"{one.evaluations:,}",
            one.architecture,
        )
        for one in found
    ]
    answer(
        args,
        {"architectures": [asdict(one) for one in found]},
        columns(rows) if found else f"Nothing was measured on {args.dataset} yet.",
    )
    return 0


def _datasets(args: Namespace) -> int:
    from database.reading.datasets import datasets

    with _opened(args) as store:
        found = datasets(store)
    rows = [("dataset", "family", "fingerprint", "images", "classes", "tasks", "values")]
    rows += [
        (
            one.name,
            one.family,
            one.fingerprint[:12],
            f"{one.images:,}",
            f"{one.classes:,}",
            f"{one.tasks:,}",
            ", ".join(f"{n:,} {p}" for p, n in one.evaluations.items()) or "-",
        )
        for one in found
    ]
    answer(args, {"datasets": [asdict(one) for one in found]}, columns(rows))
    return 0


def _similar(args: Namespace) -> int:
    from database.reading.similar import similar

    with _opened(args) as store, counting("dataset") as progress:
        found = similar(store, args.data, args.folder, args.k, progress)
    rows = [("dataset", "family", "embedding", "best there")]
    for one in found:
        best = (
            f"{one.best.mean:.4g} {one.best.protocol} {one.best.architecture}"
            if (one.best)
            else "-"
        )
        rows.append((one.name, one.family, f"{one.embedding:.3f}", best))
    answer(args, {"datasets": [asdict(one) for one in found]}, columns(rows))
    return 0


def _verify(args: Namespace) -> int:
    from database.reading.verify import verify

    with _opened(args) as store, counting("step") as progress:
        found = verify(store, args.folder, progress)
    lines = [
        f"{one.table}{'' if one.id is None else f' {one.id}'}: {one.problem}. {one.remedy}"
        for one in found[:LISTED]
    ]
    if len(found) > LISTED:
        lines.append(f"... and {len(found) - LISTED:,} more; --json lists all")
    lines.append(f"{len(found):,} findings" if found else "No fault was found.")
    answer(args, {"findings": [asdict(one) for one in found]}, "\n".join(lines))
    return 1 if found else 0


def _page(args: Namespace) -> int:
    from database.reading.page import page

    with _opened(args) as store:
        size = page(store, args.out)
    answer(
        args,
        {"file": str(args.out), "bytes": size},
        f"{args.out}: {size / 1e6:.2f} MB, to be opened in a browser",
    )
    return 0


RUN: dict[str, Callable[[Namespace], int]] = {
    "top": _top,
    "datasets": _datasets,
    "similar": _similar,
    "verify": _verify,
    "page": _page,
}
"""Name of an action to what carries it out."""
