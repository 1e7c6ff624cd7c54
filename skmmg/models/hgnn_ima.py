"""HGNN-IMA: heterogeneous graph neural network with inter-modal attention."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, check_heads, make_encoder
from skmmg.models._layerwise import Layer, Layerwise, layer_on_edges
from skmmg.nn import GraphTensors, HGNNIMAConv, ModalityAttention
from skmmg.nn._attention import EdgeAttention
from skmmg.nn._dropout import dropout
from skmmg.nn._field import ReceptiveField, lacking_sources, receptive_field
from skmmg.nn._hgnn_ima_conv import (
    ALIGN_SCALE,
    ATTENTION_NORM,
    ATTENTION_SCOPE,
    COMBINE,
    CROSS_MODAL,
    MODAL_WEIGHT,
    RESIDUAL,
)

PRESETS: dict[str, dict[str, Any]] = {
    "skmmg": {
        "num_layers": 2,
        "dropout": 0.6,
        "input_dropout": 0.5,
        "cross_modal": "adaptive",
        "align": True,
        "align_scale": "sum",
        "attention_scope": "node",
        "attention_norm": "softmax",
        "combine": "product",
        "modal_weight": "per_modality",
        "residual": "gated",
        "activation": "gelu",
        "norm": None,
        "input_activation": "tanh",
        "scorer": "mlp",
        "att_loss_weight": 1.0,
        "unimodal_loss_weight": 0.3,
    },
    "paper": {
        "num_layers": 3,
        "dropout": 0.6,
        "input_dropout": 0.0,
        "cross_modal": "adaptive",
        "align": True,
        "align_scale": "sum",
        "attention_scope": "node",
        "attention_norm": "softmax",
        "combine": "product",
        "modal_weight": "shared",
        "residual": "add",
        "activation": "sigmoid",
        "norm": None,
        "input_activation": None,
        "scorer": "mlp",
        "att_loss_weight": 1.0,
        "unimodal_loss_weight": 1.0,
    },
    "released": {
        "num_layers": 3,
        "dropout": 0.2,
        "input_dropout": 0.0,
        "cross_modal": "adaptive",
        "align": True,
        "align_scale": "mean",
        "attention_scope": "relation",
        "attention_norm": "outer",
        "combine": "product",
        "modal_weight": "per_modality",
        "residual": "gated",
        "activation": None,
        "norm": "layer",
        "input_activation": "tanh",
        "scorer": "linear",
        "att_loss_weight": 1.0,
        "unimodal_loss_weight": 0.0,
    },
}


class HGNNIMA(ModelSpec):
    r"""Heterogeneous graph neural network with inter-modal attention.

    Features of every node type and modality are projected to one width (equation 1), go through
    `num_layers` layers of `skmmg.nn.HGNNIMAConv` (2 to 11), and are fused by an attention over the
    modalities (12 to 14). One classifier reads the fused and the unimodal states (15). The loss is

    .. math::

        L = \frac{1}{1 + \kappa |M|} \Bigl(CE(O) + \kappa \sum_m CE(O^m)\Bigr) + \rho\, L_{att},
        \qquad L_{att} = \mathrm{mean}\; \lambda_e^m
        \text{ over layers, heads, and } (e, m) \text{ with } m \text{ missing at the source of } e

    Parameters that are "auto" take the value of the preset. :math:`L_{att}` is over all edges from
    nodes that lack a modality, also where no labelled node sees them; so a step of training
    computes their two ends in every layer, beside what the labelled nodes see. With
    ``att_loss_weight=0``, or where nothing is missing, it computes the latter alone.

    Parameters
    ----------
    preset : {"skmmg", "paper", "released"}, default="skmmg"
        "skmmg": what we found to work best. "paper": the equations and settings of the paper.
        "released": what code in circulation does (in an upload whose provenance is unconfirmed).
        See the table below.
    hidden_channels : int, default=64
        Width of the states.
    heads : int, default=8
        Attention heads; has to divide `hidden_channels`.
    num_layers : int or "auto", default="auto"
        Number of layers; 0 leaves projection, fusion and classifier.
    dropout : float or "auto", default="auto"
        Dropout of the states after each layer, in [0, 1).
    input_dropout : float or "auto", default="auto"
        Dropout of the features, in [0, 1).
    cross_modal : {"adaptive", "none", "mean", "influenced", "node"} or "auto", default="auto"
        How the modalities' attentions become one; the paper's ablations are "none" (-cross), "mean"
        (-adapt), "influenced" (+inf) and "node" (-nei).
    align : bool or "auto", default="auto"
        Alignment modulation; False is the ablation -align.
    align_scale : {"sum", "mean"} or "auto", default="auto"
        Sum or mean over the pairs of modalities in equation 8.
    attention_scope : {"node", "relation"} or "auto", default="auto"
        Softmax over all edges into a node, or over those of one relation.
    attention_norm : {"softmax", "renormalize", "outer"} or "auto", default="auto"
        Normalisation in equations 6 and 9, see `skmmg.nn.HGNNIMAConv`.
    combine : {"product", "sum"} or "auto", default="auto"
        How cross-modal attention and modulation are combined in equation 9.
    modal_weight : {"shared", "per_modality"} or "auto", default="auto"
        Whether the matrices of equation 4 are shared by the modalities.
    residual : {"add", "gated"} or "auto", default="auto"
        Residual of equation 11, or HGT's gate.
    activation : {"gelu", "sigmoid"}, None or "auto", default="auto"
        Activation of equation 11.
    norm : {"layer"}, None or "auto", default="auto"
        LayerNorm per node type after each layer.
    input_activation : {"tanh"}, None or "auto", default="auto"
        Activation after the projection.
    scorer : {"mlp", "linear"} or "auto", default="auto"
        Scorer of the fusion, see `skmmg.nn.ModalityAttention`.
    att_loss_weight : float or "auto", default="auto"
        :math:`\rho`; 0 is the ablation -Latt. Nothing changes where nothing is missing. In a
        mini-batch the loss is a mean over the edges that the batch sees.
    unimodal_loss_weight : float or "auto", default="auto"
        :math:`\kappa`, how much the unimodal states are asked to tell the class beside the fused
        one; 0 is the ablation -Lind.

    Notes
    -----
    ====================  =============  =========  ============
    parameter             skmmg          paper      released
    ====================  =============  =========  ============
    num_layers            2              3          3
    dropout               0.6            0.6        0.2
    input_dropout         0.5            0          0
    align_scale           sum            sum        mean
    attention_norm        softmax        softmax    outer
    attention_scope       node           node       relation
    modal_weight          per_modality   shared     per_modality
    residual              gated          add        gated
    activation            gelu           sigmoid    None
    norm                  None           None       layer
    input_activation      tanh           None       tanh
    scorer                mlp            mlp        linear
    unimodal_loss_weight  0.3            1          0
    ====================  =============  =========  ============

    The other parameters are the same in all presets: cross_modal "adaptive", align True, combine
    "product", att_loss_weight 1. The files of the code differ among each other; left out of
    "released" are a batch normalisation of the features, scores times 100, normally distributed
    matrices in equation 4, and, with three modalities, the sum in equation 9 (``combine="sum"``).

    Departures from the paper, in every preset: the sign of equation 8 and the scale of equations 2
    and 4 (see `skmmg.nn.HGNNIMAConv`); :math:`L_{att}` (7) is a mean, because as printed, a sum
    over all edges, it outweighs the labels ten-thousandfold on a graph of 50,000 edges; the
    cross-entropy (16) has its minus sign and is a mean over nodes. In "skmmg" as in "released":
    every modality has a matrix of its own in equation 4, which can tell them apart. The softmaxes
    of equations 6 and 9, whose inputs lie in [0, 1], give nearly uniform weights;
    ``attention_norm="renormalize"`` divides by the sum instead. In "skmmg" the unimodal losses of
    equation 16 count 0.3 each: where a modality tells the class of some nodes only, to ask it for
    that of all costs accuracy.

    The presets leave training to the estimator, and what stands for a missing modality (the paper:
    ``missing="copy"``). The paper trains with Adam, lr 1e-3, for at most 300 epochs with a patience
    of 50; the code in circulation with
    ``optimizer="adamw", weight_decay=5e-3, lr_scheduler="one_cycle"``.

    References
    ----------
    Li, Zhu, Chang, Li, Li, Wang, Yang, Wang, HGNN-IMA, IJCAI 2025, 3036-3044.
    doi:10.24963/ijcai.2025/338, arXiv:2505.07895

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import HGNNIMA
    >>> clf = MultiModalGraphClassifier(HGNNIMA("paper", num_layers=2))
    """

    name: ClassVar[str] = "hgnn_ima"
    paper: ClassVar[str] = "Li et al., HGNN-IMA, IJCAI 2025, doi:10.24963/ijcai.2025/338"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "preset": [StrOptions(set(PRESETS))],
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "heads": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "dropout": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "input_dropout": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "cross_modal": [StrOptions({*CROSS_MODAL, "auto"})],
        "align": ["boolean", StrOptions({"auto"})],
        "align_scale": [StrOptions({*ALIGN_SCALE, "auto"})],
        "attention_scope": [StrOptions({*ATTENTION_SCOPE, "auto"})],
        "attention_norm": [StrOptions({*ATTENTION_NORM, "auto"})],
        "combine": [StrOptions({*COMBINE, "auto"})],
        "modal_weight": [StrOptions({*MODAL_WEIGHT, "auto"})],
        "residual": [StrOptions({*RESIDUAL, "auto"})],
        "activation": [StrOptions({"gelu", "sigmoid", "auto"}), None],
        "norm": [StrOptions({"layer", "auto"}), None],
        "input_activation": [StrOptions({"tanh", "auto"}), None],
        "scorer": [StrOptions({"mlp", "linear", "auto"})],
        "att_loss_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "unimodal_loss_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        preset: str = "skmmg",
        *,
        hidden_channels: int = 64,
        heads: int = 8,
        num_layers: int | str = "auto",
        dropout: float | str = "auto",
        input_dropout: float | str = "auto",
        cross_modal: str = "auto",
        align: bool | str = "auto",
        align_scale: str = "auto",
        attention_scope: str = "auto",
        attention_norm: str = "auto",
        combine: str = "auto",
        modal_weight: str = "auto",
        residual: str = "auto",
        activation: str | None = "auto",
        norm: str | None = "auto",
        input_activation: str | None = "auto",
        scorer: str = "auto",
        att_loss_weight: float | str = "auto",
        unimodal_loss_weight: float | str = "auto",
    ) -> None:
        self.preset = preset
        self.hidden_channels = hidden_channels
        self.heads = heads
        self.num_layers = num_layers
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.cross_modal = cross_modal
        self.align = align
        self.align_scale = align_scale
        self.attention_scope = attention_scope
        self.attention_norm = attention_norm
        self.combine = combine
        self.modal_weight = modal_weight
        self.residual = residual
        self.activation = activation
        self.norm = norm
        self.input_activation = input_activation
        self.scorer = scorer
        self.att_loss_weight = att_loss_weight
        self.unimodal_loss_weight = unimodal_loss_weight

    def settings(self) -> dict[str, Any]:
        """Parameters with every "auto" replaced by what the preset says.

        Examples
        --------
        >>> from skmmg.models import HGNNIMA
        >>> HGNNIMA("paper", num_layers=1).settings()["activation"]
        'sigmoid'
        """
        preset = PRESETS[self.preset]
        return {
            key: preset[key] if key in preset and value == "auto" else value
            for key, value in self.get_params(deep=False).items()
            if key != "preset"
        }

    def num_hops(self) -> int:
        """Number of layers, which the preset may say."""
        return int(self.settings()["num_layers"])

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        check_heads(self.hidden_channels, self.heads)
        return HGNNIMAModule(schema, n_outputs, missing=missing, **self.settings())


class HGNNIMAModule(nn.Module):
    """The network that `HGNNIMA` describes."""

    def __init__(
        self,
        schema: Schema,
        n_outputs: int,
        *,
        missing: str,
        hidden_channels: int,
        heads: int,
        num_layers: int,
        dropout: float,
        input_dropout: float,
        input_activation: str | None,
        scorer: str,
        att_loss_weight: float,
        unimodal_loss_weight: float,
        **conv_settings: Any,
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.out_channels = hidden_channels
        self.edge_types, self.dropout = schema.edge_types, dropout
        self.att_loss_weight, self.unimodal_loss_weight = att_loss_weight, unimodal_loss_weight
        self.encoder = make_encoder(
            schema,
            hidden_channels,
            missing=missing,
            activation=input_activation,
            dropout=input_dropout,
        )
        metadata = (list(schema.node_types), list(schema.edge_types))
        self.convs = nn.ModuleList(
            HGNNIMAConv(hidden_channels, metadata, len(self.modalities), heads, **conv_settings)
            for _ in range(num_layers)
        )
        self.fusion = ModalityAttention(hidden_channels, scorer)
        self.head = nn.Linear(hidden_channels, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`.

        Computed is what they can see and, for the attention loss, what stands at both ends of the
        edges whose source lacks a modality; around a batch that loss takes the edges that the
        batch sees alone.
        """
        if not self._watches_attention(graph):
            return self.infer(graph, ids)
        field = self._field(graph, ids, with_lacking=True)
        output, paid = self._run(field)
        if paid:
            n_pairs = sum(lacking.sum() for lacking in field.lacking if lacking is not None)
            attention = torch.stack(paid).sum() / torch.as_tensor(n_pairs).clamp_min(1)
            output.penalties["attention"] = self.att_loss_weight * attention
        return output

    def infer(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids` without penalties, from what these nodes can see."""
        return self._run(self._field(graph, ids))[0]

    def _field(
        self, graph: GraphTensors, ids: Tensor, with_lacking: bool = False
    ) -> ReceptiveField:
        return receptive_field(
            graph,
            self.edge_types,
            self.target,
            ids,
            len(self.convs),
            self.encoder.hops,
            self.modalities,
            with_lacking,
        )

    def edge_attention(self, graph: GraphTensors) -> list[EdgeAttention]:
        """Attention of every layer over all edges."""
        edges, h, out = graph.edges(self.edge_types), self.encoder(graph), []
        for conv in self._layers():
            out.append(conv.attention(h, edges))
            h = dropout(conv.propagate(h, edges)[0], self.dropout, self.training)
        return out

    def _run(self, field: ReceptiveField) -> tuple[ModelOutput, list[Tensor]]:
        """Output, and the attention that every layer pays to what is lacking."""
        h, attention = field.enter(self.encoder(field.graph)), []
        for conv, edges, lacking in zip(self._layers(), field.layers, field.lacking, strict=True):
            h, paid = conv.propagate(h, edges, lacking)
            h = dropout(h, self.dropout, self.training)
            if paid is not None:
                attention.append(paid)
        return self._read_out(h[:, field.target]), attention

    def _read_out(self, h: Tensor) -> ModelOutput:
        """Fusion and classifier (12 to 15), from the target nodes' states (M, n, d)."""
        z, weights = self.fusion(h)
        return ModelOutput(
            self.head(z),
            z,
            self._unimodal(h),
            unimodal_weight=self.unimodal_loss_weight,
            modality_weights=weights,
        )

    def layerwise(self) -> Layerwise:
        """The network, cut at its layers."""

        def layer(conv: HGNNIMAConv) -> Layer:
            return layer_on_edges(lambda h, edges: conv.propagate(h, edges)[0], self.edge_types)

        layers = [layer(conv) for conv in self._layers()]
        encoder = self.encoder
        return Layerwise(encoder.project, encoder.complete, layers, self._read_out, True)

    def _unimodal(self, h: Tensor) -> dict[str, Tensor]:
        """Scores from single modalities by the shared classifier (15)."""
        if not self.unimodal_loss_weight or len(self.modalities) == 1:
            return {}
        return dict(zip(self.modalities, self.head(h), strict=True))

    def _watches_attention(self, graph: GraphTensors) -> bool:
        """Whether there is an attention loss (7): the source of some edge lacks a modality."""
        if not self.att_loss_weight:
            return False
        if not any(conv.switches.has_modal_attention for conv in self._layers()):
            return False

        def find() -> bool:
            lacking = lacking_sources(graph, self.edge_types, self.modalities)
            return lacking is not None and bool(lacking.any())

        return graph.cached(("some lack", self.modalities, self.edge_types), find)

    def _layers(self) -> Iterable[HGNNIMAConv]:
        return cast("Iterable[HGNNIMAConv]", self.convs)
