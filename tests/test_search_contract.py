"""What every method and every wrapper must do, in every space: tests over the registries."""

import copy
import dataclasses
import math
import time

import numpy as np
import pytest
import torch
from searching import task

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.engine.budget import Budget
from search.engine.checkpoint import FORMAT
from search.engine.composition import compose
from search.engine.loop import Progress
from search.engine.method import METHODS, WRAPPERS
from search.searching import Conducted, Search

IMAGES = 160
SMALL = {"channels": 2, "cells": 1}
OPTIONS = {
    "spos": {"spos.population": 4, "spos.generations": 2},
    "fairnas": {"fairnas.population": 4, "fairnas.generations": 2},
    "random": {"random.trainings": 3},
    "sandwich": {"sandwich.population": 4, "sandwich.generations": 1},
}
"""Sizes at which a search takes a second."""
SIDE = 32
"""Pixels of the images of mobile spaces, whose steps have all 16 that train, or half of them twice."""
MOBILE_IMAGES = {"fairnas": 272, "sandwich": 128}
"""Two steps of nine paths, two of four; of other methods 32."""
QUICK = [("efficientnet_lite", method) for method in ("sandwich", "spos", "darts", "random")]
"""Beside ``nasbench201``, whose searches take the least time."""


def unfit(name: str, space: str) -> bool:
    """Whether a part of a composition refuses a space."""
    composed = compose(name)
    return any(part.unfit(SPACES.get(space)) for part in (composed.method, *composed.wrappers))


PAIRS = [(m, s) for m in METHODS.names() for s in SPACES.names() if not unfit(m, s)]
REFUSED = [
    (name, space)
    for name in (*METHODS.names(), *(f"darts+{wrapper}" for wrapper in WRAPPERS.names()))
    for space in SPACES.names()
    if unfit(name, space)
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (method, space),
            marks=() if space == "nasbench201" or (space, method) in QUICK else pytest.mark.slow,
        )
        for method, space in PAIRS
    ],
    ids="-".join,
)
def pair(request):
    """The names of a method and a space."""
    return request.param


def budget(method: str, space: str) -> int:
    """Return the images of a search of a few steps."""
    if SPACES.get(space).pretrained:
        return MOBILE_IMAGES.get(method, 32)
    return 4 * IMAGES if method == "fairnas" else IMAGES  # all operations in a step


def short(method: str, space: str, **arguments):
    options = {k: v for name in method.split("+") for k, v in OPTIONS.get(name, {}).items()}
    mobile = SPACES.get(space).pretrained
    return Search(
        arguments.pop("data", None) or (task(SIDE, 16) if mobile else task()),
        space,
        method,
        **{
            "images": budget(method, space),
            "options": options,
            **({} if mobile else SMALL),
            **arguments,
        },
    ).conduct()


@pytest.mark.parametrize(("name", "space"), REFUSED)
def test_what_does_not_work_in_a_space_is_refused_before_any_work(name, space):
    reason = f"{name.split('+')[-1]!r} does not work in the space {space!r}: .{{40}}"
    with pytest.raises(InputError, match=reason):
        Search(None, space, name).conduct()  # no dataset is looked at


def test_one_stage_and_all_one_shot_methods_work_where_weights_are_pretrained():
    working = {method for method, space in PAIRS if space == "efficientnet_lite"}
    assert {"sandwich", "spos", "fairnas", "proxylessnas", "random", "darts"} <= working
    assert ("sandwich", "nasbench201") in REFUSED


@pytest.mark.parametrize("given", [{"channels": 4}, {"cells": 1}])
def test_sizes_that_a_space_does_not_have_are_refused(given):
    with pytest.raises(InputError, match="size of supernets of cells"):
        Search(None, "mobilenetv3", "spos", **given).conduct()
    with pytest.raises(InputError, match="resolution=64 is a decision of spaces such as"):
        Search(None, "darts", "spos", resolution=64).conduct()
    with pytest.raises(InputError, match=r"Images of 40 px fit no network.*32, 48, 64"):
        Search(task(40), "mobilenetv3", "spos").conduct()


