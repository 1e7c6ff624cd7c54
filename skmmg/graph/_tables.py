"""Graphs from pandas tables with ids of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from skmmg.graph._graph import MultiModalGraph
from skmmg.graph._modalities import Columns, column_names, resolve_columns, take_columns
from skmmg.graph._relations import check_edge_type
from skmmg.graph._schema import EdgeType
from skmmg.graph._validation import check_range


def from_pandas(
    nodes: Mapping[str, pd.DataFrame],
    edges: Mapping[Any, pd.DataFrame] | None = None,
    *,
    id_column: str | Mapping[str, str] = "id",
    modalities: Mapping[str, Mapping[str, Columns]] | None = None,
    weight_column: str | Mapping[Any, str] | None = None,
    add_reverse: bool = True,
) -> MultiModalGraph:
    """Build a graph from tables, see `MultiModalGraph.from_pandas`."""
    for name, tables in (("nodes", nodes), ("edges", edges or {})):
        _check_tables(name, tables)
    unknown = [name for name in modalities or {} if name not in nodes]
    if unknown:
        raise ValueError(f"modalities must name node types of {list(nodes)}, got {unknown[0]!r}.")
    ids = {name: _read_ids(name, table, id_column) for name, table in nodes.items()}
    features = {
        name: _read_columns(
            name, table, _id_column_of(name, id_column), (modalities or {}).get(name)
        )
        for name, table in nodes.items()
    }
    relations = {check_edge_type(key, tuple(nodes)): table for key, table in (edges or {}).items()}
    weighted = _weight_columns(weight_column, tuple(relations), tuple(nodes))
    linked = {e: _read_edge_table(e, table, ids, weighted[e]) for e, table in relations.items()}
    counted = {name: found or len(nodes[name]) for name, found in features.items()}
    return MultiModalGraph(counted, linked, add_reverse=add_reverse)


def weighted_edges(
    edge_type: EdgeType, pairs: NDArray[Any], weights: NDArray[Any], shape: tuple[int, int]
) -> sparse.coo_array[Any, Any]:
    """Return edges and weights in the form that a graph takes, repeats included."""
    if pairs.shape != (2, weights.size):
        raise ValueError(
            f"Edge type {edge_type} must have one weight per edge, got {weights.size} weights for "
            f"edges of shape {pairs.shape}."
        )
    if pairs.dtype.kind not in "iu":
        raise TypeError(f"Edge type {edge_type} must have integer ids, got dtype {pairs.dtype}.")
    for ids, n_nodes, node_type in zip(pairs, shape, (edge_type[0], edge_type[2]), strict=True):
        check_range(ids, n_nodes, f"Edge type {edge_type}", node_type)
    return sparse.coo_array((weights, (pairs[0], pairs[1])), shape)


def _check_tables(name: str, tables: Any) -> None:
    """Raise unless every value of a mapping is a DataFrame."""
    if not isinstance(tables, Mapping):
        raise TypeError(f"{name} must map names to DataFrames, got {type(tables).__name__}.")
    for key, table in tables.items():
        if not isinstance(table, pd.DataFrame):
            raise TypeError(
                f"{name}[{key!r}] must be a pandas DataFrame, got {type(table).__name__}."
            )


def _id_column_of(node_type: str, id_column: str | Mapping[str, str]) -> str:
    """Return the name of the column with the ids of a node type."""
    if isinstance(id_column, str):
        return id_column
    if node_type not in id_column:
        raise ValueError(
            f"id_column must name the id column of every node type, got none for {node_type!r}."
        )
    return id_column[node_type]


def _read_ids(
    node_type: str, table: pd.DataFrame, id_column: str | Mapping[str, str]
) -> pd.Index[Any]:
    """Return the ids of a table of nodes, or raise if one is missing or repeated."""
    name = _id_column_of(node_type, id_column)
    if name not in table.columns and table.index.name != name:
        raise ValueError(
            f"The table of {node_type!r} must have the ids of its nodes in a column {name!r}, got "
            f"the columns {list(table.columns)}. Name the column with id_column."
        )
    what = f"The table of {node_type!r}"
    ids = pd.Index(_take_column(what, table, name) if name in table.columns else table.index)
    if ids.hasnans:
        raise ValueError(
            f"Every row of the table of {node_type!r} must have an id, but {name!r} is missing in "
            f"{int(ids.isna().sum())} of {len(ids)} rows. Fill in or drop these rows."
        )
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        raise ValueError(
            f"Ids must be unique, but {len(repeated)} ids of {node_type!r} are repeated: "
            f"{_first(repeated)}. Drop the repeated rows: drop_duplicates({name!r})."
        )
    return ids


def _take_column(what: str, table: pd.DataFrame, name: Any) -> pd.Series[Any]:
    """Return a column, or raise if several have its name."""
    column: Any = table[name]
    if column.ndim > 1:
        raise ValueError(
            f"{what} must have one column {name!r}, got {column.shape[1]}. Rename or drop others."
        )
    return column


def _read_columns(
    node_type: str, table: pd.DataFrame, id_column: str, columns: Mapping[str, Columns] | None
) -> dict[str, pd.DataFrame]:
    """Return the columns of each modality; by default all numeric ones are one modality."""
    if columns is None:
        features = table.drop(columns=id_column, errors="ignore")
        numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in features.dtypes]
        return {"x": features.loc[:, numeric]} if any(numeric) else {}
    if not columns:
        return {}
    try:
        resolved = resolve_columns(columns, table.shape[1], column_names(table))
    except (TypeError, ValueError) as error:
        raise type(error)(f"In the table X of node type {node_type!r}: {error}") from error
    taken = {name: take_columns(table, positions) for name, positions in resolved.items()}
    # A prefix does not mean the ids; positions and masks count them, as the table does.
    prefixed = {name for name, given in columns.items() if isinstance(given, str)}
    return {
        name: part.drop(columns=id_column, errors="ignore") if name in prefixed else part
        for name, part in taken.items()
    }


def _weight_columns(
    given: str | Mapping[Any, str] | None, edge_types: Sequence[EdgeType], node_types: Sequence[str]
) -> dict[EdgeType, str | None]:
    """Return the column of weights of every relation, None if it has no weights."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(edge_types, given)
    named = {check_edge_type(key, tuple(node_types)): column for key, column in given.items()}
    unknown = [edge_type for edge_type in named if edge_type not in edge_types]
    if unknown:
        raise ValueError(
            f"weight_column must name relations of {list(edge_types)}, got {unknown[0]}."
        )
    return {edge_type: named.get(edge_type) for edge_type in edge_types}


