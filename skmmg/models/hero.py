"""HERO: homophily and heterogeneity of a graph, without labels and without metapaths."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg._sklearn import Interval
from skmmg.graph import Schema
from skmmg.models._pretraining import PretrainedSpec
from skmmg.nn import GraphTensors
from skmmg.nn._inputs import Features
from skmmg.nn._precision import in_float32
from skmmg.nn._relations import mean_adjacency
from skmmg.nn._self_expression import (
    FarNodes,
    choose_landmarks,
    far_nodes,
    feature_rows,
    self_expression,
)


class HERO(PretrainedSpec):
    r"""Self-supervised heterogeneous graph learning with homophily and heterogeneity.

    Homophily: every target node is rebuilt from all others, :math:`Z^{hom} = S H` with

    .. math:: S = \arg\min_S \|H - SH\|^2 + \alpha \sum_{ij} S_{ij} D_{ij} + \beta \|S\|^2,
              \qquad H = X_* W_f

    in closed form, see `skmmg.nn._self_expression`; :math:`D` are distances of features.
    Heterogeneity: :math:`Z^{het} = W [h \| x]` of layers

    .. math:: h_t \leftarrow \mathrm{mean}_{r \to t}\, \mathrm{ReLU}(A_r h_{s(r)} W_r).

    With projections :math:`P^\cdot = \mathrm{ReLU}(g(Z^\cdot))`,
    :math:`Q^\cdot = \mathrm{ReLU}(g_1(Z^\cdot))`, :math:`T = \mathrm{ReLU}(g_2(Q^{hom}))` and
    :math:`\mathrm{rn}` scaling the rows of a matrix to length one,

    .. math::

        L_{con} &= -\mathrm{tr}\,\mathrm{rn}(P^{het\top} P^{hom}) + \gamma \sum_{v}
            \log \sum \exp \mathrm{rn}(P^{v\top} P^{v}) \\
        L_{spe} &= -\mathrm{tr}\,\mathrm{rn}(T^\top Q^{het}) + \eta\,[
            \mathrm{tr}\,\mathrm{rn}(T^\top Q^{hom}) + \mathrm{tr}\,\mathrm{rn}(T^\top P^{hom})] \\
        L &= L_{con} + \lambda L_{spe}.

    The embedding is :math:`[Z^{het} \| Z^{hom}]`; a `probe` classifies it.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states; the embedding has twice as many columns.
    num_layers : int, default=2
        Layers of the heterogeneous part.
    proj_channels : int, default=64
        Width of the projections in the loss.
    input_dropout : float, default=0.0
        Dropout of the features, in [0, 1).
    distance_weight : float, default=1.0
        :math:`\alpha`, 0 or more; 0 leaves distances out.
    ridge : float, default=500.0
        :math:`\beta`, above 0.
    uniformity_weight, redundancy_weight, specificity_weight : float, default=1.0
        :math:`\gamma`, :math:`\eta`, :math:`\lambda`, 0 or more.
    distance_quantile : float, default=0.9
        Share of a node's distances, the small ones, that are set to zero, in [0, 1].
    max_landmarks : int, default=2000
        Where there are more target nodes, distances are taken from that many of them, drawn once
        and for all, that stand for the others. A number not below that of the target nodes makes
        them exact; time and memory go with target nodes times landmarks times
        (1 - `distance_quantile`), so that 58,000 nodes and 2000 landmarks keep 12 million; where
        many distances are equal, about half of all at most.
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.

    Notes
    -----
    Fusion modes: "early" (default), which pretrains once on the merged modalities, and "late",
    which pretrains one network per modality, with distances in that modality, and puts their
    embeddings side by side.

    Changed against the paper: features of any width are first projected by one linear map and
    tanh. All parameters are trained; the released code never updates the projections of the loss.
    The quantile is that of a row, so that the matrix of distances is made by blocks and never as a
    whole; distances equal to it, as many are of texts that share no word, are all kept. A node type
    that no relation reaches keeps its states. Nodes that were not seen in training are rebuilt from
    those that were, which leaves the embedding of the latter as it is (the paper is transductive
    only). The network of `fit` may have grown since; on another one all of its nodes are the
    reference.

    Late in training the loss may turn up again for good, when units of the projections are zero
    for all nodes; early stopping keeps the best epoch, so leave it on.

    References
    ----------
    Mo, Nie, Hu, Shen, Zhang, Wang, Zhu, Self-supervised heterogeneous graph learning: a homophily
    and heterogeneity view, ICLR 2024, equations 1 to 11. openreview.net/forum?id=3FJOKjooIj

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier, NodeEmbedder
    >>> from skmmg.models import HERO
    >>> embedder = NodeEmbedder(HERO(ridge=100.0))
    >>> clf = MultiModalGraphClassifier("hero", fusion="late")
    """

    name: ClassVar[str] = "hero"
    paper: ClassVar[str] = (
        "Self-supervised heterogeneous graph learning: a homophily and heterogeneity view, "
        "ICLR 2024, openreview 3FJOKjooIj"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PretrainedSpec._parameter_constraints,
        "proj_channels": [Interval(Integral, 1, None, closed="left")],
        "distance_weight": [Interval(Real, 0, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="neither")],
        "uniformity_weight": [Interval(Real, 0, None, closed="left")],
        "redundancy_weight": [Interval(Real, 0, None, closed="left")],
        "specificity_weight": [Interval(Real, 0, None, closed="left")],
        "distance_quantile": [Interval(Real, 0, 1, closed="both")],
        "max_landmarks": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        proj_channels: int = 64,
        input_dropout: float = 0.0,
        distance_weight: float = 1.0,
        ridge: float = 500.0,
        uniformity_weight: float = 1.0,
        redundancy_weight: float = 1.0,
        specificity_weight: float = 1.0,
        distance_quantile: float = 0.9,
        max_landmarks: int = 2000,
        early_fusion: str = "concat",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.proj_channels = proj_channels
        self.input_dropout = input_dropout
        self.distance_weight = distance_weight
        self.ridge = ridge
        self.uniformity_weight = uniformity_weight
        self.redundancy_weight = redundancy_weight
        self.specificity_weight = specificity_weight
        self.distance_quantile = distance_quantile
        self.max_landmarks = max_landmarks
        self.early_fusion = early_fusion

    @property
    def samples(self) -> bool:
        """False: self-expression is among all nodes."""
        return False

    @property
    def uses_labels(self) -> bool:
        """True: they tell which nodes it was trained on; in pretraining all are of one class."""
        return True

    def _network(self, schema: Schema, modalities: tuple[str, ...]) -> nn.Module:
        return HERONet(self.hidden_channels, modalities, schema, self)


class HERONet(nn.Module):
    """The homophilous and the heterogeneous encoder, and the projections of the loss."""

    def __init__(
        self, channels: int, modalities: tuple[str, ...], schema: Schema, spec: HERO
    ) -> None:
        super().__init__()
        self.out_channels, self.modalities = 2 * channels, modalities
        self.target, self.edge_types = str(schema.target), schema.edge_types
        self.ridge, self.half_alpha = float(spec.ridge), 0.5 * spec.distance_weight
        self.quantile, self.max_landmarks = spec.distance_quantile, spec.max_landmarks
        self.gamma, self.eta = spec.uniformity_weight, spec.redundancy_weight
        self.lam = spec.specificity_weight
        width = spec.proj_channels
        self.homophilous = nn.Linear(channels, channels)
        shape = (spec.num_layers, len(self.edge_types), channels, channels)
        self.relation_weight = nn.Parameter(torch.empty(shape))
        for matrix in self.relation_weight.flatten(0, 1):
            nn.init.xavier_uniform_(matrix)
        self.heterogeneous = nn.Linear(2 * channels, channels)
        self.consistent = nn.Linear(channels, width)
        self.specific = nn.Linear(channels, width)
        self.transformed = nn.Linear(width, width)

    def forward(
        self, x_dict: Mapping[str, Tensor], graph: GraphTensors, ids: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Embedding of the target nodes `ids`, and in training the terms of the loss."""
        hom = self._rebuild(x_dict[self.target], graph, ids)
        het = self._pass_messages(x_dict, graph, ids)
        return torch.cat([het, hom], 1), self._losses(het, hom) if self.training else {}

    def _rebuild(self, x: Tensor, graph: GraphTensors, ids: Tensor) -> Tensor:
        h = self.homophilous(x)  # (n, d)
        reference = _reference(graph, len(x))
        penalty = None
        x_raw = [f for m, f in graph.x.get(self.target, {}).items() if m in self.modalities]
        if self.half_alpha and x_raw:
            landmarks = choose_landmarks(reference, self.max_landmarks)
            far = self._distances(x_raw, graph, ids, landmarks, len(reference))
            penalty = self.half_alpha * (far @ h[landmarks])
        return self_expression(h[ids], h[reference], self.ridge, penalty)

    def _distances(
        self,
        features: list[Features],
        graph: GraphTensors,
        ids: Tensor,
        landmarks: Tensor,
        n_reference: int,
    ) -> FarNodes:
        dtype = self.relation_weight.dtype

        def make() -> FarNodes:
            rows, columns = (feature_rows(graph, self.target, i) for i in (ids, landmarks))
            return far_nodes(
                features,
                rows,
                columns,
                n_reference=n_reference,
                quantile=self.quantile,
                dtype=dtype,
            )

        if not self.training:
            return make()
        # training asks for the same nodes epoch by epoch
        key = ("far_nodes", self.modalities, self.quantile, self.max_landmarks, len(ids), dtype)
        return graph.cached(key, make, of="labels")

    def _pass_messages(
        self, x_dict: Mapping[str, Tensor], graph: GraphTensors, ids: Tensor
    ) -> Tensor:
        h = dict(x_dict)
        for weights in self.relation_weight:
            new: dict[str, list[Tensor]] = {}
            for edge_type, weight in zip(self.edge_types, weights, strict=True):
                src, _, dst = edge_type
                mean = mean_adjacency(graph, edge_type, weight.dtype)
                new.setdefault(dst, []).append(F.relu(mean @ (h[src] @ weight)))
            h |= {t: torch.stack(parts).mean(0) for t, parts in new.items()}
        both = torch.cat([h[self.target][ids], x_dict[self.target][ids]], 1)
        return self.heterogeneous(both)

    @in_float32
    def _losses(self, het: Tensor, hom: Tensor) -> dict[str, Tensor]:
        p_het, p_hom = F.relu(self.consistent(het)), F.relu(self.consistent(hom))
        q_het, q_hom = F.relu(self.specific(het)), F.relu(self.specific(hom))
        t = F.relu(self.transformed(q_hom))
        spread = sum(_row_unit(p, p).flatten().logsumexp(0) for p in (p_het, p_hom))
        shared = _row_unit(t, q_hom).trace() + _row_unit(t, p_hom).trace()
        return {
            "consistency": self.gamma * spread - _row_unit(p_het, p_hom).trace(),
            "specificity": self.lam * (self.eta * shared - _row_unit(t, q_het).trace()),
        }


def _reference(graph: GraphTensors, n_target: int) -> Tensor:
    """The nodes of pretraining, where the graph shows which they are; else all target nodes."""
    if graph.labels is not None and bool((graph.labels >= 0).any()):
        return torch.nonzero(graph.labels >= 0)[:, 0]
    return torch.arange(n_target, device=graph.device)


def _row_unit(a: Tensor, b: Tensor) -> Tensor:
    """Products of the columns of two projections, rows of the matrix scaled to length one."""
    return F.normalize(a.t() @ b, dim=1)
