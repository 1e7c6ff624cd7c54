"""Graph attention against a dense reference and PyG's operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from numpy.testing import assert_allclose

from skmmg.nn import _gat_conv
from skmmg.nn._gat_conv import GATConv
from skmmg.nn._homogeneous import HomogeneousGraph

DTYPE = torch.float64
N_NODES, WIDTH = 6, 5


def draw(seed: int = 0) -> tuple[torch.Tensor, HomogeneousGraph]:
    """States and a graph with weights, two loops at node 2, and a node 5 with its loop alone."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(N_NODES, N_NODES, dtype=DTYPE, generator=generator) + 0.5
    weight *= torch.rand(N_NODES, N_NODES, generator=generator) < 0.4
    weight[5] = 0
    weight.fill_diagonal_(0)[2, 2] = 0.7
    dst, src = weight.nonzero().t()
    graph = HomogeneousGraph(dst, src, weight[dst, src], N_NODES).with_self_loops()
    return torch.randn(N_NODES, WIDTH, dtype=DTYPE, generator=generator), graph


def make_conv(**options: Any) -> GATConv:
    torch.manual_seed(0)
    conv = GATConv(WIDTH, 3, 2, **options).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return conv


def reference(conv: GATConv, h: np.ndarray, graph: HomogeneousGraph) -> np.ndarray:
    """Edge by edge, from the equations."""
    p = {name: value.detach().numpy() for name, value in conv.named_parameters()}
    out = np.zeros((N_NODES, 2, 3))
    table = (h @ p["linear.weight"].T).reshape(N_NODES, 2, 3)
    if conv.attention == "v2":
        target = (h @ p["target.weight"].T + p["target.bias"]).reshape(N_NODES, 2, 3)
    for i in range(N_NODES):
        into = np.flatnonzero(graph.dst == i)
        for k in range(2):
            scores = []
            for e in into:
                j = int(graph.src[e])
                if conv.attention == "v1":
                    g = p["vectors"][1, k] @ table[j, k] + p["vectors"][0, k] @ table[i, k]
                    scores.append(g if g > 0 else conv.negative_slope * g)
                else:
                    pair = table[j, k] + target[i, k]
                    pair = np.where(pair > 0, pair, conv.negative_slope * pair)
                    scores.append(p["vectors"][0, k] @ pair)
            mass = np.exp(scores) * graph.weight.numpy()[into]
            for share, e in zip(mass / mass.sum(), into, strict=True):
                out[i, k] += share * table[int(graph.src[e]), k]
    merged = out.reshape(N_NODES, 6) if conv.concat else out.mean(1)
    return merged + p["bias"]


@pytest.mark.parametrize("attention", ["v1", "v2"])
@pytest.mark.parametrize("concat", [True, False])
def test_the_output_is_the_formula(attention: str, concat: bool) -> None:
    h, graph = draw()
    conv = make_conv(attention=attention, concat=concat, negative_slope=0.3)

    out = conv(h, graph.structure(), graph.weight)

    assert_allclose(out.detach(), reference(conv, h.numpy(), graph), atol=1e-12)


@pytest.mark.parametrize("concat", [True, False])
def test_v1_is_the_operator_of_pyg(concat: bool) -> None:
    h, graph = draw()
    conv = make_conv(concat=concat)
    other = pyg.GATConv(WIDTH, 3, 2, concat=concat, add_self_loops=False).double()
    with torch.no_grad():
        other.lin.weight.copy_(conv.linear.weight)
        other.att_dst.copy_(conv.vectors[:1])
        other.att_src.copy_(conv.vectors[1:])
        other.bias.copy_(conv.bias)

    out = conv(h, graph.structure(), torch.ones_like(graph.weight))

    assert_allclose(
        out.detach(), other(h, torch.stack([graph.src, graph.dst])).detach(), atol=1e-12
    )


def test_v2_is_the_operator_of_pyg() -> None:
    h, graph = draw()
    conv = make_conv(attention="v2")
    other = pyg.GATv2Conv(WIDTH, 3, 2, add_self_loops=False).double()
    with torch.no_grad():
        other.lin_l.weight.copy_(conv.linear.weight)
        other.lin_l.bias.zero_()
        other.lin_r.load_state_dict(conv.target.state_dict())
        other.att.copy_(conv.vectors)
        other.bias.copy_(conv.bias)

    out = conv(h, graph.structure(), torch.ones_like(graph.weight))

    assert_allclose(
        out.detach(), other(h, torch.stack([graph.src, graph.dst])).detach(), atol=1e-12
    )


@pytest.mark.parametrize("attention", ["v1", "v2"])
def test_an_edge_of_weight_two_counts_as_two_edges(attention: str) -> None:
    h, graph = draw()
    conv, ones = make_conv(attention=attention), torch.ones_like(graph.weight)
    twice = HomogeneousGraph(
        *(x.repeat_interleave(2) for x in (graph.dst, graph.src, ones)), N_NODES
    )

    weighted = conv(h, graph.structure(), 2 * ones)

    assert_allclose(
        weighted.detach(), conv(h, twice.structure(), twice.weight).detach(), atol=1e-12
    )


@pytest.mark.parametrize("attention", ["v1", "v2"])
def test_attention_starts_as_wide_as_that_of_pyg(attention: str) -> None:
    torch.manual_seed(0)
    ours = GATConv(64, 8, heads=8, attention=attention)
    other = pyg.GATConv(64, 8, heads=8)

    assert_allclose(
        ours.vectors.detach().abs().amax((1, 2)), other.att_src.abs().max().item(), rtol=0.1
    )


@pytest.mark.parametrize("attention", ["v1", "v2"])
def test_the_gradient_is_that_of_finite_differences(
    attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gat_conv, "_BLOCK", 24)  # blocks of four edges
    h, graph = draw()
    conv, edges = make_conv(attention=attention), graph.structure()

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(dict(conv.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(conv, named, (x, edges, graph.weight))

    assert torch.autograd.gradcheck(run, (h.requires_grad_(), *conv.parameters()))


def test_an_unknown_score_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"attention has to be one of \['v1', 'v2'\], got 'v3'"):
        GATConv(4, 2, attention="v3")
