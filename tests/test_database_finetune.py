"""Tasks, networks and recipes for pretrained spaces, and the labels that are measured of them."""

from __future__ import annotations

import pickle
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from building import Here, make_data, make_plan, rows, spread
from sklearn.datasets import load_digits
from test_database_tasks import noise

from database import draw_tasks, family_of, read_plan
from database.build import build
from database.datasets import Opened, deal
from database.jobs.choice import (
    EPOCHS,
    EXPECTED_SECONDS,
    MACS_PER_SECOND,
    MOST_SECONDS,
    STEP,
    expected,
    pairs,
    parents,
    recipes,
)
from database.jobs.outstanding import Outstanding
from database.store import Store
from database.tasks import CELLS, PRETRAINED, UPRIGHT, _families, kind_of
from database.workers import local
from metad2a import meta_training
from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.meta_training.rows import packaged_landmarks
from metad2a.protocol import fine_tune, parse_fine_tune
from metad2a.spaces import SPACES
from metad2a.training.plan import RATES
from search.data import TaskImages
from search.labellers import finetune
from search.labellers.base import LABELLERS
from search.labellers.finetune import FineTuned, frozen, is_whole

SPACE = SPACES.get("efficientnet_lite")
NASBENCH = SPACES.get("nasbench201")
SMALL = SPACE.whole(3, 32)
CUT = SPACE.parse("r32-s3-d11-e23-k3")


# -- tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "images", "test"), [(100, 20, 5), (10, 300, 100), (2, 60, 0), (5, 40, 25)]
)
def test_tasks_of_pretrained_networks_keep_their_promises(classes, images, test):
    dataset = noise(classes, images, side=8, test=test)
    tasks = draw_tasks(dataset, 40, 0, "a fingerprint", PRETRAINED)
    assert draw_tasks(dataset, 5, 0, "a fingerprint", PRETRAINED) == tasks[:5]
    for task in tasks:
        train, held = np.array(task.train), np.array(task.test)
        assert task.resolution == 0
        assert not set(task.train) & set(task.test)
        assert 2 <= len(task.classes) <= min(60, classes)
        assert set(dataset.labels[train]) == set(dataset.labels[held]) == set(task.classes)
        assert np.bincount(dataset.labels[train])[list(task.classes)].min() >= 4
        assert len(train) <= PRETRAINED.train_images[1]
        assert 10 <= len(held) <= PRETRAINED.test_images[1]
        assert (dataset.split[held] == (test > 0)).all()
    if classes in (5, 10):
        assert 10 < sum(len(task.classes) == classes for task in tasks) < 35
    assert len({len(task.train) for task in tasks}) > 5


def test_the_space_decides_what_tasks_are_like():
    assert kind_of(SPACE) is PRETRAINED
    assert kind_of(NASBENCH) is kind_of(SPACES.get("darts")) is CELLS


def test_a_task_without_a_resolution_gives_squares_of_any():
    dataset = noise(6, 120, side=24)
    task = next(t for t in draw_tasks(dataset, 40, 0, kind=PRETRAINED) if 0 not in t.classes)
    images = task.load(dataset)
    assert images.classes == len(task.classes) < 6
    small, large = images.batches("train", 12), images.batches("test", 24)
    assert small.take(torch.arange(2)).shape == (2, 3, 12, 12)
    expected = torch.from_numpy(dataset.image(task.test[1])).permute(2, 0, 1)
    assert torch.equal(large.take(torch.tensor([1]))[0], expected)
    assert task.classes[int(large.labels[1])] == dataset.labels[task.test[1]]
    assert images.batches("train", 12) is small
    with pytest.raises(InputError, match=r"has no resolution.*'finetune' or 'probe'"):
        images.data  # noqa: B018


