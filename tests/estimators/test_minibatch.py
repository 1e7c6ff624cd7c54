"""Training and predicting by parts of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skmmg import MultiModalGraph, MultiModalGraphClassifier, NodeEmbedder, NodeView
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGNNIMA, HGT, MLP, MODELS
from skmmg.nn import GraphTensors, ModalityEncoder
from skmmg.training import GraphStore, _inference, column_statistics, graph_tensors
from skmmg.training._batches import prefetch

EXACT = {"precision": "float64", "max_epochs": 3, "lr": 0.02, "random_state": 0}


def small(model: str, **params: Any) -> Any:
    sizes = {"hidden_channels": 8, "heads": 2, "dropout": 0.0, "input_dropout": 0.0}
    known = MODELS[model]().get_params()
    return MODELS[model](**{k: v for k, v in sizes.items() if k in known}, **params)


@pytest.fixture(scope="module")
def data() -> Any:
    """200 items, each linked to few others, a fifth of the rows missing."""
    return make_multimodal_graph(
        200, missing=0.2, n_attributes=150, signal=3.0, n_features=5, random_state=0
    )


def losses(clf: Any, name: str = "train_loss") -> list[float]:
    return [row[name] for row in clf.history_]


# ------------------------------------------------------------------------------ training


@pytest.mark.parametrize(
    "spec", [small("hgnn_ima", att_loss_weight=0.0), small("hgt"), small("mlp")], ids=repr
)
def test_one_batch_of_all_nodes_and_neighbours_trains_as_the_whole_graph(
    data: Any, spec: Any
) -> None:
    # the loss on attention is a mean over the edges that the batch sees: it is left out
    X, y = data.graph.nodes("item"), data.target

    whole = MultiModalGraphClassifier(spec, **EXACT).fit(X, y)
    batch = MultiModalGraphClassifier(spec, batch_size=500, num_neighbors=-1, **EXACT)
    batch.fit(X, y)

    assert_allclose(losses(batch), losses(whole), rtol=1e-7)
    assert_allclose(losses(batch, "valid_loss"), losses(whole, "valid_loss"), rtol=1e-7)


def test_mini_batches_learn(data: Any) -> None:
    X, y = data.graph.nodes("item"), data.target
    clf = MultiModalGraphClassifier(
        small("hgnn_ima"), batch_size=32, num_neighbors=[3, 2], random_state=0, max_epochs=20
    )

    clf.set_params(lr=0.02).fit(X[:150], y[:150])

    assert losses(clf, "train_ce")[-1] < 0.5 * losses(clf, "train_ce")[0]
    assert clf.score(X[150:], y[150:]) > 0.6


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_weight_counts_in_a_batch_what_it_counts_on_the_whole_graph(
    data: Any, batch_size: int
) -> None:
    X, y = data.graph.nodes("item"), data.target
    params = {"class_weight": {0: 50.0, 1: 1.0, 2: 0.0}, **EXACT, "lr": 1e-12}

    whole = MultiModalGraphClassifier(small("hgt"), **params).fit(X, y)
    batched = MultiModalGraphClassifier(small("hgt"), batch_size=batch_size, **params).fit(X, y)

    for name in ("train_loss", "train_acc", "valid_loss", "valid_acc"):
        assert_allclose(losses(batched, name), losses(whole, name), rtol=1e-6)


def test_a_rare_class_is_found_in_small_batches_by_its_weight() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(1500) < 0.04).astype(int)
    X = MultiModalGraph({"item": {"x": rng.normal(size=(1500, 3)) + y[:, None]}}).nodes("item")
    recall = {}
    for weight in ("balanced", None):
        clf = MultiModalGraphClassifier(
            "mlp", class_weight=weight, batch_size=8, max_epochs=5, lr=0.01, random_state=0
        )
        recall[weight] = (clf.fit(X[:750], y[:750]).predict(X[750:]) == 1)[y[750:] == 1].mean()
    assert recall["balanced"] > 0.5
    assert recall[None] < 0.3


def test_the_same_seed_gives_the_same_mini_batches(data: Any) -> None:
    X, y = data.graph.nodes("item"), data.target

    def fit(seed: int) -> MultiModalGraphClassifier:
        clf = MultiModalGraphClassifier(small("hgt"), batch_size=32, num_neighbors=2, **EXACT)
        return clf.set_params(random_state=seed).fit(X, y)

    first, second, other = fit(0), fit(0), fit(1)

    for name, values in first.weights_.items():
        assert_array_equal(values, second.weights_[name])
    assert losses(first) == losses(second)
    assert losses(first) != losses(other)


def test_validation_is_the_same_in_every_epoch(data: Any) -> None:
    X, y = data.graph.nodes("item"), data.target
    clf = MultiModalGraphClassifier(small("hgt"), batch_size=16, num_neighbors=1, **EXACT)

    clf.set_params(lr=1e-12, weight_decay=0.0).fit(X, y)

    assert_allclose(losses(clf, "valid_loss"), losses(clf, "valid_loss")[0], rtol=1e-7)
    assert len(set(losses(clf))) == 3  # other neighbours were drawn


def test_nodes_without_a_weight_are_in_no_batch(data: Any) -> None:
    X, y = data.graph.nodes("item"), data.target
    weight = (np.arange(len(y)) >= 100).astype(float)
    settings = {**EXACT, "batch_size": 8, "num_neighbors": 2, "early_stopping": False}

    clf = MultiModalGraphClassifier(small("hgt"), **settings).fit(X, y, sample_weight=weight)

    assert np.isfinite(losses(clf)).all()


def test_repeated_nodes_count_twice(data: Any) -> None:
    X, y, twice = data.graph.nodes("item"), data.target, np.repeat(np.arange(30), 2)
    settings = {**EXACT, "early_stopping": False}

    whole = MultiModalGraphClassifier(small("hgt"), **settings).fit(X[twice], y[twice])
    batch = MultiModalGraphClassifier(small("hgt"), batch_size=60, **settings)
    batch.fit(X[twice], y[twice])

    assert_allclose(losses(batch), losses(whole), rtol=1e-9)
    assert_allclose(batch.predict_proba(X[twice]), whole.predict_proba(X[twice]), atol=1e-9)


@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_features_in_a_file_train_as_features_in_memory(
    data: Any, tmp_path: Path, setting: str
) -> None:
    def map_to_file(matrix: np.ndarray, name: str) -> np.ndarray:
        np.save(tmp_path / name, matrix)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    mapped = data.graph.with_features(
        {
            t: {m: map_to_file(x, f"{t}-{m}") for m, x in modalities.items()}
            for t, modalities in data.graph.x.items()
        }
    )
    settings = {**EXACT, "batch_size": 16, "num_neighbors": 2, "setting": setting}
    train, y = slice(0, 150), data.target
    X, X_mapped = data.graph.nodes("item"), mapped.nodes("item")

    memory = MultiModalGraphClassifier(small("hgnn_ima"), **settings).fit(X[train], y[train])
    file = MultiModalGraphClassifier(small("hgnn_ima"), **settings).fit(X_mapped[train], y[train])

    assert losses(file) == losses(memory)
    assert_array_equal(file.predict_proba(X_mapped), memory.predict_proba(X))


def test_only_parts_of_a_graph_become_tensors(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = HGNNIMA._build.__globals__["HGNNIMAModule"].forward

    def watched(self: Any, graph: GraphTensors, ids: torch.Tensor) -> Any:
        sizes.append(graph.num_nodes["item"])
        return forward(self, graph, ids)

    monkeypatch.setattr(HGNNIMA._build.__globals__["HGNNIMAModule"], "forward", watched)
    X, y = data.graph.nodes("item"), data.target
    spec = small("hgnn_ima", num_layers=1)
    clf = MultiModalGraphClassifier(spec, batch_size=4, num_neighbors=1, missing="zero", **EXACT)

    clf.fit(X, y).predict(X)

    assert max(sizes) == 4  # a step leads to attributes


def test_sparse_features_and_a_type_that_no_batch_reaches_train() -> None:
    rng = np.random.default_rng(0)
    text = sparse.random_array((40, 9), density=0.3, rng=rng, format="csr")
    far = sparse.random_array((5, 9), density=0.3, rng=rng, format="csr")
    graph = MultiModalGraph(
        {"movie": {"text": text}, "far": {"text": far}},
        {("movie", "near", "movie"): rng.integers(40, size=(2, 80))},
    )
    X, y = graph.nodes("movie"), np.arange(40) % 2

    whole = MultiModalGraphClassifier(small("hgt"), **EXACT).fit(X, y)
    batch = MultiModalGraphClassifier(small("hgt"), batch_size=40, **EXACT).fit(X, y)

    assert_allclose(losses(batch), losses(whole), rtol=1e-9)
    assert_allclose(batch.predict_proba(X), whole.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_weight_may_get_its_first_gradient_late(data: Any, optimizer: str) -> None:
    # a batch of one item and one neighbour sees few of the relations
    X, y = data.graph.nodes("item"), data.target
    how = {"batch_size": 1, "num_neighbors": 1, "optimizer": optimizer}
    clf = MultiModalGraphClassifier(small("hgt"), lr_scheduler="one_cycle", **how, **EXACT)

    clf.fit(X[:40], y[:40])

    assert np.isfinite(losses(clf)).all()


def test_a_part_shows_the_labels_of_its_own_nodes(data: Any) -> None:
    graph, labels = data.graph, np.where(np.arange(200) % 2, data.target, -1)
    statistics, cpu = column_statistics(graph, "auto"), torch.device("cpu")
    store = GraphStore(graph, statistics, "item", "zero", cpu, torch.float64, labels)

    part, at = store.near(np.array([7, 3, 190]), [2, 2])

    sampled = store.around({"item": np.array([3, 7, 190])}, [2, 2]).nodes["item"]
    assert part.labels is not None
    assert_array_equal(part.labels, labels[sampled])
    assert_array_equal(part.labels[at], labels[[7, 3, 190]])
    whole = graph_tensors(graph, statistics, device=cpu, dtype=torch.float64)
    for modality, x in part.x["item"].items():
        assert_array_equal(x, whole.x["item"][modality][torch.from_numpy(sampled)])


# ------------------------------------------------------------------------------ rows


def test_rows_train_and_predict_by_mini_batches(rows: Any) -> None:
    settings = {**EXACT, "modalities": rows.modalities, "graph__n_neighbors": 3}
    whole, batch = (
        MultiModalGraphClassifier(small("hgnn_ima")).set_params(**settings, batch_size=size)
        for size in (None, 100)
    )
    train, test = rows.data[:40], rows.data[40:]

    whole.fit(train, rows.target[:40])
    batch.fit(train, rows.target[:40])

    assert_allclose(losses(batch), losses(whole), rtol=1e-7)
    expected = whole.predict_proba(test)
    assert_allclose(whole.set_params(batch_size=3).predict_proba(test), expected, atol=1e-12)


# ------------------------------------------------------------------------------ predicting


@pytest.mark.parametrize("missing", ["copy", "zero", "mean_neighbors", "learned"])
@pytest.mark.parametrize(
    ("spec", "fusion"),
    [
        *((HGNNIMA(preset, hidden_channels=8, heads=2), None) for preset in ("skmmg", "released")),
        *((HGT(8, num_layers=n, heads=2), fusion) for n in (0, 3) for fusion in ("early", "late")),
        *((HGT(8, heads=2, late_fusion=how), "late") for how in ("concat", "logits", "mean")),
        (HGT(8, heads=2, early_fusion="mean"), "early"),
        (MLP(8), "late"),
        *((small(model, num_layers=n), "late") for model in ("gcn", "gat", "sage") for n in (0, 3)),
        *(
            (small(model, num_layers=n), None)
            for model in ("mm_gcn", "mhgat", "xgea")
            for n in (0, 2)
        ),
    ],
    ids=repr,
)
def test_predicting_in_blocks_is_exact(
    data: Any, monkeypatch: pytest.MonkeyPatch, spec: Any, fusion: str | None, missing: str
) -> None:
    monkeypatch.setattr(_inference, "_LAYER_BLOCK", 7)
    X, y = data.graph.nodes("item"), data.target
    settings = {**EXACT, "max_epochs": 1, "fusion": fusion, "missing": missing}
    clf = MultiModalGraphClassifier(spec, **settings).fit(X, y)
    some = X[[3, 150, 3, 40, *range(60, 75)]]
    expected = clf.predict_proba(some), clf.transform(some)

    clf.set_params(batch_size=5)

    assert_allclose(clf.predict_proba(some), expected[0], atol=1e-12)
    assert_allclose(clf.transform(some), expected[1], atol=1e-12)
    assert_array_equal(clf.predict(some), clf.classes_[expected[0].argmax(1)])
    assert clf.predict_proba(X[:0]).shape == (0, len(clf.classes_))


def test_predicting_reads_the_features_of_a_node_once(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inference, "_LAYER_BLOCK", 7)
    X, y = data.graph.nodes("item"), data.target
    clf = MultiModalGraphClassifier(small("hgnn_ima"), batch_size=5, **EXACT).fit(X, y)
    read: list[int] = []
    project = ModalityEncoder.project

    def watched(self: Any, graph: GraphTensors) -> Any:
        read.append(sum(graph.num_nodes.values()))
        return project(self, graph)

    monkeypatch.setattr(ModalityEncoder, "project", watched)
    clf.predict(X)

    assert max(read) <= 7
    assert sum(read) <= sum(data.graph.n_nodes.values())


def test_weights_of_modalities_and_attention_are_read_as_from_the_whole_graph(data: Any) -> None:
    X, y = data.graph.nodes("item"), data.target
    clf = MultiModalGraphClassifier(small("hgnn_ima"), **EXACT).fit(X, y)
    weights, attention = clf.modality_weights(X), clf.attention(X)

    clf.set_params(batch_size=8)

    assert_allclose(clf.modality_weights(X), weights, atol=1e-12)
    for edge_type, alpha in clf.attention(X)[0].alpha.items():
        assert_array_equal(alpha, attention[0].alpha[edge_type])


# ------------------------------------------------------------------------------ embedding


@pytest.mark.parametrize("objective", ["classification", "infomax"])
def test_an_embedder_trains_by_mini_batches(data: Any, objective: str) -> None:
    X, y = data.graph.nodes("item"), data.target
    embedder = NodeEmbedder(
        small("hgt"), objective=objective, batch_size=32, num_neighbors=3, **EXACT
    )

    Z = embedder.fit(X, y).transform(X)

    assert len(losses(embedder)) == 3
    assert_allclose(Z, embedder.set_params(batch_size=None).transform(X), atol=1e-12)


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"num_neighbors": 5}, "num_neighbors=5 needs batch_size, got batch_size=None"),
        ({"batch_size": 0}, "The 'batch_size' parameter of MultiModalGraphClassifier must be"),
        ({"batch_size": 8, "num_neighbors": 0}, "integers from 1 on, or -1 for all neighbours"),
        ({"batch_size": 8, "num_neighbors": [2, 0.5]}, "integers from 1 on, or -1"),
        ({"batch_size": 8, "num_neighbors": [2]}, "each of the 2 steps that HGT.* got 1: "),
        ({"batch_size": 8, "num_neighbors": "all"}, "The 'num_neighbors' parameter"),
    ],
    ids=repr,
)
def test_a_setting_that_makes_no_sense_is_an_error(
    data: Any, params: dict[str, Any], message: str
) -> None:
    clf = MultiModalGraphClassifier("hgt", **params)

    with pytest.raises(ValueError, match=message):
        clf.fit(data.graph.nodes("item"), data.target)


def test_a_model_that_needs_the_whole_graph_says_so(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HGT, "samples", False)
    X, y = data.graph.nodes("item"), data.target
    message = "'hgt' needs the whole graph at once, got a batch_size. Leave batch_size=None"

    with pytest.raises(ValueError, match=message):
        MultiModalGraphClassifier("hgt", batch_size=8).fit(X, y)
    fitted = MultiModalGraphClassifier("hgt", max_epochs=1).fit(X, y).set_params(batch_size=8)
    with pytest.raises(ValueError, match=message):
        fitted.predict(X)


# ------------------------------------------------------------------------------ prefetching


def test_items_are_made_one_ahead_and_in_order() -> None:
    made: list[int] = []

    def items() -> Any:
        for i in range(5):
            made.append(i)
            yield i

    ahead = prefetch(items())

    assert next(ahead) == 0
    assert list(ahead) == [1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4]


def test_an_error_in_the_thread_is_raised_where_the_items_are_used() -> None:
    def items() -> Any:
        yield 1
        raise RuntimeError("the file is gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(RuntimeError, match="the file is gone"):
        next(ahead)


# ------------------------------------------------------------------------------ few nodes


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> NodeView:
    """A graph that counts as large: 5,000 nodes and 6,000 edges in both directions."""
    monkeypatch.setattr(_inference, "_MANY_EDGES", 6_000)
    monkeypatch.setattr(_inference, "_MANY_EDGES_FOR_FIELDS", 6_000)
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(2, 3_000, 4))
    text[rng.random(3_000) < 0.2] = np.nan
    edges = np.stack([rng.integers(n, size=3_000) for n in (3_000, 2_000)])
    nodes = {"item": {"text": text, "image": image}, "tag": 2_000}
    return MultiModalGraph(nodes, {("item", "has", "tag"): edges}).nodes("item")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes the parts have that are made into tensors."""
    sizes: list[int] = []
    tensors = GraphStore.tensors

    def watched(self: Any, part: Any, **options: Any) -> Any:
        sizes.append(sum(map(len, part.nodes.values())))
        return tensors(self, part, **options)

    monkeypatch.setattr(GraphStore, "tensors", watched)
    return sizes


