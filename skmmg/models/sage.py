"""GraphSAGE: a node's own state and an aggregate of its neighbours', early or late fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from skmmg._sklearn import StrOptions
from skmmg.graph import Schema
from skmmg.models._homogeneous import HomogeneousBackbone, HomogeneousSpec, Step
from skmmg.nn import GraphTensors
from skmmg.nn._edges import EdgeType
from skmmg.nn._sage_conv import AGGR, Neighborhood, SAGEConv


class SAGE(HomogeneousSpec):
    r"""GraphSAGE on one graph of all relations.

    .. math::

        h_i \leftarrow \frac{u_i}{\|u_i\|_2}, \qquad
        u_i = \mathrm{ReLU}\bigl(W [h_i \,\|\, \mathrm{AGG}_{j \in N(i)} h_j] + b\bigr)

    where AGG is the weighted mean or sum of the neighbours' states, or the max-pool
    :math:`\max_j \mathrm{ReLU}(W_p h_j + b_p)`, element by element.

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
    aggr : {"mean", "sum", "max"}, default="mean"
        AGG; "max" takes no weights of edges.
    normalize : bool, default=True
        Whether states get length 1 after each layer.
    merge : {"union", "mean"}, default="union"
        How the relations become one graph. "union": an edge is there if any relation has it, with
        the largest of its weights. "mean": mean of the adjacency matrices of the relations
        between two node types, in each of which parallel edges add up; the same for
        ``aggr="max"``.
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.
    late_fusion : {"attention", "mean", "concat", "logits"}, default="attention"
        How ``fusion="late"`` merges the networks of the modalities.

    Notes
    -----
    Fusion modes: "early" (default), "late". On rows the graph is made of the modalities' neighbour
    graphs, on a view of all relations; node types differ in their projections alone.

    Changed against the paper: features are projected to `hidden_channels` first; edges may have
    weights, at least 0; all neighbours take part, where the paper samples 25 and 10 of them in its
    2 layers; a map has a bias. Left out: the LSTM aggregator, whose result depends on the order of
    the neighbours, and the loss without labels. The paper trains 2 layers with Adam.

    References
    ----------
    Hamilton, Ying, Leskovec, Inductive representation learning on large graphs, NeurIPS 2017,
    algorithm 1 and equation 3. arXiv:1706.02216

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import SAGE
    >>> clf = MultiModalGraphClassifier(SAGE(aggr="max"), fusion="late")
    """

    name: ClassVar[str] = "sage"
    paper: ClassVar[str] = (
        "Inductive representation learning on large graphs, NeurIPS 2017, arXiv:1706.02216"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HomogeneousSpec._parameter_constraints,
        "aggr": [StrOptions(set(AGGR))],
        "normalize": ["boolean"],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.6,
        input_dropout: float = 0.5,
        aggr: str = "mean",
        normalize: bool = True,
        merge: str = "union",
        early_fusion: str = "concat",
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.aggr = aggr
        self.normalize = normalize
        self.merge = merge
        self.early_fusion = early_fusion
        self.late_fusion = late_fusion

    @property
    def uses_edge_weight(self) -> bool:
        """Whether weights of edges change what it computes: a maximum does not see them."""
        return self.aggr != "max"

    def _backbone(self, schema: Schema) -> nn.Module:
        return SAGEBackbone(
            self.hidden_channels,
            schema.edge_types,
            num_layers=self.num_layers,
            dropout=self.dropout,
            aggr=self.aggr,
            normalize=self.normalize,
            merge=self.merge,
        )


class SAGEBackbone(HomogeneousBackbone):
    """A stack of GraphSAGE layers on one state per node."""

    def __init__(
        self,
        channels: int,
        edge_types: Sequence[EdgeType],
        *,
        num_layers: int,
        dropout: float,
        aggr: str,
        normalize: bool,
        merge: str,
    ) -> None:
        convs = [SAGEConv(channels, aggr, normalize=normalize) for _ in range(num_layers)]
        super().__init__(convs, channels, edge_types, dropout=dropout, merge=merge)
        self.aggr = aggr

    def _step(self, graph: GraphTensors, dtype: torch.dtype) -> Step:
        name = ("neighborhood", self.aggr)
        near = self._derived(graph, dtype, name, lambda g: Neighborhood(g, self.aggr))
        return lambda conv, h: conv(h, near)
