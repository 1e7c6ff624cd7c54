"""XGEA's operators against their equations in plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from skmmg.nn._additive_score import additive_score
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._reflection_conv import EdgePair, ReflectionConv
from skmmg.nn._xgea_conv import XGEAConv, mean_of_others

CHANNELS, SLOPE = 4, 0.2
N_NODES = {"a": 4, "b": 3}
# parallel edges, a loop, a relation without edges, nodes without any
EDGES = {
    ("a", "to", "a"): np.array([[0, 1, 2, 2, 3, 1], [0, 0, 1, 1, 1, 1]]),
    ("b", "to", "a"): np.array([[0, 1, 2, 0], [0, 0, 1, 2]]),
    ("a", "to", "b"): np.array([[0, 3, 1], [0, 0, 2]]),
    ("b", "none", "b"): np.zeros((2, 0), dtype=np.int64),
}
START = {"a": 0, "b": N_NODES["a"]}


def make_edges() -> EdgeStructure:
    tensors = {name: torch.tensor(index) for name, index in EDGES.items()}
    return EdgeStructure(tensors, N_NODES, list(EDGES))


def draw_states(n_modalities: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_modalities, sum(N_NODES.values()), CHANNELS))


def edges_into(i: int) -> list[tuple[int, int]]:
    """Relation and source of every edge into node i, in the common numbering."""
    return [
        (r, j + START[src])
        for r, ((src, _, dst), index) in enumerate(EDGES.items())
        for j, k in index.T.tolist()
        if k + START[dst] == i
    ]


def softmax(scores: list[float]) -> np.ndarray:
    exp = np.exp(scores)
    return exp / exp.sum()


def others(h: np.ndarray, m: int) -> np.ndarray:
    rest = [h[k] for k in range(len(h)) if k != m]
    return np.mean(rest, axis=0) if rest else h[m]


def arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def attention_layer(h: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    out = np.zeros_like(h)
    for m in range(len(h)):
        c = others(h, m)
        for i in range(h.shape[1]):
            scores, messages = [], []
            for r, j in edges_into(i):
                pair = np.concatenate([c[i], c[j]])
                mapped = pair @ np.vstack([p["w_dst"][r], p["w_src"][r]])
                scores.append(p["vector"] @ np.where(mapped > 0, mapped, SLOPE * mapped))
                messages.append(h[m, j] @ p["w_src"][r])
            if scores:
                out[m, i] = softmax(scores) @ np.array(messages)
    return np.tanh(out)


def reflect(h: np.ndarray, n: np.ndarray) -> np.ndarray:
    return h - 2 * (h @ n) * n


def reflection_layer(
    h: np.ndarray, x: np.ndarray, u: np.ndarray, p: dict[str, np.ndarray], q: dict[str, np.ndarray]
) -> np.ndarray:
    rho = u / np.linalg.norm(u, axis=1, keepdims=True)
    out = np.zeros_like(h)
    for m in range(len(h)):
        c = others(x, m)
        for i in range(h.shape[1]):
            into = edges_into(i)
            if not into:
                continue
            a = softmax([rho[r] @ p["vector"] for r, _ in into])
            chi = [q["dst.weight"] @ c[i] + q["src.weight"] @ c[j] for _, j in into]
            chi = [v / np.linalg.norm(v) for v in chi]
            b = softmax([v @ p["influence_vector"] for v in chi])
            by_relation = sum(a[e] * reflect(h[m, j], rho[r]) for e, (r, j) in enumerate(into))
            by_others = sum(b[e] * reflect(h[m, j], chi[e]) for e, (_, j) in enumerate(into))
            out[m, i] = by_relation + 0.3 * by_others
    return np.tanh(out)


def make_reflection() -> tuple[ReflectionConv, EdgePair, Tensor]:
    torch.manual_seed(0)
    conv, pair = ReflectionConv(CHANNELS, 0.3).double(), EdgePair(CHANNELS).double()
    return conv, pair, torch.randn(len(EDGES), CHANNELS).double()


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_the_attention_layer_is_its_equations(n_modalities: int) -> None:
    torch.manual_seed(0)
    conv, h = XGEAConv(CHANNELS, len(EDGES), SLOPE).double(), draw_states(n_modalities)

    out = conv(torch.tensor(h), make_edges())

    assert_allclose(out.detach(), attention_layer(h, arrays(conv)), atol=1e-12)


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_the_reflection_layer_is_its_equations(n_modalities: int) -> None:
    conv, pair, u = make_reflection()
    h, x = draw_states(n_modalities), draw_states(n_modalities, seed=1)

    out = conv(torch.tensor(h), torch.tensor(x), make_edges(), u, pair)

    expected = reflection_layer(h, x, u.numpy(), arrays(conv), arrays(pair))
    assert_allclose(out.detach(), expected, atol=1e-12)


def test_a_reflection_keeps_lengths_so_that_one_neighbour_gives_its_length() -> None:
    conv, pair, u = make_reflection()
    conv.influence_weight = 0.0
    h = torch.tensor(draw_states(2))

    out = conv(h, h, make_edges(), u, pair)

    # node a2 has one neighbour, b0; tanh hides the length
    assert_allclose(out[:, 2].atanh().norm(dim=1).detach(), h[:, 4].norm(dim=1), atol=1e-10)


def test_the_attention_layer_with_one_modality_is_gatv2_of_pytorch_geometric() -> None:
    from torch_geometric.nn import GATv2Conv

    torch.manual_seed(0)
    conv, h = XGEAConv(CHANNELS, 1).double(), draw_states(1)[:, :4]
    index = torch.tensor(EDGES["a", "to", "a"])
    gat = GATv2Conv(CHANNELS, CHANNELS, bias=False, add_self_loops=False).double()
    with torch.no_grad():
        gat.lin_l.weight.copy_(conv.w_src[0].t())
        gat.lin_r.weight.copy_(conv.w_dst[0].t())
        gat.att.copy_(conv.vector[None, None])
        gat.lin_l.bias.zero_() if gat.lin_l.bias is not None else None
        gat.lin_r.bias.zero_() if gat.lin_r.bias is not None else None
    edges = EdgeStructure({("a", "to", "a"): index}, {"a": 4}, [("a", "to", "a")])

    out = conv(torch.tensor(h), edges)[0]

    assert_allclose(out.detach(), gat(torch.tensor(h)[0], index).tanh().detach(), atol=1e-12)


def test_the_own_state_of_a_modality_is_not_in_its_weights() -> None:
    conv, h = XGEAConv(CHANNELS, len(EDGES)).double(), torch.tensor(draw_states(2))
    changed = h.clone()
    changed[0] += 1.0

    before, after = (conv.attend(states, make_edges()) for states in (h, changed))

    assert_allclose(before[0].detach(), after[0].detach())
    assert (before[1] - after[1]).abs().max() > 1e-3


@pytest.mark.parametrize("which", ["attention", "reflection"])
def test_the_gradient_is_that_of_finite_differences(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skmmg.nn._additive_score._CELLS", 12)  # three edges at a time
    torch.manual_seed(0)
    h = torch.tensor(draw_states(2), requires_grad=True)
    x = torch.tensor(draw_states(2, seed=1), requires_grad=True)
    reflection, pair, u = make_reflection()
    attention = XGEAConv(CHANNELS, len(EDGES)).double()

    def layer(h: Tensor, x: Tensor, *parameters: Tensor) -> Any:
        if which == "attention":
            return attention(h * x, make_edges())
        return reflection(h, x, make_edges(), u, pair)

    parameters = tuple((attention if which == "attention" else reflection).parameters())
    assert torch.autograd.gradcheck(layer, (h, x, *parameters))


def test_the_additive_score_is_its_formula() -> None:
    torch.manual_seed(0)
    query, key, vector = torch.randn(2, 3, 5), torch.randn(2, 4, 5), torch.randn(5)
    ends = (torch.tensor([0, 2, 2, 1]), torch.tensor([3, 0, 0, 1]))

    score = additive_score(query, key, vector, ends, SLOPE)

    pair = query[:, ends[0]] + key[:, ends[1]]
    expected = torch.nn.functional.leaky_relu(pair, SLOPE) @ vector
    assert_allclose(score, expected, atol=1e-6)


def test_the_others_of_a_single_modality_are_itself() -> None:
    h = torch.tensor(draw_states(3))

    assert_allclose(mean_of_others(h)[0], (h[1] + h[2]) / 2)
    assert_allclose(mean_of_others(h[:1]), h[:1])
