"""XGEA: cross-modal graph attention, in a form for classification."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.models._layerwise import Layer, Layerwise, layer_on_edges
from skmmg.nn import GraphTensors, ModalityAttention, ModalityEncoder
from skmmg.nn._attention import EdgeAttention
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._field import ReceptiveField, receptive_field, whole_graph
from skmmg.nn._reflection_conv import EdgePair, ReflectionConv
from skmmg.nn._xgea_conv import XGEAConv


class XGEA(ModelSpec):
    r"""Cross-modal graph attention: a modality's weights come from the other modalities.

    With :math:`c^m` the mean of the states of the modalities other than :math:`m`, for an edge
    :math:`e = (j \to i)` of relation :math:`r`,

    .. math::

        \alpha_e^m &= \mathrm{softmax}_{e \in N(i)}\,
            v^\top \mathrm{LeakyReLU}(W_r [c_i^m \| c_j^m]) \\
        h_i^m &\leftarrow \tanh \sum_{e \in N(i)} \alpha_e^m W_r^{src} h_j^m

    The states of all layers, the input among them, stand side by side; an attention over the
    modalities merges them; a linear map classifies. A single modality influences itself.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of a layer's states; the embedding has ``hidden_channels * (num_layers + 1)``.
    num_layers : int, default=2
        Number of layers; 0 leaves projection, fusion and classifier.
    reflection : bool, default=False
        The style of the released code: neighbours are not mapped but reflected, by a vector of
        their relation and by one that the other modalities' inputs give the edge. See the Notes.
    influence_weight : float, default=0.1
        Weight of what the other modalities say, for ``reflection=True``.
    dropout : float, default=0.3
        Dropout of the projected features, and of the states after each layer, in [0, 1).
    input_dropout : float, default=0.0
        Dropout of the features, in [0, 1).

    Notes
    -----
    **This is a reconstruction.** The paper aligns the entities of two knowledge graphs; the form
    in which the paper of HGNN-IMA compares it on node classification is not published. Taken over
    are its rule (the weights of a modality come from the other modality, the same rule for all
    nodes), the concatenation of all layers and :math:`\tanh`; the attention is GATv2's with a
    matrix per relation, whose source half :math:`W_r^{src}` also maps the messages; with more than
    two modalities the mean of the others stands for the other one; the modalities share the
    parameters; modalities are merged by the attention of HGNN-IMA (equations 12 to 14) instead of
    fixed weights; the loss is a cross-entropy instead of an alignment loss.

    With ``reflection=True``, and the reflection :math:`R_n(h) = h - 2 (h^\top n) n`,

    .. math::

        \rho_r &= u_r / \|u_r\|, \qquad
        \chi_e = (P c_i + Q c_j) / \|P c_i + Q c_j\| \\
        a_e &= \mathrm{softmax}_{e \in N(i)}\, \rho_r^\top v, \qquad
        b_e = \mathrm{softmax}_{e \in N(i)}\, \chi_e^\top v' \\
        h_i &\leftarrow \tanh\Bigl(\sum_e a_e R_{\rho_r}(h_j)
            + \epsilon \sum_e b_e R_{\chi_e}(h_j)\Bigr)

    where :math:`c` are input states. The released code has the whitened principal components of
    the matrix of all edges, (n_edges, 2 channels), for :math:`[P \| Q]`; here they are learned.

    The paper has 128 channels and trains by RMSprop, lr 5e-3, weight decay 5e-4:
    ``optimizer="rmsprop", lr=5e-3, weight_decay=5e-4``.

    References
    ----------
    Xu, Xu, Su, Cross-modal graph attention network for entity alignment, ACM MM 2023, 3715-3723.

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import XGEA
    >>> clf = MultiModalGraphClassifier(XGEA(num_layers=1), optimizer="rmsprop", lr=5e-3)
    """

    name: ClassVar[str] = "xgea"
    paper: ClassVar[str] = "Xu et al., XGEA, ACM MM 2023, 3715-3723 (reconstruction)"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "num_layers": [Interval(Integral, 0, None, closed="left")],
        "reflection": ["boolean"],
        "influence_weight": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        *,
        reflection: bool = False,
        influence_weight: float = 0.1,
        dropout: float = 0.3,
        input_dropout: float = 0.0,
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.reflection = reflection
        self.influence_weight = influence_weight
        self.dropout = dropout
        self.input_dropout = input_dropout

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        n_relations, d = len(schema.edge_types), self.hidden_channels
        layers: Layers | ReflectionLayers
        if self.reflection:
            layers = ReflectionLayers(d, n_relations, self.num_layers, self.influence_weight)
        else:
            layers = Layers(d, n_relations, self.num_layers)
        encoder = make_encoder(schema, d, missing=missing, dropout=self.input_dropout)
        return XGEAModule(encoder, layers, schema, n_outputs, self.dropout)


class XGEAModule(nn.Module):
    """The network that `XGEA` describes."""

    def __init__(
        self,
        encoder: ModalityEncoder,
        layers: Layers | ReflectionLayers,
        schema: Schema,
        n_outputs: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.edge_types, self.dropout = schema.edge_types, dropout
        self.encoder, self.layers = encoder, layers
        self.num_layers = len(layers.convs)
        self.out_channels = encoder.channels * (self.num_layers + 1)
        self.fusion = ModalityAttention(self.out_channels)
        self.head = nn.Linear(self.out_channels, n_outputs)

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`, from what these nodes can see."""
        field = receptive_field(
            graph,
            self.edge_types,
            self.target,
            ids,
            self.num_layers,
            self.encoder.hops,
            self.modalities,
        )
        *_, states = self._states(field)
        return self._read_out(states[:, field.target])

    def layerwise(self) -> Layerwise:
        """The network, cut at its layers."""

        def layer(k: int) -> Layer:
            return layer_on_edges(lambda h, edges: self._append(k, h, edges), self.edge_types)

        layers = [layer(k) for k in range(self.num_layers)]
        encoder = self.encoder
        return Layerwise(encoder.project, encoder.complete, layers, self._read_out, True)

    def edge_attention(self, graph: GraphTensors) -> list[EdgeAttention]:
        """Attention of every layer over all edges."""
        place = (graph, self.edge_types, self.target, torch.zeros(0, dtype=torch.long))
        field, out = whole_graph(*place, self.num_layers), []
        for k, states in enumerate(self._states(field)):
            if k < self.num_layers:
                alpha = self.layers.attend(k, self._last(states), field.layers[k]).unsqueeze(0)
                out.append(EdgeAttention(alpha, None, alpha, None, alpha))
        return out

    def _states(self, field: ReceptiveField) -> list[Tensor]:
        """Before and after every layer, the states of all layers so far side by side."""
        h = self._drop(field.enter(self.encoder(field.graph)))  # (M, N, d)
        out = [h]
        for k, edges in enumerate(field.layers):
            out.append(self._append(k, out[-1], edges))
        return out

    def _append(self, k: int, so_far: Tensor, edges: EdgeStructure) -> Tensor:
        """The states so far, and beside them those after layer `k`."""
        x = so_far[..., : self.encoder.channels]
        h = self._drop(self.layers(k, self._last(so_far), x, edges))
        kept = so_far if edges.kept is None else so_far[:, edges.kept]
        return torch.cat([kept, h], 2)

    def _read_out(self, states: Tensor) -> ModelOutput:
        z, weights = self.fusion(states)
        return ModelOutput(self.head(z), z, modality_weights=weights)

    def _last(self, states: Tensor) -> Tensor:
        return states[..., -self.encoder.channels :]

    def _drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout, self.training)


