"""MHGAT: multi-modal heterogeneous graph attention network."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.models._layerwise import Layer, Layerwise, layer_on_graph
from skmmg.nn import GraphTensors
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._edges import stack_slices
from skmmg.nn._mhgat_conv import AGGR, MHGATConv
from skmmg.nn._precision import softmax
from skmmg.nn._relation_pairs import RelationPairs

# An epoch is one step. At torch's 0.1 the running statistics trail ten epochs behind the weights,
# and inference differs from what was trained.
_MOMENTUM = 0.5


class MHGAT(ModelSpec):
    r"""Multi-modal heterogeneous graph attention network.

    In every layer, modality by modality, the neighbours of each relation are pooled and an
    attention over the relations adds them up (see the Notes); then an attention over the
    modalities merges the states of a node, with :math:`D` dropout,

    .. math::

        \omega_i^m &= \tanh D(w_2^\top \tanh D(W_1 D(h_i^m))), \qquad
        t_i = \sum_m \mathrm{softmax}_m(\omega_i^m)\, h_i^m \\
        h_i^m &\leftarrow \mathrm{ReLU}(\mathrm{BN}(h_i^m)), \qquad
        t_i \leftarrow \mathrm{BN}(t_i)

    with one batch normalisation for all of them. The merged states of all layers, side by side, go
    through :math:`\tanh D(W_o [t_i^1 \| \dots \| t_i^K])` into the classifier.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states.
    num_layers : int, default=2
        Number of layers; 0 leaves projection, modality attention and classifier. The paper has 4
        (its code counts the three after the first). With these and its dropout some
        fits end at chance, right in training and wrong in prediction; less dropout mends it, too.
    out_channels : int or None, default=None
        Width of the output :math:`W_o`; None takes `hidden_channels`.
    aggr : {"max", "sum"}, default="max"
        How the neighbours of one relation are pooled. The paper's MHGAT-max and MHGAT-sum.
    mask_empty : bool, default=True
        Whether the attention is over the relations that reach a node. False is what the released
        code does: all relations of the graph take part, those that do not reach the node with
        zeros, and a maximum is taken with 0 where several relations reach the node.
    residual_weight : float, default=0.1
        :math:`\rho`, weight of a node's own state. The paper's code has 0.1 to 0.6.
    att_channels : int, default=64
        Width of the modality attention, rows of :math:`W_1`.
    dropout : float, default=0.6
        Dropout of the states in both attentions, in [0, 1).
    att_dropout : float, default=0.1
        Dropout of the attention over the relations, in [0, 1).
    out_dropout : float, default=0.5
        Dropout of the output, in [0, 1). The paper's code has 0.3 to 0.6.
    input_dropout : float, default=0.0
        Dropout of the features, in [0, 1).

    Notes
    -----
    Pooling and attention over the relations, with :math:`W` and :math:`v` shared by the
    modalities:

    .. math::

        a_{i,r} &= \max_{j \in N_r(i)} h_j \quad \text{or} \quad \sum_{j \in N_r(i)} h_j \\
        z_{i,r} &= \mathrm{LeakyReLU}(W D(a_{i,r})), \qquad z_i = \mathrm{LeakyReLU}(W D(h_i)) \\
        e_{i,r} &= \mathrm{LeakyReLU}(v^\top [z_{i,r} \| z_i]), \qquad
        \alpha_{i,r} = \mathrm{softmax}_r\, e_{i,r} \\
        h_i &\leftarrow \sum_r D'(\alpha_{i,r}) z_{i,r} + \rho z_i

    Departures from the paper and its code: features are projected to one width per node type and
    modality first (tanh), because the code needs all of them to have one width; the attention
    over the relations masks those that do not reach a node (``mask_empty=False`` does not); the
    batch normalisation takes its statistics from the states of all modalities and the merged
    states at once, where the code calls it for one after the other, so that the order of the
    modalities has no say and training and inference agree, and its running statistics follow within
    a few epochs (momentum 0.5, not 0.1), an epoch being one step; :math:`W`, :math:`v`,
    :math:`W_1` and :math:`w_2` have no biases. The modalities are merged late by construction:
    `fusion` does not apply. The released code trains by Adam, lr 1e-3, without weight decay, for
    100 epochs.

    References
    ----------
    Jia, Jiang, Dong, Zhu, Lin, Xin, Chen, Multimodal heterogeneous graph attention network, Neural
    Computing and Applications 35(4), 2023, 3357-3372. doi:10.1007/s00521-022-07862-6

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import MHGAT
    >>> clf = MultiModalGraphClassifier(MHGAT(aggr="sum", residual_weight=0.5))
    """

    name: ClassVar[str] = "mhgat"
    paper: ClassVar[str] = "Jia et al., MHGAT, NCAA 35(4) 2023, doi:10.1007/s00521-022-07862-6"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 0, None, closed="left")],
        "out_channels": [Interval(Integral, 1, None, closed="left"), None],
        "aggr": [StrOptions(set(AGGR))],
        "mask_empty": ["boolean"],
        "residual_weight": [Interval(Real, 0, None, closed="left")],
        "att_channels": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "att_dropout": [Interval(Real, 0, 1, closed="left")],
        "out_dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        out_channels: int | None = None,
        aggr: str = "max",
        mask_empty: bool = True,
        residual_weight: float = 0.1,
        att_channels: int = 64,
        dropout: float = 0.6,
        att_dropout: float = 0.1,
        out_dropout: float = 0.5,
        input_dropout: float = 0.0,
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.out_channels = out_channels
        self.aggr = aggr
        self.mask_empty = mask_empty
        self.residual_weight = residual_weight
        self.att_channels = att_channels
        self.dropout = dropout
        self.att_dropout = att_dropout
        self.out_dropout = out_dropout
        self.input_dropout = input_dropout

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        return MHGATModule(schema, n_outputs, missing=missing, **self.get_params(deep=False))


class MHGATModule(nn.Module):
    """The network that `MHGAT` describes."""

    def __init__(
        self,
        schema: Schema,
        n_outputs: int,
        *,
        missing: str,
        hidden_channels: int,
        num_layers: int,
        out_channels: int | None,
        att_channels: int,
        dropout: float,
        out_dropout: float,
        input_dropout: float,
        **conv_settings: Any,
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.edge_types = schema.edge_types
        self.out_channels = out_channels or hidden_channels
        self.encoder = make_encoder(schema, hidden_channels, missing=missing, dropout=input_dropout)
        self.convs = nn.ModuleList(
            MHGATConv(hidden_channels, dropout=dropout, **conv_settings) for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden_channels, momentum=_MOMENTUM) for _ in range(num_layers)
        )
        n_merged = max(num_layers, 1)  # without layers, the projections are merged
        self.fusions = nn.ModuleList(
            LayerFusion(hidden_channels, att_channels, dropout) for _ in range(n_merged)
        )
        self.output = nn.Sequential(
            nn.Linear(n_merged * hidden_channels, self.out_channels, bias=False),
            nn.Dropout(out_dropout),
            nn.Tanh(),
        )
        self.head = nn.Linear(self.out_channels, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`."""
        h = self.encoder(graph).transpose(0, 1)  # (N, M, d)
        rows, merged = ids + stack_slices(graph.num_nodes)[self.target].start, []
        if not len(self.convs):
            t, weights = self.fusions[0](h)
            merged.append(t[rows])
        for k in range(len(self.convs)):
            h, t, weights = self._run(k, h, graph)
            merged.append(t[rows])
        return self._read_out(torch.cat(merged, 1), weights[rows])

    def layerwise(self) -> Layerwise:
        """The network, cut at its layers.

        A node has one state: those of its modalities, the merged ones of all layers so far, and the
        weights of the modalities, side by side.
        """
        n_modalities, d = len(self.modalities), self.encoder.channels
        width = n_modalities * d

        def complete(h: Tensor, graph: GraphTensors) -> Tensor:
            h = self.encoder.complete(h, graph).transpose(0, 1)  # (N, M, d)
            first = [] if len(self.convs) else self.fusions[0](h)
            return torch.cat([h.flatten(1), *first], 1)[None]

        def layer(k: int) -> Layer:
            def run(state: Tensor, graph: GraphTensors) -> Tensor:
                h, merged = state[0, :, :width], state[0, :, width : width + k * d]
                h, t, weights = self._run(k, h.unflatten(1, (n_modalities, d)), graph)
                return torch.cat([h.flatten(1), merged, t, weights], 1)[None]

            return layer_on_graph(run)

        def read_out(state: Tensor) -> ModelOutput:
            return self._read_out(state[0, :, width:-n_modalities], state[0, :, -n_modalities:])

        layers = [layer(k) for k in range(len(self.convs))]
        return Layerwise(self.encoder.project, complete, layers, read_out)

    def _read_out(self, merged: Tensor, weights: Tensor) -> ModelOutput:
        """Output from the merged states of all layers, side by side, of the target nodes."""
        z = self.output(merged)
        return ModelOutput(self.head(z), z, modality_weights=weights)

    def _run(self, k: int, h: Tensor, graph: GraphTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Layer `k`: states (N, M, d), merged (N, d), and the weights of the modalities (N, M)."""
        key = ("relation pairs", h.dtype, *self.edge_types)
        edges = graph.edges(self.edge_types)
        pairs = graph.cached(key, lambda: RelationPairs(edges, h.dtype), of="edges")
        h = self.convs[k](h, pairs)
        t, weights = self.fusions[k](h)
        # the modalities and the merged state are one batch
        both = self.norms[k](torch.cat([h, t.unsqueeze(1)], 1).flatten(0, 1))
        both = both.unflatten(0, (len(h), -1))  # (N, M + 1, d)
        return both[:, :-1].relu(), both[:, -1], weights


class LayerFusion(nn.Module):
    """Attention over the modalities, its scores bounded by a tanh."""

    def __init__(self, channels: int, att_channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.lin = nn.Linear(channels, att_channels, bias=False)
        self.att = nn.Linear(att_channels, 1, bias=False)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """States (n_nodes, n_modalities, channels) to (n_nodes, channels) and the weights."""
        hidden = self._drop(self.lin(self._drop(h))).tanh()
        weight = softmax(self._drop(self.att(hidden)).tanh(), 1)  # (N, M, 1)
        return (weight * h).sum(1), weight.squeeze(-1)

    def _drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout, self.training)
