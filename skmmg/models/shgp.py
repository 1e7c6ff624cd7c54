"""SHGP: pseudo-labels from label propagation, learnt by attention over relations."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg._sklearn import Interval
from skmmg.graph import Schema
from skmmg.models._pretraining import PretrainedSpec
from skmmg.nn import AttHGNNConv, GraphTensors
from skmmg.nn._dropout import dropout
from skmmg.nn._label_propagation import LabelPropagation


class SHGP(PretrainedSpec):
    r"""Self-supervised heterogeneous graph pre-training by structural clustering.

    Two parts take turns, one epoch each. Label propagation (`Att-LPA`) clusters the nodes along
    the edges, weighted by the attention of the network; the network (layers of
    `skmmg.nn.AttHGNNConv`) learns to predict the cluster of every target node,

    .. math:: L = \mathrm{CE}(E C + c_0,\; \arg\max_k Y_{\cdot k}),

    and its attention, detached, is that of the next propagation, which starts from the clusters
    that the last one found. No label is used: a `probe` classifies the embedding :math:`E`.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states and of the embedding.
    num_layers : int, default=2
        Number of layers.
    att_channels : int, default=64
        Width of queries and keys of the attention.
    dropout : float, default=0.5
        Dropout between layers, in [0, 1).
    att_dropout : float, default=0.5
        Dropout of the pairs of key and query, in [0, 1).
    input_dropout : float, default=0.0
        Dropout of the features, in [0, 1). Where the clusters say little, as where no two target
        nodes are connected, 0.5 keeps the network from learning them by heart.
    scale_scores : bool, default=True
        Whether attention scores are divided by the root of their width, see
        `skmmg.nn.AttHGNNConv`.
    cluster_ratio : float, default=0.05
        Number of labels that propagation starts with, as a share of the number of target nodes, in
        (0, 1]; at least 2.
    max_clusters : int, default=512
        Labels at most. It bounds the cost: an epoch takes time and memory in proportion to edges
        times labels where labels are still scattered.
    warmup_epochs : int, default=10
        Epochs on the clusters of plain propagation, before attention weighs it; the first always
        is one.
    max_rounds : int, default=100
        Rounds of a propagation at most.
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.

    Notes
    -----
    Fusion modes: "early" (default), which pretrains once on the merged modalities, and "late",
    which pretrains one network per modality and puts their embeddings side by side.

    Changed against the paper: features of any width are first projected by one linear map and tanh;
    scores of the attention are scaled, as without that it soon looks at one relation, often not at
    the one that tells (``scale_scores=False``); propagation ends after 100 rounds, not 1000, and
    the classifier of clusters starts as torch's layers do; a node without edges keeps its cluster,
    instead of falling to the first one; propagation also ends when labels swap forever. Where
    attention leaves a single cluster, propagation starts afresh from random labels, and a round
    that would leave a single cluster is not taken; the paper says nothing of that case. On dense
    graphs nearly all nodes may still end in one cluster; then the network learns next to nothing,
    and its embedding is about that of its first weights. Early stopping compares losses of clusters
    that change; the paper trains for a fixed number of epochs (``early_stopping=False``).
    ``warm_start=True`` goes on from the weights, with clusters drawn anew.

    References
    ----------
    Yang, Guan, Wang, Zhao, Xu, Lu, Huang, Self-supervised heterogeneous graph pre-training based
    on structural clustering, NeurIPS 2022, section 4. arXiv:2210.10462

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skmmg import MultiModalGraphClassifier, NodeEmbedder
    >>> from skmmg.models import SHGP
    >>> embedder = NodeEmbedder("shgp")
    >>> clf = MultiModalGraphClassifier(SHGP(num_layers=1), probe=LogisticRegression(C=10.0))
    """

    name: ClassVar[str] = "shgp"
    paper: ClassVar[str] = (
        "Self-supervised heterogeneous graph pre-training based on structural clustering, "
        "NeurIPS 2022, arXiv:2210.10462"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PretrainedSpec._parameter_constraints,
        "att_channels": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "att_dropout": [Interval(Real, 0, 1, closed="left")],
        "scale_scores": ["boolean"],
        "cluster_ratio": [Interval(Real, 0, 1, closed="right")],
        "max_clusters": [Interval(Integral, 2, None, closed="left")],
        "warmup_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_rounds": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        att_channels: int = 64,
        dropout: float = 0.5,
        att_dropout: float = 0.5,
        input_dropout: float = 0.0,
        scale_scores: bool = True,
        cluster_ratio: float = 0.05,
        max_clusters: int = 512,
        warmup_epochs: int = 10,
        max_rounds: int = 100,
        early_fusion: str = "concat",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.att_channels = att_channels
        self.dropout = dropout
        self.att_dropout = att_dropout
        self.input_dropout = input_dropout
        self.scale_scores = scale_scores
        self.cluster_ratio = cluster_ratio
        self.max_clusters = max_clusters
        self.warmup_epochs = warmup_epochs
        self.max_rounds = max_rounds
        self.early_fusion = early_fusion

    @property
    def samples(self) -> bool:
        """False: clusters are of all nodes."""
        return False

    def _network(self, schema: Schema, modalities: tuple[str, ...]) -> nn.Module:
        return AttHGNN(self.hidden_channels, schema, self)


class AttHGNN(nn.Module):
    """Layers of attention over relations, and the clusters that they learn."""

    def __init__(self, channels: int, schema: Schema, spec: SHGP) -> None:
        super().__init__()
        self.out_channels, self.dropout = channels, spec.dropout
        self.target = str(schema.target)
        self.convs = nn.ModuleList(
            AttHGNNConv(
                channels,
                channels,
                list(schema.node_types),
                schema.edge_types,
                att_channels=spec.att_channels,
                att_dropout=spec.att_dropout,
                scale_scores=spec.scale_scores,
            )
            for _ in range(spec.num_layers)
        )
        self.head = nn.Linear(channels, spec.max_clusters)
        self.clusters = Clusters(schema, spec)

    def forward(
        self, x_dict: Mapping[str, Tensor], graph: GraphTensors, ids: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Embedding of the target nodes `ids`, and in training the loss of their clusters."""
        h, attention = dict(x_dict), []
        for i, conv in enumerate(self.convs):
            if i:
                h = {t: dropout(F.elu(x), self.dropout, self.training) for t, x in h.items()}
            h, weights = conv(h, graph)
            attention.append(weights)
        z = h[self.target][ids]
        if not self.training:
            return z, {}
        labels, n_clusters = self.clusters.update(graph, attention)
        logits = self.head(z)[:, :n_clusters]
        return z, {"clusters": F.cross_entropy(logits, labels.to(z.device)[ids])}


