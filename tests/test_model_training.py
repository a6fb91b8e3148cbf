"""Meta-training from records to a model, on a small world whose latent truth is drawn here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from metad2a.errors import InputError
from metad2a.model import (
    baselines,
    dataset_training,
    figures,
    generator_training,
    meta_training,
    prior_training,
)
from metad2a.model.backbone import FEATURES
from metad2a.model.card import model_card
from metad2a.model.description import STATISTICS, Description
from metad2a.model.figures import Figures, percent, summarise
from metad2a.model.meta_training import (
    ACCURACY,
    Judgement,
    MetaData,
    MetaTask,
    assemble,
    calibrate,
    judge,
    train_prior,
    train_sides,
)
from metad2a.model.metad2a import MetaD2A
from metad2a.model.model_training import train
from metad2a.model.predictor import Predictor, prior_inputs
from metad2a.model.prior_training import ranks
from metad2a.model.records import Record
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")
FAMILIES = ("birds", "coins", "leaves", "signs")
WHOLE_TASKS = {0: slice(0, 600), 2: slice(60, 660)}
"""Tasks (of the first two families) that scored these cells."""
TASKS = 8
RUNS = 7


@dataclass
class World:
    """Eight tasks, two a family, and all that was measured on them."""

    tasks: list[MetaTask] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def record(self, task: int, cell: tuple[int, ...], protocol: str, value: float) -> None:
        one = self.tasks[task]
        kind = "accuracy" if protocol == ACCURACY else "score"
        self.records.append(
            Record(
                one.dataset,
                one.family,
                one.key,
                SPACE.name,
                SPACE.format(cell),
                protocol,
                kind,
                0,
                float(value),
            )
        )


def quality(cell: tuple[int, ...]) -> float:
    """The latent truth: convolutions are good, nothing is bad."""
    return float(np.array([-1.0, 0.2, 0.8, 1.5, -0.3])[list(cell)].sum()) / 2


@pytest.fixture(scope="module")
def world() -> World:
    rng, random = np.random.default_rng(0), torch.Generator().manual_seed(0)
    world = World()
    distinct = list(dict.fromkeys(map(SPACE.canonical, SPACE.enumerate())))
    cells = [distinct[i] for i in rng.permutation(len(distinct))]
    cells = [cell for cell in cells if SPACE.is_connected(cell)]
    for number in range(TASKS):
        labels = torch.arange(12) % (2 + number % 3)
        redraws = tuple(
            Description(
                torch.randn(12, FEATURES, generator=random) + number,
                labels,
                torch.randn(len(STATISTICS), generator=random) + number,
            )
            for _ in range(2)
        )
        family = FAMILIES[number // 2]
        world.tasks.append(
            MetaTask(
                f"key{number}", f"{family}-{number}", f"{family}{number % 2}", family, 200, redraws
            )
        )
        scored = cells[WHOLE_TASKS.get(number, slice(700 + 20 * number, 720 + 20 * number))]
        for protocol, noise in (("first-v1", 0.3), ("second-v1", 0.6)):
            for cell in scored:
                world.record(number, cell, protocol, quality(cell) + rng.normal(0, noise))
        for cell in cells[1000 + RUNS * number :][:RUNS]:
            hidden = number / 4 - 1 + quality(cell) + rng.normal(0, 0.2)
            world.record(number, cell, ACCURACY, 1 / (1 + np.exp(-hidden)))
    return world


@pytest.fixture(scope="module")
def data(world: World) -> MetaData:
    return assemble(SPACE, world.records, world.tasks)


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """A few steps of everything are enough to see that it is wired up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior_training, "EPOCHS", 1)
        patch.setattr(dataset_training, "STEPS", 6)
        patch.setattr(generator_training, "STEPS", 4)
        yield


