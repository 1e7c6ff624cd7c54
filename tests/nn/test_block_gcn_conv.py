"""The block graph of (modality, node) pairs, against its dense matrix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torch_geometric.nn import GCNConv

from skmmg.nn import BlockGCNConv, CrossModalAttention, GraphTensors

MODALITIES = ("text", "image", "sound")
N_NODES, CHANNELS, OUT = 5, 3, 4
CITES = ("row", "cites", "row")
KNN = {m: ("row", f"knn_{m}", "row") for m in ("text", "image")}
INTER = np.array([[0.0, 0.3, 0.7], [0.3, 0.0, 0.1], [0.7, 0.1, 0.0]])


def make_graph() -> GraphTensors:
    """Parallel edges, a self-loop, weights; node 4 has no edge in the sound."""
    generator = torch.Generator().manual_seed(0)
    edges = {
        KNN["text"]: torch.tensor([[0, 1, 1, 4, 2], [1, 2, 2, 3, 2]]),
        KNN["image"]: torch.tensor([[3, 0, 4], [4, 4, 0]]),
        CITES: torch.tensor([[0, 2, 3], [3, 1, 3]]),
    }
    return GraphTensors(
        x={"row": {m: torch.randn(N_NODES, 2, generator=generator) for m in MODALITIES}},
        num_nodes={"row": N_NODES},
        edge_index=edges,
        edge_weight={CITES: torch.tensor([0.5, 2.0, 1.5])},
    )


def draw_states(channels: int = CHANNELS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(MODALITIES), N_NODES, channels, generator=generator).double()


def dense_blocks(graph: GraphTensors) -> np.ndarray:
    """The matrix A of all (modality, node) pairs, entry by entry."""
    n = N_NODES
    a = np.zeros((3 * n, 3 * n))
    for m, modality in enumerate(MODALITIES):
        for edge_type, index in graph.edge_index.items():
            if edge_type[1].startswith("knn_") and edge_type[1] != f"knn_{modality}":
                continue
            weights = graph.edge_weight.get(edge_type, torch.ones(index.shape[1]))
            for source, target, weight in zip(*index.tolist(), weights.tolist(), strict=True):
                a[m * n + target, m * n + source] += weight
        for other in range(3):
            for i in range(n):
                a[m * n + i, other * n + i] += INTER[m, other]
    return a


def apply_dense(a: np.ndarray, h: np.ndarray, w: np.ndarray, own: float) -> np.ndarray:
    a = a + own * np.eye(len(a))
    d = np.diag(1 / np.sqrt(a.sum(1)))
    return d @ a @ d @ h @ w


def make_conv(self_weight: float = 1.0) -> BlockGCNConv:
    torch.manual_seed(0)
    return BlockGCNConv(CHANNELS, OUT, self_weight).double()


@pytest.mark.parametrize("own", [1.0, 4.0])
def test_the_layer_is_the_product_with_the_block_matrix(own: float) -> None:
    graph, conv, h = make_graph(), make_conv(own), draw_states()

    out = conv(h, conv.blocks(graph, MODALITIES), torch.tensor(INTER)).detach()

    w = conv.linear.weight.detach().numpy().T
    expected = apply_dense(dense_blocks(graph), h.reshape(-1, CHANNELS).numpy(), w, own)
    assert_allclose(out.reshape(-1, OUT), expected, atol=1e-12)


def test_without_edges_between_modalities_it_is_gcn_within_each() -> None:
    graph, conv, h = make_graph(), make_conv(), draw_states()
    gcn = GCNConv(CHANNELS, OUT, bias=False).double()
    gcn.lin.load_state_dict(conv.linear.state_dict())

    out = conv(h, conv.blocks(graph, MODALITIES), torch.zeros(3, 3).double())

    for m, modality in enumerate(MODALITIES):
        types = [e for e in graph.edge_index if e in (CITES, KNN.get(modality))]
        index = torch.cat([graph.edge_index[e] for e in types], 1)
        ones = [torch.ones(graph.edge_index[e].shape[1]) for e in types]
        weights = [graph.edge_weight.get(e, w) for e, w in zip(types, ones, strict=True)]
        # PyG takes a self-loop that is there for the one it adds; here it is an edge like any other
        loops = torch.arange(N_NODES).expand(2, -1)
        index = torch.cat([index, loops], 1)
        weight = torch.cat([*weights, torch.ones(N_NODES)]).double()
        gcn.add_self_loops = False
        assert_allclose(out[m].detach(), gcn(h[m], index, weight).detach(), atol=1e-12)


def test_edges_into_new_nodes_change_no_other_node() -> None:
    graph, conv, h = make_graph(), make_conv(), draw_states()
    new = torch.tensor([[0, 1], [5, 6]])
    into_new = {e: torch.cat([graph.edge_index[e], new], 1) for e in KNN.values()}
    larger = GraphTensors(
        x={"row": {m: torch.zeros(7, 2) for m in MODALITIES}},
        num_nodes={"row": 7},
        edge_index={**graph.edge_index, **into_new},
        edge_weight=graph.edge_weight,
    )
    inter = torch.tensor(INTER)

    before = conv(h, conv.blocks(graph, MODALITIES), inter)
    after = conv(torch.cat([h, h[:, :2]], 1), conv.blocks(larger, MODALITIES), inter)

    assert_allclose(after[:, :N_NODES].detach(), before.detach(), atol=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    graph, conv = make_graph(), make_conv()
    blocks = conv.blocks(graph, MODALITIES)
    h = draw_states().requires_grad_()
    inter = torch.tensor(INTER).requires_grad_()

    assert torch.autograd.gradcheck(lambda h, a: conv(h, blocks, a), (h, inter))


def test_negative_weights_are_refused() -> None:
    graph = replace(make_graph(), edge_weight={CITES: torch.tensor([0.5, -2.0, 1.5])})

    with pytest.raises(ValueError, match=r"Edges of \('row', 'cites', 'row'\) have negative"):
        make_conv().blocks(graph, MODALITIES)


def test_attention_between_modalities_is_as_the_equations_say() -> None:
    torch.manual_seed(0)
    attention, h = CrossModalAttention(CHANNELS, 3).double(), draw_states()
    w, x = attention.weight.detach().numpy(), h.numpy()

    o, weight = (t.detach().numpy() for t in attention(h))

    for i in range(N_NODES):
        scores = np.array([[x[m, i] @ w[m, n] @ x[n, i] for n in range(3)] for m in range(3)])
        alpha = np.exp(scores / np.sqrt(CHANNELS))
        alpha /= alpha.sum(1, keepdims=True)
        assert_allclose(weight[:, :, i], alpha, atol=1e-12)
        assert_allclose(o[:, i], alpha @ x[:, i], atol=1e-12)
