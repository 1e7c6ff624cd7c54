"""Which relations reach which nodes: the pairs over which MHGAT pools and attends."""

from __future__ import annotations

import torch
from torch import Tensor

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._precision import in_float32
from skmmg.nn._segment_max import segment_max
from skmmg.nn._sparse import SparseMatrix


class RelationPairs:
    """The (node, relation) pairs with at least one edge, sorted by node.

    There are at most as many as edges, and often far fewer.

    Parameters
    ----------
    edges : EdgeStructure
        Edges of all relations, sorted by (destination, relation).
    dtype : torch.dtype
        Of the values of the matrices.

    Attributes
    ----------
    node : Tensor of shape (n_pairs,)
        Node of every pair, in the common numbering.
    n_relations : int
        Number of relations of the graph, whether they reach a node or not.
    reached_by : Tensor of shape (n_nodes,)
        Number of relations that reach a node.
    src, pair : Tensor of shape (n_edges,)
        Source and pair of every edge.
    offsets : Tensor of shape (n_pairs + 1,)
        First edge of every pair.
    members : SparseMatrix of shape (n_pairs, n_nodes)
        Number of edges into a pair from a node.
    of_node : SparseMatrix of shape (n_nodes, n_pairs)
        Which pairs are a node's.
    """

    def __init__(self, edges: EdgeStructure, dtype: torch.dtype) -> None:
        segments = edges.segments("relation")
        self.offsets, self.pair, self.src = segments.offsets, segments.index, edges.src
        self.n_relations = len(edges.edge_types)
        self.node = edges.dst[self.offsets[:-1]]
        self.reached_by = torch.bincount(self.node, minlength=edges.num_nodes)
        self.node_offsets = torch.cat([self.offsets[:1] * 0, self.reached_by.cumsum(0)])
        n_pairs = len(self.node)
        pairs = torch.arange(n_pairs, device=self.node.device)
        self.members = _ones(self.offsets, self.src, (n_pairs, edges.num_nodes), dtype)
        self.of_node = _ones(self.node_offsets, pairs, (edges.num_nodes, n_pairs), dtype)

    def sum(self, x: Tensor) -> Tensor:
        """Sum of the sources of every pair, edge by edge: (N, c) -> (P, c)."""
        return self.members @ x

    def max(self, x: Tensor) -> Tensor:
        """Maximum over the sources of every pair, column by column: (N, c) -> (P, c)."""
        return segment_max(x, self.src, self.pair, self.offsets)

    @in_float32
    def softmax(self, score: Tensor, absent: Tensor | None = None) -> Tensor:
        """Softmax over the pairs of every node, column by column: (P, c) -> (P, c).

        Parameters
        ----------
        score : Tensor of shape (n_pairs, c)
            Scores of the pairs.
        absent : Tensor of shape (n_nodes, c) or None, default=None
            Score of a relation that does not reach a node. Given, every such relation takes its
            part of the softmax, and the weights of a node's pairs sum to less than 1.
        """
        top = torch.segment_reduce(
            score.detach(), "max", offsets=self.node_offsets, axis=0, unsafe=True
        )
        if absent is not None:
            top = torch.maximum(top, absent.detach())
        exp = (score - top[self.node]).exp()
        total = self.of_node @ exp
        if absent is not None:
            n_absent = (self.n_relations - self.reached_by).to(score.dtype).unsqueeze(1)
            total = total + n_absent * (absent - top).exp()
        return exp / total[self.node]


def _ones(crow: Tensor, col: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> SparseMatrix:
    values = torch.ones(len(col), dtype=dtype, device=col.device)
    return SparseMatrix(torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=False))
