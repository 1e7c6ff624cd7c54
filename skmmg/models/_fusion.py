"""Early and late fusion: how a model for one modality becomes one for several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.models._layerwise import Layer, Layerwise
from skmmg.nn import GraphTensors, ModalityAttention, ModalityEncoder
from skmmg.nn._edges import split_by_type
from skmmg.nn._field import ReceptiveField, receptive_field
from skmmg.nn._precision import log_softmax

EARLY_FUSION = ("concat", "mean", "sum")
LATE_FUSION = ("attention", "mean", "concat", "logits")

HeadFactory = Callable[[int, int], nn.Module]


class FusedSpec(ModelSpec):
    """Parameters of a model whose backbone works on one state per node; `fusion` chooses.

    A subclass has `hidden_channels`, `input_dropout`, `early_fusion` and `late_fusion` among its
    parameters, and a method ``_backbone``, which is called once for early fusion and once per
    modality for late fusion.
    """

    fusion_modes: ClassVar[tuple[str, ...]] = ("early", "late")
    #: activation of the projected modalities
    input_activation: ClassVar[str | None] = "tanh"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "early_fusion": [StrOptions(set(EARLY_FUSION))],
        "late_fusion": [StrOptions(set(LATE_FUSION))],
    }

    hidden_channels: int
    input_dropout: float
    early_fusion: str
    late_fusion: str

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        encoder = make_encoder(
            schema,
            self.hidden_channels,
            missing=missing,
            activation=None,
            dropout=self.input_dropout,
        )
        activation = self.input_activation
        if fusion == "early":
            net = self._backbone(schema)
            return EarlyFusion(encoder, net, schema, n_outputs, self.early_fusion, activation)
        nets = [self._backbone(schema) for _ in schema.modalities]
        return LateFusion(encoder, nets, schema, n_outputs, self.late_fusion, activation)

    def _backbone(self, schema: Schema) -> nn.Module:
        """A `Backbone` from `hidden_channels` channels."""
        raise NotImplementedError(f"{type(self).__name__} has no _backbone.")


class EarlyFusion(nn.Module):
    r"""Merge the modalities of a node at the input; then one backbone and one classifier.

    With ``early_fusion="concat"`` a type's modalities side by side go through one linear map,
    :math:`\tanh(\sum_m x^m P_m)`; with "mean" and "sum" each is mapped, then tanh, then merged.
    Without an `activation` there is no tanh.
    """

    def __init__(
        self,
        encoder: ModalityEncoder,
        backbone: nn.Module,
        schema: Schema,
        n_outputs: int,
        early_fusion: str,
        activation: str | None = "tanh",
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, schema.target
        self.early_fusion, self.activation = early_fusion, activation
        self.encoder, self.backbone = encoder, backbone
        self.out_channels = _out_channels(backbone)
        self.head = nn.Linear(self.out_channels, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`."""
        field = _find_field(self.backbone, self.encoder, graph, str(self.target), ids)
        h = _encode(self.encoder, graph, field)  # (M, N, d)
        x = self._enter(h)  # (N, d)
        z = _states_of(self.backbone, x, graph, field, str(self.target), ids)
        return self._read_out(z[None])

    def _enter(self, h: Tensor) -> Tensor:
        return merge_modalities(h, self.early_fusion, self.activation)

    def _read_out(self, h: Tensor) -> ModelOutput:
        return ModelOutput(self.head(h[0]), h[0])

    def layerwise(self) -> Layerwise | None:
        """The network cut at its layers, if the backbone has them one by one."""

        def complete(h: Tensor, graph: GraphTensors) -> Tensor:
            return self._enter(self.encoder.complete(h, graph))[None]

        return _cut(self.encoder, complete, [self.backbone], self._read_out)


class LateReadOut(nn.Module):
    """Merge the states that one network per modality gives, and classify.

    `late_fusion` is "attention" (equations 12 to 14 of HGNN-IMA), "mean", "concat", or "logits"
    (mean of the log-probabilities of one classifier per modality). `make_head` makes a classifier
    from the width of a state and the number of classes.
    """

    def __init__(
        self,
        width: int,
        n_modalities: int,
        n_outputs: int,
        late_fusion: str,
        make_head: HeadFactory = nn.Linear,
    ) -> None:
        super().__init__()
        self.late_fusion = late_fusion
        self.attention = ModalityAttention(width) if late_fusion == "attention" else None
        self.out_channels = width * n_modalities if late_fusion == "concat" else width
        if late_fusion == "logits":
            self.heads = nn.ModuleList(make_head(width, n_outputs) for _ in range(n_modalities))
        else:
            self.head = make_head(self.out_channels, n_outputs)

    def merge(self, parts: Tensor) -> ModelOutput:
        """Output from states (n_modalities, n_samples, width)."""
        if self.late_fusion == "logits":
            scores = [head(z) for head, z in zip(self.heads, parts, strict=True)]
            logits = torch.stack([log_softmax(s, 1) for s in scores]).mean(0)
            return ModelOutput(logits, parts.mean(0))
        weights = None
        if self.attention is not None:
            z, weights = self.attention(parts)
        elif self.late_fusion == "concat":
            z = torch.cat(list(parts), 1)
        else:
            z = parts.mean(0)
        return ModelOutput(self.head(z), z, modality_weights=weights)