@pytest.mark.parametrize("kind", [CELLS, PRETRAINED])
def test_images_travel_to_another_process(kind, tmp_path):
    make_data(tmp_path, images=30)
    for dataset in (noise(6, 40, side=24), load_dataset(tmp_path / "first")):
        task = draw_tasks(dataset, 1, 0, kind=kind)[0]
        here = task.load(dataset)
        there = pickle.loads(pickle.dumps(here))
        assert (there.classes, there.flip) == (here.classes, here.flip)
        if task.resolution:
            assert torch.equal(there.data.train_x, here.data.train_x)
            continue
        for part in ("train", "test"):
            one, other = here.batches(part, 16), there.batches(part, 16)
            assert torch.equal(one.labels, other.labels)
            every = torch.arange(len(one))
            assert torch.equal(one.take(every), other.take(every))


def test_every_family_is_listed_once_and_what_is_upright_is_not_mirrored():
    names = [name for name in _families() if family_of(name) in UPRIGHT]
    assert {family_of(name) for name in names} == set(UPRIGHT)
    dataset = noise(3, 40)
    (task,) = draw_tasks(dataset, 1, 0, kind=PRETRAINED)
    assert task.load(dataset).flip
    dataset.name = "mnist"
    assert not task.load(dataset).flip


def test_no_dataset_is_of_two_families():
    from importlib.resources import files

    listed = tomllib.loads(files("database").joinpath("families.toml").read_text("utf-8"))
    names = [name for family in listed.values() for name in family]
    assert len(names) == len(set(names)) >= 66


def test_families_take_turns(monkeypatch):
    monkeypatch.setattr("database.datasets.family_of", lambda name: name[0])
    datasets = []
    for number, name in enumerate(["a1", "a2", "a3", "b1", "b2", "c1"]):
        dataset = noise(3, 40, side=8, seed=number)
        dataset.name = name
        datasets.append(Opened(None, dataset, dataset.fingerprint()))
    names = [task.name for task in deal(datasets, 9, 0, PRETRAINED)]
    assert {name[0] for name in names[:3]} == {"a", "b", "c"}
    assert len({name[:2] for name in names[:6]}) == 6
    assert names[6:] == [name.replace("-000", "-001") for name in names[:3]]
    assert names[:3] != [task.name for task in deal(datasets, 3, 1, PRETRAINED)]


# -- networks and recipes ----------------------------------------------------------------------


def task_of(images, classes=5):
    (task,) = draw_tasks(noise(classes, 40, side=8), 1, 0, kind=PRETRAINED)
    return replace(task, train=tuple(range(images)), classes=tuple(range(classes)))


@pytest.mark.parametrize("images", [40, 200, 800])
def test_pairs_are_affordable_distinct_nested_and_of_both_halves(images):
    task = task_of(images)
    found = pairs(SPACE, 12, 0, task)
    assert found == pairs(SPACE, 12, 0, task)
    assert len({(one, protocol.name) for one, protocol in found}) == len(found) == 12
    assert set(pairs(SPACE, 4, 0, task)) <= set(found)
    assert {SPACE.format(one) for one, _ in found} != {
        SPACE.format(one) for one, _ in pairs(SPACE, 12, 1, task)
    }
    sides = [SPACE.resolution(one) for one, _ in found]
    assert sides == sorted(sides)
    assert max(sides) <= 128
    assert 3 <= sum(is_whole(SPACE, one) for one, _ in found) <= 8
    for one, protocol in found:
        assert SPACE.canonical(one) == one
        assert protocol == parse_fine_tune(protocol.name)
        assert protocol in recipes()
        recipe, macs = protocol.recipe, SPACE.cost(one, 5).macs
        assert (recipe.rate in RATES, recipe.epochs in EPOCHS) == (True, True)
        assert STEP * macs * images * recipe.epochs / MACS_PER_SECOND <= MOST_SECONDS
        assert recipe.epochs <= max(16, 4000 / images)


