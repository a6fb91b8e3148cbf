"""The set encoder: any number of classes with any number of images each, to one vector.

Source: Lee et al., MetaD2A, ICLR 2021 (two levels: images to class, classes to
dataset), with the attention blocks of Lee et al., "Set Transformer", ICML 2019. Ours is masked, so
that sets are ragged, and also takes explicit statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metad2a.model.backbone import FEATURES
from metad2a.model.description import STATISTICS, Description

HEADS = 4
"""Heads of every attention; divides the width."""
_FIT_ROWS = 4000


@dataclass(frozen=True)
class DatasetBatch:
    """Datasets padded to one shape, as a set encoder takes them.

    ``images``: float32 (batch, classes, images, components), ``present``: bool (batch, classes,
    images), ``statistics``: float32 (batch, statistics), standardised.
    """

    images: Tensor
    present: Tensor
    statistics: Tensor

    def part(self, sets: Tensor, places: Tensor) -> DatasetBatch:
        """Keep int64 ``sets``, and of every class only the images at int64 ``places``."""
        return DatasetBatch(
            self.images[sets][:, :, places], self.present[sets][:, :, places], self.statistics[sets]
        )


class SetInputs(nn.Module):
    """Brings descriptions to the form that set encoders take.

    Features are projected on ``components`` principal components, and statistics standardised, by
    buffers that :meth:`fit` sets from the meta-training datasets.
    """

    mean: Tensor
    projection: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("projection", torch.zeros(FEATURES, components))
        self.register_buffer("centre", torch.zeros(len(STATISTICS)))
        self.register_buffer("scale", torch.ones(len(STATISTICS)))

    def fit(self, descriptions: Sequence[Description]) -> None:
        """Set projection and standardisation."""
        rows = torch.cat([d.features for d in descriptions])
        rows = rows[:: max(1, len(rows) // _FIT_ROWS)]
        self.mean.copy_(rows.mean(0))
        # In single precision eigh does not converge where images are fewer than features.
        centred = (rows - self.mean).double()
        values, basis = torch.linalg.eigh(centred.T @ centred / len(rows))
        kept = self.projection.shape[1]
        deviation = values[-kept:].clamp_min(1e-12).sqrt()
        self.projection.copy_(basis[:, -kept:] / deviation)
        statistics = torch.stack([d.statistics for d in descriptions])
        self.centre.copy_(statistics.mean(0))
        self.scale.copy_(statistics.std(0).clamp_min(1e-3))

    @torch.no_grad()
    def forward(self, descriptions: Sequence[Description]) -> DatasetBatch:
        """Project, pad and stack descriptions; everything is held within 3 or 5 deviations."""
        counts = [torch.bincount(d.labels) for d in descriptions]
        classes = max(len(c) for c in counts)
        most = max(int(c.max()) for c in counts)
        images = torch.zeros(len(counts), classes, most, self.projection.shape[1])
        present = torch.zeros(len(counts), classes, most, dtype=torch.bool)
        for row, (description, count) in enumerate(zip(descriptions, counts, strict=True)):
            order = description.labels.argsort(stable=True)
            labels = description.labels[order]
            place = torch.arange(len(order)) - (count.cumsum(0) - count)[labels]
            projected = (description.features[order] - self.mean) @ self.projection
            images[row, labels, place] = projected.clamp(-5, 5)
            present[row, labels, place] = True
        statistics = torch.stack([d.statistics for d in descriptions])
        return DatasetBatch(images, present, ((statistics - self.centre) / self.scale).clamp(-3, 3))


class SetAttention(nn.Module):
    """Self-attention block, then pooling by attention from one learnt seed (SAB and PMA)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.pool = nn.MultiheadAttention(width, heads, batch_first=True)
        self.seed = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.feed = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Pool float (sets, items, width) with bool (sets, items) to (sets, width).

        A set without items gives a vector that the caller must mask.
        """
        # Attention over nothing is undefined, so an empty set attends to its padding.
        absent = ~(present | ~present.any(1, keepdim=True))
        normed = self.norms[0](x)
        x = x + self.among(normed, normed, normed, absent, need_weights=False)[0]
        x = x + self.feed(self.norms[1](x))
        normed = self.norms[2](x)
        seed = self.seed.expand(len(x), -1, -1)
        pooled: Tensor = self.pool(seed, normed, normed, absent, need_weights=False)[0]
        return pooled[:, 0]


class SetEncoder(nn.Module):
    """Two-level set transformer beside a linear map of the statistics."""

    def __init__(
        self, components: int, width: int, outputs: int, heads: int = HEADS, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.enter = nn.Linear(components, width)
        self.to_class = SetAttention(width, heads)
        self.to_dataset = SetAttention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.from_set = nn.Linear(width, outputs)
        # Linear, since there are only as many examples as meta-training tasks.
        self.from_statistics = nn.Linear(len(STATISTICS), outputs)

    def forward(self, batch: DatasetBatch) -> Tensor:
        """Return float (batch, outputs) embeddings."""
        sets, classes, images, _ = batch.images.shape
        x = self.enter(batch.images).reshape(sets * classes, images, -1)
        per_class = self.to_class(x, batch.present.reshape(sets * classes, images))
        whole = self.to_dataset(per_class.reshape(sets, classes, -1), batch.present.any(2))
        summed: Tensor = self.from_set(self.dropout(whole)) + self.from_statistics(batch.statistics)
        return summed
