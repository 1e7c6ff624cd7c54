"""Attention over edges as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from skmmg.graph import NodeView
from skmmg.graph._schema import EdgeType

if TYPE_CHECKING:
    from skmmg.nn import Attention

COLUMNS = ["source_type", "relation", "source", "destination", "weight"]


def attention_frame(estimator: Any, X: NodeView, *, layer: int = -1) -> pd.DataFrame:
    """List the neighbours of some nodes by the attention that is paid to them.

    Parameters
    ----------
    estimator : MultiModalGraphClassifier
        Fitted on a view, with a model that has attention over edges: "hgnn_ima", or "xgea" with its
        default `variant`.
    X : NodeView
        The nodes at which the edges end.
    layer : int, default=-1
        Which layer; the last one is what the output is made from.

    Returns
    -------
    pandas.DataFrame
        A row per edge that ends at a node of X: "source_type", "relation", the ids "source" and
        "destination", and "weight", by which the layer adds up what comes along the edges (for
        HGNN-IMA equation 9), a mean over its heads, and over modalities that have weights of their
        own. A column per modality: attention within the modality, before modalities influence each
        other (equation 3), a mean over heads. Nodes come in the order of X, the edges of each from
        the largest weight to the smallest.

    Raises
    ------
    TypeError
        If the estimator has no attention to show, or X is not a view.
    ValueError
        If the model has none, no such layer, or a modality is called as another column is.

    Notes
    -----
    What a model attends to is not what its prediction depends on: a neighbour with a large weight
    may say nothing new, and later layers see what earlier ones have mixed. See
    :func:`modality_importance` for what happens to the score if something is taken away.

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.datasets import make_multimodal_graph
    >>> from skmmg.inspection import attention_frame
    >>> planted = make_multimodal_graph(100, random_state=0)
    >>> X, y = planted.graph.nodes("item"), planted.target
    >>> clf = MultiModalGraphClassifier(max_epochs=5, early_stopping=False, random_state=0)
    >>> list(attention_frame(clf.fit(X, y), X[[7]]))
    ['source_type', 'relation', 'source', 'destination', 'weight', 'modality_0', 'modality_1']
    """
    read = getattr(estimator, "attention", None)
    if read is None:
        raise TypeError(
            f"estimator must be a MultiModalGraphClassifier, got {type(estimator).__name__}. Take "
            "the last step of a pipeline, and X as the steps before it transform it."
        )
    layers = read(X)
    if not -len(layers) <= layer < len(layers):
        raise ValueError(
            f"layer must be one of the {len(layers)} layers, from {-len(layers)} to "
            f"{len(layers) - 1}, got {layer}."
        )
    modalities = list(estimator.schema_.modalities)
    taken = [modality for modality in modalities if modality in COLUMNS]
    if taken:
        raise ValueError(
            f"A modality must not be called as another column, {COLUMNS}, got {taken[0]!r}. Rename "
            "it in the graph, or use estimator.attention."
        )
    attention = layers[layer]
    order = pd.Series(np.arange(len(X)), index=X.ids)
    order = order[~order.index.duplicated()]
    parts = [
        _edges_into(X.ids, edge_type, index, attention, modalities)
        for edge_type, index in X.graph.edge_index.items()
        if edge_type[2] == X.node_type
    ]
    if not parts:
        raise ValueError(
            f"The graph must have a relation that ends at {X.node_type!r} nodes, got "
            f"{list(X.graph.edge_types)}."
        )
    frame = pd.concat(parts, ignore_index=True)
    by_weight = frame.sort_values("weight", ascending=False, kind="stable")
    return by_weight.sort_values(
        "destination", key=lambda ids: order[ids].to_numpy(), kind="stable", ignore_index=True
    )


def _edges_into(
    ids: np.ndarray,
    edge_type: EdgeType,
    index: np.ndarray,
    attention: Attention,
    modalities: list[str],
) -> pd.DataFrame:
    """Edges of one relation that end at some nodes."""
    source_type, relation, _ = edge_type
    at = np.flatnonzero(np.isin(index[1], ids))
    weight, alpha = (part[edge_type].numpy()[at] for part in (attention.weight, attention.alpha))
    weights = weight.mean(axis=tuple(range(1, weight.ndim)))
    columns = [source_type, relation, *index[:, at], weights, *alpha.mean(axis=2).T]
    return pd.DataFrame(dict(zip([*COLUMNS, *modalities], columns, strict=True)))
