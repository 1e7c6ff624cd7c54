"""Models with `uses_labels` see the labels of the training nodes, on the fitted network alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmmg import (
    MultiModalGraph,
    MultiModalGraphClassifier,
    NodeEmbedder,
    NodeView,
    stack_graphs,
)
from skmmg.datasets import make_multimodal_graph
from skmmg.models import SeHGNN
from skmmg.models.sehgnn import SeHGNNModule
from skmmg.nn import GraphTensors

PLANTED = make_multimodal_graph(60, random_state=0)
X, Y = PLANTED.graph.nodes("item"), PLANTED.target
TRAIN, VAL, TEST = np.arange(5, 35), np.arange(35, 45), np.arange(45, 60)
Seen = list[tuple[bool, np.ndarray]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What every pass through the module could see: (training, labels of its graph)."""
    out: Seen = []
    forward = SeHGNNModule.forward

    def record(self: SeHGNNModule, graph: GraphTensors, ids: torch.Tensor) -> Any:
        assert graph.labels is not None
        out.append((self.training, graph.labels.numpy().copy()))
        return forward(self, graph, ids)

    monkeypatch.setattr(SeHGNNModule, "forward", record)
    return out


def make(**params: Any) -> MultiModalGraphClassifier:
    spec = SeHGNN(16, dropout=0.0, input_dropout=0.0)
    return MultiModalGraphClassifier(spec, max_epochs=3, random_state=0, **params)


def labels_of(ids: np.ndarray, n_nodes: int = 60) -> np.ndarray:
    out = np.full(n_nodes, -1)
    out[ids] = Y[ids]
    return out


def test_training_shows_the_training_labels_and_none_of_validation(seen: Seen) -> None:
    make().fit(X[TRAIN], Y[TRAIN], X_val=X[VAL], y_val=Y[VAL])

    assert {training for training, _ in seen} == {True, False}
    for _, labels in seen:
        assert_array_equal(labels, labels_of(TRAIN))


def test_nodes_set_aside_to_stop_early_are_unknown(seen: Seen) -> None:
    make(validation_fraction=0.2).fit(X[TRAIN], Y[TRAIN])

    known = np.flatnonzero(seen[0][1] >= 0)
    assert len(known) == 24
    assert set(known) < set(TRAIN)
    for _, labels in seen:
        assert_array_equal(labels, labels_of(known))


def test_a_prediction_on_the_fitted_network_sees_the_training_labels(seen: Seen) -> None:
    clf = make(early_stopping=False).fit(X[TRAIN], Y[TRAIN])
    seen.clear()

    clf.predict(X[TEST])

    assert len(seen) == 1
    assert_array_equal(seen[0][1], labels_of(TRAIN))


def test_on_another_network_all_labels_are_unknown(seen: Seen) -> None:
    clf = make(early_stopping=False).fit(X[TRAIN], Y[TRAIN])
    other = make_multimodal_graph(60, random_state=1).graph.nodes("item")
    seen.clear()

    clf.predict(other)

    assert len(seen) == 1
    assert (seen[0][1] == -1).all()


def grow(graph: MultiModalGraph, new_edges: list[list[int]]) -> MultiModalGraph:
    """The network with three more items, which the first attributes are linked with."""
    x = {t: dict(features) for t, features in graph.x.items()}
    x["item"] = {m: np.concatenate([a, a[:3]]) for m, a in x["item"].items()}
    edges = dict(graph.edge_index)
    forward = next(e for e in edges if e[0] == "item")
    edges[forward] = np.hstack([edges[forward], np.array(new_edges, dtype=np.int64)])
    return MultiModalGraph(x, edges, add_reverse=False)