def _read_edge_table(
    edge_type: EdgeType,
    table: pd.DataFrame,
    ids: Mapping[str, pd.Index[Any]],
    weight_column: str | None,
) -> Any:
    """Return the edges of a relation between positions of rows."""
    ends = edge_type[0], edge_type[2]
    is_named = ends[0] != ends[1] and set(ends) <= set(table.columns)
    others = [column for column in table.columns if column != weight_column]
    columns = list(ends) if is_named else others[:2]
    if len(columns) < 2 or (weight_column is not None and weight_column not in table.columns):
        raise ValueError(
            f"The table of edge type {edge_type} must have two columns of ids"
            f"{'' if weight_column is None else f' and the column {weight_column!r}'}, got the "
            f"columns {list(table.columns)}."
        )
    what = f"The table of edge type {edge_type}"
    taken = [pd.Index(_take_column(what, table, column)) for column in columns]
    pairs = np.stack(
        [
            _find_positions(edge_type, node_type, ids[node_type], wanted)
            for node_type, wanted in zip(ends, taken, strict=True)
        ]
    )
    if weight_column is None:
        return pairs
    weights = _read_weights(what, _take_column(what, table, weight_column))
    return weighted_edges(edge_type, pairs, weights, (len(ids[ends[0]]), len(ids[ends[1]])))


def _read_weights(what: str, column: pd.Series[Any]) -> NDArray[np.float64]:
    """Return numbers, NaN where one is missing, or raise."""
    try:
        return column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what} must have numbers in the column {column.name!r}, got dtype {column.dtype}: "
            f"{error}. Use pandas.to_numeric, or drop these edges."
        ) from error


def _find_positions(
    edge_type: EdgeType, node_type: str, known: pd.Index[Any], wanted: pd.Index[Any]
) -> NDArray[np.int64]:
    """Return the rows of the nodes with some ids, or raise for unknown ones."""
    positions = known.get_indexer(wanted)
    is_unknown = positions < 0
    if is_unknown.any():
        unknown = wanted[is_unknown].unique()
        dtypes = (
            f" ({wanted.dtype} here, {known.dtype} there)" if known.dtype != wanted.dtype else ""
        )
        raise ValueError(
            f"Edge type {edge_type} refers to {len(unknown)} ids that the table of {node_type!r} "
            f"does not have, in {int(is_unknown.sum())} of {len(wanted)} edges{dtypes}: "
            f"{_first(unknown)}. Add these nodes, or drop these edges."
        )
    return positions.astype(np.int64)


def _first(ids: pd.Index[Any]) -> str:
    """Show the first few ids, for an error message."""
    shown = ", ".join(repr(value) for value in ids[:3].tolist())
    return shown if len(ids) <= 3 else f"{shown}, ..."
