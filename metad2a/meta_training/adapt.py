"""Shared weights worth cutting: the parent's are trained once, so that narrow slices of it work.

Sources: the sandwich rule and in-place distillation are those of Yu and Huang, "Universally Slimmable
Networks and Improved Training Techniques", ICCV 2019; that a slice mimics what the parent's stages
give, not its answers alone, is of Wang et al., "MiR" (Practical Network Acceleration with Tiny Sets,
CVPR 2023); kernels of their own for smaller sides are as in Cai et al., "Once-for-All", ICLR 2020.

The parent itself teaches, untouched, and no labels are needed; it stands in the place of the largest
slice, which nobody uses. Stem and first stage, in which there is nothing to cut, stay the parent's.
What comes out serves networks of which something inside is cut: full width is spoilt by it, and keeps
the parent's weights and statistics.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metad2a._files import write_file
from metad2a.datasets.batches import Batches
from metad2a.errors import ArtifactError, InputError, MetaD2AError
from metad2a.spaces.base import ABSENT
from metad2a.spaces.efficientnet_lite import SPACE, EfficientNetLite
from metad2a.spaces.pretrained import Weights, inherit, shrunk
from metad2a.spaces.supernets.mobile import BlockSlice, MobileSuperNet
from metad2a.training import resume
from metad2a.training.augment import augment
from metad2a.training.cpu_layers import quicken
from metad2a.training.device import DevicePlan, plan
from metad2a.training.loop import Normalisation, average_statistics

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset
    from metad2a.spaces.base import Architecture
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

STEPS = 2000
SIDES = (32, 48, 64, 80, 96, 112, 128)
"""Resolutions, in pixels, one of which is drawn for each step."""
IMAGES = 200
"""Most images of a dataset: all of them are kept decoded, in squares of the largest side."""
PIXELS = 32 * 64**2
"""Of the images of a step: of small ones there are more."""
BATCH = (12, 96)
"""Fewest and most images of a step."""
RANDOM = 2
"""Slices a step, beside the smallest."""
RATE, WARM_UP, CLIP = 1e-3, 0.05, 1.0
"""Of AdamW, at most; share of the steps over which it rises; largest norm of the gradient."""
STATISTICS = 60
"""Batches, each through another slice, that give the batch norms their statistics at the end."""
SAVED = 180.0
"""Seconds after which a checkpoint is written."""
_FILTERS, _NORM = "depthwise.conv.weight", "project.norm"


class Reweighted(EfficientNetLite):
    """The same networks, with weights of their own where something inside is cut."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._weights = weights

    def weights(self) -> Weights:
        """Return the weights that cut networks inherit."""
        return self._weights

    def start(self, network: InvertedResidualNetwork) -> None:
        """Give a network its part: of the parent's weights, unless a block is cut inside."""
        inherit(network, self._weights if is_cut(network) else SPACE.weights())


def is_cut(network: InvertedResidualNetwork) -> bool:
    """Whether a block is narrower than the parent's, or its kernel smaller."""
    whole = SPACE.config(SPACE.whole(), 1)["stages"]
    own = cast("list[list[tuple[int, ...]]]", network.config["stages"])
    return any(
        (block[1], block[2]) != (parent[1], parent[2])
        for stage, parents in zip(own, whole, strict=False)
        for block, parent in zip(stage, parents, strict=False)
    )


def squares(datasets: Iterable[ImageDataset], seed: int = 0) -> Tensor:
    """Decode up to :data:`IMAGES` images of the training side of each dataset.

    Returns:
        uint8 (n, 3, side, side), of the largest of :data:`SIDES`.

    Raises:
        InputError: there is no dataset, or none of the images of one can be read.
    """
    found = []
    for dataset in datasets:
        train = np.flatnonzero(dataset.split == 0)
        chosen = np.random.default_rng(seed).permutation(train)[:IMAGES]
        batches = Batches(dataset, np.sort(chosen), SIDES[-1], workers=1)
        found.append(batches.take(torch.arange(len(batches))))
    if not found:
        raise InputError("No dataset is left to adapt weights by. Leave out fewer families.")
    return torch.cat(found)


