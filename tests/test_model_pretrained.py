"""The model in the package, and model folders: what loads, what is refused, what is predicted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import metad2a.model.metad2a
from metad2a.errors import ArtifactError, BudgetError, InputError
from metad2a.model.artifact import FILES, load_artifact, save_artifact
from metad2a.model.description import describe
from metad2a.model.golden import differences, synthetic
from metad2a.model.hub import resolve
from metad2a.model.metad2a import MetaD2A, packaged
from metad2a.model.predictor import PredictorConfig
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")
CONV = SPACE.format((3,) * 6)


@pytest.fixture(scope="module")
def model() -> MetaD2A:
    return packaged()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged model that a test may change."""
    return Path(shutil.copytree(resolve(None), tmp_path / "model"))


@pytest.fixture(scope="module")
def cells() -> list[str]:
    rng = np.random.default_rng(1)
    return [SPACE.format(SPACE.sample(rng)) for _ in range(30)]


def tensors_of(prediction: object) -> np.ndarray:
    return np.stack([getattr(prediction, name) for name in ("mean", "std", "low", "high")])


# -- loading and saving ----------------------------------------------------------------------


def test_the_package_brings_a_model_that_is_loaded_once(model):
    assert packaged() is model
    assert model.space is SPACE
    assert model.protocol == "standalone-v1"
    assert model.card.strip()
    assert not any(part.training for part in [*model.predictor.modules(),
                                              *model.generator.modules()])


def test_it_gives_its_own_golden_answers(model):
    assert set(model.golden) == {"stripes", "dots"}
    assert differences(model) == []


def test_other_answers_than_the_golden_ones_are_named(folder):
    changed = MetaD2A.from_pretrained(folder)
    changed.predictor.noise.mul_(3)
    for side in changed.predictor.sides:
        side.level.bias.data += 1
    problems = "\n".join(differences(changed))
    for part in ("stripes: mean differs", "dots: mean differs", "stripes: std differs"):
        assert part in problems
    with pytest.raises(ArtifactError, match="known: stripes, dots"):
        synthetic("checks")


