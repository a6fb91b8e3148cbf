"""What the model sees of a dataset: known answers, and the feature network's folded form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.model.backbone import FEATURES, backbone
from metad2a.model.description import (
    MAX_CLASSES,
    STATISTICS,
    Description,
    describe,
    describe_images,
    images_per_class,
)
from metad2a.spaces.efficientnet_lite import efficientnet_lite0, parent
from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
from metad2a.spaces.pretrained import inherit


def coloured(labels: np.ndarray, side: int, seed: int = 0) -> np.ndarray:
    """Noise whose brightness and colour tell the class, uint8 (n, side, side, 3)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (len(labels), side, side, 3))
    images[..., 0] += 30 * (labels % 5)[:, None, None]
    images[..., 1] += 120 * (labels % 2)[:, None, None]
    return images.astype(np.uint8)


def statistics(description: Description) -> dict[str, float]:
    return dict(zip(STATISTICS, description.statistics.tolist(), strict=True))


def described(labels: np.ndarray, side: int = 16, seed: int = 0) -> dict[str, float]:
    return statistics(describe(load_dataset((coloured(labels, side), labels)), seed)[0])


EQUAL = np.arange(60) % 3
PROBES = [name for name in STATISTICS if "probe" in name]


def test_one_entry_a_statistic_and_one_row_an_image():
    description, report = describe(load_dataset((coloured(EQUAL, 16), EQUAL)), 0)
    assert description.features.shape == (60, FEATURES)
    assert description.features.dtype == description.statistics.dtype == torch.float32
    assert description.labels.dtype == torch.int64
    assert torch.bincount(description.labels).tolist() == [20, 20, 20]
    assert description.statistics.shape == (len(STATISTICS),) == (len(set(STATISTICS)),)
    assert description.statistics.isfinite().all()
    assert (report.images, report.classes) == (60, 3)


def test_counts_and_balance_have_known_values():
    found = described(EQUAL)
    # Without a split, four fifths count as training images.
    assert found["log_images"] == pytest.approx(np.log10(48))
    assert found["log_classes"] == pytest.approx(np.log10(3))
    assert found["balance"] == pytest.approx(1)
    shares = np.array([0.9, 0.1])
    skewed = described(np.repeat([0, 1], [90, 10]))
    assert skewed["balance"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-6)


def test_more_images_than_the_protocol_trains_on_make_no_difference():
    images = coloured(EQUAL[:12], 8)
    few, many = (
        statistics(describe_images(list(images), EQUAL[:12], np.full(3, n), 8)) for n in (1e4, 1e6)
    )
    assert few == many
    assert few["log_images"] == pytest.approx(np.log10(2000))


@pytest.mark.parametrize(("side", "seen"), [(8, 8), (20, 20), (32, 32), (50, 32)])
def test_the_resolution_is_the_images_own_up_to_32(side, seen):
    assert described(EQUAL, side)["log_resolution"] == pytest.approx(np.log2(seen))


def test_resolution_goes_by_the_shorter_side_of_the_typical_image():
    images = [np.zeros((40, 10 + i % 2, 3), np.uint8) + i for i in range(13)]
    description, _ = describe(load_dataset((images, np.arange(13) % 2)), 0)
    assert statistics(description)["log_resolution"] == pytest.approx(np.log2(10))


def test_gray_is_noticed():
    gray = coloured(EQUAL, 16)[..., 0]
    assert statistics(describe(load_dataset((gray, EQUAL)), 0)[0])["gray"] == 1
    assert described(EQUAL)["gray"] == 0


def test_contrast_is_within_images():
    images = np.zeros((20, 8, 8, 3), np.uint8)
    images[::2] = 255
    labels, counts = np.arange(20) % 2, np.full(2, 10.0)
    assert statistics(describe_images(list(images), labels, counts, 8))["contrast"] == 0
    images[:, :4] = 255 - images[:, 4:]
    found = statistics(describe_images(list(images), labels, counts, 8))
    assert found["contrast"] == pytest.approx(0.5)


