"""Clusters of the nodes of a heterogeneous graph by label propagation, on sparse matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import torch

from skmmg.nn._edges import EdgeType, stack_slices
from skmmg.nn._inputs import GraphTensors

# Scores that differ by less are a tie: they are the same sum in another order.
_TIE = 1e-9


class LabelPropagation:
    r"""Att-LPA: labels follow the (weighted) mean of a node's neighbours.

    Plain rounds update one node type :math:`t` after the other,

    .. math:: Y_t \leftarrow \mathrm{onehot}\,\arg\max_k \Bigl(\sum_r A_r Y_{s(r)}\Bigr)_{\cdot k}

    and attentive rounds pass all types at once through the layers of a network, whose weights
    :math:`c` of a node's own part and of its relations they borrow, before the argmax:

    .. math:: Y_t \leftarrow c_{t,0} \odot Y_t + \sum_r c_{t,r} \odot A_r Y_{s(r)}

    Ties go to the lowest label. A node that no edge reaches keeps its label, where the argmax of
    zeros would send it to label 0.

    Parameters
    ----------
    graph : GraphTensors
        The graph; its edges are copied to the CPU.
    edge_types : sequence of (str, str, str)
        Relations to follow.
    target : str
        Node type whose labels decide when rounds end.
    max_rounds : int, default=100
        Rounds at most. They end earlier when the target's labels are those of one round before, or
        of two: on a bipartite graph labels may swap forever.

    Notes
    -----
    A round in which fewer than two of the target's labels would survive is not taken. Labels are
    never expanded: after :math:`l` layers a row holds as many numbers as there are labels within
    :math:`l` steps, at most the number of labels.

    References
    ----------
    Yang et al., SHGP, NeurIPS 2022, section 4.1 and equation 1.
    """

    def __init__(
        self,
        graph: GraphTensors,
        edge_types: Sequence[EdgeType],
        target: str,
        max_rounds: int = 100,
    ) -> None:
        self.slices = stack_slices(graph.num_nodes)
        self.target, self.max_rounds = self.slices[target], max_rounds
        self.num_nodes = sum(graph.num_nodes.values())
        parts: dict[str, int] = {}
        ends = [_number_edges(graph, e, parts, self.slices) for e in edge_types]
        empty = np.zeros((3, 0), dtype=np.int64)
        self._dst, self._src, self._part = np.hstack([empty, *ends])
        n_runs = self.num_nodes * (1 + max(parts.values(), default=0))
        run = self._part * self.num_nodes + self._dst
        self._share = 1.0 / np.bincount(run, minlength=n_runs)[run]
        self._mean = self._matrix(self._share)

    def draw(self, n_labels: int, rng: np.random.Generator) -> np.ndarray:
        """Random labels, then plain rounds."""
        return self.spread(rng.integers(n_labels, size=self.num_nodes))

    def spread(self, labels: np.ndarray) -> np.ndarray:
        """Plain rounds from labels (n_nodes of all types,) until the target's repeat."""
        blocks = {t: self._mean[part] for t, part in self.slices.items()}

        def plain_round(labels: np.ndarray) -> np.ndarray:
            labels = labels.copy()
            for t, part in self.slices.items():
                labels[part] = _best_label(blocks[t] @ _one_hot(labels), labels[part])
            return labels

        return self._repeat(labels, plain_round)

    def spread_by_attention(
        self, labels: np.ndarray, layers: Sequence[Mapping[str, np.ndarray]]
    ) -> np.ndarray:
        """Attentive rounds from labels (n_nodes of all types,) until the target's repeat.

        `layers` holds for every layer, by node type, the weights (1 + R_t, n_nodes) of the own
        part and of the relations into the type, in the order of `edge_types`.
        """
        operators = [self._attentive_mean(weights) for weights in layers]

        def attentive_round(labels: np.ndarray) -> np.ndarray:
            scores = _one_hot(labels)
            for operator in operators:
                scores = operator @ scores
            return _best_label(scores, labels)

        return self._repeat(labels, attentive_round)

    def _repeat(self, labels: np.ndarray, step: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        before: np.ndarray | None = None
        for _ in range(self.max_rounds):
            new = step(labels)
            found, last = new[self.target], labels[self.target]
            if _is_one_label(found) and not _is_one_label(last):
                return labels
            swaps = before is not None and np.array_equal(found, before)
            if swaps or np.array_equal(found, last):
                return new
            before, labels = last, new
        return labels

    def _attentive_mean(self, weights: Mapping[str, np.ndarray]) -> sp.csr_array:
        """Weighted mean of a node's own part and its relations', (n_nodes, n_nodes)."""
        depth = max(len(w) for w in weights.values())
        weight = np.zeros((depth, self.num_nodes))
        for t, part in self.slices.items():
            weight[: len(weights[t]), part] = weights[t]
        own = sp.diags_array(weight[0])
        return sp.csr_array(own + self._matrix(self._share * weight[self._part, self._dst]))

    def _matrix(self, values: np.ndarray) -> sp.csr_array:
        shape = (self.num_nodes, self.num_nodes)
        return sp.csr_array(sp.coo_array((values, (self._dst, self._src)), shape=shape))


def _number_edges(
    graph: GraphTensors, edge_type: EdgeType, parts: dict[str, int], slices: Mapping[str, slice]
) -> np.ndarray:
    """Destination, source and part of every edge (3, n_edges); a type's parts count from 1."""
    src, _, dst = edge_type
    parts[dst] = parts.get(dst, 0) + 1
    empty = torch.zeros(2, 0, dtype=torch.long)
    ends = graph.edge_index.get(edge_type, empty).cpu().numpy()
    part = np.full(ends.shape[1], parts[dst])
    return np.stack([ends[1] + slices[dst].start, ends[0] + slices[src].start, part])


def _is_one_label(labels: np.ndarray) -> bool:
    return len(labels) > 0 and bool(labels.min() == labels.max())


def _one_hot(labels: np.ndarray) -> sp.csr_array:
    n, width = len(labels), 1 + int(labels.max(initial=0))
    return sp.csr_array((np.ones(n), labels, np.arange(n + 1)), shape=(n, width))


def _best_label(scores: sp.csr_array, fallback: np.ndarray) -> np.ndarray:
    """Label with the highest score in every row, the lowest of equals; `fallback` in empty rows."""
    best = fallback.copy()
    filled = np.flatnonzero(np.diff(scores.indptr))
    if not len(filled):
        return best
    starts = scores.indptr[filled]
    top = np.maximum.reduceat(scores.data, starts)
    lengths = np.diff(scores.indptr)[filled]
    is_top = scores.data >= np.repeat(top, lengths) * (1 - _TIE)
    candidates = np.where(is_top, scores.indices, scores.shape[1])
    best[filled] = np.minimum.reduceat(candidates, starts)
    return best
