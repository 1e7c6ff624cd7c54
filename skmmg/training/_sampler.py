"""Sample neighbourhoods: the nodes and edges of a graph that a batch of nodes needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

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


@dataclass
class _Found:
    """What a sample has found so far."""

    seen: dict[str, np.ndarray]  # marks of all nodes, by type
    nodes: dict[str, list[np.ndarray]] = field(default_factory=dict)
    edges: dict[EdgeType, list[tuple[np.ndarray, ...]]] = field(default_factory=dict)


class NeighborSampler:
    r"""Draw in-neighbours without replacement, hop by hop, in every relation.

    A node draws when it is found, once, from each of its relations. What it draws is a function of
    the seed, the relation and the node alone (Floyd's algorithm on the hash splitmix64), so that
    it depends neither on the other nodes of the batch, nor on their order, nor on whether numba is
    installed: two processes that share a batch draw what one would.

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
        self._scratch: list[dict[str, np.ndarray]] = []

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
            The seeds, what was found from them, and the drawn edges. The edges into one node are
            in the order that they have in the graph.
        """
        # popping and appending are atomic, so that two threads never share a scratch
        scratch = self._scratch.pop() if self._scratch else self._make_scratch()
        found = _Found(scratch)
        front: Mapping[str, np.ndarray] = seeds
        for node_type, ids in seeds.items():
            scratch[node_type][ids] = 0
            found.nodes[node_type] = [ids]
        for hop in hops:
            front = self._step(found, _restrict(front, hop.only), hop.fan_out, seed)
        part = self._collect(found)
        for node_type, ids in part.nodes.items():
            scratch[node_type][ids] = -1
        self._scratch.append(scratch)
        return part

    def _make_scratch(self) -> dict[str, np.ndarray]:
        return {t: np.full(n, -1, dtype=np.int64) for t, n in self.num_nodes.items()}

    def _step(
        self, found: _Found, front: Mapping[str, np.ndarray], fan_out: int, seed: int
    ) -> dict[str, np.ndarray]:
        """Draw edges into the nodes of the front; return the nodes that are new."""
        fresh: dict[str, list[np.ndarray]] = {}
        for number, (edge_type, incoming) in enumerate(self._relations.items()):
            src_type, _, dst_type = edge_type
            nodes = front.get(dst_type)
            if nodes is None or not len(nodes) or not len(incoming.source):
                continue
            draw = self._kernels.draw(
                incoming.indptr,
                incoming.source,
                nodes,
                np.iinfo(np.int64).max if fan_out < 0 else fan_out,
                _sampler_numpy.key(seed, number),
                found.seen[src_type],
            )
            found.edges.setdefault(edge_type, []).append(draw[:3])
            fresh.setdefault(src_type, []).append(draw[3])
        new = {t: np.concatenate(parts) for t, parts in fresh.items()}
        for node_type, ids in new.items():
            found.nodes.setdefault(node_type, []).append(ids)
        return new

    def _collect(self, found: _Found) -> Neighborhood:
        """Number the found nodes, in the order of their ids."""
        nodes = {t: _sorted(found.nodes.get(t, []), seen) for t, seen in found.seen.items()}
        for node_type, ids in nodes.items():
            found.seen[node_type][ids] = np.arange(len(ids))
        index, weight = {}, {}
        for edge_type, incoming in self._relations.items():
            parts = found.edges.get(edge_type, [])
            ends = found.seen[edge_type[0]], found.seen[edge_type[2]]
            index[edge_type] = self._kernels.number(parts, *ends)
            if incoming.weight is not None:
                drawn = np.concatenate([np.zeros(0, dtype=np.int64), *(p[2] for p in parts)])
                weight[edge_type] = incoming.weight[drawn]
        return Neighborhood(nodes, index, weight)


def _restrict(front: Mapping[str, np.ndarray], only: Masks | None) -> Mapping[str, np.ndarray]:
    if only is None:
        return front
    return {t: ids[only[t][ids]] for t, ids in front.items()}


def _sorted(parts: list[np.ndarray], seen: np.ndarray) -> np.ndarray:
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    # looking through all nodes is cheaper than sorting many of them
    return np.flatnonzero(seen >= 0) if len(ids) > len(seen) // 16 else np.sort(ids)


def _kernels(n_edges: int, compiled: bool | None) -> ModuleType:
    if compiled is None:
        compiled = n_edges >= _EDGES_WORTH_COMPILING and find_spec("numba") is not None
    if not compiled:
        return _sampler_numpy
    from skmmg.training import _sampler_numba

    return _sampler_numba
