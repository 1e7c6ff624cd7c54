"""HERO: its loss and its encoders are their formulas; new nodes do not change the old ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.utils import Bunch
from torch import nn

from skmmg import MultiModalGraph, MultiModalGraphClassifier, NodeEmbedder
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HERO
from skmmg.nn import GraphTensors
from skmmg.training import SelfSupervisedLoss, column_statistics, graph_tensors

CPU = torch.device("cpu")
D = 4


def make_graph() -> MultiModalGraph:
    rng = np.random.default_rng(0)
    edges = {
        ("a", "r", "b"): rng.integers([[9], [5]], size=(2, 14)),
        ("a", "s", "a"): (rng.integers(9, size=(2, 12))),
    }
    nodes = {"a": {"text": rng.normal(size=(9, 5)), "image": rng.normal(size=(9, 3))}}
    return MultiModalGraph(nodes | {"b": {"text": rng.normal(size=(5, 6))}}, edges)


def tensors(graph: MultiModalGraph) -> GraphTensors:
    return graph_tensors(graph, column_statistics(graph, None), device=CPU, dtype=torch.float64)


def build(graph: MultiModalGraph, target: str = "a", fusion: str = "early", **params: Any) -> Any:
    torch.manual_seed(0)
    spec = HERO(hidden_channels=D, proj_channels=3, ridge=2.0, **params)
    return spec.build(graph.nodes(target).schema, 0, fusion=fusion).double()


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def affine(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def reference_embedding(net: Any, graph: MultiModalGraph, x: dict[str, np.ndarray]) -> np.ndarray:
    h = dict(x)
    for weights in net.relation_weight.detach().numpy():
        new: dict[str, list[np.ndarray]] = {}
        for e, W in zip(net.edge_types, weights, strict=True):
            A = np.zeros((graph.n_nodes[e[2]], graph.n_nodes[e[0]]))
            np.add.at(A, tuple(graph.edge_index[e][::-1]), 1)
            A /= np.maximum(A.sum(1, keepdims=True), 1)
            new.setdefault(e[2], []).append(relu(A @ h[e[0]] @ W))
        h |= {t: np.mean(parts, 0) for t, parts in new.items()}
    het = affine(net.heterogeneous, np.hstack([h["a"], x["a"]]))
    H, raw = affine(net.homophilous, x["a"]), np.hstack(list(graph.x["a"].values()))
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    far = ((unit[:, None] - unit[None]) ** 2).sum(2)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    far = np.where(far >= np.quantile(far, 0.6, axis=1, keepdims=True), far, 0)
    K = H @ H.T
    S = (K - 1.5 * far) @ np.linalg.inv(K + 2.0 * np.eye(9))
    return np.hstack([het, S @ H])


def reference_losses(net: Any, Z: np.ndarray) -> tuple[float, float]:
    def rn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.T @ b) / np.maximum(np.linalg.norm(a.T @ b, axis=1, keepdims=True), 1e-12)

    P_het, P_hom = (relu(affine(net.consistent, z)) for z in (Z[:, :D], Z[:, D:]))
    Q_het, Q_hom = (relu(affine(net.specific, z)) for z in (Z[:, :D], Z[:, D:]))
    T = relu(affine(net.transformed, Q_hom))
    uniform = sum(np.log(np.exp(rn(P, P)).sum()) for P in (P_het, P_hom))
    consistency = -np.trace(rn(P_het, P_hom)) + 10 * uniform
    shared = np.trace(rn(T, Q_hom)) + np.trace(rn(T, P_hom))
    return consistency, 0.5 * (-np.trace(rn(T, Q_het)) + 4 * shared)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_embedding_and_the_loss_are_their_formulas(num_layers: int) -> None:
    graph = make_graph()
    module = build(
        graph,
        num_layers=num_layers,
        distance_weight=3.0,
        distance_quantile=0.6,
        uniformity_weight=10.0,
        redundancy_weight=4.0,
        specificity_weight=0.5,
    ).train()
    with torch.no_grad():
        h = module.encoder(tensors(graph)).sum(0).tanh().numpy()

    output = module(tensors(graph), torch.arange(9))

    (net,) = module.nets
    Z = reference_embedding(net, graph, {"a": h[:9], "b": h[9:]})
    assert_allclose(output.embedding.detach(), Z, atol=1e-12)
    losses = [output.penalties[name].item() for name in ("consistency", "specificity")]
    assert_allclose(losses, reference_losses(net, Z), atol=1e-12)


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_gradients_reach_every_parameter_that_can_matter(fusion: str) -> None:
    graph = make_graph()
    module = build(graph, fusion=fusion).train()
    output = module(tensors(graph), torch.arange(9))
    SelfSupervisedLoss()(output, torch.zeros(9), torch.ones(9))[0].backward()

    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0 or name == "encoder.placeholder", name


def test_the_number_of_parameters_is_as_the_formula_says() -> None:
    graph = make_graph()
    encoder = (5 + 1 + 3 + 1 + 6 + 1) * D + 2 * D
    projections = 2 * (D + 1) * 3 + (3 + 1) * 3
    for fusion, copies in (("early", 1), ("late", 2)):
        module = build(graph, fusion=fusion, num_layers=2)
        net = (D + 1) * D + 2 * len(graph.edge_types) * D * D + (2 * D + 1) * D + projections
        assert sum(p.numel() for p in module.parameters()) == encoder + copies * net


def test_a_target_without_features_has_no_distances() -> None:
    graph = make_graph().with_features({"b": {}})

    output = build(graph, target="b").eval()(tensors(graph), torch.arange(5))

    assert torch.isfinite(output.embedding).all()


def test_distances_can_be_left_out_and_change_the_embedding() -> None:
    graph = make_graph()
    without, near, far = (
        build(graph, distance_weight=alpha).eval()(tensors(graph), torch.arange(9)).embedding
        for alpha in (0.0, 1.0, 1.0)
    )

    assert torch.equal(near, far)
    assert (without - near).abs().max() > 1e-3


def test_renumbering_the_nodes_renumbers_the_output() -> None:
    graph, order = make_graph(), np.random.default_rng(1).permutation(9)
    new_id = np.argsort(order)
    edges = {
        e: np.stack(
            [new_id[i] if t == "a" else i for t, i in zip((e[0], e[2]), index, strict=True)]
        )
        for e, index in graph.edge_index.items()
    }
    nodes = {"a": {m: x[order] for m, x in graph.x["a"].items()}, "b": dict(graph.x["b"])}
    permuted = MultiModalGraph(nodes, edges, add_reverse=False)
    module = build(graph).eval()

    out = module(tensors(graph), torch.arange(9)).embedding.detach()
    other = module(tensors(permuted), torch.arange(9)).embedding.detach()

    assert_allclose(other, out[order], atol=1e-10)


def test_new_nodes_leave_the_embedding_of_the_old_ones() -> None:
    planted = make_multimodal_graph(60, random_state=0)
    X = planted.graph.nodes("item")
    embedder = NodeEmbedder(
        HERO(hidden_channels=8, ridge=1.0),
        setting="inductive",
        max_epochs=3,
        random_state=0,
    ).fit(X[:40])
    features = {m: np.vstack([x[:40], x[40:] * 3]) for m, x in planted.graph.x["item"].items()}
    other = planted.graph.with_features({"item": features}).nodes("item")
    d = 8

    rebuilt, again = embedder.transform(X)[:40, d:], embedder.transform(other)[:40, d:]

    assert_allclose(rebuilt, again, rtol=1e-4, atol=1e-6)


def test_rows_are_embedded_one_by_one_as_together() -> None:
    rng = np.random.default_rng(0)
    rows = Bunch(data=rng.normal(size=(40, 6)), target=np.arange(40) % 2)
    clf = MultiModalGraphClassifier(
        HERO(hidden_channels=8, ridge=1.0, max_landmarks=10), max_epochs=3, random_state=0
    ).fit(rows.data[:30], rows.target[:30])

    alone = np.vstack([clf.transform(row[None]) for row in rows.data[30:]])

    assert_allclose(alone, clf.transform(rows.data[30:]), rtol=1e-8)


def test_its_embedding_tells_what_a_perceptron_cannot_see() -> None:
    planted = make_multimodal_graph(
        240, hops=2, signal=4.0, homophily=1.0, n_attributes=24, random_state=0
    )
    X, y = planted.graph.nodes("item"), planted.target
    params = {"max_epochs": 40, "lr": 0.01, "early_stopping": False, "random_state": 0}

    clf = MultiModalGraphClassifier(HERO(hidden_channels=16), fusion="late", **params)
    mlp = MultiModalGraphClassifier("mlp", **params).fit(X[:160], y[:160])

    assert clf.fit(X[:160], y[:160]).score(X[160:], y[160:]) > mlp.score(X[160:], y[160:]) + 0.2