@dataclass
class Run:
    """One meta-training from end to end, and who saw what in it."""

    predictor: Predictor
    judgement: Judgement
    figures: Figures
    model: MetaD2A
    prior_cells: list[set[tuple[int, ...]]]
    """The cells that each prior was trained on."""
    seen: list[set[str]]
    """The families that each training of dataset sides saw."""
    used: list[set[str]]
    """The families that the priors of each such training saw."""
    judged: list[set[str]]
    """The families predicted next."""
    compared: list[tuple[set[str], set[str]]]
    """The families that the baselines were fitted to, and those that they were judged by."""
    progress: list[tuple[int, int]]


@pytest.fixture(scope="module")
def run(world: World, data: MetaData) -> Run:
    family = {id(one): task.family for task in world.tasks for one in task.redraws}
    prior_cells, seen, used, judged, compared = [], [], [], [], []
    trained_on: dict[int, set[str]] = {}
    progress: list[tuple[int, int]] = []
    whole_cells = {world.tasks[t].family: set(data.wholes[f"key{t}"]) for t in WHOLE_TASKS}

    def spy(name: str, look: Callable[..., None]) -> None:
        original = getattr(meta_training, name)

        def wrapped(*args: object, **options: object) -> object:
            look(*args)
            return original(*args, **options)

        patch.setattr(meta_training, name, wrapped)

    def prior(predictor: Predictor, space: object, labels: object, *rest: object) -> None:
        cells = set(map(tuple, labels.architectures.tolist()))
        prior_cells.append(cells)
        # A family's own cells give it away: a third of each are in no other family.
        own = {
            name: cells
            & (
                mine
                - set().union(*(other for another, other in whole_cells.items() if another != name))
            )
            for name, mine in whole_cells.items()
        }
        trained_on[id(predictor)] = {name for name, found in own.items() if found}

    def sides(predictor: Predictor, redraws: list, *rest: object) -> None:
        seen.append({family[id(one)] for draw in redraws for one in draw})
        used.append(trained_on[id(predictor)])

    def predicted(predictor: Predictor, descriptions: list, *rest: object) -> None:
        judged.append({family[id(one)] for one in descriptions})

    fit = baselines.fit

    def compare(data: MetaData, kept: list[int], held: list[int], seed: int) -> object:
        assert len(kept) + len(held) == TASKS
        compared.append(tuple({data.tasks[t].family for t in side} for side in (kept, held)))
        return fit(data, kept, held, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "fit", compare)
        spy("fit_prior", prior)
        spy("fit_sides", sides)
        spy("predict_rows", predicted)
        predictor = train_prior(data, 0, 2)
        judgement = judge(data, predictor, 0, lambda *done: progress.append(done))
        reached = summarise(data, judgement)
        model = train(data, predictor, judgement, 0)
    return Run(
        predictor, judgement, reached, model, prior_cells, seen, used, judged, compared, progress
    )


# -- assembling ------------------------------------------------------------------------------


def test_assembling_numbers_everything(world, data):
    assert data.protocols == ("first-v1", "second-v1")
    assert set(data.wholes) == {"key0", "key2"}
    assert {len(cells) for cells in data.wholes.values()} == {600}
    assert torch.bincount(data.trainings.task).tolist() == [RUNS] * TASKS
    assert torch.bincount(data.scores.task, minlength=TASKS).tolist() == [
        0,
        20,
        0,
        20,
        20,
        20,
        20,
        20,
    ]
    trained = [r for r in world.records if r.protocol == ACCURACY]
    for row, record in enumerate(trained):
        cell = data.cells[int(data.trainings.cell[row])]
        assert cell == SPACE.canonical(SPACE.parse(record.architecture))
        assert data.tasks[int(data.trainings.task[row])].key == record.task
        share = percent(data.trainings.value[row].numpy()) / 100
        assert float(share) == pytest.approx((200 * record.value + 0.5) / 201, abs=1e-5)


def test_tasks_nobody_described_teach_nothing(world, data):
    """Their family is unknown, so they could not be left out."""
    fewer = assemble(SPACE, world.records, world.tasks[2:])
    assert set(fewer.wholes) == {"key2"}
    assert len(fewer.trainings.value) == RUNS * 6


