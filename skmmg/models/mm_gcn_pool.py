"""MMGCNPool: one label for each graph, by pooling within modalities and attention between them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.nn import (
    GATConv,
    GCNConv,
    SAGEConv,
    global_mean_pool,
)

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.nn import CrossModalAttention, GraphTensors, SAGPool
from skmmg.nn._dropout import dropout
from skmmg.nn._member_graphs import MemberGraph, member_graphs
from skmmg.nn._sag_pool import filter_edges

CONV: dict[str, type[nn.Module]] = {"gcn": GCNConv, "gat": GATConv, "sage": SAGEConv}


class MMGCNPool(ModelSpec):
    r"""Multi-modal graph convolution for samples that are graphs, see `skmmg.stack_graphs`.

    The nodes of a sample that have a modality, and the edges between them, are that modality's
    graph. In each of `num_layers` layers its nodes take a convolution and the share `pool_ratio`
    of them with the highest scores stays; what stays is read out:

    .. math::

        r_l^m = \mathrm{mean}\, h_l^m \,\Vert\, \max h_l^m, \qquad u^m = \sum_l r_l^m

    Then the modalities attend to each other (`skmmg.nn.CrossModalAttention`, equations 2 to 4),
    and a gate weighs the features:

    .. math::

        z = \sigma\bigl(W_g [o^1 \Vert \dots \Vert o^M] + b_g\bigr) \odot
        [o^1 \Vert \dots \Vert o^M], \qquad O = \mathrm{softmax}(W_c z + b_c)

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states of nodes.
    num_layers : int, default=2
        Number of convolutions, each followed by pooling; at least 1.
    conv : {"gcn", "gat", "sage"}, default="gcn"
        The convolution: PyG's GCNConv (the paper's), GATConv or SAGEConv.
    pool_ratio : float, default=0.5
        Share of a graph's nodes that a pooling keeps, in (0, 1]; of n nodes, the next integer.
    dropout : float, default=0.5
        Dropout of the states after each convolution, in [0, 1).
    input_dropout : float, default=0.0
        Dropout of the features, in [0, 1).
    cross_attention : bool, default=True
        Whether the modalities attend to each other.
    gate : bool, default=True
        Feature-level attention: whether the gate weighs the features.

    Notes
    -----
    The paper reports such a network (two modalities, a label for each recording) and gives no
    equation for it; pooling by self-attention scores, the sum of the readouts of the layers and
    the gate are a reconstruction. All settings are ours.

    A node that lacks a modality takes no part in its graph, and a sample without a single node in
    a modality has zeros there, so `missing` changes nothing. Weights of edges count with
    ``conv="gcn"``.

    References
    ----------
    Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1, sections 3.2 to 3.4. Lee,
    Lee, Kang, Self-attention graph pooling, ICML 2019, arXiv:1904.08082.

    Examples
    --------
    >>> import numpy as np
    >>> from skmmg import MultiModalGraph, MultiModalGraphClassifier, KNNGraph, stack_graphs
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(20) % 2
    >>> graphs = [
    ...     MultiModalGraph({"channel": {"eeg": rng.normal(size=(6, 4)) + 2 * c}}) for c in y
    ... ]
    >>> X = stack_graphs(graphs, neighbors=KNNGraph(3))
    >>> clf = MultiModalGraphClassifier("mm_gcn_pool", max_epochs=20, lr=0.01, random_state=0)
    >>> clf.fit(X[:10], y[:10]).predict(X[10:]).shape
    (10,)
    """

    name: ClassVar[str] = "mm_gcn_pool"
    paper: ClassVar[str] = "Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1"
    tasks: ClassVar[tuple[str, ...]] = ("graph classification",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 1, None, closed="left")],
        "conv": [StrOptions(set(CONV))],
        "pool_ratio": [Interval(Real, 0, 1, closed="right")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "cross_attention": ["boolean"],
        "gate": ["boolean"],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        conv: str = "gcn",
        pool_ratio: float = 0.5,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
        cross_attention: bool = True,
        gate: bool = True,
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.conv = conv
        self.pool_ratio = pool_ratio
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.cross_attention = cross_attention
        self.gate = gate

    @property
    def uses_edge_weight(self) -> bool:
        """Whether weights of edges change what it computes."""
        return self.conv == "gcn"

    def num_hops(self) -> int:
        """Two steps: from a graph to its nodes, and from these along their edges.

        Returns
        -------
        int
            2.
        """
        return 2

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        if schema.node_types[str(schema.target)] or not any(
            dst == schema.target for _, _, dst in schema.edge_types
        ):
            raise ValueError(
                f"Model 'mm_gcn_pool' classifies graphs, and {schema.target!r} is no node type of "
                "graphs. Make X by stack_graphs, or take model='mm_gcn' for nodes and rows."
            )
        return MMGCNPoolModule(schema, n_outputs, **self.get_params(deep=False))


class MMGCNPoolModule(nn.Module):
    """The network that `MMGCNPool` describes."""

    def __init__(
        self,
        schema: Schema,
        n_outputs: int,
        *,
        hidden_channels: int,
        num_layers: int,
        conv: str,
        pool_ratio: float,
        dropout: float,
        input_dropout: float,
        cross_attention: bool,
        gate: bool,
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        n_modalities, width = len(self.modalities), 2 * hidden_channels
        self.out_channels = n_modalities * width
        self.encoder = make_encoder(
            schema,
            hidden_channels,
            missing="zero",  # what is missing is left out below
            activation=None,
            dropout=input_dropout,
        )
        self.branches = nn.ModuleList(
            PooledBranch(hidden_channels, num_layers, CONV[conv], pool_ratio, dropout)
            for _ in self.modalities
        )
        attends = cross_attention and n_modalities > 1
        self.attention = CrossModalAttention(width, n_modalities) if attends else None
        self.gate = nn.Linear(self.out_channels, self.out_channels) if gate else None
        self.head = nn.Linear(self.out_channels, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the samples `ids`."""
        h = self.encoder(graph)  # (M, N, d)
        parts = member_graphs(graph, self.modalities, self.target)
        asked, place = torch.unique(ids, return_inverse=True)
        u = torch.stack(
            [
                branch(h_m, part.of(asked), len(asked))
                for branch, h_m, part in zip(self.branches, h, parts, strict=True)
            ]
        )  # (M, n, 2d)
        weight = None
        if self.attention is not None:
            u, attention = self.attention(u)
            weight = attention.mean(0).t()[place]  # (n, M)
        z = u.transpose(0, 1).flatten(1)  # (n, M 2d)
        if self.gate is not None:
            z = self.gate(z).sigmoid() * z
        z = z[place]
        return ModelOutput(self.head(z), z, modality_weights=weight)


