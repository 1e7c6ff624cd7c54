"""Edges: untrusted input to pairs of node ids, and reverse relations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from skmmg.graph._payload import EdgeIndex, EdgeWeight, Pairs, Weights, lock
from skmmg.graph._schema import EdgeType
from skmmg.graph._validation import (
    check_mapping,
    check_name,
    check_range,
    frame_values,
    is_frame,
    read_array,
)


def check_edges(edges: Any, n_nodes: Mapping[str, int]) -> tuple[EdgeIndex, EdgeWeight]:
    """Check relations: read-only pairs of ids, and weights where they are not all 1."""
    if edges is None:
        return {}, {}
    check_mapping(edges, "edges must be a dict {(source type, relation, destination type): edges}")
    index: EdgeIndex = {}
    weight: EdgeWeight = {}
    for key, given in edges.items():
        edge_type = check_edge_type(key, tuple(n_nodes))
        if edge_type in index:
            raise ValueError(f"Edge type {edge_type} must be given once, got it twice.")
        index[edge_type], weights = _read_edges(given, edge_type, n_nodes)
        if weights is not None:
            weight[edge_type] = weights
    return index, weight


def check_edge_type(key: Any, node_types: tuple[str, ...]) -> EdgeType:
    """Check the three names of an edge type; one name is enough where there is one node type."""
    if isinstance(key, str) and len(node_types) == 1:
        key = (node_types[0], key, node_types[0])
    if not isinstance(key, tuple) or len(key) != 3:
        raise ValueError(
            f"An edge type must be a tuple (source type, relation, destination type), got {key!r}."
            f" The node types are {list(node_types)}."
        )
    source, relation, target = (check_name(name, f"Each part of edge type {key}") for name in key)
    unknown = [name for name in (source, target) if name not in node_types]
    if unknown:
        hint = (
            " nodes={name: matrix} declares a modality; write {type: {modality: matrix}}."
            if node_types == ("node",)
            else " Add it to nodes, with a count if it has no features."
        )
        raise ValueError(
            f"Edge type {key} must join node types of the graph, {list(node_types)}, got "
            f"{unknown[0]!r}.{hint}"
        )
    return source, relation, target


def _read_edges(
    given: Any, edge_type: EdgeType, n_nodes: Mapping[str, int]
) -> tuple[Pairs, Weights | None]:
    """Read one relation from a sparse matrix, ids of shape (2, E) or a two-column data frame."""
    weights: Weights | None = None
    if sparse.issparse(given):
        shape = (n_nodes[edge_type[0]], n_nodes[edge_type[2]])
        pairs, weights = _read_sparse(given, edge_type, shape)
    else:
        pairs = _read_pairs(given, edge_type)
    for ids, node_type in zip(pairs, (edge_type[0], edge_type[2]), strict=True):
        check_range(ids, n_nodes[node_type], f"Edge type {edge_type}", node_type)
    return _own(pairs, np.int64), weights


def _own(values: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """Return a contiguous read-only array that nobody else can write to."""
    is_private = not values.flags.writeable and values.flags.c_contiguous
    return values if is_private and values.dtype == dtype else lock(np.array(values, dtype))


def _read_sparse(
    given: Any, edge_type: EdgeType, shape: tuple[int, int]
) -> tuple[npt.NDArray[Any], Weights | None]:
    """Read the stored entries of an adjacency matrix; zeros among them are no edges."""
    if given.shape != shape:
        hint = " Transpose it." if given.shape == shape[::-1] else ""
        raise ValueError(
            f"Edge type {edge_type} must be a sparse matrix of shape (number of {edge_type[0]} "
            f"nodes, number of {edge_type[2]} nodes) = {shape}, got {given.shape}.{hint}"
        )
    if given.dtype.kind not in "biuf":
        raise TypeError(f"Edge type {edge_type} must have numeric weights, got {given.dtype}.")
    entries = sparse.coo_array(given)
    is_edge = entries.data != 0
    pairs = np.stack([ids[is_edge] for ids in entries.coords]).astype(np.int64)
    values = entries.data[is_edge]
    if (values == 1).all():
        return pairs, None
    with np.errstate(over="ignore"):
        weights = values.astype(np.float32)
    if not np.isfinite(weights).all():
        wrong = values[~np.isfinite(weights)][0]
        raise ValueError(
            f"Edge type {edge_type} must have finite weights, got {wrong}. Drop these edges or "
            f"replace their weights."
        )
    return pairs, lock(weights)


def _read_pairs(given: Any, edge_type: EdgeType) -> npt.NDArray[Any]:
    """Read source and destination ids."""
    from_frame = is_frame(given)
    where = f"Edge type {edge_type}"
    pairs = (
        frame_values(given, where).T
        if from_frame
        else read_array(given, f"{where} must have one destination for each source")
    )
    if not pairs.size:
        return np.empty((2, 0), dtype=np.int64)
    if pairs.ndim != 2 or len(pairs) != 2:
        got = f"{len(pairs)} columns" if from_frame else f"shape {pairs.shape}"
        is_turned = pairs.ndim == 2 and pairs.shape[1] == 2 and not from_frame
        raise ValueError(
            f"{where} must be ids of shape (2, n_edges), a data frame with two "
            f"columns (source, destination) or a scipy sparse matrix, got {got}."
            f"{' Transpose it.' if is_turned else ''} Weights go into a sparse matrix, "
            f"coo_array((weight, (source, destination)), shape), or MultiModalGraph.from_pandas "
            f"reads them: weight_column='weight'."
        )
    if pairs.dtype.kind not in "iu":
        raise TypeError(
            f"{where} must have integer ids, got dtype {pairs.dtype}. Use "
            f".astype('int64'), or MultiModalGraph.from_pandas for ids of another kind."
        )
    return pairs


def add_reverse_relations(index: EdgeIndex, weight: EdgeWeight) -> None:
    """Add ``(d, "rev_" + r, s)`` for every relation whose exact reverse is not there yet."""
    for edge_type in list(index):
        source, relation, target = edge_type
        candidates = [other for other in index if (other[0], other[2]) == (target, source)]
        if any(is_reverse(edge_type, other, index, weight) for other in candidates):
            continue
        reverse = (target, f"rev_{relation}", source)
        if reverse in index:
            raise ValueError(
                f"Edge type {reverse} must be the exact reverse of {edge_type}, but its edges "
                f"differ. Rename it, or pass add_reverse=False."
            )
        index[reverse] = lock(index[edge_type][::-1])
        if edge_type in weight:
            weight[reverse] = weight[edge_type]


def is_reverse(ours: EdgeType, theirs: EdgeType, index: EdgeIndex, weight: EdgeWeight) -> bool:
    """Tell whether two relations hold the same edges, weights and repeats, in opposite directions.

    A relation may be its own reverse.
    """
    forward, backward = index[ours], index[theirs][::-1]
    if forward.shape != backward.shape or (ours in weight) != (theirs in weight):
        return False
    if not forward.size:
        return True
    # The counts per node tell most relations apart before anything is sorted.
    counts = zip(map(np.bincount, forward), map(np.bincount, backward), strict=True)
    if not all(np.array_equal(a, b) for a, b in counts):
        return False
    n_targets = int(forward[1].max()) + 1
    keys = [pairs[0] * n_targets + pairs[1] for pairs in (forward, backward)]
    if ours not in weight:
        return np.array_equal(np.sort(keys[0]), np.sort(keys[1]))
    weights = weight[ours], weight[theirs]
    orders = [np.lexsort((w, key)) for key, w in zip(keys, weights, strict=True)]
    return all(np.array_equal(a[orders[0]], b[orders[1]]) for a, b in (tuple(keys), weights))
