"""Archives that hypothesis thinks of: each is read or refused, and nothing else happens."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import PACKERS, TREE, open_files, picture, tar_bytes, zip_bytes
from fuzzing_archives import ODD, cases, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow
BYTES = {ending: pack(TREE) for ending, pack in PACKERS.items()}
# Python's writers end a name at a NUL, each in its own way.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20
)
PARTS = st.sampled_from([odd for odd in ODD if "\0" not in odd]) | TEXTS
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(len)


def bounded(examples: int):
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=slow,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for one archive at a time, in which nothing else may be left in the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == []


@contextlib.contextmanager
def written(path: Path, data: bytes) -> Iterator[Path]:
    path.write_bytes(data)
    yield path
    path.unlink()


@bounded(40)
@given(st.integers(0, 2**32))
def test_broken_archives(folder: Path, seed: int) -> None:
    for name, data in cases(seed):
        with written(folder / name, data) as path:
            outcome(path)


def test_the_cases_are_of_both_kinds(folder: Path) -> None:
    found = []
    for name, data in cases(1):
        with written(folder / name, data) as path:
            found.append(outcome(path))
    assert list(cases(1)) == list(cases(1))
    assert None in found and any(found)


@bounded(200)
@given(
    st.sampled_from(sorted(BYTES)),
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=9)), min_size=1, max_size=6
    ),
)
def test_edited_archives(folder: Path, ending: str, edits: list[tuple[float, bytes]]) -> None:
    data = BYTES[ending]
    for place, new in edits:
        at = int(place * len(data))
        data = data[:at] + new + data[at + max(len(new), 1) :]
    with written(folder / f"x{ending}", data) as path:
        outcome(path)


@bounded(150)
@given(st.lists(PATHS, min_size=1, max_size=4), st.booleans())
def test_any_name(folder: Path, names: list[str], images: bool) -> None:
    """A zip and a tar of the same names get the same answer."""
    image = picture(0)
    tree = {name + "/1.png" * images: image for name in names}
    answers = []
    for ending, pack in ((".zip", zip_bytes), (".tar", tar_bytes)):
        with written(folder / f"x{ending}", pack(tree)) as path:
            answers.append(outcome(path))
    assert answers[0] == answers[1]
    for name in answers[0] or ():
        assert not name.startswith("/") and ".." not in name.split("/")
        assert len(name.encode()) < 2_000 and all(ord(c) > 31 for c in name)
