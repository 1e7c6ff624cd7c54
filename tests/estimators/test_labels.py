"""Models with `uses_labels` see the labels of the training nodes, on the fitted network alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmmg import MultiModalGraphClassifier, NodeEmbedder
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
