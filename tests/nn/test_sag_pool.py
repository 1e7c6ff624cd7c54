"""Self-attention pooling: PyG's, but that like nodes and whole graphs are safe."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch_geometric.nn import GCNConv, SAGPooling

from skmmg.nn import SAGPool
from skmmg.nn._sag_pool import filter_edges

SIZES = torch.tensor([5, 1, 8, 4])
BATCH = torch.arange(4).repeat_interleave(SIZES)


def draw() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)  # no two nodes alike
    x = torch.randn(len(BATCH), 6, generator=generator).double()
    a = torch.rand(len(BATCH), len(BATCH), generator=generator) < 0.4
    return x, (a & (BATCH[:, None] == BATCH)).nonzero().t()


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.99])
def test_it_keeps_what_pyg_keeps(ratio: float) -> None:
    x, edges = draw()
    torch.manual_seed(0)
    ours, theirs = SAGPool(6, ratio).double(), SAGPooling(6, ratio, GNN=GCNConv).double()
    theirs.gnn.load_state_dict(ours.score.state_dict())
    torch.nn.init.ones_(theirs.select.weight)

    kept, score = ours(x, edges, BATCH)
    found, found_edges, _, _, perm, _ = theirs(x, edges, batch=BATCH)

    order = perm.argsort()
    assert_array_equal(kept, perm[order])
    assert_allclose((x[kept] * score).detach(), found[order].detach(), atol=1e-12)
    inner, _ = filter_edges(edges, torch.ones(edges.shape[1]), kept, len(x))
    assert {tuple(e) for e in kept[inner].t().tolist()} == {
        tuple(e) for e in perm[found_edges].t().tolist()
    }


def test_a_ratio_of_one_keeps_all() -> None:
    x, edges = draw()

    kept, _ = SAGPool(6, 1.0).double()(x, edges, BATCH)

    assert_array_equal(kept, range(len(x)))


def test_of_nodes_that_are_alike_the_first_stay_whatever_rounding_says() -> None:
    x = torch.ones(8, 6).double() + 1e-12 * torch.randn(8, 6)

    kept, _ = SAGPool(6).double()(x, torch.zeros(2, 0, dtype=torch.long), torch.arange(8) // 4)

    assert_array_equal(kept, [0, 1, 4, 5])