@pytest.mark.parametrize(
    ("new_edges", "known"),
    [([[60, 61], [0, 1]], True), ([[], []], True), ([[0, 60], [1, 0]], False)],
)
def test_a_network_that_has_grown_is_known(
    new_edges: list[list[int]], known: bool, seen: Seen
) -> None:
    clf = make(early_stopping=False).fit(X[TRAIN], Y[TRAIN])
    seen.clear()

    clf.predict(grow(X.graph, new_edges).nodes("item"))

    labels = seen[0][1]
    assert (labels[60:] == -1).all()
    assert_array_equal(labels[:60], labels_of(TRAIN) if known else np.full(60, -1))


def test_a_network_is_digested_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clf = make().fit(X[TRAIN], Y[TRAIN])
    expected = clf.predict_proba(X[TEST])
    monkeypatch.setattr("skmmg.estimators._labels._make_digest", None)
    assert_array_equal(clf.predict_proba(X[TEST]), expected)


def test_another_set_of_graphs_is_unknown_though_its_edges_are_the_same(seen: Seen) -> None:
    near, y = {("electrode", "near", "electrode"): [[0, 1], [1, 2]]}, np.arange(8) % 2

    def stack(seed: int) -> NodeView:
        rng = np.random.default_rng(seed)
        nodes = [{"electrode": {"eeg": rng.normal(size=(3, 4))}} for _ in y]
        return stack_graphs([MultiModalGraph(x, near) for x in nodes])

    clf = make(early_stopping=False).fit(stack(0), y)
    for seed, known in ((0, True), (1, False)):
        seen.clear()
        clf.predict(stack(seed))
        assert_array_equal(seen[0][1], y if known else np.full(8, -1))


def test_an_inductive_fit_shows_labels_in_the_numbering_of_its_network(seen: Seen) -> None:
    clf = make(early_stopping=False, setting="inductive").fit(X[TRAIN], Y[TRAIN])

    for _, labels in seen:
        assert_array_equal(labels, Y[TRAIN])  # the network of the training nodes alone
    seen.clear()
    clf.predict(X[TEST])
    assert_array_equal(seen[0][1], labels_of(TRAIN))


def test_fitted_rows_are_known_and_new_rows_are_not(seen: Seen) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 5)) + Y[:, None]
    clf = make(early_stopping=False).fit(rows[:40], Y[:40])
    seen.clear()

    clf.predict(rows[40:])

    assert_array_equal(seen[0][1], labels_of(np.arange(40)))


def test_mini_batches_see_the_same_labels() -> None:
    whole = make(early_stopping=False).fit(X[TRAIN], Y[TRAIN])
    expected = whole.predict_proba(X[TEST])

    assert_allclose(whole.set_params(batch_size=4).predict_proba(X[TEST]), expected, atol=1e-6)


def test_the_labels_of_test_nodes_change_nothing() -> None:
    other = Y.copy()
    other[TEST] = (Y[TEST] + 1) % 3

    first, second = (make().fit(X[TRAIN], y[TRAIN]).predict_proba(X[TEST]) for y in (Y, other))

    assert_array_equal(first, second)


def test_labels_of_neighbours_help_where_features_say_nothing() -> None:
    planted = make_multimodal_graph(200, homophily=1.0, n_attributes=30, random_state=0)
    noise = np.random.default_rng(0).normal(size=(200, 4))
    features = {m: noise for m in planted.graph.x["item"]}
    graph = planted.graph.with_features({"item": features})
    V, y, train = graph.nodes("item"), planted.target, slice(0, 120)
    scores = {}
    for hops in (0, 2):
        spec = SeHGNN(16, num_feature_hops=0, num_label_hops=hops)
        clf = MultiModalGraphClassifier(spec, max_epochs=60, lr=0.01, random_state=0)
        scores[hops] = clf.fit(V[train], y[train]).score(V[120:], y[120:])

    assert scores[2] > scores[0] + 0.2


def test_an_embedding_without_labels_is_shown_none(seen: Seen) -> None:
    embedder = NodeEmbedder("sehgnn", objective="infomax", max_epochs=2, random_state=0)

    embedder.fit_transform(X[TRAIN])

    assert len(seen) > 2
    for _, labels in seen:
        assert (labels == -1).all()