class LateFusion(LateReadOut):
    """One backbone per modality on the same graph; their outputs are merged."""

    def __init__(
        self,
        encoder: ModalityEncoder,
        backbones: list[nn.Module],
        schema: Schema,
        n_outputs: int,
        late_fusion: str,
        activation: str | None = "tanh",
    ) -> None:
        super().__init__(_out_channels(backbones[0]), len(backbones), n_outputs, late_fusion)
        self.modalities, self.target = schema.modalities, schema.target
        self.activation = activation
        self.encoder, self.backbones = encoder, nn.ModuleList(backbones)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`."""
        field = _find_field(self.backbones[0], self.encoder, graph, str(self.target), ids)
        h = _activate(_encode(self.encoder, graph, field), self.activation)  # (M, N, d)
        parts = [
            _states_of(net, h_m, graph, field, str(self.target), ids)
            for net, h_m in zip(self.backbones, h, strict=True)
        ]
        return self.merge(torch.stack(parts))

    def layerwise(self) -> Layerwise | None:
        """The network cut at its layers, if the backbones have them one by one."""

        def complete(h: Tensor, graph: GraphTensors) -> Tensor:
            return _activate(self.encoder.complete(h, graph), self.activation)

        return _cut(self.encoder, complete, list(self.backbones), self.merge)


def _cut(
    encoder: ModalityEncoder,
    complete: Callable[[Tensor, GraphTensors], Tensor],
    backbones: list[nn.Module],
    read_out: Callable[[Tensor], ModelOutput],
) -> Layerwise | None:
    """A network cut at the layers of its backbones, which work side by side."""
    columns: list[list[Layer]] = []
    for net in backbones:
        stages: Callable[[], list[Layer]] | None = getattr(net, "stages", None)
        if stages is None:
            return None
        columns.append(stages())

    layers = [_side_by_side(row) for row in zip(*columns, strict=True)]
    finds_field = hasattr(backbones[0], "run_field")
    return Layerwise(encoder.project, complete, layers, read_out, finds_field)


def _side_by_side(layers: Sequence[Layer]) -> Layer:
    """Layers each of which has a state of its own."""

    def compute(h: Tensor, graph: GraphTensors, node_type: str, ids: Tensor) -> Tensor:
        parts = [f.compute(h[[i]], graph, node_type, ids) for i, f in enumerate(layers)]
        return torch.cat(parts)

    return Layer(compute, layers[0].num_hops)


def _find_field(
    net: nn.Module, encoder: ModalityEncoder, graph: GraphTensors, target: str, ids: Tensor
) -> ReceptiveField | None:
    """What the target nodes can see, where the backbone can do with that."""
    if not hasattr(net, "run_field"):
        return None
    layers: Any = net
    return receptive_field(
        graph,
        layers.edge_types,
        target,
        ids,
        layers.num_layers,
        encoder.hops,
        encoder.modalities,
    )


def _encode(encoder: ModalityEncoder, graph: GraphTensors, field: ReceptiveField | None) -> Tensor:
    return encoder(graph) if field is None else field.enter(encoder(field.graph))


def _states_of(
    net: nn.Module,
    x: Tensor,
    graph: GraphTensors,
    field: ReceptiveField | None,
    target: str,
    ids: Tensor,
) -> Tensor:
    """States of the target nodes, (n_samples, out_channels)."""
    if field is not None:
        layers: Any = net
        return cast("Tensor", layers.run_field(x, field))
    return net(split_by_type(x, graph.num_nodes), graph)[target][ids]


def merge_modalities(h: Tensor, how: str, activation: str | None = "tanh") -> Tensor:
    """One state per node of the projected modalities: (M, N, d) -> (N, d)."""
    if how == "concat":
        return _activate(h.sum(0), activation)
    h = _activate(h, activation)
    return h.sum(0) if how == "sum" else h.mean(0)


def _activate(h: Tensor, activation: str | None) -> Tensor:
    return h.tanh() if activation == "tanh" else h


def _out_channels(backbone: nn.Module) -> int:
    return int(cast("Any", backbone).out_channels)
