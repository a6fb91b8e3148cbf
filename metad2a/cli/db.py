"""``metad2a db``: build a database of measured networks, read it and pass it on."""

from __future__ import annotations

import contextlib
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.cli import _db_exchange, _db_reading
from metad2a.cli.common import add_json, answer, columns, existing, integer
from metad2a.errors import InputError

if TYPE_CHECKING:
    from database.build import Summary


def configure(parser: ArgumentParser) -> None:
    """Add the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    build = actions.add_parser(
        "build", help="measure architectures on tasks drawn from datasets",
        description="Measure architectures on tasks drawn from datasets. Ctrl-C ends it in good "
        "order; the same command goes on where it was.")
    build.add_argument("--data", type=Path, metavar="DIR", required=True,
                       help="folder that holds one folder a dataset")
    build.add_argument("--database", metavar="DATABASE", required=True,
                       help="file, made if it is missing, or postgresql+psycopg://USER@HOST/NAME")
    build.add_argument("--tasks", type=integer, metavar="N", required=True,
                       help="number of tasks, dealt out over the datasets")
    build.add_argument("--plan", type=_entry, metavar="LABELLER=N", nargs="+", required=True,
                       help="architectures a task for each labeller (see `metad2a methods`)")
    build.add_argument("--space", metavar="S", default="nasbench201",
                       help="search space (default: nasbench201)")
    build.add_argument("--seed", type=integer, default=0,
                       help="of tasks, architectures and measurements (default: 0)")
    build.add_argument("--device", default="cpu", help="cpu, cuda or cuda:0 (default: cpu)")
    build.add_argument("--only", metavar="NAME", nargs="+", default=[],
                       help="dataset folders to use (default: all)")
    build.add_argument("--exclude", metavar="NAME", nargs="+", default=[],
                       help="dataset folders to leave out")
    build.add_argument("--workers", type=integer, metavar="N", default=1,
                       help="processes that share the tasks and the cores (default: 1)")

    status = actions.add_parser("status", help="count what is in a database",
                                description="Count what is in a database.")
    status.add_argument("database", metavar="DATABASE",
                        help="file, or postgresql+psycopg://USER@HOST/NAME")

    for action in (build, status):
        add_json(action)
    _db_exchange.configure(actions)
    _db_reading.configure(actions)


def run(args: Namespace) -> int:
    """Carry out the action."""
    actions: dict[str, Callable[[Namespace], int]] = {
        "build": _build, "status": _status, **_db_exchange.RUN, **_db_reading.RUN}
    return actions[args.action](args)


def _entry(text: str) -> tuple[str, int]:
    """Read one ``LABELLER=N``."""
    name, _, number = text.partition("=")
    if not name or not number:
        raise ArgumentTypeError(f"{text[:100]!r} is not of the form LABELLER=N, such as "
                                "standalone=6")
    return name, integer(number)


def _build(args: Namespace) -> int:
    from metad2a.cli._workers import build_shared, interruptible
    from search.device import plan as plan_device

    plan = dict(args.plan)
    if len(plan) < len(args.plan):
        raise InputError(f"--plan names a labeller twice: {' '.join(n for n, _ in args.plan)}.")
    plan_device(args.device)  # refused here, not once for every task
    with (
        contextlib.redirect_stdout(sys.stderr), _bar() as progress, interruptible() as should_stop
    ):
        summary = build_shared(
            args.workers, progress, should_stop, data=args.data, database=args.database,
            tasks=args.tasks, plan=plan, space=args.space, seed=args.seed, device=args.device,
            only=args.only, exclude=args.exclude)
    answer(args, asdict(summary), _summary(summary))
    return 130 if summary.stopped else 0


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """Give a function that shows (done, total, text) as a bar, if it takes over two seconds."""
    from tqdm import tqdm

    # A log file gets a line a minute.
    interval = 0.5 if sys.stderr.isatty() else 60
    with tqdm(unit="architecture", delay=2, mininterval=interval, file=sys.stderr) as bar:

        def show(done: int, total: int, text: str) -> None:
            bar.total = total
            bar.set_postfix_str(text, refresh=False)
            bar.update(done - bar.n)

        yield show


def _summary(summary: Summary) -> str:
    lines = [f"{summary.tasks:,} tasks gone through, {summary.evaluations:,} evaluations added"]
    lines += [f"left out: {name}: {reason}" for name, reason in summary.skipped.items()]
    lines += [f"failed: {text}" for text in summary.failures]
    lines += [f"conflict: {text}" for text in summary.conflicts]
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
    rows += [("hours of measuring", f"{found['seconds'] / 3600:,.2f}"),
             ("size", f"{found['bytes'] / 1e6:,.1f} MB"),
             ("schema version", str(found["schema_version"]))]
    answer(args, found, columns(rows))
    return 0