class Adaptation:
    """The parent's weights on their way to being worth cutting.

    What a step does depends on nothing but the seed and its number, so that one that was stopped goes
    on bit by bit as if it had not been (on a CPU).

    Args:
        images: uint8 (n, 3, side, side), of the largest of :data:`SIDES`.
        steps: how many there will be.
        seed: of images, resolutions and slices.
        device: as :func:`metad2a.training.device.plan` has it.
    """

    def __init__(
        self, images: Tensor, steps: int = STEPS, seed: int = 0, device: str = "auto"
    ) -> None:
        self.images, self.steps, self.seed, self.done = images, steps, seed, 0
        # In bfloat16 the gradients of depthwise convolutions take a CPU longer than all the rest.
        self.place: DevicePlan = replace(plan(device), dtype=torch.float32)
        parent = self.place.place(SPACE.build(SPACE.whole(), 1, pretrained=True))
        self.parent = cast("InvertedResidualNetwork", parent.eval())
        self.chain = Reweighted(_with_kernels(SPACE.weights())).chain(SIDES[-1])
        self.network = cast(MobileSuperNet, self.place.place(self.chain.supernet(1)))
        if self.place.device.type == "cpu":
            quicken(self.network)
        self._allowed = self.chain.allowed()
        self._allowed[[slots[0] for slots in self.chain.stages], ABSENT] = False
        macs = self.chain.cost_table(1, SIDES[-1])[1][..., 1].astype(float)
        self.smallest = tuple(np.where(self._allowed, macs, np.inf).argmin(1).tolist())
        self._learning = [self.network.stages, cast(nn.Module, self.network.head)]
        self.parameters = [p for part in self._learning for p in part.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, RATE, weight_decay=0.0, fused=True)

    # -- steps -------------------------------------------------------------------------------

    def rate(self) -> float:
        """Return the learning rate of the next step."""
        done = self.done / self.steps
        if done < WARM_UP:
            return RATE * (self.done + 1) / (WARM_UP * self.steps + 1)
        return RATE * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))

    def step(self) -> float:
        """Take one step; return the mean loss of its slices.

        Raises:
            MetaD2AError: the loss is no longer a number.
        """
        rng = np.random.default_rng([self.seed, self.done])
        x = self._drawn(rng)
        begun, targets = self._taught(x)
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        paths = [self.smallest, *(self._sample(rng) for _ in range(RANDOM))]
        total = 0.0
        for path in paths:
            loss = self._loss(begun, path, targets) / len(paths)
            loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise MetaD2AError(
                f"The loss became {total} at step {self.done} of {self.steps}. Go on from an earlier "
                "checkpoint, or with another seed."
            )
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimiser.step()
        self.done += 1
        return total

    def _sample(self, rng: np.random.Generator) -> Architecture:
        return self.chain.sample(rng, self._allowed)

    def _drawn(self, rng: np.random.Generator) -> Tensor:
        """Return a batch of float (b, 3, side, side) of some resolution, normalised."""
        side = int(rng.choice(SIDES))
        count = min(max(PIXELS // side**2, BATCH[0]), BATCH[1], len(self.images))
        chosen = torch.from_numpy(rng.permutation(len(self.images))[:count])
        x = Normalisation()(self.images[chosen].to(self.place.device))
        return augment(_shrunk(x, side), rng, flip=True)

    @torch.no_grad()
    def _taught(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return what stem and first stage give, and what the parent makes of it (:func:`_seen`)."""
        begun = self.parent.begin(x, 1)
        return begun, list(self._seen(begun, list(self.parent.stages)[1:], self.parent.head))

    def _seen(
        self, x: Tensor, stages: Iterable[Callable[[Tensor], Tensor]], head: nn.Module | None
    ) -> Iterator[Tensor]:
        """Yield each stage's output, float (b, c, h, w), and its mean (b, c), then the head's mean."""
        for stage in stages:
            x = stage(x)
            yield x
            yield x.mean((2, 3))
        yield cast(nn.Module, head)(x).mean((2, 3))

    def _loss(self, begun: Tensor, path: Architecture, targets: list[Tensor]) -> Tensor:
        """Return how far what a slice gives is from the parent's, 0 for none, 1 for a constant."""
        seen = self._seen(begun, self._stages(path), self.network.head)
        parts = [_distance(x, target) for x, target in zip(seen, targets, strict=True)]
        return torch.stack(parts).mean()

    def _stages(self, path: Architecture) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yield the stages of a slice, from the second one on."""
        for slots, blocks in zip(self.chain.stages, self.network.stages, strict=True):
            pairs = zip(slots, cast("Iterable[BlockSlice]", blocks), strict=True)
            there = [(block, path[slot]) for slot, block in pairs if path[slot] != ABSENT]

            def stage(x: Tensor, there: list[tuple[BlockSlice, int]] = there) -> Tensor:
                for block, operation in there:
                    x = block(x, operation)
                return x

            yield stage

    # -- stopping and going on ----------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint must agree with."""
        digest = hashlib.sha256(self.images.numpy().tobytes()).hexdigest()
        return {"images": digest, "seed": self.seed, "steps": self.steps}

    def save(self, path: Path) -> None:
        """Write a checkpoint.

        Raises:
            ArtifactError: it cannot be written.
        """
        state = {
            "network": self.network.state_dict(),
            "averaged": {},
            "optimiser": self.optimiser.state_dict()["state"],
            "done": self.done,
            "steps": self.steps,
        }
        resume.save(path, state, self.facts())

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ArtifactError: it cannot be read.
            InputError: it is of other images, another seed or another number of steps.
        """
        state, facts = resume.load(path)
        for name, value in self.facts().items():
            if facts.get(name) != value:
                raise InputError(
                    f"{str(path)!r} was begun with {name} {str(facts.get(name))[:20]!r}, not "
                    f"{str(value)[:20]!r}. Give what it was begun with, or remove it."
                )
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state["optimiser"]})
        self.done = state["done"]

    # -- what comes out ----------------------------------------------------------------------

    def weights(self) -> Weights:
        """Return the weights that cut networks inherit, with statistics of many slices.

        Statistics belong to a slice; those of a network are better estimated anew before it is judged.
        """
        rng = np.random.default_rng([self.seed, self.steps, 1])

        def run(x: Tensor) -> None:
            stages = self._stages(self._sample(rng))
            list(self._seen(self.parent.begin(x, 1), stages, self.network.head))

        drawn = (self._drawn(rng) for _ in range(STATISTICS))
        average_statistics(nn.ModuleList(self._learning), drawn, self.place, run)
        return _weights_of(self.network)


def _distance(x: Tensor, target: Tensor) -> Tensor:
    """Return the squared error, divided by that of each channel's mean."""
    over = [axis for axis in range(target.dim()) if axis != 1]
    spread = (target - target.mean(over, keepdim=True)).square().sum()
    return (x - target).square().sum() / spread.clamp_min(1e-6)


def _shrunk(x: Tensor, side: int) -> Tensor:
    """Make float images (b, c, h, w) smaller, bilinearly and with antialiasing."""
    if x.shape[-1] == side:
        return x
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True)


def _with_kernels(parent: Weights) -> Weights:
    """Let kernels of 3 inside larger ones go ways of their own; they begin as what is inherited."""
    kernels = {
        (name.removesuffix(".depthwise.conv.weight"), 3): shrunk(tensor, 3)
        for name, tensor in parent.tensors.items()
        if name.endswith(".depthwise.conv.weight") and tensor.shape[-1] > 3
    }
    return replace(parent, kernels=kernels)


@torch.no_grad()
def _weights_of(network: MobileSuperNet) -> Weights:
    """Return what networks inherit from a super-network, by the names of the plain one."""
    tensors = {f"head.{k}": t for k, t in cast(nn.Module, network.head).state_dict().items()}
    kernels, norms = {}, {}
    for s, blocks in enumerate(network.stages, start=1):
        for b, block in enumerate(cast("Iterable[BlockSlice]", blocks)):
            prefix = f"stages.{s}.{b}"
            side, widest = block.depthwise.weight.shape[-1], max(block.widths)
            whole = block.state(1 + block.choices.index((side, widest)))
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in whole.items()}
            for own, kernel in block.depthwise.own.items():
                kernels[prefix, int(own)] = kernel
            for expansion, width in block.widths.items():
                if expansion != widest:
                    norms[prefix, width] = block.project_norms[str(expansion)].state_dict()
    parent = {k: t for k, t in SPACE.weights().tensors.items() if not k.startswith("stages.")}
    first = {k: t for k, t in SPACE.weights().tensors.items() if k.startswith("stages.0.")}
    return Weights(parent | first | tensors, kernels=kernels, norms=norms)


# -- from datasets to a file -----------------------------------------------------------------


def adapt(
    datasets: Iterable[ImageDataset],
    out: Path,
    steps: int = STEPS,
    *,
    seed: int = 0,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Adapt the parent's weights and write what cut networks inherit.

    A checkpoint beside the file, ``FILE.adapting``, is written every few minutes and when it is
    stopped; with the same datasets, steps and seed it is gone on from.

    Args:
        datasets: of which up to :data:`IMAGES` training images each are taken; labels are not.
        out: the file to write; :func:`adapted` reads it.
        steps: how many.
        seed: of everything.
        progress: told (done, steps, text).
        should_stop: asked after each step.

    Returns:
        Whether it is done; if not, there is a checkpoint.

    Raises:
        InputError: no datasets, no steps, or a checkpoint of something else.
        ArtifactError: something cannot be read or written.
    """
    if steps < 1:
        raise InputError(f"{steps} steps adapt nothing; use 1 or more.")
    if out.is_dir():
        raise InputError(f"{str(out)!r} is a folder; give the name of a file to write.")
    checkpoint = out.with_name(f"{out.name}.adapting")
    work = Adaptation(squares(datasets, seed), steps, seed)
    if checkpoint.exists():
        work.load(checkpoint)
    else:
        work.save(checkpoint)  # What cannot be written is not worked for.
    saved, mean = time.monotonic(), math.nan
    while work.done < steps:
        loss = work.step()
        mean = loss if math.isnan(mean) else mean + (loss - mean) / 20
        progress(work.done, steps, f"loss {mean:.3f}")
        stopped = work.done < steps and should_stop()
        if stopped or time.monotonic() - saved > SAVED:
            work.save(checkpoint)
            saved = time.monotonic()
        if stopped:
            return False
    write_adapted(out, work.weights())
    checkpoint.unlink(missing_ok=True)
    return True


def write_adapted(path: Path, weights: Weights) -> None:
    """Write what differs from EfficientNet-Lite0, and what it has not; :func:`adapted` reads it.

    A safetensors file: convolutions as float16, statistics and norms as float32. Smaller kernels and
    the norms of narrower blocks have their side or width behind the name, as in
    ``stages.1.0.project.norm.weight/48``.

    Raises:
        ArtifactError: it cannot be written.
    """
    from safetensors.torch import save

    parent = SPACE.weights().tensors
    found = {
        name: tensor
        for name, tensor in weights.tensors.items()
        if not torch.equal(tensor, parent[name])
    }
    for (block, side), kernel in weights.kernels.items():
        found[f"{block}.{_FILTERS}/{side}"] = kernel
    for (block, width), norm in weights.norms.items():
        found |= {f"{block}.{_NORM}.{leaf}/{width}": tensor for leaf, tensor in norm.items()}
    kept = {
        name: tensor.detach().cpu().to(torch.float16 if tensor.dim() > 1 else torch.float32)
        for name, tensor in found.items()
        if "num_batches_tracked" not in name
    }
    write_file(path, save({name: tensor.contiguous() for name, tensor in kept.items()}))


def adapted(path: Path) -> Weights:
    """Read the weights that ``metad2a meta adapt`` wrote: of networks that are cut inside.

    Raises:
        ArtifactError: the file cannot be read, or is of another network.
    """
    from safetensors.torch import load_file

    tensors = dict(SPACE.weights().tensors)
    kernels: dict[tuple[str, int], Tensor] = {}
    norms: dict[tuple[str, int], dict[str, Tensor]] = {}
    try:
        for key, half in load_file(path).items():
            name, _, number = key.partition("/")
            tensor, (block, leaf) = half.float(), name.rsplit(".", 1)
            if not number:
                if tensor.shape != tensors[name].shape:
                    raise ValueError(f"{name!r} has the shape {tuple(tensor.shape)}")
                tensors[name] = tensor
            elif name.endswith(_FILTERS):
                kernels[name.removesuffix(f".{_FILTERS}"), int(number)] = tensor
            else:
                norms.setdefault((block.removesuffix(f".{_NORM}"), int(number)), {})[leaf] = tensor
    except Exception as error:
        raise ArtifactError(
            f"{str(path)!r} holds no adapted weights of EfficientNet-Lite0: {error}. Write it by "
            "`metad2a meta adapt`."
        ) from error
    return Weights(tensors, kernels=kernels, norms=norms)
