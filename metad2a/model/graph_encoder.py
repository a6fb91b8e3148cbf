"""The graph encoder: an architecture's graph to a vector.

MetaD2A (Lee et al., ICLR 2021) walks the graph node by node with a GRU; here messages pass along
and against the data flow for as many rounds as the longest path has hops, all graphs at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import GINConv, global_add_pool


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))


class GraphEncoder(nn.Module):
    """Graph isomorphism network (Xu et al., ICLR 2019) in both directions of a DAG."""

    def __init__(self, node_features: int, width: int = 48, rounds: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(node_features, width, bias=False)
        self.along = nn.ModuleList(GINConv(_mlp(width, width)) for _ in range(rounds))
        self.against = nn.ModuleList(GINConv(_mlp(width, width)) for _ in range(rounds))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(rounds))
        self.width = 2 * width

    def forward(self, graphs: Batch) -> Tensor:
        """Return float (graphs, 2 * width): the sum over nodes, and the output node's state."""
        x = self.embed(graphs.x)
        reverse = graphs.edge_index.flip(0)
        for along, against, norm in zip(self.along, self.against, self.norms, strict=True):
            x = norm(x + along(x, graphs.edge_index) + against(x, reverse))
        summed = global_add_pool(x, graphs.batch, size=graphs.num_graphs)
        output = x[graphs.ptr[1:] - 1]  # the last node of each graph
        return torch.cat([summed, output], dim=1)
