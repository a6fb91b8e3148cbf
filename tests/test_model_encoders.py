"""The set encoder and the graph encoder: what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metad2a.model.backbone import FEATURES
from metad2a.model.description import STATISTICS, Description
from metad2a.model.graph_encoder import GraphEncoder
from metad2a.model.set_encoder import SetEncoder, SetInputs
from metad2a.spaces import SPACES

COMPONENTS = 12
SPACE = SPACES.get("nasbench201")


def drawn(sizes: list[int], seed: int) -> Description:
    """A description with ``sizes`` images of each class, features and statistics at random."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    features = torch.randn(len(labels), FEATURES, generator=random) * 2 + labels[:, None]
    return Description(features, labels, torch.randn(len(STATISTICS), generator=random) * 3 + 1)


def taken(description: Description, order: torch.Tensor) -> Description:
    return Description(
        description.features[order], description.labels[order], description.statistics
    )


@pytest.fixture(scope="module")
def some() -> list[Description]:
    """Ragged: from 2 to 6 classes, from 1 to 20 images a class."""
    return [
        drawn(sizes, seed)
        for seed, sizes in enumerate([[5, 5], [1, 1, 1], [20, 2, 7, 1], [3] * 6, [1, 12]])
    ]


@pytest.fixture(scope="module")
def inputs(some: list[Description]) -> SetInputs:
    inputs = SetInputs(COMPONENTS)
    inputs.fit(some)
    return inputs


@pytest.fixture(scope="module")
def encoder() -> SetEncoder:
    torch.manual_seed(0)
    return SetEncoder(COMPONENTS, 16, 10).eval()


def embedded(
    encoder: SetEncoder, inputs: SetInputs, descriptions: list[Description]
) -> torch.Tensor:
    with torch.no_grad():
        return encoder(inputs(descriptions))


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


# -- what goes into the set encoder ----------------------------------------------------------


def test_fit_standardises_features_and_statistics(some, inputs):
    rows = torch.cat([one.features for one in some])
    projected = (rows - inputs.mean) @ inputs.projection
    close(projected.mean(0), torch.zeros(COMPONENTS))
    torch.testing.assert_close(
        projected.T @ projected / len(rows), torch.eye(COMPONENTS), atol=1e-3, rtol=1e-3
    )
    scaled = (torch.stack([one.statistics for one in some]) - inputs.centre) / inputs.scale
    close(scaled.mean(0), torch.zeros(len(STATISTICS)))
    close(scaled.std(0), torch.ones(len(STATISTICS)))


def test_fewer_images_than_components_are_no_trouble():
    inputs = SetInputs(COMPONENTS)
    few = [drawn([2, 2], 0), drawn([1, 2], 1)]
    inputs.fit(few)
    batch = inputs(few)
    assert torch.isfinite(inputs.projection).all()
    assert torch.isfinite(batch.images).all()
    assert batch.images.abs().max() > 0.5


def test_a_batch_holds_every_image_once(some, inputs):
    batch = inputs(some)
    assert batch.images.shape == (5, 6, 20, COMPONENTS)
    for row, one in enumerate(some):
        sizes = torch.bincount(one.labels, minlength=6)
        assert torch.equal(batch.present[row].sum(1), sizes)
        for number, size in enumerate(sizes.tolist()):
            expected = (one.features[one.labels == number] - inputs.mean) @ inputs.projection
            close(batch.images[row, number, :size], expected.clamp(-5, 5))


def test_what_is_far_from_the_training_datasets_is_held(inputs):
    far = drawn([3, 3], 9)
    batch = inputs([Description(far.features * 1e4, far.labels, far.statistics * 1e6)])
    assert batch.images.abs().max() == 5
    assert batch.statistics.abs().max() == 3


# -- the set encoder -------------------------------------------------------------------------


def test_the_order_of_images_does_not_matter(some, inputs, encoder):
    random = torch.Generator().manual_seed(3)
    mixed = [taken(one, torch.randperm(len(one.labels), generator=random)) for one in some]
    close(embedded(encoder, inputs, mixed), embedded(encoder, inputs, some))


def test_the_order_of_classes_does_not_matter(some, inputs, encoder):
    turned = [
        Description(one.features, one.labels.max() - one.labels, one.statistics) for one in some
    ]
    close(embedded(encoder, inputs, turned), embedded(encoder, inputs, some))


def test_padding_does_not_matter(some, inputs, encoder):
    together = embedded(encoder, inputs, some)
    for row, one in enumerate(some):
        close(embedded(encoder, inputs, [one])[0], together[row])
    huge = drawn([30] * 9, 7)
    close(embedded(encoder, inputs, [*some, huge])[:-1], together)


def test_images_classes_and_statistics_do_matter(some, inputs, encoder):
    one = some[0]
    plain = embedded(encoder, inputs, [one])
    half = taken(one, torch.tensor([0, 1, 5, 6]))
    merged = Description(one.features, one.labels * 0, one.statistics)
    other = Description(one.features, one.labels, one.statistics + 1)
    for changed in (half, merged, other):
        assert (embedded(encoder, inputs, [changed]) - plain).abs().max() > 1e-3


def test_gradients_stay_finite_beside_empty_classes(some, inputs):
    torch.manual_seed(0)
    encoder = SetEncoder(COMPONENTS, 16, 10)
    encoder(inputs(some)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


# -- the graph encoder -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph_encoder() -> GraphEncoder:
    torch.manual_seed(0)
    return GraphEncoder(len(SPACE.node_features), 8, 4).eval()


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    return np.random.default_rng(0).integers(5, size=(20, 6))


@torch.no_grad()
def test_a_graph_alone_and_in_a_batch(graph_encoder, cells):
    together = graph_encoder(SPACE.graphs(cells))
    assert together.shape == (20, graph_encoder.width)
    for row, cell in enumerate(cells):
        close(graph_encoder(SPACE.graphs(cell[None]))[0], together[row])
    close(graph_encoder(SPACE.graphs(cells[::-1].copy())), together.flip(0))


@torch.no_grad()
def test_isomorphic_cells_are_one_graph_once_canonical(graph_encoder):
    classes: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for cell in SPACE.enumerate():
        classes.setdefault(SPACE.canonical(cell), []).append(cell)
    first, second, *_ = max(classes.values(), key=len)
    assert first != second
    codes = graph_encoder(SPACE.graphs(np.array([SPACE.canonical(first), SPACE.canonical(second)])))
    assert torch.equal(codes[0], codes[1])


@torch.no_grad()
def test_every_slot_and_operation_tells(graph_encoder):
    base = np.full(6, 2)
    changed = [base]
    for slot in range(6):
        for operation in (0, 1, 3, 4):
            one = base.copy()
            one[slot] = operation
            changed.append(one)
    codes = graph_encoder(SPACE.graphs(np.array(changed)))
    gaps = torch.cdist(codes, codes) + torch.eye(len(codes)) * 9
    # Slots 0-1 and 4-5 mirror each other only as wholes, so no two changes look alike.
    assert gaps.min() > 1e-4
