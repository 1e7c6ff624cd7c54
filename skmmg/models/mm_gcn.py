"""MMGCN: graph convolution on (modality, node) pairs and cross-modal attention."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.models._layerwise import Layerwise, layers_with_scale
from skmmg.nn import BlockGCNConv, CrossModalAttention, GraphTensors
from skmmg.nn._dropout import dropout
from skmmg.nn._edges import stack_slices

READOUT = ("mean_max", "mean", "max")


class MMGCN(ModelSpec):
    r"""Multi-modal graph convolution with cross-modal attention.

    A node of the network is a pair of a modality and a sample. Features of every modality are
    projected to one width, go through `num_layers` layers of `skmmg.nn.BlockGCNConv` with edges
    within the modalities and between the modalities of a sample, and then through
    `skmmg.nn.CrossModalAttention` (equations 2 to 4). The modalities of a sample are pooled, and a
    gate weighs the features of the result:

    .. math::

        u_i = \mathrm{mean}_m\, o_i^m \,\Vert\, \max_m\, o_i^m, \qquad
        z_i = \sigma(W_g u_i + b_g) \odot u_i, \qquad
        O_i = \mathrm{softmax}(W_c z_i + b_c)

    Between rows, a relation "knn_<modality>" or "radius_<modality>" is an edge within that
    modality. Any other relation, such as those of a view, is an edge within each modality.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states.
    num_layers : int, default=2
        Number of layers; 0 leaves projection, attention, pooling and classifier.
    dropout : float, default=0.5
        Dropout of the states before each layer, in [0, 1).
    input_dropout : float, default=0.2
        Dropout of the features, in [0, 1).
    input_activation : {"relu", "tanh"} or None, default="relu"
        Activation after the projection.
    inter_weight : float or "learned", default="learned"
        Weight of the edges between the modalities of a sample: the same for all pairs, at least 0,
        where 0 leaves the edges out; or one for each pair, the sigmoid of a parameter that starts
        at 0, so that the weight starts at one half.
    self_weight : float, default=1.0
        Weight of the edge of a pair to itself, above 0. The neighbours of a row have a weight of 1
        each, so with ten of them a row's own features count little; where rows tell more than
        their neighbours do, as many as there are neighbours is worth a try.
    cross_attention : bool, default=True
        Whether the modalities of a sample attend to each other after the layers.
    readout : {"mean_max", "mean", "max"}, default="mean_max"
        How the modalities of a sample are pooled.
    gate : bool, default=True
        Feature-level attention: whether the gate weighs the pooled features.

    Notes
    -----
    The paper gives the parts and leaves open how they are joined, so this is a reconstruction:
    its block graph, because the paper speaks both of a node per modality and of a graph per
    modality; the order of the parts, which is the text's; and where pooling and feature-level
    attention stand, which the paper has for a graph per sample. All settings are ours. The
    projection of equation 1 has no activation (``input_activation=None``); with one, retrieval on
    validation items of Wikipedia was better. What it does to classification was not measured.

    A node without edges keeps its own features. `missing` says what stands in for a modality that
    a sample lacks; that pair is a node of the network like any other.

    References
    ----------
    Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1, equations 1 to 5. See
    `skmmg.nn.BlockGCNConv` and `skmmg.nn.CrossModalAttention` for what was changed in which.

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import MMGCN
    >>> clf = MultiModalGraphClassifier(MMGCN(inter_weight=1.0))
    """

    name: ClassVar[str] = "mm_gcn"
    paper: ClassVar[str] = "Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "input_activation": [StrOptions({"relu", "tanh"}), None],
        "inter_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"learned"})],
        "self_weight": [Interval(Real, 0, None, closed="neither")],
        "cross_attention": ["boolean"],
        "readout": [StrOptions(set(READOUT))],
        "gate": ["boolean"],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.5,
        input_dropout: float = 0.2,
        input_activation: str | None = "relu",
        inter_weight: float | str = "learned",
        self_weight: float = 1.0,
        cross_attention: bool = True,
        readout: str = "mean_max",
        gate: bool = True,
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.input_activation = input_activation
        self.inter_weight = inter_weight
        self.self_weight = self_weight
        self.cross_attention = cross_attention
        self.readout = readout
        self.gate = gate

    @property
    def uses_edge_weight(self) -> bool:
        """True: edges may have any weight that is at least 0."""
        return True

    def num_hops(self) -> int:
        """One more than the layers: an edge's weight depends on the edges into its source."""
        return self.num_layers + 1 if self.num_layers else 0

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        return MMGCNModule(schema, n_outputs, missing=missing, **self.get_params(deep=False))


