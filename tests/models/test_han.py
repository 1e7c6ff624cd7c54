"""HAN: its numbers are those of the paper's equations and of PyG, where PyG computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch_geometric.nn import HANConv as PyGHANConv

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.models import HAN
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._han_conv import HANConv
from skmmg.nn._metapaths import metapath_edges
from skmmg.training import column_statistics, graph_tensors

Array = np.ndarray
N, D, HEADS, N_METAPATHS, ATT = 7, 6, 3, 2, 5
MOVIE = "movie"


def draw_neighbors(self_loops: bool) -> list[Array]:
    """A pattern (receiver, giver) per metapath; node 6 has no neighbour."""
    rng = np.random.default_rng(0)
    out = [rng.random((N, N)) < 0.4 for _ in range(N_METAPATHS)]
    for pattern in out:
        pattern[6] = False
        np.fill_diagonal(pattern, self_loops)
    return out


def structures(patterns: Sequence[Array]) -> list[EdgeStructure]:
    edge_type = (MOVIE, "metapath", MOVIE)
    pairs = [torch.from_numpy(np.stack(np.nonzero(pattern)[::-1])) for pattern in patterns]
    return [EdgeStructure({edge_type: p}, {MOVIE: N}, [edge_type]) for p in pairs]


def make_conv(**options: Any) -> HANConv:
    torch.manual_seed(0)
    conv = HANConv(D, N_METAPATHS, heads=HEADS, **{"att_channels": ATT, **options}).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(0.7 * torch.randn_like(parameter))
    return conv


def softmax(x: Array, axis: int = 0) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def equations(
    conv: HANConv, h: Array, patterns: Sequence[Array], scope: str, slope: float
) -> tuple[Array, Array]:
    """Equations 1 to 9 of the paper, one node, head and metapath after the other."""
    params = {name: p.detach().numpy() for name, p in conv.named_parameters()}
    h = h @ params["lin.weight"].T + params["lin.bias"]
    width = D // HEADS
    z = np.zeros((len(patterns), N, D))
    for p, i, a in np.ndindex(len(patterns), N, HEADS):
        part, givers = slice(a * width, (a + 1) * width), np.flatnonzero(patterns[p][i])
        if not len(givers):
            continue
        query, key = params["att_dst"][p, a], params["att_src"][p, a]
        e = np.array([query @ h[i, part] + key @ h[j, part] for j in givers])
        alpha = softmax(np.where(e > 0, e, slope * e))
        s = sum(w * h[j, part] for w, j in zip(alpha, givers, strict=True))
        z[p, i, part] = np.where(s > 0, s, np.expm1(s))
    w = np.tanh(z @ params["semantic_lin.weight"].T + params["semantic_lin.bias"]) @ params["q"]
    beta = softmax(w.mean(axis=1, keepdims=True) if scope == "global" else w)
    return np.einsum("pn,pnd->nd", np.broadcast_to(beta, w.shape), z), beta


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("scope", ["global", "node"])
@pytest.mark.parametrize("slope", [0.2, 0.0])
def test_the_operator_is_what_the_equations_say(scope: str, self_loops: bool, slope: float) -> None:
    conv = make_conv(semantic_scope=scope, negative_slope=slope)
    patterns, h = draw_neighbors(self_loops), np.random.default_rng(1).normal(size=(N, D))

    out, weight = conv(torch.from_numpy(h), structures(patterns))

    expected, beta = equations(conv, h, patterns, scope, slope)
    assert_allclose(out.detach(), expected, atol=1e-12)
    assert_allclose(weight.detach(), beta, atol=1e-12)


def test_without_self_loops_and_with_relu_it_is_pygs_operator() -> None:
    conv = make_conv(semantic_scope="global", activation="relu", att_channels=D)
    patterns = draw_neighbors(self_loops=False)
    edge_types = [(MOVIE, f"p{p}", MOVIE) for p in range(N_METAPATHS)]
    pyg = PyGHANConv(D, D, ([MOVIE], edge_types), heads=HEADS).double()
    with torch.no_grad():
        pyg.proj[MOVIE].load_state_dict(conv.lin.state_dict())
        pyg.k_lin.load_state_dict(conv.semantic_lin.state_dict())
        pyg.q.copy_(conv.q)
        for p, edge_type in enumerate(edge_types):
            pyg.lin_src["__".join(edge_type)].copy_(conv.att_src[p])
            pyg.lin_dst["__".join(edge_type)].copy_(conv.att_dst[p])
    h = torch.randn(N, D, dtype=torch.float64)
    pairs = [torch.from_numpy(np.stack(np.nonzero(pattern)[::-1])) for pattern in patterns]

    expected, weights = pyg(
        {MOVIE: h},
        dict(zip(edge_types, pairs, strict=True)),
        return_semantic_attention_weights=True,
    )
    out, found = conv(h, structures(patterns))

    assert_allclose(out.detach(), expected[MOVIE].detach(), atol=1e-14)
    assert_allclose(found.squeeze(1).detach(), weights[MOVIE].detach(), atol=1e-14)


def test_gradients_are_those_of_finite_differences() -> None:
    conv, edges = make_conv(), structures(draw_neighbors(self_loops=True))
    h = torch.randn(N, D, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: conv(x, edges)[0], h)


def test_a_prediction_weighs_the_metapaths_as_training_did() -> None:
    conv, edges = make_conv(semantic_scope="global"), structures(draw_neighbors(True))
    h, other = torch.randn(2, N, D, dtype=torch.float64)

    _, trained = conv.train()(h, edges)
    conv(other, edges, keep_score=False)  # a pass over shuffled features leaves no trace
    _, weight = conv.eval()(other, edges)

    assert_allclose(weight.detach(), trained.detach())


# ------------------------------------------------------------------------------ the model


def make_graph() -> MultiModalGraph:
    rng = np.random.default_rng(0)
    stars = rng.integers([[N], [4]], size=(2, 14))
    nodes = {MOVIE: {"text": rng.normal(size=(N, 4))}, "actor": {"text": rng.normal(size=(4, 4))}}
    return MultiModalGraph(nodes, {(MOVIE, "stars", "actor"): stars})


def test_the_model_is_its_operator_on_the_projected_features() -> None:
    graph = make_graph()
    spec = HAN(hidden_channels=D, heads=HEADS, att_channels=ATT)
    module = spec.build(graph.nodes(MOVIE).schema, 3, fusion="early").double().eval()
    tensors = graph_tensors(
        graph, column_statistics(graph, None), device=torch.device("cpu"), dtype=torch.float64
    )

    output = module(tensors, torch.tensor([4, 1]))

    h = module.encoder.projections[MOVIE]["text"](tensors.x[MOVIE]["text"])
    paths = module.backbone.metapaths
    assert [[step[1] for step in path] for path in paths] == [["stars", "rev_stars"]]
    edges = metapath_edges(tensors, paths, max_neighbors=None, self_loops=True)
    z, _ = module.backbone.convs[0](h, edges)
    assert_allclose(output.embedding.detach(), z[[4, 1]].detach())


@pytest.mark.parametrize(("num_layers", "fusion"), [(0, "early"), (1, "late"), (3, "early")])
def test_the_number_of_parameters_is_as_the_formula_says(num_layers: int, fusion: str) -> None:
    d, att, n_classes = 8, 5, 3
    graph = make_graph()
    spec = HAN(hidden_channels=d, heads=2, att_channels=att, num_layers=num_layers)
    module = spec.build(graph.nodes(MOVIE).schema, n_classes, fusion=fusion, missing="zero")

    encoder, head = 2 * 5 * d, (d + 1) * n_classes
    layers = num_layers * (2 * d + (d + 1) * att + att) + max(num_layers - 1, 0) * (d + 1) * d
    scorer = (d + 1) * d + d + 1 if fusion == "late" else 0
    assert sum(p.numel() for p in module.parameters()) == encoder + layers + scorer + head


def test_features_of_other_node_types_are_not_used() -> None:
    graph = make_graph()
    actors = {"text": graph.x["actor"]["text"] + 1}
    changed = graph.with_features({"actor": actors})
    X, y = graph.nodes(MOVIE), np.arange(N) % 3
    clf = MultiModalGraphClassifier(HAN(), max_epochs=2, early_stopping=False, random_state=0)

    clf.fit(X, y)

    assert_allclose(clf.predict_proba(changed.nodes(MOVIE)), clf.predict_proba(X))


@pytest.mark.parametrize("scope", ["global", "node"])
@pytest.mark.parametrize("fusion", ["early", "late"])
def test_rows_are_neighbours_and_do_not_depend_on_the_rows_beside_them(
    scope: str, fusion: str
) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 7)) + 2.0 * y[:, None]
    modalities = {"a": slice(0, 4), "b": slice(4, 7)}
    spec = HAN(hidden_channels=16, heads=2, semantic_scope=scope)
    clf = MultiModalGraphClassifier(
        spec,
        fusion=fusion,
        modalities=modalities,
        max_epochs=40,
        lr=0.02,
        early_stopping=False,
        random_state=0,
    ).fit(X[:40], y[:40])

    assert clf.score(X[40:], y[40:]) > 0.8
    assert_allclose(clf.predict_proba(X[40:45]), clf.predict_proba(X[40:])[:5], atol=1e-10)


def test_rows_without_a_graph_are_told_what_to_give() -> None:
    clf = MultiModalGraphClassifier(HAN(), graph="none", max_epochs=1)

    with pytest.raises(ValueError, match=r"At least one metapath .* \(for rows graph=\"knn\"\)"):
        clf.fit(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2)


def test_metapaths_can_be_chosen_by_grid_search_parameters() -> None:
    clf = MultiModalGraphClassifier("han", max_epochs=1, early_stopping=False, random_state=0)
    clf.set_params(model__metapaths=[("stars", "rev_stars")], model__max_neighbors=2)

    clf.fit(make_graph().nodes(MOVIE), np.arange(N) % 3)

    assert clf.module_.backbones[0].max_neighbors == 2
    with pytest.raises(ValueError, match="Did you mean 'stars'"):
        clf.set_params(model__metapaths=["starz"]).fit(make_graph().nodes(MOVIE), np.arange(N) % 3)


def test_mini_batches_reach_to_the_end_of_the_longest_metapath() -> None:
    rng = np.random.default_rng(0)
    stars = np.stack([rng.integers(60, size=70), np.arange(70) % 50])
    graph = MultiModalGraph(
        {MOVIE: {"text": rng.normal(size=(60, 4))}, "actor": 50}, {(MOVIE, "stars", "actor"): stars}
    )
    X, y = graph.nodes(MOVIE), np.arange(60) % 3
    spec = HAN(8, heads=2, metapaths=[("stars", "rev_stars"), ("stars", "rev_stars") * 2])
    clf = MultiModalGraphClassifier(spec, max_epochs=2, early_stopping=False, random_state=0)
    clf.fit(X, y)

    expected = clf.predict_proba(X)

    assert spec.num_hops() == 4
    assert_allclose(clf.set_params(batch_size=2).predict_proba(X), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "because", "instead"),
    [
        ({"semantic_scope": "global"}, "semantic_scope='global'", "semantic_scope='node'"),
        ({"max_neighbors": 5}, "max_neighbors=5", "max_neighbors=None"),
        (
            {"semantic_scope": "global", "max_neighbors": 5},
            "max_neighbors=5, semantic_scope='global'",
            "max_neighbors=None, semantic_scope='node'",
        ),
    ],
)
def test_what_depends_on_all_nodes_refuses_mini_batches(
    params: dict[str, Any], because: str, instead: str
) -> None:
    clf = MultiModalGraphClassifier(HAN(heads=4, **params), batch_size=4, max_epochs=1)
    message = (
        f"'han' needs the whole graph at once with {because}, got a batch_size. Leave "
        f"batch_size=None, set {instead}, or take"
    )

    with pytest.raises(ValueError, match=message):
        clf.fit(make_graph().nodes(MOVIE), np.arange(N) % 3)