class Layers(nn.Module):
    """Layers that map a neighbour by a matrix of its relation."""

    def __init__(self, channels: int, n_relations: int, num_layers: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(XGEAConv(channels, n_relations) for _ in range(num_layers))

    def forward(self, k: int, h: Tensor, x: Tensor, edges: EdgeStructure) -> Tensor:
        """Run layer `k` on the states `h` of nodes whose inputs are `x`."""
        return self.convs[k](h, edges)

    def attend(self, k: int, h: Tensor, edges: EdgeStructure) -> Tensor:
        """Attention of layer `k`, (n_modalities, n_edges)."""
        conv: Any = self.convs[k]
        return conv.attend(h, edges)


class ReflectionLayers(nn.Module):
    """Layers that reflect a neighbour; they share the vectors of the relations."""

    def __init__(
        self, channels: int, n_relations: int, num_layers: int, influence_weight: float
    ) -> None:
        super().__init__()
        self.relations = nn.Parameter(torch.randn(n_relations, channels)) if num_layers else None
        self.pair = EdgePair(channels) if num_layers else None
        self.convs = nn.ModuleList(
            ReflectionConv(channels, influence_weight) for _ in range(num_layers)
        )

    def forward(self, k: int, h: Tensor, x: Tensor, edges: EdgeStructure) -> Tensor:
        """Run layer `k` on the states `h` of nodes whose inputs are `x`."""
        return self.convs[k](h, x, edges, self.relations, self.pair)

    def attend(self, k: int, h: Tensor, edges: EdgeStructure) -> Tensor:
        """Attention of layer `k` by the relations, the same for every modality."""
        conv: Any = self.convs[k]
        assert self.relations is not None
        rho = torch.nn.functional.normalize(self.relations, dim=1)
        return conv.relation_attention(rho, edges).expand(len(h), -1)