class Clusters:
    """The pseudo-labels of a training run: they change from epoch to epoch, and are not saved."""

    def __init__(self, schema: Schema, spec: SHGP) -> None:
        self.target, self.edge_types = str(schema.target), schema.edge_types
        self.ratio, self.most = spec.cluster_ratio, spec.max_clusters
        self.warmup_epochs, self.max_rounds = spec.warmup_epochs, spec.max_rounds
        self.epoch = 0
        self.labels: np.ndarray | None = None

    def update(self, graph: GraphTensors, attention: list[dict[str, Tensor]]) -> tuple[Tensor, int]:
        """Labels of all target nodes for this epoch, and the number of labels at the start."""
        lpa = graph.cached(
            ("label_propagation", self.target, self.edge_types, self.max_rounds),
            lambda: LabelPropagation(graph, self.edge_types, self.target, self.max_rounds),
            of="edges",
        )
        n_target = graph.num_nodes[self.target]
        n_clusters = min(max(2, int(self.ratio * n_target)), self.most)
        if self.labels is None:
            self.labels = lpa.draw(n_clusters, _generator())
        elif self.epoch >= self.warmup_epochs:
            self.labels = self._spread(lpa, self.labels, attention, n_clusters)
        self.epoch += 1
        return torch.from_numpy(self.labels[lpa.target].astype(np.int64)), n_clusters

    @staticmethod
    def _spread(
        lpa: LabelPropagation,
        labels: np.ndarray,
        attention: list[dict[str, Tensor]],
        n_clusters: int,
    ) -> np.ndarray:
        layers = [{t: c.detach().cpu().double().numpy() for t, c in w.items()} for w in attention]
        labels = lpa.spread_by_attention(labels, layers)
        if len(np.unique(labels[lpa.target])) < 2:
            return lpa.draw(n_clusters, _generator())
        return labels


def _generator() -> np.random.Generator:
    """A generator seeded by torch's, so that an estimator's seed decides."""
    return np.random.default_rng(int(torch.randint(2**62, ())))
