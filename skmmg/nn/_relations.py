"""The relations of a graph as matrices."""

from __future__ import annotations

import torch

from skmmg.nn._edges import EdgeType
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._sparse import SparseMatrix


def mean_adjacency(graph: GraphTensors, edge_type: EdgeType, dtype: torch.dtype) -> SparseMatrix:
    """Matrix (n_dst, n_src) that averages the sources of every destination; made once.

    Parallel edges count several times; the row of a node without in-edges is empty.
    """
    key = ("mean_adjacency", edge_type, dtype)
    return graph.cached(key, lambda: _make_mean(graph, edge_type, dtype), of="edges")


def _make_mean(graph: GraphTensors, edge_type: EdgeType, dtype: torch.dtype) -> SparseMatrix:
    n_src, n_dst = graph.num_nodes[edge_type[0]], graph.num_nodes[edge_type[2]]
    empty = torch.zeros(2, 0, dtype=torch.long, device=graph.device)
    src, dst = graph.edge_index.get(edge_type, empty)
    order = torch.argsort(dst * n_src + src)
    count = torch.bincount(dst, minlength=n_dst)
    crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
    values = count[dst[order]].to(dtype).reciprocal()
    matrix = torch.sparse_csr_tensor(
        crow, src[order], values, (n_dst, n_src), check_invariants=False
    )
    return SparseMatrix(matrix)
