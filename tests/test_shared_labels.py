"""Shared weights and searches of pretrained spaces as labels: measured, kept apart, and built by plans."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from building import Here, make_data, make_plan, rows, spread
from sklearn.datasets import load_digits
from test_database_tasks import noise

from database import draw_tasks, export, family_of, read_plan
from database.build import build
from database.exchange.rows import stored_rows
from database.jobs.choice import choose
from database.jobs.outstanding import Outstanding
from database.store import Store
from database.tasks import kind_of
from database.workers import local
from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.meta_training import rows as learnt
from metad2a.model.landmarks import of_dataset
from metad2a.protocol import SUPERNET, Protocol
from metad2a.spaces import SPACES
from search.data import TaskImages
from search.engine.method import METHODS, PRETRAINED
from search.labellers import slices
from search.labellers.base import LABELLERS
from search.labellers.search import SearchLabeller
from search.methods import sandwich

SPACE = SPACES.get("efficientnet_lite")
NASBENCH = SPACES.get("nasbench201")
SMALL = SPACE.whole(3, 32)
CUT = SPACE.parse("r32-s3-d11-e23-k3")
LARGER = SPACE.whole(3, 48)
QUICK = {"sandwich.population": 3, "sandwich.generations": 1}
RECIPE = "finetune-v1:r0.0005:e1"


@pytest.fixture
def short(monkeypatch):
    """Let shared weights learn from few images; the protocol stays what it is."""
    shorter = replace(SUPERNET, recipe=replace(SUPERNET.recipe, images=64))
    monkeypatch.setattr(slices, "SUPERNET", shorter)


def digits(spoilt: bool = False) -> TaskImages:
    """Return ten digits, 150 images to train on and 100 to be judged by, which may be black."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.repeat((pixels * 15.9).astype(np.uint8).reshape(-1, 8, 8, 1), 3, axis=3)
    if spoilt:
        images[150:] = 0
    dataset = load_dataset(images[:250], labels[:250])
    return TaskImages(dataset, np.arange(150), np.arange(150, 250), np.arange(10))


# -- shared weights ----------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_every_slice_has_one_accuracy_and_each_resolution_one_training(monkeypatch):
    from search import searching

    labeller, images, trained = LABELLERS.get("slices"), digits(), []
    conduct = searching.Search.conduct

    def watched(self):
        trained.append(self.dataset.train_x.shape[-1])
        return conduct(self)

    monkeypatch.setattr(searching.Search, "conduct", watched)
    found = list(labeller.measure(images, SPACE, [SMALL, CUT, LARGER], 1))
    assert [(one.protocol, one.architecture, one.seed) for one in found] == [
        ("supernet-v1", architecture, 1) for architecture in (SMALL, CUT, LARGER)
    ]
    assert trained == [32, 48]
    assert all(0.3 < one.value <= 1 and one.seconds > 0 for one in found)  # chance is a tenth
    (again,) = labeller.measure(digits(), SPACE, [CUT], 1)
    assert again.value == found[1].value  # whatever is measured beside it
    assert list(labeller.measure(images, SPACE, [], 1)) == []


def test_cells_have_no_pretrained_network_to_be_slices_of():
    with pytest.raises(InputError, match="'nasbench201' have no pretrained weights"):
        list(LABELLERS.get("slices").measure(digits(), NASBENCH, [(0,) * 6], 0))


def test_shared_weights_learn_as_the_protocol_says():
    recipe = SUPERNET.recipe
    assert recipe.training == PRETRAINED
    assert recipe.between == sandwich._RANDOM
    training = METHODS.get("sandwich").training.of_pretrained()
    assert (training.lr, training.batch) == (recipe.training.rate, recipe.training.batch)
    for said in (f"{recipe.images:,} images", "two at random", "rate 0.002", "batches of 16"):
        assert said in SUPERNET.description
    assert replace(SUPERNET, recipe=replace(recipe, images=1)).digest != SUPERNET.digest


# -- searches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "images", "options"),
    [("sandwich", 64, QUICK), ("dropnas+curriculum", 16, {"curriculum.subnets": 1})],
)
def test_a_search_names_networks_of_its_resolution_and_never_sees_the_test_side(
    method, images, options
):
    labeller = SearchLabeller(method, images, 2, options=options, resolution=32)
    labeller.check(SPACE)
    found = list(labeller.measure(digits(), SPACE, [], 0))
    names = [f"{labeller.name}-score", labeller.name]
    assert [one.protocol for one in found] == names * 2
    assert {SPACE.resolution(one.architecture) for one in found} == {32}
    assert all(0 <= one.value <= 1 for one in found if one.protocol == labeller.name)
    blind = list(labeller.measure(digits(spoilt=True), SPACE, [], 0))
    assert [(one.architecture, one.value) for one in blind] == [
        (one.architecture, one.value) for one in found
    ]


def test_searches_of_cells_keep_their_names():
    assert SearchLabeller("dropnas", 300, 3, 4, 1).name == "dropnas@311f8217"
    named = {SearchLabeller("sandwich", 300, 3, resolution=side).name for side in (32, 48)}
    assert len(named) == 2


