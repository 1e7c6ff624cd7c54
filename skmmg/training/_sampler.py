"""Sample neighbourhoods: the nodes and edges of a graph that a batch of nodes needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from skmmg.training import _sampler_numpy

EdgeType = tuple[str, str, str]
Masks = Mapping[str, np.ndarray]

# Below this many edges compiling takes longer than it saves; the draws are the same.
_EDGES_WORTH_COMPILING = 1_000_000


class Hop(NamedTuple):
    """One step away from the seeds.

    Parameters
    ----------
    fan_out : int
        How many in-neighbours every node draws in every relation; -1 takes all.
    only : mapping of str to ndarray of bool of shape (n_nodes,) or None
        By node type, which of the nodes that the last step found draw any; None: all of them.
    """

    fan_out: int
    only: Masks | None = None


@dataclass(frozen=True)
class Neighborhood:
    """Some nodes of every type and some edges between them.

    Parameters
    ----------
    nodes : dict of str to ndarray of shape (n_sampled,)
        Ids, ascending, of the sampled nodes of every type.
    edge_index : dict of (str, str, str) to ndarray of shape (2, n_sampled_edges)
        Sources and destinations as positions in `nodes`.
    edge_weight : dict of (str, str, str) to ndarray of shape (n_sampled_edges,)
        Weights, of relations that have any.
    """

    nodes: dict[str, np.ndarray]
    edge_index: dict[EdgeType, np.ndarray]
    edge_weight: dict[EdgeType, np.ndarray]

    def positions(self, node_type: str, ids: np.ndarray) -> np.ndarray:
        """Where nodes that were sampled stand among the sampled ones."""
        return np.searchsorted(self.nodes[node_type], ids)


@dataclass(frozen=True)
class _Incoming:
    """Edges of one relation by destination."""

    indptr: np.ndarray  # (n_destinations + 1,)
    source: np.ndarray  # (n_edges,)
    weight: np.ndarray | None

    @classmethod
    def of(
        cls, index: np.ndarray, weight: np.ndarray | None, n_sources: int, n_destinations: int
    ) -> _Incoming:
        n_edges = index.shape[1]
        # one stored cell per row, its edge: the transpose sorts the edges, parallel ones included
        pattern = sp.csr_array(
            (np.empty(n_edges, dtype=np.int8), index[1], np.arange(n_edges + 1)),
            shape=(n_edges, n_destinations),
        ).tocsc()
        dtype = np.int32 if n_sources <= np.iinfo(np.int32).max else np.int64
        order = pattern.indices
        return cls(
            pattern.indptr.astype(np.int64),
            index[0].astype(dtype)[order],
            None if weight is None else weight[order],
        )


class NeighborSampler:
    r"""Draw in-neighbours without replacement, hop by hop, in every relation.

    A node draws when it is found, once, from each of its relations. What it draws is a function of
    the seed, the relation and the node alone (Floyd's algorithm on the hash splitmix64; where fewer
    edges stay out than are taken, it chooses these), so that it depends neither on the other nodes
    of the batch, nor on their order, nor on whether numba is installed: two processes that share a
    batch draw what one would.

    Parameters
    ----------
    edge_index : mapping of (str, str, str) to ndarray of shape (2, n_edges)
        Sources and destinations.
    num_nodes : mapping of str to int
        Number of nodes of every type.
    edge_weight : mapping of (str, str, str) to ndarray of shape (n_edges,) or None, default=None
        Weights of relations that have any.
    compiled : bool or None, default=None
        Whether to draw by numba; None: where it is installed and the graph is worth it.

    References
    ----------
    Hamilton, Ying, Leskovec, Inductive representation learning on large graphs, NeurIPS 2017,
    algorithm 2. Changed: without replacement, and per relation.
    Bentley, Floyd, Programming pearls: a sample of brilliance, CACM 30(9), 1987.
    """

    def __init__(
        self,
        edge_index: Mapping[EdgeType, np.ndarray],
        num_nodes: Mapping[str, int],
        edge_weight: Mapping[EdgeType, np.ndarray] | None = None,
        *,
        compiled: bool | None = None,
    ) -> None:
        self.num_nodes = dict(num_nodes)
        weights = edge_weight or {}
        self._relations = {
            e: _Incoming.of(index, weights.get(e), self.num_nodes[e[0]], self.num_nodes[e[2]])
            for e, index in edge_index.items()
        }
        n_edges = sum(index.shape[1] for index in edge_index.values())
        self._kernels = _kernels(n_edges, compiled)
        self._marks: list[dict[str, Any]] = []  # `Marks` of the kernels, to be used again

    def sample(
        self, seeds: Mapping[str, np.ndarray], hops: Sequence[Hop], seed: int = 0
    ) -> Neighborhood:
        """Draw the neighbourhood of some nodes.

        Parameters
        ----------
        seeds : mapping of str to ndarray of shape (n_seeds,)
            Ids of the nodes to start from, by type, each once.
        hops : sequence of Hop
            The steps.
        seed : int, default=0
            Seed of the draws.

        Returns
        -------
        Neighborhood
            The seeds, what was found from them, and the drawn edges. Where all edges into a node
            are taken, they are in the order that they have in the graph.
        """
        try:  # popping and appending are atomic, so that two threads never share marks
            marks = self._marks.pop()
        except IndexError:
            marks = self._make_marks()
        for node_type, ids in seeds.items():
            assert ids.max(initial=-1) < self.num_nodes[node_type]  # what is compiled does not look
            marks[node_type].add(ids)
        keys = dict(
            zip(self._relations, _sampler_numpy.keys(seed, len(self._relations)), strict=True)
        )
        drawn: dict[EdgeType, list[_sampler_numpy.Part]] = {e: [] for e in self._relations}
        for hop in hops:
            front = {t: marks[t].fresh() for t in marks}
            self._step(drawn, marks, _restrict(front, hop.only), hop.fan_out, keys)
        part = self._collect(drawn, marks)
        for mark in marks.values():
            mark.clear()
        self._marks.append(marks)
        return part

    def _make_marks(self) -> dict[str, Any]:
        return {t: self._kernels.Marks(n) for t, n in self.num_nodes.items()}

    def _step(
        self,
        drawn: dict[EdgeType, list[_sampler_numpy.Part]],
        marks: Mapping[str, Any],
        front: Mapping[str, np.ndarray],
        fan_out: int,
        keys: Mapping[EdgeType, np.uint64],
    ) -> None:
        """Draw edges into the nodes of the front; mark their sources."""
        limit = np.iinfo(np.int64).max if fan_out < 0 else fan_out
        for edge_type, incoming in self._relations.items():
            nodes = front[edge_type[2]]
            if not len(nodes) or not len(incoming.source):
                continue
            edges = self._kernels.draw(
                incoming.indptr, incoming.source, nodes, limit, keys[edge_type]
            )
            marks[edge_type[0]].add(edges[0])
            drawn[edge_type].append((nodes, *edges))

    def _collect(
        self, drawn: Mapping[EdgeType, list[_sampler_numpy.Part]], marks: Mapping[str, Any]
    ) -> Neighborhood:
        """Number the found nodes, in the order of their ids."""
        nodes = {t: mark.number() for t, mark in marks.items()}
        index, weight = {}, {}
        for edge_type, parts in drawn.items():
            ends = marks[edge_type[0]], marks[edge_type[2]]
            index[edge_type] = self._kernels.number_ends(parts, *ends)
            all_weights = self._relations[edge_type].weight
            if all_weights is not None:
                positions = np.concatenate([np.zeros(0, dtype=np.int64), *(p[3] for p in parts)])
                weight[edge_type] = all_weights[positions]
        return Neighborhood(nodes, index, weight)


def _restrict(front: Mapping[str, np.ndarray], only: Masks | None) -> Mapping[str, np.ndarray]:
    if only is None:
        return front
    return {t: ids[only[t][ids]] for t, ids in front.items()}


def _kernels(n_edges: int, compiled: bool | None) -> ModuleType:
    if compiled is None:
        compiled = n_edges >= _EDGES_WORTH_COMPILING and find_spec("numba") is not None
    if not compiled:
        return _sampler_numpy
    from skmmg.training import _sampler_numba

    return _sampler_numba
