"""Graphs from and to PyTorch Geometric, pandas tables and networkx.

PyTorch and networkx are imported inside the functions that need them: this room needs neither.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

from skmmg.graph._graph import MultiModalGraph
from skmmg.graph._networkx import from_networkx, to_networkx
from skmmg.graph._payload import Matrix
from skmmg.graph._schema import EdgeType
from skmmg.graph._tables import from_pandas, weighted_edges

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData

__all__ = ["from_hetero_data", "from_networkx", "from_pandas", "to_hetero_data", "to_networkx"]

Modalities: TypeAlias = "Sequence[str] | Mapping[str, Sequence[str]]"

# What PyG keeps beside the features of a node store.
_NO_FEATURES = {"y", "label", "labels", "mask", "batch", "ptr", "n_id", "input_id", "num_nodes"}
_NO_FEATURE_ENDINGS = ("_mask", "_present")
_NAMES = "skmmg_feature_names"


def from_hetero_data(
    data: HeteroData, modalities: Modalities | None = None, *, add_reverse: bool = True
) -> MultiModalGraph:
    """Read a ``HeteroData``, see `MultiModalGraph.from_hetero_data`."""
    if not hasattr(data, "edge_types"):
        raise TypeError(
            f"from_hetero_data reads a HeteroData of PyTorch Geometric, got {type(data).__name__}. "
            "Data, which has one node type, becomes one by data.to_heterogeneous()."
        )
    stores = {
        node_type: dict(data[node_type].items()) if node_type in data.node_types else {}
        for node_type in _node_types_of(data)
    }
    _check_asked(modalities, stores)
    nodes: dict[str, Any] = {}
    masks: dict[str, dict[str, Any]] = {}
    for node_type, store in stores.items():
        asked = modalities.get(node_type, ()) if isinstance(modalities, Mapping) else modalities
        features = _read_features(node_type, store, asked)
        nodes[node_type] = features or _count_nodes(node_type, store, ())
        kept = {name: f"{name}_present" for name in features if f"{name}_present" in store}
        masks[node_type] = {name: _to_matrix(store[key]) for name, key in kept.items()}
    edges = {e: _read_edges(e, dict(data[e].items()), _sizes(nodes)) for e in data.edge_types}
    graph = MultiModalGraph(nodes, edges, masks=masks, add_reverse=add_reverse)
    return _with_feature_names(graph, getattr(data, _NAMES, {}))


def to_hetero_data(graph: MultiModalGraph) -> HeteroData:
    """Copy a graph, see `MultiModalGraph.to_hetero_data`."""
    import torch
    from torch_geometric.data import HeteroData

    data = HeteroData()
    for node_type, n_nodes in graph.n_nodes.items():
        data[node_type].num_nodes = n_nodes
        for name, matrix in graph.x[node_type].items():
            if not _may_be_feature(name):
                raise ValueError(
                    f"Modality {name!r} of node type {node_type!r} cannot be an attribute of "
                    f"HeteroData, where the name means something else. Rename it."
                )
            data[node_type][name] = _to_tensor(matrix)
        for name, mask in graph.masks.get(node_type, {}).items():
            data[node_type][f"{name}_present"] = torch.from_numpy(mask.copy())
    for edge_type, pairs in graph.edge_index.items():
        data[edge_type].edge_index = torch.from_numpy(pairs.copy())
        if edge_type in graph.edge_weight:
            data[edge_type].edge_weight = torch.from_numpy(graph.edge_weight[edge_type].copy())
    names = {node_type: dict(named) for node_type, named in graph.feature_names.items() if named}
    if names:
        data[_NAMES] = names
    return data


def _node_types_of(data: HeteroData) -> list[str]:
    """List the node types that have a store, then those that only edges name."""
    ends = [end for source, _, target in data.edge_types for end in (source, target)]
    return list(dict.fromkeys([*data.node_types, *ends]))


def _sizes(nodes: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of nodes of each type."""
    return {
        name: given if isinstance(given, int) else next(iter(given.values())).shape[0]
        for name, given in nodes.items()
    }


def _may_be_feature(name: str) -> bool:
    """Tell whether an attribute of a node store is a feature, by its name."""
    return name not in _NO_FEATURES and not name.endswith(_NO_FEATURE_ENDINGS)


