"""Training of one network: steps, stopping and going on, sides, time, what comes out."""

import dataclasses
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from training_outlook import Expects

from metad2a.datasets import load_dataset
from metad2a.datasets.batches import Batches
from metad2a.errors import ArtifactError, BudgetError, InputError
from metad2a.model import landmarks
from metad2a.protocol import FineTune, fine_tune, parse_fine_tune
from metad2a.spaces import SPACES
from metad2a.training import plan, resume
from metad2a.training.device import plan as device_plan
from metad2a.training.evaluate import confused, evaluate
from metad2a.training.loop import Normalisation, Training, closed_form, recalibrate
from metad2a.training.sides import split
from metad2a.training.train import train

SPACE = SPACES.get("efficientnet_lite")
SMALL = SPACE.parse("r32-s3-d11-e66-k5")
RECIPE = FineTune(rate=2e-3, epochs=2, batch=16)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    pictures = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)
    return load_dataset((pictures[:300], labels[:300]))


@pytest.fixture(scope="module")
def looked(digits):
    return landmarks.described(digits, np.arange(60))


@pytest.fixture
def short(looked, monkeypatch):
    """Make trainings end after two epochs, long before their time, and look at images once."""
    monkeypatch.setattr(landmarks, "described", lambda *_, **__: looked)
    monkeypatch.setattr(plan, "EPOCHS", (0.5, 2.0))
    monkeypatch.setattr(plan, "pace", lambda *_: 3e9)
    monkeypatch.setattr(plan, "LEARNT", (32, 3))


@pytest.fixture(scope="module")
def batches(digits):
    return Batches(digits, np.arange(240), 32)


@pytest.fixture(scope="module")
def few(digits):
    """Epochs of five steps."""
    return Batches(digits, np.arange(80), 32)


