"""What the tests of search share: a tiny task that a network can learn."""

import numpy as np
import torch

from metad2a.datasets import load_dataset
from search.data import TaskData, TaskImages


def task(side: int = 8, count: int = 40, classes: int = 3, seed: int = 0) -> TaskData:
    """Return random images whose brightness tells their class."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, 2 * count))
    images = torch.from_numpy(rng.integers(0, 200, (2 * count, 3, side, side), dtype=np.uint8))
    images += (labels * 25).to(torch.uint8)[:, None, None, None]
    return TaskData(images[:count], labels[:count], images[count:], labels[count:], classes)


def images_of(data: TaskData) -> TaskImages:
    """Return the images of a task as labellers are given them."""
    pixels = torch.cat([data.train_x, data.test_x]).permute(0, 2, 3, 1).numpy()
    labels = torch.cat([data.train_y, data.test_y]).numpy()
    train, test = np.split(np.arange(len(labels)), [len(data.train_y)])
    side = pixels.shape[1]
    return TaskImages(load_dataset(pixels, labels), train, test, np.arange(data.classes), side)
