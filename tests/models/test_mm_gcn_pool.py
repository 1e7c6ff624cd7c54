"""mm_gcn_pool: samples that are graphs, against a reference that takes one graph at a time."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skmmg import (
    KNNGraph,
    ModalityTransformer,
    MultiModalGraph,
    MultiModalGraphClassifier,
    NodeView,
    stack_graphs,
)
from skmmg.models import MMGCNPool
from skmmg.training import ClassificationLoss, column_statistics, graph_tensors

NEAR, TALKS = ("channel", "near", "channel"), ("channel", "talks_to", "channel")
CHANNELS, N_CLASSES = 4, 3


def draw(
    seed: int, n_channels: int = 5, n_segments: int = 3, shift: float = 0.0
) -> MultiModalGraph:
    """Channels with edges, segments without; one channel lacks its signal."""
    rng = np.random.default_rng(seed)
    eeg, audio = rng.normal(size=(n_channels, 3)) + shift, rng.normal(size=(n_segments, 2))
    if n_channels > 3:
        eeg[2] = np.nan
    src = rng.integers(n_channels, size=6)
    dst = (src + 1 + rng.integers(n_channels - 1, size=6)) % n_channels  # no loops
    edges = {NEAR: np.stack([src, dst]), TALKS: np.stack([dst[:4], src[1:5]])}
    edges[TALKS] = edges[TALKS][:, edges[TALKS][0] != edges[TALKS][1]]
    nodes = {"channel": {"eeg": eeg}, "segment": {"audio": audio}}
    return MultiModalGraph(nodes, edges, add_reverse=False)


GRAPHS = [draw(0), draw(1, 4, 1), draw(2, 6, 4), draw(3, 3, 0)]


def build(X: NodeView, **params: Any) -> nn.Module:
    torch.manual_seed(0)
    spec = MMGCNPool(**{"hidden_channels": CHANNELS, "dropout": 0.0, **params})
    return spec.build(X.schema, N_CLASSES).double().eval()


def run(module: nn.Module, X: NodeView) -> Any:
    graph, stats = X.graph, column_statistics(X.graph, None)
    tensors = graph_tensors(graph, stats, device=torch.device("cpu"), dtype=torch.float64)
    return module(tensors, torch.tensor(X.ids))


# --------------------------------------------------------------------------- the reference


def gcn(x: np.ndarray, a: np.ndarray, p: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Kipf and Welling with self-loops; a[i, j] counts the edges from j to i."""
    a = a + np.eye(len(a))
    scale = 1 / np.sqrt(a.sum(1))
    return (scale[:, None] * a * scale) @ (x @ p[name + "lin.weight"].T) + p[name + "bias"]


def branch(x: np.ndarray, a: np.ndarray, p: dict[str, np.ndarray], ratio: float) -> np.ndarray:
    """Two layers of convolution, pooling and readout on one graph of one modality."""
    out = np.zeros(2 * x.shape[1])
    for layer in range(2):
        x = np.maximum(gcn(x, a, p, f"convs.{layer}."), 0)
        score = np.tanh(gcn(x, a, p, f"pools.{layer}.score.")[:, 0])
        kept = np.argsort(-score, kind="stable")[: int(np.ceil(ratio * len(x)))]
        x, a = x[kept] * score[kept, None], a[np.ix_(kept, kept)]
        if len(x):
            out += np.concatenate([x.mean(0), x.max(0)])
    return out


def reference(module: nn.Module, graph: MultiModalGraph, ratio: float) -> np.ndarray:
    """Logits of one graph."""
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}
    u = []
    for i, (node_type, modality) in enumerate([("channel", "eeg"), ("segment", "audio")]):
        x = np.asarray(graph.x[node_type][modality], dtype=float)
        has = ~np.isnan(x).all(1)
        a = np.zeros((len(x), len(x)))
        for edge_type, (src, dst) in graph.edge_index.items():
            if edge_type[0] == node_type:
                np.add.at(a, (dst, src), 1)
        linear = module.encoder.projections[node_type][modality]
        weight, bias = (v.detach().numpy() for v in (linear.weight, linear.bias))
        own = {k.removeprefix(f"branches.{i}."): v for k, v in p.items() if f"branches.{i}." in k}
        u.append(branch(x[has] @ weight.T + bias, a[np.ix_(has, has)], own, ratio))
    h = np.stack(u)
    s = np.array([[h[m] @ p["attention.weight"][m, n] @ h[n] for n in (0, 1)] for m in (0, 1)])
    alpha = np.exp(s / np.sqrt(h.shape[1]))
    z = ((alpha / alpha.sum(1, keepdims=True)) @ h).ravel()
    z = z / (1 + np.exp(-(p["gate.weight"] @ z + p["gate.bias"])))
    return p["head.weight"] @ z + p["head.bias"]


