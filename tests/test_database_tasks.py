"""Drawn tasks: what they hold, that they are the same everywhere, and which cells they get."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from database import draw_tasks, family_of
from database.jobs.choice import choose
from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")


def noise(classes, images, side=16, seed=0, test=0):
    """Random images, ``images`` a class; the last ``test`` of each class are the test side."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(classes), images)
    pixels = rng.integers(0, 256, (len(labels), side, side, 3), dtype=np.uint8)
    dataset = load_dataset(pixels, labels)
    dataset.split = (np.arange(len(labels)) >= classes * (images - test)).astype(np.int8)
    return dataset


@pytest.mark.parametrize(("classes", "images", "test"), [(30, 40, 0), (30, 40, 10), (8, 300, 100)])
def test_tasks_keep_their_promises(classes, images, test):
    dataset = noise(classes, images, side=28, test=test)
    tasks = draw_tasks(dataset, 40, seed=0)
    for task in tasks:
        train, held = np.array(task.train), np.array(task.test)
        assert not set(task.train) & set(task.test)
        assert 5 <= len(task.classes) <= min(20, classes)
        assert set(dataset.labels[train]) == set(dataset.labels[held]) == set(task.classes)
        assert len(set(task.train)) == len(train) <= 2000
        assert np.bincount(dataset.labels[train])[list(task.classes)].min() >= 8
        assert 0 < len(held) <= 500
        assert (dataset.split[train] == 0).all()
        own = int(np.isin(dataset.labels, task.classes)[dataset.split == 1].sum())
        assert (dataset.split[held] == (own >= 100)).all()
        assert task.resolution in (16, 24)
    counts = [np.bincount(dataset.labels[list(task.train)])[list(task.classes)] for task in tasks]
    uneven = sum(one.max() - one.min() > 1 for one in counts)
    assert 5 <= uneven <= 22  # a third of 40, give or take
    assert len({len(task.classes) for task in tasks}) > 2
    assert {task.resolution for task in tasks} == {16, 24}
    assert len({task.key for task in tasks}) == 40


def test_a_dataset_of_few_classes_gives_all_of_them_at_its_own_side():
    task, *_ = draw_tasks(noise(3, 50, side=8), 2, seed=0)
    assert task.classes == (0, 1, 2)
    assert task.resolution == 8


def test_rare_classes_are_left_out_and_a_dataset_of_them_is_refused():
    dataset = noise(6, 20)
    dataset.split[:] = 0
    dataset.labels = np.where(dataset.labels == 5, 4, dataset.labels)
    dataset.labels[0] = 5  # one image is left of class 5
    assert all(5 not in task.classes for task in draw_tasks(dataset, 10, seed=0))
    with pytest.raises(InputError, match="0 classes with 3 training images"):
        draw_tasks(noise(6, 2), 1, seed=0)


def test_more_tasks_leave_the_first_ones_alone_and_the_content_decides():
    dataset = noise(12, 30)
    keys = [task.key for task in draw_tasks(dataset, 6, seed=0)]
    assert [task.key for task in draw_tasks(dataset, 3, seed=0)] == keys[:3]
    assert not set(keys) & {task.key for task in draw_tasks(dataset, 6, seed=1)}
    assert not set(keys) & {task.key for task in draw_tasks(noise(12, 30, seed=1), 6, seed=0)}


def test_loading_gives_the_images_and_refuses_changed_data():
    dataset = noise(7, 40, side=24)
    task = next(
        one
        for one in draw_tasks(dataset, 20, seed=0)
        if len(one.classes) < 7 and one.resolution == 24
    )
    data = task.load(dataset).data
    assert data.classes == len(task.classes)
    assert data.train_x.shape == (len(task.train), 3, 24, 24)
    assert (data.train_x[0].permute(1, 2, 0).numpy() == dataset.image(task.train[0])).all()
    assert task.classes[int(data.test_y[0])] == dataset.labels[task.test[0]]
    with pytest.raises(InputError, match="Restore its files"):
        task.load(noise(7, 40, side=24, seed=1))


SCRIPT = """
import json
from tests.test_database_tasks import SPACE, choose, draw_tasks, noise
tasks = draw_tasks(noise(12, 30), 3, seed=5)
cells = [choose(SPACE, 9, 5, task.key) for task in tasks]
print(json.dumps([[task.key for task in tasks], cells]))
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_tasks_and_cells_are_the_same_in_another_process(hash_seed):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
    )
    tasks = draw_tasks(noise(12, 30), 3, seed=5)
    here = [[task.key for task in tasks], [choose(SPACE, 9, 5, task.key) for task in tasks]]
    assert json.loads(done.stdout) == json.loads(json.dumps(here))


def test_chosen_cells_are_distinct_connected_nested_and_of_all_sizes():
    chosen = choose(SPACE, 64, 0, "key")
    assert len(set(chosen)) == 64
    assert all(SPACE.canonical(cell) == cell and SPACE.is_connected(cell) for cell in chosen)
    assert choose(SPACE, 6, 0, "key") == chosen[:6]
    assert set(chosen) != set(choose(SPACE, 64, 0, "other key"))
    every = choose(SPACE, 10**6, 0, "key")
    assert len(every) == len(set(every)) > 6000  # never more than there are
    quarters = np.quantile(SPACE.costs(np.array(every), 10)[:, 0], [0.25, 0.5, 0.75])
    for key in map(str, range(20)):
        params = SPACE.costs(np.array(choose(SPACE, 6, 0, key)), 10)[:, 0]
        assert params.min() <= quarters[0]
        assert params.max() >= quarters[2]


def test_families():
    assert family_of("mnist") == family_of("omniglot_background") == "digits and letters"
    assert family_of("somebody_s_tools") == "somebody_s_tools"
