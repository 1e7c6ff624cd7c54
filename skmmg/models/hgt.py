"""HGT: heterogeneous graph transformer, with early or late fusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import check_heads
from skmmg.models._fusion import FusedSpec
from skmmg.models._layerwise import Layer, layer_on_edges
from skmmg.nn import GraphTensors, HGNNIMAConv
from skmmg.nn._dropout import dropout
from skmmg.nn._edges import EdgeStructure, EdgeType
from skmmg.nn._field import ReceptiveField


class HGT(FusedSpec):
    r"""Heterogeneous graph transformer.

    .. math::

        g_e &= \mu_r \, K(h_j) W^{att}_r Q(h_i) / \sqrt{d_k}, \qquad
        a_e = \mathrm{softmax}_{e \in N(i)}\, g_e \\
        u_i &= \sum_{e \in N(i)} a_e V(h_j) W^{msg}_r, \qquad
        h_i \leftarrow s A(\mathrm{GELU}(u_i)) + (1 - s) h_i

    with a softmax over all edges into a node, whatever their relation, and a learned gate
    :math:`s` per node type. It is `skmmg.nn.HGNNIMAConv` for one modality.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states.
    num_layers : int, default=2
        Number of layers; 0 leaves the projection and the classifier.
    heads : int, default=8
        Attention heads; has to divide `hidden_channels`.
    dropout : float, default=0.6
        Dropout after each layer, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, in [0, 1).
    norm : {"layer"} or None, default=None
        LayerNorm per node type after each layer.
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.
    late_fusion : {"attention", "mean", "concat", "logits"}, default="attention"
        How ``fusion="late"`` merges the networks of the modalities.

    Notes
    -----
    Fusion modes: "late" (default), "early". Left out: relative temporal encoding, as the
    networks here carry no times. Dropout acts on a layer's states, after the gate; in the paper
    before it, so that the part of the last states is whole.

    References
    ----------
    Hu, Dong, Wang, Sun, Heterogeneous graph transformer, WWW 2020, equations 1 to 5.
    arXiv:2003.01332

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import HGT
    >>> clf = MultiModalGraphClassifier(HGT(heads=4), fusion="early")
    """

    name: ClassVar[str] = "hgt"
    paper: ClassVar[str] = "Heterogeneous graph transformer, WWW 2020, arXiv:2003.01332"
    fusion_modes: ClassVar[tuple[str, ...]] = ("late", "early")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **FusedSpec._parameter_constraints,
        "heads": [Interval(Integral, 1, None, closed="left")],
        "norm": [StrOptions({"layer"}), None],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        heads: int = 8,
        dropout: float = 0.6,
        input_dropout: float = 0.5,
        norm: str | None = None,
        early_fusion: str = "concat",
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.norm = norm
        self.early_fusion = early_fusion
        self.late_fusion = late_fusion

    def _backbone(self, schema: Schema) -> nn.Module:
        check_heads(self.hidden_channels, self.heads)
        return HGTBackbone(
            self.hidden_channels,
            list(schema.node_types),
            schema.edge_types,
            num_layers=self.num_layers,
            heads=self.heads,
            dropout=self.dropout,
            norm=self.norm,
        )


class HGTBackbone(nn.Module):
    """A stack of HGT layers on one state per node."""

    def __init__(
        self,
        channels: int,
        node_types: Sequence[str],
        edge_types: Sequence[EdgeType],
        *,
        num_layers: int,
        heads: int,
        dropout: float,
        norm: str | None,
    ) -> None:
        super().__init__()
        self.out_channels, self.dropout = channels, dropout
        self.edge_types, self.num_layers = tuple(edge_types), num_layers
        self.convs = nn.ModuleList(
            HGNNIMAConv(
                channels,
                (node_types, edge_types),
                heads=heads,
                cross_modal="none",
                align=False,
                residual="gated",
                norm=norm,
            )
            for _ in range(num_layers)
        )

    def forward(self, x_dict: Mapping[str, Tensor], graph: GraphTensors) -> dict[str, Tensor]:
        """New states of all node types."""
        edges = graph.edges(self.edge_types)
        h = self._run(torch.cat(list(x_dict.values())), (edges,) * self.num_layers)
        return {t: h[part] for t, part in edges.node_slices.items()}

    def run_field(self, h: Tensor, field: ReceptiveField) -> Tensor:
        """New states of the target nodes, from those of all nodes that they see."""
        return self._run(h, field.layers)[field.target]

    def _run(self, h: Tensor, layers: Iterable[EdgeStructure]) -> Tensor:
        h = h.unsqueeze(0)
        for conv, edges in zip(cast("Iterable[HGNNIMAConv]", self.convs), layers, strict=True):
            h, _ = conv.propagate(h, edges)
            h = dropout(h, self.dropout, self.training)
        return h[0]

    def stages(self) -> list[Layer]:
        """The layers one by one, for `Layerwise`."""

        def layer(conv: HGNNIMAConv) -> Layer:
            return layer_on_edges(lambda h, edges: conv.propagate(h, edges)[0], self.edge_types)

        return [layer(conv) for conv in cast("Iterable[HGNNIMAConv]", self.convs)]
