"""Samplers, the supernet's training step, cancelling, resuming and its checkpoints."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metad2a.errors import ArtifactError, InputError
from metad2a.spaces import SPACES
from search import supernet_training
from search.checkpoint import read_checkpoint, write_checkpoint
from search.data import TaskData
from search.device import plan, seeded
from search.samplers import SAMPLERS
from search.supernet_training import SupernetConfig, augment, train_supernet

SPACE = SPACES.get("nasbench201")
TINY = SupernetConfig(steps=4, batch=16, channels=4)


def task(side: int = 8, count: int = 40, classes: int = 3, seed: int = 0) -> TaskData:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, 2 * count))
    images = torch.from_numpy(rng.integers(0, 200, (2 * count, 3, side, side), dtype=np.uint8))
    images += (labels * 25).to(torch.uint8)[:, None, None, None]
    return TaskData(images[:count], labels[:count], images[count:], labels[count:], classes)


def stop_after(steps: int):
    asked = iter(range(steps))
    return lambda: next(asked, None) is None


def assert_same_weights(first, second):
    left, right = first.network.state_dict(), second.network.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_samplers_give_paths_of_the_space_and_obey_the_seed(name):
    def draw():
        return SAMPLERS.get(name).paths(SPACE, np.random.default_rng(7))

    assert draw() == draw()
    for path in draw():
        assert len(path) == SPACE.slots
        assert all(0 <= op < len(SPACE.operations) for op in path)


def test_uniform_is_one_path_with_every_operation_as_often():
    rng = np.random.default_rng(0)
    steps = [SAMPLERS.get("uniform").paths(SPACE, rng) for _ in range(2000)]
    assert {len(step) for step in steps} == {1}
    counts = np.bincount(np.array(steps).ravel(), minlength=5)
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.02)


def test_fair_paths_take_each_operation_of_each_slot_exactly_once():
    rng = np.random.default_rng(0)
    steps = [SAMPLERS.get("fair").paths(SPACE, rng) for _ in range(50)]
    for step in steps:
        assert (np.sort(np.array(step), axis=0) == np.arange(5)[:, None]).all()
    assert len({tuple(step) for step in steps}) == 50


def test_one_step_descends_the_sum_of_the_gradients_of_its_paths():
    data, config = task(), dataclasses.replace(TINY, steps=1, batch=1000)
    trained = train_supernet(SPACE, data, config)
    with seeded(config.seed):
        network = plan().place(SPACE.supernet(3, channels=4, cells=1))
    rng = np.random.default_rng((config.seed, 1, 0))
    paths = SAMPLERS.get("fair").paths(SPACE, rng)
    order = np.random.default_rng((config.seed, 0, 0)).permutation(40)
    x, y = data.normalised("train")
    images = augment(x[order], rng)
    for path in paths:
        with plan().autocast():
            logits = network(images, path)
        F.cross_entropy(logits.float(), y[order]).backward()
    after = dict(trained.network.named_parameters())
    for name, weight in network.named_parameters():
        expected = weight.detach()
        if weight.grad is not None:
            direction = weight.grad + config.weight_decay * expected
            expected = expected - config.lr * 1.9 * direction  # Nesterov's first step
        torch.testing.assert_close(after[name].detach(), expected)


def test_untouched_weights_are_bit_identical_after_a_step_with_momentum_and_decay():
    config = dataclasses.replace(TINY, sampler="uniform", weight_decay=0.1, seed=3)
    states = []
    for steps in (2, 3):
        trained = train_supernet(SPACE, task(), config, should_stop=stop_after(steps))
        states.append(dict(trained.network.named_parameters()))
    (path,) = SAMPLERS.get("uniform").paths(SPACE, np.random.default_rng((config.seed, 1, 2)))
    changed = {name for name in states[0] if not torch.equal(states[0][name], states[1][name])}
    on_path = {f"slots.{slot}.{op}." for slot, op in enumerate(path)}
    in_slots = {name for name in states[0] if ".slots." in name}
    assert changed & in_slots
    assert all(any(place in name for place in on_path) for name in changed & in_slots)
    assert "classifier.weight" in changed


def test_training_learns_and_reports_progress():
    seen = []
    config = dataclasses.replace(TINY, steps=30, lr=0.05)
    trained = train_supernet(SPACE, task(), config, progress=seen.append)
    assert trained.complete
    assert [p.step for p in seen] == list(range(1, 31))
    assert np.mean([p.loss for p in seen[-5:]]) < 0.9 * np.mean([p.loss for p in seen[:5]])


def test_the_seed_decides():
    first, again = (train_supernet(SPACE, task(), TINY) for _ in range(2))
    other = train_supernet(SPACE, task(), dataclasses.replace(TINY, seed=1))
    assert_same_weights(first, again)
    assert not torch.equal(first.network.classifier.weight, other.network.classifier.weight)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_supernet(SPACE, task(), dataclasses.replace(TINY, steps=1))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_stopped_and_resumed_is_bit_equal_to_uninterrupted(tmp_path, stop):
    config = dataclasses.replace(TINY, sampler="uniform")
    path = tmp_path / "new" / "run.safetensors"
    whole = train_supernet(SPACE, task(), config)
    part = train_supernet(SPACE, task(), config, checkpoint=path, should_stop=stop_after(stop))
    assert (part.step, part.complete) == (stop, False)
    resumed = train_supernet(SPACE, task(), config, checkpoint=path)
    assert resumed.complete
    assert_same_weights(whole, resumed)
    for name, value in whole.initial.state_dict().items():
        assert torch.equal(value, resumed.initial.state_dict()[name])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_finished_checkpoint_is_read_without_training(tmp_path):
    path, seen = tmp_path / "run", []
    first = train_supernet(SPACE, task(), TINY, checkpoint=path)
    written = path.stat().st_mtime_ns
    again = train_supernet(SPACE, task(), TINY, checkpoint=path, progress=seen.append)
    assert not seen
    assert path.stat().st_mtime_ns == written
    assert_same_weights(first, again)


def test_a_crash_loses_no_more_than_the_steps_since_the_last_save(tmp_path, monkeypatch):
    monkeypatch.setattr(supernet_training, "_SAVE_SECONDS", -1.0)
    path = tmp_path / "run"

    def crash(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_supernet(SPACE, task(), TINY, checkpoint=path, progress=crash)
    seen = []
    resumed = train_supernet(SPACE, task(), TINY, checkpoint=path, progress=seen.append)
    assert [p.step for p in seen] == [3, 4]
    assert_same_weights(resumed, train_supernet(SPACE, task(), TINY))


def test_a_checkpoint_of_other_settings_or_data_is_refused(tmp_path):
    path = tmp_path / "run"
    train_supernet(SPACE, task(), TINY, checkpoint=path, should_stop=stop_after(1))
    with pytest.raises(InputError, match=r"lr=0.025 there, 0.5 here"):
        train_supernet(SPACE, task(), dataclasses.replace(TINY, lr=0.5), checkpoint=path)
    with pytest.raises(InputError, match="data="):
        train_supernet(SPACE, task(seed=1), TINY, checkpoint=path)


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run"
    train_supernet(SPACE, task(), TINY, checkpoint=path, should_stop=stop_after(1))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="not a readable checkpoint"):
        train_supernet(SPACE, task(), TINY, checkpoint=path)
    path.write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(ArtifactError, match="format 9"):
        train_supernet(SPACE, task(), TINY, checkpoint=path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match="not a readable checkpoint"):
        train_supernet(SPACE, task(), TINY, checkpoint=path)


def test_a_checkpoint_without_a_tensor_is_refused(tmp_path):
    path = tmp_path / "run"
    train_supernet(SPACE, task(), TINY, checkpoint=path, should_stop=stop_after(1))
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        note = json.loads(file.metadata()["metad2a-checkpoint"])
    tensors, facts = read_checkpoint(path, note["identity"])
    tensors.pop("network.classifier.weight")
    write_checkpoint(path, tensors, note["identity"], facts)
    with pytest.raises(ArtifactError, match=r"classifier\.weight"):
        train_supernet(SPACE, task(), TINY, checkpoint=path)


def test_a_checkpoint_that_cannot_be_written_is_an_error_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "run"
    write_checkpoint(path, {"a": torch.ones(2)}, {"kind": "x"}, {"step": 1})
    with pytest.raises(ArtifactError, match="writable"):
        write_checkpoint(path / "below", {"a": torch.ones(2)}, {}, {})
    tensors, facts = read_checkpoint(path, {"kind": "x"})
    assert torch.equal(tensors["a"], torch.ones(2))
    assert facts == {"step": 1}


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_rate():
    with pytest.raises(InputError, match=r"loss became (nan|inf).*lr=1e\+30"):
        train_supernet(SPACE, task(), dataclasses.replace(TINY, lr=1e30))


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch", 0), ("lr", -1.0), ("lr", float("nan")), ("seed", -1)],
)
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=field):
        dataclasses.replace(TINY, **{field: value})


def test_unknown_names_and_too_few_images_are_refused():
    with pytest.raises(InputError, match="Did you mean 'fair'"):
        train_supernet(SPACE, task(), dataclasses.replace(TINY, sampler="fairr"))
    with pytest.raises(InputError, match="2 training images"):
        train_supernet(SPACE, task(count=1), TINY)
    for name, message in (("gpu", "no device"), ("cuda:99", "CUDA devices"), ("mps", "supported")):
        with pytest.raises(InputError, match=message):
            plan(name)


def test_augmented_images_are_crops_of_the_padded_ones():
    images = torch.arange(1.0, 1 + 6 * 3 * 256).reshape(6, 3, 16, 16)
    crops = augment(images, np.random.default_rng(0))
    assert crops.shape == images.shape
    assert crops.is_contiguous(memory_format=torch.channels_last)
    padded = F.pad(images, (2, 2, 2, 2))
    places = set()
    for image, crop in zip(padded, crops, strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(image[:, top : top + 16, left : left + 16], crop)
        ]
        places.update(found)
        assert len(found) == 1
    assert len(places) > 1


def test_flipping_mirrors_about_half_of_the_images_and_only_when_asked():
    images = torch.arange(4.0).expand(200, 3, 4, 4)  # below 8 pixels there is no padding
    assert torch.equal(augment(images, np.random.default_rng(0)), images)
    mirrored = (augment(images, np.random.default_rng(0), flip=True) != images).flatten(1).any(1)
    assert 70 < int(mirrored.sum()) < 130
