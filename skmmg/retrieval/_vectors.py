"""Vectors on their way into an index: checked, float32, of length one."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

_BLOCK_VALUES = 1 << 22
_TINY, _HUGE = 1e-20, 1e20  # of squares: in between no precision is lost


def check_unit(vectors: Any, name: str, width: int | None = None) -> Vectors:
    """Give a new array of the rows, scaled to length one; rows of zeros stay zeros."""
    rows = check_rows(vectors, name)
    if width is not None and rows.shape[1] != width:
        raise ValueError(
            f"{name} must have the width of the fitted vectors, {width}, got {rows.shape[1]}."
        )
    if len(rows) == 1 and rows.dtype == np.float32:
        # what follows gives the same numbers, but costs a tenth of an approximate search
        square = float(np.vdot(rows, rows))
        if _TINY < square < _HUGE:
            return np.divide(rows, sqrt(square), dtype=np.float32)
    unit = np.empty(rows.shape, dtype=np.float32)
    step = max(1, _BLOCK_VALUES // rows.shape[1])
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        squares = _squares(rows[block])
        if squares.min() > _TINY and squares.max() < _HUGE:  # neither where one is NaN
            np.divide(rows[block], np.sqrt(squares)[:, None], out=unit[block], casting="unsafe")
        else:
            _scale(rows[block], unit[block], name, start)
    return unit


def check_rows(vectors: Any, name: str) -> NDArray[Any]:
    """Give the rows as they are, or raise if these are no numbers in a dense matrix."""
    if not isinstance(vectors, np.ndarray) and sparse.issparse(vectors):
        raise TypeError(f"{name} must be a dense array, got a sparse matrix. Call toarray() first.")
    rows = np.asarray(vectors)
    if rows.ndim != 2 or rows.shape[1] == 0 or rows.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must be numbers of shape (n, d), got shape {rows.shape} and dtype "
            f"{rows.dtype}. One vector v is v[None, :]."
        )
    return rows


def _squares(rows: NDArray[Any]) -> NDArray[Any]:
    """Return squared lengths; infinite or 0 where they over- or underflow."""
    rows = rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.vecdot(rows, rows)


def _scale(rows: NDArray[Any], out: Vectors, name: str, start: int) -> None:
    """Divide rows by their largest value first, so that no square under- or overflows."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not np.isfinite(largest).all():
        bad = int(np.flatnonzero(~np.isfinite(largest))[0]) + start
        raise ValueError(
            f"{name} must be finite, but row {bad} has a NaN or an infinite value. Leave out the "
            f"items that lack the modality."
        )
    largest = np.where(largest == 0, 1, largest)
    np.divide(rows, largest, out=out, casting="unsafe")
    lengths = np.sqrt(np.einsum("nd,nd->n", out, out))
    out /= np.where(lengths == 0, 1, lengths)[:, None]


def check_ids(ids: Any, n_rows: int, fitted: Ids | None = None) -> Ids:
    """Give one new id per row, different from each other and from the fitted ones."""
    if ids is None:
        start = 0 if fitted is None else len(fitted)
        if fitted is not None and not np.array_equal(fitted, np.arange(start)):
            raise ValueError("The fitted vectors have ids of their own. Give ids to add, too.")
        return np.arange(start, start + n_rows)
    values = np.asarray(ids)
    if values.shape != (n_rows,) or values.dtype.kind not in "iu":
        raise ValueError(
            f"ids must be integers of shape ({n_rows},), one per vector, got shape {values.shape} "
            f"and dtype {values.dtype}."
        )
    values = values.astype(np.int64)
    if n_rows and values.min() < 0:
        raise ValueError(f"ids must be at least 0, got {values.min()}; -1 means no neighbour.")
    everything = values if fitted is None else np.concatenate([fitted, values])
    unique, counts = np.unique(everything, return_counts=True)
    if len(unique) < len(everything):
        raise ValueError(
            f"ids must be different, but {unique[counts > 1][0]} occurs more than once. An index "
            f"does not replace vectors: fit it anew."
        )
    return values


def check_count(value: Any, name: str, at_least: int = 1) -> int:
    """Give an integer that is large enough."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not is_integer or value < at_least:
        raise ValueError(f"{name} must be an integer of at least {at_least}, got {value!r}.")
    return int(value)


def check_k(k: Any, n_gallery: int) -> int:
    """Give the number of neighbours, or raise if the gallery has fewer."""
    k = check_count(k, "k")
    if k > n_gallery:
        raise ValueError(
            f"k must be at most the size of the gallery, {n_gallery}, got {k}. Ask for fewer "
            f"neighbours, or add items."
        )
    return k