@dataclasses.dataclass(frozen=True)
class Whole:
    """A search that nothing happened to."""

    found: Conducted
    told: list[Progress]
    weights: dict[str, torch.Tensor]
    """Of the supernet, as they were at its end; none where the method has no supernet."""


@pytest.fixture(scope="module")
def whole(pair):
    told = []
    found = short(*pair, progress=told.append)
    return Whole(found, told, copy.deepcopy(weights(found)))


def weights(search):
    return search.run.network.state_dict() if search.run.has_supernet else {}


def test_a_search_returns_a_member_and_says_what_it_did(pair, whole):
    found, told = whole.found, whole.told
    result, chosen, searched = found.result(), SPACES.get(pair[1]), found.run.space
    winner = found.ranking[0][0]
    assert chosen.parse(result.architecture) == found.member(winner)
    assert searched.is_connected(winner)
    assert found.run.subspace.contains(winner)
    assert next(iter(result.scores)) == result.architecture
    assert result.complete
    assert budget(*pair) <= result.images <= 3 * budget(*pair)
    assert result.cost == chosen.cost(found.member(winner), 3)
    assert (result.width, result.depth) == searched.width_depth(winner)
    assert result.accuracy is None or 0 <= result.accuracy <= 1
    assert any("loss" in point for point in result.history)
    assert 0 <= told[0].fraction <= told[-1].fraction == 1
    assert told[-1].images == result.images
    images = torch.zeros(2, 3, SIDE, SIDE)
    assert result.build(**({} if chosen.pretrained else SMALL))(images).shape == (2, 3)
    if chosen.pretrained:  # weights are kept
        assert result.network(images).shape == (2, 3)
        assert chosen.resolution(found.member(winner)) == SIDE
        assert result.accuracy is not None
    scores = found.composed.method.score(found.run, [winner])
    assert scores.shape == (1,)
    assert not math.isnan(scores[0])


