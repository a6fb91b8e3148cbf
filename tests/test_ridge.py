"""The closed-form head: equal to refits, honest about random labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metad2a.model import ridge
from metad2a.model.ridge import PENALTIES, RidgeHead, fit_ridge


def blobs(n: int, f: int, classes: int, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian classes whose centres lie ``apart`` from the middle."""
    made = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = apart * torch.randn(classes, f, generator=made)
    noise = torch.randn(n, f, generator=made) * torch.logspace(0, -1, f)
    return noise + centres[labels] + 3, labels


def solve(
    features: Tensor, labels: Tensor, classes: int, weights: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """Solve the weighted problem by its normal equations; ``penalty`` is absolute."""
    x, w = features.double(), weights.double() / weights.double().sum()
    y = torch.nn.functional.one_hot(labels, classes).double()
    mean, prior = w @ x, w @ y
    inner = (x - mean).T @ (w[:, None] * (x - mean)) + penalty * torch.eye(x.shape[1])
    slope = torch.linalg.solve(inner, (x - mean).T @ (w[:, None] * (y - prior)))
    return slope, prior - mean @ slope


def unit(features: Tensor, weights: Tensor) -> float:
    """Return the weighted mean squared length of centred rows."""
    x, w = features.double(), weights.double() / weights.double().sum()
    return float(w @ ((x - w @ x) ** 2).sum(1))


@pytest.mark.parametrize(("n", "f"), [(24, 5), (12, 30), (9, 9)])
@pytest.mark.parametrize("weighted", [False, True])
def test_leaving_one_out_equals_explicit_refits(n, f, weighted):
    classes, relative = 3, 0.1
    features, labels = blobs(n, f, classes, 0.5)
    labels[: n // 3] = 0
    weights = 0.2 + torch.rand(n, generator=torch.Generator().manual_seed(1))
    weights = weights if weighted else torch.ones(n)
    head = fit_ridge(
        features, labels, classes, weights if weighted else None, [relative], scales=[1.0]
    )
    penalty = relative * unit(features, weights) / n
    slope, bias = solve(features, labels, classes, weights, penalty)
    assert torch.allclose(head.weight.double(), slope.T, atol=1e-6)
    assert torch.allclose(head.bias.double(), bias, atol=1e-6)
    targets = torch.nn.functional.one_hot(labels, classes).double()
    prior = weights.double() @ targets / weights.sum()
    for i in range(n):
        kept = torch.arange(n) != i
        w = weights[kept].double()
        # The penalty stays what it was in absolute terms; the sum of weights is smaller.
        own = penalty * float(weights.sum() / w.sum())
        slope, bias = solve(features[kept], labels[kept], classes, w, own)
        said = features[i].double() @ slope + bias + prior - w @ targets[kept] / w.sum()
        assert torch.allclose(head.left_out[i].double(), said, atol=1e-6)


@pytest.mark.parametrize(("n", "f", "classes"), [(400, 20, 4), (300, 900, 2), (250, 400, 25)])
def test_random_labels_come_out_at_chance(n, f, classes):
    found = []
    for seed in range(8):
        features, labels = blobs(n, f, classes, 0, seed)
        found.append(fit_ridge(features, labels, classes).accuracy)
    deviation = np.sqrt((1 - 1 / classes) / classes / n / 8)
    assert abs(np.mean(found) - 1 / classes) < 4 * deviation


def test_features_that_say_nothing_give_the_largest_class():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    head = fit_ridge(torch.ones(10, 4), labels, 3)
    assert head.accuracy == pytest.approx(0.6)
    assert torch.isfinite(head.weight).all()
    assert torch.allclose(head.left_out.softmax(1)[0], head.left_out.softmax(1)[9])


def test_left_out_agrees_with_images_kept_aside():
    """Small penalties fit the images exactly once features outnumber them, and are not chosen."""
    features, labels = blobs(1200, 400, 5, 0.12)
    head = fit_ridge(features[:200], labels[:200], 5)
    logits = features[200:] @ head.weight.T + head.bias
    aside = float((logits.argmax(1) == labels[200:]).double().mean())
    assert head.accuracy == pytest.approx(aside, abs=0.1)
    assert aside > 0.5
    loss = float(torch.nn.functional.cross_entropy(logits, labels[200:]))
    assert head.cross_entropy == pytest.approx(loss, abs=0.15)
    assert head.penalty > PENALTIES[0]


def test_scale_makes_probabilities_of_what_is_certain():
    features, labels = blobs(90, 10, 3, 5.0)
    head = fit_ridge(features, labels, 3)
    assert head.scale > 4
    assert head.cross_entropy < 0.1
    assert head.accuracy == 1


def test_weights_make_classes_count_alike():
    features, _ = blobs(220, 1, 2, 0, seed=3)
    labels = (torch.arange(220) >= 200).long()
    features = features + labels[:, None]
    recall = []
    for weights in (None, 1 / torch.bincount(labels)[labels].float()):
        head = fit_ridge(features, labels, 2, weights)
        recall.append(float((head.left_out.argmax(1) == labels)[200:].double().mean()))
    assert recall[0] < 0.3
    assert recall[1] > 0.5


def test_single_precision_and_both_forms_agree(monkeypatch):
    features, labels = blobs(60, 40, 4, 0.4)

    def fit() -> RidgeHead:
        return fit_ridge(features, labels, 4, penalties=[0.1], scales=[4.0])

    double = fit()
    monkeypatch.setattr(ridge, "_DOUBLE", 10)
    monkeypatch.setattr(ridge, "_ROWS", 7)
    single = fit()
    assert torch.allclose(double.left_out, single.left_out, atol=1e-3)
    assert torch.allclose(double.weight, single.weight, atol=1e-3)
    # As many copies of a feature, each the smaller: another form of the same problem.
    copies = fit_ridge(features.repeat(1, 3), labels, 4, penalties=[0.1], scales=[4.0])
    assert torch.allclose(double.left_out, copies.left_out, atol=1e-3)


def test_one_image_cannot_be_left_out():
    with pytest.raises(ValueError, match="2 or more"):
        fit_ridge(torch.ones(1, 3), torch.zeros(1, dtype=torch.long), 2)
