"""GAT: graph attention network, with early or late fusion."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import check_heads
from skmmg.models._homogeneous import HomogeneousBackbone, HomogeneousSpec, Step
from skmmg.nn import GraphTensors
from skmmg.nn._edges import EdgeStructure, EdgeType
from skmmg.nn._gat_conv import ATTENTION, GATConv
from skmmg.nn._homogeneous import HomogeneousGraph


class GAT(HomogeneousSpec):
    r"""Graph attention network on one graph of all relations.

    .. math::

        g_e &= \mathrm{LeakyReLU}(a_s^\top W h_j + a_d^\top W h_i) \quad (v1), \qquad
        g_e = a^\top \mathrm{LeakyReLU}(W h_j + W_d h_i + b_d) \quad (v2) \\
        \alpha_e &= \frac{w_e \exp g_e}{\sum_{e' \in N(i)} w_{e'} \exp g_{e'}}, \qquad
        h_i \leftarrow \mathrm{ELU}\Bigl(\sum_{e \in N(i)} \alpha_e W h_j + b\Bigr)

    for each head and each edge e from j to i of weight :math:`w_e`, with an edge from every node
    to itself. Heads stand side by side, and in the last layer their mean is taken.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states; a head has ``hidden_channels / heads`` channels of it, and all of it
        in the last layer.
    num_layers : int, default=2
        Number of layers; 0 leaves the projection and the classifier.
    heads : int, default=8
        Attention heads of all layers but the last; has to divide `hidden_channels`.
    out_heads : int, default=1
        Attention heads of the last layer.
    attention : {"v1", "v2"}, default="v1"
        Score of GAT, in which the order of the neighbours is the same for all nodes, or of GATv2,
        in which it depends on the node.
    negative_slope : float, default=0.2
        Slope of LeakyReLU below 0, at least 0.
    dropout : float, default=0.6
        Dropout after each layer, in [0, 1).
    att_dropout : float, default=0.0
        Dropout of the attention, in [0, 1).
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
    graphs, on a view of all relations; node types differ in their projections alone.

    Changed against the papers: features are projected to `hidden_channels` first and a linear
    classifier follows, where the papers' last layer gives the classes; edges may have weights, at
    least 0, and one of weight 2 counts as two edges; an edge from a node to itself that is in the
    graph stays beside the one that every node gets, so that a fitted row and a new row like it
    get the same. GAT's paper trains 2 layers of 8 heads with 8 channels each, the last with 1
    head, dropout of 0.6 on inputs and attention, Adam with a learning rate of 0.005 and an l2 of
    5e-4. Memory: v2 computes its scores in blocks of edges, and again on the way back.

    References
    ----------
    Velickovic et al., Graph attention networks, ICLR 2018, equations 1 to 6. arXiv:1710.10903

    Brody, Alon, Yahav, How attentive are graph attention networks?, ICLR 2022, equation 7.
    arXiv:2105.14491

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import GAT
    >>> clf = MultiModalGraphClassifier(GAT(attention="v2"), fusion="late")
    """

    name: ClassVar[str] = "gat"
    paper: ClassVar[str] = "Graph attention networks, ICLR 2018, arXiv:1710.10903"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HomogeneousSpec._parameter_constraints,
        "heads": [Interval(Integral, 1, None, closed="left")],
        "out_heads": [Interval(Integral, 1, None, closed="left")],
        "attention": [StrOptions(set(ATTENTION))],
        "negative_slope": [Interval(Real, 0, None, closed="left")],
        "att_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        heads: int = 8,
        out_heads: int = 1,
        attention: str = "v1",
        negative_slope: float = 0.2,
        dropout: float = 0.6,
        att_dropout: float = 0.0,
        input_dropout: float = 0.5,
        merge: str = "union",
        early_fusion: str = "concat",
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.out_heads = out_heads
        self.attention = attention
        self.negative_slope = negative_slope
        self.dropout = dropout
        self.att_dropout = att_dropout
        self.input_dropout = input_dropout
        self.merge = merge
        self.early_fusion = early_fusion
        self.late_fusion = late_fusion

    def _backbone(self, schema: Schema) -> nn.Module:
        check_heads(self.hidden_channels, self.heads)
        return GATBackbone(
            self.hidden_channels,
            schema.edge_types,
            num_layers=self.num_layers,
            heads=self.heads,
            out_heads=self.out_heads,
            attention=self.attention,
            negative_slope=self.negative_slope,
            dropout=self.dropout,
            att_dropout=self.att_dropout,
            merge=self.merge,
        )


class GATBackbone(HomogeneousBackbone):
    """A stack of graph attention layers on one state per node."""

    def __init__(
        self,
        channels: int,
        edge_types: Sequence[EdgeType],
        *,
        num_layers: int,
        heads: int,
        out_heads: int,
        attention: str,
        negative_slope: float,
        dropout: float,
        att_dropout: float,
        merge: str,
    ) -> None:
        sizes = [(channels // heads, heads)] * (num_layers - 1) + [(channels, out_heads)]
        convs = [
            GATConv(
                channels,
                width,
                n_heads,
                concat=i < num_layers - 1,
                attention=attention,
                negative_slope=negative_slope,
                dropout=att_dropout,
            )
            for i, (width, n_heads) in enumerate(sizes[:num_layers])
        ]
        super().__init__(convs, channels, edge_types, dropout=dropout, merge=merge)

    def _step(self, graph: GraphTensors, dtype: torch.dtype) -> Step:
        edges, weight = self._derived(graph, dtype, "edges and loops", add_loops)
        return lambda conv, h: F.elu(conv(h, edges, weight))


def add_loops(graph: HomogeneousGraph) -> tuple[EdgeStructure, Tensor]:
    """The edges with one from every node to itself, and their weights."""
    looped = graph.with_self_loops()
    return looped.structure(), looped.weight
