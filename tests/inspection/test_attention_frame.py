"""attention_frame: the edges into some nodes, by the attention that is paid to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.pipeline import make_pipeline

from skmmg import MultiModalGraph, MultiModalGraphClassifier, NodeView
from skmmg.inspection import attention_frame
from skmmg.models import HGNNIMA


def make_X(seed: int = 0) -> NodeView:
    rng = np.random.default_rng(seed)
    return MultiModalGraph(
        {
            "item": {"text": rng.normal(size=(20, 3)), "image": rng.normal(size=(20, 4))},
            "shop": {"text": rng.normal(size=(5, 2))},
        },
        {
            ("item", "in", "shop"): rng.integers(0, 5, size=(2, 30)),
            ("item", "near", "item"): rng.integers(0, 20, size=(2, 40)),
        },
    ).nodes("item")


def fit(X: NodeView, model: Any = "hgnn_ima") -> MultiModalGraphClassifier:
    y = np.arange(len(X)) % 2
    clf = MultiModalGraphClassifier(model, max_epochs=2, early_stopping=False, random_state=0)
    return clf.fit(X, y)


@pytest.mark.parametrize(
    "model", [HGNNIMA(heads=2, num_layers=2), "xgea"], ids=["hgnn_ima", "xgea"]
)
@pytest.mark.parametrize("layer", [0, -1])
def test_every_edge_into_the_nodes_has_its_row(model: Any, layer: int) -> None:
    X = make_X()
    clf = fit(X, model)
    nodes = [7, 2, 11]

    frame = attention_frame(clf, X[nodes], layer=layer)

    attention = clf.attention(X)[layer]
    n_edges = 0
    for edge_type, index in X.graph.edge_index.items():
        at = np.flatnonzero(np.isin(index[1], nodes))
        if edge_type[2] != "item":
            continue
        n_edges += len(at)
        rows = frame[(frame.source_type == edge_type[0]) & (frame.relation == edge_type[1])]
        weight = attention.weight[edge_type].numpy().reshape(index.shape[1], -1).mean(axis=1)
        alpha = attention.alpha[edge_type].numpy().mean(axis=2)
        expected = np.column_stack([index.T[at], weight[at], alpha[at]])
        found = rows[["source", "destination", "weight", "text", "image"]].to_numpy()
        for values in (expected, found):
            values[:] = values[np.lexsort(values.round(5).T)]
        assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert len(frame) == n_edges > 3


def test_nodes_come_in_the_order_of_the_view_and_edges_by_weight() -> None:
    X = make_X()
    nodes = [7, 2, 11, 2]
    frame = attention_frame(fit(X), X[nodes])

    assert list(dict.fromkeys(frame.destination)) == [7, 2, 11]
    assert all(rows.weight.is_monotonic_decreasing for _, rows in frame.groupby("destination"))
    assert_allclose(frame.groupby("destination").weight.sum(), 1, rtol=1e-5)
    assert list(frame.index) == list(range(len(frame)))


def test_nodes_without_edges_have_no_rows() -> None:
    graph = MultiModalGraph({"x": np.eye(6)}, {"near": [[0, 1], [1, 0]]})
    frame = attention_frame(fit(graph.nodes()), graph.nodes(ids=[4, 0]))
    assert frame.destination.tolist() == [0]
    assert attention_frame(fit(graph.nodes()), graph.nodes(ids=[4])).empty


@pytest.mark.parametrize("layer", [-3, 2])
def test_layers_that_are_not_there_are_refused(layer: int) -> None:
    X = make_X()
    with pytest.raises(ValueError, match=rf"one of the 2 layers, from -2 to 1, got {layer}"):
        attention_frame(fit(X, HGNNIMA(num_layers=2)), X, layer=layer)


def test_what_has_no_attention_is_refused() -> None:
    X = make_X()
    with pytest.raises(ValueError, match="keeps no attention over edges"):
        attention_frame(fit(X, "mlp"), X)
    with pytest.raises(TypeError, match=r"got Pipeline\. Take the last step"):
        attention_frame(make_pipeline(fit(X)), X)
    clf = fit(X)
    with pytest.raises(TypeError, match="X has to be a NodeView, got ndarray"):
        attention_frame(clf, np.eye(3))


def test_a_modality_named_as_a_column_is_refused() -> None:
    X = MultiModalGraph({"weight": np.eye(6)}, {"near": [[0, 1], [1, 0]]}).nodes()
    with pytest.raises(ValueError, match=r"got 'weight'\. Rename it"):
        attention_frame(fit(X), X)


def test_no_relation_into_the_nodes_is_an_error() -> None:
    X = MultiModalGraph(
        {"item": {"x": np.eye(6)}, "shop": 2},
        {("item", "in", "shop"): [[0, 1], [1, 0]]},
        add_reverse=False,
    ).nodes("item")
    with pytest.raises(ValueError, match="must have a relation that ends at 'item' nodes"):
        attention_frame(fit(X), X)
