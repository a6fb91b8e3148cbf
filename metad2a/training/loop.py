"""The training of one network by one recipe, step by step, so that it can stop and go on anywhere.

What a step does depends on nothing but the seed and its number, so a training that was stopped goes
on bit by bit as if it had not been (on a CPU).
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.errors import MetaD2AError
from metad2a.model.ridge import RidgeHead, fit_ridge
from metad2a.spaces._folding import folded
from metad2a.training import distributed
from metad2a.training.augment import augment
from metad2a.training.cpu_layers import quicken
from metad2a.training.device import DevicePlan

if TYPE_CHECKING:
    from metad2a.datasets.batches import Batches
    from metad2a.protocol import FineTune

KEPT_BYTES = 2**31
"""Most bytes of kept outputs of frozen stages; fewer copies are kept where they need more."""
EVALUATED = (64, 2**19)
"""Most images, and most pixels of them, at a time where no gradient is needed."""


def prepared(images: Tensor, mean: float | Tensor, deviation: float | Tensor) -> Tensor:
    """Map uint8 (b, 3, h, w) to float32, scaled as a network takes it: (x / 255 - mean) / dev."""
    return images.float().div_(255).sub_(mean).div_(deviation)


@contextlib.contextmanager
def evaluating(network: Any) -> Iterator[Any]:
    """Give a network in the form that only looks, in evaluation mode without gradients."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield folded(network)
    finally:
        network.train(training)


