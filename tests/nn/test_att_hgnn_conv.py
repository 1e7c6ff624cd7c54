"""The layer of SHGP, against dense float64 matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skmmg.nn import AttHGNNConv, GraphTensors

SIZES = {"movie": 6, "actor": 4, "tag": 3}
TYPES = (
    ("movie", "stars", "actor"),
    ("actor", "rev_stars", "movie"),
    ("movie", "near", "movie"),
    ("tag", "tags", "movie"),
)
IN, OUT, ATT = 5, 4, 3


def draw(scale_scores: bool = True) -> tuple[GraphTensors, dict[str, np.ndarray], AttHGNNConv]:
    rng = np.random.default_rng(0)
    index = {
        e: torch.tensor(rng.integers([[SIZES[e[0]]], [SIZES[e[2]]]], size=(2, 9))) for e in TYPES
    }
    graph = GraphTensors(x={}, num_nodes=dict(SIZES), edge_index=index)
    torch.manual_seed(0)
    conv = AttHGNNConv(
        IN, OUT, list(SIZES), TYPES, att_channels=ATT, scale_scores=scale_scores
    ).double()
    return graph, {t: rng.normal(size=(n, IN)) for t, n in SIZES.items()}, conv


def reference(
    graph: GraphTensors,
    x: dict[str, np.ndarray],
    w: dict[str, np.ndarray],
    t: str,
    scale: float = (2 * ATT) ** -0.5,
) -> tuple[np.ndarray, np.ndarray]:
    i, parts = list(SIZES).index(t), [x[t] @ w["self_weight"][list(SIZES).index(t)]]
    for r, (src, _, dst) in enumerate(TYPES):
        if dst == t:
            A = np.zeros((SIZES[dst], SIZES[src]))
            np.add.at(A, tuple(graph.edge_index[TYPES[r]].numpy()[::-1]), 1)
            A /= np.maximum(A.sum(1, keepdims=True), 1)
            parts.append(A @ x[src] @ w["relation_weight"][r])
    u = parts[0] @ w["query_weight"][i]
    pairs = [np.hstack([p @ w["key_weight"][i], u]) @ w["score_weight"][i] for p in parts]
    e = np.hstack([np.where(s > 0, s * scale, np.expm1(s * scale)) for s in pairs])
    c = np.exp(e) / np.exp(e).sum(1, keepdims=True)
    return sum(c[:, k : k + 1] * p for k, p in enumerate(parts)) + w["bias"][i], c.T


@pytest.mark.parametrize("scale_scores", [True, False])
def test_the_layer_is_its_formula(scale_scores: bool) -> None:
    graph, x, conv = draw(scale_scores)

    out, weights = conv.eval()({t: torch.tensor(a) for t, a in x.items()}, graph)

    w = {name: p.detach().numpy() for name, p in conv.named_parameters()}
    for t in SIZES:
        wanted, c = reference(graph, x, w, t, *([] if scale_scores else [1.0]))
        assert_allclose(out[t].detach(), wanted, atol=1e-12)
        assert_allclose(weights[t].detach(), c, atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    graph, x, conv = draw()
    inputs = tuple(torch.tensor(a, requires_grad=True) for a in x.values())

    assert torch.autograd.gradcheck(
        lambda *xs: conv.eval()(dict(zip(SIZES, xs, strict=True)), graph)[0]["movie"], inputs
    )


def test_the_number_of_parameters_is_as_the_formula_says() -> None:
    _, _, conv = draw()
    per_type = IN * OUT + 2 * OUT * ATT + 2 * ATT + OUT

    counted = sum(p.numel() for p in conv.parameters())

    assert counted == len(SIZES) * per_type + len(TYPES) * IN * OUT
