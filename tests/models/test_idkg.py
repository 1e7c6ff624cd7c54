"""IDKG: its equations, what its knowledge graph knows, and what it must not know."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from small_models import (
    CHANNELS,
    N_CLASSES,
    N_NODES,
    assert_every_parameter_counts,
    build,
    count,
    count_encoder,
    fit,
    gradients,
    make_graph,
    make_single_type_graph,
    small,
    to_tensors,
)

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph
from skmmg.models import IDKG, ModelSpec
from skmmg.nn import GraphTensors
from skmmg.nn._knowledge_graph import Triples

KG = 6
LABELS = torch.tensor([0, 1, 2, -1, 1, -1, 0, -1, -1])


def make_spec(**params: Any) -> ModelSpec:
    return small(IDKG, kg_channels=KG, kg_epochs=2, **params)


def show(labels: torch.Tensor = LABELS) -> GraphTensors:
    return to_tensors(make_graph()).with_labels(labels)


def learn(module: Any, tensors: GraphTensors) -> None:
    torch.manual_seed(0)
    module.entities.learn(tensors)


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


def linked(i: int) -> set[tuple[str, int]]:
    """The nodes that movie i is linked from."""
    return {
        (src, j)
        for (src, _, dst), index in make_graph().edge_index.items()
        for j, k in index.T.tolist()
        if dst == "movie" and k == i and (src, j) != ("movie", i)
    }


def linked_vectors(p: dict[str, np.ndarray], i: int) -> list[np.ndarray]:
    starts = dict(zip(N_NODES, np.cumsum([0, *N_NODES.values()])[:-1].tolist(), strict=True))
    return [p["entities.vectors"][starts[t] + j] for t, j in linked(i)]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# ------------------------------------------------------------------------------ equations


def test_the_feature_of_a_node_is_the_scaled_sum_of_its_linked_entities() -> None:
    module, graph = build(make_spec(), make_graph()), show()
    learn(module, graph)
    p = arrays(module)

    x, n_linked = module.entities(graph, torch.arange(9))

    total = np.array([np.sum(linked_vectors(p, i) or [np.zeros(KG)], axis=0) for i in range(9)])
    number = np.array([len(linked(i)) for i in range(9)])
    some = total[number > 0]
    expected = (total - some.mean(0)) / some.std(0)
    expected[number == 0] = 0.0
    assert_array_equal(n_linked, number)
    assert_allclose(x, expected, atol=1e-10)


def test_sums_are_made_once_for_a_graph_until_the_vectors_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, graph = build(make_spec(), make_graph()), show()
    learn(module, graph)
    entities, made = module.entities, []
    make = entities._sum
    monkeypatch.setattr(entities, "_sum", lambda g: made.append(g) or make(g))

    first, _ = entities(graph, torch.arange(9))
    again, _ = entities(graph, torch.arange(4))
    state = entities.state_dict()
    entities.load_state_dict(state | {"vectors": 2 * state["vectors"], "mean": 2 * state["mean"]})
    doubled, _ = entities(graph, torch.arange(9))

    assert len(made) == 2
    assert_array_equal(again, first[:4])
    assert_allclose(doubled, 2 * first, atol=1e-12)


def test_the_gates_the_teacher_and_the_classifier_are_their_equations() -> None:
    module, graph, ids = build(make_spec(), make_graph()), show(), torch.arange(9)
    learn(module, graph)
    p, x_kg = arrays(module), module.entities(graph, ids)[0].numpy()
    encoded = module.encoder(graph)[:, graph.edges(module.entities.edge_types).node_slices["movie"]]

    output = module(graph, ids)

    v_kg = x_kg @ p["kg_projection.weight"].T + p["kg_projection.bias"]
    v = [*encoded.detach().numpy(), v_kg]
    gates = [p["gates.entries.0.weight"], p["gates.entries.1.weight"], p["kg_gate.weight"]]
    g = [sigmoid(v_m @ w.T) for v_m, w in zip(v, gates, strict=True)]
    h = sum(g_m * np.tanh(v_m) for g_m, v_m in zip(g, v, strict=True))
    n_linked = np.array([len(linked(i)) for i in range(9)])
    teacher = np.mean((g[2].mean(1) - n_linked / (n_linked + 6)) ** 2)
    logits = h
    for k in range(3):
        logits = logits @ p[f"head.{k}.weight"].T + p[f"head.{k}.bias"]
    assert_allclose(output.embedding.detach(), h, atol=1e-10)
    assert_allclose(output.logits.detach(), logits, atol=1e-10)
    assert_allclose(output.penalties["teacher"].item(), teacher, atol=1e-12)
    weights = np.stack([g[0].mean(1), g[1].mean(1)], 1)
    expected = weights / weights.sum(1, keepdims=True)
    assert_allclose(output.modality_weights.detach(), expected, atol=1e-10)


def test_the_number_of_parameters_is_as_the_formula_says() -> None:
    d, n_modalities = CHANNELS, 2
    gates, head = (n_modalities + 1) * d * d, 2 * (d + 1) * d + (d + 1) * N_CLASSES

    counted = count(build(make_spec(), make_graph()))

    assert counted == count_encoder() + (KG + 1) * d + gates + head


@pytest.mark.parametrize("class_anchors", [True, False])
def test_gradients_reach_every_parameter(class_anchors: bool) -> None:
    spec = make_spec(class_anchors=class_anchors)

    assert_every_parameter_counts(gradients(spec, make_single_type_graph()))


@pytest.mark.parametrize("class_anchors", [True, False])
def test_the_contrast_is_over_the_nodes_with_labels_in_training(class_anchors: bool) -> None:
    module = build(make_spec(class_anchors=class_anchors), make_graph())
    ids = torch.arange(9)

    watched = module(show(), ids).penalties
    trained = module.train()(show(), ids).penalties
    unlabelled = module(show(torch.full((9,), -1)), ids).penalties

    assert set(watched) == set(unlabelled) == {"teacher"}
    assert set(trained) == {"teacher", "contrast"}
    assert trained["contrast"] > 0


# ------------------------------------------------------------------------------ what it may know


@pytest.mark.parametrize(("class_anchors", "n_expected"), [(True, 5), (False, 0)])
def test_only_labels_that_are_shown_are_triples(
    class_anchors: bool, n_expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Triples] = []
    of = Triples.of.__func__  # type: ignore[attr-defined]

    def watch(cls: Any, *args: Any) -> Triples:
        seen.append(of(cls, *args))
        return seen[-1]

    monkeypatch.setattr(Triples, "of", classmethod(watch))
    learn(build(make_spec(class_anchors=class_anchors), make_graph()), show())

    n_relations = len(make_graph().edge_types)
    has_class = seen[0].relation == n_relations
    assert int(has_class.sum()) == n_expected
    if class_anchors:
        n_nodes = sum(N_NODES.values())
        ends = (seen[0].head[has_class].tolist(), seen[0].tail[has_class].tolist())
        known = {(i, int(c) + n_nodes) for i, c in enumerate(LABELS) if c >= 0}
        assert set(zip(*ends, strict=True)) == known


def test_classes_of_validation_nodes_change_nothing_that_is_learnt() -> None:
    planted = make_multimodal_graph(40, random_state=0)
    X, y = planted.graph.nodes("item"), planted.target
    other = (y[20:] + 1) % 3
    settings = {"max_epochs": 4, "n_iter_no_change": 10, "early_stopping": True}

    first, second = (
        MultiModalGraphClassifier(make_spec(), random_state=0, **settings).fit(
            X[:20], y[:20], X_val=X[20:], y_val=y_val
        )
        for y_val in (y[20:], other)
    )

    for name in ("train_loss", "train_contrast", "train_teacher"):
        assert [row[name] for row in first.history_] == [row[name] for row in second.history_]
    for name in ("vectors", "classes", "mean"):
        key = f"entities.{name}"
        assert_array_equal(first.weights_[key], second.weights_[key])


def test_a_class_is_no_linked_entity() -> None:
    module = build(make_spec(), make_graph())
    learn(module, show())
    before, count = module.entities(show(), torch.arange(9))

    module.entities.classes += 1.0

    after, _ = module.entities(show(), torch.arange(9))
    assert_array_equal(before, after)
    assert_array_equal(count, [len(linked(i)) for i in range(9)])


# ------------------------------------------------------------------------------ other networks


def test_the_vectors_are_in_the_state_and_in_the_pickle() -> None:
    X, y = make_graph().nodes("movie"), np.arange(9) % N_CLASSES
    clf = fit(make_spec(), X, y)

    loaded = pickle.loads(pickle.dumps(clf))

    assert clf.weights_["entities.vectors"].shape == (sum(N_NODES.values()), KG)
    assert_array_equal(loaded.module_.entities.vectors, clf.weights_["entities.vectors"])
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def features(clf: MultiModalGraphClassifier, X: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What the knowledge graph says of the samples, and from how many entities."""
    focus = clf._new_focus(X)
    tensors = focus.tensors(torch.device("cpu"), clf._inference_dtype())
    module = clf._inference_module(clf.__dict__)
    return module.entities(tensors, torch.tensor(focus.ids))


