"""Augmentation of mini-batches: what is drawn, and that pixels land where they should."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metad2a.training import augment as module
from metad2a.training.augment import augment


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ramps(count: int, side: int) -> torch.Tensor:
    """Return images whose channels are each pixel's column, its row, and one, all above zero."""
    place = torch.arange(side) + 1.0
    image = torch.stack(
        [place.expand(side, side), place[:, None].expand(side, side), torch.ones(side, side)]
    )
    return image.expand(count, -1, -1, -1).contiguous()


def test_the_same_draws_give_the_same_images_and_others_others():
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first = augment(images, rng(), flip=True)
    assert first.shape == images.shape
    assert first.dtype == images.dtype
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, augment(images, rng(), flip=True))
    channels_last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(first, augment(channels_last, rng(), flip=True))
    assert not torch.equal(first, augment(images, rng(1), flip=True))


def test_every_image_goes_its_own_way():
    out = augment(ramps(8, 24), rng())
    assert len({tuple(one.flatten().tolist()) for one in out}) == 8


def test_the_window_is_as_small_as_zoom_says_and_leaves_the_image_little():
    side = 64
    out = augment(ramps(400, side), rng(), zoom=0.6)
    columns = out[:, 0, side // 2]
    inside = out[:, 2, side // 2] > 0.999
    # What one step in the output is in the input: the window's width as a share of the image's.
    inner = inside[:, 1:] & inside[:, :-1]
    steps = (columns[:, 1:] - columns[:, :-1])[inner]
    shrunk = 0.6 * np.exp(-module.ASPECT)
    assert shrunk - 1e-3 <= steps.min() < shrunk + 0.05
    assert 0.97 < steps.max() <= 1 + 1e-3
    outside = (out[:, 2] < 1e-6).float().mean((1, 2))
    assert 0 < outside.max() <= 2 * 2 * module.SHIFT / 0.6
    assert out.min() >= 0


def test_mirrored_only_where_told():
    side = 32

    def mirrored(flip: bool) -> float:
        row = augment(ramps(200, side), rng(), flip=flip)[:, 0, side // 2]
        return float((row[:, side // 2 + 4] < row[:, side // 2 - 4]).float().mean())

    assert mirrored(False) == 0
    assert 0.4 < mirrored(True) < 0.6
    upright = augment(ramps(200, side), rng(), flip=True)[:, 1, :, side // 2]
    assert (upright[:, side // 2 + 4] > upright[:, side // 2 - 4]).all()


def test_flipping_takes_no_other_draws():
    plain, turned = rng(), rng()
    images = ramps(3, 16)
    augment(images, plain, flip=False)
    augment(images, turned, flip=True)
    assert plain.random() == turned.random()


def test_it_is_the_affine_map_of_torch(monkeypatch):
    images = torch.randn(5, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    seen = {}
    sample = F.grid_sample

    def keep(x, grid, **kwargs):
        seen["grid"] = grid
        return sample(x, grid, **kwargs)

    monkeypatch.setattr(module.F, "grid_sample", keep)
    augment(images, rng(), flip=True)
    grid = seen["grid"]
    low, high = grid[:, 0, 0], grid[:, -1, -1]
    theta = torch.zeros(5, 2, 3)
    for axis in (0, 1):
        theta[:, axis, axis] = (high - low)[:, axis] / 2 * 20 / 19
        theta[:, axis, 2] = (high + low)[:, axis] / 2
    torch.testing.assert_close(grid, F.affine_grid(theta, [5, 3, 20, 20], align_corners=False))


def test_without_zoom_an_image_is_moved_at_most(monkeypatch):
    monkeypatch.setattr(module, "ASPECT", 0.0)
    monkeypatch.setattr(module, "SHIFT", 0.0)
    images = torch.randn(4, 3, 17, 17, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(augment(images, rng(), zoom=1.0), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [0, 1])
def test_few_images(count):
    assert augment(torch.ones(count, 3, 8, 8), rng()).shape == (count, 3, 8, 8)
