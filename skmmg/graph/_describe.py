"""What a graph looks like: one-line forms, tables and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from skmmg.graph._graph import MultiModalGraph
    from skmmg.graph._schema import EdgeType
    from skmmg.graph._view import NodeView


@dataclass(frozen=True, eq=False, repr=False)
class GraphDescription:
    """Two tables about a graph, as :meth:`MultiModalGraph.describe` returns them.

    Parameters
    ----------
    nodes : DataFrame
        One row per node type and modality (one per node type without features): ``node_type``,
        ``n_nodes``, ``modality``, ``n_features``, ``dtype``, ``storage`` (dense or sparse) and
        ``missing``, the share of nodes that lack the modality. Unlike
        :meth:`MultiModalGraph.present`, it is no error here if all do.
    relations : DataFrame
        One row per edge type: ``edge_type``, ``n_edges``, ``duplicates`` (edges beyond the first
        between the same two nodes), ``self_loops``, ``isolated`` (destination nodes without an
        incoming edge), ``max_in_degree`` and ``weighted``.

    Examples
    --------
    >>> import numpy as np
    >>> from skmmg.graph import MultiModalGraph
    >>> graph = MultiModalGraph({"x": np.eye(3)}, {"cites": [[0, 0, 1], [1, 1, 1]]},
    ...                         add_reverse=False)
    >>> table = graph.describe()
    >>> row = table.relations.iloc[0]
    >>> print(row["n_edges"], row["duplicates"], row["self_loops"], row["isolated"])
    3 1 1 2
    """

    nodes: pd.DataFrame
    relations: pd.DataFrame

    def __str__(self) -> str:
        with pd.option_context("display.float_format", "{:.1%}".format):
            return "\n\n".join(t.to_string(index=False, na_rep="") for t in self._tables())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "\n".join(_html_table(table) for table in self._tables())

    def _tables(self) -> list[pd.DataFrame]:
        """List the tables that have rows."""
        return [self.nodes, self.relations] if len(self.relations) else [self.nodes]


def describe_in_full(graph: MultiModalGraph) -> GraphDescription:
    """Compute the tables of a graph; reads every matrix once."""
    node_rows = [
        row for node_type in graph.node_types for row in _describe_node_type(graph, node_type)
    ]
    relation_rows = [_describe_relation(graph, edge_type) for edge_type in graph.edge_types]
    columns = ["edge_type", "n_edges", "duplicates", "self_loops", "isolated", "max_in_degree"]
    return GraphDescription(
        pd.DataFrame(node_rows).astype({"n_features": "Int64"}),
        pd.DataFrame(relation_rows, columns=[*columns, "weighted"]),
    )


def _describe_node_type(graph: MultiModalGraph, node_type: str) -> list[dict[str, Any]]:
    """Describe the modalities of one node type, a row each."""
    start = {"node_type": node_type, "n_nodes": graph.n_nodes[node_type]}
    rows = []
    for modality, matrix in graph.x[node_type].items():
        missing, _ = graph._find_missing(node_type, modality)
        mask = graph.masks.get(node_type, {}).get(modality)
        lacking = missing if mask is None else missing | ~mask
        rows.append(
            {
                **start,
                "modality": modality,
                "n_features": matrix.shape[1],
                "dtype": str(matrix.dtype),
                "storage": "sparse" if sparse.issparse(matrix) else "dense",
                "missing": lacking.mean() if lacking.size else 0.0,
            }
        )
    nothing = {"modality": "", "n_features": pd.NA, "dtype": "", "storage": "", "missing": np.nan}
    return rows or [{**start, **nothing}]


def _describe_relation(graph: MultiModalGraph, edge_type: EdgeType) -> dict[str, Any]:
    """Describe one relation."""
    source, _, target = edge_type
    sources, targets = graph.edge_index[edge_type]
    in_degree = np.bincount(targets, minlength=graph.n_nodes[target])
    return {
        "edge_type": arrow(edge_type),
        "n_edges": len(sources),
        "duplicates": _count_duplicates(sources, targets),
        "self_loops": int((sources == targets).sum()) if source == target else 0,
        "isolated": int((in_degree == 0).sum()),
        "max_in_degree": int(in_degree.max(initial=0)),
        "weighted": edge_type in graph.edge_weight,
    }


def _count_duplicates(sources: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> int:
    """Count the edges beyond the first between the same two nodes."""
    keys = np.sort(sources * (int(targets.max(initial=0)) + 1) + targets)
    return int((keys[1:] == keys[:-1]).sum())


def arrow(edge_type: EdgeType) -> str:
    """Write an edge type as ``movie -stars-> actor``."""
    return "{} -{}-> {}".format(*edge_type)


def describe_graph(graph: MultiModalGraph) -> str:
    """List node types, widths and numbers of edges, without reading a matrix."""
    lines = [
        ", ".join([f"{name}: {_count(n, 'node')}", *_widths(graph, name)])
        for name, n in graph.n_nodes.items()
    ]
    lines += [f"{arrow(e)}: {_count(ids.shape[1], 'edge')}" for e, ids in graph.edge_index.items()]
    return "\n".join(["MultiModalGraph(", *(f"  {line}" for line in lines), ")"])


def describe_graph_html(graph: MultiModalGraph) -> str:
    """Draw node types and relations as two tables, without reading a matrix."""
    nodes = pd.DataFrame(
        {
            "node type": list(graph.n_nodes),
            "nodes": list(graph.n_nodes.values()),
            "modalities (features)": [", ".join(_widths(graph, name)) for name in graph.n_nodes],
        }
    )
    relations = pd.DataFrame(
        {
            "edge type": [arrow(edge_type) for edge_type in graph.edge_types],
            "edges": [ids.shape[1] for ids in graph.edge_index.values()],
        }
    )
    tables = [_html_table(nodes)] + ([_html_table(relations)] if len(relations) else [])
    return "\n".join(["<div><strong>MultiModalGraph</strong>", *tables, "</div>"])


def describe_view(view: NodeView) -> str:
    """Write a view on one line."""
    n_nodes = view.graph.n_nodes[view.node_type]
    widths = ", ".join(_widths(view.graph, view.node_type)) or "no features"
    return f"NodeView({len(view)} of {n_nodes} {view.node_type!r} nodes: {widths})"


def describe_view_html(view: NodeView) -> str:
    """Write a view on one line, above its graph."""
    return (
        f"<p><code>{escape(describe_view(view))}</code> of</p>\n{describe_graph_html(view.graph)}"
    )


def _widths(graph: MultiModalGraph, node_type: str) -> list[str]:
    """List the modalities of one node type with their widths."""
    return [
        f"{name} ({matrix.shape[1]}{', sparse' if sparse.issparse(matrix) else ''})"
        for name, matrix in graph.x[node_type].items()
    ]


def _count(number: int, what: str) -> str:
    """Spell out a number of things."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _html_table(table: pd.DataFrame) -> str:
    """Draw a table; names are escaped, shares are percentages."""
    return table.to_html(index=False, border=0, na_rep="", float_format="{:.1%}".format)
