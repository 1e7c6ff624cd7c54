"""A multi-modal heterogeneous graph as tensors: what every model takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from skmmg.nn._edges import EdgeStructure, EdgeType, stack_slices
from skmmg.nn._sparse import SparseMatrix

Features = Tensor | SparseMatrix
T = TypeVar("T")

# what a derived tensor is made of: edges alone, features too, labels too
_SOURCES = ("edges", "features", "labels")
_NOTHING = object()
_BOOKS = threading.Lock()  # threads may predict on one graph


def _empty_cache() -> dict[str, dict[object, object]]:
    return {source: {} for source in _SOURCES}


@dataclass(frozen=True)
class GraphTensors:
    """Features, missing rows and edges of a graph, on one device.

    Parameters
    ----------
    x : dict of str to dict of str to Tensor or SparseMatrix of shape (n_nodes, n_features)
        Features by node type and modality; rows that are missing hold zeros.
    num_nodes : dict of str to int
        Number of nodes of every node type.
    edge_index : dict of (str, str, str) to Tensor of shape (2, n_edges)
        Source and destination ids.
    missing : dict of str to dict of str to Tensor of shape (n_nodes,), dtype bool
        Which nodes lack a modality. One that is left out no node lacks whose type has features of
        it, and all others do.
    edge_weight : dict of (str, str, str) to Tensor of shape (n_edges,)
        Weights of the relations that have any.
    device : torch.device
        Where the tensors are.
    row_order : Tensor of shape (n_nodes of all types,) or None
        Whose features every node has, see `shuffled`; None: its own.
    labels : Tensor of shape (n_target_nodes,) or None
        Class of every target node whose label the model may see, -1 for the others; only for
        models with `uses_labels`.
    known_ids : Tensor of shape (n_target_nodes,) or None
        Id that a target node has in the network that the model was fitted on, -1 for a node of
        another network or a new row; only for models with `uses_labels`. None: its own.
    origin : GraphTensors or None
        The network itself, where this is another look of it, with nodes that are silent or features
        that are shuffled; None: this is one.
    sampled : bool, default=False
        Whether this is what lies around some nodes of a larger graph: nodes far from these then
        lack edges.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import GraphTensors
    >>> graph = GraphTensors(
    ...     x={"movie": {"text": torch.randn(3, 5)}},
    ...     num_nodes={"movie": 3, "actor": 2},
    ...     edge_index={("movie", "stars", "actor"): torch.tensor([[0, 2], [0, 1]])},
    ... )
    >>> graph.absent(["text"])
    tensor([[False, False, False,  True,  True]])
    """

    x: dict[str, dict[str, Features]]
    num_nodes: dict[str, int]
    edge_index: dict[EdgeType, Tensor]
    missing: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    edge_weight: dict[EdgeType, Tensor] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    row_order: Tensor | None = None
    labels: Tensor | None = None
    known_ids: Tensor | None = None
    origin: GraphTensors | None = None
    sampled: bool = False
    _cache: dict[str, dict[object, object]] = field(default_factory=_empty_cache, repr=False)

    def cached(
        self,
        key: object,
        make: Callable[[], T],
        of: str = "features",
        keep: int | None = None,
    ) -> T:
        """What `make` gives, made once for this graph.

        Parameters
        ----------
        key : hashable
            Name of the thing, with everything that it depends on beside the graph.
        make : callable
            Called without arguments, the first time only.
        of : {"edges", "features", "labels"}, default="features"
            What of the graph it depends on. What depends on edges alone is shared with the graph
            with shuffled features, what depends on edges and features with the graph with other
            labels.
        keep : int or None, default=None
            Number of things to keep whose keys are tuples with this key's first entry; those that
            were asked for last stay. None: no limit.

        Returns
        -------
        object
            The thing.
        """
        kept = self._cache[of]
        if keep is None:
            if key not in kept:
                kept[key] = make()
            return kept[key]  # type: ignore[return-value]
        thing = kept.get(key, _NOTHING)
        if thing is _NOTHING:
            thing = make()
        with _BOOKS:
            kept.pop(key, None)
            kept[key] = thing
            _forget(kept, key, keep)
        return thing  # type: ignore[return-value]

    def edges(self, edge_types: Sequence[EdgeType]) -> EdgeStructure:
        """The edges of these relations in one structure, made once."""
        key = ("edges", *edge_types)
        return self.cached(
            key,
            lambda: EdgeStructure(self.edge_index, self.num_nodes, edge_types, self.device),
            of="edges",
        )

    def absent(self, modalities: Sequence[str]) -> Tensor | None:
        """Which nodes of all types lack which modality (n_modalities, n_nodes); None if none do."""
        return self.cached(("absent", *modalities), lambda: self._find_absent(modalities))

    def induced(self, mask: Tensor) -> GraphTensors:
        """The graph of some nodes and the edges among them, without labels; rows keep their order.

        `mask` is over the nodes of all types, (n_nodes,).
        """
        parts = {
            t: mask[part].nonzero().squeeze(1) for t, part in stack_slices(self.num_nodes).items()
        }
        edge_index, edge_weight = {}, {}
        for edge_type in self.edge_index:
            edge_index[edge_type], used = self._induced_edges(edge_type, mask)
            if edge_type in self.edge_weight:
                edge_weight[edge_type] = self.edge_weight[edge_type][used]
        return GraphTensors(
            x={t: {m: _take(x, parts[t]) for m, x in xs.items()} for t, xs in self.x.items()},
            num_nodes={t: len(rows) for t, rows in parts.items()},
            edge_index=edge_index,
            missing={
                t: {m: rows[parts[t]] for m, rows in missing.items()}
                for t, missing in self.missing.items()
            },
            edge_weight=edge_weight,
            device=self.device,
        )

    def _induced_edges(self, edge_type: EdgeType, mask: Tensor) -> tuple[Tensor, Tensor]:
        slices, index = stack_slices(self.num_nodes), self.edge_index[edge_type]
        inside = [mask[slices[t]] for t in (edge_type[0], edge_type[2])]
        used = inside[0][index[0]] & inside[1][index[1]]
        ends = [(m.cumsum(0) - 1)[i[used]] for m, i in zip(inside, index, strict=True)]
        return torch.stack(ends), used

    def with_labels(self, labels: Tensor, known_ids: Tensor | None = None) -> GraphTensors:
        """The same graph, showing these labels and ids of its target nodes, -1 if unknown."""
        cache = self._cache | {"labels": {}}
        return replace(self, labels=labels, known_ids=known_ids, _cache=cache)

    def with_edges_of(self, other: GraphTensors) -> GraphTensors:
        """These features, and the edges of another graph of as many nodes with all that is kept."""
        cache = _empty_cache() | {"edges": other._cache["edges"]}
        edges, weights = other.edge_index, other.edge_weight
        return replace(self, edge_index=edges, edge_weight=weights, _cache=cache)

    def shuffled(self) -> GraphTensors:
        """The same graph with the features of its nodes shuffled within every node type."""
        starts = torch.tensor(list(self.num_nodes.values())).cumsum(0).tolist()
        order = [
            torch.randperm(size, device=self.device) + stop - size
            for size, stop in zip(self.num_nodes.values(), starts, strict=True)
        ]
        cache = _empty_cache() | {"edges": self._cache["edges"]}
        return replace(self, row_order=torch.cat(order), origin=self, _cache=cache)

    def _find_absent(self, modalities: Sequence[str]) -> Tensor | None:
        rows = [torch.cat([self._absent(t, m) for t in self.num_nodes]) for m in modalities]
        absent = torch.stack(rows)
        if self.row_order is not None:
            absent = absent[:, self.row_order]
        return absent if bool(absent.any()) else None

    def _absent(self, node_type: str, modality: str) -> Tensor:
        missing = self.missing.get(node_type, {}).get(modality)
        if missing is not None:
            return missing
        lacking = modality not in self.x.get(node_type, {})
        return torch.full((self.num_nodes[node_type],), lacking, device=self.device)


def _take(x: Features, rows: Tensor) -> Features:
    return x.take(rows) if isinstance(x, SparseMatrix) else x[rows]


def _forget(kept: dict[object, object], key: object, keep: int) -> None:
    """Drop the oldest things of the kind of `key`, all but `keep`."""
    kind = key[0] if isinstance(key, tuple) else key
    alike = [k for k in kept if isinstance(k, tuple) and k[0] == kind]
    for old in alike[: max(0, len(alike) - keep)]:
        kept.pop(old, None)
