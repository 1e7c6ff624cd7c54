"""MultiModalGraphClassifier: what it sees, what it keeps, and that order never matters."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import Bunch, compute_sample_weight

from skmmg import KNNGraph, MultiModalGraph, MultiModalGraphClassifier, NodeView, RadiusGraph
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGT, MLP
from skmmg.training import _train

Params = dict[str, Any]


def assert_same_weights(first: Any, second: Any) -> None:
    assert set(first.weights_) == set(second.weights_)
    for name, values in first.weights_.items():
        assert_array_equal(values, second.weights_[name], err_msg=name)


def differ(first: Any, second: Any) -> bool:
    return any(np.abs(first.weights_[k] - second.weights_[k]).max() > 1e-6 for k in first.weights_)


# ------------------------------------------------------------------------------ it learns


def test_nodes_are_classified(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params | {"max_epochs": 40}).fit(X[:40], y[:40])

    assert clf.score(X[40:], y[40:]) > 0.7
    assert_array_equal(clf.classes_, [0, 1, 2])
    assert clf.n_iter_ == len(clf.history_) <= 40
    assert 1 <= clf.best_epoch_ <= clf.n_iter_
    assert clf.schema_ == X.schema


def test_rows_are_classified(rows: Bunch, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params | {"max_epochs": 40, "modalities": rows.modalities})
    clf.fit(rows.data[:40], rows.target[:40])

    assert clf.score(rows.data[40:], rows.target[40:]) > 0.8
    assert clf.schema_.modalities == ("a", "b")
    assert clf.n_features_in_ == 7


def test_probabilities_and_their_logarithms_agree_with_the_prediction(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)

    proba = clf.predict_proba(X)

    assert_allclose(proba.sum(1), 1)
    assert_allclose(np.log(proba), clf.predict_log_proba(X))
    assert_array_equal(clf.classes_[proba.argmax(1)], clf.predict(X))
    assert clf.transform(X).shape == (60, 8)


@pytest.mark.parametrize("labels", [["a", "b", "c"], [-5, 0, 7], [True, False, True]])
def test_labels_come_back_as_they_came(
    labels: list[Any], X: NodeView, y: np.ndarray, params: Params
) -> None:
    named = np.array(labels)[y]

    clf = MultiModalGraphClassifier(**params).fit(X, named)

    assert_array_equal(clf.classes_, np.unique(labels))
    assert clf.predict(X).dtype == named.dtype
    assert set(clf.predict(X)) <= set(labels)


def test_labels_may_be_a_list_or_a_series(X: NodeView, y: np.ndarray, params: Params) -> None:
    from_array = MultiModalGraphClassifier(**params).fit(X, y)

    assert_same_weights(from_array, MultiModalGraphClassifier(**params).fit(X, y.tolist()))
    assert_same_weights(from_array, MultiModalGraphClassifier(**params).fit(X, pd.Series(y)))


def test_fitting_again_gives_the_same_numbers(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)
    first = clf.predict_proba(X)

    clf.fit(X[:20], y[:20]).fit(X, y)

    assert_array_equal(clf.predict_proba(X), first)


def test_an_estimator_can_go_from_rows_to_nodes_and_back(
    X: NodeView, y: np.ndarray, rows: Bunch, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(rows.data, rows.target)
    first = clf.predict_proba(rows.data)

    clf.fit(X, y)
    assert not hasattr(clf, "n_features_in_")
    clf.predict(X)
    clf.fit(rows.data, rows.target)

    assert_array_equal(clf.predict_proba(rows.data), first)


@pytest.mark.parametrize("graph", ["knn", "radius", "none", KNNGraph(3), RadiusGraph(0.9)])
def test_every_graph_of_rows_trains(graph: Any, rows: Bunch, params: Params) -> None:
    clf = MultiModalGraphClassifier(graph=graph, **params).fit(rows.data, rows.target)

    assert np.isfinite(clf.predict_proba(rows.data)).all()


def test_torchs_generator_is_left_as_it_was(X: NodeView, y: np.ndarray, params: Params) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002

    MultiModalGraphClassifier(**params).fit(X, y).predict(X)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


# ------------------------------------------------------------------------------ leakage


def disturb(graph: MultiModalGraph, ids: np.ndarray) -> MultiModalGraph:
    """The same graph with other features on some items."""
    disturbed = {}
    for modality, x in graph.x["item"].items():
        disturbed[modality] = x.copy()
        disturbed[modality][ids] += 3.0
    return graph.with_features({"item": disturbed})


@pytest.mark.parametrize(("setting", "leaks"), [("transductive", True), ("inductive", False)])
@pytest.mark.parametrize("validation", ["split", "given", "none"])
def test_held_out_features_reach_the_weights_in_the_transductive_setting_only(
    setting: str, leaks: bool, validation: str, X: NodeView, y: np.ndarray, params: Params
) -> None:
    other = disturb(X.graph, np.arange(40, 60)).nodes("item")
    clf = MultiModalGraphClassifier(
        setting=setting, early_stopping=validation != "none", **params | {"max_epochs": 3}
    )
    fitted = []
    for view in (X, other):
        given = {"X_val": view[30:40], "y_val": y[30:40]} if validation == "given" else {}
        fitted.append(clone(clf).fit(view[:30], y[:30], **given))

    assert differ(*fitted) is leaks
    if not leaks:
        assert_same_weights(*fitted)
        for name in ("train_loss", "valid_loss"):
            losses = [[row.get(name) for row in clf.history_] for clf in fitted]
            assert losses[0] == losses[1]


def test_held_out_labels_are_never_seen(X: NodeView, y: np.ndarray, params: Params) -> None:
    assert not hasattr(X.graph, "y")
    first = MultiModalGraphClassifier(**params).fit(X[:40], y[:40])
    second = MultiModalGraphClassifier(**params).fit(X[:40], np.append(y[:40], 1 - y[40:])[:40])

    assert_same_weights(first, second)


# ------------------------------------------------------------------------------ predictions


def test_predicting_the_fitted_rows_is_the_transductive_pass(rows: Bunch, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params | {"modalities": rows.modalities})
    clf.fit(rows.data, rows.target)
    edges = clf.rows_.edge_index
    focus = clf.rows_.focus()
    assert edges

    with torch.no_grad():
        data = clf._dataset(focus, rows.target, np.ones(60), torch.device("cpu"))
        output = clf.module_(data.graph, data.ids)

    assert_allclose(clf.predict_proba(rows.data), output.logits.softmax(1), atol=1e-6)


def test_a_rows_prediction_does_not_depend_on_the_batch(rows: Bunch, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params | {"modalities": rows.modalities})
    clf.fit(rows.data[:40], rows.target[:40])

    together = clf.predict_proba(rows.data)

    alone = np.vstack([clf.predict_proba(row[None]) for row in rows.data])
    backwards = clf.predict_proba(rows.data[::-1])[::-1]
    assert_allclose(alone, together, rtol=1e-9)
    assert_allclose(backwards, together, rtol=1e-9)


def test_a_nodes_prediction_does_not_depend_on_the_view(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X[:40], y[:40])
    everything = clf.predict_proba(X)

    assert_allclose(clf.predict_proba(X[[7, 3, 7]]), everything[[7, 3, 7]], rtol=1e-5)
    assert_allclose(clf.predict_proba(X[50:]), everything[50:], rtol=1e-5)


def test_a_graph_that_has_grown_is_predicted(X: NodeView, y: np.ndarray, params: Params) -> None:
    before, _ = X.graph.induced("item", np.arange(40))

    clf = MultiModalGraphClassifier(**params).fit(before.nodes("item"), y[:40])

    assert np.isfinite(clf.predict_proba(X[40:])).all()


def test_another_graph_of_the_same_schema_is_predicted(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params | {"max_epochs": 40}).fit(X, y)
    other = make_multimodal_graph(25, signal=4.0, n_features=6, random_state=1)

    assert clf.predict(other.graph.nodes("item")).shape == (25,)


def test_predicting_changes_nothing(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)
    before = dict(clf.__dict__)

    clf.predict(X), clf.transform(X), clf.modality_weights(X), clf.attention(X)

    assert clf.__dict__ == before


# ------------------------------------------------------------------------------ order


def rebuild(graph: MultiModalGraph, seed: int = 0) -> MultiModalGraph:
    """The same graph with everything that has an order in another one, but for the nodes."""
    rng = np.random.default_rng(seed)
    types = graph.node_types[::-1]
    nodes = {t: dict(reversed(graph.x[t].items())) or graph.n_nodes[t] for t in types}
    edges = {e: graph.edge_index[e] for e in graph.edge_types[::-1]}
    shuffled = {e: index[:, rng.permutation(index.shape[1])] for e, index in edges.items()}
    return MultiModalGraph(nodes, shuffled, add_reverse=False)


@pytest.mark.parametrize("missing", ["copy", "zero", "mean_neighbors", "learned"])
@pytest.mark.parametrize("model", ["hgnn_ima", "hgt", "mlp", "sehgnn", "idkg"])
def test_the_order_of_types_modalities_relations_and_edges_does_not_matter(
    model: str, missing: str, X: NodeView, y: np.ndarray
) -> None:
    clf = MultiModalGraphClassifier(
        model, missing=missing, max_epochs=3, lr=0.1, random_state=0, precision="float64"
    ).fit(X, y)
    other = rebuild(X.graph).nodes("item")
    assert other.graph.node_types != X.graph.node_types

    assert_allclose(clf.predict_proba(other), clf.predict_proba(X), rtol=1e-9)


def test_the_order_of_rows_does_not_matter(rows: Bunch, params: Params) -> None:
    order = np.random.default_rng(0).permutation(60)
    settings = params | {"early_stopping": False, "precision": "float64"}
    settings["model"] = clone(params["model"]).set_params(dropout=0.0)
    first = MultiModalGraphClassifier(**settings).fit(rows.data, rows.target)

    second = MultiModalGraphClassifier(**settings).fit(rows.data[order], rows.target[order])

    assert_allclose(second.predict_proba(rows.data), first.predict_proba(rows.data), rtol=1e-6)


def test_a_bare_matrix_is_one_modality(rows: Bunch, params: Params) -> None:
    bare = MultiModalGraphClassifier(**params).fit(rows.data, rows.target)
    named = MultiModalGraphClassifier(modalities={"x": slice(None)}, **params)
    named.fit(rows.data, rows.target)

    assert_same_weights(bare, named)


def test_a_bare_matrix_without_edges_is_a_graph_with_one_modality(
    rows: Bunch, params: Params
) -> None:
    clf = MultiModalGraphClassifier(graph="none", **params | {"precision": "float64"})
    view = MultiModalGraph({"x": rows.data}).nodes()

    on_rows, on_nodes = clone(clf).fit(rows.data, rows.target), clone(clf).fit(view, rows.target)

    for name, values in on_rows.weights_.items():
        assert_allclose(values, on_nodes.weights_[name], atol=1e-9)
    assert_allclose(on_rows.predict_proba(rows.data), on_nodes.predict_proba(view), atol=1e-9)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, sparse.dok_array])
def test_sparse_rows_are_as_dense_ones(form: Any, rows: Bunch, params: Params) -> None:
    data = rows.data * (np.abs(rows.data) > 1)
    clf = MultiModalGraphClassifier(scaling=None, **params | {"modalities": rows.modalities})

    dense, thin = clone(clf).fit(data, rows.target), clone(clf).fit(form(data), rows.target)

    assert_allclose(thin.predict_proba(form(data)), dense.predict_proba(data), atol=1e-4)


@pytest.mark.parametrize("scaling", ["auto", "standardize"])
def test_the_form_of_a_matrix_may_be_another_than_at_fit(
    scaling: str, rows: Bunch, params: Params
) -> None:
    def as_view(x: Any) -> NodeView:
        return MultiModalGraph({"x": x}).nodes()

    data = (rows.data + 3.0) * (np.abs(rows.data) > 1)
    forms = [data, sparse.csr_array(data)]
    for fitted in forms:
        clf = MultiModalGraphClassifier(scaling=scaling, **params).fit(fitted, rows.target)
        assert_allclose(*(clf.predict_proba(form) for form in forms), atol=1e-6)
        clf.set_params(setting="inductive").fit(as_view(fitted), rows.target)
        found = [clf.predict_proba(as_view(form)) for form in forms]
        blocks = clf.set_params(batch_size=7).predict_proba(as_view(forms[1]))
        assert_allclose(found[0], found[1], atol=1e-6)
        assert_allclose(blocks, found[0], atol=1e-6)


def test_columns_can_be_chosen_by_the_start_of_their_names(rows: Bunch, params: Params) -> None:
    frame = pd.DataFrame(rows.data, columns=[f"a_{i}" for i in range(4)] + ["b_0", "b_1", "b_2"])
    by_name = MultiModalGraphClassifier(modalities={"a": "a_", "b": "b_"}, **params)
    by_place = MultiModalGraphClassifier(modalities=rows.modalities, **params)

    by_name.fit(frame, rows.target)
    by_place.fit(rows.data, rows.target)

    assert_same_weights(by_name, by_place)
    assert_array_equal(by_name.predict(frame), by_place.predict(rows.data))
    assert list(by_name.feature_names_in_) == list(frame)


# ------------------------------------------------------------------------------ pickle


def test_a_pickle_carries_no_graph(params: Params) -> None:
    sizes = []
    for n_samples in (60, 1200):
        planted = make_multimodal_graph(n_samples, n_features=6, random_state=0)
        X = planted.graph.nodes("item")
        clf = MultiModalGraphClassifier(**params | {"max_epochs": 1}).fit(X, planted.target)
        sizes.append(len(pickle.dumps(clf)))
        assert sizes[-1] < len(pickle.dumps(planted.graph)) or n_samples == 60

    assert abs(sizes[1] - sizes[0]) < 500


@pytest.mark.parametrize("form", ["nodes", "rows"])
def test_a_pickle_keeps_the_predictions(
    form: str, X: NodeView, y: np.ndarray, rows: Bunch, params: Params
) -> None:
    data, target = (X, y) if form == "nodes" else (rows.data, rows.target)
    clf = MultiModalGraphClassifier(**params).fit(data, target)

    loaded = pickle.loads(pickle.dumps(clf))

    assert_array_equal(loaded.predict_proba(data), clf.predict_proba(data))
    assert "_module" not in clf.__getstate__()


def test_weights_that_cannot_be_written_to_are_loaded(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)
    state = clf.__getstate__()
    for values in state["weights_"].values():
        values.setflags(write=False)

    loaded = MultiModalGraphClassifier(warm_start=True)
    loaded.__setstate__(state)

    assert_array_equal(loaded.predict(X), clf.predict(X))
    loaded.set_params(warm_start=True).fit(X, y)


def test_a_fitted_state_is_not_changed_by_new_parameters(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)
    before = clf.predict_proba(X)

    clf.set_params(model__num_layers=3, model__hidden_channels=4, missing="zero", fusion="early")

    assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), before)


# ------------------------------------------------------------------------------ fit's options


def test_given_validation_data_is_watched(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params | {"max_epochs": 1})

    clf.fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])

    assert_allclose(clf.history_[0]["valid_acc"], clf.score(X[40:], y[40:]))


def test_given_validation_rows_are_watched(rows: Bunch, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params | {"max_epochs": 1})

    clf.fit(rows.data[:40], rows.target[:40], X_val=rows.data[40:], y_val=rows.target[40:])

    assert_allclose(
        clf.history_[0]["valid_acc"], clf.score(rows.data[40:], rows.target[40:]), atol=1e-6
    )


def test_without_early_stopping_all_nodes_are_trained_on_for_all_epochs(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(early_stopping=False, **params).fit(X, y)

    assert clf.n_iter_ == clf.best_epoch_ == 5
    assert "valid_loss" not in clf.history_[0]


@pytest.mark.parametrize("rule", [True, "loss_and_accuracy", "loss", "accuracy"])
def test_early_stopping_keeps_the_best_epoch(
    rule: bool | str, X: NodeView, y: np.ndarray, params: Params
) -> None:
    settings = params | {"max_epochs": 60, "lr": 0.3, "n_iter_no_change": 4}
    clf = MultiModalGraphClassifier(early_stopping=rule, validation_fraction=0.3, **settings)

    clf.fit(X, y)

    assert clf.n_iter_ < 60
    best = clf.history_[clf.best_epoch_ - 1]
    assert best["epoch"] == clf.best_epoch_
    if rule == "loss":
        assert best["valid_loss"] == min(row["valid_loss"] for row in clf.history_)
    if rule == "accuracy":
        assert best["valid_acc"] == max(row["valid_acc"] for row in clf.history_)


def test_balanced_class_weights_are_sample_weights(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    kept = np.flatnonzero((y == 0) | (np.arange(60) % 3 == 0))
    X, y = X[kept], y[kept]
    settings = params | {"early_stopping": False}
    balanced = compute_sample_weight("balanced", y)

    by_class = MultiModalGraphClassifier(class_weight="balanced", **settings).fit(X, y)

    by_sample = MultiModalGraphClassifier(**settings).fit(X, y, sample_weight=balanced)
    assert_same_weights(by_class, by_sample)
    assert differ(by_class, MultiModalGraphClassifier(**settings).fit(X, y))


@pytest.mark.parametrize("weight", [1e-50, 1e39, 1e300])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_weights_of_any_size_are_relative(
    weight: float, batch_size: int | None, X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(batch_size=batch_size, **params)
    plain = clone(clf).fit(X, y)
    assert_same_weights(clf.fit(X, y, sample_weight=np.full(len(y), weight)), plain)


@pytest.mark.parametrize("model", ["sehgnn", "idkg", "hgt"])
def test_a_sample_of_weight_zero_is_not_there(model: str, X: NodeView, y: np.ndarray) -> None:
    weight = np.ones(40)
    weight[::4] = 0.0
    changed = np.where(weight[:, None] > 0, y[:40, None], (y[:40, None] + 1) % 3)[:, 0]
    clf = MultiModalGraphClassifier(model, max_epochs=3, early_stopping=False, random_state=0)
    found = [clone(clf).fit(X[:40], c, weight).predict_proba(X) for c in (y[:40], changed)]
    assert_array_equal(found[0], found[1])


def test_class_weights_count_in_given_validation_data_too(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params | {"lr": 1e-9, "class_weight": {0: 9.0, 1: 0.5}})
    clf.set_params(model__dropout=0.0)

    history = clf.fit(X, y, X_val=X, y_val=y).history_  # the same nodes, weights that stay

    assert history[0]["valid_loss"] == pytest.approx(history[0]["train_loss"], rel=1e-5)


def test_a_fitted_estimator_keeps_its_columns(rows: Bunch, params: Params) -> None:
    modalities = {"a": slice(0, 3), "b": slice(3, 6)}
    clf = MultiModalGraphClassifier(modalities=modalities, **params).fit(rows.data, rows.target)
    before = clf.predict_proba(rows.data)

    modalities["a"], modalities["b"] = modalities["b"], modalities["a"]
    clf.set_params(modalities=None)

    assert_array_equal(clf.predict_proba(rows.data), before)


def test_fits_in_threads_are_the_fits_of_their_seeds(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    def fit(seed: int) -> np.ndarray:
        return (
            MultiModalGraphClassifier(**params | {"random_state": seed}).fit(X, y).predict_proba(X)
        )

    state = torch.get_rng_state()
    in_threads = Parallel(n_jobs=4, backend="threading")(delayed(fit)(s) for s in range(4))

    assert_array_equal(in_threads, [fit(seed) for seed in range(4)])
    assert torch.equal(torch.get_rng_state(), state)


def test_inference_mode_of_the_caller_does_not_stay_in_the_graph(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)
    other = X.graph.with_features({"item": dict(X.graph.x["item"])}).nodes("item")

    with torch.inference_mode():
        inside = clf.predict_proba(other)

    assert_array_equal(clone(clf).fit(other, y).predict_proba(other), inside)
    with torch.inference_mode():
        assert_array_equal(clone(clf).fit(X, y).predict_proba(X), inside)


def test_class_weights_may_be_given_by_name(X: NodeView, y: np.ndarray, params: Params) -> None:
    names = np.array(["a", "b", "c"])[y]
    settings = params | {"early_stopping": False}

    given = MultiModalGraphClassifier(class_weight={"a": 4.0}, **settings).fit(X, names)

    weight = np.where(names == "a", 4.0, 1.0)
    assert_same_weights(
        given, MultiModalGraphClassifier(**settings).fit(X, names, sample_weight=weight)
    )


def test_a_weight_of_zero_leaves_a_node_out(X: NodeView, y: np.ndarray, params: Params) -> None:
    weight = (np.arange(60) < 40).astype(float)
    clf = MultiModalGraphClassifier(**params | {"precision": "float64"})
    wrong = np.where(weight > 0, y, (y + 1) % 3)

    first = clone(clf).fit(X, y, sample_weight=weight)
    second = clone(clf).fit(X, wrong, sample_weight=weight)

    assert_same_weights(first, second)


def test_warm_start_goes_on_from_the_last_weights(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    settings = params | {"early_stopping": False, "max_epochs": 15}
    clf = MultiModalGraphClassifier(warm_start=True, **settings).fit(X, y)
    first = clf.history_

    clf.fit(X, y)

    assert clf.history_[0]["train_loss"] < 0.7 * first[0]["train_loss"]
    cold = MultiModalGraphClassifier(**settings).fit(X, y).fit(X, y)
    assert cold.history_[0]["train_loss"] == first[0]["train_loss"]


def test_warm_start_refuses_other_classes_another_schema_and_another_model(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(warm_start=True, **params).fit(X, y)
    before = clf.predict_proba(X)

    with pytest.raises(ValueError, match="warm_start=True needs the classes of the last fit"):
        clf.fit(X, y + 1)
    one = X.graph.with_features({"item": {"modality_0": X.graph.x["item"]["modality_0"]}})
    with pytest.raises(ValueError, match="warm_start=True needs the schema"):
        clf.fit(one.nodes("item"), y)
    with pytest.raises(ValueError, match="warm_start=True needs the model parameters"):
        clf.set_params(model__num_layers=3).fit(X, y)

    assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_learning_rate_can_follow_a_schedule(
    schedule: str, X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(lr_scheduler=schedule, **params).fit(X, y)

    rates = [row["event_lr"] for row in clf.history_]
    assert len(set(rates)) == len(rates)


@pytest.mark.parametrize("optimizer", list(_train.OPTIMIZERS))
def test_every_optimizer_can_be_chosen(
    optimizer: str, X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(optimizer=optimizer, **params).fit(X, y)

    assert np.isfinite(clf.predict_proba(X)).all()


def test_precision_decides_the_dtype(X: NodeView, y: np.ndarray, params: Params) -> None:
    double = MultiModalGraphClassifier(precision="float64", **params).fit(X, y)
    single = MultiModalGraphClassifier(**params).fit(X, y)

    assert {values.dtype for values in double.weights_.values()} == {np.dtype(np.float64)}
    assert {values.dtype for values in single.weights_.values()} == {np.dtype(np.float32)}
    assert double.transform(X).dtype == np.float64
    assert single.transform(X).dtype == np.float32
    assert_allclose(double.predict_proba(X), single.predict_proba(X), atol=1e-3)


# ------------------------------------------------------------------------------ looking inside


def test_modality_weights_are_a_table(X: NodeView, y: np.ndarray, params: Params) -> None:
    weights = MultiModalGraphClassifier(**params).fit(X, y).modality_weights(X[5:9])

    assert list(weights) == ["modality_0", "modality_1"]
    assert weights.shape == (4, 2)
    assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_attention_is_by_layer_and_relation_in_the_order_of_the_edges(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    params["model"].set_params(num_layers=2)
    clf = MultiModalGraphClassifier(**params).fit(X, y)

    layers = clf.attention(X[:3])

    assert len(layers) == 2
    for edge_type, index in X.graph.edge_index.items():
        n_edges = index.shape[1]
        assert layers[0].weight[edge_type].shape == (n_edges, 2)
        assert layers[0].alpha[edge_type].shape == (n_edges, 2, 2)
        assert_allclose(layers[0].lam[edge_type].sum(1), 1, atol=1e-5)
    weights = _sum_by_destination(layers[1].weight, X.graph, "item")
    assert_allclose(weights, 1, atol=1e-5)


def _sum_by_destination(weight: Any, graph: MultiModalGraph, node_type: str) -> np.ndarray:
    total = np.zeros((graph.n_nodes[node_type], 2))
    for edge_type, index in graph.edge_index.items():
        if edge_type[2] == node_type:
            np.add.at(total, index[1], weight[edge_type].numpy())
    return total


@pytest.mark.parametrize(
    ("model", "fusion", "used"),
    [
        ("hgt", None, "late"),
        ("hgt", "early", "early"),
        ("mlp", None, "early"),
        ("hgnn_ima", None, None),
    ],
)
def test_the_fusion_that_was_used_is_known(
    X: NodeView, y: np.ndarray, params: Params, model: str, fusion: str | None, used: str | None
) -> None:
    clf = MultiModalGraphClassifier(**params | {"model": model, "fusion": fusion}).fit(X, y)
    assert clf.fusion_ == used


def test_attention_needs_a_view_and_a_model_that_has_some(
    X: NodeView, y: np.ndarray, rows: Bunch, params: Params
) -> None:
    on_rows = MultiModalGraphClassifier(**params).fit(rows.data, rows.target)
    with pytest.raises(TypeError, match="X has to be a NodeView, got ndarray"):
        on_rows.attention(rows.data)
    clf = MultiModalGraphClassifier(**params | {"model": MLP()}).fit(X, y)
    with pytest.raises(ValueError, match=r"MLP\(\) keeps no attention over edges"):
        clf.attention(X)


# ------------------------------------------------------------------------------ parameters


def test_parameters_of_a_named_model_and_graph_are_parameters(params: Params) -> None:
    clf = MultiModalGraphClassifier("hgt")

    names = clf.get_params()

    assert (names["model"], names["model__heads"], names["graph__n_neighbors"]) == ("hgt", 8, 10)
    assert set(clf.get_params(deep=False)) == {n for n in names if "__" not in n}
    clf.set_params(model__heads=4, graph__n_neighbors=3, lr=0.5)
    assert isinstance(clf.model, HGT)
    assert (clf.model.heads, clf.graph.n_neighbors, clf.lr) == (4, 3, 0.5)
    assert clf.get_params()["model__heads"] == 4


def test_a_model_and_its_parameters_can_be_set_together() -> None:
    clf = MultiModalGraphClassifier().set_params(model="hgt", model__heads=2)

    assert clf.model.heads == 2
    assert isinstance(clf.model, HGT)


def test_a_clone_has_a_spec_of_its_own() -> None:
    clf = MultiModalGraphClassifier(HGT(heads=4))

    copy = clone(clf).set_params(model__heads=2)

    assert (clf.model.heads, copy.model.heads) == (4, 2)
    assert clone(MultiModalGraphClassifier("hgt")).model == "hgt"


def test_parameters_show_in_both_representations() -> None:
    clf = MultiModalGraphClassifier("hgt", lr=0.5)

    assert repr(clf) == "MultiModalGraphClassifier(lr=0.5, model='hgt')"
    assert "lr" in clf._repr_html_()


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ({"model": "hgnn_imma", "model__heads": 2}, "Those that have some are: hgnn_ima, "),
        ({"model__hedas": 2}, "Invalid parameter 'hedas' for estimator"),
        ({"graph": "none", "graph__n_neighbors": 2}, "graph='none'"),
    ],
)
def test_a_nested_parameter_that_is_not_there_is_an_error(
    nested: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MultiModalGraphClassifier().set_params(**nested)


def test_a_model_that_takes_no_edge_weights_says_so(y: np.ndarray, params: Params) -> None:
    rng = np.random.default_rng(0)
    weights = sparse.random_array((len(y), 5), density=0.5, rng=rng)
    graph = MultiModalGraph(
        {"a": {"x": rng.normal(size=(len(y), 3))}, "b": 5}, {("a", "rates", "b"): weights}
    )

    with pytest.warns(UserWarning, match="'hgnn_ima' takes no weights of edges"):
        MultiModalGraphClassifier(**params).fit(graph.nodes("a"), y)
