"""A database as a dataset on the Hugging Face Hub: push it there, pull it from there.

The Hub is spoken to with its own client, which obeys its environment variables: ``HF_TOKEN`` (who
pushes), ``HF_ENDPOINT`` (a mirror), ``HF_HUB_OFFLINE=1`` (cache only) and ``HF_HOME`` (the cache).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from database.exchange.files import export, import_files
from database.exchange.rows import TABLES, Sources
from database.schema import SOURCES
from metad2a.errors import DatabaseError, InputError
from metad2a.model.hub import HUB_ID
from metad2a.model.wording import without_token

if TYPE_CHECKING:
    from database.records import Recorded
    from database.store import Store

FILES = {table: f"data/{table}.parquet" for table in TABLES}
"""Table to its file in the Hub's dataset."""
_CARD = "README.md"


def push(
    store: Store,
    repo: str,
    *,
    only_sources: Collection[str] = (),
    exclude_sources: Collection[str] = (),
    private: bool = False,
) -> dict[str, int]:
    """Write the database to a dataset on the Hub, made if it is missing, in one commit.

    The files of an earlier push are replaced; its rows stay in the dataset's history. Pull first
    to keep what others have pushed.

    Args:
        store: what is read.
        repo: id such as ``"org/name"``.
        only_sources: names of sources; no row of another one is pushed (default: all).
        exclude_sources: names of sources whose rows are left out.
        private: whether a dataset that is made can be seen by its owners alone.

    Returns:
        The number of rows of each table.

    Raises:
        InputError: the id is malformed, or a source is not known.
        DatabaseError: the store cannot be read, or the Hub refuses or cannot be reached.
    """
    name, revision = _parts(repo)
    if revision is not None:
        raise InputError(
            f"{repo!r} names a revision; a push makes a new one. Leave '@{revision}' out."
        )
    sources = Sources(only_sources, exclude_sources)
    with tempfile.TemporaryDirectory() as folder:
        # Tasks last: a task that is new by then is not missed by any row written before.
        written = {
            table: export(
                store,
                Path(folder, FILES[table]),
                table,
                only_sources=only_sources,
                exclude_sources=exclude_sources,
            )
            for table in reversed(list(TABLES))
        }
        Path(folder, _CARD).write_text(_card(store, sources, written), encoding="utf-8")
        with _explained("push to", repo):
            from huggingface_hub import CommitOperationAdd, HfApi

            api = HfApi()
            api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
            api.create_commit(
                name,
                [CommitOperationAdd(file, Path(folder, file)) for file in (_CARD, *FILES.values())],
                commit_message=f"{written['evaluations']:,} evaluations",
                repo_type="dataset",
            )
    return written


def pull(store: Store, repo: str) -> dict[str, Recorded]:
    """Add the rows of a dataset on the Hub: all of them, or none on an error.

    Args:
        store: what is written to.
        repo: id such as ``"org/name"`` or ``"org/name@revision"`` (branch, tag or commit).

    Returns:
        For each table: rows that were new, rows known, and the conflicts.

    Raises:
        InputError: the id is malformed, or a file is none that a push wrote.
        DatabaseError: the Hub does not give it, or the store refuses a row.
    """
    name, revision = _parts(repo)
    with _explained("pull", repo):
        from huggingface_hub import HfApi

        folder = Path(
            HfApi().snapshot_download(
                name, repo_type="dataset", revision=revision, allow_patterns=list(FILES.values())
            )
        )
    found = [folder / file for file in FILES.values() if (folder / file).is_file()]
    if not found:
        raise InputError(
            f"The dataset {repo!r} holds no database: it has none of the files "
            f"{', '.join(FILES.values())}. Give one that `metad2a db push` wrote."
        )
    return import_files(store, found)


def _parts(repo: str) -> tuple[str, str | None]:
    found = HUB_ID.fullmatch(repo)
    if found is None:
        raise InputError(
            f"{repo!r} is not the id of a dataset on the Hub. Give one such as "
            "'org/name', or 'org/name@revision' to pull."
        )
    return found["id"], found["revision"]


@contextlib.contextmanager
def _explained(action: str, repo: str) -> Iterator[None]:
    """Turn the client's errors into one that says what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    start = f"Cannot {action} the dataset {repo!r}"
    try:
        yield
    except HFValidationError as error:
        raise InputError(f"{start}: {error}") from error
    except RevisionNotFoundError as error:
        raise DatabaseError(
            f"{start}: the Hub has no such revision. Check the branch, tag or "
            "commit, or leave it out for the newest."
        ) from error
    except GatedRepoError as error:
        raise DatabaseError(
            f"{start}: it is gated. Ask for access on its Hub page, then set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise DatabaseError(
            f"{start}: the Hub has no such dataset, or it is private. Check the "
            "name; for a private one set HF_TOKEN."
        ) from error
    except LocalEntryNotFoundError as error:
        raise DatabaseError(
            f"{start}: it is not in the local cache and the Hub cannot be reached (no network, or "
            "HF_HUB_OFFLINE is set). Download it where there is a network and import its files "
            "with `metad2a db import`."
        ) from error
    # Which errors a broken transfer raises depends on the HTTP library below the client, which
    # changed between the versions that we support; they share no base class.
    except Exception as error:
        told = f"{type(error).__name__}: {without_token(error)}"
        raise DatabaseError(
            f"{start} ({told}). Check the network and that HF_TOKEN may do this, and try again."
        ) from error


def _card(store: Store, sources: Sources, written: dict[str, int]) -> str:
    """Return the dataset's page: its tables for the viewer, and the licence of every source."""
    with store.reading() as connection:
        found = connection.execute(
            select(SOURCES.c.name, SOURCES.c.licence, SOURCES.c.url)
            .where(sources.condition())
            .order_by(SOURCES.c.name)
        ).all()
    configs = "".join(
        f"- config_name: {table}\n  data_files: {FILES[table]}\n"
        + ("  default: true\n" if table == "evaluations" else "")
        for table in FILES
        if written[table]
    )
    head = "---\nlicense: other\ntags:\n- neural-architecture-search\n- metad2a\n"
    rows = "\n".join(f"| {table} | {written[table]:,} |" for table in FILES)
    origins = "\n".join(f"| {name} | {licence} | {url} |" for name, licence, url in found)
    return (
        f"{head}{'configs:' if configs else ''}\n{configs}---\n\n"
        "# Measured neural networks\n\nWritten by `metad2a db push`; read it into a database with "
        "`metad2a db pull`.\nPulling twice changes nothing, and no row is ever overwritten.\n\n"
        f"| table | rows |\n|---|---|\n{rows}\n\n"
        "Every evaluation and latency names its source, whose licence holds for it:\n\n"
        f"| source | licence | from |\n|---|---|---|\n{origins}\n"
    )
