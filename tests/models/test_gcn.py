"""GCN against a dense reference, and what it does with rows and weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skmmg.models.gcn import GCNBackbone
from skmmg.nn import GraphTensors

DTYPE = torch.float64
LIKES, HAS = ("user", "likes", "user"), ("user", "has", "item")
EDGES = {LIKES: [[0, 1, 2, 2, 3], [1, 0, 2, 1, 1]], HAS: [[0, 1, 1], [0, 0, 1]]}
WEIGHTS = {LIKES: [0.5, 2.0, 1.0, 3.0, 0.25]}


def make_graph() -> tuple[dict[str, torch.Tensor], GraphTensors]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"user": 4, "item": 2}
    graph = GraphTensors(
        x={},
        num_nodes=sizes,
        edge_index={e: torch.tensor(index) for e, index in EDGES.items()},
        edge_weight={e: torch.tensor(w) for e, w in WEIGHTS.items()},
    )
    x = {t: torch.randn(n, 3, dtype=DTYPE, generator=generator) for t, n in sizes.items()}
    return x, graph


@pytest.mark.parametrize("merge", ["union", "mean"])
def test_the_layers_are_the_formula(merge: str) -> None:
    x, graph = make_graph()
    net = GCNBackbone(3, list(EDGES), num_layers=2, dropout=0.0, merge=merge).double()
    with torch.no_grad():
        for conv in net.convs:
            conv.bias += torch.randn_like(conv.bias)

    out = net(x, graph)

    adjacency = np.zeros((6, 6))
    for j, i, w in zip(*EDGES[LIKES], WEIGHTS[LIKES], strict=True):
        adjacency[i, j] = w
    for j, i in zip(*EDGES[HAS], strict=True):
        adjacency[4 + i, j] = 1
    looped = adjacency + np.eye(6)
    degree = np.diag(looped.sum(1) ** -0.5)
    h = np.vstack([x["user"], x["item"]])
    for conv in net.convs:
        weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
        h = np.maximum(degree @ looped @ degree @ h @ weight.T + bias, 0)
    assert list(out) == ["user", "item"]
    assert_allclose(np.vstack([out[t].detach() for t in out]), h, atol=1e-12)
