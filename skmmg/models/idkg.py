"""IDKG: the network as a knowledge graph, whose entities' vectors are one modality more."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg._sklearn import Interval
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.nn import GraphTensors, ModalityEncoder
from skmmg.nn._anchor_contrast import anchor_contrast
from skmmg.nn._by_type import ByType
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._entity_features import EntityFeatures
from skmmg.nn._precision import widen

# half of the reliability is reached with so many linked entities
_HALF_RELIABLE = 6


class IDKG(ModelSpec):
    r"""Gated fusion of the modalities with a knowledge graph.

    The graph's edges, and (node, has-class, class) for the training nodes, are triples of a
    knowledge graph, from which TransH learns vectors of the entities when `fit` begins. The vector
    :math:`x_i^{kg}` of a node is the sum of those of the nodes that it is linked from; it is one
    modality more. For the modalities and the knowledge graph,

    .. math::

        v_i^m &= P_m x_i^m + b_m, \qquad
        g_i^m = \sigma(W_m v_i^m), \qquad
        h_i = \sum_m g_i^m \odot \tanh v_i^m \\
        w_i^m &= \mathrm{mean}(g_i^m), \qquad t_i = n_i / (n_i + 6) \\
        L &= CE + a\,\mathrm{mean}_i (w_i^{kg} - t_i)^2 + b\,L_{contrast}

    with :math:`n_i` the number of linked entities that have a vector, and three linear maps, with
    nothing between them, as the classifier.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of :math:`v` and :math:`h`; the paper has 512.
    kg_channels : int, default=200
        Width of the entities' vectors.
    margin : float, default=1.0
        Margin of TransH's loss.
    kg_epochs : int, default=20
        Passes of TransH over the triples; 0 leaves random vectors. A pass over 600,000 edges takes
        about 4 seconds on one core.
    kg_lr : float, default=0.01
        TransH's learning rate.
    class_anchors : bool, default=True
        Whether classes are entities, linked to the training nodes, and their vectors the anchors
        of the contrast. False leaves them out; then the anchors are the mean states of the
        classes' training nodes.
    teacher_weight : float, default=1.0
        :math:`a`.
    contrast_weight : float, default=0.1
        :math:`b`.
    temperature : float, default=0.5
        Temperature of the contrast.
    dropout : float, default=0.6
        Dropout of :math:`h` before the classifier, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, and of the knowledge graph's, in [0, 1).

    Notes
    -----
    **Parts of this are a reconstruction.** The paper classifies films whose genres are labels,
    with a knowledge graph of titles, directors, actors and genres; its training code is not
    published. The contrast pulls :math:`h_i` towards the anchor of its class and away from the
    states and anchors of other classes, among 64 training nodes at a time (the paper's batch):

    .. math::

        L_{contrast} = -\tfrac12 \mathrm{mean}_q \log
            \frac{\exp(q^\top p / \tau)}{\exp(q^\top p / \tau) + \sum_k \exp(q^\top k / \tau)}

    with, for the query :math:`q = h_i`, its anchor as :math:`p`, and the other way round, all of
    length 1, and :math:`k` the states and anchors of other classes. In the paper, where a film has
    several genres, all others are :math:`k`; with one class per node these would have the very
    anchor that is the positive.

    Departures: every node is an entity, not only those that a training title names; the teacher's
    penalty is a squared difference and the weights :math:`a, b` are ours (unpublished); a corrupted
    triple gets an entity of the right type; one class per node, so a softmax instead of sigmoids;
    features are scaled by the estimator, and the knowledge graph's once by the mean and standard
    deviation over the target nodes that have any links, instead of by batch normalisations; a node
    without links gets that mean; class vectors have length 1 before the projection that they share
    with nodes; the dropouts are ours.

    A class's vector is no linked entity: no node's features hold its own class. The vectors of a
    training node's neighbours are learned with its has-class triple in place, though, so that the
    knowledge graph is a better feature of training nodes than of others; ``class_anchors=False``
    keeps all labels out of it.

    Vectors belong to the nodes of the network that was fitted; in a network that has grown, to the
    first nodes of every type. New nodes and rows have none, but still those of the fitted ones that
    they are linked from. In another network the knowledge graph says nothing, and the prediction
    rests on the modalities. Training goes on (``warm_start``) with new vectors.

    Of the modalities' weights, `modality_weights` gives those without the knowledge graph, divided
    by their sum. Natively multi-modal: `fusion` does not apply.

    References
    ----------
    Li, Qi, Zhang, Chen, Tan, Xia, Tian, Incorporating domain knowledge graph into multimodal movie
    genre classification with self-supervised attention and contrastive learning, ACM MM 2023,
    3337-3345. arXiv:2310.08032

    Wang, Zhang, Feng, Chen, Knowledge graph embedding by translating on hyperplanes, AAAI 2014.

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import IDKG
    >>> clf = MultiModalGraphClassifier(IDKG(kg_channels=64, class_anchors=False))
    """

    name: ClassVar[str] = "idkg"
    paper: ClassVar[str] = "Li et al., IDKG, ACM MM 2023, arXiv:2310.08032 (parts reconstructed)"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "kg_channels": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "kg_epochs": [Interval(Integral, 0, None, closed="left")],
        "kg_lr": [Interval(Real, 0, None, closed="neither")],
        "class_anchors": ["boolean"],
        "teacher_weight": [Interval(Real, 0, None, closed="left")],
        "contrast_weight": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        *,
        kg_channels: int = 200,
        margin: float = 1.0,
        kg_epochs: int = 20,
        kg_lr: float = 0.01,
        class_anchors: bool = True,
        teacher_weight: float = 1.0,
        contrast_weight: float = 0.1,
        temperature: float = 0.5,
        dropout: float = 0.6,
        input_dropout: float = 0.5,
    ) -> None:
        self.hidden_channels = hidden_channels
        self.kg_channels = kg_channels
        self.margin = margin
        self.kg_epochs = kg_epochs
        self.kg_lr = kg_lr
        self.class_anchors = class_anchors
        self.teacher_weight = teacher_weight
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.dropout = dropout
        self.input_dropout = input_dropout

    @property
    def uses_labels(self) -> bool:
        """True: classes are entities of the knowledge graph, or anchors of the contrast."""
        return True

    @property
    def samples(self) -> bool:
        """False: TransH learns from all edges."""
        return False

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        entities = EntityFeatures(
            schema.node_types,
            schema.edge_types,
            str(schema.target),
            n_outputs,
            self.kg_channels,
            margin=self.margin,
            max_epochs=self.kg_epochs,
            lr=self.kg_lr,
            class_entities=self.class_anchors,
        )
        encoder = make_encoder(
            schema,
            self.hidden_channels,
            missing=missing,
            activation=None,
            dropout=self.input_dropout,
        )
        return IDKGModule(self, encoder, entities, schema, n_outputs)


class IDKGModule(nn.Module):
    """The network that `IDKG` describes."""

    def __init__(
        self,
        spec: IDKG,
        encoder: ModalityEncoder,
        entities: EntityFeatures,
        schema: Schema,
        n_outputs: int,
    ) -> None:
        super().__init__()
        d = self.out_channels = spec.hidden_channels
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.n_classes = n_outputs
        self.class_anchors, self.temperature = spec.class_anchors, spec.temperature
        self.teacher_weight, self.contrast_weight = spec.teacher_weight, spec.contrast_weight
        self.dropout, self.input_dropout = spec.dropout, spec.input_dropout
        self.encoder, self.entities = encoder, entities
        self.kg_projection = nn.Linear(spec.kg_channels, d)
        self.gates = ByType({m: nn.Linear(d, d, bias=False) for m in self.modalities})
        self.kg_gate = nn.Linear(d, d, bias=False)
        for gate in (*self.gates.entries, self.kg_gate):
            nn.init.kaiming_normal_(gate.weight, mode="fan_out")
        self.head = nn.Sequential(nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, n_outputs))

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`; in training, learns the entities' vectors first."""
        if self.training:
            self.entities.learn(graph)
        x_kg, n_linked = self.entities(graph, ids)  # (n, kg), (n,)
        v_kg = self.kg_projection(drop(x_kg, self.input_dropout, self.training))
        own = self.encoder.encode_some(graph, self.target, ids)  # (M, n, d)
        v = torch.cat([own, v_kg.unsqueeze(0)])  # (M + 1, n, d)
        gate = self._gate(v)
        h = (gate * v.tanh()).sum(0)  # (n, d)
        weight = gate.mean(2)  # (M + 1, n)
        z = drop(h, self.dropout, self.training)
        return ModelOutput(
            logits=self.head(z),
            embedding=h,
            penalties=self._teach(weight[-1], n_linked) | self._contrast(h, graph, ids),
            modality_weights=(weight[:-1] / weight[:-1].sum(0)).t(),
        )

    def _gate(self, v: Tensor) -> Tensor:
        gates = [*(self.gates[m] for m in self.modalities), self.kg_gate]
        scores = torch.stack([g(v_m) for g, v_m in zip(gates, v, strict=True)])
        return widen(scores).sigmoid()

    def _teach(self, weight: Tensor, n_linked: Tensor) -> dict[str, Tensor]:
        """What keeps the weight of the knowledge graph at its reliability."""
        if not self.teacher_weight:
            return {}
        reliability = n_linked / (n_linked + _HALF_RELIABLE)
        return {"teacher": self.teacher_weight * (weight - reliability).square().mean()}

    def _contrast(self, h: Tensor, graph: GraphTensors, ids: Tensor) -> dict[str, Tensor]:
        """Contrast of the nodes whose labels are known with the anchors of the classes."""
        if not self.training or not self.contrast_weight or graph.labels is None:
            return {}
        labels = graph.labels[ids]
        h, labels = h[labels >= 0], labels[labels >= 0]
        if not len(labels):
            return {}
        loss = anchor_contrast(h, labels, self._anchors(h, labels), self.temperature)
        return {"contrast": self.contrast_weight * loss}

    def _anchors(self, h: Tensor, labels: Tensor) -> Tensor:
        """A state for every class, (n_classes, d)."""
        if self.class_anchors:
            return self.kg_projection(self.entities.class_vectors())
        member = F.one_hot(labels, self.n_classes).to(h.dtype)  # (n, C)
        return member.t() @ h / member.sum(0).clamp_min(1).unsqueeze(1)
