"""``metad2a db init|build|status``: fill a database, and see how far that is."""

from __future__ import annotations

import contextlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.cli.common import DATABASE, add_json, answer, columns, existing

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from database.jobs.driver import Summary


def configure(actions: _SubParsersAction[ArgumentParser]) -> None:
    """Add the actions and their arguments."""
    init = actions.add_parser(
        "init",
        help="make an empty database",
        description="Make an empty database; one that is there is left as it is.",
    )
    build = actions.add_parser(
        "build",
        help="measure architectures on tasks drawn from datasets, by a plan",
        description="Measure architectures on tasks drawn from datasets: what, and how, is in the "
        "plan (docs/database.md). Ctrl-C ends it in good order within ten seconds; the same "
        "command goes on where it was, also after a crash.",
    )
    build.add_argument("plan", type=Path, metavar="PLAN.toml", help="the plan")
    build.add_argument(
        "--database", metavar="DATABASE", help=f"{DATABASE}; made if missing (default: the plan's)"
    )
    build.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder that holds one folder a dataset (default: the plan's)",
    )
    build.add_argument(
        "--ray", metavar="ADDRESS", help="measure on the nodes of a Ray cluster: host:port or auto"
    )
    build.add_argument("--retry", action="store_true", help="try again what failed three times")
    status = actions.add_parser(
        "status",
        help="count what is in a database, and what builds lack",
        description="Count what is in a database, and say of its builds "
        "how far they are, at what rate, and how long they will take.",
    )
    for action in (init, status):
        action.add_argument("database", metavar="DATABASE", help=DATABASE)
    for action in (init, build, status):
        add_json(action)


def _init(args: Namespace) -> int:
    from database import Store
    from database.schema import SCHEMA_VERSION

    with Store(args.database) as store:
        name = store.name
    answer(
        args,
        {"database": name, "schema_version": SCHEMA_VERSION},
        f"{name} is a database of schema version {SCHEMA_VERSION}.",
    )
    return 0


def _build(args: Namespace) -> int:
    from database.build import build
    from database.plan import read_plan
    from metad2a.cli._bar import counting
    from metad2a.cli._interrupt import interruptible

    plan = read_plan(args.plan)
    with (
        contextlib.redirect_stdout(sys.stderr),
        counting("job") as progress,
        interruptible() as should_stop,
    ):
        summary = build(
            plan,
            args.database,
            args.data,
            ray=args.ray,
            retry=args.retry,
            progress=progress,
            should_stop=should_stop,
        )
    answer(args, asdict(summary), _summary(summary))
    return 130 if summary.stopped else 0


def _summary(summary: Summary) -> str:
    lines = [
        f"{summary.jobs:,} jobs done on {summary.tasks:,} tasks, "
        f"{summary.evaluations:,} evaluations added"
    ]
    lines += [f"left out: {name}: {reason}" for name, reason in summary.skipped.items()]
    lines += [f"failed: {text}" for text in summary.failures]
    lines += [f"conflict: {text}" for text in summary.conflicts]
    if summary.late:
        lines.append(f"{summary.late:,} results came late and were refused")
    if summary.quarantined:
        lines.append(
            f"{summary.quarantined:,} jobs failed three times and are set aside; --retry "
            "tries them again"
        )
    if summary.stopped:
        lines.append("Stopped before the end; the same command goes on from here.")
    return "\n".join(lines)


def _status(args: Namespace) -> int:
    from database import Store, status

    with Store(existing(args.database), create=False) as store:
        found = status(store)
    rows = [
        (name, f"{found[name]:,}")
        for name in ("datasets", "tasks", "architectures", "evaluations", "failures")
    ]
    rows += [(f"evaluations of {name}", f"{n:,}") for name, n in found["protocols"].items()]
    rows += [(f"tasks of {name}", f"{n:,}") for name, n in found["families"].items()]
    rows += [
        ("hours of measuring", f"{found['seconds'] / 3600:,.2f}"),
        ("size", f"{found['bytes'] / 1e6:,.1f} MB"),
        ("schema version", str(found["schema_version"])),
    ]
    parts = [columns(rows), *map(_progress, found["builds"])]
    answer(args, found, "\n\n".join(parts))
    return 0


def _progress(build: Mapping[str, Any]) -> str:
    """Say of one build how far it is."""
    jobs, whole = build["jobs"], sum(build["jobs"].values())
    rows = [
        (f"build {build['name']!r}", f"begun {build['created']}"),
        (
            "jobs",
            f"{jobs['done']:,} of {whole:,} done, {jobs['leased']:,} in hand, "
            f"{jobs['open']:,} to do, {jobs['quarantined']:,} set aside",
        ),
        ("failed tries", f"{build['failed_tries']:,}"),
        ("rate", f"{build['per_minute']:,.1f} jobs a minute"),
    ]
    if build["seconds_to_go"] is not None:
        rows.append(("time to go", _duration(build["seconds_to_go"])))
    rows += [
        (f"set aside: {one['labeller']}", f"{one['jobs']:,}: {one['error']}")
        for one in build["quarantined"]
    ]
    return columns(rows)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


RUN: Mapping[str, Callable[[Namespace], int]] = {"init": _init, "build": _build, "status": _status}
"""Name of an action to what carries it out."""
