"""MLP: the same features and fusion without the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from skmmg.graph import Schema
from skmmg.models._fusion import FusedSpec
from skmmg.models._layerwise import Layer, layer_on_graph
from skmmg.nn import GraphTensors


class MLP(FusedSpec):
    """Multi-layer perceptron on a node's own features: what a graph model has to beat.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the layers.
    num_layers : int, default=1
        Hidden layers after the projection.
    dropout : float, default=0.6
        Dropout after each layer, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, in [0, 1).
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.
    late_fusion : {"attention", "mean", "concat", "logits"}, default="attention"
        How ``fusion="late"`` merges the networks of the modalities.

    Notes
    -----
    Fusion modes: "early" (default), "late". Edges are not used, so a node that lacks a modality
    gets its first one's state, zeros or a learned vector, but ``missing="mean_neighbors"``, and
    nodes without any modality, do look at neighbours.

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import MLP
    >>> clf = MultiModalGraphClassifier(MLP(num_layers=2), graph="none")
    """

    name: ClassVar[str] = "mlp"
    paper: ClassVar[str] = "a baseline without a graph"

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 1,
        dropout: float = 0.6,
        input_dropout: float = 0.5,
        early_fusion: str = "concat",
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.early_fusion = early_fusion
        self.late_fusion = late_fusion

    def num_hops(self) -> int:
        """0: it looks at a node alone."""
        return 0

    def _backbone(self, schema: Schema) -> nn.Module:
        return MLPBackbone(self.hidden_channels, self.num_layers, self.dropout, schema.target)


class MLPBackbone(nn.Module):
    """Linear, ReLU and dropout, on the states of the target type."""

    def __init__(self, channels: int, num_layers: int, dropout: float, target: str | None) -> None:
        super().__init__()
        self.out_channels, self.target = channels, target
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for _ in range(num_layers):
            layers += [nn.Linear(channels, channels), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def stages(self) -> list[Layer]:
        """All layers as one, for `Layerwise`."""
        return [layer_on_graph(lambda h, graph: self.layers(h), num_hops=0)]

    def forward(self, x_dict: Mapping[str, Tensor], graph: GraphTensors) -> dict[str, Tensor]:
        """New states of the target type."""
        return {t: self.layers(x) for t, x in x_dict.items() if t == self.target}