def test_in_another_network_the_knowledge_graph_says_nothing() -> None:
    graph = make_graph()
    edges = {name: index[:, ::2] for name, index in graph.edge_index.items()}
    nodes = {t: dict(ms) or N_NODES[t] for t, ms in graph.x.items()}
    other = MultiModalGraph(nodes, edges, add_reverse=False).nodes("movie")
    clf = fit(make_spec(), graph.nodes("movie"), np.arange(9) % N_CLASSES)

    known, unknown = features(clf, graph.nodes("movie")), features(clf, other)

    assert known[1].sum() > 0
    assert_array_equal(unknown[0], np.zeros((9, KG)))
    assert_array_equal(unknown[1], np.zeros(9))
    assert np.isfinite(clf.predict_proba(other)).all()


def test_new_rows_have_the_vectors_of_the_fitted_rows_that_they_are_linked_from() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 5)), np.arange(30) % 3
    clf = fit(make_spec(), X, y)

    x, n_linked = features(clf, rng.normal(size=(4, 5)))

    assert len(clf.module_.entities.vectors) == 30
    assert (n_linked > 0).all()
    assert (x != 0).all()


def test_where_it_is_fitted_on_a_part_of_the_network_the_rest_has_no_vectors() -> None:
    planted = make_multimodal_graph(40, random_state=0)
    X, y = planted.graph.nodes("item"), planted.target
    clf = fit(make_spec(), X[5:25], y[5:25], setting="inductive")
    entities = clf.module_.entities

    sizes = dict(zip(entities.node_types, entities.sizes.tolist(), strict=True))
    has_vector = dict(zip(sizes, entities.has_vector.split(list(sizes.values())), strict=True))

    assert sizes["item"] == 25
    assert not has_vector["item"][:5].any()
    assert has_vector["item"][5:].all()
    # a node of the rest is linked from the attributes, which have vectors
    assert (features(clf, X[30:])[1] > 0).all()