def without(world: World, protocol: str) -> list[Record]:
    return [r for r in world.records if r.protocol != protocol]


def test_what_is_missing_is_said(world):
    with pytest.raises(InputError, match=r"standalone-v1.* 0 families.*--plan standalone=6"):
        assemble(SPACE, without(world, ACCURACY), world.tasks)
    few = [r for r in world.records if r.protocol != ACCURACY or r.family == "coins"]
    with pytest.raises(InputError, match="1 families"):
        assemble(SPACE, few, world.tasks)
    thin = [r for r in world.records if r.kind == "accuracy" or r.task not in ("key0", "key2")]
    with pytest.raises(InputError, match="most found is 20"):
        assemble(SPACE, thin, world.tasks)
    with pytest.raises(InputError, match="most found is 0"):
        assemble(SPACE, [], world.tasks)


def test_a_family_that_alone_was_wholly_scored_cannot_be_judged(world):
    one = [r for r in world.records if r.kind == "accuracy" or r.task != "key2"]
    alone = assemble(SPACE, one, world.tasks)
    with pytest.raises(InputError, match="family 'birds', so it cannot be judged apart"):
        judge(alone, train_prior(alone, 0, 1), 0)


def test_scores_of_several_seeds_and_isomorphic_cells_are_averaged(world):
    one = next(r for r in world.records if r.protocol == "first-v1")
    cell = SPACE.canonical(SPACE.parse(one.architecture))
    twice = [dataclasses.replace(one, seed=seed, value=value) for seed, value in ((0, 1), (1, 4))]
    other = dataclasses.replace(one, space="elsewhere", architecture="?")
    found = prior_training.by_task(SPACE, [*twice, other], ("first-v1",))
    assert found == {one.task: {cell: {"first-v1": 2.5}}}


# -- from end to end -------------------------------------------------------------------------


def test_nothing_of_a_judged_family_is_seen(run, data):
    assert len(run.seen) == 5
    for number, name in enumerate(FAMILIES):
        assert run.seen[number] == set(FAMILIES) - {name}
        # Predicted with its own descriptions and with exchanged ones.
        assert run.judged[2 * number] == {name}
        assert name not in run.used[number]
    assert len(run.judged) == 8
    # Two families had a part in the prior; the priors that judged them were trained anew.
    assert len(run.prior_cells) == 3
    assert run.used == [
        {"coins"},
        {"birds"},
        {"birds", "coins"},
        {"birds", "coins"},
        {"birds", "coins"},
    ]
    assert run.seen[4] == set(FAMILIES)
    assert run.progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_baselines_and_calibration_leave_the_judged_family_out_too(data, run, monkeypatch):
    assert [held for _, held in run.compared] == [{name} for name in FAMILIES]
    assert not any(kept & held for kept, held in run.compared)
    widths = []
    monkeypatch.setattr(
        figures,
        "calibrate",
        lambda residual, between: widths.append(len(residual)) or calibrate(residual, between),
    )
    summarise(data, run.judgement)
    assert widths == [RUNS * 6] * 4


def test_figures_are_in_range_and_complete(run):
    found = run.figures
    assert (found.trainings, found.tasks, found.families) == (RUNS * TASKS, TASKS, 4)
    assert set(found.by_family) == set(FAMILIES)
    assert found.coverage == pytest.approx(np.mean(list(found.by_family.values())))
    assert 0 < found.width < 100
    names = [row.name for row in found.rows]
    assert names == [
        "model",
        "features shuffled",
        "prior alone",
        "random",
        "parameters",
        "best on average",
        "nearest dataset",
        "additive",
    ]
    for row in found.rows:
        assert 0 <= row.concordance <= 1
        assert 0 <= row.regret <= 100
        assert (row.error is None) == (row.name in ("prior alone", "random", "parameters"))
    by_name = {row.name: row for row in found.rows}
    # What is best on average is the latent truth here, but for noise.
    assert by_name["best on average"].concordance > 0.8 > by_name["random"].concordance
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_model_that_comes_out_works(run, data, tmp_path):
    model = run.model
    assert (model.space, model.protocol) == (SPACE, ACCURACY)
    noise, factor = calibrate(
        data.trainings.value.numpy() - run.judgement.mean, run.judgement.between
    )
    assert float(model.predictor.noise) == pytest.approx(noise)
    assert float(model.predictor.width_factor) == pytest.approx(factor)
    model.card = model_card(SPACE.name, ACCURACY, [], data.tasks, run.figures)
    model.save_pretrained(tmp_path)
    again = MetaD2A.from_pretrained(tmp_path)
    description = data.tasks[3].redraws[0]
    cells = again.generate_described(description, 30, 0, 4)
    assert len(cells) == 30
    first, second = (one.predict_described(description, cells) for one in (model, again))
    assert np.allclose(first.mean, second.mean, atol=1e-4)
    assert np.isfinite(first.std).all()
    assert again.card == model.card


