"""HetGNN: its encoder is its formula, for both objectives, and its walks belong to the fit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skmmg import MultiModalGraph, MultiModalGraphClassifier, NodeEmbedder
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HetGNN
from skmmg.models.hetgnn import draw_like, draw_pairs
from skmmg.nn import GraphTensors
from skmmg.training import ClassificationLoss, SelfSupervisedLoss, column_statistics, graph_tensors

CPU = torch.device("cpu")
D, K = 4, 3
OBJECTIVES = ("supervised", "link")


def make_graph() -> MultiModalGraph:
    rng = np.random.default_rng(0)
    edges = {
        ("a", "r", "b"): rng.integers([[9], [5]], size=(2, 14)),
        ("a", "s", "a"): rng.integers(8, size=(2, 12)),  # node 8 may have no neighbour of type a
    }
    nodes = {"a": {"text": rng.normal(size=(9, 5)), "image": rng.normal(size=(9, 3))}}
    return MultiModalGraph(nodes | {"b": {"text": rng.normal(size=(5, 6))}, "c": 2}, edges)


def tensors(graph: MultiModalGraph) -> GraphTensors:
    return graph_tensors(graph, column_statistics(graph, None), device=CPU, dtype=torch.float64)


def build(graph: MultiModalGraph, target: str = "a", **params: Any) -> Any:
    torch.manual_seed(0)
    spec = HetGNN(D, neighbors_per_type=K, dropout=0.0, input_dropout=0.0, **params)
    module = spec.build(graph.nodes(target).schema, 3).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(w: dict[str, np.ndarray], x: np.ndarray, suffix: str) -> np.ndarray:
    """Hidden states (length, hidden) of one direction; gates in torch's order i, f, g, o."""
    hidden = w[f"weight_hh_l0{suffix}"].shape[1]
    h, c, out = np.zeros(hidden), np.zeros(hidden), []
    for row in x[::-1] if suffix else x:
        gates = w[f"weight_ih_l0{suffix}"] @ row + w[f"bias_ih_l0{suffix}"]
        i, f, g, o = np.split(gates + w[f"weight_hh_l0{suffix}"] @ h + w[f"bias_hh_l0{suffix}"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out[::-1] if suffix else out)


def read(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    w = {name: p.detach().numpy() for name, p in layer.lstm.named_parameters()}
    return np.hstack([lstm(w, x, ""), lstm(w, x, "_reverse")]).mean(0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_embedding_is_its_formula(objective: str) -> None:
    graph = make_graph()
    module, data = build(graph, objective=objective).eval(), tensors(graph)
    types = ["a"] * 9 + ["b"] * 5 + ["c"] * 2
    with torch.no_grad():
        h = module.encoder(data).numpy()
    f1 = np.array([read(module.contents[t], h[:, v]) for v, t in enumerate(types)])
    hood = module._neighborhood(data, "a", torch.arange(9))
    u = module.scores["a"].weight.detach().numpy()

    E = []
    for v in range(9):
        parts = [f1[v]]
        for t, name in enumerate(("a", "b", "c")):
            if hood.found[v, t]:
                parts.append(read(module.neighbors[name], f1[hood.nodes[v, t].numpy()]))
        s = np.array([u @ np.concatenate([f1[v], p]) for p in parts])
        s = np.where(s > 0, s, 0.01 * s)
        a = np.exp(s) / np.exp(s).sum()
        E.append(a @ np.array(parts))

    assert_allclose(module(data, torch.arange(9)).embedding.detach(), E, atol=1e-12)
    some = torch.tensor([7, 2])
    assert_allclose(module(data, some).embedding.detach(), np.array(E)[[7, 2]], atol=1e-12)
    in_training = module.train()(data, torch.arange(9)).embedding.detach()
    assert_allclose(in_training, E, atol=1e-12)


def test_the_link_loss_is_that_of_the_drawn_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph()
    module, data = build(graph, objective="link").train(), tensors(graph)
    pairs = torch.tensor([0, 3, 9]), torch.tensor([10, 4, 2])
    negative = torch.tensor([12, 7, 1])
    monkeypatch.setattr("skmmg.models.hetgnn.draw_pairs", lambda walks, size: pairs)
    monkeypatch.setattr("skmmg.models.hetgnn.draw_like", lambda nodes, slices: negative)

    loss = module(data, torch.arange(9)).penalties["link"].item()

    E = torch.cat(list(module._embed_all(data).values())).detach().numpy()
    c, p, n = E[pairs[0]], E[pairs[1]], E[negative]
    wanted = -np.log(sigmoid((c * p).sum(1))) - np.log(sigmoid(-(c * n).sum(1)))
    assert_allclose(loss, wanted.mean(), atol=1e-12)


def test_pairs_are_near_on_a_walk() -> None:
    torch.manual_seed(0)
    walks = torch.arange(2000 * 8).view(2000, 8).clone()
    walks[:, 6:] = -1

    center, near = draw_pairs(walks, 3)

    assert (center // 8 == near // 8).all()
    gap = (center - near).abs()
    assert set(gap.tolist()) == {1, 2, 3}
    assert (center % 8 < 6).all()
    assert (near % 8 < 6).all()


def test_negatives_are_of_the_same_type() -> None:
    slices = {"a": slice(0, 9), "b": slice(9, 9), "c": slice(9, 14)}
    nodes = torch.arange(14).repeat(50)

    drawn = draw_like(nodes, slices)

    assert ((drawn < 9) == (nodes < 9)).all()
    assert drawn.min() == 0
    assert drawn.max() == 13


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_reach_every_parameter(objective: str) -> None:
    rng = np.random.default_rng(0)
    edges = {"near": rng.integers(9, size=(2, 20)), "far": rng.integers(9, size=(2, 20))}
    features = {"text": rng.normal(size=(9, 5)), "image": rng.normal(size=(9, 4))}
    graph = MultiModalGraph(features, edges)
    module = build(graph, "node", objective=objective).train()
    output, ids = module(tensors(graph), torch.arange(9)), torch.arange(9)
    loss = SelfSupervisedLoss() if objective == "link" else ClassificationLoss()
    loss(output, ids % 3, torch.ones(9))[0].backward()

    for name, parameter in module.named_parameters():
        if name != "encoder.placeholder":  # no node lacks everything
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_the_number_of_parameters_is_as_the_formula_says() -> None:
    graph = make_graph()
    encoder = (5 + 1 + 3 + 1 + 6 + 1) * D + 3 * D
    lstms = 2 * 3 * 2 * 4 * (D // 2) * (D + D // 2 + 2)

    for objective, rest in (("supervised", 2 * D + (D + 1) * 3), ("link", 3 * 2 * D)):
        counted = sum(p.numel() for p in build(graph, objective=objective).parameters())
        assert counted == encoder + lstms + rest


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_its_walks_are_those_of_the_fit(objective: str) -> None:
    planted = make_multimodal_graph(40, random_state=0)
    X, y = planted.graph.nodes("item"), planted.target
    clf = MultiModalGraphClassifier(
        HetGNN(8, objective=objective, num_visits=10), max_epochs=3, random_state=0
    ).fit(X[:30], y[:30])

    loaded = pickle.loads(pickle.dumps(clf))

    assert loaded.module_.walk_seed == clf.module_.walk_seed
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert hasattr(clf, "probe_") is (objective == "link")


def test_the_objective_decides_what_an_embedder_does() -> None:
    planted = make_multimodal_graph(40, random_state=0)
    X, y = planted.graph.nodes("item"), planted.target
    params = {"max_epochs": 2, "random_state": 0}

    assert NodeEmbedder(HetGNN(8), **params).fit(X).objective_ == "infomax"
    assert NodeEmbedder(HetGNN(8), **params).fit(X, y).objective_ == "classification"
    link = NodeEmbedder(HetGNN(8, objective="link"), **params).fit(X, y)
    assert link.objective_ == "self_supervised"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rows_are_embedded_one_by_one_as_together(objective: str) -> None:
    rng = np.random.default_rng(0)
    data, target = rng.normal(size=(40, 6)), np.arange(40) % 2
    clf = MultiModalGraphClassifier(HetGNN(8, objective=objective), max_epochs=3, random_state=0)
    clf.fit(data[:30], target[:30])

    alone = np.vstack([clf.transform(row[None]) for row in data[30:]])

    assert_allclose(alone, clf.transform(data[30:]), rtol=1e-8)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_tells_what_a_perceptron_cannot_see(objective: str) -> None:
    planted = make_multimodal_graph(
        240, hops=2, signal=4.0, homophily=1.0, n_attributes=24, random_state=0
    )
    X, y = planted.graph.nodes("item"), planted.target
    params = {"max_epochs": 40, "lr": 0.01, "early_stopping": False, "random_state": 0}
    spec = HetGNN(16, objective=objective, dropout=0.3, input_dropout=0.3)

    clf = MultiModalGraphClassifier(spec, **params).fit(X[:160], y[:160])
    mlp = MultiModalGraphClassifier("mlp", **params).fit(X[:160], y[:160])

    assert clf.score(X[160:], y[160:]) > mlp.score(X[160:], y[160:]) + 0.15


def test_an_odd_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="hidden_channels has to be even"):
        HetGNN(hidden_channels=5).build(make_graph().nodes("a").schema, 2)