class MMGCNModule(nn.Module):
    """The network that `MMGCN` describes."""

    def __init__(
        self,
        schema: Schema,
        n_outputs: int,
        *,
        missing: str,
        hidden_channels: int,
        num_layers: int,
        dropout: float,
        input_dropout: float,
        input_activation: str | None,
        inter_weight: float | str,
        self_weight: float,
        cross_attention: bool,
        readout: str,
        gate: bool,
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.edge_types, self.dropout, self.readout = schema.edge_types, dropout, readout
        self.input_activation = input_activation
        n_modalities = len(self.modalities)
        self.out_channels = hidden_channels * (2 if readout == "mean_max" else 1)
        self.encoder = make_encoder(
            schema, hidden_channels, missing=missing, activation=None, dropout=input_dropout
        )
        if missing in ("learned", "copy") and input_activation == "relu":
            # where it starts otherwise, at 0, ReLU has no gradient; "mean_neighbors" adds it to
            # the neighbours' mean, where it has one
            nn.init.constant_(self.encoder.placeholder, 0.01)
        self.convs = nn.ModuleList(
            BlockGCNConv(hidden_channels, hidden_channels, self_weight) for _ in range(num_layers)
        )
        self.inter = InterModalWeights(n_modalities, inter_weight)
        attends = cross_attention and n_modalities > 1
        self.attention = CrossModalAttention(hidden_channels, n_modalities) if attends else None
        self.gate = nn.Linear(self.out_channels, self.out_channels) if gate else None
        self.head = nn.Linear(self.out_channels, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`."""
        h = self._activate(self.encoder(graph))  # (M, N, d)
        for conv in cast("Iterable[BlockGCNConv]", self.convs):
            h = self._convolve(conv, h, graph)
        return self._read_out(h[:, stack_slices(graph.num_nodes)[self.target]][:, ids])

    def layerwise(self) -> Layerwise:
        """The network, cut at its layers."""

        def complete(h: Tensor, graph: GraphTensors) -> Tensor:
            return self._activate(self.encoder.complete(h, graph))

        def find_scale(h: Tensor, graph: GraphTensors) -> Tensor:
            blocks = convs[0].blocks(graph, self.modalities, self.edge_types)
            return convs[0].scale(blocks, self.inter())

        convs = list(cast("Iterable[BlockGCNConv]", self.convs))
        layers = layers_with_scale(find_scale, [partial(self._convolve, conv) for conv in convs])
        return Layerwise(self.encoder.project, complete, layers, self._read_out)

    def _convolve(
        self, conv: BlockGCNConv, h: Tensor, graph: GraphTensors, scale: Tensor | None = None
    ) -> Tensor:
        blocks = conv.blocks(graph, self.modalities, self.edge_types)
        h = dropout(h, self.dropout, self.training)
        return conv(h, blocks, self.inter(), scale).relu()

    def _read_out(self, h: Tensor) -> ModelOutput:
        """Output from the target nodes' states (M, n, d)."""
        weight = None
        if self.attention is not None:
            h, attention = self.attention(h)
            weight = attention.mean(0).t()  # (n, M)
        z = self._pool(h)  # (n, out_channels)
        if self.gate is not None:
            z = self.gate(z).sigmoid() * z
        return ModelOutput(self.head(z), z, modality_weights=weight)

    def _activate(self, h: Tensor) -> Tensor:
        """Activation of the projected features."""
        if self.input_activation is None:
            return h
        return h.relu() if self.input_activation == "relu" else h.tanh()

    def _pool(self, h: Tensor) -> Tensor:
        """Mean and maximum over the modalities of a sample, or one of them."""
        if self.readout == "mean":
            return h.mean(0)
        if self.readout == "max":
            return h.amax(0)
        return torch.cat([h.mean(0), h.amax(0)], 1)


class InterModalWeights(nn.Module):
    """Weights of the edges between the modalities of a sample: symmetric, zero on the diagonal."""

    pairs: Tensor
    fixed: Tensor

    def __init__(self, n_modalities: int, weight: float | str) -> None:
        super().__init__()
        self.n_modalities = n_modalities
        rows, columns = torch.triu_indices(n_modalities, n_modalities, offset=1)
        self.register_buffer("pairs", rows * n_modalities + columns, persistent=False)
        if weight == "learned":
            self.score = nn.Parameter(torch.zeros(len(rows)))
        else:
            fixed = torch.full((len(rows),), float(weight))
            self.register_buffer("fixed", fixed, persistent=False)
            self.register_parameter("score", None)

    def forward(self) -> Tensor:
        """Weights (n_modalities, n_modalities)."""
        weight = self.fixed if self.score is None else self.score.sigmoid()
        upper = weight.new_zeros(self.n_modalities**2).scatter(0, self.pairs, weight)
        square = upper.view(self.n_modalities, self.n_modalities)
        return square + square.t()