FEW = ["mlp", "gcn", "gat", "sage", "mhgat", "xgea", "mm_gcn", "hgt", "hgnn_ima"]


@pytest.mark.parametrize("model", FEW)
def test_few_nodes_of_a_large_graph_are_computed_from_what_they_see(
    model: str, large: NodeView, parts: list[int]
) -> None:
    clf = MultiModalGraphClassifier(small(model), **EXACT).fit(large[:50], np.arange(50) % 2)
    whole = clf.predict_proba(large)
    assert not parts
    few = clf.predict_proba(large[[7, 3, 7]])

    assert 0 < max(parts) < 500
    assert_allclose(few, whole[[7, 3, 7]], rtol=1e-9)


def test_graphs_that_are_small_or_fields_that_are_found_are_computed_at_once(
    large: NodeView, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    y = np.arange(50) % 2
    gcn, hgt = (
        MultiModalGraphClassifier(small(model), **EXACT).fit(large[:50], y)
        for model in ("gcn", "hgt")
    )
    monkeypatch.setattr(_inference, "_MANY_EDGES_FOR_FIELDS", 6_001)
    hgt.predict(large[[7]])
    monkeypatch.setattr(_inference, "_MANY_EDGES", 6_001)
    gcn.predict(large[[7]])
    assert not parts


def test_a_model_that_needs_the_whole_graph_gets_it_for_few_nodes_too(
    large: NodeView, parts: list[int]
) -> None:
    spec = small("han", semantic_scope="global")
    clf = MultiModalGraphClassifier(spec, **EXACT).fit(large[:50], np.arange(50) % 2)
    assert_allclose(clf.predict_proba(large[[7]]), clf.predict_proba(large)[[7]], rtol=1e-9)
    assert not parts
