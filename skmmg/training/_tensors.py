"""From the numpy and scipy payload of a graph to tensors: the only place where this happens."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch

from skmmg.graph import MultiModalGraph
from skmmg.nn import GraphTensors, SparseMatrix

# statistics of a modality of a node type: mean and scale of its columns, (n_features,) each
Statistics = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
EdgeType = tuple[str, str, str]

_BLOCK_ROWS = 4096
_TABLE_SPREAD = 100.0
_NUMPY_DTYPES: dict[torch.dtype, type[np.floating]]
_NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}

_cache: weakref.WeakKeyDictionary[MultiModalGraph, dict[tuple[object, ...], GraphTensors]]
_cache = weakref.WeakKeyDictionary()
# by graph: tensors, what was shown on them, and the tensors that show it
_Labelled = tuple[GraphTensors, tuple[bytes, bytes], GraphTensors]
_labelled: weakref.WeakKeyDictionary[MultiModalGraph, _Labelled] = weakref.WeakKeyDictionary()


def column_statistics(graph: MultiModalGraph, scaling: str | None) -> Statistics:
    """Mean and scale of the columns of every modality, over the nodes that have it.

    With ``scaling="standardize"`` every column gets mean 0 and standard deviation 1; sparse
    columns are not centred. With "auto" so do the columns of a table, that is of a modality whose
    columns' standard deviations differ more than `_TABLE_SPREAD`-fold; all columns of another
    modality are divided by one number, so that the mean square of an entry is 1: the directions of
    an embedding keep their proportions. None leaves all as they are. NaN cells are left out.
    """
    return {
        node_type: {
            modality: _statistics(x, graph.present(node_type, modality), scaling)
            for modality, x in modalities.items()
        }
        for node_type, modalities in graph.x.items()
    }


def _statistics(
    x: np.ndarray | sp.csr_array,
    present: np.ndarray,
    scaling: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    n_features = x.shape[1]
    mean, scale = np.zeros(n_features), np.ones(n_features)
    if scaling is None:
        return mean, scale
    total, square, count = _moments(x, present.astype(np.float64))
    count = np.maximum(count, 1e-300)
    if not sp.issparse(x):
        mean = total / count
    deviation = _deviation(square / count, mean)
    spread = deviation[deviation > 0]
    table = len(spread) > 0 and spread.max() > _TABLE_SPREAD * spread.min()
    if scaling == "standardize" or (table and not sp.issparse(x)):
        return mean, np.where(deviation > 0, deviation, 1.0)
    power = (deviation**2).mean()
    return mean, np.full(n_features, np.sqrt(power) if power > 0 else 1.0)


def _deviation(mean_square: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Standard deviation; 0 where the spread is rounding noise of the mean."""
    variance = mean_square - mean**2
    return np.sqrt(np.where(variance > 1e-12 * mean**2, np.maximum(variance, 0.0), 0.0))


