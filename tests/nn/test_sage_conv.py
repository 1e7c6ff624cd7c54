"""GraphSAGE against a dense reference and PyG's operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from numpy.testing import assert_allclose

from skmmg.nn import _segment_max
from skmmg.nn._homogeneous import HomogeneousGraph
from skmmg.nn._sage_conv import Neighborhood, SAGEConv

DTYPE = torch.float64
N_NODES, WIDTH = 6, 4


def draw() -> tuple[torch.Tensor, HomogeneousGraph]:
    """States and a graph with weights and a node 5 without neighbours."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(N_NODES, N_NODES, dtype=DTYPE, generator=generator) + 0.5
    weight *= torch.rand(N_NODES, N_NODES, generator=generator) < 0.5
    weight[5] = 0
    dst, src = weight.nonzero().t()
    graph = HomogeneousGraph(dst, src, weight[dst, src], N_NODES)
    return torch.randn(N_NODES, WIDTH, dtype=DTYPE, generator=generator), graph


def make_conv(aggr: str, normalize: bool = True) -> SAGEConv:
    torch.manual_seed(0)
    return SAGEConv(WIDTH, aggr, normalize=normalize).double()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("aggr", ["mean", "sum", "max"])
def test_the_output_is_the_formula(aggr: str, normalize: bool) -> None:
    x, graph = draw()
    conv = make_conv(aggr, normalize)

    out = conv(x, Neighborhood(graph, aggr)).detach()

    p = {name: value.detach().numpy() for name, value in conv.named_parameters()}
    h, expected = x.numpy(), np.zeros((N_NODES, WIDTH))
    for i in range(N_NODES):
        into = np.flatnonzero(graph.dst == i)
        rows, weight = h[graph.src.numpy()[into]], graph.weight[into].numpy()
        around = np.zeros(WIDTH)
        if len(into) and aggr == "max":
            around = np.maximum(rows @ p["pool.weight"].T + p["pool.bias"], 0).max(0)
        elif len(into):
            around = weight @ rows / (weight.sum() if aggr == "mean" else 1)
        u = np.maximum(p["linear.weight"] @ np.concatenate([h[i], around]) + p["linear.bias"], 0)
        expected[i] = u / max(np.linalg.norm(u), 1e-12) if normalize else u
    assert_allclose(out, expected, atol=1e-12)


@pytest.mark.parametrize("aggr", ["mean", "sum", "max"])
def test_without_weights_it_is_the_operator_of_pyg(aggr: str) -> None:
    x, graph = draw()
    graph = HomogeneousGraph(graph.dst, graph.src, torch.ones_like(graph.weight), N_NODES)
    conv = make_conv(aggr, normalize=False)
    other = pyg.SAGEConv(WIDTH, WIDTH, aggr=aggr, project=aggr == "max").double()
    with torch.no_grad():
        other.lin_r.weight.copy_(conv.linear.weight[:, :WIDTH])
        other.lin_l.weight.copy_(conv.linear.weight[:, WIDTH:])
        other.lin_l.bias.copy_(conv.linear.bias)
        if conv.pool is not None:
            other.lin.load_state_dict(conv.pool.state_dict())

    ours = conv(x, Neighborhood(graph, aggr)).detach()

    assert_allclose(ours, other(x, torch.stack([graph.src, graph.dst])).relu().detach(), atol=1e-12)


@pytest.mark.parametrize("aggr", ["mean", "max"])
def test_the_gradient_is_that_of_finite_differences(
    aggr: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_segment_max, "_CELLS", 40)  # blocks of a few channels
    x, graph = draw()
    conv, near = make_conv(aggr), Neighborhood(graph, aggr)

    assert torch.autograd.gradcheck(lambda h: conv(h, near), (x.requires_grad_(),))


def test_neighbours_alike_share_the_gradient_of_a_maximum() -> None:
    """They move together, so it is that of finite differences of the state they have."""
    dst, src = torch.tensor([0, 0, 0]), torch.tensor([1, 2, 3])
    graph = HomogeneousGraph(dst, src, torch.ones(3, dtype=DTYPE), 4)
    conv, near = make_conv("max"), Neighborhood(graph, "max")
    own = torch.randn(1, WIDTH, dtype=DTYPE, generator=torch.Generator().manual_seed(1))
    state = torch.randn(1, WIDTH, dtype=DTYPE, generator=torch.Generator().manual_seed(2))

    def first(shared: torch.Tensor) -> torch.Tensor:
        return conv(torch.cat([own, shared.expand(3, -1)]), near)[0]

    assert torch.autograd.gradcheck(first, (state.requires_grad_(),))


def test_the_parameters_are_those_of_the_formula() -> None:
    counts = {
        aggr: sum(p.numel() for p in make_conv(aggr).parameters()) for aggr in ("mean", "max")
    }

    assert counts == {"mean": (2 * WIDTH + 1) * WIDTH, "max": (3 * WIDTH + 2) * WIDTH}
