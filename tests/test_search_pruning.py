"""Progressive pruning: what is frozen, what is exported, and under which limits."""

import numpy as np
import pytest
import torch

from metad2a.spaces import SPACES
from search.methods._pruning import Pruning
from search.subspace.subspace import Subspace

NASBENCH, DARTS = SPACES.get("nasbench201"), SPACES.get("darts")


def even_logs(space, seed=0):
    shape = (space.slots, len(space.operations))
    raw = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.01, shape))
    return raw.log_softmax(1).numpy()


@pytest.mark.parametrize("name", ["skip_connect", "max_pool_3x3"])
def test_an_exported_cell_has_no_more_than_two_skips_and_two_pools(name):
    subspace, logs, op = Subspace(DARTS, 3), even_logs(DARTS), DARTS.operations.index(name)
    logs[:, op] += np.linspace(1, 2, 28)
    pruning = Pruning(DARTS)
    while not pruning.complete:
        pruning.freeze(logs, subspace)
    before = pruning.best(logs, subspace)
    pruning.limit(logs, subspace)
    after = pruning.best(logs, subspace)
    assert pruning.frozen == [op] * 28
    for cell in (range(14), range(14, 28)):
        kept = [slot for slot in cell if after[slot] == op]
        replaced = [slot for slot in cell if before[slot] == op and after[slot] != op]
        assert len(kept) == 2
        assert len(replaced) == 6
        assert logs[kept, op].min() > logs[replaced, op].max()  # the weakest go
        assert [slot for slot in cell if after[slot]] == sorted(kept + replaced)  # same edges
        for slot in replaced:
            assert after[slot] == 4 + logs[slot, 4:].argmax()


def test_nasbench201_has_no_limit_on_skips():
    subspace, logs = Subspace(NASBENCH, 3), even_logs(NASBENCH)
    logs[:, 1] += 1
    pruning = Pruning(NASBENCH)
    while not pruning.complete:
        pruning.freeze(logs, subspace)
    pruning.limit(logs, subspace)
    assert pruning.best(logs, subspace) == (1,) * 6


@pytest.mark.parametrize("space", [NASBENCH, DARTS], ids=["nasbench201", "darts"])
def test_what_is_frozen_and_exported_obeys_the_limits(space):
    least = space.smallest(3)
    subspace = Subspace(space, 3, max_params=round(1.2 * least.params))
    logs = even_logs(space)
    logs[:, -2] += 1  # an operation with parameters
    logs[:, 1] -= 1
    pruning = Pruning(space)
    while not pruning.complete:
        pruning.freeze(logs, subspace)
    winner = pruning.best(logs, subspace)
    pruning.limit(logs, subspace)
    assert subspace.contains(winner)
    assert subspace.contains(pruning.best(logs, subspace))
    # What was frozen is what is kept, wherever it is used at all.
    assert all(op in (0, frozen) for op, frozen in zip(winner, pruning.frozen, strict=True))
