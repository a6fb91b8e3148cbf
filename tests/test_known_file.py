"""``known.json``: what is written is read, and what a stranger may have put there is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_known import CELL, SPACE, known

from metad2a.errors import ArtifactError
from metad2a.model.artifact import KNOWN
from metad2a.model.hub import resolve
from metad2a.model.known_file import read_known, write_known
from metad2a.model.metad2a import MetaD2A


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged model whose ``known.json`` has two small datasets."""
    place = Path(shutil.copytree(resolve(None), tmp_path / "model"))
    write_known(place, known(1.25, -0.5))
    return place


def test_what_is_written_is_read(folder, tmp_path):
    assert read_known(folder, SPACE, 2) == tuple(known(1.25, -0.5))
    whole = MetaD2A.from_pretrained(None)
    whole.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / KNOWN).read_bytes() == (resolve(None) / KNOWN).read_bytes()
    assert not list(folder.glob("*.part"))


def test_of_other_weights_it_says_nothing(folder):
    """A6: the digest is not that of the weights beside it."""
    path = folder / KNOWN
    path.write_text(path.read_text().replace('"weights_sha256": "', '"weights_sha256": "0'))
    assert read_known(folder, SPACE, 2) == ()


def one(**changes: object) -> str:
    """Return the row of one dataset with some values changed."""
    row = {
        "name": "ponds",
        "family": "water",
        "best_architecture": CELL,
        "best_accuracy": 5.0,
        "embedding": [0.5, 1],
    }
    return json.dumps(row | changes)


DAMAGED = {
    "A1 field missing": (one().replace('"family": "water", ', ""), "no object of name, family"),
    "A1 field unknown": (one(colour="red"), "no object of name, family"),
    "A2 nan": (one(embedding=[float("nan"), 1]), "'embedding' of 'ponds'"),
    "A2 infinite accuracy": (one(best_accuracy=float("inf")), "'best_accuracy' of 'ponds'"),
    "A3 cut": (one()[:30], "Unterminated"),
    "A3 nested": ("[" * 100_000, "recursion"),
    "A4 accuracy a text": (one(best_accuracy="5"), "'best_accuracy' of 'ponds'"),
    "A4 accuracy true": (one(best_accuracy=True), "'best_accuracy' of 'ponds'"),
    "A4 no list": (one(embedding=5), "'embedding' of 'ponds'"),
    "A4 length": (one(embedding=[1.0] * 3), "'embedding' of 'ponds' is no list of 2"),
    "A4 huge": (one(embedding=[10**400, 1]), "'embedding' of 'ponds'"),
    "A4 no cell": (one(best_architecture="resnet50"), "'best_architecture' of 'ponds'"),
    "A4 cell a number": (one(best_architecture=5), "'best_architecture' of 'ponds'"),
    "A4 escape in a name": (one(name="a\x1b[2J"), "'name' of a dataset"),
    "A4 long name": (one(family="f" * 500), "'family' of a dataset"),
    "A4 no row": ("5", "no object of name, family"),
    "A4 too many": (", ".join(["0"] * 1001), "no list of at most 1,000"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_with_the_way_out(folder, name):
    rows, message = DAMAGED[name]
    path = folder / KNOWN
    digest = json.loads(path.read_text())["weights_sha256"]
    path.write_text(f'{{"weights_sha256": "{digest}", "datasets": [{rows}]}}')
    with pytest.raises(ArtifactError) as caught:
        read_known(folder, SPACE, 2)
    assert message in str(caught.value)
    assert "Delete it" in str(caught.value)
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b"\xff\xfe", b" " * 17_000_000],
    ids=["empty", "null", "list", "no keys", "no text", "A4 17 MB"],
)
def test_what_is_no_such_file_is_refused(folder, content):
    (folder / KNOWN).write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be used"):
        read_known(folder, SPACE, 2)


def test_a_folder_in_its_place_is_refused(folder):
    (folder / KNOWN).unlink()
    (folder / KNOWN).mkdir()
    with pytest.raises(ArtifactError, match="directory"):
        read_known(folder, SPACE, 2)
