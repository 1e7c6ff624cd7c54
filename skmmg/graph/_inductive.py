"""A graph as it is before some nodes of a type have come, and what comes with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from skmmg.graph._graph import MultiModalGraph
from skmmg.graph._payload import lock

Mask = npt.NDArray[np.bool_]


def induce(
    graph: MultiModalGraph, node_type: str, ids: npt.NDArray[np.int64]
) -> tuple[MultiModalGraph, npt.NDArray[np.int64]]:
    """The graph without the other nodes of a type, as `MultiModalGraph.induced`.

    What comes with these others has no features and no edges, but stays where it is, so that nodes
    of other types keep their numbers.
    """
    part, new_ids = graph.induced(node_type, ids)
    there = there_before(graph, node_type, ids)
    if all(mask.all() for mask in there.values()):
        return part, new_ids
    there[node_type] = np.ones(part.n_nodes[node_type], dtype=bool)
    index, weight = dict(part.edge_index), dict(part.edge_weight)
    for edge_type in index:
        kept = there[edge_type[0]][index[edge_type][0]]
        index[edge_type] = lock(index[edge_type][:, kept])
        if edge_type in weight:
            weight[edge_type] = lock(weight[edge_type][kept])
    masks = {t: {m: lock(part.present(t, m) & there[t]) for m in x} for t, x in part.x.items()}
    payload = replace(part._payload, masks=masks, edge_index=index, edge_weight=weight)
    hidden = part._from_payload(payload)
    hidden._missing.update(part._missing)
    return hidden, new_ids


def there_before(
    graph: MultiModalGraph, node_type: str, ids: npt.NDArray[np.int64]
) -> dict[str, Mask]:
    """Which nodes of the other types do not come with the other nodes of this type.

    One that does is connected with nodes of the type, but with none of `ids` once the others are
    gone.
    """
    if len(graph.n_nodes) == 1:
        return {}
    kept = np.zeros(graph.n_nodes[node_type], dtype=bool)
    kept[ids] = True
    with_these = _connected(graph, node_type, kept)
    with_any = _connected(graph, node_type, np.ones_like(kept))
    return {t: with_these[t] | ~with_any[t] for t in with_any if t != node_type}


def _connected(graph: MultiModalGraph, node_type: str, kept: Mask) -> dict[str, Mask]:
    """Which nodes are connected with one that is kept, by paths that pass no other of its type."""
    sizes = list(graph.n_nodes.values())
    starts = dict(zip(graph.n_nodes, np.cumsum(sizes) - sizes, strict=True))
    ends = [np.zeros((2, 0), dtype=np.int64)]
    for (src, _, dst), index in graph.edge_index.items():
        used = np.ones(index.shape[1], dtype=bool)
        for end, at in ((src, index[0]), (dst, index[1])):
            if end == node_type:
                used &= kept[at]
        ends.append(index[:, used] + np.array([[starts[src]], [starts[dst]]]))
    rows, columns = np.concatenate(ends, axis=1)
    links = sp.coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(sum(sizes),) * 2)
    n_parts, part = connected_components(links, directed=False)
    by_type = {t: part[starts[t] : starts[t] + n] for t, n in graph.n_nodes.items()}
    reached = np.zeros(n_parts, dtype=bool)
    reached[by_type[node_type][kept]] = True
    return {t: reached[parts] for t, parts in by_type.items()}
