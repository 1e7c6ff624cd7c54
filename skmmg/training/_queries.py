"""A graph as it looks to items that nobody has seen yet, in one of their modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from skmmg.nn import GraphTensors, SparseMatrix
from skmmg.nn._edges import EdgeType
from skmmg.nn._inputs import Features


def silence(
    graph: GraphTensors,
    node_type: str,
    queries: Tensor,
    speakers: Tensor,
    links: Mapping[EdgeType, Tensor] | None = None,
) -> GraphTensors:
    """The graph without the edges that leave a node of the type that is no speaker.

    Parameters
    ----------
    graph : GraphTensors
        The whole graph.
    node_type : str
        Type of the items.
    queries : Tensor of shape (n_items,), dtype bool
        The items that are encoded.
    speakers : Tensor of shape (n_items,), dtype bool
        The items whose features others may see; no query may be among them.
    links : dict of (str, str, str) to Tensor of shape (2, n_edges) or None, default=None
        The edges that lead into the queries, in the place of those of the graph; None keeps these.

    Returns
    -------
    GraphTensors
        The same nodes and features.
    """
    edge_index, edge_weight = {}, dict(graph.edge_weight)
    for edge_type, index in graph.edge_index.items():
        kept = torch.ones(index.shape[1], dtype=torch.bool, device=index.device)
        if edge_type[0] == node_type:
            kept &= speakers[index[0]]
        if edge_type[2] == node_type and links is not None:
            kept &= ~queries[index[1]]
        parts = [index[:, kept]]
        if links is not None and edge_type in links:
            new = links[edge_type]
            parts.append(new[:, speakers[new[0]]])
        edge_index[edge_type] = torch.cat(parts, 1)
        if edge_type in edge_weight:
            ones = graph.edge_weight[edge_type].new_ones(sum(p.shape[1] for p in parts[1:]))
            edge_weight[edge_type] = torch.cat([graph.edge_weight[edge_type][kept], ones])
    cache: dict[str, dict[object, object]] = {source: {} for source in graph._cache}
    return replace(
        graph, edge_index=edge_index, edge_weight=edge_weight, origin=graph, _cache=cache
    )


def hide(graph: GraphTensors, node_type: str, queries: Tensor, shown: str) -> GraphTensors:
    """The graph in which the queries have one modality; what depends on edges alone is shared."""
    x, missing = dict(graph.x), dict(graph.missing)
    x[node_type], missing[node_type] = dict(x[node_type]), dict(missing.get(node_type, {}))
    for modality, values in graph.x[node_type].items():
        if modality == shown:
            continue
        x[node_type][modality] = _zero_rows(values, queries)
        lacking = missing[node_type].get(modality)
        missing[node_type][modality] = queries if lacking is None else lacking | queries
    cache: dict[str, dict[object, object]] = {source: {} for source in graph._cache}
    return replace(graph, x=x, missing=missing, _cache=cache | {"edges": graph._cache["edges"]})


def _zero_rows(values: Features, rows: Tensor) -> Features:
    if not isinstance(values, SparseMatrix):
        return values.masked_fill(rows.unsqueeze(1), 0.0)
    matrix = values.matrix
    crow, n_rows = matrix.crow_indices(), matrix.shape[0]
    row = torch.repeat_interleave(torch.arange(n_rows, device=rows.device), crow.diff().long())
    kept = matrix.values().masked_fill(rows[row], 0.0)
    shape = (n_rows, matrix.shape[1])
    return SparseMatrix(
        torch.sparse_csr_tensor(crow, matrix.col_indices(), kept, shape, check_invariants=False)
    )