@pytest.mark.parametrize("ratio", [0.5, 1.0, 0.3])
def test_the_logits_are_what_the_equations_say_for_each_graph_alone(ratio: float) -> None:
    X = stack_graphs(GRAPHS)
    module = build(X, pool_ratio=ratio)

    logits = run(module, X).logits.detach()

    for graph, row in zip(GRAPHS, logits, strict=True):
        assert_allclose(row, reference(module, graph, ratio), atol=1e-10)


@pytest.mark.parametrize("conv", ["gcn", "gat", "sage"])
def test_a_graph_does_not_see_the_others(conv: str) -> None:
    X = stack_graphs(GRAPHS)
    module = build(X, conv=conv)

    together = run(module, X).logits.detach()

    assert_allclose(run(module, X[[2, 0, 2]]).logits.detach(), together[[2, 0, 2]], atol=1e-10)
    alone = run(module, stack_graphs(GRAPHS[1:2])).logits.detach()
    assert_allclose(alone, together[[1]], atol=1e-10)


def test_gradients_reach_every_parameter() -> None:
    X = stack_graphs(GRAPHS)
    module = build(X, num_layers=2).train()
    y = torch.arange(len(X)) % N_CLASSES

    ClassificationLoss()(run(module, X), y, torch.ones(len(X)).double())[0].backward()

    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("conv", "n_conv"), [("gcn", 1), ("sage", 2)])
def test_the_number_of_parameters_is_as_the_formula_says(conv: str, n_conv: int) -> None:
    d, n_modalities, n_layers = CHANNELS, 2, 2
    width = n_modalities * 2 * d

    module = build(stack_graphs(GRAPHS), conv=conv)

    projections = (3 + 1) * d + (2 + 1) * d
    layer = n_conv * d * d + d + (d + 1)
    attention, gate, head = n_modalities**2 * (2 * d) ** 2, (width + 1) * width, (width + 1) * 3
    wanted = projections + n_modalities * n_layers * layer + attention + gate + head
    assert sum(p.numel() for p in module.parameters()) == wanted


# --------------------------------------------------------------------------- in an estimator


