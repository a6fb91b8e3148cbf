"""Mobile spaces as a search sees them: a slot a block, costs that add up, one resolution."""

from itertools import pairwise

import numpy as np
import pytest

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from metad2a.spaces._chain import ABSENT

NAMES = ["efficientnet_lite", "mobilenetv3"]


@pytest.fixture(params=NAMES)
def chain(request):
    return SPACES.get(request.param).chain(64)


def drawn(chain, count, seed=0, allowed=None):
    rng = np.random.default_rng(seed)
    return [chain.sample(rng, allowed) for _ in range(count)]


def test_members_are_those_of_the_space_at_one_resolution(chain):
    for one in drawn(chain, 60):
        own = chain.member(one)
        assert chain.space.canonical(own) == own
        assert chain.space.resolution(own) == chain.resolution(one) == 64
        assert chain.of(own) == one
        assert chain.format(one) == chain.space.format(own)
        assert chain.parse(chain.format(one)) == chain.canonical(one) == one
        assert chain.is_connected(one)
    rng = np.random.default_rng(1)
    for _ in range(60):  # and the other way round
        own = chain.space.sample(rng)
        back = chain.member(chain.of(own))
        assert back[1:] == own[1:]


def test_costs_add_up_to_those_of_the_space(chain):
    for one in drawn(chain, 60):
        assert chain.cost(one, 7) == chain.space.cost(chain.member(one), 7)
    least = chain.smallest(7)
    costs = chain.costs(np.array(drawn(chain, 200)), 7)
    assert (costs >= (least.params, least.macs)).all()
    _, table = chain.cost_table(7, 64)
    cheapest = chain.discretise(-table[..., 1].astype(float))
    assert chain.cost(cheapest, 7).macs == least.macs


def test_every_number_of_stages_and_blocks_is_drawn(chain):
    lengths = {tuple(sum(one[slot] != ABSENT for slot in slots) for slots in chain.stages)
               for one in drawn(chain, 300)}  # fmt: skip
    depths = {sum(count > 0 for count in counts) + 1 for counts in lengths}
    assert depths == set(chain.space.depths)
    for number, stage in enumerate(chain.space.layout[1:]):
        assert {counts[number] for counts in lengths} - {0} == set(stage.blocks)


def test_what_is_forbidden_is_not_drawn(chain):
    rng = np.random.default_rng(0)
    allowed = chain.allowed()
    allowed[:, [op for op, name in enumerate(chain.operations) if name.endswith("_e6")]] = False
    for one in drawn(chain, 40, allowed=allowed):
        for other in (one, chain.mutate(one, rng, allowed)):
            assert allowed[np.arange(chain.slots), other].all()
            assert chain.is_connected(other)


def test_a_mutation_changes_one_block_and_what_hangs_on_it(chain):
    rng = np.random.default_rng(0)
    for one in drawn(chain, 100):
        other = chain.mutate(one, rng)
        assert other != one
        assert chain.is_connected(other)
        changed = [slot for slot in range(chain.slots) if one[slot] != other[slot]]
        # Only where a block goes does more than one slot change: all those behind it in its stage,
        # or in all stages from there on, are absent.
        assert len(changed) == 1 or other[changed[0]] == ABSENT
        assert all(other[slot] == ABSENT for slot in changed[1:])


def test_a_cross_of_two_members_is_one(chain):
    rng = np.random.default_rng(0)
    for first, second in pairwise(drawn(chain, 60)):
        child = chain.cross(first, second, rng)
        assert chain.is_connected(child)
        assert all(c in (ABSENT, a, b) for c, a, b in zip(child, first, second, strict=True))


def test_gaps_are_no_members(chain):
    one = list(max(drawn(chain, 50), key=lambda a: sum(op != ABSENT for op in a)))
    slots = max(chain.stages, key=lambda slots: sum(one[slot] != ABSENT for slot in slots))
    one[slots[0]] = ABSENT
    assert not chain.is_connected(tuple(one))
    repaired = chain.repaired(tuple(one))
    assert all(repaired[slot] == ABSENT for slot in slots)


def test_the_winner_has_the_greatest_sum_of_scores(chain):
    rng = np.random.default_rng(0)
    slots = np.arange(chain.slots)
    some = np.array(drawn(chain, 400))
    for _ in range(20):
        scores = rng.normal(size=(chain.slots, len(chain.operations)))
        found = np.array(chain.discretise(scores))
        assert chain.is_connected(tuple(found.tolist()))
        best = scores[slots, found].sum()
        assert best >= scores[slots, some].sum(1).max()
        for slot in slots:  # no change of one slot is better
            for operation in np.flatnonzero(chain.allowed()[slot]):
                other = found.copy()
                other[slot] = operation
                if chain.is_connected(tuple(other.tolist())):
                    assert scores[slots, other].sum() <= best + 1e-9
    with pytest.raises(InputError, match="holds no network"):
        chain.discretise(np.full((chain.slots, len(chain.operations)), -np.inf))


def test_a_resolution_that_the_space_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"resolution=50 is no resolution.*48, 64"):
        SPACES.get("mobilenetv3").chain(50)


def test_limits_leave_members_of_every_kind_that_obeys_them(chain):
    from search.subspace.subspace import Subspace

    least = chain.smallest(5)
    limited = Subspace(chain, 5, max_macs=2 * least.macs)
    rng = np.random.default_rng(0)
    found = {limited.sample(rng) for _ in range(40)}
    assert len(found) > 15
    assert all(chain.cost(one, 5).macs <= 2 * least.macs for one in found)
    for slot, operation in np.argwhere(limited.mask)[::7]:
        scores = np.zeros(limited.mask.shape)
        scores[slot, operation] = 1e9
        assert limited.best(scores)[0][slot] == operation
