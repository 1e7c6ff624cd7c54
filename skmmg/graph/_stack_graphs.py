"""Many graphs as one, whose samples are the graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from skmmg.graph._graph import MultiModalGraph
from skmmg.graph._modalities import to_csr
from skmmg.graph._neighbors import GRAPHS, KNNGraph, NeighborSpec, RadiusGraph
from skmmg.graph._payload import Matrix, Names, Pairs, Payload, freeze, lock
from skmmg.graph._schema import EdgeType, Schema, diff_names
from skmmg.graph._view import NodeView

Neighbors = KNNGraph | RadiusGraph
Mask = npt.NDArray[np.bool_]
# the relation of a node to its graph
_MEMBER = "in"


def stack_graphs(
    graphs: Sequence[MultiModalGraph],
    *,
    name: str = "graph",
    neighbors: Neighbors | str | None = None,
) -> NodeView:
    """Make the X of samples that are graphs themselves.

    A sample may be a recording whose channels and segments are nodes, or a document of words and
    images: one label for each graph. All graphs stand side by side in one, unconnected, with a
    further node type that has a node for each of them, to which all nodes of the graph point. Its
    view is an X like any other, whose samples are the graphs.

    Parameters
    ----------
    graphs : sequence of MultiModalGraph
        At least one, all with the same node types, modalities and relations, and the columns of
        each modality in one order. A graph may have no nodes of a type, or lack a modality.
    name : str, default="graph"
        What the node type of the samples is called. The relations to it are called "in".
    neighbors : KNNGraph, RadiusGraph, {"knn", "radius"} or None, default=None
        How nodes of one type of one graph are linked where they look alike, in addition to the
        edges that the graph has, under relations of their own; None: not at all.

    Returns
    -------
    NodeView
        The samples, in the order of `graphs`; slices of it select graphs.

    Raises
    ------
    TypeError, ValueError
        If there is no graph, one is no `MultiModalGraph`, schemas or column names differ, a name
        is taken, or `neighbors` is none of these.

    Notes
    -----
    New graphs are predicted as ``predict(stack_graphs(new_graphs))``. As no edge leaves a graph,
    its prediction does not depend on the others. A fit on some of the graphs, ``fit(X[:20], y)``,
    scales features by those of all, unless it has ``setting="inductive"``.

    Examples
    --------
    >>> import numpy as np
    >>> from skmmg import MultiModalGraph, stack_graphs
    >>> rng = np.random.default_rng(0)
    >>> near = {("channel", "near", "channel"): [[0, 1, 2], [1, 2, 3]]}
    >>> recordings = [
    ...     MultiModalGraph(
    ...         {"channel": {"eeg": rng.normal(size=(4, 16))}, "segment": {"audio": audio}}, near
    ...     )
    ...     for audio in (np.ones((2, 8)), np.ones((3, 8)), np.ones((5, 8)))
    ... ]
    >>> X = stack_graphs(recordings, name="recording")
    >>> len(X), X.graph.n_nodes["segment"]
    (3, 10)
    """
    graphs = _check_graphs(graphs, name)
    first = graphs[0]._payload
    counts = {t: np.array([g.n_nodes[t] for g in graphs]) for t in first.n_nodes}
    starts = {t: np.cumsum(n) - n for t, n in counts.items()}
    index, weight = _stack_edges(graphs, starts)
    if neighbors is not None:
        linked = _link(graphs, _check_neighbors(neighbors), starts)
        _check_new_relations(linked, index)
        index |= linked
    for node_type, n in counts.items():
        members = np.repeat(np.arange(len(graphs)), n)
        index[node_type, _MEMBER, name] = lock(np.stack([np.arange(len(members)), members]))
    payload = Payload(
        x={t: _stack_matrices(graphs, t) for t in counts} | {name: {}},
        n_nodes={t: int(n.sum()) for t, n in counts.items()} | {name: len(graphs)},
        feature_names=_stack_names(graphs) | {name: {}},
        masks={t: _stack_masks(graphs, t) for t in counts} | {name: {}},
        edge_index=index,
        edge_weight=weight,
    )
    return MultiModalGraph._from_payload(payload).nodes(name)


def is_stack(schema: Schema) -> bool:
    """Whether this is the schema of a set of graphs, side by side."""
    types = set(schema.node_types)
    return any(
        not schema.node_types[name]
        and {(t, _MEMBER, name) for t in types - {name}} <= set(schema.edge_types)
        for name in types
        if len(types) > 1
    )


def _check_graphs(graphs: Sequence[MultiModalGraph], name: str) -> list[MultiModalGraph]:
    graphs = [graphs] if isinstance(graphs, MultiModalGraph) else list(graphs)
    wrong = [type(g).__name__ for g in graphs if not isinstance(g, MultiModalGraph)]
    if wrong:
        raise TypeError(f"stack_graphs takes graphs, each a MultiModalGraph, got {wrong[0]}.")
    if not graphs:
        raise ValueError("stack_graphs needs at least one graph, got none.")
    if name in graphs[0].node_types:
        raise ValueError(
            f"name={name!r} is a node type of the graphs already. Give the samples another name."
        )
    for i, graph in enumerate(graphs):
        differences = graphs[0].schema.diff(graph.schema)
        if differences:
            raise ValueError("\n".join([f"Graphs 0 and {i} differ:", *differences]))
    return graphs


def _check_neighbors(neighbors: Neighbors | str) -> NeighborSpec:
    """Let specs of neighbours pass, and make them from their names."""
    if isinstance(neighbors, str) and neighbors in GRAPHS:
        return GRAPHS[neighbors]()
    if not isinstance(neighbors, NeighborSpec):
        raise TypeError(
            f"neighbors must be one of {list(GRAPHS)}, a KNNGraph or RadiusGraph, or None, got "
            f"{neighbors!r}. Write KNNGraph(n_neighbors=5)."
        )
    return neighbors


def _stack_names(graphs: Sequence[MultiModalGraph]) -> Names:
    """Column names, on which the graphs that have any must agree."""
    names: Names = {node_type: {} for node_type in graphs[0].node_types}
    for i, graph in enumerate(graphs):
        differences = diff_names(names, graph.feature_names)
        if differences:
            raise ValueError(
                "\n".join([f"Graph {i} has other columns than those before it:", *differences])
            )
        for node_type, found in graph.feature_names.items():
            names[node_type] |= found
    return names


def _stack_matrices(graphs: Sequence[MultiModalGraph], node_type: str) -> dict[str, Matrix]:
    """Matrices of a node type, graph below graph."""
    return {
        modality: _stack_rows([g.x[node_type][modality] for g in graphs])
        for modality in graphs[0].x[node_type]
    }


def _stack_rows(parts: list[Matrix]) -> Matrix:
    if any(sp.issparse(part) for part in parts):
        return freeze(sp.vstack([to_csr(part) for part in parts], format="csr"))
    return lock(np.concatenate([np.asarray(part) for part in parts]))


def _stack_masks(graphs: Sequence[MultiModalGraph], node_type: str) -> dict[str, Mask]:
    """Which nodes have a modality, where any graph came with a mask for it."""
    given = [g.masks.get(node_type, {}) for g in graphs]
    out = {}
    for modality in dict.fromkeys(m for masks in given for m in masks):
        parts = [
            masks.get(modality, np.ones(g.n_nodes[node_type], dtype=bool))
            for g, masks in zip(graphs, given, strict=True)
        ]
        out[modality] = lock(np.concatenate(parts))
    return out


def _stack_edges(
    graphs: Sequence[MultiModalGraph], starts: dict[str, Pairs]
) -> tuple[dict[EdgeType, Pairs], dict[EdgeType, npt.NDArray[np.float32]]]:
    """Edges with the ids of the stacked graph, and weights of the relations that have any."""
    index, weight = {}, {}
    for edge_type in graphs[0].edge_types:
        source, _, target = edge_type
        shifts = np.stack([starts[source], starts[target]], axis=1)[:, :, None]
        parts = [g.edge_index[edge_type] for g in graphs]
        index[edge_type] = lock(np.hstack([p + s for p, s in zip(parts, shifts, strict=True)]))
        if any(edge_type in g.edge_weight for g in graphs):
            ones = (np.ones(p.shape[1], dtype=np.float32) for p in parts)
            weights = (
                g.edge_weight.get(edge_type, one) for g, one in zip(graphs, ones, strict=True)
            )
            weight[edge_type] = lock(np.concatenate(list(weights)))
    return index, weight


def _check_new_relations(linked: Iterable[EdgeType], known: Iterable[EdgeType]) -> None:
    """Let relations of neighbours pass that the graphs do not have."""
    taken = set(known).intersection(linked)
    if taken:
        raise ValueError(
            f"neighbors must make new relations, but the graphs have {min(taken)} already. Give "
            "that relation another name, or leave neighbors out."
        )


def _link(
    graphs: Sequence[MultiModalGraph],
    neighbors: NeighborSpec,
    starts: dict[str, Pairs],
) -> dict[EdgeType, Pairs]:
    """Edges between nodes of one type of one graph that look alike."""
    parts: dict[EdgeType, list[Pairs]] = {}
    for i, graph in enumerate(graphs):
        for node_type, x in graph.x.items():
            if not x:
                continue
            present = dict(graph.masks.get(node_type, {})) or None
            fitted = neighbors.fit(dict(x), present)
            for (_, relation, _), index in fitted.edges(dict(x), present).items():
                edge_type = (node_type, relation, node_type)
                parts.setdefault(edge_type, []).append(index + starts[node_type][i])
    return {e: lock(np.hstack(index)) for e, index in parts.items()}
