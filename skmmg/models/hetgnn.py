"""HetGNN: contents of a node and its most visited neighbours, read by recurrent networks."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, make_encoder
from skmmg.nn import GraphTensors
from skmmg.nn._by_type import ByType
from skmmg.nn._dropout import dropout
from skmmg.nn._precision import in_float32, softmax
from skmmg.nn._walks import Neighborhood, Walker


class HetGNN(ModelSpec):
    r"""Heterogeneous graph neural network.

    .. math::

        f_1(v) &= \mathrm{mean}_m\, \mathrm{BiLSTM}_{o(v)}(FC_m x^m_v) \\
        f_2^t(v) &= \mathrm{mean}_{v' \in N_t(v)}\, \mathrm{BiLSTM}_t(f_1(v')) \\
        E_v &= \sum_{i} a_i f_i, \qquad f_i \in \{f_1(v)\} \cup \{f_2^t(v)\}_t, \qquad
        a = \mathrm{softmax}_i\, \mathrm{LeakyReLU}_{.01}(u^\top [f_1(v) \,\|\, f_i])

    where :math:`N_t(v)` are the nodes of type :math:`t` that random walks with restart from
    :math:`v` visit most, by falling frequency. With ``objective="link"`` no label is used: nodes
    :math:`c, p` that are near on a random walk attract, and a random node :math:`n` of the type of
    :math:`p` repels,

    .. math:: L = -\log \sigma(E_c \cdot E_p) - \log \sigma(-E_c \cdot E_n).

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states, an even number.
    objective : {"supervised", "link"}, default="supervised"
        "supervised": trained on labels, like other models. "link": trained without, as in the
        paper; a `probe` classifies the embedding.
    neighbors_per_type : int, default=10
        Neighbours of every node type.
    num_visits : int, default=100
        How many visits of other nodes choose them.
    restart_prob : float, default=0.5
        Probability to return to the start, in [0, 1).
    walks_per_node, walk_length, context_size : int, default=10, 30, 5
        For "link": plain walks from every node, nodes of a walk, and steps between two nodes of a
        walk that attract, at most.
    dropout : float, default=0.6
        Dropout of the contents :math:`f_1` and of the embedding, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, in [0, 1).

    Notes
    -----
    It takes several modalities by nature (they are merged before neighbours are read, that is
    early), so `fusion` is None or "early".

    Changed against the paper: contents are the modalities, and no vectors of a walk embedding
    beside them; modalities that a node lacks are completed as `missing` says. A walk takes a fixed
    number of steps, and the code's caps per node type are left out. Where a node has fewer
    neighbours of a type, they are repeated, and a type without any is left out of the attention.
    "link" takes one pair of every walk per epoch, on the whole graph, where the paper takes batches
    of all pairs; the negatives are drawn evenly. The supervised objective is that of
    semi-supervised comparisons. Walks follow edges against their direction, as messages come from
    in-neighbours; the graph of an estimator has every relation in both directions. What a walk
    draws depends on the numbers of the nodes, so that renumbering them changes the embedding a
    little, and nodes with the same in-neighbours take the same walks.

    References
    ----------
    Zhang, Song, Huang, Swami, Chawla, Heterogeneous graph neural network, KDD 2019, equations 1 to
    8. doi:10.1145/3292500.3330961

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier, NodeEmbedder
    >>> from skmmg.models import HetGNN
    >>> clf = MultiModalGraphClassifier(HetGNN(neighbors_per_type=5))
    >>> embedder = NodeEmbedder(HetGNN(objective="link"))
    """

    name: ClassVar[str] = "hetgnn"
    paper: ClassVar[str] = (
        "Heterogeneous graph neural network, KDD 2019, doi:10.1145/3292500.3330961"
    )
    fusion_modes: ClassVar[tuple[str, ...]] = ("early",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 2, None, closed="left")],
        "objective": [StrOptions({"supervised", "link"})],
        "neighbors_per_type": [Interval(Integral, 1, None, closed="left")],
        "num_visits": [Interval(Integral, 1, None, closed="left")],
        "restart_prob": [Interval(Real, 0, 1, closed="left")],
        "walks_per_node": [Interval(Integral, 1, None, closed="left")],
        "walk_length": [Interval(Integral, 2, None, closed="left")],
        "context_size": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        objective: str = "supervised",
        neighbors_per_type: int = 10,
        num_visits: int = 100,
        restart_prob: float = 0.5,
        walks_per_node: int = 10,
        walk_length: int = 30,
        context_size: int = 5,
        dropout: float = 0.6,
        input_dropout: float = 0.5,
    ) -> None:
        self.hidden_channels = hidden_channels
        self.objective = objective
        self.neighbors_per_type = neighbors_per_type
        self.num_visits = num_visits
        self.restart_prob = restart_prob
        self.walks_per_node = walks_per_node
        self.walk_length = walk_length
        self.context_size = context_size
        self.dropout = dropout
        self.input_dropout = input_dropout

    @property
    def samples(self) -> bool:
        """False: walks go anywhere, and links are drawn among all nodes."""
        return False

    @property
    def self_supervised(self) -> bool:
        """Whether the objective needs no label."""
        return self.objective == "link"

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        if self.hidden_channels % 2:
            raise ValueError(
                "hidden_channels has to be even, as both directions of a recurrent network get one "
                f"half, got {self.hidden_channels}."
            )
        return HetGNNNet(schema, n_outputs, missing, self)


class HetGNNNet(nn.Module):
    """Recurrent networks over contents and neighbours, and attention over node types."""

    walk_seed: Tensor

    def __init__(self, schema: Schema, n_outputs: int, missing: str, spec: HetGNN) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.edge_types, self.out_channels = schema.edge_types, spec.hidden_channels
        self.dropout, self.link = spec.dropout, spec.self_supervised
        self.size, self.num_visits = spec.neighbors_per_type, spec.num_visits
        self.restart_prob = float(spec.restart_prob)
        self.walks = (spec.walk_length, spec.walks_per_node)
        self.context_size = spec.context_size
        d, types = spec.hidden_channels, list(schema.node_types)
        self.encoder = make_encoder(
            schema, d, missing=missing, activation=None, dropout=spec.input_dropout
        )
        self.contents = ByType({t: BiLSTM(d) for t in types})
        self.neighbors = ByType({t: BiLSTM(d) for t in types})
        embedded = types if self.link else [self.target]
        self.scores = ByType({t: TypeAttention(d) for t in embedded})
        self.head = None if self.link else nn.Linear(d, n_outputs)
        # walks belong to the fitted model: it has to meet the same ones when it infers
        self.register_buffer("walk_seed", torch.randint(2**31, ()))

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`; in training with the loss of "link"."""
        if self.link and self.training:
            z_dict = self._embed_all(graph)
            z = z_dict[self.target][ids]
            loss = self._link_loss(torch.cat(list(z_dict.values())), graph)
            return ModelOutput(z.new_zeros(len(z), 0), z, penalties={"link": loss})
        z = self._embed_some(graph, ids)
        return ModelOutput(z.new_zeros(len(z), 0) if self.head is None else self.head(z), z)

    def _embed_some(self, graph: GraphTensors, ids: Tensor) -> Tensor:
        """Embedding (n_samples, d) of target nodes, from the contents that it needs."""
        hood = self._neighborhood(graph, self.target, ids)
        starts = ids + self._slices(graph)[self.target].start
        nodes = torch.cat([starts, hood.nodes.flatten()])
        wanted, places = nodes.unique(return_inverse=True)
        own, near = places.split([len(ids), hood.nodes.numel()])
        return self._embed(
            self.target, graph, self._contents(graph, wanted), own, near.view_as(hood.nodes), hood
        )

    def _embed_all(self, graph: GraphTensors) -> dict[str, Tensor]:
        """Embedding (n_nodes, d) of the nodes of every type."""
        slices, out = self._slices(graph), {}
        numbers = torch.arange(sum(graph.num_nodes.values()), device=graph.device)
        content = self._contents(graph, numbers)
        for t, n_nodes in graph.num_nodes.items():
            ids = torch.arange(n_nodes, device=graph.device)
            hood = self._neighborhood(graph, t, ids)
            out[t] = self._embed(t, graph, content, ids + slices[t].start, hood.nodes, hood)
        return out

    def _embed(
        self,
        node_type: str,
        graph: GraphTensors,
        content: Tensor,
        own: Tensor,
        near: Tensor,
        hood: Neighborhood,
    ) -> Tensor:
        parts = [content[own]]  # (n, d)
        for i, t in enumerate(graph.num_nodes):
            parts.append(self.neighbors[t](content[near[:, i]]))  # (n, k, d) -> (n, d)
        z = self.scores[node_type](torch.stack(parts, 1), hood.found)
        return dropout(z, self.dropout, self.training)

    def _contents(self, graph: GraphTensors, nodes: Tensor) -> Tensor:
        """Contents (n_wanted, d) of nodes, given by rising numbers."""
        h = self.encoder(graph)  # (M, N, d)
        ends = [part.stop for part in self._slices(graph).values()]
        stops = torch.searchsorted(nodes, torch.tensor(ends, device=nodes.device))
        sizes = stops.diff(prepend=stops.new_zeros(1)).tolist()
        parts = [
            self.contents[t](h[:, part].transpose(0, 1))  # (n_t, M, d) -> (n_t, d)
            for t, part in zip(graph.num_nodes, nodes.split(sizes), strict=True)
        ]
        return dropout(torch.cat(parts), self.dropout, self.training)

    def _slices(self, graph: GraphTensors) -> dict[str, slice]:
        return graph.edges(self.edge_types).node_slices

    def _neighborhood(self, graph: GraphTensors, node_type: str, ids: Tensor) -> Neighborhood:
        """Neighbours of nodes; in training those of all nodes of the type are kept."""
        walker, slices = self._walker(graph), self._slices(graph)
        first = slices[node_type].start

        def find(nodes: Tensor) -> Neighborhood:
            return walker.neighborhood(
                nodes.cpu().numpy() + first,
                slices,
                size=self.size,
                n_visits=self.num_visits,
                restart_prob=self.restart_prob,
            )

        if not self.training:
            return find(ids)
        options = (self.size, self.num_visits, self.restart_prob)
        key = ("neighborhood", node_type, walker.seed, options)
        everyone = torch.arange(graph.num_nodes[node_type])
        hood = graph.cached(key, lambda: find(everyone), of="edges")
        return Neighborhood(hood.nodes[ids], hood.found[ids])

    def _walker(self, graph: GraphTensors) -> Walker:
        seed, edges = int(self.walk_seed.item()), graph.edges(self.edge_types)
        return graph.cached(("walker", self.edge_types, seed), lambda: Walker(edges, seed), "edges")

    @in_float32
    def _link_loss(self, z: Tensor, graph: GraphTensors) -> Tensor:
        """Skip-gram loss of one pair of every walk, z (n_nodes of all types, d)."""
        walker, (length, number) = self._walker(graph), self.walks

        def make() -> Tensor:
            starts = np.arange(sum(graph.num_nodes.values()))
            return torch.from_numpy(walker.walks(starts, length, number)).to(graph.device)

        key = ("walks", self.edge_types, walker.seed, length, number)
        walks = graph.cached(key, make, of="edges")
        center, near = draw_pairs(walks, self.context_size)
        other = draw_like(near, self._slices(graph))
        attract = (z[center] * z[near]).sum(1)
        repel = (z[center] * z[other]).sum(1)
        # where no walk has a pair there is nothing to learn
        return (F.softplus(-attract) + F.softplus(repel)).sum() / max(len(center), 1)


