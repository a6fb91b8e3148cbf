"""``suggest``, from whatever a user has to networks that can be built."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

import metad2a
from metad2a import result
from metad2a.errors import ArtifactError, InputError
from metad2a.model.hub import resolve
from metad2a.model.metad2a import MetaD2A
from metad2a.spaces import SPACES
from metad2a.spaces.nasbench201 import NasBench201

SPACE = SPACES.get("nasbench201")
CLASSES = ("ash", "birch", "cedar")
cells = functools.partial(metad2a.suggest, space=SPACE.name)
"""``suggest`` in the space of cells, whose model lies in the package."""


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Thirty stripes, ten a class, sorted by class: uint8 (30, 20, 20, 3) and int (30,)."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 10)
    images = rng.integers(0, 90, (30, 20, 20, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:: label + 2] += 130
    return images, labels


@pytest.fixture(scope="module")
def folder(arrays, tmp_path_factory) -> Path:
    """The same as PNG files."""
    root = tmp_path_factory.mktemp("woods")
    for index, (image, label) in enumerate(zip(*arrays, strict=True)):
        place = root / CLASSES[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{index:02}.png")
    return root


def plain(found: metad2a.Suggestions) -> list[dict]:
    """What does not depend on the machine's speed, nor on what classes are called."""
    return [
        {
            **one,
            "classes": len(one["classes"]),
            "accuracy": round(one["accuracy"], 3),
            "interval": [round(bound, 3) for bound in one["interval"]],
        }
        for one in found.to_dict()["candidates"]
    ]


# -- the answer ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(folder) -> metad2a.Suggestions:
    return cells(folder, k=8, seed=3)


def test_candidates_are_ranked_by_accuracy(found):
    assert [one.rank for one in found] == list(range(1, 9))
    accuracies = [one.accuracy for one in found]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len({one.architecture for one in found}) == 8
    for one in found:
        low, high = one.interval
        assert 0 <= low < one.accuracy < high <= 100
        assert one.space == "nasbench201"
        assert SPACE.is_connected(SPACE.parse(one.architecture))
    assert "predicted best of" in found[0].reason
    assert "predicted number 8 of" in found[7].reason


def test_the_answer_is_a_sequence_with_a_report(found):
    assert len(found) == 8
    assert found[1:3] == list(found)[1:3]
    assert found[-1] is list(found)[7]
    assert (found.report.images, found.report.classes) == (30, 3)
    assert found.protocol == "standalone-v1"
    assert 0 < found.seconds < 300
    # A head, eight networks, ties, the front, what the accuracy is.
    lines = 1 + 8 + (len(found.ties) > 1) + len(found.front) + 1 + len(found.neighbourhood.lines())
    assert len(str(found).splitlines()) == lines
    assert found[0].architecture in str(found)
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(answer) == {
        "candidates",
        "ties",
        "front",
        "spaces",
        "classes",
        "report",
        "protocol",
        "note",
        "seconds",
        "latency",
        "nearest",
        "far",
        "distance",
        "usual_distance",
        "warning",
    }
    assert answer["candidates"][0]["interval"] == list(found[0].interval)
    assert answer["classes"] == answer["candidates"][0]["classes"] == list(CLASSES)
    for one in answer["candidates"]:
        assert (one["resolution"], one["bytes"]) == (32, 4 * one["params"])


def test_a_candidate_builds_the_network_that_it_describes(found):
    for one in (found[0], found[7]):
        network = one.build().eval()
        assert sum(p.numel() for p in network.parameters() if p.requires_grad) == one.params
        assert one.macs == SPACE.cost(SPACE.parse(one.architecture), 3).macs
        with torch.no_grad():
            assert network(torch.zeros(2, 3, 20, 20)).shape == (2, 3)
    small = found[0].build(channels=4, cells=1)
    assert 0 < sum(p.numel() for p in small.parameters()) < found[0].params
    with pytest.raises(InputError):
        found[0].build(cells=0)


def test_a_candidate_draws_itself(found, tmp_path):
    text = found[0].draw(tmp_path / "cell.svg")
    assert (tmp_path / "cell.svg").read_text(encoding="utf-8") == text == found[0].draw()
    assert text.startswith("<svg")
    assert found[1].draw() != text


