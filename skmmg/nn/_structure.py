"""Which nodes of a graph have neighbourhoods of the same shape: the structural matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from skmmg.nn._dtw import Sequences, warping_distances
from skmmg.nn._rings import find_shapes
from skmmg.nn._sparse import SparseMatrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# cells of the comparisons that take about a minute or two
_MOST_CELLS = 5e9
_SMALLEST_WEIGHT = 0.01


def structural_weights(
    adjacency: sp.csr_array, gives: NDArray[np.bool_], *, max_ring: int, max_pairs: int
) -> tuple[Ints, sp.csr_array]:
    r"""Structural matrix of a graph, as weights between shapes of neighbourhoods.

    Ring l of a node are the nodes l steps away, against the edges; its sequence are the degrees
    in it, ascending, with the number of nodes that have each. Two nodes of one degree and one
    number of rings are apart by the sum over the rings of the sequences' warping distances, f.
    With :math:`d_1` the second smallest distance among the nodes with that number of rings (the
    smallest if there is one only), their weight is 1 for :math:`f \le d_1` and
    :math:`e^{-(f / d_1 - 1)}` beyond, and 0 where that is not above 0.01.

    Parameters
    ----------
    adjacency : csr_array of shape (n_nodes, n_nodes)
        Row i holds the nodes with an edge into i. Weights and edges from a node to itself are
        not looked at.
    gives : ndarray of bool of shape (n_nodes,)
        Nodes that others may be linked with; distances from the others do not count for
        :math:`d_1`.
    max_ring : int
        Number of rings that are looked at.
    max_pairs : int
        Number of other shapes that a shape is compared with: those next to it in size.

    Returns
    -------
    shape_of : ndarray of int64 of shape (n_nodes,)
        Shape of every node.
    weight : csr_array of shape (n_shapes, n_shapes)
        Weights; columns are the shapes of nodes that give, and a shape that gives has weight 1
        with itself. Two *different* nodes have the weight of their shapes.

    Raises
    ------
    ValueError
        If it would take more than minutes.
    """
    plain = _without_loops(adjacency)
    shapes = find_shapes(plain, max_ring)
    n_shapes = len(shapes.group)
    n_giving = np.bincount(shapes.shape_of[gives], minlength=n_shapes)
    first, second = _candidates(shapes.group, n_giving > 0, max_pairs // 2)
    distance = _distances(shapes.rings, shapes.n_rings, first, second)
    scale = _scales(shapes.n_rings, n_giving, first, second, distance)[shapes.n_rings[first]]
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(distance <= scale, 1.0, np.exp(1 - distance / scale))
    kept = weight > _SMALLEST_WEIGHT
    first, second, weight = first[kept], second[kept], weight[kept]
    alike = np.flatnonzero(n_giving)
    back = n_giving[first] > 0
    rows = np.concatenate([first, second[back], alike])
    columns = np.concatenate([second, first[back], alike])
    values = np.concatenate([weight, weight[back], np.ones(len(alike))])
    return shapes.shape_of, sp.csr_array((values, (rows, columns)), shape=(n_shapes, n_shapes))


def _without_loops(adjacency: sp.csr_array) -> sp.csr_array:
    pairs = adjacency.tocoo()
    apart = pairs.row != pairs.col
    cells = (np.ones(int(apart.sum()), dtype=np.int32), (pairs.row[apart], pairs.col[apart]))
    return sp.csr_array(cells, shape=adjacency.shape)


# ------------------------------------------------------------------------------ distances
def _candidates(group: Ints, gives: NDArray[np.bool_], reach: int) -> tuple[Ints, Ints]:
    """Pairs of shapes of one group, at most `reach` giving shapes apart, each pair once.

    The second of a pair gives; the first comes before it if it gives as well.
    """
    giving = np.flatnonzero(gives)
    rank: Ints = np.cumsum(gives) - gives  # giving shapes before a shape
    first, second = [], []
    for offset in range(-reach, reach + 1):
        if offset > 0:
            first.append(giving[:-offset])
            second.append(giving[offset:])
        others = np.flatnonzero(~gives & (rank + offset >= 0) & (rank + offset < len(giving)))
        if offset < reach:
            first.append(others)
            second.append(giving[rank[others] + offset])
    a, b = np.concatenate(first), np.concatenate(second)
    same = group[a] == group[b]
    return a[same], b[same]


def _distances(rings: list[Sequences], n_rings: Ints, first: Ints, second: Ints) -> Floats:
    """Sums over the rings of the warping distances."""
    cells = sum(float(ring.lengths(first) @ ring.lengths(second)) for ring in rings)
    if cells > _MOST_CELLS:
        raise ValueError(
            f"Comparing the rings of {len(first)} pairs of nodes takes about {cells:.0e} cells, "
            f"and the limit is {_MOST_CELLS:.0e}. Lower max_pairs or max_ring."
        )
    total = np.zeros(len(first))
    for i, ring in enumerate(rings):
        there = np.flatnonzero(n_rings[first] > i)
        total[there] += warping_distances(ring, first[there], second[there])
    return np.round(total, 9)  # equal sums in another order are equal


def _scales(n_rings: Ints, n_giving: Ints, first: Ints, second: Ints, distance: Floats) -> Floats:
    """Second smallest distinct distance by number of rings; 0 where there is none."""
    counted = n_giving[first] > 0
    alike = np.flatnonzero(n_giving > 1)
    layer = np.concatenate([n_rings[first[counted]], n_rings[alike]])
    values = np.concatenate([distance[counted], np.zeros(len(alike))])
    pairs = np.unique(np.stack([layer, values]), axis=1)
    scales = np.zeros(int(n_rings.max(initial=0)) + 1)
    layers, start, count = np.unique(pairs[0], return_index=True, return_counts=True)
    scales[layers.astype(np.int64)] = pairs[1, start + np.minimum(count - 1, 1)]
    return scales


# ------------------------------------------------------------------------------ as tensors
class StructuralMatrix:
    """The structural matrix (n_nodes, n_nodes) as a product of sparse matrices.

    Nodes of one shape have one row, up to themselves: a product adds up the nodes of each shape,
    takes the weights between shapes, and hands the result to the nodes. It costs what the nodes
    and the pairs of shapes cost, even where all nodes are alike and the matrix is full.

    Parameters
    ----------
    shape_of : ndarray of int64 of shape (n_nodes,)
        Shape of every node.
    weight : csr_array of shape (n_shapes, n_shapes)
        Weights between shapes.
    gives : ndarray of bool of shape (n_nodes,)
        Nodes that others are linked with.
    device, dtype : torch.device, torch.dtype
        Of the matrix.

    Attributes
    ----------
    degree : Tensor of shape (n_nodes,)
        Sums of the rows.
    """

    def __init__(
        self,
        shape_of: Ints,
        weight: sp.csr_array,
        gives: NDArray[np.bool_],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        n_nodes = len(shape_of)
        spread = sp.csr_array(
            (np.ones(n_nodes), shape_of, np.arange(n_nodes + 1)), shape=(n_nodes, weight.shape[0])
        )
        gather = sp.csr_array(spread.multiply(gives[:, None].astype(np.float64)).T)
        gather.eliminate_zeros()
        self.gather, self.weight, self.spread = (
            _to_tensor(matrix, device, dtype) for matrix in (gather, weight, spread)
        )
        self.own = torch.as_tensor(gives, device=device).to(dtype).unsqueeze(1)
        self.degree = (self @ torch.ones_like(self.own)).squeeze(1).clamp(min=0)

    def __matmul__(self, h: Tensor) -> Tensor:
        return self.spread @ (self.weight @ (self.gather @ h)) - self.own * h


def _to_tensor(matrix: sp.csr_array, device: torch.device, dtype: torch.dtype) -> SparseMatrix:
    matrix.sort_indices()
    crow = torch.from_numpy(matrix.indptr.astype(np.int64)).to(device)
    column = torch.from_numpy(matrix.indices.astype(np.int64)).to(device)
    values = torch.from_numpy(matrix.data).to(device=device, dtype=dtype)
    n_rows, n_columns = matrix.shape
    return SparseMatrix(
        torch.sparse_csr_tensor(crow, column, values, (n_rows, n_columns), check_invariants=False)
    )