def test_a_saved_model_is_the_same_model(model, tmp_path, cells):
    model.save_pretrained(tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(FILES)
    again = MetaD2A.from_pretrained(tmp_path / "copy")
    data = synthetic("dots")
    assert np.array_equal(tensors_of(again.predict(data, cells)),
                          tensors_of(MetaD2A.from_pretrained().predict(data, cells)))
    assert again.generate(data, 20, 3) == model.generate(data, 20, 3)
    assert (again.card, again.golden, again.protocol) == (model.card, model.golden, model.protocol)
    again.save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


# -- what is refused -------------------------------------------------------------------------


Change = Callable[[dict], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "unknown key": (lambda c: c.update(flavour=1), "unknown key 'flavour'"),
    "missing key": (lambda c: c.pop("protocol"), "missing key 'protocol'"),
    "unknown size": (lambda c: c["predictor"].update(depth=3), "unknown key 'predictor.depth'"),
    "missing size": (lambda c: c["predictor"].pop("factors"), "missing key 'predictor.factors'"),
    "no sizes": (lambda c: c.pop("predictor"), "missing key 'predictor'"),
    "sizes a list": (lambda c: c.update(predictor=[5]), "'predictor' is not an object"),
    "space a number": (lambda c: c.update(space=201), "'space' is not a string"),
    "protocol null": (lambda c: c.update(protocol=None), "'protocol' is not a string"),
    "unknown space": (lambda c: c.update(space="chains"), "space 'chains' is unknown"),
    "a word": (lambda c: c["predictor"].update(members="five"), "'predictor.members' is 'five'"),
    "a fraction": (lambda c: c["predictor"].update(members=5.0), "'predictor.members' is '5.0'"),
    "true": (lambda c: c["predictor"].update(members=True), "'predictor.members' is 'True'"),
    "zero": (lambda c: c["predictor"].update(embedding=0), "'predictor.embedding' is '0'"),
    "negative": (lambda c: c["predictor"].update(factors=-4), "'predictor.factors' is '-4'"),
    "no scores": (lambda c: c["predictor"].update(scores=[]), "'predictor.scores' is"),
    "scores of numbers": (lambda c: c["predictor"].update(scores=[1]), "'predictor.scores' is"),
    "heads do not divide": (lambda c: c["predictor"].update(set_width=30), "'predictor.set_width'"),
    "types of another space": (lambda c: c["predictor"].update(node_types=9),
                               "'predictor.node_types'"),
}
SIZES = [name for name in PredictorConfig.__dataclass_fields__ if name != "scores"]


def edit(folder: Path, change: Change) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_does_not_fit_is_refused(folder, name):
    change, message = REFUSED[name]
    edit(folder, change)
    with pytest.raises(ArtifactError) as caught:
        MetaD2A.from_pretrained(folder)
    assert message in str(caught.value)
    assert "model=None for the one inside the package" in str(caught.value)


@pytest.mark.parametrize("size", [4096, 10**9, 10**30], ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_huge_sizes_allocate_nothing(folder, name, size, monkeypatch):
    def on_meta_only(space, config):
        assert torch.get_default_device().type == "meta", "memory would be taken"
        return parts(space, config)

    parts = metad2a.model.metad2a._parts
    monkeypatch.setattr(metad2a.model.metad2a, "_parts", on_meta_only)
    edit(folder, lambda config: config["predictor"].update({name: size}))
    with pytest.raises(ArtifactError):
        MetaD2A.from_pretrained(folder)


def test_all_problems_of_a_config_come_at_once(folder):
    def change(config: dict) -> None:
        config["flavour"] = 1
        del config["protocol"]
        config["predictor"]["members"] = 10**9

    edit(folder, change)
    with pytest.raises(ArtifactError) as caught:
        MetaD2A.from_pretrained(folder)
    for part in ("'flavour'", "'protocol'", "'predictor.members' is '1000000000'"):
        assert part in str(caught.value)


def test_tensors_missing_extra_renamed_or_of_another_shape_are_listed(folder):
    artifact = load_artifact(folder)
    noise = artifact.tensors.pop("predictor.noise")
    artifact.tensors["predictor.nose"] = noise
    artifact.tensors["generator.embed.weight"] = torch.zeros(3, 3)
    save_artifact(folder, artifact)
    with pytest.raises(ArtifactError) as caught:
        MetaD2A.from_pretrained(folder)
    for part in ("predictor.noise is missing", "predictor.nose is unknown",
                 "generator.embed.weight has shape (3, 3), expected (6, "):
        assert part in str(caught.value)


# -- predicting ------------------------------------------------------------------------------


def test_order_and_company_do_not_matter(model, cells):
    data = synthetic("stripes")
    all_at_once = tensors_of(model.predict(data, cells))
    backwards = tensors_of(model.predict(data, cells[::-1]))
    assert np.array_equal(backwards[:, ::-1], all_at_once)
    fresh = MetaD2A.from_pretrained()
    one_by_one = np.concatenate([tensors_of(fresh.predict(data, [cell])) for cell in cells[:5]], 1)
    np.testing.assert_allclose(one_by_one, all_at_once[:, :5], atol=1e-3)
    tuples = [SPACE.parse(cell) for cell in cells]
    assert np.array_equal(tensors_of(model.predict(data, tuples)), all_at_once)


def test_isomorphic_cells_are_predicted_equal(model, cells):
    pairs = [(cell, SPACE.canonical(SPACE.parse(cell))) for cell in cells]
    pairs = [(cell, SPACE.format(other)) for cell, other in pairs if cell != SPACE.format(other)]
    assert len(pairs) > 3
    first, second = (tensors_of(model.predict(synthetic("dots"), list(side)))
                     for side in zip(*pairs, strict=True))
    assert np.array_equal(first, second)


def test_every_string_of_the_space(model):
    every = [SPACE.format(cell) for cell in SPACE.enumerate()]
    found = model.predict(synthetic("stripes"), every)
    assert found.mean.shape == (15_625,)
    assert found.mean.dtype == np.float64
    for values in (found.mean, found.std, found.low, found.high):
        assert np.isfinite(values).all()
    assert (found.std > 0).all()
    assert (found.low >= 0).all()
    assert (found.low < found.mean).all()
    assert (found.mean < found.high).all()
    assert (found.high <= 100).all()
    np.testing.assert_allclose((found.high - found.low) / (2 * 1.6449), found.std)
    # Convolutions learn more than a cell that passes nothing on.
    assert found.mean[every.index(CONV)] > found.mean[every.index(SPACE.format((0,) * 6))]


def test_the_same_seed_the_same_prediction(model, cells):
    data = synthetic("stripes")
    first = tensors_of(model.predict(data, cells, seed=2))
    assert np.array_equal(tensors_of(model.predict(data, cells, seed=2)), first)


def test_nothing_asked_nothing_answered(model):
    assert tensors_of(model.predict(synthetic("dots"), [])).shape == (4, 0)


def test_two_threads_may_ask_one_model(cells):
    shared, alone = MetaD2A.from_pretrained(), MetaD2A.from_pretrained()
    description, _ = describe(synthetic("dots"), 0)
    rng = np.random.default_rng(0)
    wanted = [rng.integers(5, size=(40, 6)) for _ in range(60)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda some: shared.predict_described(description, some), wanted))
    for some, prediction in zip(wanted, found, strict=True):
        np.testing.assert_allclose(
            prediction.mean, alone.predict_described(description, some).mean, atol=1e-3)


@pytest.mark.parametrize("cell", ["", "resnet50", CONV + "|", CONV.replace("3x3", "5x5")])
def test_a_string_of_no_cell(model, cell):
    with pytest.raises(InputError):
        model.predict(synthetic("dots"), [CONV, cell])


# -- generating ------------------------------------------------------------------------------


def test_generated_cells_are_distinct_canonical_and_connected(model):
    found = model.generate(synthetic("stripes"), 100, seed=1)
    parsed = SPACE.as_array(found)
    assert len(set(found)) == 100
    assert all(SPACE.canonical(tuple(cell)) == tuple(cell) for cell in parsed.tolist())
    assert SPACE.connected(parsed).all()
    assert model.generate(synthetic("stripes"), 100, seed=1) == found
    assert model.generate(synthetic("stripes"), 100, seed=2) != found


def test_generated_cells_beat_drawn_ones(model):
    """The generator has learnt what the predictor rates high."""
    data = synthetic("stripes")
    rng = np.random.default_rng(0)
    drawn = model.predict(data, [SPACE.sample(rng) for _ in range(200)]).mean
    made = model.predict(data, model.generate(data, 200)).mean
    assert np.median(made) > np.median(drawn)
    assert made.max() >= drawn.max() - 0.5


def test_bad_requests(model):
    data = synthetic("dots")
    with pytest.raises(InputError, match="n=0"):
        model.generate(data, 0)
    with pytest.raises(BudgetError, match=str(SPACE.smallest(2).params)):
        model.generate(data, 5, max_params=SPACE.smallest(2).params - 1)
