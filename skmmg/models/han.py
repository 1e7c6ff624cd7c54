"""HAN: heterogeneous graph attention network over metapaths, with early or late fusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import check_heads
from skmmg.models._fusion import FusedSpec
from skmmg.nn import GraphTensors
from skmmg.nn._dropout import dropout
from skmmg.nn._han_conv import ACTIVATIONS, SEMANTIC_SCOPES, HANConv
from skmmg.nn._metapaths import Metapath, check_metapaths, metapath_edges


class HAN(FusedSpec):
    r"""Heterogeneous graph attention network.

    .. math::

        \alpha_{ij}^p &= \mathrm{softmax}_{j \in N_p(i)}\,
            \mathrm{LeakyReLU}(a_p^\top [h'_i \,\Vert\, h'_j]), \qquad
        z_i^p = \mathop{\Vert}_{heads} \mathrm{ELU}\Bigl(\sum_j \alpha_{ij}^p h'_j\Bigr) \\
        w_p &= \frac{1}{n} \sum_i q^\top \tanh(W z_i^p + b), \qquad
        z_i = \sum_p \mathrm{softmax}_p(w_p)\, z_i^p

    where :math:`h' = M x` and :math:`N_p(i)` are the nodes of the target type at the other end of
    a metapath :math:`p`, each once, and i itself.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states, of all heads together.
    num_layers : int, default=1
        Number of layers; 0 leaves the projection and the classifier.
    heads : int, default=8
        Attention heads; has to divide `hidden_channels`.
    metapaths : "auto" or list of metapaths, default="auto"
        Metapaths from the target type back to it. A metapath is a sequence of relation names or of
        edge types (source, relation, destination), in the direction of the edges, such as
        ``("stars", "rev_stars")``; a relation alone joins nodes of the target type. "auto": every
        relation between nodes of the target type, and every two relations that lead from it to
        another type and back.
    max_neighbors : int or None, default=None
        The most neighbours that a node keeps per metapath, beside itself: those that it shares
        the most instances of the metapath with, and among equals a fixed pseudo-random choice by
        the nodes' numbers. None keeps all. It keeps hubs from joining all with all.
    att_channels : int, default=128
        Width of :math:`q`.
    semantic_scope : {"node", "global"}, default="node"
        Whether every node weighs the metapaths for itself, as the authors' code does, or all nodes
        alike, as the paper says (equation 7).
    add_self_loops : bool, default=True
        Whether a node is its own neighbour along every metapath.
    activation : {"elu", "relu"}, default="elu"
        Activation after the node level.
    negative_slope : float, default=0.2
        Slope of the LeakyReLU.
    dropout : float, default=0.6
        Dropout after each layer, in [0, 1).
    att_dropout : float, default=0.6
        Dropout of the attention over neighbours, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, in [0, 1).
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.
    late_fusion : {"attention", "mean", "concat", "logits"}, default="attention"
        How ``fusion="late"`` merges the networks of the modalities.

    Notes
    -----
    Fusion modes: "late" (default), "early". For rows (a 2-D X) the relations of neighbours are the
    metapaths. Only states of the target type are used; what it lacks is completed first, see
    `missing`. With `max_neighbors`, or ``semantic_scope="global"``, the model needs the whole graph
    at once and refuses a `batch_size`.

    Changed against the paper: with ``semantic_scope="global"`` the :math:`w_p` of the last pass of
    training are used to predict, because a node's class would depend on the nodes beside it
    otherwise. Beyond the paper: more than one layer; two relations of "auto" may differ, as in
    movie - stars - person - directed - movie. PyG's HANConv has ReLU, no self-loops,
    ``att_channels=hidden_channels`` and the global scope.

    References
    ----------
    Wang, Ji, Shi, Wang, Ye, Cui, Yu, Heterogeneous graph attention network, WWW 2019, equations 1
    to 9. arXiv:1903.07293

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.datasets import make_multimodal_graph
    >>> from skmmg.models import HAN
    >>> planted = make_multimodal_graph(60, random_state=0)
    >>> X, y = planted.graph.nodes("item"), planted.target
    >>> han = HAN(metapaths=[("has", "rev_has")], max_neighbors=50)
    >>> clf = MultiModalGraphClassifier(han, max_epochs=2, random_state=0).fit(X, y)
    """

    name: ClassVar[str] = "han"
    paper: ClassVar[str] = "Heterogeneous graph attention network, WWW 2019, arXiv:1903.07293"
    fusion_modes: ClassVar[tuple[str, ...]] = ("late", "early")
    input_activation: ClassVar[str | None] = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **FusedSpec._parameter_constraints,
        "heads": [Interval(Integral, 1, None, closed="left")],
        "metapaths": [StrOptions({"auto"}), list, tuple],
        "max_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "att_channels": [Interval(Integral, 1, None, closed="left")],
        "semantic_scope": [StrOptions(set(SEMANTIC_SCOPES))],
        "add_self_loops": ["boolean"],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "negative_slope": [Interval(Real, 0, None, closed="left")],
        "att_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 1,
        heads: int = 8,
        metapaths: str | Sequence[Any] = "auto",
        max_neighbors: int | None = None,
        att_channels: int = 128,
        semantic_scope: str = "node",
        add_self_loops: bool = True,
        activation: str = "elu",
        negative_slope: float = 0.2,
        dropout: float = 0.6,
        att_dropout: float = 0.6,
        input_dropout: float = 0.5,
        early_fusion: str = "concat",
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.metapaths = metapaths
        self.max_neighbors = max_neighbors
        self.att_channels = att_channels
        self.semantic_scope = semantic_scope
        self.add_self_loops = add_self_loops
        self.activation = activation
        self.negative_slope = negative_slope
        self.dropout = dropout
        self.att_dropout = att_dropout
        self.input_dropout = input_dropout
        self.early_fusion = early_fusion
        self.late_fusion = late_fusion

    @property
    def samples(self) -> bool:
        """Not where a mean over all nodes, or the numbers of nodes, have a say."""
        return self.semantic_scope == "node" and self.max_neighbors is None

    def num_hops(self) -> int:
        """Steps of the longest metapath, layer by layer; "auto" has none of more than two."""
        if isinstance(self.metapaths, str):
            return 2 * self.num_layers
        steps = [len(p) if isinstance(p, list | tuple) else 1 for p in self.metapaths]
        return self.num_layers * max(steps, default=0)

    def _backbone(self, schema: Schema) -> nn.Module:
        check_heads(self.hidden_channels, self.heads)
        target = str(schema.target)
        metapaths = check_metapaths(self.metapaths, schema.edge_types, target)
        return HANBackbone(self.hidden_channels, metapaths, target, self)


class HANBackbone(nn.Module):
    """A stack of HAN layers on the states of the target type.

    The first layer has no projection: the projection of the features is the paper's :math:`M`.
    """

    def __init__(
        self, channels: int, metapaths: Sequence[Metapath], target: str, spec: HAN
    ) -> None:
        super().__init__()
        self.out_channels, self.target, self.metapaths = channels, target, tuple(metapaths)
        self.max_neighbors, self.self_loops = spec.max_neighbors, spec.add_self_loops
        self.dropout = spec.dropout
        self.convs = nn.ModuleList(
            HANConv(
                channels,
                len(metapaths),
                heads=spec.heads,
                att_channels=spec.att_channels,
                semantic_scope=spec.semantic_scope,
                activation=spec.activation,
                negative_slope=spec.negative_slope,
                att_dropout=spec.att_dropout,
                project=layer > 0,
            )
            for layer in range(spec.num_layers)
        )

    def forward(self, x_dict: Mapping[str, Tensor], graph: GraphTensors) -> dict[str, Tensor]:
        """New states of the target type."""
        h = x_dict[self.target]
        if not self.convs:
            return {self.target: h}
        edges = metapath_edges(
            graph, self.metapaths, max_neighbors=self.max_neighbors, self_loops=self.self_loops
        )
        for conv in cast("Iterable[HANConv]", self.convs):
            h, _ = conv(h, edges, keep_score=graph.row_order is None)
            h = dropout(h, self.dropout, self.training)
        return {self.target: h}
