"""Views of images, and the loss that tells them apart."""

import math

import numpy as np
import pytest
import torch

from search.methods import _contrastive as views
from search.methods._contrastive import info_nce, two_views


def images(count=8, side=8):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_views_come_in_pairs_that_differ_and_repeat_with_the_seed():
    x, black = images(), torch.tensor([-2.0, -1.5, -1.0])
    first, again = (two_views(x, black, np.random.default_rng(1)) for _ in range(2))
    other = two_views(x, black, np.random.default_rng(2))
    assert first.shape == (16, 3, 8, 8)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not any(torch.equal(a, b) for a, b in zip(first[:8], first[8:], strict=True))


def test_without_changes_of_colour_crops_show_what_the_image_shows(monkeypatch):
    for name in ("_JITTER", "_GRAY", "_BLUR"):
        monkeypatch.setattr(views, name, 0.0)
    ramp = torch.linspace(0, 1, 8).expand(4, 3, 8, 8)  # grows to the right
    seen = two_views(ramp, torch.zeros(3), np.random.default_rng(0))
    assert 0 <= seen.min() <= seen.max() <= 1
    slopes = seen[:, 0, 0, -1] - seen[:, 0, 0, 0]
    assert (slopes < 0).any()  # mirrored
    assert (slopes > 0).any()
    assert (slopes.abs() < 0.9).any()  # magnified
    torch.testing.assert_close(seen[:, :, 0], seen[:, :, -1])
    monkeypatch.setattr(views, "_AREA", (1.0, 1.0))
    monkeypatch.setattr(views, "_RATIO", (1.0, 1.0))
    monkeypatch.setattr(views, "_FLIP", 0.0)
    torch.testing.assert_close(
        two_views(images(), torch.zeros(3), np.random.default_rng(0)),
        images().repeat(2, 1, 1, 1),
        rtol=1e-5,
        atol=1e-5,
    )


def test_colours_change_as_they_would_in_pixels(monkeypatch):
    pixels = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    black = torch.full((3,), -2.0)  # mean 0.5 and deviation 0.25 in all channels
    monkeypatch.setattr(views, "_JITTER", 1.0)
    monkeypatch.setattr(views, "_GRAY", 0.0)
    monkeypatch.setattr(views, "_HUE", 0.0)
    draws = np.random.default_rng(5)
    seen = views._recolour((pixels - 0.5) / 0.25, black, np.random.default_rng(5))
    draws.random(50), draws.random(50)
    bright, contrast, colour = torch.from_numpy(draws.uniform(0.2, 1.8, (3, 50, 1, 1, 1))).float()
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    x = bright * pixels
    x = contrast * x + (1 - contrast) * (weights * x).sum(1, keepdim=True).mean((2, 3), True)
    x = colour * x + (1 - colour) * (weights * x).sum(1, keepdim=True)
    torch.testing.assert_close(seen * 0.25 + 0.5, x, rtol=1e-4, atol=1e-5)


def test_hue_keeps_luminance_and_gray_images_have_no_colour(monkeypatch):
    monkeypatch.setattr(views, "_GRAY", 1.0)
    gray = views._recolour(images(), torch.zeros(3), np.random.default_rng(0))
    torch.testing.assert_close(gray[:, 0], gray[:, 1])
    torch.testing.assert_close(gray[:, 0], gray[:, 2])
    turns = views._hue(np.array([0.0, 0.1, -0.2]))
    np.testing.assert_allclose(turns[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose([0.299, 0.587, 0.114] @ turns, [[0.299, 0.587, 0.114]] * 3)
    np.testing.assert_allclose(turns @ np.ones(3), 1.0, atol=0.02)  # gray stays gray


def test_a_blur_spreads_a_point_over_its_neighbours(monkeypatch):
    monkeypatch.setattr(views, "_BLUR", 1.0)
    point = torch.zeros(3, 3, 5, 5)
    point[:, :, 2, 2] = 1
    seen = views._blur(point, np.random.default_rng(0))
    torch.testing.assert_close(seen.sum((2, 3)), torch.ones(3, 3))
    assert (seen[:, :, 1:4, 1:4] > 0).all()
    assert (seen[:, :, 2, 2] > seen[:, :, 1, 2]).all()
    torch.testing.assert_close(
        views._blur(torch.ones(3, 3, 5, 5), np.random.default_rng(0)), torch.ones(3, 3, 5, 5)
    )


def test_info_nce_is_what_a_loop_over_all_pairs_gives():
    z = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)).double()
    total = 0.0
    for i in range(10):

        def cosine(j, i=i):
            return float(z[i] @ z[j] / (z[i].norm() * z[j].norm()))

        partner = (i + 5) % 10
        others = sum(math.exp(cosine(j) / 0.07) for j in range(10) if j != i)
        total -= math.log(math.exp(cosine(partner) / 0.07) / others)
    assert float(info_nce(z)) == pytest.approx(total / 10, rel=1e-9)
    assert float(info_nce(torch.eye(4).repeat(2, 1))) < 1e-4  # each finds its own other view
