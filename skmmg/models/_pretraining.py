"""Early and late fusion of models that are trained without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.models._fusion import EARLY_FUSION, merge_modalities
from skmmg.nn import GraphTensors, ModalityEncoder
from skmmg.nn._edges import split_by_type


class PretrainedSpec(ModelSpec):
    """Parameters of a model that is trained without labels, on one state per node.

    A subclass has `hidden_channels`, `input_dropout` and `early_fusion` among its parameters, and
    a method ``_network``, which is called once on the merged modalities, or once per modality:
    nothing that is trained without labels could weigh the embeddings of the modalities, so they
    stand side by side.
    """

    fusion_modes: ClassVar[tuple[str, ...]] = ("early", "late")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 1, None, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "early_fusion": [StrOptions(set(EARLY_FUSION))],
    }

    hidden_channels: int
    input_dropout: float
    early_fusion: str

    @property
    def self_supervised(self) -> bool:
        """True: the module gives a loss that needs no labels."""
        return True

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        encoder = make_encoder(
            schema,
            self.hidden_channels,
            missing=missing,
            activation=None,
            dropout=self.input_dropout,
        )
        groups = [schema.modalities] if fusion == "early" else [(m,) for m in schema.modalities]
        nets = [self._network(schema, group) for group in groups]
        return PretrainedEncoders(encoder, nets, groups, schema, self.early_fusion)

    def _network(self, schema: Schema, modalities: tuple[str, ...]) -> nn.Module:
        """A network, see `PretrainedEncoders`, on the states of some modalities."""
        raise NotImplementedError(f"{type(self).__name__} has no _network.")


class PretrainedEncoders(nn.Module):
    """Networks without labels, their embeddings side by side, their losses summed.

    A network maps states by node type, the graph and target ids to an embedding and, in training,
    the terms of its loss.
    """

    def __init__(
        self,
        encoder: ModalityEncoder,
        nets: Sequence[nn.Module],
        groups: Sequence[tuple[str, ...]],
        schema: Schema,
        early_fusion: str,
    ) -> None:
        super().__init__()
        self.modalities, self.early_fusion = schema.modalities, early_fusion
        self.groups = tuple(groups)
        self.encoder, self.nets = encoder, nn.ModuleList(nets)
        widths: list[Any] = [net.out_channels for net in nets]
        self.out_channels = sum(widths)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`, without logits."""
        h = self.encoder(graph)  # (M, N, d)
        is_early = len(self.groups[0]) == len(h)
        inputs = [merge_modalities(h, self.early_fusion)] if is_early else h.tanh()
        parts: list[Tensor] = []
        penalties: dict[str, Tensor] = {}
        for group, net, x in zip(self.groups, self.nets, inputs, strict=True):
            z, terms = net(split_by_type(x, graph.num_nodes), graph, ids)
            parts.append(z)
            penalties |= terms if is_early else _named(terms, group[0])
        z = torch.cat(parts, 1)
        return ModelOutput(z.new_zeros(len(z), 0), z, penalties=penalties)


def _named(terms: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    return {f"{name}_{modality}": term for name, term in terms.items()}