def test_the_card_holds_the_figures(run, world, data):
    card = model_card(SPACE.name, ACCURACY, world.records, data.tasks, run.figures)
    assert run.figures.table() in card
    assert f"{run.figures.coverage:.1%}" in card
    assert f"{len(world.records):,} measurements on {TASKS} tasks" in card
    assert f"| first-v1 | {600 * 2 + 20 * 6:,} |" in card
    for family in FAMILIES:
        share = run.figures.by_family[family]
        assert f"| {family} | {family}0, {family}1 | {share:.0%} |" in card
    assert card.startswith("---\nlicense: apache-2.0")


def test_the_same_seed_gives_the_same_weights(data):
    def trained(seed: int) -> dict[str, torch.Tensor]:
        predictor = train_prior(data, seed, 2)
        train_sides(predictor, data, range(TASKS), seed)
        return predictor.state_dict()

    first = trained(0)
    torch.rand(5)
    again, other = trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    for part in ("priors.0.quality.weight", "sides.1.level.weight"):
        assert not torch.equal(first[part], other[part])
    assert all(tensor.isfinite().all() for tensor in first.values())
    assert not torch.equal(first["priors.0.quality.weight"], first["priors.1.quality.weight"])


def test_a_prior_learns_what_the_scores_say(data, monkeypatch):
    monkeypatch.setattr(prior_training, "EPOCHS", 12)
    predictor = train_prior(data, 0, 1)
    unseen = [
        cell for cell in data.cells if not any(cell in found for found in data.wholes.values())
    ]
    graphs, costs = prior_inputs(SPACE, SPACE.as_array(unseen))
    _, found = predictor.prior(graphs, costs)[0]
    truth = [quality(cell) for cell in unseen]
    assert np.corrcoef(ranks(found.numpy()), ranks(np.array(truth)))[0, 1] > 0.6


def test_sides_learn_the_level_of_a_task(data, monkeypatch):
    monkeypatch.setattr(dataset_training, "STEPS", 60)
    predictor = train_prior(data, 0, 1)
    train_sides(predictor, data, range(TASKS), 0)
    descriptions = [task.redraws[0] for task in data.tasks]
    mean, _ = dataset_training.predict_rows(
        predictor, descriptions, meta_training.cell_priors(predictor, data), data.trainings
    )
    error = (mean - data.trainings.value).abs().mean()
    assert error < 0.8 * (data.trainings.value - data.trainings.value.mean()).abs().mean()


def test_a_task_without_a_training_is_no_trouble(world, monkeypatch):
    """Nor are tasks so many that a step sees few of them."""
    monkeypatch.setattr(dataset_training, "TASKS", 2)
    some = [r for r in world.records if r.kind == "score" or r.task in ("key0", "key1", "key5")]
    data = assemble(SPACE, some, world.tasks)
    predictor = train_prior(data, 0, 1)
    train_sides(predictor, data, range(TASKS), 0)
    assert all(tensor.isfinite().all() for tensor in predictor.state_dict().values())
    judgement = judge(data, predictor, 0)
    assert np.isfinite(judgement.mean).all()