def test_what_is_expected_of_a_task_is_affordable_distinct_and_nested():
    landmarks = next(iter(packaged_landmarks().values()))
    task = task_of(200, landmarks.classes)
    found = expected(SPACE, 5, task, landmarks)
    assert len({(one, protocol.name) for one, protocol in found}) == len(found) == 5
    assert found[:2] == expected(SPACE, 2, task, landmarks)
    for one, protocol in found:
        assert one in SPACE.anchors(cut=True)
        assert protocol in recipes()
        assert protocol.recipe.rate > 0
        took = protocol.recipe.epochs * len(task.train) * SPACE.cost(one, 5).macs / MACS_PER_SECOND
        assert took < max(EXPECTED_SECONDS)
        assert protocol.recipe.epochs <= 4000 / 200
    assert len({(SPACE.stages(one), SPACE.resolution(one)) for one, _ in found}) > 1
    with pytest.raises(InputError, match="not of 'nasbench201'"):
        expected(NASBENCH, 1, task, landmarks)


def test_nothing_is_expected_of_a_task_that_was_never_looked_at(tmp_path, monkeypatch):
    plan = make_plan({"name": "expected", "architectures": 2}, space="efficientnet_lite")
    known = task_of(100, 4)
    landmarks = {known.key: next(iter(packaged_landmarks().values()))}
    monkeypatch.setattr(meta_training.rows, "packaged_landmarks", lambda: landmarks)
    with Store(tmp_path / "store.sqlite") as store:
        outstanding = Outstanding(plan, store, SPACE)
        assert not list(outstanding.jobs(task_of(100)))
        jobs = list(outstanding.jobs(known))
    assert [job.labeller.split(":")[0] for job in jobs] == ["finetune-v1"] * 2


def test_the_parent_comes_at_two_resolutions():
    assert [SPACE.resolution(one) for one in parents(SPACE)] == [128, 224]
    assert all(is_whole(SPACE, one) for one in parents(SPACE))
    with pytest.raises(InputError, match=r"not of 'nasbench201'.*'spread'"):
        parents(NASBENCH)


def test_without_whole_pieces_all_pairs_are_members():
    space = SPACES.get("mobilenetv3")
    found = pairs(space, 9, 0, task_of(100))
    assert set(pairs(space, 3, 0, task_of(100))) <= set(found)
    assert len({architecture for architecture, _ in found}) == len(found) == 9
    macs = [space.cost(architecture, 10).macs for architecture, _ in found]
    assert max(macs) > 4 * min(macs)
    with pytest.raises(InputError, match=r"'nasbench201' have no pretrained weights.*'spread'"):
        pairs(NASBENCH, 1, 0, task_of(40))