def test_images_that_are_all_the_same_are_no_trouble():
    images = [np.full((8, 8, 3), 7, np.uint8)] * 6
    description = describe_images(images, np.arange(6) % 2, np.full(2, 3.0), 8)
    assert description.statistics.isfinite().all()


def test_classes_that_can_be_told_apart_score_higher_than_shuffled_ones():
    labels = np.arange(60) % 3
    images = list(coloured(labels, 16))
    counts = np.full(3, 20.0)
    clear = statistics(describe_images(images, labels, counts, 16))
    shuffled = np.random.default_rng(0).permutation(labels)
    vague = statistics(describe_images(images, shuffled, counts, 16))
    for name in (*PROBES, "fisher_ratio"):
        assert clear[name] > vague[name] + 0.5, name
    for name in ("contrast", "intrinsic_dimension", "balance"):
        assert clear[name] == vague[name]
    # All right is the most there is: log of 61 to 1.
    assert max(clear[name] for name in PROBES) == pytest.approx(np.log(61))
    assert max(vague[name] for name in PROBES) < 1


def test_probes_leave_the_image_that_they_judge_out():
    """Of twins in different classes, each is taken for the other's class."""
    images = np.repeat(coloured(np.arange(10), 8, 1), 2, axis=0)
    found = statistics(describe_images(list(images), np.arange(20) % 2, np.full(2, 10.0), 8))
    for name in PROBES:
        assert found[name] < np.log(5 / 17), name


def test_one_image_a_class():
    images, labels = coloured(np.arange(5), 8), np.arange(5)
    description = describe_images(list(images), labels, np.ones(5), 8)
    assert description.statistics.isfinite().all()


def test_the_seed_decides_which_images_are_seen():
    labels = np.arange(200) % 2
    dataset = load_dataset((coloured(labels, 8), labels))
    first, again, other = (describe(dataset, seed)[0] for seed in (4, 4, 5))
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.statistics, again.statistics)
    assert not torch.equal(first.features, other.features)
    with pytest.raises(InputError, match="negative"):
        describe(dataset, -1)


def test_of_many_classes_some_are_seen_and_all_are_counted():
    labels = np.repeat(np.arange(50), 2)
    description, _ = describe(load_dataset((coloured(labels, 4), labels)), 0)
    assert description.labels.unique().tolist() == list(range(MAX_CLASSES))
    assert statistics(description)["log_classes"] == pytest.approx(np.log10(50))


@pytest.mark.parametrize(("classes", "images"), [(2, 20), (10, 20), (20, 10), (40, 5), (9999, 5)])
def test_more_classes_mean_fewer_images_of_each(classes, images):
    assert images_per_class(classes) == images


def save(root, part: str, count: int) -> None:
    for number in range(2):
        folder = root / part / f"class {number}"
        folder.mkdir(parents=True)
        for index, image in enumerate(coloured(np.full(count, number), 8, number)):
            Image.fromarray(image).save(folder / f"{index}.png")


def test_only_the_training_side_of_a_split_counts(tmp_path):
    save(tmp_path, "train", 6)
    save(tmp_path, "test", 4)
    dataset = load_dataset(tmp_path)
    assert dataset.split.sum() == 8
    found = statistics(describe(dataset, 0)[0])
    assert found["log_images"] == pytest.approx(np.log10(12))


def test_a_test_side_alone_is_taken_as_the_dataset(tmp_path):
    save(tmp_path, "test", 5)
    dataset = load_dataset(tmp_path)
    description, _ = describe(dataset, 0)
    assert description.statistics.isfinite().all()
    assert statistics(description)["log_images"] == pytest.approx(np.log10(8))


# -- the feature network ---------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("same", [False, True])
def test_folding_batch_norms_keeps_the_outputs(same):
    network = InvertedResidualNetwork(**parent(1).config | {"same": same}).eval()
    inherit(network, efficientnet_lite0())
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected, folded = network.features(images), backbone(same)(images)
    assert folded.shape == (4, FEATURES)
    assert expected.std() > 0.05
    torch.testing.assert_close(folded, expected, atol=1e-4, rtol=1e-4)


def test_the_feature_network_is_frozen_and_loaded_once():
    network = backbone()
    assert backbone() is network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
