"""MMGCN: its parameters, its network against NumPy, its options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.special import expit

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph
from skmmg.models import MLP, MMGCN
from skmmg.models._base import ModelOutput
from skmmg.nn import GraphTensors
from skmmg.training import column_statistics, graph_tensors

D, N_CLASSES, N = 4, 3, 6


def make_graph() -> MultiModalGraph:
    rng = np.random.default_rng(0)
    x = {"text": rng.normal(size=(N, 5)), "image": rng.normal(size=(N, 3))}
    return MultiModalGraph(x, {"cites": rng.integers(N, size=(2, 9))})


def to_tensors(graph: MultiModalGraph) -> GraphTensors:
    return graph_tensors(
        graph,
        column_statistics(graph, None),
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def build(graph: MultiModalGraph, **params: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    spec = MMGCN(hidden_channels=D, dropout=0.0, **params)
    module = spec.build(graph.nodes().schema, N_CLASSES).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module


def run(module: torch.nn.Module, graph: MultiModalGraph) -> ModelOutput:
    with torch.no_grad():
        output: ModelOutput = module(to_tensors(graph), torch.arange(N))
    return output


def test_the_network_is_as_the_equations_say() -> None:
    graph = make_graph()
    module = build(graph, num_layers=2)
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}

    blocks = np.zeros((2 * N, 2 * N))
    for index in graph.edge_index.values():  # the relation and its reverse, in both modalities
        for m in range(2):
            np.add.at(blocks, (m * N + index[1], m * N + index[0]), 1.0)
    across = expit(p["inter.score"][0])
    blocks += across * np.kron(np.array([[0, 1], [1, 0]]), np.eye(N)) + np.eye(2 * N)
    scale = np.diag(1 / np.sqrt(blocks.sum(1)))
    h = np.vstack(
        [
            graph.x["node"][m] @ p[f"encoder.projections.entries.0.entries.{i}.weight"].T
            + p[f"encoder.projections.entries.0.entries.{i}.bias"]
            for i, m in enumerate(("text", "image"))
        ]
    )
    h = np.maximum(h, 0)
    for layer in range(2):
        h = np.maximum(scale @ blocks @ scale @ h @ p[f"convs.{layer}.linear.weight"].T, 0)
    h = h.reshape(2, N, D)
    score = np.einsum("mid,mnde,nie->mni", h, p["attention.weight"], h) / np.sqrt(D)
    alpha = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    o = np.einsum("mni,nid->mid", alpha, h)
    u = np.hstack([o.mean(0), o.max(0)])
    z = expit(u @ p["gate.weight"].T + p["gate.bias"]) * u

    out = run(module, graph)

    assert_allclose(out.embedding, z, atol=1e-12)
    assert_allclose(out.logits, z @ p["head.weight"].T + p["head.bias"], atol=1e-12)
    assert_allclose(out.modality_weights, alpha.mean(0).T, atol=1e-12)


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_number_of_parameters_is_as_the_formula_says(num_layers: int) -> None:
    module = build(make_graph(), num_layers=num_layers)

    encoder = (5 + 1) * D + (3 + 1) * D + D  # two projections, a placeholder
    inter, attention = 1, 4 * D * D
    gate, head = (2 * D + 1) * 2 * D, (2 * D + 1) * N_CLASSES
    expected = encoder + num_layers * D * D + inter + attention + gate + head
    assert sum(p.numel() for p in module.parameters()) == expected


def test_reordering_the_modalities_changes_nothing() -> None:
    graph = make_graph()
    x = graph.x["node"]
    reordered = graph.with_features({"node": {m: x[m] for m in ("image", "text")}})
    module, other = build(graph), build(reordered)
    shared = {k: v for k, v in module.state_dict().items() if not k.startswith("encoder.proj")}
    other.load_state_dict(shared | {"attention.weight": module.attention.weight.flip(0, 1)}, False)
    for modality in ("text", "image"):
        state = module.encoder.projections["node"][modality].state_dict()
        other.encoder.projections["node"][modality].load_state_dict(state)

    assert_allclose(run(other, reordered).logits, run(module, graph).logits, atol=1e-12)


def test_weights_between_modalities_are_fixed_or_learned() -> None:
    graph = make_graph()
    fixed, learned, none = (build(graph, inter_weight=w) for w in (1.0, "learned", 0.0))

    assert_allclose(fixed.inter(), [[0, 1], [1, 0]])
    a = learned.inter().detach().numpy()
    assert_allclose(a, a.T)
    assert 0 < a[0, 1] < 1
    assert_allclose(none.inter(), 0)


def test_without_edges_between_modalities_their_states_do_not_mix() -> None:
    graph = make_graph()
    module = build(graph, inter_weight=0.0, cross_attention=False, readout="mean", gate=False)
    x = graph.x["node"]
    other = graph.with_features({"node": {"text": x["text"], "image": x["image"] + 1.0}})

    moved = run(module, other).embedding - run(module, graph).embedding
    text_moved = graph.with_features({"node": {"text": x["text"] + 1.0, "image": x["image"]}})
    both = graph.with_features({"node": {m: v + 1.0 for m, v in x.items()}})
    text = run(module, text_moved).embedding - run(module, graph).embedding

    assert_allclose(run(module, both).embedding, run(module, graph).embedding + moved + text)


@pytest.mark.parametrize(
    ("params", "width"),
    [
        ({"readout": "mean"}, D),
        ({"readout": "max"}, D),
        ({"readout": "mean_max"}, 2 * D),
        ({"gate": False}, 2 * D),
        ({"cross_attention": False}, 2 * D),
        ({"inter_weight": 1.0}, 2 * D),
        ({"input_activation": "tanh"}, 2 * D),
        ({"input_activation": None}, 2 * D),
    ],
    ids=repr,
)
def test_every_option_trains(params: dict[str, Any], width: int) -> None:
    X, y = make_graph().nodes(), np.arange(N) % N_CLASSES
    spec = MMGCN(hidden_channels=D, **params)

    clf = MultiModalGraphClassifier(spec, max_epochs=3, early_stopping=False, random_state=0)
    clf.fit(X, y)

    assert clf.transform(X).shape == (N, width)
    assert np.isfinite([row["train_loss"] for row in clf.history_]).all()
    if params.get("cross_attention", True):
        assert_allclose(clf.modality_weights(X).sum(axis=1), 1, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="gives modalities no weights"):
            clf.modality_weights(X)


def test_it_beats_the_mlp_where_the_label_is_two_hops_away() -> None:
    # as in test_models.py, but wider: it takes the two relations of the network for one
    planted = make_multimodal_graph(
        240, hops=2, signal=4.0, homophily=1.0, n_attributes=24, random_state=0
    )
    X, y = planted.graph.nodes("item"), planted.target
    settings = {"max_epochs": 40, "lr": 0.01, "early_stopping": False, "random_state": 0}
    specs = MMGCN(dropout=0.0, input_dropout=0.0), MLP(dropout=0.0, input_dropout=0.0)

    ours, mlp = (
        MultiModalGraphClassifier(spec, **settings).fit(X[:160], y[:160]).score(X[160:], y[160:])
        for spec in specs
    )

    assert ours > mlp + 0.2


def test_new_rows_change_nothing_for_the_fitted_ones() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 6)), np.arange(40) % 2
    columns = {"a": slice(0, 4), "b": slice(4, 6)}
    clf = MultiModalGraphClassifier(
        "mm_gcn", modalities=columns, max_epochs=3, early_stopping=False, random_state=0
    ).fit(X[:30], y[:30])

    together = clf.predict_proba(X)

    assert_allclose(clf.predict_proba(X[:30]), together[:30], rtol=1e-9)
    assert_allclose(clf.predict_proba(X[35:36]), together[35:36], rtol=1e-9)


def test_weights_of_edges_count() -> None:
    graph = make_graph()
    src, dst = graph.edge_index[("node", "cites", "node")]
    x = dict(graph.x["node"])
    one, two = (MultiModalGraph(x, {"cites": _weighted(src, dst, weight)}) for weight in (1.0, 2.0))
    module = build(one)

    assert (run(module, one).logits - run(module, two).logits).abs().max() > 1e-3


def _weighted(src: np.ndarray, dst: np.ndarray, weight: float) -> Any:
    weights = weight * (1.0 + np.arange(len(src)))
    return sparse.coo_array((weights, (src, dst)), shape=(N, N))