def draw_pairs(walks: Tensor, context_size: int) -> tuple[Tensor, Tensor]:
    """A node of every walk and one at most `context_size` steps from it; (n_pairs,) each.

    Walks for which the draw falls beyond their end are left out.
    """
    n_walks, length = walks.shape
    rows = torch.arange(n_walks, device=walks.device)
    place = torch.randint(length, (n_walks,), device=walks.device)
    step = torch.randint(1, context_size + 1, (n_walks,), device=walks.device)
    sign = 2 * torch.randint(2, (n_walks,), device=walks.device) - 1
    other = place + sign * step
    other = torch.where((other < 0) | (other >= length), place - sign * step, other)
    inside = (other >= 0) & (other < length)
    center, near = walks[rows, place], walks[rows, other.clamp(0, length - 1)]
    kept = inside & (center >= 0) & (near >= 0)
    return center[kept], near[kept]


def draw_like(nodes: Tensor, slices: Mapping[str, slice]) -> Tensor:
    """A random node of the type of each of these: (n,) -> (n,)."""
    first = torch.tensor([part.start for part in slices.values()], device=nodes.device)
    size = torch.tensor([part.stop - part.start for part in slices.values()], device=nodes.device)
    kind = torch.searchsorted(first, nodes, right=True) - 1
    drawn = (torch.rand(len(nodes), device=nodes.device) * size[kind]).long()
    return first[kind] + torch.minimum(drawn, size[kind] - 1)


class BiLSTM(nn.Module):
    """Mean of the states of a recurrent network in both directions: (n, length, d) -> (n, d)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels // 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """Read sequences."""
        if not len(x):
            return x.mean(1)
        # not in bfloat16, of which oneDNN has no LSTM for CPUs without AVX-512
        with torch.autocast(x.device.type, enabled=False):
            states: Tensor = self.lstm(x.to(next(self.lstm.parameters()).dtype))[0]
        return states.mean(1)


class TypeAttention(nn.Module):
    """Attention of a node over its own content and its neighbours of every type."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2 * channels))

    def forward(self, parts: Tensor, found: Tensor) -> Tensor:
        """Merge own content and neighbours (n, 1 + T, d), of which some are there (n, T)."""
        own, other = self.weight.chunk(2)
        scores = F.leaky_relu((parts[:, :1] @ own) + parts @ other, 0.01)  # (n, 1 + T)
        there = F.pad(found, (1, 0), value=True)
        weights = softmax(scores.masked_fill(~there, -torch.inf), 1)
        return (weights.unsqueeze(2) * parts).sum(1)
