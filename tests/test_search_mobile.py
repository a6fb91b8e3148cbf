"""Searches among networks that begin pretrained: resolution, start, training, and what is kept."""

import math
from dataclasses import replace

import numpy as np
import page_outlook
import pytest
import torch

from metad2a import suggest
from metad2a.datasets import batches
from metad2a.errors import BudgetError, InputError
from metad2a.spaces import SPACES
from metad2a.training.device import plan
from search import data, refine, refining, search
from search.engine.budget import Budget
from search.engine.method import PRETRAINED, Training
from search.engine.run import Run
from search.methods.random import RandomSearch
from search.methods.sandwich import Sandwich
from search.methods.spos import Spos
from search.searching import Search
from search.subspace.resolution import suggested
from search.subspace.subspace import Subspace

SPACE = SPACES.get("efficientnet_lite")
SIDE = 32
QUICK = {"sandwich.population": 4, "sandwich.generations": 1}


def coloured(count=60, side=24, seed=0):
    """Return images of three colours: uint8 (n, side, side, 3), int (n,)."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 3
    images = rng.integers(0, 150, (count, side, side, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] += 100
    return images, labels


def begun(method, max_macs=None, **training):
    """Return a run of a method at its first step, with its data."""
    from metad2a.datasets import load_dataset
    from search.data import search_task

    chain = SPACE.chain(SIDE)
    data = search_task(load_dataset(*coloured()), SIDE, 0, pretrained=True)
    subspace = Subspace(chain, data.classes, None, max_macs)
    run = Run(chain, data, subspace, Budget(images=960), plan("cpu"), {}, 0, lambda: False)
    run.begin_phase(replace(method.training, **training))
    method.begin(run)
    return run


def test_images_are_given_as_the_networks_learnt_them():
    run = begun(Spos())
    assert run.train_x.shape[1:] == (3, SIDE, SIDE)
    every = torch.arange(len(run.train_x))
    assert torch.allclose(run.train_x[every], run.data.train_x.float() / 127.5 - 1, atol=1e-6)


def test_what_memory_should_not_hold_is_searched_from_a_file(monkeypatch):
    def found():
        return search(coloured(), "efficientnet_lite", images=64, resolution=SIDE, options=QUICK)

    held = found()
    monkeypatch.setattr(data, "RESIDENT_BYTES", 0)
    filed, taken = [], batches.Batches._write
    monkeypatch.setattr(
        batches.Batches, "_write", lambda self: filed.append(len(self)) or taken(self)
    )
    again = found()
    assert len(filed) == 3  # what trains, what chooses, what is reported on
    assert again.architecture == held.architecture
    assert again.accuracy == held.accuracy


def test_classifiers_begin_in_closed_form_for_every_number_of_stages():
    run = begun(Spos())
    supernet = run.supernet
    largest = Sandwich()
    largest.begin(run)
    run.network.eval()
    with torch.no_grad():
        ends = list(
            supernet.ends(
                run.valid_x[torch.arange(len(run.valid_x))], supernet.every_end(largest.largest)
            )
        )
        assert len(ends) == 5
        for features, _, classifier in ends:
            right = classifier(features).argmax(1) == run.valid_y
            assert float(right.float().mean()) > 0.8


def test_pretrained_weights_learn_by_the_recipe_of_train():
    run = begun(Spos(), cycles=2)
    run.network  # noqa: B018  (made at its first use, with its optimiser)
    assert isinstance(run.optimiser, torch.optim.AdamW)
    assert (run.batch_size(), run.training.clip) == (PRETRAINED.batch, PRETRAINED.clip)
    rates = []
    for fraction in (0.0, 0.05, 0.1, 0.3, 0.499, 0.6, 1.0):
        run.fraction = fraction
        rates.append(run.rate / PRETRAINED.rate)
    assert rates[:3] == pytest.approx([0.02, 0.5, 1.0])  # the rise is a fifth of a cycle
    assert rates[3] == pytest.approx(0.5)
    assert rates[4] < 1e-4
    assert rates[5:] == pytest.approx([1.0, 0.0])
    run.fraction = 0.1
    unit = run.supernet.edges(0)[0].project.weight
    before, sums = unit.detach().clone(), unit.detach().mean((1, 2, 3))
    run.train_weights(run.batch(), [_path(run)])
    assert not torch.equal(unit, before)
    assert torch.allclose(unit.detach().mean((1, 2, 3)), sums, atol=1e-6)
    shares = {group["share"] for group in run.optimiser.param_groups}
    assert 1.0 in shares
    assert math.sqrt(16 / 144) in shares  # a projection from 144 channels


def _path(run):
    from metad2a.spaces.supernets.gates import Gates

    return Gates.path(run.subspace.best(np.zeros(run.subspace.mask.shape))[0], 9)


def test_a_step_of_the_sandwich_has_both_bounds_and_two_between(monkeypatch):
    seen = []
    monkeypatch.setattr(
        Run, "train_weights", lambda run, batch, choices: seen.append(choices) or 0.0
    )
    method = Sandwich()
    run = begun(method)
    method.step(run)
    (choices,) = seen
    paths = [tuple(int(op) for op in choice.active.argmax(1)) for choice in choices]
    costs = [run.space.cost(path, 3).macs for path in paths]
    assert len(paths) == 4
    assert costs[0] == run.space.cost(run.space.of(SPACE.whole(7, SIDE)), 3).macs == max(costs)
    assert costs[1] == run.space.smallest(3).macs == min(costs)
    limited = Sandwich()
    limit = 3 * run.space.smallest(3).macs
    begun(limited, max_macs=limit)
    assert run.space.smallest(3).macs < run.space.cost(limited.largest, 3).macs <= limit


def test_what_comes_out_learns_and_is_the_network_that_was_judged():
    found = Search(
        coloured(), SPACE.name, "sandwich", images=384, options=QUICK, resolution=SIDE
    ).conduct()
    result = found.result()
    assert result.accuracy > 0.8  # of six images
    assert result.macro == {}
    assert SPACE.resolution(SPACE.parse(result.architecture)) == SIDE
    x, y = found.run.data.reported()
    with torch.no_grad():
        right = (result.network(x.float() / 255).argmax(1) == y).float().mean()
    assert float(right) == pytest.approx(result.accuracy)
    fresh = SPACE.build(SPACE.parse(result.architecture), 3, pretrained=True).state_dict()
    kept = result.network.network.state_dict()
    assert fresh.keys() == kept.keys()
    assert not torch.equal(fresh["stem.conv.weight"], kept["stem.conv.weight"])
    losses = [point["loss"] for point in result.history if "loss" in point]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_networks_trained_alone_begin_pretrained():
    method = RandomSearch(trainings=2)
    run = begun(method)
    run.fraction = 0.0
    method.step(run)
    assert method.present.accuracy(run, math.inf) > 0.9


def test_the_resolution_is_what_the_landmarks_expect_most_of(monkeypatch):
    from metad2a.datasets import load_dataset

    page_outlook.put_in_place(monkeypatch.setattr)
    dataset = load_dataset(*coloured())
    # The outlook of these tests finds larger pictures better up to 96 px, and then the same.
    assert suggested(dataset, SPACE, 600.0, plan("cpu")) == (96, True)
    least = SPACE.chain(64).smallest(3).macs
    side, _ = suggested(dataset, SPACE, 600.0, plan("cpu"), max_macs=2 * least)
    assert side < 96
    with pytest.raises(BudgetError, match="smallest network of the space"):
        suggested(dataset, SPACE, 600.0, plan("cpu"), max_macs=10)


def test_without_a_time_it_is_what_the_images_have():
    from metad2a.datasets import load_dataset

    for side, wanted in ((24, 32), (70, 64), (200, 96)):
        dataset = load_dataset(*coloured(6, side))
        assert suggested(dataset, SPACE, None, plan("cpu")) == (wanted, False)
    with pytest.raises(InputError, match="resolution=33 is no resolution"):
        Search(coloured(), SPACE.name, "spos", images=16, resolution=33).conduct()


def test_courses_of_papers_keep_their_cycles_and_lose_their_rates():
    changed = Training(batch=96, lr=0.0375, cycles=3, span=0.7, weight_decay=3e-4).of_pretrained()
    assert (changed.cycles, changed.span) == (3, 0.7)
    assert (changed.lr, changed.batch, changed.recipe) == (PRETRAINED.rate, 16, PRETRAINED)


@pytest.mark.parametrize("space", ["efficientnet_lite", "mobilenetv3"])
def test_refine_by_a_search_trains_the_winner_on_from_its_kept_weights(space, monkeypatch):
    page_outlook.put_in_place(monkeypatch.setattr)
    seen = []
    trained_one = refining.trained_one

    def watched(*arguments):
        seen.append(arguments)
        return trained_one(*arguments)

    monkeypatch.setattr("search.refining.trained_one", watched)
    suggestions = suggest(coloured(), k=2, max_macs=12_000_000, space=space)
    refined = refine(suggestions, "sandwich", minutes=5, images=128, options=QUICK)
    assert refined.search.method == "sandwich"
    own = SPACES.get(space)
    side = own.resolution(own.parse(suggestions[0].architecture))
    assert own.resolution(own.parse(refined.search.architecture)) == side
    if refined.network.architecture == refined.search.architecture:
        start = seen[0][-1]
        assert start.config["classes"] == 3
        assert "found by sandwich" in refined.reason
    assert refined.accuracy > 60
    cost = own.cost(own.parse(refined.network.architecture), 3)
    assert cost.macs <= 12_000_000
    assert (refined.network.params, refined.network.macs) == (cost.params, cost.macs)


def test_a_training_begins_with_the_weights_that_it_is_given(monkeypatch):
    from metad2a import train

    page_outlook.put_in_place(monkeypatch.setattr)
    architecture = SPACE.whole(3, SIDE)
    start = SPACE.build(architecture, 3, pretrained=True)
    with torch.no_grad():
        start.stages[2][0].project.conv.weight.mul_(0.5)
    trained = train(
        coloured(),
        minutes=5,
        network=SPACE.format(architecture),
        should_stop=lambda: True,
        start=start,
    )
    kept = trained.module.stages[2][0].project.conv.weight
    given = start.stages[2][0].project.conv.weight
    other = SPACE.build(architecture, 3, pretrained=True).stages[2][0].project.conv.weight
    assert (kept - given).abs().mean() < 0.2 * (kept - other).abs().mean()


def test_limits_hold_at_the_resolution_that_is_searched():
    limit = 3 * SPACE.chain(SIDE).smallest(3).macs
    result = search(
        coloured(), SPACE.name, images=128, options=QUICK, resolution=SIDE, max_macs=limit
    )
    assert result.method == "sandwich"
    for name in result.scores:
        assert SPACE.cost(SPACE.parse(name), 3).macs <= limit