def _matrices_of(store: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the two-dimensional tensors of real numbers in a store."""
    import torch

    return {
        name: value
        for name, value in store.items()
        if isinstance(value, torch.Tensor) and value.dim() == 2 and not value.is_complex()
    }


def _check_asked(modalities: Modalities | None, stores: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise for node types that are not there, and for modalities that no store has."""
    if not isinstance(modalities, Mapping):
        found = {name for store in stores.values() for name in _matrices_of(store)}
        absent = [name for name in modalities or () if name not in found]
        if absent:
            raise ValueError(
                f"modalities must name two-dimensional tensors of the data, got {absent[0]!r}. "
                f"There are {sorted(found)}."
            )
        return
    for node_type, asked in modalities.items():
        if node_type not in stores:
            raise ValueError(
                f"modalities must name node types of the data, got {node_type!r}. There are "
                f"{list(stores)}."
            )
        matrices = _matrices_of(stores[node_type])
        absent = [name for name in asked if name not in matrices]
        if absent:
            raise ValueError(
                f"modalities must name two-dimensional tensors of node type {node_type!r}, got "
                f"{absent[0]!r}. There are {list(matrices)}."
            )


def _read_features(
    node_type: str, store: Mapping[str, Any], asked: Sequence[str] | None
) -> dict[str, Matrix]:
    """Read the modalities of a node type: those asked for, or all that look like features."""
    matrices = _matrices_of(store)
    chosen = list(filter(_may_be_feature, matrices)) if asked is None else asked
    chosen = [name for name in chosen if name in matrices]
    n_nodes = _count_nodes(node_type, store, chosen)
    n_rows = {name: len(matrices[name]) for name in chosen}
    wrong = {name: n for name, n in n_rows.items() if n != n_nodes}
    if wrong and (asked is not None or "x" in wrong):
        raise ValueError(
            f"All modalities of node type {node_type!r} must have one row per node, {n_nodes}, "
            f"got {wrong} rows."
        )
    return {name: _to_matrix(matrices[name]) for name in chosen if name not in wrong}


def _count_nodes(node_type: str, store: Mapping[str, Any], chosen: Sequence[str]) -> int:
    """Take the number of nodes from `num_nodes`, or from what has a row per node."""
    if store.get("num_nodes") is not None:
        return int(store["num_nodes"])
    sizes = {
        name: len(matrix)
        for name, matrix in _matrices_of(store).items()
        if name in chosen or _may_be_feature(name)
    }
    if "x" in sizes:
        return sizes["x"]
    if len(set(sizes.values())) != 1:
        raise ValueError(
            f"The number of nodes of type {node_type!r} must be given where features do not tell "
            f"it, got features with {sizes} rows. Set data[{node_type!r}].num_nodes."
        )
    return next(iter(sizes.values()))


def _read_edges(edge_type: EdgeType, store: Mapping[str, Any], n_nodes: Mapping[str, int]) -> Any:
    """Read ids of shape (2, E), or a sparse matrix where there are weights."""
    if store.get("edge_index") is None:
        raise ValueError(
            f"Edge type {edge_type} must have an edge_index, got {list(store)}. Set "
            f"data[{edge_type}].edge_index to a tensor of shape (2, n_edges)."
        )
    pairs = _to_matrix(store["edge_index"])
    weights = store.get("edge_weight")
    if weights is None:
        weights = store.get("edge_attr")
        if weights is None:
            return pairs
        if weights.numel() != pairs.shape[-1]:
            raise ValueError(
                f"Edge type {edge_type} must have an edge_attr with one number per edge, its "
                f"weight, got shape {tuple(weights.shape)} for {pairs.shape[-1]} edges. Set "
                f"data[{edge_type}].edge_weight, or leave it out: del data[{edge_type}].edge_attr."
            )
    shape = n_nodes[edge_type[0]], n_nodes[edge_type[2]]
    return weighted_edges(edge_type, pairs, _to_matrix(weights).reshape(-1), shape)


def _to_matrix(tensor: torch.Tensor) -> Any:
    """Return an array on the tensor's memory, or a csr_array for a sparse tensor."""
    import torch

    tensor = tensor.detach().cpu()
    is_dense = tensor.layout == torch.strided
    if tensor.dtype == torch.bfloat16 or (tensor.dtype == torch.float16 and not is_dense):
        tensor = tensor.float()  # numpy has no bfloat16, and scipy no sparse float16
    if is_dense:
        return tensor.numpy()
    shape = tensor.shape[0], tensor.shape[1]
    if tensor.layout == torch.sparse_csr:
        parts = tensor.values(), tensor.col_indices(), tensor.crow_indices()
        return sparse.csr_array(tuple(part.numpy() for part in parts), shape)
    if tensor.layout == torch.sparse_coo and not tensor.dense_dim():
        entries = tensor._values().numpy(), tuple(tensor._indices().numpy())
        return sparse.csr_array(sparse.coo_array(entries, shape))
    return sparse.csr_array(tensor.to_dense().numpy())


def _to_tensor(matrix: Matrix) -> torch.Tensor:
    """Copy a matrix into a dense tensor, or into a sparse one of layout CSR."""
    import torch

    if not isinstance(matrix, sparse.csr_array):
        return torch.from_numpy(np.array(matrix))
    indptr, indices = (
        torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices)
    )
    values, shape = torch.from_numpy(matrix.data.copy()), list(matrix.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=True)


def _with_feature_names(
    graph: MultiModalGraph, names: Mapping[str, Mapping[str, Sequence[str]]]
) -> MultiModalGraph:
    """Give column names back to the modalities that are still there."""
    if not names:
        return graph
    kept = {
        node_type: {
            modality: tuple(columns)
            for modality, columns in names.get(node_type, {}).items()
            if modality in features and len(columns) == features[modality].shape[1]
        }
        for node_type, features in graph.x.items()
    }
    return graph._from_payload(replace(graph._payload, feature_names=kept))
