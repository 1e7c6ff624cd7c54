"""GCN: graph convolutional network, with early or late fusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from skmmg.graph import Schema
from skmmg.models._homogeneous import HomogeneousBackbone, HomogeneousSpec, Step
from skmmg.models._layerwise import Layer, layers_with_scale
from skmmg.nn import GraphTensors
from skmmg.nn._edges import EdgeType
from skmmg.nn._homogeneous import HomogeneousGraph, inverse_root, normalized_adjacency


class GCN(HomogeneousSpec):
    r"""Graph convolutional network on one graph of all relations.

    .. math::

        H \leftarrow \mathrm{ReLU}\bigl(\tilde D^{-1/2} (A + I) \tilde D^{-1/2} H W + b\bigr),
        \qquad \tilde D_{ii} = 1 + \sum_j A_{ij}

    where :math:`A_{ij}` is the weight of the edge from j to i.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states.
    num_layers : int, default=2
        Number of layers; 0 leaves the projection and the classifier.
    dropout : float, default=0.6
        Dropout after each layer, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, in [0, 1).
    merge : {"union", "mean"}, default="union"
        How the relations become one graph. "union": an edge is there if any relation has it, with
        the largest of its weights. "mean": mean of the adjacency matrices of the relations
        between two node types, in each of which parallel edges add up.
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.
    late_fusion : {"attention", "mean", "concat", "logits"}, default="attention"
        How ``fusion="late"`` merges the networks of the modalities.

    Notes
    -----
    Fusion modes: "early" (default), "late". On rows the graph is made of the modalities' neighbour
    graphs, on a view of all relations; node types differ in their projections alone. Edges have a
    direction, from the neighbour to the row, and weights, which have to be at least 0.

    Changed against the paper: features are projected to `hidden_channels` first and a linear
    classifier follows, so that there are `num_layers` convolutions between two linear maps, where
    the paper's last convolution gives the classes; the degree counts edges into a node, since a
    new row is linked from the fitted rows and not back; an edge from a node to itself stays, and
    the loop comes on top, so that a fitted row and a new row like it get the same. The paper
    trains 2 layers of 16 channels with dropout 0.5, Adam with a learning rate of 0.01, an l2 of
    5e-4 on the first layer, and 200 epochs.

    References
    ----------
    Kipf and Welling, Semi-supervised classification with graph convolutional networks, ICLR 2017,
    equation 2. arXiv:1609.02907

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import GCN
    >>> clf = MultiModalGraphClassifier(GCN(merge="mean"), fusion="late")
    """

    name: ClassVar[str] = "gcn"
    paper: ClassVar[str] = (
        "Semi-supervised classification with graph convolutional networks, ICLR 2017, "
        "arXiv:1609.02907"
    )

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.6,
        input_dropout: float = 0.5,
        merge: str = "union",
        early_fusion: str = "concat",
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.merge = merge
        self.early_fusion = early_fusion
        self.late_fusion = late_fusion

    def num_hops(self) -> int:
        """One more than the layers: an edge's weight depends on the edges into its source."""
        return self.num_layers + 1 if self.num_layers else 0

    def _backbone(self, schema: Schema) -> nn.Module:
        return GCNBackbone(
            self.hidden_channels,
            schema.edge_types,
            num_layers=self.num_layers,
            dropout=self.dropout,
            merge=self.merge,
        )


class GCNBackbone(HomogeneousBackbone):
    """A stack of graph convolutions on one state per node."""

    def __init__(
        self,
        channels: int,
        edge_types: Sequence[EdgeType],
        *,
        num_layers: int,
        dropout: float,
        merge: str,
    ) -> None:
        convs = [nn.Linear(channels, channels) for _ in range(num_layers)]
        super().__init__(convs, channels, edge_types, dropout=dropout, merge=merge)
        for conv in convs:
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def stages(self) -> list[Layer]:
        """The layers one by one, for `Layerwise`."""

        def loops(graph: GraphTensors, dtype: torch.dtype) -> HomogeneousGraph:
            return self._derived(graph, dtype, "self_loops", HomogeneousGraph.with_self_loops)

        def find_scale(h: Tensor, graph: GraphTensors) -> Tensor:
            return inverse_root(loops(graph, h.dtype).degree())[None, :, None]

        def layer(conv: nn.Linear) -> Callable[[Tensor, GraphTensors, Tensor], Tensor]:
            def run(h: Tensor, graph: GraphTensors, scale: Tensor) -> Tensor:
                x = (scale * (h @ conv.weight.t()))[0]
                return (scale * (loops(graph, h.dtype).matrix() @ x) + conv.bias).relu()

            return run

        return layers_with_scale(find_scale, [layer(cast("nn.Linear", c)) for c in self.convs])

    def _step(self, graph: GraphTensors, dtype: torch.dtype) -> Step:
        matrix = self._derived(
            graph,
            dtype,
            "normalized_adjacency",
            lambda g: normalized_adjacency(g.dst, g.src, g.weight, g.num_nodes),
        )
        return lambda conv, h: (matrix @ (h @ conv.weight.t()) + conv.bias).relu()
