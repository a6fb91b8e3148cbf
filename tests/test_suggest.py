"""``suggest``, from whatever a user has to networks that can be built."""

from __future__ import annotations

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
from metad2a import suggestion
from metad2a.errors import ArtifactError, BudgetError, InputError
from metad2a.model.hub import resolve
from metad2a.model.metad2a import MetaD2A
from metad2a.spaces import SPACES
from metad2a.spaces.nasbench201 import NasBench201

SPACE = SPACES.get("nasbench201")
CLASSES = ("ash", "birch", "cedar")


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
    """What does not depend on the machine's speed."""
    return found.to_dict()["candidates"]


# -- the answer ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(folder) -> metad2a.Suggestions:
    return metad2a.suggest(folder, k=8, seed=3)


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
    assert str(found).count("\n") == 9
    assert found[0].architecture in str(found)
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(answer) == {"candidates", "report", "protocol", "seconds"}
    assert answer["candidates"][0]["interval"] == list(found[0].interval)


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
    assert plain(metad2a.suggest(str(folder), k=8, seed=3)) == plain(found)


def test_fewer_asked_are_the_first_of_more(folder, found):
    assert [one.architecture for one in metad2a.suggest(folder, k=2, seed=3)] == [
        one.architecture for one in found[:2]]


PROGRAM = """
import json, sys
import metad2a
found = metad2a.suggest(sys.argv[1], k=6, seed=1, max_params=500_000).to_dict()
del found["seconds"]
print(json.dumps(found))
"""


def test_another_process_and_hash_seed_give_the_same(folder):
    def run(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True,
            check=True, timeout=300, env=os.environ | {"PYTHONHASHSEED": seed}).stdout

    first = run("0")
    assert len(json.loads(first)["candidates"]) == 6
    assert run("1234") == first


# -- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [
    {"max_params": 300_000}, {"max_macs": 40_000_000},
    {"max_params": 150_000, "max_macs": 20_000_000},
], ids=str)
def test_limits_are_obeyed_by_the_networks_as_built(folder, limits):
    found = metad2a.suggest(folder, k=5, **limits)
    assert len(found) == 5
    for one in found:
        network = one.build()
        params = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert params == one.params <= limits.get("max_params", params)
        assert counted_macs(network) == one.macs <= limits.get("max_macs", one.macs)


def counted_macs(network: torch.nn.Module) -> int:
    """Run an image through and count the multiply-adds of what it meets.

    Every operation of a cell counts, reached or not, so operations are met one by one.
    """
    total = 0

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += module.weight[0].numel() * out[0].numel() if isinstance(
            module, torch.nn.Conv2d) else module.weight.numel()

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    return total


@pytest.mark.parametrize("name", ["max_params", "max_macs"])
def test_an_impossible_limit_names_the_smallest_that_works(folder, name):
    with pytest.raises(BudgetError, match=rf"Use {name}=(\d+) or more") as caught:
        metad2a.suggest(folder, **{name: 1})
    least = int(str(caught.value).rsplit("=", 1)[1].split()[0])
    with pytest.raises(BudgetError):
        metad2a.suggest(folder, **{name: least - 1})
    found = metad2a.suggest(folder, **{name: least})
    assert len(found) > 0
    for one in found:
        assert {"max_params": one.params, "max_macs": one.macs}[name] == least


def test_fewer_come_back_when_fewer_obey(folder):
    least = SPACE.smallest(3)
    found = metad2a.suggest(folder, k=10_000, max_params=least.params, max_macs=least.macs)
    assert 0 < len(found) < 10_000
    assert {(one.params, one.macs) for one in found} == {(least.params, least.macs)}


@pytest.mark.parametrize("arguments", [
    {"k": 0}, {"k": -1}, {"k": 2.5}, {"k": True}, {"k": None}, {"k": "five"}, {"k": [5]},
    {"k": float("nan")}, {"k": float("inf")},
    {"max_params": 0}, {"max_params": -5}, {"max_params": "2M"}, {"max_macs": 1.5},
    {"max_macs": float("inf")}, {"max_macs": 10**400}, {"seed": -1}, {"seed": 1.5},
    {"seed": "x"}, {"seed": None}, {"seed": 2**63},
    {"space": "nasbench"},
], ids=lambda arguments: str(arguments)[:30])
def test_bad_arguments_are_named(folder, arguments):
    with pytest.raises(InputError) as caught:
        metad2a.suggest(folder, **arguments)
    (name, value), = arguments.items()
    assert repr(value) in str(caught.value)
    assert name in str(caught.value) or "search space" in str(caught.value)


@pytest.mark.parametrize("arguments", [
    {"seed": 2**63 - 1}, {"k": 3.0}, {"k": np.int32(3)}, {"max_params": 2**63 - 1},
    {"max_macs": 1e9},
], ids=str)
def test_odd_but_meaningful_arguments(folder, arguments):
    assert len(metad2a.suggest(folder, **{"k": 3, **arguments})) == 3


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
            torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)),
        "loaded": metad2a.load_dataset(images, labels, classes=CLASSES),
    }
    expected = plain(metad2a.suggest(folder, k=4))
    for name, source in forms.items():
        assert plain(metad2a.suggest(source, k=4)) == expected, name


def test_other_images_give_other_predictions(arrays, folder):
    images, labels = arrays
    assert plain(metad2a.suggest((images // 2, labels), k=4)) != plain(
        metad2a.suggest(folder, k=4))


def test_unreadable_images_are_counted(folder, tmp_path):
    root = Path(shutil.copytree(folder, tmp_path / "woods"))
    (root / "ash" / "broken.png").write_bytes(b"no image")
    report = metad2a.suggest(root, k=1).report
    assert report.images == 30
    assert [one.name for one in report.skipped] == ["ash/broken.png"]
    assert "1 unreadable file skipped" in str(report)


def test_a_folder_that_only_has_a_test_side(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "woods" / "test")
    assert plain(metad2a.suggest(tmp_path / "woods", k=2)) == plain(metad2a.suggest(folder, k=2))


def test_one_class_cannot_be_used(arrays):
    with pytest.raises(InputError, match="at least 2 are needed"):
        metad2a.suggest((arrays[0], np.zeros(30, dtype=int)))


# -- models ----------------------------------------------------------------------------------


def test_the_model_may_be_a_folder_or_an_object(folder, found):
    place = resolve(None)
    loaded = MetaD2A.from_pretrained(place)
    for model in (place, str(place), loaded):
        assert [one.architecture for one in metad2a.suggest(folder, k=8, seed=3, model=model)] == [
            one.architecture for one in found]


def test_a_model_that_is_not_there(folder, tmp_path):
    with pytest.raises(ArtifactError, match=r"config\.json is missing"):
        metad2a.suggest(folder, model=tmp_path)
    with pytest.raises(ArtifactError, match="neither a folder nor a Hub id"):
        metad2a.suggest(folder, model="no such model")


def test_a_model_of_another_space_is_refused(folder, monkeypatch):
    class Other(NasBench201):
        name = "other"

    monkeypatch.setitem(SPACES._items, "other", Other())
    with pytest.raises(InputError, match=r"space='other', but the model .* 'nasbench201'"):
        metad2a.suggest(folder, space="other")


def test_no_fewer_are_generated_than_asked_for(folder, monkeypatch):
    monkeypatch.setattr(suggestion, "CANDIDATES", 4)
    assert len(metad2a.suggest(folder, k=9)) == 9