def test_the_plans_of_the_repository_are_good(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        for name in ("finetune_first", "finetune_tasks", "finetune_mobilenetv3", "finetune"):
            plan = read_plan(f"plans/{name}.toml")
            jobs = list(Outstanding(plan, store, SPACES.get(plan.space)).jobs(task_of(100)))
            wanted = sum(method.architectures for method in plan.methods)
            pairs = sum(m.architectures for m in plan.methods if m.name == "pairs")
            assert wanted - 1 <= len(jobs) <= wanted  # spread may find the parent again
            assert all(len(job.architectures) == 1 for job in jobs)
            tuned = [job.labeller for job in jobs if job.labeller.startswith("finetune-v1:")]
            assert len(tuned) == pairs >= 2


def test_what_is_wrong_in_a_plan_is_refused():
    with pytest.raises(InputError, match="protocols is for networks alone"):
        make_plan({"name": "pairs", "architectures": 2, "protocols": ["probe"]})
    with pytest.raises(InputError, match="'parent' lacks protocols"):
        make_plan({"name": "parent", "architectures": 2})
    with pytest.raises(InputError, match="images is for searches; the method 'pairs'"):
        make_plan({"name": "pairs", "architectures": 2, "images": 3})


# -- labels ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """Ten digits, 150 images to train on and 150 to be judged by."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.repeat((pixels * 15.9).astype(np.uint8).reshape(-1, 8, 8, 1), 3, axis=3)
    dataset = load_dataset(images[:300], labels[:300])
    return TaskImages(dataset, np.arange(150), np.arange(150, 300), np.arange(10))


@pytest.mark.parametrize("architecture", [SMALL, CUT], ids=["whole", "cut"])
def test_a_fine_tuning_begins_frozen_and_learns(digits, architecture):
    labeller = FineTuned(fine_tune(5e-4, 2))
    (one,) = labeller.measure(digits, SPACE, [architecture], 0)
    assert (one.protocol, one.architecture, one.seed) == (
        "finetune-v1:r0.0005:e2",
        architecture,
        0,
    )
    (probe,) = LABELLERS.get("probe").measure(digits, SPACE, [architecture], 0)
    assert len(one.curve) == 5
    assert one.curve[0] == probe.value
    assert one.curve[-1] == one.value > 0.5  # chance is a tenth
    assert one.curve[1] != probe.value > 0.5
    assert 0 < probe.seconds < one.seconds
    (again,) = labeller.measure(digits, SPACE, [architecture], 0)
    assert (again.value, again.curve) == (one.value, one.curve)


def test_norms_are_estimated_anew_only_where_that_is_better(digits, monkeypatch):
    from metad2a.training import loop
    from metad2a.training.device import plan

    train, place = digits.batches("train", 32), plan("cpu")
    calls = []
    real = loop.recalibrate

    def spoil(network, *rest):
        calls.append(network)
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_mean.fill_(1e3)

    monkeypatch.setattr(loop, "recalibrate", spoil)
    frozen(SPACE, SMALL, train, 10, place)
    assert not calls
    cut = frozen(SPACE, CUT, train, 10, place)
    assert len(calls) == 1
    plain = place.place(SPACE.build(CUT, 10, pretrained=True)).eval()
    normal = loop.Normalisation()
    loop.closed_form(plain, train, place, normal)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, cut.state_dict()[name]), name
    monkeypatch.setattr(loop, "recalibrate", real)
    loop.recalibrate(plain, train, place, normal)
    better = frozen(SPACE, CUT, train, 10, place)  # the norms of so short a piece are worth it
    assert torch.equal(better.stem.norm.running_mean, plain.stem.norm.running_mean)


def test_labellers_refuse_networks_without_weights(digits):
    for name in ("finetune", "probe"):
        with pytest.raises(InputError, match="'nasbench201' have no pretrained weights"):
            list(LABELLERS.get(name).measure(digits, NASBENCH, [(0,) * 6], 0))


def test_a_build_of_pairs_is_stored_and_goes_on(tmp_path, monkeypatch):
    make_data(tmp_path / "data", images=20)
    monkeypatch.setattr(local, "LocalWorkers", Here)
    monkeypatch.setattr(finetune.FineTuned, "_trained", quick)
    monkeypatch.setattr(LABELLERS.get("probe"), "measure", probed, raising=False)

    def run(count):
        plan = make_plan(
            {"name": "pairs", "architectures": count},
            spread("probe", architectures=1),
            space="efficientnet_lite",
            name="here",
        )
        return build(plan, tmp_path / "store.sqlite", tmp_path / "data")

    assert (run(2).evaluations, run(3).evaluations) == (2 * 3, 2 * 1)
    found = rows(tmp_path / "store.sqlite")
    tuned = [row for row in found if row["protocol"].startswith("finetune-v1:")]
    assert len(found) == 8
    assert len(tuned) == 6
    assert {len(row["curve"]) for row in tuned} == {5}
    assert {row["resolution"] for row in found} == {0}
    assert {row["space"] for row in found} == {"efficientnet_lite"}


def quick(self, images, space, architecture, seed, device):
    """Stand in for a training."""
    assert len(images.batches("train", 16)) == len(images.train)
    return finetune.Measurement(
        self.protocol.name, architecture, seed, 0.5, 0.1, (0.2, 0.3, 0.4, 0.5, 0.5)
    )


def probed(images, space, architectures, seed, device="cpu"):
    """Stand in for a probe."""
    return [finetune.Measurement("probe-v1", one, seed, 0.5, 0.1) for one in architectures]
