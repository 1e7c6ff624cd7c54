"""The arrays a graph holds, once they are checked: freezing, scanning and taking parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from skmmg.graph._schema import EdgeType

Matrix: TypeAlias = "npt.NDArray[Any] | sparse.csr_array[Any, Any]"
Features: TypeAlias = dict[str, dict[str, Matrix]]
Names: TypeAlias = dict[str, dict[str, tuple[str, ...]]]
Masks: TypeAlias = dict[str, dict[str, npt.NDArray[np.bool_]]]
Pairs: TypeAlias = "npt.NDArray[np.int64]"
Weights: TypeAlias = "npt.NDArray[np.float32]"
EdgeIndex: TypeAlias = "dict[EdgeType, Pairs]"
EdgeWeight: TypeAlias = "dict[EdgeType, Weights]"

# Values looked at in one go when a matrix is scanned: a memory map is never read in whole.
_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True)
class Payload:
    """Everything a graph holds, checked. Plain dictionaries of arrays, so that it pickles."""

    x: Features
    n_nodes: dict[str, int]
    feature_names: Names
    masks: Masks
    edge_index: EdgeIndex
    edge_weight: EdgeWeight
    # A part of a graph, unlike a graph as given, may lack a modality altogether.
    is_part: bool = False


def freeze(matrix: Any) -> Any:
    """Return a read-only view, of foreign memory too; nothing is copied but foreign byte order."""
    if isinstance(matrix, sparse.csr_array):
        frozen = sparse.csr_array(matrix)
        has_canonical_format = frozen.has_canonical_format
        frozen.data, frozen.indices = freeze(frozen.data), freeze(frozen.indices)
        frozen.indptr = freeze(frozen.indptr)
        frozen.has_canonical_format = has_canonical_format
        return frozen
    view = matrix.view() if matrix.dtype.isnative else matrix.astype(matrix.dtype.newbyteorder("="))
    view.setflags(write=False)
    return view


def lock(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make an array of our own contiguous and read-only."""
    locked = np.ascontiguousarray(values)
    locked.setflags(write=False)
    return locked


def find_missing_rows(matrix: Matrix) -> tuple[npt.NDArray[np.bool_], int]:
    """Return which rows are nothing but NaN, and the first row with an infinite value or -1."""
    missing, first_infinite = np.zeros(matrix.shape[0], dtype=bool), -1
    if matrix.dtype.kind != "f":
        return missing, first_infinite
    if isinstance(matrix, sparse.csr_array):
        return _find_missing_sparse_rows(matrix)
    step = max(1, _BLOCK_VALUES // matrix.shape[1])
    for start in range(0, len(missing), step):
        block = np.asarray(matrix[start : start + step])
        if np.isfinite(block).all():
            continue
        infinite = np.isinf(block).any(axis=1)
        if infinite.any() and first_infinite < 0:
            first_infinite = start + int(infinite.argmax())
        missing[start : start + step] = np.isnan(block).all(axis=1)
    return missing, first_infinite


def _find_missing_sparse_rows(
    matrix: sparse.csr_array[Any, Any],
) -> tuple[npt.NDArray[np.bool_], int]:
    """Find rows of NaN and infinite values among the stored values."""
    n_rows, n_columns = matrix.shape
    if np.isfinite(matrix.data).all():
        return np.zeros(n_rows, dtype=bool), -1
    row_of = np.repeat(np.arange(n_rows), np.diff(matrix.indptr))
    infinite = np.isinf(matrix.data)
    first = int(row_of[infinite.argmax()]) if infinite.any() else -1
    n_missing = np.bincount(row_of[np.isnan(matrix.data)], minlength=n_rows)
    return n_missing == n_columns, first


def restrict(payload: Payload, kept: Mapping[str, npt.NDArray[np.int64]]) -> Payload:
    """Keep some nodes of some types, given by sorted ids, and the edges between kept nodes."""
    index, weight = _restrict_edges(payload, kept)
    n_nodes = {t: len(kept[t]) if t in kept else n for t, n in payload.n_nodes.items()}
    return replace(
        payload,
        x=_take(payload.x, kept),
        n_nodes=n_nodes,
        masks=_take(payload.masks, kept),
        edge_index=index,
        edge_weight=weight,
        is_part=True,
    )


def _take(
    arrays: Mapping[str, Mapping[str, Any]], kept: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, dict[str, Any]]:
    """Take the kept rows of all arrays of the types that are cut."""
    return {
        node_type: {m: freeze(a[kept[node_type]]) for m, a in by_modality.items()}
        if node_type in kept
        else dict(by_modality)
        for node_type, by_modality in arrays.items()
    }


def _restrict_edges(
    payload: Payload, kept: Mapping[str, npt.NDArray[np.int64]]
) -> tuple[EdgeIndex, EdgeWeight]:
    """Keep the edges between kept nodes, renumbered; their order stays."""
    new_ids = {name: _new_ids(ids, payload.n_nodes[name]) for name, ids in kept.items()}
    index, weight = dict(payload.edge_index), dict(payload.edge_weight)
    for edge_type in _touching(index, kept):
        ends = [
            new_ids[name][ids] if name in new_ids else ids
            for ids, name in zip(index[edge_type], (edge_type[0], edge_type[2]), strict=True)
        ]
        stays = (ends[0] >= 0) & (ends[1] >= 0)
        index[edge_type] = lock(np.stack([ids[stays] for ids in ends]))
        if edge_type in weight:
            weight[edge_type] = lock(weight[edge_type][stays])
    return index, weight


def _touching(index: EdgeIndex, node_types: Iterable[str]) -> list[EdgeType]:
    """List the edge types that begin or end in one of some node types."""
    return [e for e in index if not {e[0], e[2]}.isdisjoint(node_types)]


def _new_ids(kept: npt.NDArray[np.int64], n_nodes: int) -> npt.NDArray[np.int64]:
    """Map old ids to new ones, and ids that go to -1."""
    new_ids = np.full(n_nodes, -1, dtype=np.int64)
    new_ids[kept] = np.arange(len(kept))
    return new_ids