def draw_set(n_graphs: int, seed: int = 0) -> tuple[NodeView, np.ndarray]:
    """The class is in how strongly neighbouring channels agree, not in any channel alone."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_graphs) % 2
    graphs = []
    for label in y:
        common = rng.normal(size=(1, 3)) * 2 * label
        nodes = {
            "channel": {"eeg": rng.normal(size=(6, 3)) + common},
            "segment": {"audio": rng.normal(size=(rng.integers(1, 5), 2))},
        }
        graphs.append(MultiModalGraph(nodes))
    return stack_graphs(graphs, neighbors=KNNGraph(3)), y


def make(**params: Any) -> MultiModalGraphClassifier:
    spec = MMGCNPool(hidden_channels=16, dropout=0.0)
    settings = {"max_epochs": 60, "lr": 0.01, "early_stopping": False, "random_state": 0}
    return MultiModalGraphClassifier(spec, **{**settings, **params})


def test_twenty_graphs_are_learnt_by_heart_and_others_predicted() -> None:
    X, y = draw_set(120)

    clf = make().fit(X[:80], y[:80])

    assert make().fit(X[:20], y[:20]).score(X[:20], y[:20]) == 1.0
    assert clf.score(X[80:], y[80:]) > 0.65
    assert_array_equal(pickle.loads(pickle.dumps(clf)).predict(X), clf.predict(X))


def test_new_graphs_are_predicted_as_if_they_had_been_there() -> None:
    X, y = draw_set(24)
    clf = make(max_epochs=3, scaling=None).fit(X[:20], y[:20])
    new = X.graph.subgraph({"graph": X[20:].ids, **_members(X, X[20:].ids)})

    assert_allclose(clf.predict_proba(new.nodes("graph")), clf.predict_proba(X[20:]), atol=1e-6)


def _members(X: NodeView, ids: np.ndarray) -> dict[str, np.ndarray]:
    return {
        t: np.isin(X.graph.edge_index[t, "in", "graph"][1], ids) for t in ("channel", "segment")
    }


def test_scikit_learn_searches_and_cross_validates_sets_of_graphs() -> None:
    X, y = draw_set(24)

    scores = cross_val_score(make(max_epochs=2), X, y, cv=2)
    search = GridSearchCV(make(max_epochs=2), {"model__conv": ["gcn", "sage"]}, cv=2).fit(X, y)

    assert scores.shape == (2,)
    assert search.best_params_["model__conv"] in ("gcn", "sage")
    assert search.best_estimator_.modality_weights(X).shape == (24, 2)


def test_batches_of_graphs_train_and_predict_the_same() -> None:
    X, y = draw_set(24)
    whole, batches = make(max_epochs=2), make(max_epochs=2, batch_size=24)
    small = make(max_epochs=2, batch_size=5).fit(X, y)

    for clf in (whole, batches):
        clf.fit(X, y)

    assert_allclose(batches.predict_proba(X), whole.predict_proba(X), atol=1e-4)
    expected = small.set_params(batch_size=None).predict_proba(X)
    assert_allclose(small.set_params(batch_size=7).predict_proba(X), expected, atol=1e-5)


def test_other_models_take_sets_of_graphs_too() -> None:
    X, y = draw_set(40)

    clf = make(max_epochs=30).set_params(model="hgt", model__hidden_channels=16).fit(X, y)

    assert clf.score(X, y) > 0.6


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize("model", ["mm_gcn_pool", "hgt", "idkg"])
def test_graphs_that_are_held_out_do_not_reach_an_inductive_fit(model: str) -> None:
    def fitted(shift: float, setting: str) -> np.ndarray:
        rng = np.random.default_rng(0)
        graphs = [
            MultiModalGraph(
                {"electrode": {"eeg": rng.normal(size=(4, 5)) + shift * (i >= 10)}},
                {("electrode", "near", "electrode"): [[0, 1], [1, 2]]},
            )
            for i in range(20)
        ]
        X, y = stack_graphs(graphs)[:10], np.arange(10) % 2
        pipeline = make_pipeline(
            ModalityTransformer(StandardScaler(), setting=setting),
            MultiModalGraphClassifier(
                model, setting=setting, max_epochs=2, early_stopping=False, random_state=0
            ),
        )
        return pipeline.fit(X, y).predict_proba(X)

    assert_allclose(fitted(0.0, "inductive"), fitted(5.0, "inductive"), rtol=0)
    assert np.abs(fitted(0.0, "transductive") - fitted(5.0, "transductive")).max() > 1e-6


def test_a_view_of_nodes_is_refused_with_a_hint() -> None:
    X = MultiModalGraph({"eeg": np.ones((4, 2))}, {"near": [[0], [1]]}).nodes()

    with pytest.raises(ValueError, match=r"no node type of graphs\. Make X by stack_graphs"):
        make().fit(X, [0, 1, 0, 1])


def test_a_node_of_two_graphs_and_an_edge_between_graphs_are_refused() -> None:
    nodes = {"word": {"x": np.ones((3, 1))}, "text": 2}
    shared = {("word", "in", "text"): [[0, 0, 1, 2], [0, 1, 0, 1]]}
    linked = {("word", "in", "text"): [[0, 1, 2], [0, 0, 1]], ("word", "by", "word"): [[0], [2]]}

    for edges, message in ((shared, "part of one 'text' only"), (linked, "samples .* are apart")):
        X = MultiModalGraph(nodes, edges, add_reverse=False).nodes("text")
        with pytest.raises(ValueError, match=message):
            make().fit(X, [0, 1])
