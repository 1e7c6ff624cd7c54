"""What one would build of PyG's HGTConv for several modalities: a yardstick of `bench_speed.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import HGTConv

from skmmg import NodeView
from skmmg.nn import GraphTensors, ModalityAttention


class PyGLateFusion(nn.Module):
    """One HGTConv network per modality, as PyG's users write it; then attention and a classifier.

    A node type that lacks a modality starts from a learned vector; sparse features stay sparse.
    """

    def __init__(
        self,
        view: NodeView,
        n_classes: int,
        *,
        channels: int,
        num_layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        schema = view.schema
        self.target, self.modalities, self.dropout = schema.target, schema.modalities, dropout
        metadata = (list(schema.node_types), list(schema.edge_types))
        self.inputs = nn.ModuleDict(
            {
                f"{node_type} {modality}": nn.Linear(widths.get(modality, 1), channels)
                for node_type, widths in schema.node_types.items()
                for modality in schema.modalities
            }
        )
        self.convs = nn.ModuleDict(
            {
                modality: nn.ModuleList(
                    HGTConv(channels, channels, metadata, heads) for _ in range(num_layers)
                )
                for modality in schema.modalities
            }
        )
        self.fusion = ModalityAttention(channels)
        self.head = nn.Linear(channels, n_classes)

    def forward(self, graph: GraphTensors, ids: Tensor) -> Tensor:
        """Scores of the classes."""
        h = torch.stack([self._run(m, graph)[ids] for m in self.modalities])
        return self.head(self.fusion(h)[0])

    def _run(self, modality: str, graph: GraphTensors) -> Tensor:
        h = {}
        for node_type, n_nodes in graph.num_nodes.items():
            linear = self.inputs[f"{node_type} {modality}"]
            x = graph.x[node_type].get(modality)
            x = linear.weight.new_ones(n_nodes, 1) if x is None else x
            product = linear(x) if isinstance(x, Tensor) else x @ linear.weight.t() + linear.bias
            h[node_type] = product.tanh()
        for conv in self.convs[modality]:
            h = {
                t: F.dropout(x, self.dropout, self.training)
                for t, x in conv(h, graph.edge_index).items()
            }
        return h[self.target]
