"""DualMLP: one small network per modality and no graph, as in CLIP."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec
from skmmg.nn import GraphTensors, ModalityEncoder
from skmmg.nn._edges import stack_slices


class DualMLP(ModelSpec):
    r"""One small network per modality, which never sees a neighbour: what a graph has to beat.

    .. math::

        h_i^m = \mathrm{ReLU}(x_i^m P_m + b_m), \qquad
        z_i = \frac{1}{|M_i|} \sum_{m \in M_i} h_i^m W_m + c_m, \qquad
        v_i = z_i W + b

    with :math:`M_i` the modalities that item i has, and :math:`v_i` the vector that is compared.
    For `skmmg.CrossModalRetriever`. What an item lacks is left out of the mean, so there is nothing
    to fill in, and the estimator's `missing` changes nothing.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states.
    dropout : float, default=0.5
        Dropout of the hidden states, in [0, 1).
    input_dropout : float, default=0.2
        Dropout of the features, in [0, 1).

    References
    ----------
    Radford et al., Learning transferable visual models from natural language supervision, ICML
    2021: a pair of encoders and one space. The encoders here are small, because features are given.

    Examples
    --------
    >>> from skmmg.estimators import CrossModalRetriever
    >>> from skmmg.models import DualMLP
    >>> retriever = CrossModalRetriever(model=DualMLP(hidden_channels=128))
    """

    name: ClassVar[str] = "dual_mlp"
    paper: ClassVar[str] = "a baseline without a graph, after Radford et al., ICML 2021"
    tasks: ClassVar[tuple[str, ...]] = ("retrieval",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self, hidden_channels: int = 64, dropout: float = 0.5, input_dropout: float = 0.2
    ) -> None:
        self.hidden_channels = hidden_channels
        self.dropout = dropout
        self.input_dropout = input_dropout

    def num_hops(self) -> int:
        """0: it looks at a node alone."""
        return 0

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        return DualMLPModule(schema, n_outputs, **self.get_params(deep=False))


class DualMLPModule(nn.Module):
    """The network that `DualMLP` describes."""

    def __init__(
        self,
        schema: Schema,
        n_outputs: int,
        *,
        hidden_channels: int,
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.target, self.out_channels = str(schema.target), hidden_channels
        widths = schema.node_types[self.target]
        self.modalities = tuple(widths)
        self.encoder = ModalityEncoder(
            {self.target: widths},
            self.modalities,
            hidden_channels,
            missing="zero",
            activation=None,
            dropout=input_dropout,
        )
        self.dropout = nn.Dropout(dropout)
        self.towers = nn.ModuleList(
            nn.Linear(hidden_channels, hidden_channels) for _ in self.modalities
        )
        self.head = nn.Linear(hidden_channels, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`."""
        own = GraphTensors(
            x={self.target: graph.x[self.target]},
            num_nodes={self.target: graph.num_nodes[self.target]},
            edge_index={},
            missing=graph.missing,
            device=graph.device,
        )
        h = self.encoder(own)[:, ids].relu()  # (M, n, d)
        parts = [tower(self.dropout(h_m)) for tower, h_m in zip(self.towers, h, strict=True)]
        absent = graph.absent(self.modalities)
        z = torch.stack(parts)
        if absent is not None:
            lacking = absent[:, stack_slices(graph.num_nodes)[self.target]][:, ids].unsqueeze(-1)
            n_present = (~lacking).sum(0).clamp_min(1)
            z = z.masked_fill(lacking, 0.0).sum(0) / n_present
        else:
            z = z.mean(0)
        return ModelOutput(self.head(z), z)