def training(batches, recipe=RECIPE, steps=6, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the new classifier
        network = SPACE.build(SMALL, 10, pretrained=True)
    return Training(network, batches, recipe, steps, device_plan("cpu"), Normalisation(), **more)


def weights(made):
    return {name: t.clone() for name, t in made.averaged.state_dict().items()}


def test_the_same_seed_gives_the_same_network_and_another_seed_another(batches):
    found = []
    for seed in (0, 0, 1):
        torch.rand(3)  # whatever happened to the global generator
        made = training(batches, seed=seed)
        for _ in range(3):
            made.step()
        found.append(weights(made)["stages.0.0.project.conv.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("frozen", [0, 2])
def test_a_stopped_training_goes_on_bit_by_bit(few, tmp_path, optimiser, frozen):
    recipe = dataclasses.replace(RECIPE, optimiser=optimiser, frozen_stages=frozen, rate=1e-3)
    through = training(few, recipe, steps=7)
    for _ in range(7):
        through.step()
    stopped = training(few, recipe, steps=7)
    for _ in range(3):  # in the middle of an epoch of 5 steps
        stopped.step()
    resume.save(tmp_path / "state", stopped.state(), {"of": "a test"})
    state, facts = resume.load(tmp_path / "state")
    assert facts == {"of": "a test"}
    gone_on = training(few, recipe, steps=1)
    gone_on.load(state)
    while gone_on.done < gone_on.steps:
        gone_on.step()
    assert gone_on.done == 7
    for name, tensor in weights(through).items():
        assert torch.equal(tensor, weights(gone_on)[name]), name


def test_a_damaged_state_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no stopped training"):
        resume.load(tmp_path / "state")
    (tmp_path / "state").write_bytes(b"no tensors")
    with pytest.raises(ArtifactError, match="cannot be read"):
        resume.load(tmp_path / "state")


def test_streamed_images_train_as_resident_ones(digits, few):
    streamed = Batches(digits, np.arange(80), 32, resident_bytes=1)
    assert few.resident and not streamed.resident
    first, second = training(few), training(streamed)
    for _ in range(7):  # over the end of an epoch
        assert first.step() == pytest.approx(second.step(), rel=1e-5)


def test_a_training_learns_and_keeps_what_is_frozen(digits, batches):
    recipe = dataclasses.replace(RECIPE, rate=4e-3, frozen_stages=1)
    made = training(batches, recipe, steps=45)
    before = {name: t.clone() for name, t in made.network.state_dict().items()}
    closed_form(made.network, batches, made.place, made.normal)
    for _ in range(45):
        made.step()
    after = made.averaged.state_dict()
    for name, tensor in before.items():
        if name.startswith(("stem", "stages.0")) or "running" in name:
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(
        before["stages.2.0.project.conv.weight"], after["stages.2.0.project.conv.weight"]
    )
    held = Batches(digits, np.arange(240, 300), 32)
    assert evaluate(made.averaged, held, made.place, made.normal).accuracy > 70


def test_moving_statistics_follow_the_images(batches):
    made = training(batches, dataclasses.replace(RECIPE, batch_norm="moving"))
    before = made.network.stem.norm.running_mean.clone()
    made.step()
    assert not torch.equal(before, made.network.stem.norm.running_mean)
    recalibrate(made.network, batches, made.place, made.normal)
    x = made.normal(batches.take(torch.arange(64)))
    with torch.no_grad():
        mean = made.network.stem.conv(torch.nn.functional.pad(x, (0, 1, 0, 1))).mean((0, 2, 3))
    assert torch.allclose(mean, made.network.stem.norm.running_mean, atol=0.5)


def test_the_rate_rises_and_falls(batches):
    made = training(batches, steps=100)
    rates = []
    for done in range(100):
        made.done = done
        rates.append(made.rate())
    assert np.argmax(rates) == 20
    assert max(rates) == pytest.approx(2e-3)
    assert rates[-1] < 2e-5


def test_a_batch_that_does_not_fit_goes_through_in_parts(batches, monkeypatch):
    whole = training(batches, dataclasses.replace(RECIPE, rate=1e-4))
    parts = training(batches, dataclasses.replace(RECIPE, rate=1e-4))
    real = Training._logits

    def small(self, x, begun):
        if self is parts and len(x) > 4:
            raise torch.OutOfMemoryError
        return real(self, x, begun)

    monkeypatch.setattr(Training, "_logits", small)
    with pytest.warns(UserWarning, match=r"goes through in (2|4) parts"):
        assert parts.step() == pytest.approx(whole.step(), rel=1e-5)
    assert parts.parts == 4


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        import numpy as np
        import torch
        from metad2a.datasets import load_dataset
        from metad2a.datasets.batches import Batches
        from metad2a.protocol import FineTune
        from metad2a.spaces import SPACES
        from metad2a.training import distributed
        from metad2a.training.device import plan
        from metad2a.training.loop import Normalisation, Training

        device = distributed.begin("cpu")
        space = SPACES.get("efficientnet_lite")
        rng = np.random.default_rng(0)
        data = load_dataset((rng.integers(0, 255, (40, 32, 32, 3), dtype=np.uint8),
                             np.arange(40) % 4))
        network = space.build(space.parse("r32-s3-d11-e66-k5"), 4, pretrained=True)
        with torch.no_grad():
            network.classifier.weight.fill_(0.01)
        made = Training(network, Batches(data, np.arange(40), 32), FineTune(rate=1e-4, batch=10),
                        4, plan(device), Normalisation())
        for _ in range(4):
            made.step()
        told = distributed.agreed(distributed.rank())
        if distributed.rank() == 0:
            norm = float(made.averaged.stages[2][0].project.conv.weight.double().norm())
            print(distributed.world(), told, norm)
        distributed.end()
        """)
    )
    found = []
    for command in (
        [sys.executable, str(script)],
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--master-port",
            "29617",
            str(script),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert [one[0] for one in found] == ["1", "2"]
    assert float(found[0][2]) == pytest.approx(float(found[1][2]), rel=1e-6)


def test_sides_share_no_image_and_keep_the_own_test_side(digits):
    sides = split(digits, 0)
    parts = [set(sides.train), set(sides.choice), set(sides.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 300
    assert not sides.own_test
    assert all(np.bincount(digits.labels[sides.test], minlength=10) >= 1)
    own = load_dataset((digits_images(digits), digits.labels))
    own.split = (np.arange(300) % 4 == 0).astype(np.int8)
    kept = split(own, 0)
    assert kept.own_test
    assert set(kept.test) == set(np.flatnonzero(own.split))
    own.split = (digits.labels == 3).astype(np.int8)  # a test side of one class says nothing
    assert not split(own, 0).own_test


def digits_images(digits):
    return np.stack([digits.image(i) for i in range(300)])


def test_the_test_side_lends_to_a_class_of_one_training_image():
    data = load_dataset((np.zeros((9, 8, 8, 3), np.uint8), [0] * 6 + [1] * 3))
    data.split = np.array([0, 0, 0, 0, 1, 1, 0, 1, 1], dtype=np.int8)
    sides = split(data, 0)
    learnt = np.concatenate([sides.train, sides.choice])
    assert np.bincount(data.labels[learnt]).tolist() == [4, 2]
    assert np.bincount(data.labels[sides.test]).tolist() == [2, 1]


def test_balanced_accuracy_counts_classes_alike():
    found = confused(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]), 3)
    assert found.accuracy == 75
    assert found.balanced_accuracy == 50
    assert found.confusion.tolist() == [[3, 0, 0], [1, 0, 0], [0, 0, 0]]


def hooked(network, resolution):
    """Return parameters and multiply-adds as they are counted while the network runs."""
    macs = 0

    def count(module, inputs, output):
        nonlocal macs
        if isinstance(module, torch.nn.Conv2d):
            macs += output.numel() * module.weight[0].numel()
        elif isinstance(module, torch.nn.Linear):
            macs += module.weight.numel()

    handles = [m.register_forward_hook(count) for m in network.modules()]
    with torch.no_grad():
        network(torch.zeros(1, 3, resolution, resolution))
    for handle in handles:
        handle.remove()
    return sum(p.numel() for p in network.parameters()), macs


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n == "darts" else ()) for n in SPACES.names()],
)
def test_what_is_shown_is_what_is_trained(name, digits, short):
    space = SPACES.get(name)
    small = space.pool(8, np.random.default_rng(0))
    small.sort(key=lambda one: space.cost(one, 10).macs)
    text = space.format(small[0])
    trained = train(digits, minutes=10, network=text, space=name, outlook=Expects(rate=0.0))
    assert trained.network.architecture == text
    cost = space.cost(space.parse(text), 10)
    assert (trained.network.params, trained.network.macs) == (cost.params, cost.macs)
    assert hooked(trained.module, trained.network.resolution) == (cost.params, cost.macs)


def test_train_reports_what_was_done(digits, short):
    told = []
    trained = train(digits, minutes=10, outlook=Expects(), progress=told.append)
    assert trained.accuracy > 80
    assert trained.network.resolution == 32
    assert trained.confusion.sum() == trained.evaluation.images
    answer = json.loads(json.dumps(trained.to_dict(["a"])))
    assert set(answer["plan"]) >= {"rate", "frozen_stages", "batch_norm", "epochs"}
    assert set(answer) >= {
        "network",
        "accuracy",
        "balanced_accuracy",
        "predicted",
        "interval",
        "images",
        "epochs",
        "seconds",
        "files",
    }
    assert answer["predicted"] == 90
    assert trained.images + 1 < 300
    assert {one.phase for one in told} >= {"reading images", "training", "judging"}
    assert all(0 <= one.fraction <= 1 for one in told)


def test_the_frozen_network_wins_where_it_is_better(digits, short):
    trained = train(digits, minutes=10, outlook=Expects(rate=0.0))
    assert trained.recipe.rate == 0
    assert trained.epochs == 0


def test_a_stopped_training_is_judged_and_goes_on(digits, tmp_path, short):
    place = tmp_path / "state"
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        return asked > 4

    first = train(digits, minutes=10, outlook=Expects(), should_stop=stop, checkpoint=place)
    assert first.partial
    assert place.exists()
    planned = resume.load(place)[0]["steps"]
    again = train(digits, minutes=10, checkpoint=place, resume=True)
    assert not again.partial
    assert not place.exists()
    assert again.network == first.network
    assert again.epochs == pytest.approx(planned / (again.images // again.recipe.batch), rel=0.01)
    assert again.epochs > first.epochs


def test_only_the_same_dataset_is_gone_on_with(digits, tmp_path, short):
    place = tmp_path / "state"
    calls = iter([False] * 4 + [True] * 1000)
    train(digits, minutes=10, outlook=Expects(), should_stop=lambda: next(calls), checkpoint=place)
    fewer = load_dataset((digits_images(digits)[:290], digits.labels[:290]))
    with pytest.raises(InputError, match="another dataset or seed"):
        train(fewer, checkpoint=place, resume=True)
    with pytest.raises(InputError, match="needs checkpoint"):
        train(digits, resume=True)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), "ten", 1e9])
def test_impossible_minutes_are_refused(digits, minutes):
    with pytest.raises(InputError, match="minutes"):
        train(digits, minutes=minutes)


def test_limits_are_obeyed_or_refused(digits, short):
    trained = train(digits, minutes=10, max_params=60_000, outlook=Expects(rate=0.0))
    assert trained.network.params <= 60_000
    with pytest.raises(BudgetError, match="smallest network"):
        train(digits, max_params=100)
    with pytest.raises(BudgetError, match="max_macs"):
        train(digits, network=SPACE.format(SPACE.whole(7, 224)), max_macs=10**7)
    with pytest.raises(InputError):
        train(digits, network="no network")


def test_rare_classes_count_more_in_training(digits, short):
    labels = np.asarray(digits.labels)
    kept = np.concatenate([np.flatnonzero(labels == 0)[:4], np.flatnonzero(labels == 1)])
    thin = load_dataset((digits_images(digits)[kept], labels[kept]))
    trained = train(thin, minutes=10, outlook=Expects(rate=0.0))
    assert trained.classes == ("0", "1")
    assert trained.balanced_accuracy <= 100


def test_names_of_protocols_round_trip():
    made = fine_tune(2e-3, 8, frozen_stages=3, batch_norm="moving")
    assert made.name == "finetune-v1:r0.002:e8:f3:bmoving"
    assert parse_fine_tune(made.name) == made
    assert made.digest != fine_tune(2e-3, 8).digest
    for wrong in ("finetune-v1:x3", "standalone-v1", "finetune-v1", "finetune-v1:rfast:e1"):
        with pytest.raises(InputError, match="no protocol of fine-tuning"):
            parse_fine_tune(wrong)
