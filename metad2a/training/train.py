"""``train``: labelled images in, one trained network out, within the minutes that there are."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a._torch_state import usual
from metad2a.datasets import load_dataset
from metad2a.errors import ArtifactError, BudgetError, InputError
from metad2a.protocol import FINE_TUNE, RECIPES, SCRATCH, FineTune
from metad2a.registry import suggest_name
from metad2a.spaces import SPACES, Architecture, SearchSpace
from metad2a.training.trained import Trained, TrainedNetwork

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from metad2a.datasets import DatasetReport, ImageDataset
    from metad2a.datasets.batches import Batches
    from metad2a.model.landmarks import Landmarks
    from metad2a.training.evaluate import Evaluation
    from metad2a.training.loop import Normalisation, Training
    from metad2a.training.plan import Outlook, Plan, Planner

MARGIN = 0.03
"""Share of the time that is left over, for what takes longer than foreseen."""
SAVED_EVERY = 30.0
"""Seconds between states that are saved."""
CHECKS = 4
"""How often a training looks at the images that choices are made by."""
CLOSED = 0.5
"""How far the last classifier lies from the trained one (0) to that in closed form (1); see
docs/training.md. A few dozen choice images cannot tell which is better."""
_TIMED = (6, 2.0)
"""Steps, or seconds of steps, after which it is decided how many there will be."""
_FORESEEN = 50
"""Steps after which it is said how long a recipe of given epochs will take."""
_SIZES = 3
"""Resolutions of which images are kept in memory at a time."""


@dataclass(frozen=True)
class TrainProgress:
    """Where a training is."""

    phase: str
    """Reading, looking, training, judging."""
    fraction: float
    """Of the time, 0..1."""
    remaining: float
    """Seconds."""
    epoch: float = 0.0
    epochs: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    """Percent on the images that choices are made by, when last looked at."""
    images_per_second: float | None = None
    """Where a recipe says how long it takes, and not the user: how fast it goes, once that is known."""
    curve: tuple[tuple[float, float], ...] = ()


@dataclass
class _Attempt:
    """What came of a plan."""

    plan: Plan
    module: Any
    right: int
    """Of the choice images: answers of the network, or of a closed form fitted without them."""
    judged: int
    """Choice images."""
    curve: list[tuple[float, float]]
    epochs: float
    images: int
    normal: Normalisation
    partial: bool = False
    exits: list[tuple[Architecture, float]] = field(default_factory=list)
    """Frozen networks that were tried, with the accuracy of each, percent, leaving one image out."""

    @property
    def accuracy(self) -> float:
        """Percent on the choice side."""
        return 100 * self.right / self.judged if self.judged else math.nan

    def gain(self, other: _Attempt) -> float:
        """Return above 0 where it is better than another attempt, below 0 where it is worse.

        A few dozen choice images are off by as much as the model is, so that both are heard: the
        difference on the choice side and the expected one, each by the inverse of its variance.
        """
        from metad2a.training.plan import UNSURE

        expected = 0.0
        if self.plan.expected is not None and other.plan.expected is not None:
            expected = (self.plan.expected - other.plan.expected) / UNSURE**2
        if not self.judged:
            return expected
        share = (self.right + other.right + 1) / (2 * self.judged + 2)
        # Two networks err half on the same images: the variance is that of one, not of two.
        variance = 100**2 * share * (1 - share) / self.judged
        return (self.accuracy - other.accuracy) / variance + expected


@usual()
def train(
    source: Any,
    *,
    minutes: float = 10.0,
    network: str | None = None,
    space: str | None = None,
    max_params: int | None = None,
    max_macs: int | None = None,
    recipe: str | None = None,
    seed: int = 0,
    device: str = "auto",
    outlook: Outlook | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    start: nn.Module | None = None,
) -> Trained:
    """Train one network on labelled images.

    Without a given network, resolution, depth and recipe are chosen together for the time there
    is. The test side (the dataset's own, or every fifth image of a class) judges once, at the end.

    Args:
        source: anything that :func:`metad2a.load_dataset` takes, or a suggestion, or the list of
            suggestions, of which the first is taken.
        minutes: for everything from reading to judging.
        network: a space's string form; None: chosen.
        space: where the network is from; None: that of its string, or ``"efficientnet_lite"``.
        max_params: most trainable parameters of a chosen network.
        max_macs: most multiply-adds of one image.
        recipe: a recipe of the literature for the given network, such as ``"darts600"``: all
            images but the test side train, and it takes as long as it takes.
        seed: of sides, order and augmentation; with the same steps the same seed gives the same
            network on a CPU.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:0"``.
        outlook: what is expected of networks; None: the model inside the package.
        progress: told now and then where the training is.
        should_stop: asked before each step; once it says so, what there is is judged.
        checkpoint: file in which the state is kept; it goes once the training is done.
        resume: go on from the state in ``checkpoint``.
        start: the given ``network`` with weights to begin with, in the place of the space's own.

    Raises:
        InputError: the dataset or an argument cannot be used.
        BudgetError: a limit is below the smallest network.
        ArtifactError: there is nothing to resume, or the state is another dataset's.
    """
    if not (isinstance(minutes, (int, float)) and 0 < minutes < 10**5):
        raise InputError(f"minutes={minutes!r} must be a number above 0 (and below 100,000).")
    begun = time.perf_counter()
    source, network, space = _resolved(source, network, space)
    chosen = SPACES.get(space)
    if recipe is not None:
        _check_recipe(chosen, network, recipe)
    dataset = load_dataset(source)
    chosen.check_limits(len(dataset.classes), max_params, max_macs)
    session = _Session(
        dataset,
        chosen,
        math.inf if recipe is not None else 60.0 * minutes,
        begun,
        seed,
        device,
        progress or (lambda _: None),
        should_stop or (lambda: False),
        None if checkpoint is None else Path(checkpoint),
        None if start is None else start.state_dict(),
    )
    if resume:
        return session.resumed()
    architectures = session.admitted(network, max_params, max_macs)
    if recipe is not None:
        return session.by_recipe(recipe, architectures[0])
    return session.run(architectures, outlook)


def _check_recipe(space: SearchSpace, network: str | None, recipe: str) -> None:
    """Refuse a recipe that is unknown or not for the network.

    Raises:
        InputError: it is.
    """
    if recipe not in RECIPES:
        raise InputError(f"Unknown recipe {recipe!r}.{suggest_name(recipe, sorted(RECIPES))}")
    if recipe not in space.recipes:
        whose = ", ".join(one.name for one in SPACES if recipe in one.recipes)
        raise InputError(
            f"The recipe {recipe!r} is for networks of {whose}, not of {space.name!r}. Leave it out, or "
            "give such a network."
        )
    if network is None:
        raise InputError(
            f"The recipe {recipe!r} trains a network that is given. Give network=, such as what a search found."
        )


def _resolved(source: Any, network: str | None, space: str | None) -> tuple[Any, str | None, str]:
    """Return dataset, architecture and space of a suggestion, or what was given."""
    from metad2a.candidate import Candidate
    from metad2a.result import Suggestions
    from metad2a.suggestion import SPACE

    if isinstance(source, Suggestions):
        if not len(source):
            raise InputError("There is no suggestion to train: the list is empty.")
        return source.dataset, network or source[0].architecture, source[0].space
    if isinstance(source, Candidate):
        if source.dataset is None:
            raise InputError(
                "This suggestion does not know its images; train the dataset itself, with "
                f"network={source.architecture!r}."
            )
        return source.dataset, source.architecture, source.space
    if space is None and network is not None:
        space = next((one.name for one in SPACES if _reads(one, network)), None)
    return source, network, space or SPACE


def _reads(space: SearchSpace, network: str) -> bool:
    """Whether a string is of a network of the space."""
    try:
        space.parse(network)
    except InputError:
        return False
    return True


class _Session:
    """One call of :func:`train`."""

    def __init__(
        self,
        dataset: ImageDataset,
        space: SearchSpace,
        seconds: float,
        begun: float,
        seed: int,
        device: str,
        progress: Callable[[TrainProgress], None],
        should_stop: Callable[[], bool],
        checkpoint: Path | None,
        start: Mapping[str, Tensor] | None,
    ) -> None:
        from metad2a.training import distributed
        from metad2a.training.device import plan as device_plan
        from metad2a.training.sides import split

        self.dataset, self.space, self.seed = dataset, space, seed
        self.begun, self.deadline = begun, begun + seconds * (1 - MARGIN)
        self.seconds, self.start = seconds, start
        self.place = device_plan(distributed.begin(device))
        self.tell, self.should_stop, self.checkpoint = progress, should_stop, checkpoint
        self.sides = split(dataset, seed)
        self.classes = len(dataset.classes)
        self.known = np.sort(np.concatenate([self.sides.train, self.sides.choice]))
        self._batches: dict[tuple[str, int], Batches] = {}
        self.flip = False
        self.report: DatasetReport | None = None
        self.planner: Planner | None = None
        """By which attempts are chosen; None where they are given."""
        self.recipe: str | None = None
        """Name of the recipe that says how long it takes; None: the user does."""

    # -- time and images ---------------------------------------------------------------------

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def told(self, phase: str, training: Training | None = None, **more: Any) -> None:
        """Tell where it is."""
        spent = time.perf_counter() - self.begun
        if training is not None:
            more |= {
                "epoch": training.epochs,
                "epochs": training.steps / training.steps_per_epoch,
            }
        remaining = max(0.0, self.seconds - spent)
        fraction = min(1.0, spent / self.seconds) if remaining < math.inf else 0.0
        self.tell(TrainProgress(phase, fraction, remaining, **more))

    def batches(self, side: str, resolution: int) -> Batches:
        """Return the images of a side: ``train``, ``choice``, ``known`` (both) or ``test``."""
        from metad2a.datasets.batches import Batches

        key = (side, resolution)
        if key not in self._batches:
            for old in [k for k in self._batches if k[1] != resolution][: -_SIZES or None]:
                del self._batches[old]
            self.told("reading images")
            indices = self.known if side == "known" else getattr(self.sides, side)
            self._batches[key] = Batches(
                self.dataset, indices, resolution, device=self.place.device
            )
        return self._batches[key]

    def class_weights(self, labels: Tensor) -> Tensor:
        """Return float32 (classes,): rare classes count more, by the root of how rare they are."""
        import torch

        counts = torch.bincount(labels, minlength=self.classes).float()
        weights = (counts.clamp_min(1).mean() / counts.clamp_min(1)).sqrt()
        return weights / weights.mean()

    # -- choosing ----------------------------------------------------------------------------

    def admitted(
        self, network: str | None, max_params: int | None, max_macs: int | None
    ) -> list[Architecture]:
        """Return the networks that may be trained: the one that was named, or what obeys limits."""
        from metad2a.training.plan import admissible

        space = self.space
        if network is not None:
            architecture = space.canonical(space.parse(network))
            cost = space.cost(architecture, self.classes)
            for name, limit, is_ in (
                ("max_params", max_params, cost.params),
                ("max_macs", max_macs, cost.macs),
            ):
                if limit is not None and is_ > limit:
                    raise BudgetError(
                        f"{network!r} has {is_:,}, more than {name}={limit:,}. Raise the limit, or "
                        "leave the network to be chosen."
                    )
            return [architecture]
        return admissible(space, self.classes, self.seed, max_params, max_macs, cut=True, drawn=16)

    def run(self, architectures: Sequence[Architecture], outlook: Outlook | None) -> Trained:
        """Look at the dataset, choose, train, judge."""
        from metad2a.training import distributed

        plans = distributed.agreed(
            self.plans(architectures, outlook)
            if self.space.pretrained
            else [self.scratch(architectures[0])]
        )
        return self.carried_out(plans, None)

    def scratch(self, architecture: Architecture) -> Plan:
        """Return the one way of a space without pretrained weights."""
        from metad2a.training.plan import Plan

        return Plan(architecture, SCRATCH.recipe, None, "trained from random weights")

    def looked(self) -> Landmarks:
        """Look at the images: what they ask for, what was read of them, whether mirroring harms."""
        from metad2a.model import landmarks

        self.told("looking at the images")
        test = self.sides.test if self.sides.own_test else None
        marks, self.report = landmarks.described(self.dataset, self.known, self.seed, test)
        self.flip = not marks.flips_harm
        return marks

    def plans(self, architectures: Sequence[Architecture], outlook: Outlook | None) -> list[Plan]:
        """Measure what the dataset asks for and what this machine does, and choose."""
        from metad2a.training.plan import Planner, Time, pace

        marks = self.looked()
        clock = Time(
            self.left(),
            pace(self.space, self.place),
            len(self.sides.train),
            len(self.sides.test) + len(self.sides.choice),
        )
        if outlook is None:
            from metad2a.model.performance import packaged

            outlook = packaged()
        self.planner = Planner(self.space, outlook, marks, clock, self.classes, architectures)
        return self.planner.first()

    # -- attempts ----------------------------------------------------------------------------

    def carried_out(
        self, plans: Sequence[Plan], state: tuple[dict[str, Any], dict[str, Any]] | None
    ) -> Trained:
        """Make the attempts, keep the one that the choice side finds best, judge it."""
        attempts: list[_Attempt] = []
        plans = list(plans)
        for number, plan in enumerate(plans):
            if attempts and self.should_stop():
                break
            if plan.recipe.rate == 0:
                attempts.append(self.frozen(plan))
                plans[number] = attempts[-1].plan
                if state is None:
                    plans[number + 1 :] = self.next(attempts[-1])
            else:
                attempts.append(self.tuned(plan, plans, state))
        best = attempts[0]
        for one in attempts[1:]:
            if one.gain(best) >= 0:  # Of equals the later one, which was expected to be better.
                best = one
        return self.finished(best, attempts)

    def next(self, frozen: _Attempt) -> list[Plan]:
        """Return what is worth the rest of the time, now that frozen networks are known."""
        from metad2a.training import distributed

        if self.planner is None:
            return []
        networks, accuracies = zip(*frozen.exits, strict=True)
        found = self.planner.then(self.left(), networks, accuracies, frozen.images)
        found = distributed.agreed(found)
        return [] if found is None else [found]

    def frozen(self, plan: Plan) -> _Attempt:
        """Fit classifiers in closed form; what they say without an image judges that image.

        One pass gives the features of a network and of all its first stages; the best is kept.
        """
        from metad2a.model.ridge import fit_ridge
        from metad2a.training.loop import Normalisation, features_on_the_way, set_classifier

        normal = Normalisation()
        known = self.batches("known", self.space.resolution(plan.architecture))
        exits = (
            [plan.architecture] if self.planner is None else self.planner.exits(plan.architecture)
        )
        modules = [self.placed(one) for one in exits]
        self.told("fitting the classifier")
        labels = known.labels.cpu()
        weights = self.image_weights(labels)
        start = time.perf_counter()
        features = features_on_the_way(modules, known, self.place, normal)
        # Whatever comes after it, there must be time to judge it.
        each = (time.perf_counter() - start) / len(known)
        self.deadline -= each * len(self.sides.test)
        heads = [fit_ridge(one, labels, self.classes, weights) for one in features]
        right = [(head.left_out.argmax(1) == labels).numpy() for head in heads]
        accuracies = [100 * float(one.mean()) for one in right]
        at = int(np.argmax(accuracies))
        set_classifier(modules[at], heads[at])
        if self.planner is not None:
            pair = (exits[at], plan.recipe)
            (plan,) = self.planner.expected([pair], plan.reason, self.planner.outlook)
            plan = self.planner.told(plan, self.planner.outlook)
        chosen = right[at][np.isin(known.kept, self.sides.choice)]
        attempt = _Attempt(
            plan, modules[at], int(chosen.sum()), len(chosen), [], 0.0, len(known), normal
        )
        attempt.exits = list(zip(exits, accuracies, strict=True))
        attempt.curve.append((0.0, attempt.accuracy))
        return attempt

    def image_weights(self, labels: Tensor) -> Tensor | None:
        """Return float (n,), what an image counts in a closed form; None where classes are even."""
        weights = self.class_weights(labels)
        if float(weights.max() / weights.min()) < 1.5:
            return None
        return weights[labels]

    def between(
        self, trained: nn.Linear, features: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> nn.Linear:
        """Return a classifier between the trained one and that in closed form, on the CPU."""
        import torch

        from metad2a.model.ridge import fit_ridge

        known = torch.cat(list(labels))
        head = fit_ridge(torch.cat(list(features)), known, self.classes, self.image_weights(known))
        found = copy.deepcopy(trained)
        with torch.no_grad():
            found.weight.lerp_(head.weight, CLOSED)
            found.bias.lerp_(head.bias, CLOSED)
        return found

    def placed(self, architecture: Architecture, **more: Any) -> Any:
        """Return the network with its weights on the device; ``more``: as its space builds it."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            module = self.space.build(
                architecture, self.classes, pretrained=self.space.pretrained, **more
            )
        if self.start is not None:
            module.load_state_dict(self.start)
        return self.place.place(module)

    def tuned(
        self,
        plan: Plan,
        plans: Sequence[Plan],
        state: tuple[dict[str, Any], dict[str, Any]] | None,
    ) -> _Attempt:
        """Train for the time that is left, and keep the best state."""
        from metad2a.training import distributed
        from metad2a.training.loop import Normalisation, Training, closed_form

        resolution = self.space.resolution(plan.architecture)
        train = self.batches("train", resolution)
        choice = self.batches("choice", resolution) if len(self.sides.choice) else None
        normal = Normalisation() if self.space.pretrained else Normalisation.of(train)
        module = self.placed(plan.architecture)
        training_begun = time.perf_counter()
        if plan.recipe.closed_form and state is None:
            self.told("fitting the classifier")
            weights = self.image_weights(train.labels.cpu())
            closed_form(module, train, self.place, normal, weights)
        passed = (time.perf_counter() - training_begun) / max(1, len(train))
        rare = self.class_weights(train.labels.cpu()).to(self.place.device)
        training = Training(
            module,
            train,
            plan.recipe,
            max(1, round(plan.recipe.epochs * max(1, len(train) // plan.recipe.batch))),
            self.place,
            normal,
            self.seed,
            self.flip,
            rare if float(rare.max() / rare.min()) > 1.01 else None,
        )
        watch = _Watch(self, training, choice, normal)
        if state is not None:
            training.load(state[0])
            watch.curve = [tuple(point) for point in state[1]["curve"]]
        else:
            begun = time.perf_counter()
            watch.look()
            if choice is not None:  # A first pass is slower than the others.
                passed = (time.perf_counter() - begun) / len(choice)
        fitting = len(train) if plan.recipe.closed_form else 0
        seen = len(self.sides.test) + (CHECKS + 1) * len(self.sides.choice) + fitting
        partial = self.steps(training, 1.1 * passed * seen, watch, plan, plans, state is not None)
        watch.look()
        if fitting and not partial:
            watch.refit()
        watch.settle()
        distributed.agreed(None)
        done = dataclasses.replace(plan.recipe, epochs=round(training.epochs, 2))
        plan = dataclasses.replace(plan, recipe=done)
        return _Attempt(
            plan,
            training.averaged,
            watch.right,
            0 if choice is None else len(choice),
            watch.curve,
            training.epochs,
            len(train),
            normal,
            partial,
        )

    def steps(
        self,
        training: Training,
        judging: float,
        watch: _Watch,
        plan: Plan,
        plans: Sequence[Plan],
        going_on: bool,
    ) -> bool:
        """Take all steps; return whether it was stopped before the end."""
        from metad2a.training import distributed
        from metad2a.training import plan as planning

        saved = time.perf_counter()
        training.step()  # The first one is slower than the others.
        begun, first, timed = time.perf_counter(), training.done, going_on
        checked = training.done * CHECKS // max(1, training.steps)
        while training.done < training.steps or not timed:
            if distributed.agreed(self.should_stop()):
                self.keep(training, plan, plans, watch.curve)
                return True
            loss = training.step()
            taken, spent = training.done - first, time.perf_counter() - begun
            if not going_on and (not timed or taken in (16, 32) or taken % 64 == 0):
                # What a step takes is measured without judging.
                possible = training.done + max(0, int((self.left() - judging) * taken / spent))
                if not timed:
                    most = math.ceil(planning.EPOCHS[1] * training.steps_per_epoch)
                    timed = bool(distributed.agreed(taken >= _TIMED[0] or spent > _TIMED[1]))
                    training.steps = distributed.agreed(max(training.done, min(possible, most)))
                elif possible < training.steps:
                    training.shorten(distributed.agreed(possible))
            if training.done % 5 == 0:
                self.told("training", training, loss=loss, curve=tuple(watch.curve))
            mark = training.done * CHECKS // max(1, training.steps)
            if timed and checked < mark < CHECKS:
                checked, start = mark, time.perf_counter()
                watch.look()
                begun += time.perf_counter() - start
            if time.perf_counter() - saved > SAVED_EVERY:
                start = time.perf_counter()
                self.keep(training, plan, plans, watch.curve)
                saved = time.perf_counter()
                begun += saved - start
        return False

    # -- recipes of the literature -----------------------------------------------------------

    def by_recipe(
        self, name: str, architecture: Architecture, state: dict[str, Any] | None = None
    ) -> Trained:
        """Train on all images but the test side by a recipe, however long that takes."""
        from metad2a.training.loop import Normalisation
        from metad2a.training.plan import Plan
        from metad2a.training.published import PublishedTraining

        recipe, resolution = RECIPES[name].recipe, self.space.resolution(architecture)
        self.recipe = name
        self.sides = dataclasses.replace(self.sides, train=self.known, choice=self.known[:0])
        if state is None:
            self.looked()
        train = self.batches("train", resolution)
        normal = Normalisation.of(train)
        training = PublishedTraining(
            self.placed(architecture, auxiliary=True),
            train,
            recipe,
            1,
            self.place,
            normal,
            self.seed,
            self.flip,
        )
        training.steps = round(recipe.epochs * training.steps_per_epoch)
        if state is not None:
            training.load(state)
        plan = Plan(architecture, recipe, None, f"trained from random weights by {name}")
        partial = self.to_the_end(training, plan)
        module = self.placed(architecture)
        trained = training.averaged.state_dict()
        module.load_state_dict({key: trained[key] for key in module.state_dict()})
        done = dataclasses.replace(recipe, epochs=round(training.epochs, 2))
        attempt = _Attempt(
            dataclasses.replace(plan, recipe=done),
            module,
            0,
            0,
            [],
            training.epochs,
            len(train),
            normal,
            partial,
        )
        return self.finished(attempt, [attempt])

    def to_the_end(self, training: Training, plan: Plan) -> bool:
        """Take all steps, however long that takes; return whether it was stopped before."""
        from metad2a.training import distributed

        begun = saved = time.perf_counter()
        first, pace = training.done, None
        foreseen = min(_FORESEEN, training.steps - first)
        while training.done < training.steps:
            if distributed.agreed(self.should_stop()):
                self.keep(training, plan, [plan], [])
                return True
            loss = training.step()
            now, taken = time.perf_counter(), training.done - first
            each = (now - begun) / taken
            self.seconds = now - self.begun + each * (training.steps - training.done)
            if taken >= foreseen:
                pace = training.batch / each
            if training.done % 5 == 0 or taken == foreseen:
                self.told("training", training, loss=loss, images_per_second=pace)
            if now - saved > SAVED_EVERY:
                self.keep(training, plan, [plan], [])
                saved = time.perf_counter()
        return False

    # -- stopping and going on ---------------------------------------------------------------

    def keep(
        self,
        training: Training,
        plan: Plan,
        plans: Sequence[Plan],
        curve: Sequence[tuple[float, float]],
    ) -> None:
        """Save the state of a training, where it is wanted."""
        from metad2a.training import distributed, resume

        if self.checkpoint is None or distributed.rank():
            return
        facts = {
            "recipe": self.recipe,
            "space": self.space.name,
            "plans": [
                {
                    "architecture": self.space.format(one.architecture),
                    "recipe": dataclasses.asdict(one.recipe),
                    "expected": one.expected,
                    "reason": one.reason,
                    "predicted": one.predicted,
                    "interval": one.interval,
                }
                for one in plans
            ],
            "flip": self.flip,
            "seed": self.seed,
            "curve": list(curve),
            "classes": list(self.dataset.classes),
            "images": len(self.dataset),
        }
        try:
            resume.save(self.checkpoint, training.state(), facts)
        except ArtifactError as error:  # What is trained is worth more than going on later.
            warnings.warn(f"{error} The training goes on without saving.", stacklevel=2)
            self.checkpoint = None

    def resumed(self) -> Trained:
        """Go on with the training in the checkpoint, to the steps that it had planned."""
        from metad2a.training import resume
        from metad2a.training.plan import Plan

        if self.checkpoint is None:
            raise InputError("resume=True needs checkpoint=, the file with the stopped training.")
        state, facts = resume.load(self.checkpoint)
        same = (
            facts["classes"] == list(self.dataset.classes)
            and facts["images"] == len(self.dataset)
            and facts["seed"] == self.seed
        )
        if not same:
            raise InputError(
                f"The stopped training {str(self.checkpoint)!r} is of {facts['images']:,} images "
                f"of {len(facts['classes'])} classes with seed {facts['seed']}; this is another "
                "dataset or seed. Give the same ones, or start anew without resuming."
            )
        self.space = SPACES.get(facts["space"])
        self.flip = bool(facts["flip"])
        if facts["recipe"] is not None:
            network = self.space.parse(facts["plans"][0]["architecture"])
            return self.by_recipe(facts["recipe"], network, state)
        plans = [
            Plan(
                self.space.parse(one["architecture"]),
                FineTune(**one["recipe"]),
                one["expected"],
                one["reason"],
                one["predicted"],
                None if one["interval"] is None else (one["interval"][0], one["interval"][1]),
            )
            for one in facts["plans"]
        ]
        return self.carried_out(plans, (state, facts))

    # -- judging -----------------------------------------------------------------------------

    def finished(self, best: _Attempt, attempts: Sequence[_Attempt]) -> Trained:
        """Judge the chosen network, once, by the test side."""
        import torch

        from metad2a.training import distributed
        from metad2a.training.evaluate import evaluate

        resolution = self.space.resolution(best.plan.architecture)
        test = self.batches("test", resolution)
        self.told("judging")
        found: Evaluation = evaluate(best.module, test, self.place, best.normal)
        cost = self.space.cost(best.plan.architecture, self.classes)
        module = best.module.float().to("cpu", memory_format=torch.contiguous_format).eval()
        if self.checkpoint is not None and not best.partial and not distributed.rank():
            with contextlib.suppress(OSError):
                self.checkpoint.unlink(missing_ok=True)
        some = (
            self.batches("train", resolution)
            if best.plan.recipe.rate
            else self.batches("known", resolution)
        )
        return Trained(
            network=TrainedNetwork(
                self.space.name,
                self.space.format(best.plan.architecture),
                cost.params,
                cost.macs,
                resolution,
            ),
            module=module,
            classes=tuple(self.dataset.classes),
            mean=_channels(best.normal.mean),
            deviation=_channels(best.normal.deviation),
            recipe=best.plan.recipe,
            reason=best.plan.reason,
            evaluation=found,
            chosen_by=best.accuracy if best.judged else None,
            predicted=best.plan.predicted,
            interval=best.plan.interval,
            curve=tuple(best.curve),
            tried=tuple(self.entry(one) for one in attempts),
            report=self.report,
            images=best.images,
            epochs=best.epochs,
            seconds=time.perf_counter() - self.begun,
            own_test=self.sides.own_test,
            partial=best.partial,
            pretrained=self.space.pretrained,
            levels=self.dataset.decided,
            calibration=_first(some, 200),
            test=test,
        )

    def entry(self, attempt: _Attempt) -> Mapping[str, Any]:
        """Return what the answer says of an attempt."""
        return {
            "architecture": self.space.format(attempt.plan.architecture),
            "rate": attempt.plan.recipe.rate,
            "epochs": round(attempt.epochs, 2),
            "accuracy": attempt.accuracy if attempt.judged else None,
            "reason": attempt.plan.reason,
        }


class _Watch:
    """What the choice side says of a training on its way, and the best state so far."""

    def __init__(
        self, session: _Session, training: Training, choice: Batches | None, normal: Normalisation
    ) -> None:
        self.session, self.training, self.choice, self.normal = session, training, choice, normal
        self.curve: list[tuple[float, float]] = []
        self.right = 0
        """Choice images that the last look, or the state taken back, got right."""
        self.best: tuple[int, dict[str, Tensor]] | None = None

    def look(self) -> None:
        """Judge the averaged weights; keep them where nothing was better."""
        from metad2a.training.evaluate import evaluate

        if self.choice is None:
            return
        training = self.training
        found = evaluate(training.averaged, self.choice, self.session.place, self.normal)
        self.right = int(np.trace(found.confusion))
        self.curve.append((round(training.epochs, 2), found.accuracy))
        if self.best is None or self.right >= self.best[0]:
            self.best = (self.right, _copied(training.averaged))
        self.session.told("training", training, accuracy=found.accuracy, curve=tuple(self.curve))

    def refit(self) -> None:
        """Move the classifier towards the one in closed form, of the choice images too.

        What the choice side says of it is of one that has not seen them.
        """
        from metad2a.training.loop import features_of

        session, network = self.session, self.training.averaged
        session.told("fitting the classifier", self.training, curve=tuple(self.curve))
        sides = [self.training.batches, *([] if self.choice is None else [self.choice])]
        features = [features_of(network, side, session.place, self.normal) for side in sides]
        labels = [side.labels.cpu() for side in sides]
        trained = copy.deepcopy(network.classifier).cpu()
        if self.choice is not None:
            some = session.between(trained, features[:1], labels[:1])
            self.right = int((some(features[1]).argmax(1) == labels[1]).sum())
            self.curve[-1] = (self.curve[-1][0], 100 * self.right / len(self.choice))
        found = session.between(trained, features, labels)
        network.classifier.load_state_dict(found.state_dict())

    def settle(self) -> None:
        """Take back a state on the way that was better by more than chance."""
        if self.choice is None or self.best is None:
            return
        final = self.right
        error = math.sqrt(max(1.0, final * (len(self.choice) - final) / len(self.choice)))
        if self.best[0] > final + error:
            self.right = self.best[0]
            self.training.averaged.load_state_dict(self.best[1])


def _copied(module: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _first(batches: Batches, count: int) -> torch.Tensor:
    """Return uint8 (m, 3, side, side): some images, as int8 is calibrated by."""
    import torch

    some: list[Tensor] = []
    for images, _, _ in batches.epoch(50, np.random.default_rng(0)):
        some.append(images.cpu())
        if len(some) * 50 >= count:
            break
    return torch.cat(some)


def _channels(value: float | Tensor) -> tuple[float, float, float]:
    """Return a value for each channel."""
    if isinstance(value, float):
        return (value, value, value)
    red, green, blue = value.flatten().tolist()
    return (red, green, blue)


__all__ = ["FINE_TUNE", "TrainProgress", "train"]
