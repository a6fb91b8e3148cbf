"""The model that is shipped: all parts trained on everything, calibrated on what was left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from metad2a.model.generator_training import fit_generator
from metad2a.model.meta_training import (
    ACCURACY,
    Judgement,
    MetaData,
    calibrate,
    train_sides,
)
from metad2a.model.metad2a import MetaD2A, new_model
from metad2a.model.predictor import Predictor, prior_inputs

POOL = 8192
"""Architectures by which the generator learns, in a space that cannot be listed."""


def train(
    data: MetaData,
    predictor: Predictor,
    judgement: Judgement,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MetaD2A:
    """Train dataset sides and generator on all tasks.

    Args:
        data: everything to learn from.
        predictor: its priors are trained, by :func:`train_prior` on all families.
        judgement: of the same data; its residuals set the width of the intervals.
        seed: of everything.
        progress: told of generator steps done, of all.
    """
    train_sides(predictor, data, range(len(data.tasks)), seed)
    residual = data.trainings.value.numpy() - judgement.mean
    noise, factor = calibrate(residual, judgement.between)
    predictor.noise.fill_(noise)
    predictor.width_factor.fill_(factor)

    space = data.space
    listed = space.listed()
    cells = (
        space.as_array(space.pool(POOL, np.random.default_rng(seed))) if listed is None else listed
    )
    graphs, costs = prior_inputs(space, cells)
    torch.manual_seed(seed)
    model = new_model(space, ACCURACY, predictor)
    fit_generator(
        model.generator,
        predictor,
        [task.redraws[0] for task in data.tasks],
        cells,
        np.asarray(costs),
        predictor.prior(graphs, costs),
        seed,
        progress,
    )
    return model
