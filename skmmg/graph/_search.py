"""Exact neighbour search whose result does not depend on the batch that a query comes in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import row_norms

from skmmg.graph._payload import Pairs

# One order of the points, one name: all of them are searched as "euclidean".
EUCLIDEAN = frozenset({"euclidean", "l2", "minkowski", "sqeuclidean"})
# Metrics for which scikit-learn may choose a tree; a tree believes in the triangle inequality.
_TREE = frozenset({"euclidean", "manhattan", "cityblock", "l1", "chebyshev"})

# Distances closer than this, relative to the numbers that they are computed from, are equal: the
# rounding of a matrix product, which changes with the shape of the batch, is below it.
_TIE = 1e-12
# Values of a block of distances: 64 MiB.
_BLOCK_VALUES = 1 << 23
_FARTHEST = np.finfo(np.float64).max / 4


@dataclass(frozen=True, eq=False)
class Points:
    """Queries and reference points, placed where scikit-learn compares them fastest.

    A comparison is a squared distance where `metric` is ``"euclidean"``, else a distance.
    """

    query: Any
    reference: Any
    metric: Any
    requested: Any

    @classmethod
    def place(cls, query: Any, reference: Any, metric: Any) -> Points:
        """Turn a cosine into a distance of unit rows, and move the origin where rounding is least.

        Unit rows and Euclidean distances are several times faster than scikit-learn's "cosine".
        """
        if sparse.issparse(query) != sparse.issparse(reference):
            is_sparse = sparse.issparse(reference)
            query = sparse.csr_array(query) if is_sparse else query.toarray()
        if metric == "cosine":
            return cls(_unit_rows(query), _unit_rows(reference), "euclidean", metric)
        if metric not in EUCLIDEAN:
            return cls(query, reference, metric, metric)
        if not sparse.issparse(reference):
            centre = reference.mean(axis=0)
            query, reference = query - centre, reference - centre
        return cls(query, reference, "euclidean", metric)

    def compare(self, distances: NDArray[Any]) -> NDArray[Any]:
        """Turn scikit-learn's distances into comparisons."""
        return distances**2 if self.metric == "euclidean" else distances

    def bound(self, radius: float) -> float:
        """Turn a radius in the unit of the requested metric into a comparison."""
        if self.requested == "cosine":
            return 2.0 * radius
        is_squared = self.metric == "euclidean" and self.requested != "sqeuclidean"
        return radius**2 if is_squared else radius

    def slack(self, comparison: Any) -> Any:
        """Tell for each query how far a comparison may be off by rounding."""
        lengths = row_norms(self.query, squared=True) if self.metric == "euclidean" else 0.0
        return _TIE * (lengths + np.abs(comparison))

    def search(self, n_neighbors: int = 1) -> Any:
        """Return scikit-learn's search, fitted on the reference points."""
        algorithm = "auto" if self.metric in _TREE else "brute"
        search = NearestNeighbors(n_neighbors=n_neighbors, metric=self.metric, algorithm=algorithm)
        return search.fit(self.reference)


def find_nearest(points: Points, k: int) -> Pairs:
    """Return ``k`` reference points for each query, ties in the order of the reference points.

    Row 0 holds positions of reference points and row 1 of queries, in no particular order.
    """
    n_queries, n_reference = points.query.shape[0], points.reference.shape[0]
    if k == n_reference:
        return np.indices((n_reference, n_queries)).reshape(2, -1)
    if sparse.issparse(points.reference):
        # scikit-learn gains nothing by a heap here, and bags of words are full of ties.
        return _find_nearest_of_all(points, k)
    distances, found = points.search(k + 1).kneighbors(points.query)
    comparisons = points.compare(distances)
    last = comparisons[:, k - 1]
    is_clear = comparisons[:, k] - last > points.slack(last)
    clear, unclear = np.flatnonzero(is_clear), np.flatnonzero(~is_clear)
    settled = np.stack([found[clear, :k].ravel(), np.repeat(clear, k)])
    tied = _find_nearest_of_all(replace(points, query=points.query[unclear]), k)
    return np.concatenate([settled, [tied[0], unclear[tied[1]]]], axis=1)


def find_within(points: Points, radius: float) -> Pairs:
    """Return all reference points within a radius of each query, as :func:`find_nearest` does."""
    bound = points.bound(radius)
    reach = bound + np.broadcast_to(points.slack(bound), points.query.shape[0])
    # scikit-learn takes one radius for all queries: ask for the largest, then look at each.
    widest = np.sqrt(reach.max()) if points.metric == "euclidean" else reach.max()
    distances, found = points.search().radius_neighbors(points.query, radius=widest)
    queries = np.repeat(np.arange(len(found)), [len(ids) for ids in found])
    is_near = points.compare(np.concatenate(distances)) <= reach[queries]
    return np.stack([np.concatenate(found)[is_near], queries[is_near]])


def _find_nearest_of_all(points: Points, k: int) -> Pairs:
    """Do the same from all distances, block by block."""
    parts = [np.empty((2, 0), dtype=np.int64)]
    n_rows = max(1, _BLOCK_VALUES // points.reference.shape[0])
    for start in range(0, points.query.shape[0], n_rows):
        block = replace(points, query=points.query[start : start + n_rows])
        distances = pairwise_distances(block.query, block.reference, metric=block.metric)
        is_neighbor = _choose(block, block.compare(distances), k)
        query, reference = np.nonzero(is_neighbor)
        parts.append(np.stack([reference, query + start]))
    return np.concatenate(parts, axis=1)


def _choose(points: Points, comparisons: NDArray[Any], k: int) -> NDArray[np.bool_]:
    """Mark the ``k`` least comparisons of each row, the first ones among equals."""
    comparisons = np.where(np.isnan(comparisons), np.inf, comparisons)
    last = np.minimum(np.partition(comparisons, k - 1, axis=1)[:, k - 1], _FARTHEST)
    slack = np.broadcast_to(points.slack(last), last.shape)[:, None]
    is_nearer = comparisons < last[:, None] - slack
    is_tied = np.abs(comparisons - last[:, None]) <= slack
    n_wanted = k - is_nearer.sum(axis=1, keepdims=True)
    return is_nearer | (is_tied & (np.cumsum(is_tied, axis=1) <= n_wanted))


def _unit_rows(matrix: Any) -> Any:
    """Scale rows to length 1; a last column holds the direction of rows of zeros."""
    if not isinstance(matrix, sparse.csr_array):
        return _unit_dense_rows(matrix)
    row_of = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    largest = np.zeros(matrix.shape[0])
    np.maximum.at(largest, row_of, np.abs(matrix.data))
    is_zero = largest == 0
    largest[is_zero] = 1.0
    scaled = matrix.data / largest[row_of]
    lengths = np.sqrt(np.bincount(row_of, scaled**2, minlength=matrix.shape[0]))
    lengths[is_zero] = 1.0
    unit = sparse.csr_array((scaled / lengths[row_of], matrix.indices, matrix.indptr), matrix.shape)
    return sparse.hstack([unit, is_zero[:, None].astype(np.float64)], format="csr")


def _unit_dense_rows(matrix: NDArray[Any]) -> NDArray[Any]:
    """Scale rows by their largest value first, so that no square under- or overflows."""
    unit = np.empty((matrix.shape[0], matrix.shape[1] + 1))
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    unit[:, -1] = largest[:, 0] == 0
    largest[largest == 0] = 1.0
    np.divide(matrix, largest, out=unit[:, :-1])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit
