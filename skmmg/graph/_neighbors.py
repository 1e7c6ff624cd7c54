"""Edges from features: each row is linked to the fitted rows that are near it."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.metrics.pairwise import PAIRWISE_BOOLEAN_FUNCTIONS
from sklearn.neighbors import VALID_METRICS

from skmmg._sklearn import Interval, StrOptions, validate_params
from skmmg.graph._modalities import check_blocks, stack_modalities
from skmmg.graph._payload import Matrix, Pairs, find_missing_rows
from skmmg.graph._schema import EdgeType, Schema
from skmmg.graph._search import EUCLIDEAN, Points, find_nearest, find_within

Metric: TypeAlias = "str | Callable[[NDArray[Any], NDArray[Any]], float]"
Mask: TypeAlias = "NDArray[np.bool_]"

# Not among them: metrics that are estimated from the rows at hand, so that a row's neighbours would
# depend on the other rows of its batch, and metrics that do without complete rows or without rows.
_NOT_OF_ROWS = {"mahalanobis", "seuclidean", "nan_euclidean", "precomputed"}
_GONE = {"sokalmichener"}  # from scipy 1.17; deprecated in 1.15
_METRICS = set(VALID_METRICS["brute"]) - _NOT_OF_ROWS - _GONE
_SPARSE_METRICS = {"cosine", "manhattan", "l1", "cityblock", *EUCLIDEAN}
_COMBINE = {"separate", "union", "concat"}


@dataclass(frozen=True, eq=False)
class FittedNeighbors:
    """The fitted rows of a neighbour graph, to which other rows are linked.

    Returned by :meth:`KNNGraph.fit` and :meth:`RadiusGraph.fit`; plain arrays and nothing else.

    Attributes
    ----------
    spec : KNNGraph or RadiusGraph
        How rows are linked.
    blocks : dict of str to (ndarray or csr_array) of shape (n_fitted, n_features_m)
        The features of the fitted rows, not copied.
    present : dict of str to ndarray of bool of shape (n_fitted,)
        Which of the fitted rows have the modality.
    """

    spec: NeighborSpec
    blocks: dict[str, Matrix]
    present: dict[str, Mask]

    def edges(
        self, blocks: Mapping[str, Any], present: Mapping[str, Any] | None = None
    ) -> dict[EdgeType, Pairs]:
        """Link rows to the fitted rows that are near them.

        A row's edges do not depend on the other rows. Its own copy among the fitted rows counts as
        a neighbour. A row that lacks a modality has no edges in it.

        Parameters
        ----------
        blocks : mapping of str to matrix of shape (n_samples, n_features_m)
            The modalities of `fit`, with the same widths.
        present : mapping of str to array of bool of shape (n_samples,), default=None
            Which rows have the modality. A row of NaN lacks it in any case.

        Returns
        -------
        dict of (str, str, str) to ndarray of int64 of shape (2, n_edges)
            For each relation the ids of the fitted rows (source) and of the rows of `blocks`
            (destination), sorted by destination and then by source.

        Raises
        ------
        ValueError
            If the modalities or their widths are not those of `fit`, or a row is partly NaN.
        """
        rows = check_blocks(blocks)
        _check_same_modalities(self.blocks, rows)
        sources = self.spec._by_relation(self.blocks, self.present)
        targets = self.spec._by_relation(rows, _check_present(rows, present))
        found = {name: self.spec._link(name, targets[name], sources[name]) for name in sources}
        if self.spec.combine == "union":
            found = {self.spec._prefix: np.concatenate(list(found.values()), axis=1)}
        return {("row", name, "row"): _sort_unique(pairs) for name, pairs in found.items()}


class NeighborSpec(BaseEstimator, metaclass=ABCMeta):
    """What the graph specs share: which rows are compared, in which modality."""

    _prefix: ClassVar[str]
    metric: Metric
    combine: str

    def fit(
        self, blocks: Mapping[str, Any], present: Mapping[str, Any] | None = None
    ) -> FittedNeighbors:
        """Take the rows to which rows will be linked.

        Parameters
        ----------
        blocks : mapping of str to matrix of shape (n_samples, n_features_m)
            One matrix per modality, see :func:`stack_modalities`.
        present : mapping of str to array of bool of shape (n_samples,), default=None
            Which rows have the modality. A row of NaN lacks it in any case.

        Returns
        -------
        FittedNeighbors
            The fitted rows, with a method ``edges``.
        """
        validate_params(self)
        rows = check_blocks(blocks)
        for name, matrix in rows.items():
            if sparse.issparse(matrix) and self.metric not in _SPARSE_METRICS:
                raise ValueError(
                    f"Modality {name!r} is sparse, and for a sparse matrix metric must be one of "
                    f"{sorted(_SPARSE_METRICS)}, got {self.metric!r}. Reduce the modality with "
                    f"TruncatedSVD, or choose one of these."
                )
        return FittedNeighbors(clone(self), rows, _check_present(rows, present))

    def _by_relation(
        self, blocks: Mapping[str, Matrix], present: Mapping[str, Mask]
    ) -> dict[str, tuple[Matrix, Mask]]:
        """Return the matrix that each relation compares, and which rows have it."""
        if self.combine == "concat":
            everywhere = np.logical_and.reduce([present[name] for name in blocks])
            return {self._prefix: (stack_modalities(blocks)[0], everywhere)}
        return {f"{self._prefix}_{name}": (blocks[name], present[name]) for name in blocks}

    def _link(self, name: str, targets: tuple[Matrix, Mask], sources: tuple[Matrix, Mask]) -> Pairs:
        """Return the ids of neighbouring fitted rows and rows, for one relation."""
        source_ids, target_ids = np.flatnonzero(sources[1]), np.flatnonzero(targets[1])
        if not len(source_ids) or not len(target_ids):
            return np.empty((2, 0), dtype=np.int64)
        as_bool = self.metric in PAIRWISE_BOOLEAN_FUNCTIONS
        fitted, rows = (
            _take_rows(matrix, ids, name, bool if as_bool else np.float64)
            for matrix, ids in ((sources[0], source_ids), (targets[0], target_ids))
        )
        pairs = self._search(Points.place(rows, fitted, self.metric))
        return np.stack([source_ids[pairs[0]], target_ids[pairs[1]]])

    @abstractmethod
    def _search(self, points: Points) -> Pairs:
        """Return the positions of neighbouring reference points and queries."""


class KNNGraph(NeighborSpec):
    """Link each row to its nearest rows, modality by modality.

    A specification without data, for ``graph=`` of the estimators. Rows that are equally near (up
    to rounding) are taken in the order of their ids, so that the graph is reproducible.

    Parameters
    ----------
    n_neighbors : int, default=10
        Number of neighbours of each row in each modality, at least 1; fewer where fewer fitted
        rows have the modality.
    metric : str or callable, default="cosine"
        ``"cosine"``, ``"euclidean"``, or another metric of
        :class:`sklearn.neighbors.NearestNeighbors` that compares two rows. The cosine compares
        directions (the estimators centre dense columns first), which suits embeddings and bags of
        words; for a table of a few columns ``"euclidean"`` may be far better. A row of zeros has
        cosine 0 with every other row, and 1 with another row of zeros.
    combine : {"separate", "union", "concat"}, default="separate"
        ``"separate"``: one relation ``"knn_<modality>"`` per modality. ``"union"``: one relation
        ``"knn"`` with the edges of all modalities, each once. ``"concat"``: one relation
        ``"knn"``, from the distances between rows of all columns side by side; bring them to one
        scale first. A row that lacks any of the modalities has no edges there.

    See Also
    --------
    RadiusGraph : All rows within a distance.

    Examples
    --------
    >>> from skmmg.graph import KNNGraph
    >>> rows = {"image": [[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]]}
    >>> fitted = KNNGraph(n_neighbors=2).fit(rows)
    >>> fitted.edges({"image": [[0.0, 2.0]]})
    {('row', 'knn_image', 'row'): array([[0, 1],
           [0, 0]])}
    """

    _prefix = "knn"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "metric": [StrOptions(_METRICS), callable],
        "combine": [StrOptions(_COMBINE)],
    }

    def __init__(
        self, n_neighbors: int = 10, metric: Metric = "cosine", combine: str = "separate"
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.combine = combine

    def _search(self, points: Points) -> Pairs:
        """Return the nearest reference points of each query."""
        return find_nearest(points, min(self.n_neighbors, points.reference.shape[0]))


class RadiusGraph(NeighborSpec):
    """Link each row to all rows within a distance, modality by modality.

    A specification without data, for ``graph=`` of the estimators.

    Parameters
    ----------
    radius : float, default=0.5
        Largest distance between neighbours, in the unit of `metric`, at least 0. Under
        ``"cosine"`` the distance is one minus the cosine: 0.5 asks for a cosine of at least 0.5.
    metric : str or callable, default="cosine"
        As in :class:`KNNGraph`.
    combine : {"separate", "union", "concat"}, default="separate"
        As in :class:`KNNGraph`; the relations are called ``"radius_<modality>"`` and ``"radius"``.

    See Also
    --------
    KNNGraph : A fixed number of neighbours.

    Examples
    --------
    >>> from skmmg.graph import RadiusGraph
    >>> rows = {"image": [[0.0], [1.0], [5.0]]}
    >>> fitted = RadiusGraph(radius=1.0, metric="euclidean").fit(rows)
    >>> fitted.edges(rows)
    {('row', 'radius_image', 'row'): array([[0, 1, 0, 1, 2],
           [0, 0, 1, 1, 2]])}
    """

    _prefix = "radius"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "radius": [Interval(Real, 0, None, closed="left")],
        "metric": [StrOptions(_METRICS), callable],
        "combine": [StrOptions(_COMBINE)],
    }

    def __init__(
        self, radius: float = 0.5, metric: Metric = "cosine", combine: str = "separate"
    ) -> None:
        self.radius = radius
        self.metric = metric
        self.combine = combine

    def _search(self, points: Points) -> Pairs:
        """Return all reference points near each query."""
        return find_within(points, float(self.radius))


#: short names of the specs with their defaults
GRAPHS: dict[str, type[NeighborSpec]] = {"knn": KNNGraph, "radius": RadiusGraph}


def _check_present(
    blocks: Mapping[str, Matrix], present: Mapping[str, Any] | None
) -> dict[str, Mask]:
    """Tell which rows have each modality: those that a mask says have it and that are not NaN."""
    unknown = [name for name in present or {} if name not in blocks]
    if unknown:
        raise ValueError(f"present must name modalities of {list(blocks)}, got {unknown[0]!r}.")
    masks = {}
    for name, matrix in blocks.items():
        missing, infinite = find_missing_rows(matrix)
        if infinite >= 0:
            raise ValueError(
                f"Modality {name!r} must have finite values, got an infinite one in row {infinite}."
            )
        has_it = np.asarray((present or {}).get(name, ~missing))
        if has_it.shape != missing.shape or has_it.dtype != bool:
            raise ValueError(
                f"present[{name!r}] must be an array of booleans of shape {missing.shape}, got "
                f"shape {has_it.shape} and dtype {has_it.dtype}."
            )
        masks[name] = has_it & ~missing
    return masks


def _check_same_modalities(fitted: Mapping[str, Matrix], rows: Mapping[str, Matrix]) -> None:
    """Raise unless the rows have the modalities and widths of the fitted rows."""
    schemas = [
        Schema({"row": {name: matrix.shape[1] for name, matrix in blocks.items()}})
        for blocks in (fitted, rows)
    ]
    differences = schemas[0].diff(schemas[1])
    if differences:
        raise ValueError("\n".join(["Modalities passed to fit and to edges differ:", *differences]))


def _take_rows(matrix: Any, ids: NDArray[np.intp], name: str, dtype: Any) -> Matrix:
    """Take the rows that have a modality, and raise if one of them has it only in part."""
    rows = matrix[ids]
    values = rows.data if isinstance(rows, sparse.csr_array) else rows
    if np.isnan(values).any():
        raise ValueError(
            f"Distances need complete rows, but rows of relation {name!r} are partly NaN. Impute "
            f"them first (for instance with SimpleImputer), or make these rows NaN throughout."
        )
    return rows.astype(dtype)


def _sort_unique(pairs: Pairs) -> Pairs:
    """Sort pairs by destination and then by source, and keep each once."""
    pairs = pairs[:, np.lexsort(pairs)]
    is_new = np.ones(pairs.shape[1], dtype=bool)
    is_new[1:] = (np.diff(pairs) != 0).any(axis=0)
    return pairs[:, is_new]
