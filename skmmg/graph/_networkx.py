"""Graphs from and to networkx."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from skmmg.graph._graph import MultiModalGraph
from skmmg.graph._payload import Matrix
from skmmg.graph._schema import EdgeType
from skmmg.graph._tables import weighted_edges

if TYPE_CHECKING:
    import networkx as nx


def from_networkx(
    g: nx.Graph,
    node_type: str | None = "type",
    edge_type: str | None = "type",
    features: Mapping[str, str] | Sequence[str] | str | None = None,
    *,
    weight: str | None = "weight",
    add_reverse: bool = True,
) -> MultiModalGraph:
    """Read a networkx graph, see `MultiModalGraph.from_networkx`."""
    names = _check_features(g, features)
    members = _group_by_type(g, node_type)
    nodes: dict[str, Any] = {}
    masks: dict[str, dict[str, Any]] = {}
    for kind, same in members.items():
        found = {
            modality: _read_rows(kind, name, {node: g.nodes[node].get(name) for node in same})
            for modality, name in names.items()
            if any(g.nodes[node].get(name) is not None for node in same)
        }
        nodes[kind] = {modality: rows for modality, (rows, _) in found.items()} or len(same)
        masks[kind] = {name: present for name, (_, present) in found.items() if not present.all()}
    edges = _read_edges(g, members, edge_type, weight)
    counts = {kind: len(same) for kind, same in members.items()}
    linked = {e: _to_edges(e, entries, counts) for e, entries in edges.items()}
    return MultiModalGraph(nodes, linked, masks=masks, add_reverse=add_reverse)


def to_networkx(graph: MultiModalGraph) -> nx.MultiDiGraph:
    """Copy a graph, see `MultiModalGraph.to_networkx`."""
    import networkx as nx

    g = nx.MultiDiGraph()
    for kind, n_nodes in graph.n_nodes.items():
        if "type" in graph.x[kind]:
            raise ValueError(
                f"Modality 'type' of node type {kind!r} cannot be an attribute of a networkx node, "
                f"where 'type' is the node type. Rename it."
            )
        g.add_nodes_from(((kind, i), {"type": kind}) for i in range(n_nodes))
        for modality, matrix in graph.x[kind].items():
            for i in np.flatnonzero(graph.present(kind, modality)).tolist():
                g.nodes[kind, i][modality] = _take_row(matrix, i)
    for (source, relation, target), pairs in graph.edge_index.items():
        weights = graph.edge_weight.get((source, relation, target))
        for k, (i, j) in enumerate(pairs.T.tolist()):
            extra = {} if weights is None else {"weight": float(weights[k])}
            g.add_edge((source, i), (target, j), type=relation, **extra)
    return g


def _check_features(
    g: nx.Graph, features: Mapping[str, str] | Sequence[str] | str | None
) -> dict[str, str]:
    """Return the attribute of each modality, or raise if no node has one of them."""
    given = [features] if isinstance(features, str) else features or ()
    names = dict(given) if isinstance(given, Mapping) else {name: name for name in given}
    known = dict.fromkeys(
        name
        for _, found in g.nodes(data=True)
        for name, value in found.items()
        if value is not None
    )
    absent = [name for name in names.values() if name not in known]
    if absent:
        raise ValueError(
            f"features must name attributes of nodes, got {absent[0]!r}. There are {list(known)}."
        )
    return names


def _group_by_type(g: nx.Graph, node_type: str | None) -> dict[str, list[Hashable]]:
    """List the nodes of each type, in their order."""
    members: dict[str, list[Hashable]] = {}
    for node, attributes in g.nodes(data=True):
        kind = "node" if node_type is None else _read_type(attributes, node_type, "Node", node)
        members.setdefault(kind, []).append(node)
    return members


def _read_type(attributes: Mapping[str, Any], name: str, what: str, which: Any) -> str:
    """Return the type of a node or an edge, or raise."""
    if not isinstance(attributes.get(name), str):
        raise ValueError(
            f"{what} {which!r} must have its type in the attribute {name!r}, a string, got "
            f"{attributes.get(name)!r}. Name another attribute with {what.lower()}_type, or "
            f"{what.lower()}_type=None if there is only one."
        )
    return str(attributes[name])


def _read_rows(kind: str, name: str, values: Mapping[Hashable, Any]) -> tuple[Any, Any]:
    """Stack the rows of one modality, with NaN or zeros where a node has none; and who has one."""
    rows: dict[Hashable, Any] = {
        node: value if sparse.issparse(value) else np.atleast_1d(value)
        for node, value in values.items()
        if value is not None
    }
    first = next(iter(rows.values()))
    wrong = [node for node, row in rows.items() if row.shape != first.shape]
    if wrong:
        raise ValueError(
            f"Attribute {name!r} must have one length for all nodes of type {kind!r}, got shape "
            f"{rows[wrong[0]].shape} for node {wrong[0]!r} and {first.shape} for others."
        )
    present = np.array([node in rows for node in values])
    is_sparse = sparse.issparse(first)
    if is_sparse:
        if first.ndim > 1 and first.shape[0] != 1:
            raise ValueError(
                f"Attribute {name!r} must have one row per node of type {kind!r}, got sparse "
                f"matrices of shape {first.shape}."
            )
        nothing = sparse.csr_array(first.shape, dtype=first.dtype)
        return sparse.vstack([rows.get(node, nothing) for node in values], format="csr"), present
    stacked = np.stack(list(rows.values()))
    filler = np.nan if stacked.dtype.kind == "f" else 0
    matrix = np.full((len(present), *stacked.shape[1:]), filler, dtype=stacked.dtype)
    matrix[present] = stacked
    return matrix, present


def _read_edges(
    g: nx.Graph,
    members: Mapping[str, Sequence[Hashable]],
    edge_type: str | None,
    weight: str | None,
) -> dict[EdgeType, list[tuple[int, int, float]]]:
    """Collect source, destination and weight of every edge, by edge type."""
    order = {kind: i for i, kind in enumerate(members)}
    position = {node: (kind, i) for kind, same in members.items() for i, node in enumerate(same)}
    edges: dict[EdgeType, list[tuple[int, int, float]]] = {}
    for u, v, attributes in g.edges(data=True):
        what = "to" if edge_type is None else _read_type(attributes, edge_type, "Edge", (u, v))
        strength = 1.0 if weight is None else _read_weight(attributes, weight, (u, what, v))
        (s, i), (d, j) = position[u], position[v]
        if not g.is_directed() and order[s] > order[d]:
            (s, i), (d, j) = (d, j), (s, i)
        edges.setdefault((s, what, d), []).append((i, j, strength))
        if not g.is_directed() and s == d and i != j:
            edges[s, what, d].append((j, i, strength))
    return edges


def _read_weight(attributes: Mapping[str, Any], name: str, edge: tuple[Any, str, Any]) -> float:
    """Return the weight of an edge, 1 if it has none."""
    value = attributes.get(name)
    try:
        return 1.0 if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Edge {edge!r} must have a number in the attribute {name!r}, got {value!r}. Name "
            f"another attribute with weight, or weight=None to count all edges alike."
        ) from error


def _to_edges(
    edge_type: EdgeType, entries: list[tuple[int, int, float]], counts: Mapping[str, int]
) -> Any:
    """Turn collected edges into ids, or into a sparse matrix where there are weights."""
    values = np.array(entries)
    pairs = values[:, :2].astype(np.int64).T
    if (values[:, 2] == 1).all():
        return pairs
    return weighted_edges(
        edge_type, pairs, values[:, 2], (counts[edge_type[0]], counts[edge_type[2]])
    )


def _take_row(matrix: Matrix, i: int) -> Any:
    """Copy one row: a vector, or a csr_array with one row."""
    return matrix[[i]] if isinstance(matrix, sparse.csr_array) else np.array(matrix[i])
