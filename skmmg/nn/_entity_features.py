"""What a knowledge graph knows of a node: the vectors of the entities that it is linked from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skmmg.nn._edges import EdgeType, stack_slices
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._knowledge_graph import Triples, embed_entities, links
from skmmg.nn._precision import in_float32
from skmmg.nn._sparse import SparseMatrix


class EntityFeatures(nn.Module):
    """Sum of the vectors of the entities that a node is linked from, scaled.

    Its columns have mean 0 and standard deviation 1 over the target nodes that are linked at all;
    a node that is not gets zeros, the mean.

    Entities are the nodes of the graph that `learn` saw, and the classes. Their vectors are no
    parameters: TransH learns them once, and they are kept with the state. A node of another
    graph, or one that had neither an edge nor a label when `learn` saw it, has no vector.

    Parameters
    ----------
    node_types : iterable of str
        The node types.
    edge_types : sequence of (str, str, str)
        The relations.
    target : str
        Type of the nodes with labels.
    n_classes : int
        Number of classes.
    channels : int
        Width of the vectors.
    margin, max_epochs, lr : float, int, float
        See `skmmg.nn._knowledge_graph.embed_entities`.
    class_entities : bool
        Whether the labels that the graph shows are triples, too.

    Notes
    -----
    The number of entities is not known before `learn`; a loaded state brings it.
    """

    vectors: Tensor
    has_vector: Tensor
    sizes: Tensor
    classes: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        node_types: Iterable[str],
        edge_types: Sequence[EdgeType],
        target: str,
        n_classes: int,
        channels: int,
        *,
        margin: float,
        max_epochs: int,
        lr: float,
        class_entities: bool,
    ) -> None:
        super().__init__()
        self.node_types, self.edge_types = tuple(node_types), tuple(edge_types)
        self.target, self.n_classes, self.channels = target, n_classes, channels
        self.margin, self.max_epochs, self.lr = margin, max_epochs, lr
        self.class_entities = class_entities
        self._n_changes = 0  # of the vectors
        self.register_buffer("sizes", torch.zeros(len(self.node_types), dtype=torch.long))
        self.register_buffer("vectors", torch.zeros(0, channels))
        self.register_buffer("has_vector", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("classes", torch.zeros(n_classes, channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    @in_float32
    def learn(self, graph: GraphTensors) -> None:
        """Learn the vectors from a network and the labels that it shows; once for a network."""
        network = graph if graph.origin is None else graph.origin
        network.cached(("entities learned by", self), lambda: self._learn(network), of="labels")

    def forward(self, graph: GraphTensors, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n_samples, channels) of target nodes, and how many entities each is from."""
        if graph.row_order is not None:
            start = graph.edges(self.edge_types).node_slices[self.target].start
            ids = graph.row_order[ids + start] - start
        # every pass over a graph asks for the same sums
        key = ("entity sums", self, self._n_changes, self.vectors.dtype)
        total, count = graph.cached(key, lambda: self._sum(graph), of="labels", keep=1)
        total, count = total[ids], count[ids]
        scaled = (total - self.mean) / self.scale
        return scaled.where(count.unsqueeze(1) > 0, 0.0), count

    def class_vectors(self) -> Tensor:
        """Vectors (n_classes, channels) of the classes, scaled to length 1."""
        return nn.functional.normalize(self.classes, dim=1)

    def _learn(self, graph: GraphTensors) -> bool:
        edges, like = graph.edges(self.edge_types), self.mean
        labels = graph.labels
        if labels is None or not self.class_entities:
            labels = torch.full((graph.num_nodes[self.target],), -1, device=like.device)
        triples = Triples.of(edges, labels, self.target, self.n_classes)
        vectors = embed_entities(
            triples,
            edges.num_nodes + self.n_classes,
            self.channels,
            margin=self.margin,
            max_epochs=self.max_epochs,
            lr=self.lr,
            dtype=like.dtype,
        )
        self._keep(graph, vectors, triples)
        total, count = self._sum(graph)
        if bool(count.any()):
            total = total[count > 0]
            deviation = total.std(0, correction=0)
            self.mean = total.mean(0)
            self.scale = deviation.where(deviation > 0, 1.0)
        return True

    def _keep(self, graph: GraphTensors, vectors: Tensor, triples: Triples) -> None:
        """Put the vectors of the graph's nodes where the fitted network has these nodes."""
        self._n_changes += 1
        n_nodes = len(vectors) - self.n_classes
        sizes = dict(graph.num_nodes)
        if graph.known_ids is not None:
            sizes[self.target] = int(graph.known_ids.max()) + 1
        self.sizes = torch.tensor([sizes[t] for t in self.node_types], device=vectors.device)
        entity = self._entities(graph)
        seen = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
        seen[triples.head], seen[triples.tail] = True, True
        self.has_vector = seen.new_zeros(int(self.sizes.sum()))
        self.has_vector[entity] = seen[:n_nodes]
        self.vectors = vectors.new_zeros(len(self.has_vector), self.channels)
        self.vectors[entity] = vectors[:n_nodes] * seen[:n_nodes].unsqueeze(1)
        self.classes = vectors[n_nodes:].clone()

    def _entities(self, graph: GraphTensors) -> Tensor:
        """The entity that every node is, in the common numbering; -1 for none."""
        known = graph.known_ids
        sizes = dict(zip(self.node_types, self.sizes.tolist(), strict=True))
        starts = {t: part.start for t, part in stack_slices(sizes).items()}
        another = known is not None and not bool((known >= 0).any())
        parts = []
        for node_type, n_nodes in graph.num_nodes.items():
            own = torch.arange(n_nodes, device=self.sizes.device)
            if node_type == self.target and known is not None:
                own = known
            valid = (own >= 0) & (own < (0 if another else sizes[node_type]))
            parts.append(torch.where(valid, own + starts[node_type], -1))
        return torch.cat(parts)

    def _sum(self, graph: GraphTensors) -> tuple[Tensor, Tensor]:
        """Sums (n_target, channels) of the linked entities' vectors, and their number."""
        linked = self._links(graph)
        entity = self._entities(graph)
        has_vector = torch.zeros(len(entity), dtype=self.mean.dtype, device=entity.device)
        vectors = self.mean.new_zeros(len(entity), self.channels)
        known = entity >= 0
        has_vector[known] = self.has_vector[entity[known]].to(self.mean.dtype)
        vectors[known] = self.vectors[entity[known]]
        part = graph.edges(self.edge_types).node_slices[self.target]
        return (linked @ vectors)[part], (linked @ has_vector.unsqueeze(1))[part, 0]

    def _links(self, graph: GraphTensors) -> SparseMatrix:
        dtype = self.mean.dtype
        edges = graph.edges(self.edge_types)
        return graph.cached(
            ("links", dtype, *self.edge_types), lambda: links(edges, dtype), of="edges"
        )

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """As in torch; the number of entities is that of the state."""
        self._n_changes += 1
        for name in ("vectors", "has_vector"):
            if prefix + name in state:
                value = state[prefix + name]
                setattr(self, name, torch.empty_like(value, device=self.mean.device))
        super()._load_from_state_dict(state, prefix, *args)
