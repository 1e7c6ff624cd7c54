"""StrucGCN's layers against a dense reference; its weights; what it says of the structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skmmg import MultiModalGraph
from skmmg.models import StrucGCN
from skmmg.models.strucgcn import StrucGCNBackbone, find_structure
from skmmg.nn import GraphTensors
from skmmg.nn._homogeneous import merge_relations

DTYPE = torch.float64
LINK = ("node", "to", "node")
N, D = 14, 3


def draw() -> tuple[torch.Tensor, GraphTensors]:
    generator = torch.Generator().manual_seed(0)
    linked = torch.rand(N, N, generator=generator) < 0.12
    pairs = (linked | linked.t()).nonzero().t()
    weight = torch.rand(pairs.shape[1], generator=generator) + 0.5
    graph = GraphTensors(
        x={}, num_nodes={"node": N}, edge_index={LINK: pairs}, edge_weight={LINK: weight}
    )
    return torch.randn(N, D, dtype=DTYPE, generator=generator), graph


def normalize(matrix: np.ndarray) -> np.ndarray:
    degree = matrix.sum(1)
    root = np.divide(1, np.sqrt(degree), out=np.zeros(N), where=degree > 0)
    return root[:, None] * matrix * root


@pytest.mark.parametrize("mix", [(0.0, 0.5, 0.5), (2.0, 0.0, 1.0), (0.25, 0.75, 0.0)])
def test_the_layers_are_the_formula(mix: tuple[float, float, float]) -> None:
    x, graph = draw()
    net = StrucGCNBackbone(
        D, [LINK], num_layers=2, dropout=0.0, mix=mix, max_ring=2, max_pairs=8, merge="union"
    ).double()

    out = net({"node": x}, graph)["node"].detach()

    merged = merge_relations(graph, [LINK], "union", DTYPE)
    adjacency = np.zeros((N, N))
    adjacency[graph.edge_index[LINK][1], graph.edge_index[LINK][0]] = graph.edge_weight[LINK]
    structure = (find_structure(merged, 2, 8) @ torch.eye(N, dtype=DTYPE)).numpy()
    matrices = [np.eye(N), adjacency, structure]
    mixed = normalize(sum(w * m for w, m in zip(mix, matrices, strict=True)))
    other = normalize(matrices[mix.index(0)])
    h = x.numpy()
    for conv in net.convs:
        weight = conv.weight.detach().numpy()
        h = np.maximum(np.hstack([mixed @ h, other @ h]) @ weight.T, 0)
    assert_allclose(out, h, atol=1e-10)


@pytest.mark.parametrize(
    "weights", [{"self_weight": 1.0}, {"adj_weight": 0.0}, {"adj_weight": 0, "struct_weight": 0}]
)
def test_other_than_one_weight_of_zero_is_an_error(weights: dict[str, float]) -> None:
    schema = MultiModalGraph({"x": np.ones((3, 2))}).nodes().schema

    with pytest.raises(ValueError, match="Exactly one of self_weight, adj_weight and struct_wei"):
        StrucGCN(**weights).build(schema, 2)


def test_only_the_ratio_of_the_weights_counts() -> None:
    x, graph = draw()
    options = {"num_layers": 1, "dropout": 0.0, "max_ring": 2, "max_pairs": 8, "merge": "union"}
    first, second = (
        StrucGCNBackbone(D, [LINK], mix=mix, **options).double() for mix in [(0, 1, 3), (0, 2, 6)]
    )
    second.load_state_dict(first.state_dict())

    outputs = [net({"node": x}, graph)["node"].detach() for net in (first, second)]

    assert_allclose(outputs[0], outputs[1], atol=1e-12)


def test_the_structure_is_found_once_per_graph() -> None:
    _, graph = draw()
    options = {"num_layers": 1, "dropout": 0.0, "max_ring": 2, "max_pairs": 8, "merge": "union"}
    nets = [
        StrucGCNBackbone(D, [LINK], mix=mix, **options).double() for mix in [(0, 1, 3), (1, 0, 6)]
    ]

    first, second = (net._operators(graph, DTYPE) for net in nets)

    assert first.structure is second.structure
    assert nets[0]._operators(graph.shuffled(), DTYPE) is first
