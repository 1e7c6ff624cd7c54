"""CrossModalRetriever: it finds pairs and classes, nothing leaks, its errors tell."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils import Bunch

from skmmg import (
    CrossModalRetriever,
    MultiModalGraph,
    NodeView,
    RadiusGraph,
    stack_graphs,
    stack_modalities,
)
from skmmg.estimators._base import GraphEstimator
from skmmg.graph import KNNGraph
from skmmg.metrics import make_retrieval_scorer
from skmmg.models import HERO, HGNNIMA, HGT, IDKG, MLP, MMGCN, MODELS, HetGNN
from skmmg.models.dual_mlp import DualMLP
from skmmg.nn._knowledge_graph import embed_entities
from skmmg.retrieval import load_index

N = 60
SMALL = MMGCN(hidden_channels=16, dropout=0.1)
NETWORKS = [
    SMALL,
    DualMLP(hidden_channels=16),
    HGNNIMA(hidden_channels=8, heads=2, num_layers=2),
    HGT(hidden_channels=8, heads=2),
    MLP(hidden_channels=16),
]


@pytest.fixture(scope="module")
def pairs() -> Bunch:
    """60 items of three classes: text and image are two linear views of one latent vector."""
    rng = np.random.default_rng(0)
    target = np.arange(N) % 3
    latent = rng.normal(size=(N, 4)) + 4.0 * np.eye(4)[target]
    blocks = {
        "text": latent @ rng.normal(size=(4, 7)) + 0.05 * rng.normal(size=(N, 7)),
        "image": latent @ rng.normal(size=(4, 5)) + 0.05 * rng.normal(size=(N, 5)),
    }
    data, columns = stack_modalities(blocks)
    return Bunch(data=data, columns=columns, target=target, blocks=blocks)


@pytest.fixture(scope="module")
def network(pairs: Bunch) -> MultiModalGraph:
    """The same items, with edges to a type without features."""
    rng = np.random.default_rng(1)
    edges = {
        ("item", "cites", "item"): rng.integers(N, size=(2, 150)),
        ("item", "by", "author"): np.stack([np.arange(N), rng.integers(9, size=N)]),
    }
    return MultiModalGraph({"item": pairs.blocks, "author": 9}, edges)


def make(pairs: Bunch | None = None, model: Any = SMALL, **params: Any) -> CrossModalRetriever:
    defaults = {"max_epochs": 5, "lr": 0.02, "early_stopping": False, "random_state": 0}
    columns = {} if pairs is None else {"modalities": pairs.columns}
    return CrossModalRetriever(model=model, **{**defaults, **columns, **params})


def without(pairs: Bunch, modality: str, rows: Any = slice(None)) -> np.ndarray:
    X = pairs.data.copy()
    X[rows, pairs.columns[modality]] = np.nan
    return X


# ------------------------------------------------------------------------------ it learns


@pytest.mark.parametrize("model", [SMALL, "dual_mlp", "cca"], ids=repr)
def test_an_item_is_found_by_its_other_modality(model: Any, pairs: Bunch) -> None:
    fitted = make(pairs, model, max_epochs=80).fit(pairs.data[:40])

    chance = 5 / 20
    assert fitted.score(pairs.data[40:]) > 2 * chance
    assert fitted.score(pairs.data[40:], query="image", gallery="text") > 2 * chance


@pytest.mark.parametrize("model", [SMALL, "dual_mlp", "semantic"], ids=repr)
def test_items_of_the_class_are_found_where_there_are_labels(model: Any, pairs: Bunch) -> None:
    fitted = make(pairs, model, max_epochs=80).fit(pairs.data[:40], pairs.target[:40])

    ids = fitted.kneighbors(pairs.data[40:], n_neighbors=3, return_distance=False)

    found = pairs.target[:40][ids] == pairs.target[40:, None]
    assert found.mean() > 0.9
    assert fitted.score(pairs.data[40:], pairs.target[40:]) > 0.9


def test_the_form_of_queries_may_be_another_than_at_fit(pairs: Bunch) -> None:
    fitted = make(pairs, "dual_mlp").fit(pairs.data + 1.0)
    queries = pairs.data[:9] + 1.0
    assert_allclose(fitted.transform(csr_array(queries)), fitted.transform(queries), atol=1e-6)


def test_labels_make_items_of_a_class_answer_each_other(pairs: Bunch) -> None:
    X, y = pairs.data, pairs.target
    paired = make(pairs, objective="pairs").fit(X, y)

    assert_array_equal(paired.transform(X), make(pairs).fit(X).transform(X))
    assert np.abs(make(pairs).fit(X, y).transform(X) - paired.transform(X)).max() > 1e-3


def test_classification_is_learnt_beside(pairs: Bunch) -> None:
    fitted = make(pairs, classification_weight=1.0).fit(pairs.data, pairs.target)

    assert {"train_contrast", "train_ce", "train_acc"} <= set(fitted.history_[0])
    assert "train_ce" not in make(pairs).fit(pairs.data, pairs.target).history_[0]


@pytest.mark.parametrize("model", NETWORKS, ids=repr)
def test_every_network_takes_rows_and_views(
    model: Any, pairs: Bunch, network: MultiModalGraph
) -> None:
    on_rows = make(pairs, model, max_epochs=2).fit(pairs.data[:40])
    X = network.nodes("item")
    on_view = make(None, model, max_epochs=2).fit(X[:40])

    for fitted, new in ((on_rows, pairs.data[40:]), (on_view, X[40:])):
        distances, ids = fitted.kneighbors(new)
        assert distances.shape == ids.shape == (20, 5)
        assert np.isfinite(distances).all()
        assert (np.diff(distances, axis=1) >= 0).all()
        assert_allclose(np.linalg.norm(fitted.transform(new), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("model", [n for n in MODELS if n not in ("shgp", "hero", "mm_gcn_pool")])
def test_every_other_model_finds_pairs(model: str, pairs: Bunch) -> None:
    fitted = make(pairs, model, max_epochs=15).fit(pairs.data[:40])

    assert fitted.score(pairs.data[40:]) > 1.5 * 5 / 20


def test_a_knowledge_graph_is_learnt_once_from_all_edges(
    network: MultiModalGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def embed(triples: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(triples))
        return embed_entities(triples, *args, **kwargs)

    monkeypatch.setattr("skmmg.nn._entity_features.embed_entities", embed)

    make(None, IDKG(kg_epochs=1), max_epochs=5).fit(network.nodes("item"))

    assert seen == [2 * (150 + N)]  # the edges of the network and their reverse


def test_folds_are_as_many_as_keep_them_small(
    pairs: Bunch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skmmg.estimators._query_encoder._FOLD_SIZE", 8)
    monkeypatch.setattr("skmmg.estimators._folds._MOST_EDGES", 0)

    auto, eight = (make(pairs, n_folds=n).fit(pairs.data) for n in ("auto", 8))

    assert np.bincount(auto.folds_.codes).tolist() == [8, 8, 8, 8, 7, 7, 7, 7]
    assert_array_equal(auto.transform(pairs.data), eight.transform(pairs.data))
    monkeypatch.undo()
    kept = make(pairs, n_folds=8).fit(pairs.data)
    assert_array_equal(kept.transform(pairs.data), eight.transform(pairs.data))
    assert_array_equal(
        make(pairs).fit(pairs.data).transform(pairs.data),
        make(pairs, n_folds=2).fit(pairs.data).transform(pairs.data),
    )


@pytest.mark.parametrize("temperature", [0.5, "learned"])
def test_the_temperature_is_fixed_or_learnt(temperature: Any, pairs: Bunch) -> None:
    fitted = make(pairs, temperature=temperature).fit(pairs.data)

    assert np.isfinite([row["train_loss"] for row in fitted.history_]).all()


def test_a_fixed_temperature_is_taken_as_it_is(pairs: Bunch) -> None:
    losses = [
        make(pairs, temperature=t, max_epochs=1).fit(pairs.data).history_[0]["train_loss"]
        for t in (1e-4, 1e-3, 0.01)
    ]

    assert np.isfinite(losses).all()
    assert losses[0] > 5 * losses[1] > 25 * losses[2]  # of wrong answers that are nearer


def test_early_stopping_watches_items_that_never_speak(pairs: Bunch) -> None:
    fitted = make(pairs, early_stopping=True, max_epochs=60, n_iter_no_change=3, lr=0.1)
    fitted.fit(pairs.data)

    losses = [row["valid_loss"] for row in fitted.history_]
    assert fitted.n_iter_ < 60
    assert fitted.best_epoch_ == int(np.argmin(losses)) + 1


# ------------------------------------------------------------------------------ nothing leaks


@pytest.mark.parametrize("attach", ["neighbors", "none"])
@pytest.mark.parametrize("model", NETWORKS, ids=repr)
def test_the_other_modality_of_a_query_never_reaches_it(
    model: Any, attach: str, pairs: Bunch, network: MultiModalGraph
) -> None:
    rng = np.random.default_rng(2)
    other = pairs.data.copy()
    other[40:, pairs.columns["image"]] = rng.normal(size=(20, 5))
    changed = network.with_features(
        {"item": {m: other[:, columns] for m, columns in pairs.columns.items()}}
    )
    fitted = make(pairs, model, attach=attach, max_epochs=2).fit(pairs.data[:40])
    on_view = make(None, model, attach=attach, max_epochs=2, scaling=None)
    on_view.fit(network.nodes("item")[:40])

    new, changed_new = (g.nodes("item")[40:] for g in (network, changed))

    assert_array_equal(
        fitted.transform(other[40:], "text"), fitted.transform(pairs.data[40:], "text")
    )
    assert_array_equal(on_view.transform(changed_new, "text"), on_view.transform(new, "text"))
    assert np.abs(fitted.transform(other[40:], "*") - fitted.transform(pairs.data[40:], "*")).any()


@pytest.mark.parametrize("missing", ["zero", "mean_neighbors"])
@pytest.mark.parametrize("model", NETWORKS[:3], ids=repr)
@pytest.mark.parametrize("graph", [KNNGraph(5), KNNGraph(5, combine="union"), RadiusGraph(0.4)])
def test_the_other_modality_of_a_fitted_item_never_reaches_it(
    graph: Any, model: Any, missing: str, pairs: Bunch
) -> None:
    params = {"graph": graph, "missing": missing, "scaling": None, "max_epochs": 1}
    other = pairs.data.copy()
    other[9, pairs.columns["image"]] = np.nan  # filled from its neighbours, or not
    pairs = Bunch(data=np.where(np.isnan(other), np.nan, pairs.data), columns=pairs.columns)
    other[7, pairs.columns["image"]] *= -3.0
    first, second = (make(pairs, model, **params).fit(data) for data in (pairs.data, other))

    second.weights_ = first.weights_
    second.__setstate__(second.__getstate__())  # the same network on the other rows
    vectors = [r._encode_all(r.rows_.focus())["text"][0] for r in (first, second)]

    assert_array_equal(vectors[0][7], vectors[1][7])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-6 or isinstance(model, DualMLP)


def test_in_training_too_what_a_fold_is_reaches_nothing_but_its_own_vectors(
    network: MultiModalGraph,
) -> None:
    import torch

    from skmmg.estimators._folds import QueryGraphs
    from skmmg.training import column_statistics, graph_tensors

    folds = np.arange(N) % 3
    X = network.nodes("item")
    moved = {m: x + (folds == 1)[:, None] for m, x in network.x["item"].items()}
    module = SMALL.build(X.schema, 4).double().eval()
    graphs = [
        network,
        network.with_features({"item": {**moved, "text": network.x["item"]["text"]}}),
    ]
    seen = []
    for graph in graphs:
        tensors = graph_tensors(
            graph,
            column_statistics(graph, None),
            device=torch.device("cpu"),
            dtype=torch.float64,
        )
        made = QueryGraphs("item", folds, 3, None, "neighbors")(tensors, 1, "text")
        with torch.no_grad():
            seen.append(module(made, torch.arange(N)).logits.numpy())

    assert_array_equal(seen[0], seen[1])


def test_on_a_view_items_that_were_not_fitted_are_silent(network: MultiModalGraph) -> None:
    X = network.nodes("item")
    fitted = make(None).fit(X[:40])

    together = fitted.transform(X[40:], "text")

    assert_allclose(fitted.transform(X[45:46], "text"), together[5:6], rtol=1e-5, atol=1e-6)


def test_a_row_does_not_depend_on_the_rows_it_comes_with(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data[:40])

    alone = np.vstack([fitted.transform(row[None]) for row in pairs.data[40:45]])

    assert_allclose(alone, fitted.transform(pairs.data[40:45]), rtol=1e-9)


# ------------------------------------------------------------------------------ searching


def test_neighbours_are_those_with_the_largest_cosine(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data[:40])

    distances, ids = fitted.kneighbors(pairs.data[40:], 7, query="image", gallery="text")

    cosine = fitted.transform(pairs.data[40:], "image") @ fitted.embedding_["text"].T
    assert_allclose(distances, 1 - np.sort(cosine, axis=1)[:, ::-1][:, :7], atol=1e-5)
    assert_allclose(np.take_along_axis(cosine, ids, 1), 1 - distances, atol=1e-5)


def test_rows_that_have_the_query_modality_alone_keep_the_columns_of_fit(pairs: Bunch) -> None:
    names = [f"text_{i}" for i in range(7)] + [f"image_{i}" for i in range(5)]
    frame = pd.DataFrame(pairs.data, columns=names)
    fitted = make(modalities={"text": "text_", "image": "image_"}).fit(frame[:40])
    text = frame.iloc[40:, :7]

    with pytest.raises(ValueError, match="feature names") as error:
        fitted.kneighbors(text)
    asked = fitted.transform(text.reindex(columns=fitted.feature_names_in_))

    assert "X.reindex(columns=estimator.feature_names_in_)" in error.value.__notes__[0]
    assert_array_equal(asked, fitted.transform(frame[40:]))


def test_nodes_that_have_the_query_modality_alone_name_the_others(
    network: MultiModalGraph,
) -> None:
    fitted = make(None).fit(network.nodes("item")[:40])
    text, image = network.x["item"]["text"], network.x["item"]["image"].copy()
    nobody = {"item": {"image": np.zeros(N, dtype=bool)}}

    with pytest.raises(
        ValueError, match=r"give 'image' rows of NaN, and masks=\{'item': \{'image'"
    ):
        fitted.kneighbors(network.with_features({"item": {"text": text}}).nodes("item"))
    image[40:] = np.nan
    new = network.with_features({"item": {"text": text, "image": image}})
    none = np.full_like(image, np.nan)
    alone = new.with_features({"item": {"text": text, "image": none}}, masks=nobody)

    asked = fitted.transform(new.nodes("item")[40:])
    assert_array_equal(asked, fitted.transform(network.nodes("item")[40:]))
    assert fitted.kneighbors(alone.nodes("item"))[1].shape == (N, 5)


def test_missing_changes_nothing_for_dual_mlp(pairs: Bunch) -> None:
    X = without(pairs, "image", [3, 5, 41])
    vectors = [
        make(pairs, "dual_mlp", query="*", missing=missing).fit(X[:40]).transform(X[40:])
        for missing in ("zero", "learned", "mean_neighbors", "copy")
    ]

    for other in vectors[1:]:
        assert_array_equal(other, vectors[0])


def test_incomplete_items_take_part_where_they_can(pairs: Bunch) -> None:
    X = without(pairs, "image", [3, 5, 41])

    fitted = make(pairs, model=SMALL).fit(X[:40])

    by_text = fitted.kneighbors(X[40:42], 37, query="text", gallery="image", return_distance=False)
    assert not np.isin([3, 5], by_text).any()
    within_text = fitted.kneighbors(X[40:42], 40, gallery="text", return_distance=False)
    assert np.isin([3, 5], within_text).all()
    assert not fitted.embedding_["image"][[3, 5]].any()
    assert np.isfinite(fitted.kneighbors(X[40:42], query="*")[0]).all()


def test_queries_may_come_without_the_other_modality(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data[:40])
    texts = without(pairs, "image")[40:]

    assert_array_equal(fitted.transform(texts), fitted.transform(pairs.data[40:]))


@pytest.mark.parametrize("model", [SMALL, "cca"], ids=repr)
def test_the_gallery_grows_without_a_new_fit(model: Any, pairs: Bunch) -> None:
    X = without(pairs, "image", [45])
    fitted = make(pairs, model).fit(X[:40])
    before = fitted.embedding_["image"]

    fitted.kneighbors(X[40:], gallery="text")
    fitted.add(X[40:50]).add(X[50:])

    assert fitted.n_items_ == 60
    assert_array_equal(fitted.embedding_["image"][:40], before)
    assert_allclose(
        fitted.embedding_["image"][46], fitted.transform(X[46:47], "image")[0], atol=1e-6
    )
    has_image = np.delete(np.arange(40, 60), 5)
    for gallery, rows in (("image", has_image), ("text", np.arange(40, 60))):
        nearest = fitted.kneighbors(X[rows], 1, False, query=gallery, gallery=gallery)
        assert_array_equal(nearest[:, 0], rows)
    assert 45 not in fitted.kneighbors(X[40:], 59, gallery="image", return_distance=False)


def test_an_add_that_fails_leaves_the_items_that_were_there(
    pairs: Bunch, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = make(pairs).fit(pairs.data[:40])
    expected = make(pairs).fit(pairs.data[:40]).add(pairs.data[40:])
    fitted.kneighbors(pairs.data, gallery="text")
    add, calls = type(fitted.index_).add, iter([True])

    def fail_the_second_time(self: Any, *args: Any) -> Any:
        if next(calls, None):
            return add(self, *args)
        raise ConnectionError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(type(fitted.index_), "add", fail_the_second_time)
        with pytest.raises(ConnectionError, match="gone"):
            fitted.add(pairs.data[40:])

    assert fitted.n_items_ == len(fitted.index_) == 40
    fitted.add(pairs.data[40:])
    for gallery in ("image", "text"):
        found, wanted = (r.kneighbors(pairs.data, gallery=gallery)[1] for r in (fitted, expected))
        assert_array_equal(found, wanted)


def test_adding_to_a_copy_leaves_the_original(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data[:40])

    copied = copy.copy(fitted).add(pairs.data[40:])

    assert copied.n_items_ == len(copied.index_) == 60
    assert fitted.n_items_ == len(fitted.index_) == 40
    assert fitted.kneighbors(pairs.data, return_distance=False).max() < 40


@pytest.mark.parametrize(
    ("index", "options"),
    [
        ("faiss_hnsw", {"m": 8, "ef_search": 40}),
        ("faiss_ivf", {"n_lists": 4, "n_probe": 1}),
        ("auto", {"threshold": 10, "n_sample": 20, "k": 3}),
        ("exact", {}),
    ],
)
@pytest.mark.parametrize("model", [SMALL, "cca"], ids=repr)
def test_another_index_answers_as_if_it_had_been_there_at_fit(
    model: Any, index: str, options: dict[str, Any], pairs: Bunch
) -> None:
    pytest.importorskip("faiss")
    expected = make(pairs, model, index=index, index_params=options).fit(pairs.data)
    fitted = make(pairs, model).fit(pairs.data)
    fitted.kneighbors(pairs.data, gallery="text")  # an index of the old kind

    assert fitted.set_index(index, **options) is fitted

    assert fitted.index == index
    assert (fitted.index_params or {}) == options
    loaded = pickle.loads(pickle.dumps(fitted))
    for gallery in ("image", "text"):
        wanted = expected.kneighbors(pairs.data, 3, gallery=gallery)
        for retriever in (fitted, loaded):
            for got, answer in zip(
                retriever.kneighbors(pairs.data, 3, gallery=gallery), wanted, strict=True
            ):
                assert_array_equal(got, answer)


def test_another_index_has_the_items_that_were_added(pairs: Bunch) -> None:
    pytest.importorskip("faiss")
    fitted = make(pairs).fit(pairs.data[:40]).add(pairs.data[40:])
    wanted = fitted.kneighbors(pairs.data, return_distance=False)

    fitted.set_index("faiss_hnsw", ef_search=200)

    assert fitted.n_items_ == len(fitted.index_) == 60
    assert_array_equal(fitted.kneighbors(pairs.data, return_distance=False), wanted)
    fitted.set_index("exact").add(pairs.data[:2])
    assert fitted.n_items_ == len(fitted.index_) == 62


@pytest.mark.parametrize(
    ("index", "options", "error", "message"),
    [
        ("hnsw", {}, ValueError, "index must be one of .* got 'hnsw'"),
        ("exact", {"m": 3}, TypeError, r"Options of index 'exact' are \[\], got 'm'"),
        (
            3,
            {},
            ValueError,
            "'index' parameter of CrossModalRetriever must be an instance of 'str'",
        ),
        ("auto", {"k": 0}, ValueError, "k must be"),
    ],
)
def test_an_index_that_cannot_be_made_leaves_the_one_that_was_there(
    index: Any, options: dict[str, Any], error: type[Exception], message: str, pairs: Bunch
) -> None:
    fitted = make(pairs, "cca").fit(pairs.data)
    before, params = fitted.index_, fitted.get_params()

    with pytest.raises(error, match=message):
        fitted.set_index(index, **options)

    assert fitted.index_ is before
    assert fitted.get_params() == params


def test_parameters_of_the_index_wait_for_the_next_fit(pairs: Bunch) -> None:
    fitted = make(pairs, "cca").fit(pairs.data)

    fitted.set_params(index="auto", index_params={"k": 3})

    assert fitted.index_.name == "exact"
    assert fitted.fit(pairs.data).index_.name == "auto"


def test_items_of_the_gallery_can_be_the_queries(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data)

    same = fitted.kneighbors(n_neighbors=3, query="text", gallery="text", return_distance=False)
    across = fitted.kneighbors(n_neighbors=60, return_distance=False)

    assert (same != np.arange(N)[:, None]).all()
    assert (np.sort(across, axis=1) == np.arange(N)).all()


def test_the_graph_of_neighbours_is_sparse(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data[:40])

    ones = fitted.kneighbors_graph(pairs.data[40:], 3)
    distances = fitted.kneighbors_graph(pairs.data[40:], 3, mode="distance")

    assert ones.shape == distances.shape == (20, 40)
    assert (ones.sum(axis=1) == 3).all()
    found = fitted.kneighbors(pairs.data[40:], 3)
    assert_allclose(distances[0, found[1][0]].toarray().ravel(), found[0][0])


def test_the_graph_of_neighbours_leaves_out_what_was_not_found() -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 12))
    options = {"index": "faiss_ivf", "index_params": {"n_probe": 1, "n_lists": 15}}
    modalities = {"text": slice(0, 7), "image": slice(7, 12)}
    fitted = make(None, "cca", modalities=modalities, **options).fit(X)

    graph = fitted.kneighbors_graph(X[:5], 500, mode="distance")

    distances, ids = fitted.kneighbors(X[:5], 500)
    assert (ids < 0).any()
    for row, (values, found) in enumerate(zip(distances, ids, strict=True)):
        assert_array_equal(graph[[row]].indices, found[found >= 0])
        assert_array_equal(graph[[row]].data, values[found >= 0])
    graph.check_format()


def test_the_index_measures_with_queries_of_the_other_modality(pairs: Bunch) -> None:
    pytest.importorskip("faiss")
    options = {"threshold": 10, "n_sample": 20, "k": 3}

    fitted = make(pairs, index="auto", index_params=options).fit(pairs.data)

    assert fitted.index_.measured_["queries"] == "given"
    exact = make(pairs).fit(pairs.data)
    assert_array_equal(
        fitted.kneighbors(pairs.data, return_distance=False),
        exact.kneighbors(pairs.data, return_distance=False),
    )


def test_a_warm_start_needs_the_columns_and_components_of_the_last_fit(pairs: Bunch) -> None:
    def view(names: str) -> NodeView:
        frame = pd.DataFrame(pairs.blocks["image"], columns=list(names))
        return MultiModalGraph({"text": pairs.blocks["text"], "image": frame}).nodes()

    spec = DualMLP(hidden_channels=8, dropout=0.0, input_dropout=0.0)
    settings = {"model": spec, "max_epochs": 2, "early_stopping": False, "random_state": 0}
    fitted = CrossModalRetriever("text", "image", **settings, warm_start=True).fit(view("abcde"))
    before = fitted.history_[-1]["train_loss"]

    assert fitted.fit(view("abcde")).history_[0]["train_loss"] < before
    for params, names in (({}, "edcba"), ({"n_components": 3}, "abcde")):
        with pytest.raises(ValueError, match="warm_start=True needs the schema, the columns"):
            fitted.set_params(**params).fit(view(names))


def test_an_index_can_be_saved(pairs: Bunch, tmp_path: Path) -> None:
    fitted = make(pairs).fit(pairs.data)
    fitted.index_.save(tmp_path / "index")

    found = load_index(tmp_path / "index").search(fitted.transform(pairs.data), 5)

    assert_array_equal(found[1], fitted.kneighbors(pairs.data, return_distance=False))


@pytest.mark.usefixtures("local_qdrant")
@pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning")
def test_in_a_database_every_modality_has_a_collection(pairs: Bunch, tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    fitted = make(pairs, index="qdrant", index_params={"path": str(tmp_path)}).fit(pairs.data)

    there = fitted.kneighbors(pairs.data[:3], 2, return_distance=False)
    back = fitted.kneighbors(pairs.data[:3], 2, False, query="image", gallery="text")

    exact = make(pairs).fit(pairs.data)
    assert_array_equal(there, exact.kneighbors(pairs.data[:3], 2, False))
    assert_array_equal(
        back, exact.kneighbors(pairs.data[:3], 2, False, query="image", gallery="text")
    )


@pytest.mark.usefixtures("local_qdrant")
@pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning")
def test_a_pickle_searches_the_collections_that_are_there(pairs: Bunch, tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    options = {"index": "qdrant", "index_params": {"path": str(tmp_path)}}
    fitted = make(pairs, "cca", **options).fit(pairs.data[:40])
    expected = fitted.kneighbors(pairs.data)

    loaded = pickle.loads(pickle.dumps(fitted))

    for retriever in (loaded, fitted, loaded):
        for found, wanted in zip(retriever.kneighbors(pairs.data), expected, strict=True):
            assert_allclose(found, wanted, atol=1e-6)


def test_more_than_two_modalities_are_in_one_space() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(50, 3))
    blocks = {m: latent @ rng.normal(size=(3, 6)) for m in ("text", "image", "sound")}
    X, columns = stack_modalities(blocks)

    fitted = make(None, modalities=columns, query="*", gallery="sound").fit(X[:40])

    for query in ("text", "image", "sound", "*"):
        for gallery in ("text", "image", "sound", "*"):
            assert fitted.kneighbors(X[40:], 2, query=query, gallery=gallery)[1].shape == (10, 2)


def test_the_score_is_recall_of_pairs_or_precision_of_classes(pairs: Bunch) -> None:
    fitted = make(pairs, n_neighbors=4).fit(pairs.data[:40])
    X, y = pairs.data[40:], pairs.target[40:]
    q, g = fitted.transform(X, "text"), fitted.transform(X, "image")
    order = np.argsort(-(q @ g.T), axis=1)

    found = (order[:, :4] == np.arange(20)[:, None]).any(1).mean()
    hits = y[order] == y[:, None]
    precision = (hits.cumsum(1) / np.arange(1, 21) * hits).sum(1) / hits.sum(1)

    assert fitted.score(X) == pytest.approx(found)
    assert fitted.score(X, y) == pytest.approx(precision.mean())


# ------------------------------------------------------------------------------ scikit-learn


def test_a_grid_search_finds_parameters_of_the_model(pairs: Bunch) -> None:
    grid = {"model__hidden_channels": [4, 8], "temperature": [0.1, 0.5]}

    search = GridSearchCV(make(pairs, "mm_gcn", max_epochs=2), grid, cv=2).fit(pairs.data)

    assert set(search.best_params_) == set(grid)
    by_name = GridSearchCV(make(pairs, max_epochs=2), {"model": ["cca", "dual_mlp"]}, cv=2)
    assert by_name.fit(pairs.data).best_params_["model"] in ("cca", "dual_mlp")


def test_our_scorers_score_it(pairs: Bunch) -> None:
    fitted = make(pairs, n_neighbors=4).fit(pairs.data[:40])

    recall = make_retrieval_scorer("recall_at_k", k=4)(fitted, pairs.data[40:])
    precision = make_retrieval_scorer("mean_average_precision", k=None)
    back = precision(fitted, pairs.data[40:], pairs.target[40:])

    assert recall == pytest.approx(fitted.score(pairs.data[40:]))
    assert back == pytest.approx(fitted.score(pairs.data[40:], pairs.target[40:]))


@pytest.mark.parametrize("model", [SMALL, "cca", "semantic"], ids=repr)
def test_a_pickle_finds_the_same(model: Any, pairs: Bunch) -> None:
    fitted = make(pairs, model).fit(pairs.data[:40], pairs.target[:40])

    loaded = pickle.loads(pickle.dumps(fitted))

    for first, second in zip(
        fitted.kneighbors(pairs.data[40:]), loaded.kneighbors(pairs.data[40:]), strict=True
    ):
        assert_array_equal(first, second)


def test_the_same_seed_gives_the_same_vectors(pairs: Bunch) -> None:
    first, second, other = (
        make(pairs, random_state=seed).fit(pairs.data).embedding_["text"] for seed in (0, 0, 1)
    )

    assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3


def test_output_has_names(pairs: Bunch) -> None:
    fitted = make(pairs, n_components=3).fit(pairs.data)

    assert list(fitted.get_feature_names_out()) == [f"crossmodalretriever{i}" for i in range(3)]
    assert fitted.set_output(transform="pandas").transform(pairs.data).shape == (N, 3)


def test_within_a_modality_classes_of_others_are_scored(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data[:40])
    X, y = pairs.data[40:], pairs.target[40:]

    value = fitted.score(X, y, query="text", gallery="text")

    vectors = fitted.transform(X, "text")
    cosines = vectors @ vectors.T
    precision = [
        average_precision_score(np.delete(y, i) == y[i], np.delete(cosines[i], i))
        for i in range(20)
    ]
    assert value == pytest.approx(np.mean(precision), abs=1e-4)
    scorer = make_retrieval_scorer("mean_average_precision", k=None, query="text", gallery="text")
    assert value == pytest.approx(scorer(fitted, X, y))


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"query": "sound"}, r"query has to be a modality .* \['text', 'image', '\*'\], got 'sou"),
        ({"gallery": "sound"}, "gallery has to be a modality of the fitted items"),
        ({"objective": "labels"}, 'objective="labels" requires y'),
        ({"classification_weight": 1.0}, "classification_weight > 0 requires y"),
        ({"model": "semantic"}, "model='semantic' requires y to be passed"),
        ({"model": "mm_gnc"}, r"model='mm_gnc' is not known. Did you mean 'mm_gcn'\?"),
        ({"model": "shgp"}, r"got SHGP\(\), which is trained without labels, by a loss of its own"),
        ({"model": HERO(ridge=1.0)}, r"got HERO\(ridge=1.0\), which is trained without labels"),
        ({"model": HetGNN(objective="link")}, "got HetGNN.*, which is trained without labels"),
        ({"model": "mm_gcn_pool"}, r"got MMGCNPool\(\), whose samples are graphs. Take another"),
        ({"index": "exactly"}, "index must be one of"),
        ({"temperature": 0.0}, "The 'temperature' parameter of CrossModalRetriever must be"),
        ({"n_folds": 1}, "The 'n_folds' parameter of CrossModalRetriever must be"),
    ],
    ids=repr,
)
def test_a_wrong_parameter_is_named(params: dict[str, Any], message: str, pairs: Bunch) -> None:
    with pytest.raises(ValueError, match=message):
        make(pairs, **params).fit(pairs.data)


def test_samples_that_are_graphs_are_an_error(network: MultiModalGraph) -> None:
    with pytest.raises(ValueError, match=r"nodes of type 'graph' have none. Take a view of nodes"):
        make(None, "mm_gcn_pool").fit(stack_graphs([network, network]))


def test_one_modality_is_not_enough_for_cca(pairs: Bunch) -> None:
    with pytest.raises(ValueError, match=r"correlates two modalities, got \['text'\]"):
        make(None, "cca", modalities={"text": slice(0, 7)}).fit(pairs.data)


@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_cca_needs_modalities_that_vary(form: Any, pairs: Bunch) -> None:
    X = pairs.data.copy()
    X[:, pairs.columns["image"]] = 1.0

    with pytest.raises(ValueError, match="vary, but 'image' is constant in the 60 samples"):
        make(pairs, "cca").fit(form(X))


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"index": "nope"}, ValueError, "index must be one of"),
        ({"index_params": {"m": 3}}, TypeError, r"Options of index 'exact' are \[\], got 'm'"),
        ({"index": "qdrant"}, ImportError, r'pip install "skmmg\[qdrant\]"'),
    ],
    ids=str,
)
def test_an_index_that_cannot_be_made_is_told_before_training(
    params: dict[str, Any],
    error: type[Exception],
    message: str,
    pairs: Bunch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    monkeypatch.delattr(GraphEstimator, "_fit_module")

    with pytest.raises(error, match=message):
        make(pairs, **params).fit(pairs.data)


def test_no_modality_can_have_the_name_of_all_that_an_item_has(pairs: Bunch) -> None:
    columns = {"*": pairs.columns["text"], "image": pairs.columns["image"]}

    with pytest.raises(ValueError, match=r"A modality cannot be named '\*'.* Rename it"):
        make(None, "cca", modalities=columns).fit(pairs.data)


def test_a_query_without_its_modality_is_an_error(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data[:40])
    X = without(pairs, "text", [2, 4])

    message = "modality 'text' to be encoded by it, but 2 of 60 lack it, the first one in row 2"
    with pytest.raises(ValueError, match=message):
        fitted.kneighbors(X)
    with pytest.raises(ValueError, match="No item of X has modality 'text'"):
        fitted.score(without(pairs, "text"))


def test_a_modality_that_was_not_fitted_is_an_error(pairs: Bunch, network: MultiModalGraph) -> None:
    fitted = make(pairs).fit(pairs.data)

    for call in (
        lambda: fitted.kneighbors(pairs.data, query="sound"),
        lambda: fitted.kneighbors(pairs.data, gallery="sound"),
        lambda: fitted.transform(pairs.data, "sound"),
    ):
        with pytest.raises(ValueError, match=r"one of \['text', 'image', '\*'\], got 'sound'"):
            call()
    with pytest.raises(TypeError, match="was fitted on rows of a 2-D X"):
        fitted.kneighbors(network.nodes("item"))


def test_more_neighbours_than_items_are_an_error(pairs: Bunch) -> None:
    fitted = make(pairs).fit(without(pairs, "image", slice(30, 40))[:40])

    with pytest.raises(ValueError, match="with modality 'image' in the gallery, 30, got 31"):
        fitted.kneighbors(pairs.data[40:], 31)

    fitted.kneighbors(n_neighbors=29, query="image", gallery="image")
    with pytest.raises(ValueError, match=r"other items with modality 'image' .*, 29, got 30"):
        fitted.kneighbors(n_neighbors=30, query="image", gallery="image")


@pytest.mark.parametrize("n_neighbors", [0, 2.7, "5", True])
@pytest.mark.parametrize("method", ["kneighbors", "kneighbors_graph"])
def test_neighbours_are_counted_by_a_positive_integer(
    n_neighbors: Any, method: str, pairs: Bunch
) -> None:
    fitted = make(pairs, "cca").fit(pairs.data)

    for X, gallery in ((pairs.data, "image"), (None, "text")):
        with pytest.raises(ValueError, match="n_neighbors must be an integer of at least 1, got"):
            getattr(fitted, method)(X, n_neighbors, query="text", gallery=gallery)


@pytest.mark.parametrize(
    ("n_items", "y", "message"),
    [
        (20, None, r"Within one modality, 'text', no item .* Pass y"),
        (20, np.arange(60) % 3, "one class per item of X, got 60 classes for 20 items. Slice both"),
        (20, np.arange(19) % 3, "one class per item of X, got 19 classes for 20 items"),
        (20, ["a", None] * 10, "y contains NaN, None or NA: .* sample 1 has none"),
        (1, [0], "one item alone has it. Give more items"),
    ],
    ids=str,
)
def test_a_score_that_cannot_be_told_is_an_error(
    n_items: int, y: Any, message: str, pairs: Bunch
) -> None:
    fitted = make(pairs, "cca").fit(pairs.data[:40])

    with pytest.raises(ValueError, match=message):
        fitted.score(pairs.data[40 : 40 + n_items], y, query="text", gallery="text")


def test_missing_classes_are_an_error(pairs: Bunch) -> None:
    for missing in (None, np.nan, pd.NA):
        y = np.array(["a", "b", missing] * 20, dtype=object)
        with pytest.raises(ValueError, match=r"y contains NaN, None or NA: .* sample 2 has none"):
            make(pairs).fit(pairs.data, y)


def test_an_empty_gallery_is_an_error(pairs: Bunch) -> None:
    X = NodeView(
        MultiModalGraph({"item": pairs.blocks}, masks={"item": {"image": np.arange(N) >= 40}}),
        "item",
    )

    with pytest.raises(ValueError, match="The gallery is empty: no item has modality 'image'"):
        make(None).fit(X[:40])


def test_duplicates_and_rows_of_zeros_are_found(pairs: Bunch) -> None:
    X = np.vstack([pairs.data[:40], pairs.data[:5], np.zeros((2, 12))])
    fitted = make(pairs).fit(X)

    distances, ids = fitted.kneighbors(X, 10)

    assert np.isfinite(distances).all()
    assert (np.sort(ids, axis=1)[:, 1:] != np.sort(ids, axis=1)[:, :-1]).all()


def test_a_failed_fit_leaves_the_estimator_as_it_was(pairs: Bunch) -> None:
    fitted = make(pairs).fit(pairs.data)
    before = fitted.transform(pairs.data)

    with pytest.raises(ValueError, match="requires y"):
        fitted.set_params(objective="labels").fit(pairs.data)

    assert_array_equal(fitted.transform(pairs.data), before)
