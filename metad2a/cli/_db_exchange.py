"""``metad2a db export|import|push|pull``: rows to files, from files, and to and from the Hub."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.cli.common import DATABASE, add_json, answer, existing
from metad2a.errors import InputError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from database import Recorded

_TABLES = ("tasks", "latencies")
_SHOWN = 20  # conflicts in an answer for people; --json has them all


def configure(actions: _SubParsersAction[ArgumentParser]) -> None:
    """Add the four actions and their arguments."""
    export = actions.add_parser(
        "export",
        help="write a database to Parquet or JSON lines",
        description="Write a database to files: Parquet, or JSON lines where a name ends in .jsonl",
    )
    export.add_argument("database", metavar="DATABASE", help=DATABASE)
    export.add_argument("out", type=Path, metavar="OUT.parquet", help="file for all evaluations")
    for table in _TABLES:
        export.add_argument(f"--{table}", type=Path, metavar="FILE", help=f"file for the {table}")

    reading = actions.add_parser(
        "import",
        help="add rows of exported files, a published table or another database",
        description="Add rows of exported files, a published table or another database: all of "
        "them or, on an error, none. Importing twice changes nothing. A row that is there with "
        "another value is reported and never overwritten, and the exit code is then 1.",
    )
    reading.add_argument("database", metavar="DATABASE", help=f"{DATABASE}; made if missing")
    reading.add_argument(
        "given",
        nargs="+",
        metavar="FROM",
        help="exported files, or one other database, or what --from wants",
    )
    reading.add_argument(
        "--from",
        dest="importer",
        metavar="NAME",
        help="importer of a published table, such as nasbench201",
    )

    push = actions.add_parser(
        "push",
        help="share a database as a dataset on the Hub",
        description="Share a database as a dataset on the Hugging Face Hub. "
        "The files of an earlier push are replaced; pull first to keep them.",
    )
    push.add_argument("database", metavar="DATABASE", help=DATABASE)
    push.add_argument("repo", metavar="ORG/NAME", help="the dataset; made if it is missing")
    push.add_argument("--private", action="store_true", help="make a new dataset private")
    for action in (export, push):
        chosen = action.add_mutually_exclusive_group()
        chosen.add_argument(
            "--only-source",
            metavar="NAME",
            nargs="+",
            default=[],
            help="sources whose rows are written (default: all)",
        )
        chosen.add_argument(
            "--exclude-source",
            metavar="NAME",
            nargs="+",
            default=[],
            help="sources whose rows are left out",
        )

    pull = actions.add_parser(
        "pull",
        help="add the rows of a dataset on the Hub",
        description="Add the rows of a dataset on the Hugging Face Hub, as "
        "`metad2a db import` adds those of files.",
    )
    pull.add_argument("database", metavar="DATABASE", help=f"{DATABASE}; made if missing")
    pull.add_argument("repo", metavar="ORG/NAME[@REVISION]", help="the dataset")
    for action in (export, reading, push, pull):
        add_json(action)


def run_export(args: Namespace) -> int:
    """Write the files that are asked for."""
    from database import Store, export

    files = {"evaluations": args.out, **{table: getattr(args, table) for table in _TABLES}}
    files = {table: path for table, path in files.items() if path is not None}
    paths = [Path(args.database).resolve(), *(path.resolve() for path in files.values())]
    if len(set(paths)) < len(paths):
        raise InputError(
            f"The database and the files to write must differ; given: "
            f"{args.database}, {', '.join(map(str, files.values()))}."
        )
    with Store(existing(args.database), create=False) as store:
        # Tasks are written after what refers to them.
        written = {
            table: export(
                store,
                path,
                table,
                only_sources=args.only_source,
                exclude_sources=args.exclude_source,
            )
            for table, path in sorted(files.items(), key=lambda item: item[0] == "tasks")
        }
    answer(
        args,
        {table: {"file": str(files[table]), "rows": rows} for table, rows in written.items()},
        "\n".join(f"{rows:,} {table} written to {files[table]}" for table, rows in written.items()),
    )
    return 0


def run_import(args: Namespace) -> int:
    """Add rows and say what became of them."""
    from database import Store
    from database.exchange.files import import_files
    from database.exchange.merge import is_database, merge_store
    from database.importers import import_published

    if args.importer is not None:
        from database.importers import IMPORTERS

        IMPORTERS.get(args.importer)  # an unknown name makes no database
    for given in args.given:
        if "://" not in given and not Path(given).is_file():
            raise InputError(f"There is no file {given!r} to import. Check the path.")
    with Store(args.database) as store:
        if args.importer is not None:
            found = import_published(store, args.importer, *map(Path, args.given))
        elif is_database(args.given[0]):
            if len(args.given) > 1:
                raise InputError(
                    f"One other database is merged at a time; given: {', '.join(args.given)}."
                )
            with Store(args.given[0], create=False) as other:
                found = merge_store(store, other)
        else:
            found = import_files(store, args.given)
    return _tell(args, found)


def run_push(args: Namespace) -> int:
    """Push, and say how much."""
    from database import Store
    from database.exchange.hub import push

    with Store(existing(args.database), create=False) as store:
        written = push(
            store,
            args.repo,
            only_sources=args.only_source,
            exclude_sources=args.exclude_source,
            private=args.private,
        )
    answer(
        args,
        {"dataset": args.repo, "rows": written},
        "\n".join(f"{rows:,} {table} pushed to {args.repo}" for table, rows in written.items()),
    )
    return 0


def run_pull(args: Namespace) -> int:
    """Pull, and say what became of the rows."""
    from database import Store
    from database.exchange.hub import pull

    with Store(args.database) as store:
        found = pull(store, args.repo)
    return _tell(args, found)


def _tell(args: Namespace, found: dict[str, Recorded]) -> int:
    """Answer with the counts and conflicts; the exit code is 1 where there are any."""
    data: dict[str, Any] = {
        table: {"new": one.new, "known": one.known, "conflicts": list(one.conflicts)}
        for table, one in found.items()
    }
    lines = [
        f"{table}: {one.new:,} new, {one.known:,} known, {len(one.conflicts):,} in conflict"
        for table, one in found.items()
    ]
    conflicts = [text for one in found.values() for text in one.conflicts]
    lines += [f"conflict: {text}" for text in conflicts[:_SHOWN]]
    if len(conflicts) > _SHOWN:
        lines.append(f"and {len(conflicts) - _SHOWN:,} more; --json lists them all")
    answer(args, data, "\n".join(lines))
    return 1 if conflicts else 0


RUN = {"export": run_export, "import": run_import, "push": run_push, "pull": run_pull}
"""Action to what carries it out."""
