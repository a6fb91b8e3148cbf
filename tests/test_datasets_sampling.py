"""Sampling by index: seeds, replacement of unreadable images, the audit and the refusals."""

from typing import Any

import numpy as np
import pytest

from metad2a.datasets import ImageDataset, UnreadableImage, check, draw, load_dataset
from metad2a.datasets.sampling import SAMPLE_SIDE
from metad2a.errors import InputError
from metad2a.settings import LIMITS


class Fake(ImageDataset):
    """Images of a stranger that tell their index; those in ``bad`` are unreadable."""

    name, form, limits = "fake", "fake", LIMITS

    def __init__(self, labels: Any, bad: Any = ()) -> None:
        self.labels = np.asarray(labels, dtype=np.int64)
        self.classes = tuple(f"c{i}" for i in range(int(self.labels.max(initial=-1)) + 1))
        self.split = np.zeros(len(self.labels), dtype=np.int8)
        self.bad, self.opened = set(bad), []  # type: ignore[var-annotated]
        self.side = 2

    def image(self, index: int) -> np.ndarray:
        self.opened.append(index)
        if index in self.bad:
            raise UnreadableImage("torn")
        return np.full((self.side, self.side, 3), index % 256, dtype=np.uint8)

    def locate(self, index: int) -> str:
        return f"{index}.png"


def test_balanced_and_decoded_once() -> None:
    dataset = Fake(np.repeat([0, 1, 2], [500, 30, 10]))
    sample = draw(dataset, seed=1)
    assert np.bincount(sample.labels).tolist() == [20, 20, 10]
    assert sample.labels.tolist() == sorted(sample.labels.tolist())
    np.testing.assert_array_equal(dataset.labels[sample.indices], sample.labels)
    assert [image[0, 0, 0] for image in sample.images] == [i % 256 for i in sample.indices]
    assert sample.sizes.tolist() == [[2, 2]] * 50
    assert len(dataset.opened) == len(set(dataset.opened)) == sample.report.checked == 540


@pytest.mark.parametrize(("side", "looked_at"), [(2, 1000), (250, 480), (400, 300)])
def test_fewer_large_images_are_looked_at_than_small_ones(side: int, looked_at: int) -> None:
    dataset = Fake(np.arange(2000) % 2)
    dataset.side = side
    assert draw(dataset, 0).report.checked == looked_at
    assert looked_at <= len(dataset.opened) <= looked_at + 16  # threads are a little ahead


def test_seeds() -> None:
    labels = np.arange(4000) % 60
    first, again, other = (draw(Fake(labels), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.indices, again.indices)
    assert first.indices.tolist() != other.indices.tolist()
    assert len(np.unique(first.labels)) == 40
    assert set(first.labels.tolist()) != set(other.labels.tolist())
    with pytest.raises(InputError, match="seed=-1"):
        draw(Fake(labels), -1)


def test_small_sets_are_looked_at_whole() -> None:
    dataset = Fake([0, 0, 0, 1, 1, 1])
    assert draw(dataset, 0, per_class=2).report.checked == 6
    assert len(draw(dataset, 0, per_class=2, audit=0).images) == 4


def test_unreadable_images_are_replaced_counted_and_listed() -> None:
    labels = np.repeat([0, 1], 200)
    bad = set(range(0, 400, 40))
    dataset = Fake(labels, bad)
    sample = draw(dataset, 0, per_class=50, audit=400)
    assert np.bincount(sample.labels).tolist() == [50, 50]
    assert not bad & set(sample.indices.tolist())
    assert [entry.name for entry in sample.report.skipped] == [f"{i}.png" for i in sorted(bad)]
    assert {entry.reason for entry in sample.report.skipped} == {"torn"}
    assert (sample.report.images, sample.report.checked) == (390, 400)
    assert "10 unreadable files skipped: 0.png (torn)" in str(sample.report)
    assert "and 5 more" in str(sample.report)


def test_the_audit_finds_damage_outside_the_sample() -> None:
    labels = np.repeat([0, 1], [10_000, 10_000])
    bad = np.random.default_rng(0).permutation(20_000)[:4000]
    with pytest.raises(InputError, match=r"unreadable.*at most 5 % may be"):
        draw(Fake(labels, bad), 0, per_class=2)


def test_five_per_cent_is_the_limit() -> None:
    labels = np.repeat([0, 1], 50)
    for look in (check, lambda data: draw(data, 0).report):
        assert len(look(Fake(labels, range(5))).skipped) == 5
        with pytest.raises(InputError, match=r"6 of the 100 images looked at .*6\.0 %.*torn"):
            look(Fake(labels, range(6)))


@pytest.mark.parametrize("look", [check, lambda data: draw(data, 0)])
@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Fake([]), "'fake' holds no image"),
        (Fake([0] * 9), "1 class, 'c0'; at least 2"),
        (Fake([0] * 9 + [1]), "Class 'c1' has 1 readable image;"),
        (Fake([0] * 9 + [1, 2]), r"Class 'c1' has 1 readable image \(and 1 other classes"),
        (Fake([0] * 60 + [1, 1], [60]), "Class 'c1' has 1 readable image;"),
        (Fake([0, 0, 1, 1], range(4)), "4 of the 4 images looked at are unreadable"),
    ],
)
def test_refusals(look: Any, dataset: ImageDataset, message: str) -> None:
    with pytest.raises(InputError, match=message):
        look(dataset)


def test_large_images_are_reduced() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 300, 900, 3), dtype=np.uint8)
    sample = draw(load_dataset(images, [0, 0, 1, 1]), 0)
    assert sample.images[0].shape == (SAMPLE_SIDE, 768, 3)
    assert sample.sizes[0].tolist() == [300, 900]
    assert sample.report.sizes == (300, 600, 900)
    assert not sample.report.gray
    np.testing.assert_array_equal(
        sample.images[0], draw(load_dataset(images, [0, 0, 1, 1]), 9).images[0]
    )


def test_half_a_million_images_open_no_more_than_a_thousand() -> None:
    dataset = Fake(np.arange(500_000) % 10)
    sample = draw(dataset, 0)
    assert len(dataset.opened) == 1000
    assert sample.report.images == 500_000


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    check(Fake([0, 0, 1, 1]), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err


def test_check_decodes_some_of_many_and_all_for_quality() -> None:
    dataset = Fake(np.arange(5_000) % 2)
    report = check(dataset)
    assert (report.checked, report.images) == (3_000, 5_000)
    assert {dataset.opened[0], dataset.opened[-1]} == {0, 4_999}
    assert "3,000 of them looked at" in str(report)
    assert check(dataset, quality=True).checked == 5_000
