"""Which of the neighbours that a query got are relevant to it, and how many there are in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Judged:
    """Neighbours with their verdict.

    Attributes
    ----------
    hits : ndarray of bool of shape (n_queries, k)
        Whether the neighbour at this rank is relevant, the nearest first.
    n_relevant : ndarray of int of shape (n_queries,)
        Relevant items in the whole gallery, without the query itself.
    """

    hits: NDArray[np.bool_]
    n_relevant: NDArray[np.intp]

    def average(
        self, values: NDArray[Any], zero_division: float, average: bool
    ) -> float | NDArray[np.float64]:
        """Set queries without a relevant item to `zero_division`; mean over those not NaN."""
        if zero_division not in (0.0, 1.0) and not np.isnan(zero_division):
            raise ValueError(f"zero_division must be 0.0, 1.0 or nan, got {zero_division!r}.")
        values = np.where(self.n_relevant > 0, values, zero_division)
        if not average:
            return values
        kept = values[~np.isnan(values)]
        return float(kept.mean()) if len(kept) else float("nan")

    def first_ranks(self) -> NDArray[np.float64]:
        """Rank of the first relevant neighbour, from 1; infinite where there is none."""
        return np.where(self.hits.any(axis=1), self.hits.argmax(axis=1) + 1.0, np.inf)


def judge(neighbors: Any, y_query: Any, y_gallery: Any, k: int | None, own: Any = None) -> Judged:
    """Compare the first `k` neighbours with what is relevant; see :func:`recall_at_k`."""
    neighbors = _check_neighbors(neighbors, k)
    wanted = _check_labels(y_query, "y_query")
    if len(wanted) != len(neighbors):
        raise ValueError(
            f"y_query must have one value per row of neighbors, {len(neighbors)}, got "
            f"{len(wanted)}."
        )
    if y_gallery is None:
        if not np.issubdtype(wanted.dtype, np.integer):
            raise ValueError(
                f"Without y_gallery, y_query must be integers, the id of the right neighbour of "
                f"each query, got dtype {wanted.dtype}. For labels, give y_gallery too."
            )
        if own is not None:
            raise ValueError("own needs y_gallery: without labels an item has no other answers.")
        hits = (neighbors == wanted[:, None]) & (neighbors >= 0)
        return Judged(hits, (wanted >= 0).astype(np.intp))
    labels = _check_labels(y_gallery, "y_gallery")
    own = None if own is None else _check_own(own, neighbors, len(labels))
    return _judge_by_label(neighbors, wanted, labels, own)


def _judge_by_label(
    neighbors: NDArray[Any], wanted: NDArray[Any], labels: NDArray[Any], own: NDArray[Any] | None
) -> Judged:
    """Call a neighbour relevant that has the label of the query."""
    if neighbors.max() >= len(labels):
        raise ValueError(
            f"neighbors must be positions in y_gallery, from 0 to {len(labels) - 1} (or -1 for no "
            f"neighbour), got {neighbors.max()}. Give the labels of the whole gallery, in order."
        )
    if (wanted.dtype.kind in "US") != (labels.dtype.kind in "US"):
        raise ValueError(
            f"y_query and y_gallery must be labels of one kind, got dtypes {wanted.dtype} and "
            f"{labels.dtype}."
        )
    classes, codes = np.unique(np.concatenate([wanted, labels]), return_inverse=True)
    of_query, of_gallery = codes[: len(wanted)], codes[len(wanted) :]
    hits = (of_gallery[neighbors] == of_query[:, None]) & (neighbors >= 0)
    n_relevant = np.bincount(of_gallery, minlength=len(classes))[of_query]
    if own is not None:
        n_relevant = n_relevant - (of_gallery[own] == of_query)
    return Judged(hits, n_relevant)


def _check_neighbors(neighbors: Any, k: Any) -> NDArray[Any]:
    """Give the first `k` columns, or raise if these are no ranked ids."""
    ids = np.asarray(neighbors)
    if ids.ndim != 2 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"neighbors must be integers of shape (n_queries, k), the nearest first, with at least "
            f"one query and k of at least 1, got shape {ids.shape} and dtype {ids.dtype}. "
            f"kneighbors(X, return_distance=False) gives them."
        )
    if ids.min() < -1:
        raise ValueError(f"neighbors must be ids, or -1 for no neighbour, got {ids.min()}.")
    if k is not None and (not isinstance(k, (int, np.integer)) or not 1 <= k <= ids.shape[1]):
        raise ValueError(
            f"k must be an integer from 1 to {ids.shape[1]}, the number of neighbours given, got "
            f"{k!r}. Search for more neighbours, or ask for a smaller k."
        )
    ids = ids[:, :k]
    in_order = np.sort(ids, axis=1)
    is_twice = (np.diff(in_order, axis=1) == 0) & (in_order[:, 1:] >= 0)
    if is_twice.any():
        row, column = np.argwhere(is_twice)[0]
        raise ValueError(
            f"The neighbours of a query must be different items, but query {row} has item "
            f"{in_order[row, column]} twice."
        )
    return ids


def _check_own(own: Any, neighbors: NDArray[Any], n_gallery: int) -> NDArray[Any]:
    """Give the position of each query in the gallery, or raise if a query found itself."""
    ids = np.asarray(own)
    n_queries = len(neighbors)
    if ids.shape != (n_queries,) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"own must be integers of shape ({n_queries},), the position of each query in "
            f"y_gallery, got shape {ids.shape} and dtype {ids.dtype}."
        )
    if ids.min() < 0 or ids.max() >= n_gallery:
        raise ValueError(
            f"own must be positions in y_gallery, from 0 to {n_gallery - 1}, got values from "
            f"{ids.min()} to {ids.max()}."
        )
    found = (neighbors == ids[:, None]).any(axis=1)
    if found.any():
        raise ValueError(
            f"With own, no query may be among its neighbours, but query {found.argmax()} is. Leave "
            f"it out, as kneighbors(query=m, gallery=m) does."
        )
    return ids


def _check_labels(labels: Any, name: str) -> NDArray[Any]:
    """Give labels of one kind as an array of one dimension, none of them missing."""
    # a list is taken as it is: NumPy would make strings of numbers that stand among strings
    values = np.asarray(labels, dtype=None if hasattr(labels, "dtype") else object)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must have one dimension and a value, got shape {values.shape}.")
    missing = pd.isna(values)
    if missing.any():
        raise ValueError(
            f"{name} must be without missing values (None, NaN, NA), got one at position "
            f"{missing.argmax()}. Leave the unlabelled items out."
        )
    if values.dtype.kind == "O":
        if len({isinstance(value, str) for value in values}) > 1:
            raise ValueError(
                f"{name} must be labels of one kind, got strings and others. Make all of them "
                f"strings, or all numbers."
            )
        values = np.asarray(values.tolist())
    return values
