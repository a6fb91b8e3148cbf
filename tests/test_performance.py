"""The predictor of what fine-tuned networks reach: exact, calibrated, honest about chance."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from metad2a.errors import ArtifactError, InputError
from metad2a.meta_training.judge import judge, judge_given, predictions, table
from metad2a.model.gaussian_process import GaussianProcess, Points
from metad2a.model.landmarks import RESOLUTIONS, STAGES, Landmarks
from metad2a.model.performance import FEATURES, GIVEN, LeftOut, Performance, Row, describe
from metad2a.protocol import FineTune
from metad2a.spaces import SPACES

SPACE = SPACES.get("efficientnet_lite")
ARCHITECTURES = [
    "r32-s3-d11-e66-k5",
    "r64-s5-d2233-e6666666666-k55555",
    "r96-s6-d22334-e66666666666666-k555555555",
    "r128-s7-d22334-e666666666666666-k555555555",
]


def points(n: int, seed: int = 0, groups: int = 6) -> Points:
    made = torch.Generator().manual_seed(seed)
    task = torch.arange(n) % groups
    return Points(
        torch.randn(n, 3, generator=made, dtype=torch.float64),
        torch.stack([task // 2, task], 1),
        task % 2,
        torch.full((n,), 0.01, dtype=torch.float64),
        torch.full((n,), 0.1, dtype=torch.float64),
    )


def truth(where: Points, seed: int = 9) -> torch.Tensor:
    level = torch.tensor([0.5, -1.0, 0.2, 0.9, -0.4, 0.1], dtype=torch.float64)
    taste = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.3, -0.6], dtype=torch.float64)
    task = where.groups[:, 1]
    noise = torch.randn(len(where), generator=torch.Generator().manual_seed(seed))
    return torch.sin(where.x[:, 0]) + level[task] + taste[task] * where.x[:, 2] + 0.15 * noise


@pytest.fixture(scope="module")
def process() -> GaussianProcess:
    where = points(60)
    return GaussianProcess(3, [2], 2, 2).fit(where, truth(where), steps=15)


def refitted(process: GaussianProcess, where: Points, values: torch.Tensor) -> GaussianProcess:
    again = GaussianProcess(3, [2], 2, 2)
    again.parameters = process.parameters
    return again.fit(where, values, steps=0)


def test_what_tasks_share_and_what_is_their_own_is_learnt(process):
    aside = points(60, seed=1)
    mean, variance = process.predict(aside)
    off = mean - truth(aside, seed=8)
    assert float((off**2).mean()) < 0.15 * float(truth(aside).var())
    assert 0.4 < float((off**2 / variance).mean()) < 2


def test_results_given_later_are_as_good_as_earlier_ones(process):
    where, aside = points(60), points(20, seed=2)
    more = points(7, seed=3)
    one = process.given(more, truth(more)).predict(aside)
    other = refitted(process, where.joined(more), torch.cat([truth(where), truth(more)])).predict(
        aside
    )
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_results_of_a_new_task_move_it_and_narrow(process):
    new = dataclasses.replace(points(12, seed=4), groups=torch.full((12, 2), -1))
    values = truth(points(12, seed=4)) * 0 + 3
    before, wide = process.predict(new)
    after, narrow = process.given(new[torch.arange(4)], values[:4]).predict(new)
    assert float((after[4:] - 3).abs().mean()) < 0.6 * float((before[4:] - 3).abs().mean())
    assert bool((narrow < wide).all())


def test_left_out_equals_a_process_without_them(process):
    where = points(60)
    rows = (where.groups[:, 0] == 1).nonzero()[:, 0]
    kept = (where.groups[:, 0] != 1).nonzero()[:, 0]
    one = process.left_out(rows)
    other = refitted(process, where[kept], truth(where)[kept]).predict(where[rows])
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_process_comes_back_from_its_tensors(process):
    again = GaussianProcess.of(process.tensors())
    aside = points(10, seed=5)
    for a, b in zip(process.predict(aside), again.predict(aside), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


# -- datasets that are made up -------------------------------------------------------------------


def marks(hard: float, deep: float, classes: int = 5, largest: float = 0.2) -> Landmarks:
    """Landmarks that fall with ``hard`` and rise with resolution and stage by ``deep``, logits."""
    steps = np.add.outer(np.arange(len(RESOLUTIONS)) / 3, np.arange(len(STAGES)) / 6) - 1
    return Landmarks(
        accuracy=1 / (1 + np.exp(hard - deep * steps)),
        count=200,
        classes=classes,
        sampled=classes,
        guess=1 / classes,
        images=500,
        largest=largest,
        balance=1.0,
        side=128,
        gray=False,
        flip_loss=0.0,
        chirality=0.5,
        growth=0.3,
        between=0.2,
        alike=-0.4,
        shift=0.0,
        apart=0.0,
    )


def rows(families: int = 6, seed: int = 0) -> list[Row]:
    """Trainings that end a little above the landmark nearest to the network, by dataset."""
    rng = np.random.default_rng(seed)
    found = []
    for family in range(families):
        for number in range(2):
            landmarks = marks(rng.normal(), rng.normal(1, 0.5))
            task, level = f"{family}-{number}", 0.2 * rng.normal()
            for name in ARCHITECTURES:
                for rate in (0.0, 2e-3):
                    recipe = FineTune(rate=rate, epochs=8 if rate else 0)
                    (x,) = describe(landmarks, SPACE, [SPACE.parse(name)], [recipe], 5, 400)
                    logit = x[FEATURES.index("near")] - math.log(4) + 0.5 * (rate > 0)
                    logit += level + 0.1 * rng.normal()
                    found.append(
                        Row(
                            dataset=task,
                            family=str(family),
                            task=task,
                            landmarks=landmarks,
                            space=SPACE.name,
                            architecture=name,
                            recipe=recipe,
                            classes=5,
                            images=400,
                            judged=300,
                            value=float(1 / (1 + np.exp(-logit))),
                        )
                    )
    return found


@pytest.fixture(scope="module")
def model() -> Performance:
    return Performance.fit(rows(), steps=12)


def ask(model: Performance, landmarks: Landmarks, rate: float = 2e-3):
    architectures = [SPACE.parse(name) for name in ARCHITECTURES]
    recipes = [FineTune(rate=rate)] * len(architectures)
    return model.predict(landmarks, SPACE, architectures, recipes, 5, 400)


def test_new_datasets_are_predicted_within_the_interval(model):
    inside, off, near = [], [], []
    for row in rows(seed=1):
        said = model.predict(
            row.landmarks,
            SPACE,
            [SPACE.parse(row.architecture)],
            [row.recipe],
            row.classes,
            row.images,
        )
        inside.append(said.low[0] <= 100 * row.value <= said.high[0])
        off.append(abs(said.mean[0] - 100 * row.value))
        near.append(said.high[0] - said.low[0])
    assert np.mean(inside) > 0.75
    assert np.mean(off) < 4
    assert np.median(near) < 25


def test_easy_datasets_are_expected_to_go_better(model):
    easy, hard = ask(model, marks(-2, 1)), ask(model, marks(1, 1))
    assert (easy.mean > hard.mean + 10).all()
    assert (easy.low < easy.mean).all()
    assert (easy.mean < easy.high).all()
    assert easy.high.max() <= 100


def test_labels_that_say_nothing_are_expected_at_chance(model):
    nothing = dataclasses.replace(
        marks(0, 0, largest=0.35), accuracy=np.full((len(RESOLUTIONS), len(STAGES)), 0.2)
    )
    assert nothing.chance
    said = ask(model, nothing)
    assert said.mean == pytest.approx(np.full(4, 35.0))
    assert (said.high < 50).all()
    assert "cannot be told" in said.note
    assert ask(model, marks(0, 1)).note == ""


def test_results_of_the_dataset_move_and_narrow(model):
    landmarks = marks(0, 1)
    before = ask(model, landmarks)
    architectures = [SPACE.parse(name) for name in ARCHITECTURES[:2]]
    after = ask(
        model.given(
            landmarks,
            SPACE,
            architectures,
            [FineTune(rate=2e-3)] * 2,
            5,
            400,
            (before.mean[:2] - 15).tolist(),
            300,
        ),
        landmarks,
    )
    assert (after.mean < before.mean - 3).all()
    assert (after.high - after.low < before.high - before.low)[:2].all()


def test_nothing_given_and_nothing_asked(model):
    assert model.given(marks(0, 1), SPACE, [], [], 5, 400, [], 300) is model
    assert not len(model.predict(marks(0, 1), SPACE, [], [], 5, 400).mean)


def test_a_model_comes_back_from_its_file(model, tmp_path):
    model.save(tmp_path / "a" / "model.safetensors", {"rows": 96})
    again = Performance.load(tmp_path / "a" / "model.safetensors")
    one, other = ask(model, marks(0.3, 1)), ask(again, marks(0.3, 1))
    assert one.mean == pytest.approx(other.mean, abs=1e-2)
    assert one.high == pytest.approx(other.high, abs=1e-2)


def test_files_that_are_none_are_refused(model, tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read"):
        Performance.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors here at all")
    with pytest.raises(ArtifactError, match="damaged"):
        Performance.load(tmp_path / "bad.safetensors")


def test_one_family_is_not_enough():
    with pytest.raises(InputError, match="2 are needed"):
        Performance.fit(rows(1))


def test_the_judge_tells_what_the_landmarks_are_worth():
    said = predictions(LeftOut.of(rows(), steps=12), {"mean": _mean})
    judged = {one.name: one for one in judge(rows(), said)}
    assert judged["model"].error < judged["counts and network"].error
    assert judged["model"].error < 0.7 * judged["another dataset described"].error
    assert judged["model"].error < judged["mean"].error
    assert 0.7 < judged["model"].coverage <= 1
    assert judged["model"].width < 40
    assert math.isnan(judged["mean"].width)
    assert 0.5 < judged["model"].concordance <= 1
    lines = table(list(judged.values())).splitlines()
    assert len(lines) == 2 + len(judged)
    assert all(line.count("|") == 8 for line in lines)


def _mean(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    return np.full(len(asked), y.mean())


def test_results_of_a_task_of_another_family_narrow_what_is_said_of_it():
    told = judge_given(rows(5), LeftOut.of(rows(5), steps=9), draws=1)
    assert tuple(one.count for one in told) == GIVEN
    before, *_, after = told
    assert after.width < before.width
    assert after.error < before.error + 1
    assert before.moved == before.error, "nothing is known by which it could be moved"
    for one in told:
        assert 0.6 <= one.coverage <= 1 and 0.5 < one.concordance <= 1
    few = [row for row in rows(5) if row.recipe.rate]  # four of each task
    with pytest.raises(InputError, match="more than 5 trainings"):
        judge_given(few, LeftOut.of(few, steps=1))
