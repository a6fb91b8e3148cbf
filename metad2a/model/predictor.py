"""The meta performance predictor: dataset, architecture and protocol to accuracy with a spread.

After Lee et al., MetaD2A, ICLR 2021. Every protocol measures one latent quality, so that cheap
scores and trainings teach the same thing:

    quality(d, a)  = prior(a) + u(d) . v(a)
    logit accuracy = level(d) + slope(d) * quality(d, a),   slope > 0

``prior`` is shared by all datasets and learnt from training-free scores over the whole space;
``u . v`` is what is particular to a dataset, learnt from trainings. The dataset is encoded once for
all candidates. Several members, trained apart, give the spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch

from metad2a.model.description import Description
from metad2a.model.graph_encoder import GraphEncoder
from metad2a.model.set_encoder import SetEncoder, SetInputs
from metad2a.spaces import SearchSpace

CLASSES = 10
"""Classes of the network whose parameters and MACs describe an architecture to the model."""
HALF_WIDTH = 1.6449
"""Half the width of a 90 % interval, in deviations of a normal distribution."""


@dataclass(frozen=True)
class PredictorConfig:
    """Sizes of a predictor. ``scores`` names the training-free protocols, in order."""

    node_features: int
    scores: tuple[str, ...]
    members: int = 5
    graph_width: int = 48
    graph_rounds: int = 4
    components: int = 48
    set_width: int = 32
    embedding: int = 24
    factors: int = 4


class ArchitecturePrior(nn.Module):
    """What is known of an architecture whatever the dataset: quality, and each score."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.graph = GraphEncoder(config.node_features, config.graph_width, config.graph_rounds)
        width = 2 * config.graph_width
        self.trunk = nn.Sequential(
            nn.Linear(self.graph.width + 2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.quality = nn.Linear(width, 1)
        self.scores = nn.Linear(width, len(config.scores))

    def forward(self, graphs: Batch, costs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return hidden (n, width), quality (n,) and scores (n, protocols), standardised.

        ``costs``: float (n, 2), standardised log parameters and log MACs.
        """
        hidden = self.trunk(torch.cat([self.graph(graphs), costs], dim=1))
        return hidden, self.quality(hidden)[:, 0], self.scores(hidden)


class DatasetSide(nn.Module):
    """What a dataset makes of the prior: level, slope, and the factors of its own taste."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SetEncoder(config.components, config.set_width, config.embedding)
        self.level = nn.Linear(config.embedding, 1)
        self.slope = nn.Linear(config.embedding, 1)
        # Centred over datasets, so that taste is what sets one apart, not what all share.
        self.centre = nn.BatchNorm1d(config.embedding, affine=False)
        self.taste = nn.Linear(config.embedding, config.factors, bias=False)
        self.traits = nn.Linear(2 * config.graph_width, config.factors, bias=False)
        nn.init.zeros_(self.taste.weight)
        nn.init.constant_(self.slope.bias, -1.0)

    def forward(self, embedding: Tensor, hidden: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Return logit accuracies and qualities, both (datasets, n).

        Args:
            embedding: float (datasets, embedding).
            hidden: float (n, width) or (datasets, n, width), from the prior.
            quality: float (n,) or (datasets, n), from the prior.
        """
        taste = self.taste(self.centre(embedding).clamp(-3, 3))
        own = (taste[:, None] * torch.tanh(self.traits(hidden))).sum(-1)
        total = quality + own
        return self.level(embedding) + F.softplus(self.slope(embedding)) * total, total


class Predictor(nn.Module):
    """An ensemble of (prior, dataset side) pairs and the scale of its interval."""

    cost_centre: Tensor
    cost_scale: Tensor
    noise: Tensor
    width_factor: Tensor

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        self.inputs = SetInputs(config.components)
        self.priors = nn.ModuleList(ArchitecturePrior(config) for _ in range(config.members))
        self.sides = nn.ModuleList(DatasetSide(config) for _ in range(config.members))
        self.register_buffer("cost_centre", torch.zeros(2))
        self.register_buffer("cost_scale", torch.ones(2))
        self.register_buffer("noise", torch.ones(()))
        self.register_buffer("width_factor", torch.ones(()))

    def standardised_costs(self, costs: Tensor) -> Tensor:
        """Map int (n, 2) parameters and MACs to what the prior takes."""
        return (costs.double().log() - self.cost_centre).div(self.cost_scale).float()

    @torch.no_grad()
    def prior(self, graphs: Batch, costs: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return hidden states and qualities of architectures for each member.

        They hold for every dataset, so callers keep them.
        """
        scaled = self.standardised_costs(costs)
        return [prior(graphs, scaled)[:2] for prior in self.priors]

    @torch.no_grad()
    def embed(self, descriptions: Sequence[Description]) -> list[Tensor]:
        """Return float (datasets, embedding) of each member."""
        batch = self.inputs(descriptions)
        return [side.encoder(batch) for side in self.sides]  # type: ignore[operator]

    @torch.no_grad()
    def forward(
        self, embeddings: list[Tensor], priors: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of the logit accuracy, float (datasets, n)."""
        members = torch.stack(
            [
                side(embedding, hidden, quality)[0]
                for side, embedding, (hidden, quality) in zip(
                    self.sides, embeddings, priors, strict=True
                )
            ]
        )
        variance = members.var(0, correction=0) + self.noise**2
        return members.mean(0), self.width_factor * variance.sqrt()


def prior_inputs(space: SearchSpace, architectures: np.ndarray) -> tuple[Batch, Tensor]:
    """Return the graphs and raw costs that :meth:`Predictor.prior` takes, of int (n, slots)."""
    return space.graphs(architectures), torch.from_numpy(space.costs(architectures, CLASSES))


def standardise_limits(predictor: Predictor, limits: Tensor) -> Tensor:
    """Map float (n, 2) limits, ``inf`` for none, to what the generator takes, in -3..3."""
    scaled = (limits.double().log() - predictor.cost_centre) / predictor.cost_scale
    return scaled.clamp(-3, 3).float()
