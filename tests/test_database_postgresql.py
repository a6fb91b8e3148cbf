"""A store on a PostgreSQL server: how it is reached, and what is said when it is not."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, TimeoutError

import numpy as np
import pytest
from conftest import new_location
from sqlalchemy import make_url

from database import Store, draw_tasks
from database.records import record_measurements
from database.schema import SOURCES
from database.servers import postgresql
from metad2a.datasets import load_dataset
from metad2a.errors import DatabaseError
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SECRET = "sesame"


@pytest.fixture
def url(request, tmp_path):
    with new_location("postgresql", request, tmp_path) as place:
        yield place


def refused(url: str, create: bool = True) -> str:
    with pytest.raises(DatabaseError) as error:
        Store(url, create)
    text = str(error.value)
    assert SECRET not in text
    assert SECRET not in repr(error.value.__cause__)
    return text


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql", "postgres"])
def test_every_usual_form_of_the_url_is_understood(url, driver):
    with Store(url.replace("postgresql+psycopg", driver)) as store:
        assert store.path is None
        assert store.name.startswith("postgresql+psycopg://postgres@/")
        assert store.size() > 0


def test_the_password_is_not_part_of_the_name(url):
    given = make_url(url).set(password=SECRET).render_as_string(hide_password=False)
    with Store(given) as store:  # the server trusts its socket, and asks for none
        assert SECRET not in store.name
    with Store(f"{url}&password={SECRET}") as store:
        assert SECRET not in store.name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (f"postgresql+psycopg://me:{SECRET}@localhost:1/db", "Connection refused"),
        (f"postgresql+psycopg://me:{SECRET}@no-such-host.invalid/db", "no-such-host.invalid"),
        (f"postgresql+psycopg://me:a@{SECRET}@localhost/db", "more than one @"),
        (f"postgresql+psycopg://me:x@localhost:{SECRET}/db", "cannot be read"),
        (f"mysql://me:{SECRET}@localhost/db", "kind 'mysql' is not supported"),
        (f"://me:{SECRET}@localhost", "cannot be read"),
    ],
)
def test_a_url_that_leads_nowhere_is_explained(wrong, message):
    text = refused(wrong)
    assert message in text
    assert "postgresql+psycopg://USER@HOST:PORT/DATABASE" in text


def test_a_missing_database_or_user_is_explained(url):
    base = make_url(url)
    for other, message in [
        (base.set(database="nowhere", password=SECRET), 'database "nowhere" does not exist'),
        (base.set(username="nobody", password=SECRET), 'role "nobody" does not exist'),
        (base.update_query_dict({"no_such_option": "1"}), "no_such_option"),
    ]:
        text = refused(other.render_as_string(hide_password=False))
        assert message in text
        assert "Check that the server runs" in text


def test_a_wrong_password_is_explained(url, postgresql_server):
    """The server asks this one user for its password, and all others for none."""
    rules = postgresql_server.pgdata / "pg_hba.conf"
    kept = rules.read_text()
    postgresql_server.psql("CREATE ROLE locked LOGIN SUPERUSER PASSWORD 'open';")
    try:
        rules.write_text(
            f"local all locked scram-sha-256\nhost all locked all scram-sha-256\n{kept}"
        )
        postgresql_server.psql("SELECT pg_reload_conf();")
        base = make_url(url).set(username="locked")
        text = refused(base.set(password=SECRET).render_as_string(hide_password=False))
        assert 'password authentication failed for user "locked"' in text
        assert "PGPASSWORD" in text
        Store(base.set(password="open").render_as_string(hide_password=False)).close()
    finally:
        rules.write_text(kept)
        postgresql_server.psql("DROP ROLE locked; SELECT pg_reload_conf();")


def test_a_user_who_may_not_write_is_told_so(url, postgresql_server):
    postgresql_server.psql("CREATE ROLE guest LOGIN;")
    try:
        guest = make_url(url).set(username="guest").render_as_string()
        assert "permission denied" in refused(guest)
        with Store(url) as store, store.writing() as connection:
            connection.exec_driver_sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
        with Store(guest, create=False) as store:
            with store.reading() as connection:
                assert len(connection.execute(SOURCES.select()).all()) == 1
            with pytest.raises(DatabaseError, match="permission denied"):
                store.add_protocol(Protocol("new", "score", ""))
        with Store(url) as store, store.writing() as connection:
            connection.exec_driver_sql("DROP OWNED BY guest")
    finally:
        postgresql_server.psql("DROP ROLE guest;")


def test_a_missing_driver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "pip install 'metad2a[postgresql]'" in refused("postgresql://me@localhost/db")


def test_a_connection_that_broke_is_made_again(url, postgresql_server):
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'metad2a';"
    )
    with Store(url) as store:
        postgresql_server.psql(end)
        store.add_protocol(Protocol("new", "score", ""))
        with (
            pytest.raises(DatabaseError, match="Check that the server runs"),
            store.writing() as connection,
        ):
            postgresql_server.psql(end)
            connection.execute(SOURCES.select())
        store.add_protocol(Protocol("another", "score", ""))


def test_the_settings_in_the_url_come_first(url):
    with Store(f"{url}&application_name=mine") as store, store.reading() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "mine"
    assert postgresql._SETTINGS["application_name"] == "metad2a"


def test_a_row_that_another_writer_adds_meanwhile_is_kept(url):
    rng = np.random.default_rng(0)
    dataset = load_dataset(
        rng.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8), np.arange(120) % 6
    )
    task, space = draw_tasks(dataset, 1, seed=0)[0], SPACES.get("nasbench201")

    def measured(values):
        return [
            Measurement("train-v1", (number,) * 6, 0, value, 1.0)
            for number, value in enumerate(values)
        ]

    with Store(url) as first, Store(url) as second, ThreadPoolExecutor(1) as pool:
        first.add_dataset(dataset, "noise", 16)
        first.add_task(task)
        first.add_protocol(Protocol("train-v1", "accuracy", "A training."))
        with first.writing() as connection:
            record_measurements(connection, task.key, space, measured([0.5, 0.6]), "cpu", "v")
            waiting = pool.submit(
                second.record, task.key, space, measured([0.5, 0.7, 0.8]), "cpu", "v"
            )
            with pytest.raises(TimeoutError):
                waiting.result(2)
        recorded = waiting.result(60)
        assert (recorded.new, recorded.known) == (1, 1)
        (conflict,) = recorded.conflicts
        assert "0.6 is kept, 0.7 refused" in conflict
        assert sorted(first.measured(task.key, "train-v1", 0).values()) == [0.5, 0.6, 0.8]