class PooledBranch(nn.Module):
    """Convolutions, pooling and readouts on the graphs of one modality."""

    def __init__(
        self, channels: int, num_layers: int, conv: type[nn.Module], ratio: float, dropout: float
    ) -> None:
        super().__init__()
        self.channels, self.dropout = channels, dropout
        self.weighted = conv is GCNConv
        self.convs = nn.ModuleList(conv(channels, channels) for _ in range(num_layers))
        self.pools = nn.ModuleList(SAGPool(channels, ratio) for _ in range(num_layers))

    def forward(self, h: Tensor, part: MemberGraph, n_graphs: int) -> Tensor:
        """Sum of the readouts of the layers, (n_graphs, 2 channels)."""
        x, batch = h[part.nodes], part.batch
        edges, weight = part.edge_index, part.edge_weight
        out = h.new_zeros(n_graphs, 2 * self.channels)
        for conv, pool in zip(self.convs, self.pools, strict=True):
            x = conv(x, edges, weight) if self.weighted else conv(x, edges)
            x = dropout(x.relu(), self.dropout, self.training)
            kept, score = pool(x, edges, batch)
            edges, weight = filter_edges(edges, weight, kept, len(x))
            x, batch = x[kept] * score, batch[kept]
            mean = global_mean_pool(x, batch, size=n_graphs)
            # what global_max_pool computes, which warns on a GPU that torch-scatter were faster
            largest = torch.zeros_like(mean).scatter_reduce(
                0, batch[:, None].expand_as(x), x, "amax", include_self=False
            )
            out = out + torch.cat([mean, largest], 1)
        return out