def test_the_same_seed_gives_the_same_answer(folder, found):
    assert plain(cells(str(folder), k=8, seed=3)) == plain(found)


def test_fewer_asked_are_the_first_of_more(folder, found):
    assert [one.architecture for one in cells(folder, k=2, seed=3)] == [
        one.architecture for one in found[:2]
    ]


PROGRAM = """
import json, sys
import metad2a
found = metad2a.suggest(
    sys.argv[1], k=6, seed=1, max_params=500_000, space="nasbench201"
).to_dict()
del found["seconds"]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_another_process_and_hash_seed_give_the_same(folder):
    def run(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder)],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout

    first = run("0")
    assert len(json.loads(first)["candidates"]) == 6
    assert run("1234") == first


# -- datasets --------------------------------------------------------------------------------


class Listed(Dataset):
    """A torch dataset of Pillow images."""

    classes = CLASSES

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.targets = images, labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), self.targets[index]


@pytest.mark.slow
def test_every_form_of_the_same_images_gives_the_same_candidates(arrays, folder, tmp_path):
    images, labels = arrays
    with zipfile.ZipFile(tmp_path / "woods.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(folder).as_posix())
    forms = {
        "zip": tmp_path / "woods.zip",
        "arrays": (images, labels),
        "names": (images, np.array(CLASSES)[labels]),
        "tensors": (torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)),
        "floats": (images / 255, labels),
        "torch dataset": Listed(images, labels),
        "tensor dataset": TensorDataset(
            torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
        ),
        "loaded": metad2a.load_dataset(images, labels, classes=CLASSES),
    }
    expected = plain(cells(folder, k=4))
    for name, source in forms.items():
        assert plain(cells(source, k=4)) == expected, name


def test_other_images_give_other_predictions(arrays, folder):
    images, labels = arrays
    assert plain(cells((images // 2, labels), k=4)) != plain(cells(folder, k=4))


def test_unreadable_images_are_counted(folder, tmp_path):
    root = Path(shutil.copytree(folder, tmp_path / "woods"))
    (root / "ash" / "broken.png").write_bytes(b"no image")
    report = cells(root, k=1).report
    assert report.images == 30
    assert [one.name for one in report.skipped] == ["ash/broken.png"]
    assert "1 unreadable file skipped" in str(report)


def test_a_folder_that_only_has_a_test_side(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "woods" / "test")
    assert plain(cells(tmp_path / "woods", k=2)) == plain(cells(folder, k=2))


def test_one_class_cannot_be_used(arrays):
    with pytest.raises(InputError, match="at least 2 are needed"):
        cells((arrays[0], np.zeros(30, dtype=int)))


# -- models ----------------------------------------------------------------------------------


def test_the_model_may_be_a_folder_or_an_object(folder, found):
    place = resolve(None)
    loaded = MetaD2A.from_pretrained(place)
    for model in (place, str(place), loaded):
        assert [one.architecture for one in cells(folder, k=8, seed=3, model=model)] == [
            one.architecture for one in found
        ]


def test_a_given_model_answers_in_its_own_space(folder):
    (own,) = metad2a.suggest(folder, k=1, model=resolve(None))
    (named,) = cells(folder, k=1, model=resolve(None))
    assert own == named


def test_a_model_that_is_not_there(folder, tmp_path):
    with pytest.raises(ArtifactError, match=r"config\.json is missing"):
        cells(folder, model=tmp_path)
    with pytest.raises(ArtifactError, match="neither a folder nor a Hub id"):
        cells(folder, model="no such model")


def test_a_model_of_another_space_is_refused(folder, monkeypatch):
    class Other(NasBench201):
        name = "other"

    monkeypatch.setitem(SPACES._items, "other", Other())
    with pytest.raises(InputError, match=r"space='other', but the model .* 'nasbench201'"):
        cells(folder, space="other")


def test_no_fewer_are_generated_than_asked_for(folder, monkeypatch):
    monkeypatch.setattr(result, "CANDIDATES", 4)
    assert len(cells(folder, k=9)) == 9