def test_limits_hold(pair):
    method, space = pair
    chosen = SPACES.get(space)
    chosen = chosen.chain(SIDE) if chosen.pretrained else chosen
    least = chosen.smallest(3)
    limits = {"max_params": round(least.params * 1.15), "max_macs": round(least.macs * 1.2)}
    found = short(method, space, images=IMAGES // 4, **limits)
    for architecture, _ in found.ranking:
        cost = chosen.cost(architecture, 3)
        assert cost.params <= limits["max_params"]
        assert cost.macs <= limits["max_macs"]


def test_the_seed_decides_to_the_last_bit_also_after_a_break(pair, whole, tmp_path):
    """The same search again, cancelled on its way: it has an answer, and goes on."""
    method, space = pair
    # Two steps are all where each spends many images.
    many = method in ("fairnas", "darts2") or SPACES.get(space).pretrained
    steps = 1 if many else 2
    asked = iter(range(steps))
    stopped = short(
        method, space, checkpoint=tmp_path / "run", should_stop=lambda: next(asked, None) is None
    )
    assert not stopped.complete
    assert stopped.run.steps == steps
    assert stopped.run.space.is_connected(stopped.ranking[0][0])
    resumed, straight = short(method, space, checkpoint=tmp_path / "run"), whole.found
    assert resumed.run.steps == straight.run.steps
    assert resumed.ranking == straight.ranking
    assert [h for h in resumed.run.history if "note" in h] == [
        h for h in straight.run.history if "note" in h
    ]
    after = weights(resumed)
    assert all(torch.equal(after[name], value) for name, value in whole.weights.items())


@pytest.mark.parametrize("name", [method for method, space in PAIRS if space == "darts"])
def test_quarter_of_a_minute_is_enough_for_an_answer(name):
    """Here a hundredth of one, in the larger space: even if no step fits, there is a member."""
    found = Search(task(), "darts", name, minutes=0.002, **SMALL).conduct()
    assert found.complete
    assert SPACES.get("darts").is_connected(found.ranking[0][0])


@pytest.mark.parametrize(
    ("method", "space"),
    [
        *((method, space) for method, space in PAIRS if space == "nasbench201"),
        *((method, "darts") for method in ("darts", "spos", "pdarts", "random")),
        ("spos+curriculum", "nasbench201"),
        ("darts+pwsnas", "nasbench201"),
    ],
)
def test_a_budget_of_fifteen_seconds_is_kept_within_a_tenth(method, space, monkeypatch):
    """By a clock that goes on with the images that pass: 30 ms each, and 90 where they train."""
    start = time.monotonic()
    now, forward = [start], torch.nn.Linear.forward

    def slow(self, x):
        now[0] += 0.03 * len(x) * (3 if torch.is_grad_enabled() else 1)
        return forward(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Budget, "elapsed", property(lambda budget: now[0] - start))
    found = Search(task(count=200), space, method, minutes=0.25, **SMALL).conduct()
    assert 13.5 <= found.result().seconds <= 16.5


@pytest.mark.parametrize("wrapper", WRAPPERS.names())
def test_every_wrapper_composes_with_some_method_and_refuses_others_with_a_reason(wrapper):
    accepted, reasons = [], []
    for method in METHODS.names():
        try:
            compose(f"{method}+{wrapper}")
        except InputError as error:
            reasons.append(str(error))
        else:
            accepted.append(method)
    assert accepted
    assert reasons or wrapper == "fisher"  # which narrows the space of any method
    assert all(f"cannot be combined with {wrapper!r}: " in reason for reason in reasons)


@pytest.mark.parametrize("name", ["spos+curriculum", "darts+lpt"])
def test_wrappers_work_around_methods_of_mobile_spaces(name):
    found = short(name, "efficientnet_lite")
    assert found.complete
    assert found.run.subspace.contains(found.ranking[0][0])
    assert found.result().network is not None


def test_plugins_are_made_anew_for_each_run():
    assert compose("darts").method is not compose("darts").method


def test_a_batch_too_large_for_the_memory_is_halved_and_the_run_goes_on(monkeypatch):
    from search.engine.run import Run

    train = Run.train_weights

    def cramped(run, batch, choices):
        if len(batch.y) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(run, batch, choices)

    monkeypatch.setattr(Run, "train_weights", cramped)
    found = short("spos", "nasbench201")
    assert found.run.batch_limit == 10
    notes = found.result().notes
    assert [n for n in notes if n.startswith("out of memory: the batch was halved to 10 images")]
    monkeypatch.setattr(
        Run,
        "train_weights",
        lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")),
    )
    with pytest.raises(InputError, match="smaller supernet"):
        short("spos", "nasbench201")


def test_a_loss_that_is_no_number_leaves_the_step_out_and_halves_the_rate(monkeypatch):
    from search.engine.run import Run

    backward, calls = Run.backward, []

    def sometimes(run, batch, choices):
        loss = backward(run, batch, choices)
        calls.append(loss)
        return math.nan if len(calls) in (2, 3) else loss

    monkeypatch.setattr(Run, "backward", sometimes)
    found = short("spos", "nasbench201")
    assert found.run.rate_scale == 0.25
    assert sum("the loss became nan" in note for note in found.result().notes) == 2
    assert all(torch.isfinite(p).all() for p in found.run.network.parameters())
    monkeypatch.setattr(Run, "backward", lambda *_: math.nan)
    with pytest.raises(InputError, match="5 steps in a row"):
        short("spos", "nasbench201", images=10**6)


@pytest.mark.parametrize("method", ["darts", "darts2", "dropnas", "proxylessnas"])
def test_five_bad_steps_end_a_search_however_many_losses_a_step_has(method, monkeypatch):
    from search.engine.run import Run

    loss, advance, begun = Run.loss, Run.advance, []
    monkeypatch.setattr(Run, "loss", lambda *given: math.nan * loss(*given))
    monkeypatch.setattr(Run, "advance", lambda *given: begun.append(given) or advance(*given))
    with pytest.raises(InputError, match="5 steps in a row"):
        short(method, "nasbench201", images=10**6)
    assert len(begun) == 5


def test_a_checkpoint_of_another_run_or_version_is_refused_and_left_alone(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from metad2a.errors import ArtifactError

    file = tmp_path / "run"
    short("darts", "nasbench201", checkpoint=file)
    kept = file.read_bytes()
    for changed, named in (
        ({"seed": 3}, "seed=0 there, 3 here"),
        ({"data": task(seed=1)}, "data="),
        ({"images": 10}, "images="),
        ({"max_params": 10**6}, "max_params="),
    ):
        with pytest.raises(InputError, match=named):
            short("darts", "nasbench201", checkpoint=file, **changed)
    with pytest.raises(InputError, match="method='darts' there, 'spos' here"):
        short("spos", "nasbench201", checkpoint=file)
    assert file.read_bytes() == kept
    with safe_open(file, "pt") as opened:
        note = opened.metadata()["metad2a-checkpoint"]
    save_file(
        {"x": torch.zeros(1)},
        file,
        {"metad2a-checkpoint": note.replace(f'"format": {FORMAT}', '"format": 99')},
    )
    with pytest.raises(ArtifactError, match="format 99"):
        short("darts", "nasbench201", checkpoint=file)
    file.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(ArtifactError, match="Delete it"):
        short("darts", "nasbench201", checkpoint=file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "dropnass"}, "Did you mean 'dropnas'"),
        ({"method": "darts+curiculum"}, "Did you mean 'curriculum'"),
        ({"method": "curriculum"}, "exactly one method"),
        ({"method": "darts+spos"}, "exactly one method"),
        ({"method": "darts+curriculum+curriculum"}, "twice"),
        ({"options": {"darts.alpha_lrr": 1}}, "Did you mean 'alpha_lr'"),
        ({"options": {"alpha_lr": 1}}, "PART.OPTION"),
        ({"options": {"darts.alpha_lr": "fast"}}, "must be a number"),
        ({"space": "dart"}, "Did you mean 'darts'"),
        ({"device": "tpu"}, "not supported|no device"),
        ({"seed": -1}, "seed=-1"),
        ({"minutes": 0, "images": None}, "minutes=0"),
        ({"minutes": math.nan, "images": None}, "minutes=nan"),
        ({"images": -5}, "-5"),
        ({"channels": -1}, "channels=-1"),
        ({"channels": 4096, "cells": 200}, "parameters.*Give fewer channels or cells"),
        (
            {"channels": 256, "cells": 5, "images": None, "minutes": 1e-4},
            "first step, and the whole search has 0.006 s.*or more minutes",
        ),
        ({"max_params": 10}, "smallest network"),
    ],
)
def test_wrong_arguments_are_refused_with_the_remedy(arguments, message):
    from metad2a.errors import MetaD2AError

    with pytest.raises(MetaD2AError, match=message):
        Search(
            task(),
            **{"space": "nasbench201", "method": "darts", "images": 64, **SMALL, **arguments},
        ).conduct()


def test_a_history_has_about_fifty_points_whatever_the_budget():
    found = short("spos", "nasbench201", images=100 * 40)
    points = [h for h in found.run.history if "loss" in h]
    assert 40 <= len(points) <= 60
    assert dataclasses.asdict  # the result is a dataclass whose JSON form is complete
    assert found.result().to_dict()["history"] == [dict(h) for h in found.run.history]


def test_data_that_cannot_be_searched_is_refused():
    rng = np.random.default_rng(0)
    images = rng.random((40, 8, 8, 3), dtype=np.float32)
    with pytest.raises(InputError, match="too small to split"):
        Search((images, [0] * 39 + [1]), images=64).conduct()
    with pytest.raises(InputError, match="1 class"):
        Search((images, [0] * 40), images=64).conduct()
    images[3, 2, 1, 0] = np.nan
    with pytest.raises(InputError, match=r"(?i)nan|not finite"):
        Search((images, [0, 1] * 20), images=64).conduct()
