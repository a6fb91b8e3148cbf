"""The mobile space of EfficientNet-Lite0: pieces of the pretrained network at any resolution.

Source: Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 and no
squeeze-and-excitation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

STAGES = (
    # expansion, kernel, stride, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM, HEAD = 32, 1280


def parent(classes: int, stages: int = 7, *, pretrained: bool = True) -> InvertedResidualNetwork:
    """Return the first stages of EfficientNet-Lite0, whole; all seven have the head too.

    Args:
        classes: outputs of the classifier, which is new and small.
        stages: 3 to 7.
        pretrained: whether it has the ImageNet weights.
    """
    import torch

    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from metad2a.spaces.pretrained import efficientnet_lite0

    inputs, made = STEM, []
    for expansion, kernel, stride, channels, blocks in STAGES[:stages]:
        stage = []
        for place in range(blocks):
            width = inputs * expansion
            stage.append((channels, width, kernel, 1 if place else stride, "relu6", 0))
            inputs = channels
        made.append(stage)
    network = InvertedResidualNetwork(classes, STEM, made, head=HEAD if stages == 7 else 0)
    torch.nn.init.normal_(network.classifier.weight, std=0.01)
    torch.nn.init.zeros_(network.classifier.bias)
    if pretrained:
        own = network.state_dict()
        given = {
            name: tensor
            for name, tensor in efficientnet_lite0().items()
            if name in own and not name.startswith("classifier.")
        }
        network.load_state_dict(own | given)
    return network
