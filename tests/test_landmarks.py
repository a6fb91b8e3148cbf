"""Landmarks: what they say of drawn images, of noise and of labels drawn at random."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.model import landmarks
from metad2a.model.landmarks import (
    HEAD,
    MAX_CLASSES,
    RESOLUTIONS,
    STAGES,
    Landmarks,
    OtherSide,
    measure,
    of_dataset,
    per_class,
)


def drawn(shapes: Sequence[str], count: int, side: int = 40, seed: int = 0) -> list[np.ndarray]:
    """Letters or other texts at random places and brightness, uint8 (side, side, 3) each."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(count):
        image = Image.new("RGB", (side, side), (30, 40, 50))
        ink = int(rng.integers(120, 255))
        place = tuple(rng.integers(0, side // 4, 2).tolist())
        ImageDraw.Draw(image).text(
            place, shapes[i % len(shapes)], (ink, 200, ink), font_size=side * 0.7
        )
        images.append(np.asarray(image))
    return images


def noise(count: int, side: int = 32, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8))


def measured(images: list[np.ndarray], classes: int, side: float = 40) -> Landmarks:
    labels = np.arange(len(images)) % classes
    return measure(images, labels, np.bincount(labels).astype(float), side)


@pytest.fixture(scope="module")
def letters() -> Landmarks:
    return measured(drawn(("E", "G", "R", "Z"), 64), 4)


def test_what_can_be_seen_is_above_chance(letters):
    assert not letters.chance
    assert letters.accuracy.shape == (len(RESOLUTIONS), len(STAGES))
    assert np.nanmax(letters.accuracy) > 0.8
    assert (letters.guess, letters.count, letters.sampled) == (0.25, 64, 4)
    assert (letters.classes, letters.images, letters.largest) == (4, 64, 0.25)
    assert letters.balance == pytest.approx(1)
    assert not letters.gray
    # Forty pixels are not enlarged to 224.
    assert np.isnan(letters.accuracy[-1]).all()
    assert not np.isnan(letters.accuracy[:-1]).any()


def test_letters_are_not_mirrored_and_discs_may_be(letters):
    assert letters.flips_harm
    rng = np.random.default_rng(0)
    discs = []
    for i in range(64):
        image = Image.new("RGB", (40, 40), tuple(rng.integers(0, 80, 3).tolist()))
        x, y = rng.integers(8, 32, 2).tolist()
        size = 4 + 6 * (i % 2)
        ImageDraw.Draw(image).ellipse((x - size, y - size, x + size, y + size), (200, 160, 90))
        discs.append(np.asarray(image))
    found = measured(discs, 2)
    assert found.accuracy[1].max() > 0.9
    assert not found.flips_harm


def test_the_same_images_are_measured_once(monkeypatch):
    images = drawn(("A", "C"), 8)
    first = measured(images, 2)
    monkeypatch.setattr(landmarks, "pooled", None)
    assert measured(images, 2) is first
    with pytest.raises(TypeError):
        measured([255 - one for one in images], 2)


def test_test_images_of_another_kind_are_noticed(letters):
    images = drawn(("E", "G", "R", "Z"), 64)
    labels = np.arange(64) % 4
    counts = np.bincount(labels).astype(float)
    alike, other = (
        measure(images, labels, counts, 40, OtherSide(tested))
        for tested in (drawn(("E", "G", "R", "Z"), 40, seed=1), noise(40))
    )
    assert other.shift > 0.3 + abs(alike.shift)
    assert other.apart > 0.1 + abs(alike.apart)
    plain = other.of_training()
    assert (plain.shift, plain.apart) == (0, 0)
    assert plain.accuracy == pytest.approx(letters.accuracy, nan_ok=True)  # of the same images


def test_of_a_test_side_a_hundred_images_are_looked_at_and_no_label(monkeypatch):
    labels = np.arange(600) % 3
    images = [np.full((10, 12, 3), i % 251, np.uint8) for i in range(600)]
    dataset = load_dataset((images, labels))
    seen = []
    monkeypatch.setattr(landmarks, "measure", lambda *given: seen.append(given[-1]))
    train, test = np.arange(100), np.arange(100, 600)
    of_dataset(dataset, train, 0, test)
    dataset.labels[test] = 0
    of_dataset(dataset, train, 0, test)
    of_dataset(dataset, train, 0, test[:5])
    most = landmarks.TEST_IMAGES
    assert [len(one.images) for one in seen] == [most, most, 0]
    assert all((a == b).all() for a, b in zip(seen[0].images, seen[1].images, strict=True))
    assert not any(one.unknown for one in seen)


def test_where_the_head_lacks_classes_training_images_of_those_are_known_too(monkeypatch):
    labels = np.arange(900) % 60
    images = [np.full((10, 12, 3), i % 251, np.uint8) for i in range(900)]
    seen = []
    monkeypatch.setattr(landmarks, "measure", lambda *given: seen.append(given))
    of_dataset(load_dataset((images, labels)), np.arange(600), 0, np.arange(600, 900))
    other = seen[0][-1]
    assert len(other.images) == len(other.unknown) == landmarks.TEST_IMAGES
    assert other.known == pytest.approx(MAX_CLASSES / 60)


def test_test_images_of_classes_that_the_head_lacks_are_no_shift():
    letters = ("E", "G", "R", "Z", "A", "M")
    every = drawn(letters, 96)
    label = np.arange(96) % 6
    known = [one for one, own in zip(every, label, strict=True) if own < 4]
    labels = label[label < 4]
    counts = np.bincount(label).astype(float)
    unknown = [one for one, own in zip(every, label, strict=True) if own > 3]
    tested = drawn(letters, 60, seed=3)
    blind, fair = (
        measure(known, labels, counts, 40, OtherSide(tested, *more))
        for more in ((), (unknown, 4 / 6))
    )
    assert fair.apart < 0.1 < blind.apart


def test_noise_is_at_chance():
    found = measured(noise(64), 2)
    assert found.chance
    assert np.nanmax(np.abs(found.distance)) < 1.2


def random_features(seed: int, n: int, classes: int, monkeypatch) -> Landmarks:
    """Measure random labels on features of images of some kind, without the network."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 30))

    def pooled(images: np.ndarray, stages=STAGES) -> list[torch.Tensor]:
        found = []
        widths = dict(zip(STAGES, (24, 40, 80, 112, 192, 320, 1280), strict=True))
        for width in map(widths.get, stages):
            mixed = hidden @ rng.normal(size=(30, width)) + rng.normal(size=(n, width))
            found.append(torch.from_numpy(mixed).float())
        return found

    monkeypatch.setattr(landmarks, "pooled", pooled)
    labels = rng.integers(0, classes, n)
    labels[:classes] = range(classes)
    return measure(noise(n, 8), labels, np.bincount(labels).astype(float), 32)


@pytest.mark.parametrize(("n", "classes"), [(60, 2), (200, 5), (120, 30)])
def test_random_labels_are_at_chance(n, classes, monkeypatch):
    found = [random_features(seed, n, classes, monkeypatch) for seed in range(4)]
    assert all(one.chance for one in found)
    assert abs(np.mean([np.nanmean(one.distance) for one in found])) < 0.5


def test_large_images_are_measured_large():
    found = measured(drawn(("X", "O"), 16, side=120), 2, side=120)
    assert not np.isnan(found.accuracy).any()
    assert ((found.accuracy >= 0) & (found.accuracy <= 1)).all()


def test_frames_of_one_film_are_noticed():
    one = noise(1)[0].astype(int)
    rng = np.random.default_rng(1)
    film = [np.clip(one + rng.integers(-2, 3, one.shape), 0, 255).astype(np.uint8)] * 2
    film = [np.clip(film[i % 2] + i, 0, 255).astype(np.uint8) for i in range(8)]
    assert measured(film * 2, 2).alike < -3
    assert measured(drawn(("E", "G"), 16), 2).alike > -3


def test_classes_count_as_the_dataset_has_them():
    images = drawn(("E", "O"), 20)
    found = measure(images, np.arange(20) % 2, np.array([30.0, 10.0, 0.0]), 40)
    assert (found.classes, found.sampled, found.images) == (2, 2, 40)
    assert found.largest == 0.75
    assert found.guess == 0.5
    assert found.balance == pytest.approx(0.811, abs=1e-3)


# -- what follows from the numbers ---------------------------------------------------------------


def made(accuracy: np.ndarray, **values) -> Landmarks:
    base = Landmarks(
        accuracy=accuracy,
        count=200,
        classes=4,
        sampled=4,
        guess=0.25,
        images=500,
        largest=0.25,
        balance=1.0,
        side=128,
        gray=False,
        flip_loss=0.0,
        chirality=0.5,
        growth=0.2,
        between=0.2,
        alike=-0.4,
        shift=0.0,
        apart=0.0,
    )
    return dataclasses.replace(base, **values)


def rising() -> np.ndarray:
    return 0.3 + 0.1 * np.add.outer(np.arange(4), np.arange(7) / 6)


def test_distance_is_from_the_largest_class_and_finite():
    found = made(np.array([[0.25, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5]] * 4))
    assert found.distance[0, 0] == pytest.approx(0, abs=1e-2)
    assert found.distance[0, 1] == pytest.approx(math.log(401) + math.log(3))
    assert found.distance[0, 2] == pytest.approx(-math.log(401) + math.log(3))


def test_near_is_interpolated_and_ends_where_measurements_end():
    found = made(rising())
    assert found.near(64, 5) == pytest.approx(found.distance[1, 3])
    assert found.near(32, HEAD) == pytest.approx(found.distance[0, 6])
    between = found.near(64 * math.sqrt(2), 6)
    assert between == pytest.approx((found.near(64, 6) + found.near(128, 6)) / 2)
    assert found.near(16, 4) == found.near(32, 4)
    assert found.near(500, 4) == found.near(224, 4)
    unmeasured = rising()
    unmeasured[-1] = np.nan
    assert made(unmeasured).near(224, 4) == pytest.approx(found.near(128, 4))


@pytest.mark.parametrize(
    ("accuracy", "count", "guess", "chance"),
    [(0.25, 200, 0.25, True), (0.32, 200, 0.25, True), (0.40, 200, 0.25, False),
     (0.60, 50, 0.5, True), (0.60, 1000, 0.5, False)],
)  # fmt: skip
def test_chance_asks_for_more_than_the_luck_of_the_best(accuracy, count, guess, chance):
    table = np.full((4, 7), guess)
    table[2, 3] = accuracy
    table[3] = np.nan
    assert made(table, count=count, guess=guess).chance is chance


def test_json_there_and_back():
    accuracy = rising()
    accuracy[-1] = np.nan
    found = made(accuracy)
    again = Landmarks.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.accuracy == pytest.approx(found.accuracy, abs=1e-6, nan_ok=True)
    assert dataclasses.replace(again, accuracy=accuracy) == dataclasses.replace(
        found, accuracy=accuracy
    )


def test_other_json_is_refused():
    values = made(rising()).to_dict()
    with pytest.raises(InputError, match="shape"):
        Landmarks.from_dict(values | {"accuracy": [[0.5]]})
    values.pop("alike")
    with pytest.raises(InputError, match="alike"):
        Landmarks.from_dict(values)


# -- of a dataset --------------------------------------------------------------------------------


def test_the_sample_is_of_the_training_side_and_has_few_of_each_class(monkeypatch):
    seen = {}

    def instead(images, labels, counts, side, other):
        assert not other.images
        seen.update(images=images, labels=labels, counts=counts, side=side)

    monkeypatch.setattr(landmarks, "measure", instead)
    labels = np.repeat(np.arange(50), 9)
    images = [np.full((10, 12, 3), i % 251, np.uint8) for i in range(len(labels))]
    dataset = load_dataset((images, labels))
    of_dataset(dataset)
    assert len(np.unique(seen["labels"])) == MAX_CLASSES
    assert np.bincount(seen["labels"]).max() == per_class(50)
    assert seen["counts"].sum() == len(labels)
    assert seen["side"] == 10
    first = seen["images"]
    of_dataset(dataset)
    assert all((a == b).all() for a, b in zip(first, seen["images"], strict=True))
    of_dataset(dataset, np.flatnonzero(labels < 3))
    assert np.bincount(seen["labels"]).tolist() == [9, 9, 9]
    assert seen["counts"].sum() == 27


def test_one_class_is_refused():
    images = noise(6, 8)
    dataset = load_dataset((images, [0, 0, 0, 1, 1, 1]))
    with pytest.raises(InputError, match="at least 2"):
        of_dataset(dataset, np.array([0, 1, 2]))
