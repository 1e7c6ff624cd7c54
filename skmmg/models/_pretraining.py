"""Early and late fusion of models that are trained without labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skmmg.graph import Schema
from skmmg.models._base import ModelOutput
from skmmg.models._fusion import merge_modalities, split_by_type
from skmmg.nn import GraphTensors, ModalityEncoder

# makes a network from a number of input channels and the modalities that it gets
EncoderFactory = Callable[[int, tuple[str, ...]], nn.Module]


def fuse_encoders(
    make: EncoderFactory,
    schema: Schema,
    *,
    fusion: str,
    missing: str,
    channels: int,
    input_dropout: float,
    early_fusion: str,
) -> nn.Module:
    """Wrap networks that are trained without labels in early or late fusion.

    One network on the merged modalities, or one per modality: nothing that is trained without
    labels could weigh their embeddings, so they stand side by side.
    """
    encoder = ModalityEncoder(
        schema.node_types,
        schema.modalities,
        channels,
        missing=missing,
        activation=None,
        dropout=input_dropout,
    )
    groups = [schema.modalities] if fusion == "early" else [(m,) for m in schema.modalities]
    nets = [make(channels, group) for group in groups]
    return PretrainedEncoders(encoder, nets, groups, schema, early_fusion)


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
            z, terms = net(split_by_type(x, graph), graph, ids)
            parts.append(z)
            penalties |= terms if is_early else _named(terms, group[0])
        z = torch.cat(parts, 1)
        return ModelOutput(z.new_zeros(len(z), 0), z, penalties=penalties)


def _named(terms: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    return {f"{name}_{modality}": term for name, term in terms.items()}
