"""Push and pull with the real client against a local server that speaks as the Hub does.

The client reads its environment when it is imported, so each user of it is a process of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, commands, serving

from database import Store
from database.exchange.hub import FILES, pull, push
from database.exchange.rows import TABLES, Sources, stored_rows
from database.importers import import_published
from metad2a.errors import DatabaseError, InputError

REPO = "someone/cells"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(REPO, kind="dataset")) as hub:
        yield hub


def client(hub: Hub, home: Path, *lines: str, **settings: str) -> list[dict]:
    """Run commands of ``metad2a db`` in a process of their own; return their answers."""
    words = [["db", *line.split()] for line in lines]
    return [answer for _, answer in commands(hub, home, *words, **{"HF_TOKEN": TOKEN, **settings})]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with four evaluations from a published table."""
    table = tmp_path / "table.csv"
    table.write_text(
        "idx,arch,c10_val12,c10_test12\n"
        + "".join(
            f"{i},|{op}~0|+|none~0|none~1|+|none~0|none~1|{op}~2|,{50 + i},{60 + i}\n"
            for i, op in enumerate(("nor_conv_3x3", "avg_pool_3x3"))
        )
    )
    with contextlib.closing(Store(tmp_path / "store.sqlite")) as store:
        import_published(store, "nasbench201", table)
    return tmp_path / "store.sqlite"


def everything(path: Path) -> dict[str, list[dict[str, object]]]:
    with Store(path, create=False) as store:
        return {
            table: [dict(row) for row in stored_rows(store, table, Sources())] for table in TABLES
        }


def test_what_is_pushed_can_be_pulled_by_name_and_revision(hub, database, tmp_path):
    copy, old = tmp_path / "copy.sqlite", tmp_path / "old.sqlite"
    pushed, again, pulled, twice = client(
        hub,
        tmp_path / "home",
        f"push {database} {REPO} --private",
        f"push {database} {REPO}",
        f"pull {copy} {REPO}",
        f"pull {copy} {REPO}",
    )
    assert pushed["rows"] == again["rows"] == {"evaluations": 4, "tasks": 1, "latencies": 0}
    assert hub.created["type"] == "dataset" and hub.created["name"] == "cells"
    assert pulled["evaluations"] == {"new": 4, "known": 0, "conflicts": []}
    assert twice["evaluations"] == {"new": 0, "known": 4, "conflicts": []}
    assert everything(copy) == everything(database)
    assert set(hub.files) == {".gitattributes", "README.md", *FILES.values()}

    # A push without the source empties the newest revision; the first one is still there.
    first = list(hub.commits)[1]  # the repository was made with one
    empty, newest, pinned = client(
        hub,
        tmp_path / "home",
        f"push {database} {REPO} --exclude-source nasbench201",
        f"pull {tmp_path / 'none.sqlite'} {REPO}",
        f"pull {old} {REPO}@{first}",
    )
    assert empty["rows"]["evaluations"] == newest["evaluations"]["new"] == 0
    assert pinned["evaluations"]["new"] == 4
    assert everything(old) == everything(database)


def test_the_page_shows_licences_and_a_damaged_file_is_refused(hub, database, tmp_path):
    client(hub, tmp_path / "home", f"push {database} {REPO}")
    card = hub.files["README.md"].decode()
    assert hub.cards == [card]  # the client had its head checked
    assert "config_name: evaluations\n  data_files: data/evaluations.parquet" in card
    assert "config_name: latencies" not in card  # an empty table cannot be viewed
    assert "| nasbench201 | MIT | https://github.com/D-X-Y/NAS-Bench-201 |" in card
    assert "| evaluations | 4 |" in card

    content = hub.files[FILES["evaluations"]]
    hub.files[FILES["evaluations"]] = content[: len(content) // 2]
    copy = tmp_path / "copy.sqlite"
    (answer,) = client(hub, tmp_path / "home", f"pull {copy} {REPO}")
    assert "cut off" in answer["error"]["message"]
    assert everything(copy) == {table: [] for table in TABLES}


def test_what_the_hub_refuses_is_explained(hub, database, tmp_path):
    home, copy = tmp_path / "home", tmp_path / "copy.sqlite"
    missing, stranger = client(
        hub, home, f"pull {copy} {REPO}", f"push {database} {REPO}", HF_TOKEN="hf_wrong"
    )
    assert "no such dataset" in missing["error"]["message"]
    assert f"Cannot push to the dataset '{REPO}'" in stranger["error"]["message"]
    assert "HF_TOKEN" in stranger["error"]["message"]
    assert hub.commits == {}
    (offline,) = client(hub, home, f"pull {copy} {REPO}", HF_HUB_OFFLINE="1")
    assert "not in the local cache" in offline["error"]["message"]
    assert "metad2a db import" in offline["error"]["message"]
    hub.commit({"README.md": b"# Another dataset"})
    other, revision = client(hub, home, f"pull {copy} {REPO}", f"pull {copy} {REPO}@v9")
    assert "holds no database" in other["error"]["message"]
    assert "no such revision" in revision["error"]["message"]
    assert everything(copy) == {table: [] for table in TABLES}


@pytest.mark.parametrize(
    "repo",
    [
        "cells",
        "../../x",
        "someone/cells/deep",
        "https://huggingface.co/someone/cells",
        "",
        "someone/cells@../../refs",
        "someone/ce lls",
    ],
)
def test_what_is_no_id_is_refused(database, repo):
    with Store(database) as store:
        for action in (push, pull):
            with pytest.raises(InputError, match="is not the id of a dataset"):
                action(store, repo)


def test_a_push_names_no_revision(database):
    with Store(database) as store, pytest.raises(InputError, match="a push makes a new one"):
        push(store, f"{REPO}@v1")


def test_an_error_that_quotes_the_token_is_told_without_it(database, monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise RuntimeError("Illegal header value b'Bearer hf_ secret'")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    with (
        Store(database, create=False) as store,
        pytest.raises(DatabaseError, match=r"Cannot push.*RuntimeError.*Bearer \.\.\.") as caught,
    ):
        push(store, REPO)
    assert "secret" not in str(caught.value)