def test_a_node_keeps_its_vector_where_the_part_of_the_network_numbers_it_anew() -> None:
    module, whole = build(make_spec(class_anchors=False), make_single_type_graph(), "node"), 9
    kept = np.array([1, 3, 4, 6, 8])
    part, _ = make_single_type_graph().induced("node", kept)
    none = torch.full((5,), -1)
    learn(module, to_tensors(part).with_labels(none, torch.tensor(kept)))

    in_part = module.entities(
        to_tensors(part).with_labels(none, torch.tensor(kept)), torch.arange(5)
    )

    # the whole network, without the edges that leave the others
    edges = {name: kept[index] for name, index in part.edge_index.items()}
    graph = MultiModalGraph({"text": np.zeros((whole, 5)), "image": np.zeros((whole, 4))}, edges)
    in_whole = module.entities(to_tensors(graph), torch.tensor(kept))
    assert_allclose(in_part[0], in_whole[0], atol=1e-12)
    assert_array_equal(in_part[1], in_whole[1])


def test_training_goes_on_from_the_last_fit() -> None:
    X, y = make_graph().nodes("movie"), np.arange(9) % N_CLASSES
    clf = fit(make_spec(), X, y, warm_start=True)
    before = clf.weights_["head.0.weight"]

    clf.fit(X, y)

    assert np.abs(clf.weights_["head.0.weight"] - before).max() < 1.0
    assert np.isfinite(clf.predict_proba(X)).all()