def _moments(
    x: np.ndarray | sp.csr_array, row_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted sums of the columns, of their squares, and of the non-NaN cells."""
    if sp.issparse(x):
        return _sparse_moments(x, row_weight)
    total = np.zeros((3, x.shape[1]))
    for start in range(0, len(x), _BLOCK_ROWS):
        block = np.asarray(x[start : start + _BLOCK_ROWS], dtype=np.float64)
        weight = row_weight[start : start + _BLOCK_ROWS]
        known = ~np.isnan(block)
        block = np.where(known, block, 0.0)
        total += np.stack([weight @ block, weight @ block**2, weight @ known])
    return total[0], total[1], total[2]


def _sparse_moments(
    x: sp.csr_array, row_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weight = np.repeat(row_weight, np.diff(x.indptr))
    known = ~np.isnan(x.data)
    values = np.where(known, x.data, 0.0)

    def total(cells: np.ndarray) -> np.ndarray:
        return np.bincount(x.indices, cells, minlength=x.shape[1])

    n_unknown = total(weight * ~known)
    return total(weight * values), total(weight * values**2), row_weight.sum() - n_unknown


def graph_tensors(
    graph: MultiModalGraph,
    statistics: Statistics,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> GraphTensors:
    """Scaled features, missing rows and edges of a graph on a device; kept as long as the graph.

    The folds of a cross-validation whose statistics agree share one set of tensors; where these do
    not agree they share the edges.
    """
    per_graph = _cache.setdefault(graph, {})
    key = (str(device), dtype, _digest(statistics))
    tensors = per_graph.get(key)
    if tensors is None:
        other = next((t for k, t in list(per_graph.items()) if k[:2] == key[:2]), None)
        per_graph.clear()  # one set at a time: a second one would double the memory
        tensors = _make_tensors(graph, statistics, device, dtype, other)
        per_graph[key] = tensors
    return tensors


def labelled_tensors(
    graph: MultiModalGraph, tensors: GraphTensors, labels: np.ndarray, known_ids: np.ndarray
) -> GraphTensors:
    """The tensors of a graph, showing these labels; the last are kept as long as the graph."""
    shown = labels.tobytes(), known_ids.tobytes()
    last = _labelled.get(graph)
    if last is not None and last[0] is tensors and last[1] == shown:
        return last[2]
    at = tensors.device
    made = tensors.with_labels(torch.tensor(labels, device=at), torch.tensor(known_ids, device=at))
    _labelled[graph] = tensors, shown, made
    return made


def _digest(statistics: Statistics) -> bytes:
    arrays = [a for types in statistics.values() for pair in types.values() for a in pair]
    return b"".join(a.tobytes() for a in arrays)


def _make_tensors(
    graph: MultiModalGraph,
    statistics: Statistics,
    device: torch.device,
    dtype: torch.dtype,
    other: GraphTensors | None,
) -> GraphTensors:
    """Tensors of a graph; those of its edges from others, where there are any."""
    present = {t: {m: graph.present(t, m) for m in xs} for t, xs in graph.x.items()}
    edges = (graph.edge_index, graph.edge_weight) if other is None else ({}, {})
    tensors = make_tensors(
        graph.x, present, graph.n_nodes, *edges, statistics, device=device, dtype=dtype
    )
    return tensors if other is None else tensors.with_edges_of(other)


def make_tensors(
    x: Mapping[str, Mapping[str, np.ndarray | sp.csr_array]],
    present: Mapping[str, Mapping[str, np.ndarray]],
    num_nodes: Mapping[str, int],
    edge_index: Mapping[EdgeType, np.ndarray],
    edge_weight: Mapping[EdgeType, np.ndarray],
    statistics: Statistics,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> GraphTensors:
    """Tensors of the arrays of a graph or of a part of one; `present` are masks of its rows."""
    return GraphTensors(
        x={
            node_type: {
                m: _feature_tensor(
                    values, present[node_type][m], *statistics[node_type][m], dtype, device
                )
                for m, values in modalities.items()
            }
            for node_type, modalities in x.items()
        },
        num_nodes=dict(num_nodes),
        edge_index={e: torch.tensor(index, device=device) for e, index in edge_index.items()},
        missing={
            node_type: {m: torch.from_numpy(~mask).to(device) for m, mask in masks.items()}
            for node_type, masks in present.items()
        },
        edge_weight={
            e: torch.tensor(w, dtype=dtype, device=device) for e, w in edge_weight.items()
        },
        device=device,
    )


def _feature_tensor(
    x: np.ndarray | sp.csr_array,
    present: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor | SparseMatrix:
    scaled = scale_features(x, present, mean, scale, dtype=_NUMPY_DTYPES[dtype])
    if isinstance(scaled, np.ndarray):
        return torch.from_numpy(scaled).to(device)
    matrix = torch.sparse_csr_tensor(
        torch.from_numpy(scaled.indptr.astype(np.int32)),
        torch.from_numpy(scaled.indices.astype(np.int32)),
        torch.from_numpy(scaled.data),
        scaled.shape,
        check_invariants=False,
    )
    return SparseMatrix(matrix.to(device))


def scale_features(
    x: np.ndarray | sp.csr_array,
    present: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    *,
    dtype: type[np.floating] = np.float64,
) -> np.ndarray | sp.csr_array:
    """Scaled copy: NaN cells become the column's mean, which is 0, and so do missing rows.

    A sparse matrix stays sparse unless a mean is to be subtracted: that of a dense one at `fit`.
    """
    if sp.issparse(x) and not mean.any():
        values = np.nan_to_num(x.data / scale[x.indices], nan=0.0)
        values = values * np.repeat(present, np.diff(x.indptr))
        return sp.csr_array((values.astype(dtype), x.indices, x.indptr), shape=x.shape)
    out = np.empty(x.shape, dtype=dtype)
    for start in range(0, x.shape[0], _BLOCK_ROWS):
        rows = x[start : start + _BLOCK_ROWS]
        block = np.asarray(rows.toarray() if sp.issparse(rows) else rows, dtype=np.float64)
        out[start : start + _BLOCK_ROWS] = np.nan_to_num((block - mean) / scale, nan=0.0)
    out[~present] = 0.0
    return out
