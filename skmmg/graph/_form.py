"""What is no X, neither a view nor a 2-D matrix, and the way from there to one."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmmg.graph._graph import MultiModalGraph
from skmmg.graph._validation import check_unmasked, is_mapping


def check_form(X: Any) -> None:
    """Raise for a graph, several matrices or graphs, a masked array, and name the way to an X."""
    way = _way_to_x(X)
    if way:
        raise TypeError(f"X has to be a NodeView or a 2-D matrix, got {_describe(X)}. {way}")
    check_unmasked(X, "X")


def check_no_columns(modalities: Any) -> None:
    """Raise where columns are grouped although X is a view."""
    if modalities is not None:
        raise ValueError(
            "modalities groups the columns of a 2-D X, and must be None for a NodeView, which has "
            "modalities of its own. To leave some out, give them 'drop' in a ModalityTransformer: "
            "ModalityTransformer({'image': 'drop'}).fit_transform(view)."
        )


def _way_to_x(X: Any) -> str:
    """Tell how to make an X of what is known to be none; nothing for other values."""
    first = _first(X)
    if isinstance(X, MultiModalGraph):
        return "Take the nodes of a graph by graph.nodes(...)."
    if isinstance(first, MultiModalGraph):
        return "stack_graphs(graphs) makes a view whose samples are graphs."
    if is_mapping(X) or getattr(first, "ndim", 0) == 2:
        return (
            "Several matrices become a 2-D X, and the parameter modalities, by "
            "X, modalities = stack_modalities({'image': matrix, 'text': other_matrix})."
        )
    if _is_from("torch_geometric", X):
        data = "data" if hasattr(X, "edge_types") else "data.to_heterogeneous()"
        return f"Write MultiModalGraph.from_hetero_data({data}).nodes(...)."
    if _is_from("networkx", X):
        return "Write MultiModalGraph.from_networkx(g, ...).nodes(...)."
    return ""


def _first(X: Any) -> Any:
    """Return the first element of a list, tuple or 1-D array."""
    is_list = isinstance(X, (list, tuple, np.ndarray)) and getattr(X, "ndim", 1) == 1
    return X[0] if is_list and len(X) else None


def _is_from(package: str, X: Any) -> bool:
    """Tell whether a class of the package, which is not imported here, is among those of X."""
    return any(c.__module__.partition(".")[0] == package for c in type(X).__mro__)


def _describe(X: Any) -> str:
    """Name the type, and that of the elements of a list."""
    first = _first(X)
    return type(X).__name__ if first is None else f"{type(X).__name__} of {type(first).__name__}"