def passed(resolution: int) -> int:
    """Return how many images of so many pixels a side go through at a time without a gradient."""
    images, pixels = EVALUATED
    return max(1, min(images, pixels // resolution**2))


def _means(weight: Tensor) -> Tensor:
    """Return the mean of each unit's weights, float (units, 1, ...)."""
    return weight.mean(tuple(range(1, weight.dim())), keepdim=True)


def unit_groups(parameters: Sequence[nn.Parameter], recipe: FineTune) -> list[dict[str, Any]]:
    """Return an optimiser's groups: ``share`` is what they have of the rate.

    Norms and biases are not pulled to zero.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        inputs = parameter[0].numel() if parameter.dim() > 1 else 1
        wide = recipe.optimiser == "adamw" and inputs > recipe.wide
        share = math.sqrt(recipe.wide / inputs) if wide else 1.0
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "share": share}
        for (share, decay), parameters in groups.items()
    ]


@torch.no_grad()
def move(
    optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], recipe: FineTune
) -> None:
    """Take an optimiser's step, and give back what it did to the sums of units' weights."""
    if not recipe.sums_kept:
        optimiser.step()
        return
    units = [p for p in parameters if p.dim() > 1]
    before = [_means(unit) for unit in units]
    optimiser.step()
    for unit, mean in zip(units, before, strict=True):
        unit.sub_(_means(unit) - mean)


class Normalisation:
    """What is subtracted from pixels (0..1) and what they are divided by, float or (1, 3, 1, 1)."""

    def __init__(self, mean: float | Tensor = 0.5, deviation: float | Tensor = 0.5) -> None:
        self.mean, self.deviation = mean, deviation

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 (b, 3, h, w) to float32."""
        return prepared(images, self.mean, self.deviation)

    @staticmethod
    def of(batches: Batches) -> Normalisation:
        """Return mean and deviation of up to 2,000 images; a constant channel is only centred."""
        some: list[Tensor] = []
        for images, _, _ in batches.epoch(passed(batches.resolution)):
            some.append(images.float().div(255))
            if sum(map(len, some)) >= 2000:
                break
        pixels = torch.cat(some)
        deviation = pixels.std((0, 2, 3), keepdim=True)
        deviation = torch.where(deviation < 1e-3, torch.ones_like(deviation), deviation)
        return Normalisation(pixels.mean((0, 2, 3), keepdim=True), deviation)


def features_of(
    network: Any,
    batches: Batches,
    place: DevicePlan,
    normal: Normalisation,
    flip: bool = False,
) -> Tensor:
    """Return float32 (n, features) on the CPU: what the classifier would see of every image."""
    found = []
    with evaluating(network) as looking:
        for images, _, _ in batches.epoch(passed(batches.resolution)):
            x = normal(images.flip(3) if flip else images)
            with place.autocast():
                found.append(looking.features(x).float().cpu())
    return torch.cat(found)


def features_on_the_way(
    networks: Sequence[Any], batches: Batches, place: DevicePlan, normal: Normalisation
) -> list[Tensor]:
    """Return what :func:`features_of` returns of each network, from one pass of the first.

    Args:
        networks: all stages of each are the first ones of that before it, with the same weights.
        batches: the images.
        place: device and precision.
        normal: of the input.
    """
    longest, *_ = networks
    depths = [len(network.stages) for network in networks]
    found: list[list[Tensor]] = [[] for _ in networks]
    with evaluating(longest) as looking:
        ends = [looking, *(network.eval() for network in networks[1:])]
        for images, _, _ in batches.epoch(passed(batches.resolution)):
            with place.autocast():
                x, done = looking.begin(normal(images), depths[-1]), depths[-1]
                for number in reversed(range(len(networks))):
                    for stage in looking.stages[done : depths[number]]:
                        x = stage(x)
                    done = depths[number]
                    found[number].append(ends[number].finish(x, done).float().cpu())
    return [torch.cat(parts) for parts in found]


def closed_form(
    network: Any,
    batches: Batches,
    place: DevicePlan,
    normal: Normalisation,
    weights: Tensor | None = None,
) -> RidgeHead:
    """Give the network the classifier that ridge regression on its features has.

    Args:
        network: with ``features`` and a linear ``classifier``.
        batches: the training images.
        place: device and precision.
        normal: of the input.
        weights: float (n,), what each image counts; None: all alike.
    """
    features = features_of(network, batches, place, normal)
    classes = network.classifier.out_features
    head = fit_ridge(features, batches.labels.cpu(), classes, weights)
    set_classifier(network, head)
    return head


def set_classifier(network: Any, head: RidgeHead) -> None:
    """Give the network a classifier."""
    set_linear(network.classifier, head)


@torch.no_grad()
def set_linear(classifier: nn.Linear, head: RidgeHead) -> None:
    """Give a linear layer the weights of a classifier."""
    classifier.weight.copy_(head.weight)
    classifier.bias.copy_(head.bias)


def recalibrate(
    network: nn.Module, batches: Batches, place: DevicePlan, normal: Normalisation, most: int = 512
) -> None:
    """Estimate the statistics of batch norms anew, as averages over up to ``most`` images."""

    def some() -> Iterator[Tensor]:
        seen = 0
        for images, _, _ in batches.epoch(passed(batches.resolution), np.random.default_rng(0)):
            if len(images) < 2 or seen >= most:
                return
            yield normal(images)
            seen += len(images)

    average_statistics(network, some(), place)


@torch.no_grad()
def average_statistics(
    network: nn.Module,
    batches: Iterable[Tensor],
    place: DevicePlan,
    run: Callable[[Tensor], object] | None = None,
) -> None:
    """Give the batch norms of a network the average statistics of batches, each counted alike.

    Args:
        network: left in evaluation mode.
        batches: float (n, 3, h, w) images each, normalised, on its device.
        place: the precision in which it computes.
        run: sends a batch through it; None: it takes nothing else.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    network.train()
    for images in batches:
        with place.autocast():
            (run or network)(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


class Training:
    """A network on its way through a recipe.

    Args:
        network: the one that is trained, in place, on the device of ``place``.
        batches: the training images.
        recipe: how; its ``epochs`` are not looked at.
        steps: how many steps there will be; :meth:`shorten` makes them fewer.
        place: device, precision, memory order.
        normal: of the input.
        seed: of order and augmentation.
        flip: whether a mirrored image is as good as its original.
        class_weights: float (classes,) of the loss; None: all alike.

    Raises:
        MetaD2AError: the loss is no longer a number, in :meth:`step`.
    """

    def __init__(
        self,
        network: Any,
        batches: Batches,
        recipe: FineTune,
        steps: int,
        place: DevicePlan,
        normal: Normalisation,
        seed: int = 0,
        flip: bool = False,
        class_weights: Tensor | None = None,
    ) -> None:
        self.network, self.batches, self.recipe, self.place = network, batches, recipe, place
        self.normal, self.seed, self.flip, self.steps, self.done = normal, seed, flip, steps, 0
        self.batch = min(recipe.batch, len(batches))
        self.parts = 1
        self.frozen = self._freeze()
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimiser = self._begun_optimiser()
        self.loss = nn.CrossEntropyLoss(class_weights, label_smoothing=recipe.label_smoothing)
        self.averaged = copy.deepcopy(network).eval()
        if place.device.type == "cpu":
            quicken(network)
        self._order = np.empty(0, dtype=np.int64)
        self._stream: Iterator[tuple[Tensor, Tensor, Tensor]] = iter(())
        self._epoch = -1
        self.kept = self._keep() if self.frozen else None

    def _begun_optimiser(self) -> torch.optim.Optimizer:
        recipe, groups = self.recipe, unit_groups(self.parameters, self.recipe)
        if recipe.optimiser == "adamw":
            return torch.optim.AdamW(groups, recipe.rate, recipe.momenta, fused=True)
        return torch.optim.SGD(groups, recipe.rate, momentum=0.9, nesterov=True)

    # -- frozen stages -----------------------------------------------------------------------

    def _freeze(self) -> int:
        """Return how many first stages do not learn."""
        frozen = min(self.recipe.frozen_stages, len(getattr(self.network, "stages", ())))
        if frozen:
            for part in (self.network.stem, *self.network.stages[:frozen]):
                part.requires_grad_(False)
        return frozen

    def _keep(self) -> list[Tensor]:
        """Return what comes out of the frozen stages for each copy, float16 (n, c, h, w)."""
        kept: list[Tensor] = []
        for number in range(self.recipe.copies):
            rng = np.random.default_rng([self.seed, 1, number])
            parts: list[Tensor] = []
            with evaluating(self.network) as looking:
                for images, _, _ in self.batches.epoch(passed(self.batches.resolution)):
                    x = self._augmented(self.normal(images), rng)
                    with self.place.autocast():
                        y = looking.begin(x, self.frozen)
                    parts.append(y.to(torch.float16).cpu())
            kept.append(torch.cat(parts).contiguous(memory_format=torch.channels_last))
            if (len(kept) + 1) * kept[0].nbytes > KEPT_BYTES:
                break
        return kept

    # -- steps -------------------------------------------------------------------------------

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        done = self.done / max(self.steps, 1)
        rise = self.recipe.warm_up
        if done < rise:
            return self.recipe.rate * (self.done + 1) / (rise * self.steps + 1)
        return self.recipe.rate * 0.5 * (1 + math.cos(math.pi * (done - rise) / (1 - rise)))

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the training images; what is left of a batch waits for the next."""
        return max(1, len(self.batches) // self.batch)

    @property
    def epochs(self) -> float:
        """Passes over the training images so far."""
        return self.done / self.steps_per_epoch

    def _next(self) -> tuple[Tensor, Tensor]:
        """Return the positions and, where nothing is kept, the images of the next step."""
        epoch, place = divmod(self.done, self.steps_per_epoch)
        if self.kept is None and not self.batches.resident:
            return self._streamed(epoch, place)
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, 2, epoch]).permutation(len(self.batches))
            self._order, self._epoch = order, epoch
        positions = torch.from_numpy(self._order[place * self.batch : (place + 1) * self.batch])
        if self.kept is not None:
            return positions, self.kept[epoch % len(self.kept)][positions]
        return positions, self.batches.take(positions)

    def _streamed(self, epoch: int, place: int) -> tuple[Tensor, Tensor]:
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, 2, epoch])
            # Gone on with in the middle of an epoch, it begins there.
            self._stream, self._epoch = self.batches.epoch(self.batch, rng, first=place), epoch
        images, _, positions = next(self._stream)
        return positions.cpu(), images

    def _augmented(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return normalised images as a step sees them."""
        return augment(x, rng, flip=self.flip, zoom=self.recipe.zoom)

    def step(self) -> float:
        """Take one step and return its loss.

        Raises:
            MetaD2AError: the loss is no longer a number.
        """
        recipe, network = self.recipe, self.network
        positions, x = self._next()
        if self.kept is None:
            rng = np.random.default_rng([self.seed, 3, self.done])
            x, begun = self._augmented(self.normal(x), rng), 0
        else:
            x, begun = x.to(self.place.device).float(), self.frozen
        labels = self.batches.labels[positions.to(self.batches.labels.device)]
        network.train()
        if recipe.batch_norm == "kept":
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate() * group["share"]
        self.optimiser.zero_grad(set_to_none=True)
        value = self._backward(x, labels, begun)
        distributed.add_gradients(self.parameters)
        if not math.isfinite(value):
            raise MetaD2AError(
                f"The loss became {value} at step {self.done} of {self.steps}; use a lower rate "
                f"than {recipe.rate:g}."
            )
        nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        move(self.optimiser, self.parameters, recipe)
        self.done += 1
        self._average()
        return value

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards the present ones."""
        span = max(1.0, self.recipe.average * self.steps)
        share = max(1 / span, 1 / self.done)
        own = list(self.network.state_dict().values())
        mean = list(self.averaged.state_dict().values())
        floats = [(m, o) for m, o in zip(mean, own, strict=True) if m.is_floating_point()]
        torch._foreach_lerp_([m for m, _ in floats], [o for _, o in floats], share)
        for m, o in zip(mean, own, strict=True):
            if not m.is_floating_point():
                m.copy_(o)

    def _backward(self, x: Tensor, labels: Tensor, begun: int) -> float:
        """Add up the gradients of this process's share of the batch; return its part of the loss.

        Where memory does not suffice, the share goes through in twice as many parts from then on.
        """
        while True:
            try:
                total = 0.0
                rows = torch.arange(distributed.rank(), len(x), distributed.world())
                for part in rows.tensor_split(self.parts):
                    if not len(part):
                        continue
                    some = part.to(x.device)
                    with self.place.autocast():
                        logits = self._logits(x[some], begun)
                    loss = self._loss(logits, labels[some]) * (len(part) / len(x))
                    loss.backward()
                    total += float(loss.detach())
                return total
            except torch.OutOfMemoryError as error:
                if self.parts >= len(x):
                    raise MetaD2AError(
                        f"Not even one image of {tuple(x.shape[1:])} fits into the memory of "
                        f"{self.place.device}. Use a lower resolution, or device='cpu'."
                    ) from error
                self.parts *= 2
                self.optimiser.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                warnings.warn(
                    f"The memory of {self.place.device} does not hold a batch of {len(x)}; it goes "
                    f"through in {self.parts} parts.",
                    stacklevel=2,
                )

    def _logits(self, x: Tensor, begun: int) -> Any:
        network = self.network
        if not begun:
            return network(x)
        return network.classifier(network.dropout(network.finish(x, begun)))

    def _loss(self, logits: Any, labels: Tensor) -> Tensor:
        """Return the mean loss of what :meth:`_logits` returned."""
        loss: Tensor = self.loss(logits.float(), labels)
        return loss

    def shorten(self, steps: int) -> None:
        """End after ``steps`` in all; the rate falls accordingly from here."""
        self.steps = max(self.done, steps)

    # -- stopping and going on ----------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`load` needs: tensors by part, and how far it is."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict()["state"],
            "done": self.done,
            "steps": self.steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state["optimiser"]})
        self.done, self.steps = state["done"], state["steps"]