@pytest.mark.parametrize(
    ("method", "space", "match"),
    [
        ({"name": "dropnas+pwsnas", "resolution": 32}, SPACE, "'pwsnas' does not work.*angles"),
        ({"name": "sandwich"}, NASBENCH, "'sandwich' does not work in the space 'nasbench201'"),
        ({"name": "sandwich"}, SPACE, "'sandwich' in the space 'efficientnet_lite' lacks resol"),
        ({"name": "sandwich", "resolution": 33}, SPACE, "resolution=33 is no resolution"),
        ({"name": "dropnas", "resolution": 32}, NASBENCH, "resolution=32 is a decision of"),
        (spread("probe") | {"resolution": 33}, SPACE, "resolution=33 is no resolution"),
        (spread("probe") | {"resolution": 32}, NASBENCH, "'nasbench201' take images as they"),
        (spread("finetune-v1:x3"), SPACE, "is no protocol of fine-tuning"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_work(tmp_path, method, space, match):
    method = {"architectures": 2} | method
    if method["name"] != "spread":
        method["images"] = 100
    plan = make_plan(method, space=space.name)
    with Store(tmp_path / "store.sqlite") as store, pytest.raises(InputError, match=match):
        Outstanding(plan, store, space)


# -- plans -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "jobs"), [("shared", 1 + 8 + 8 + 2), ("shared_cells", 6 + 1)])
def test_the_plans_of_shared_weights_are_good(tmp_path, name, jobs):
    plan = read_plan(f"plans/{name}.toml")
    space = SPACES.get(plan.space)
    assert len(plan.tasks.only) == plan.tasks.count == 12
    assert len(set(map(family_of, plan.tasks.only))) >= 11
    (task,) = draw_tasks(noise(5, 40, side=8), 1, 0, kind=kind_of(space))
    with Store(tmp_path / "store.sqlite") as store:
        found = list(Outstanding(plan, store, space).jobs(task))
    assert len(found) == jobs
    assert [len(job.architectures) for job in found if job.labeller == "slices"] in ([], [8])


def test_networks_of_one_resolution_are_spread_over_their_parameters():
    found = choose(SPACE, 8, 0, "key", 64)
    assert found[:3] == choose(SPACE, 3, 0, "key", 64)
    assert len(set(found)) == 8
    assert {SPACE.resolution(one) for one in found} == {64}
    params = [SPACE.cost(one, 10).params for one in found]
    assert max(params) > 4 * min(params)


def test_a_resolution_makes_another_build_and_none_keeps_the_key():
    plain = make_plan(spread("probe"))
    assert plain.key == "245f7dd8e9e43e1ff05b8c23e08af9c9c8a908f74a8e455ad268bdbf6824c642"
    assert "resolution" not in plain.rows()["methods"][0]
    assert make_plan(spread("probe") | {"resolution": 64}).key != plain.key
    with pytest.raises(InputError, match="resolution is for searches and 'spread'"):
        make_plan({"name": "parent", "architectures": 1, "protocols": ["probe"], "resolution": 64})


@pytest.mark.usefixtures("short")
def test_a_build_of_shared_weights_and_searches_goes_on_and_is_exported(tmp_path, monkeypatch):
    make_data(tmp_path / "data", classes=(("first", 3),), images=30)
    monkeypatch.setattr(local, "LocalWorkers", Here)
    search = {
        "name": "sandwich",
        "architectures": 2,
        "images": 64,
        "options": QUICK,
        "resolution": 32,
        "protocols": [RECIPE],
    }
    plan = make_plan(
        spread("slices", "probe", RECIPE, architectures=3) | {"resolution": 32},
        search,
        space=SPACE.name,
        tasks=1,
    )
    path = tmp_path / "store.sqlite"
    summary = build(plan, path, tmp_path / "data")
    # Shared weights, probes and trainings; a search, and trainings of what it found.
    assert (summary.jobs, summary.failures) == (1 + 3 + 3 + 1 + 2, [])
    counts = Counter(row["protocol"] for row in rows(path))
    name = SearchLabeller("sandwich", 64, 2, options=QUICK, resolution=32).name
    assert counts == {
        "supernet-v1": 3,
        "probe-v1": 3,
        RECIPE: 5,
        name: 2,
        f"{name}-score": 2,
    }
    assert build(plan, path, tmp_path / "data").jobs == 0

    with Store(path, create=False) as store:
        assert export(store, tmp_path / "rows.parquet") == 15
        assert export(store, tmp_path / "tasks.parquet", "tasks") == 1
        (task,) = stored_rows(store, "tasks")
    dataset = load_dataset(tmp_path / "data" / "first")
    marks = of_dataset(dataset, np.array(task["train"]), 0)
    taught = learnt.read(
        tmp_path / "rows.parquet", tmp_path / "tasks.parquet", {task["task"]: marks}
    )
    # Trainings, the frozen networks with which they began, and probes.
    assert Counter(row.recipe.rate for row in taught) == {5e-4: 5, 0.0: 5 + 3}


def test_nothing_but_trainings_and_probes_has_a_recipe():
    searched = SearchLabeller("sandwich", 100, 2, resolution=64).protocols
    for protocol in (SUPERNET, *searched, *LABELLERS.get("supernet").protocols):
        assert isinstance(protocol, Protocol)
        assert learnt.recipe_of(protocol.name) is None
