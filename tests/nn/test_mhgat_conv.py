"""MHGAT's operator against its equations in plain loops, and its pooling against brute force."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._mhgat_conv import MHGATConv
from skmmg.nn._relation_pairs import RelationPairs

N_NODES, N_MODALITIES, CHANNELS, RHO, SLOPE = 6, 2, 4, 0.3, 0.2
# node 0 is reached by both relations, 1 by one of them twice by the same node, 5 by none
EDGES = {
    ("n", "a", "n"): np.array([[1, 2, 3, 3, 4, 5], [0, 0, 1, 1, 2, 4]]),
    ("n", "b", "n"): np.array([[2, 3, 5, 0], [0, 0, 2, 3]]),
    ("n", "none", "n"): np.zeros((2, 0), dtype=np.int64),
}


def make_edges(edges: dict[Any, np.ndarray] = EDGES) -> EdgeStructure:
    tensors = {name: torch.tensor(index) for name, index in edges.items()}
    return EdgeStructure(tensors, {"n": N_NODES}, list(edges))


def make_pairs(edges: dict[Any, np.ndarray] = EDGES) -> RelationPairs:
    return RelationPairs(make_edges(edges), torch.float64)


def draw_states() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N_NODES, N_MODALITIES, CHANNELS))


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, SLOPE * x)


def pool(h: np.ndarray, i: int, relation: int, aggr: str, mask_empty: bool) -> np.ndarray | None:
    """The pooled neighbours of node i by one relation, None where there are none."""
    rows = [
        (r, h[j]) for r, index in enumerate(EDGES.values()) for j, k in index.T.tolist() if k == i
    ]
    inside = [row for r, row in rows if r == relation]
    if aggr == "sum":
        return np.sum(inside, axis=0) if inside else None
    if mask_empty:
        return np.max(inside, axis=0) if inside else None
    # the code zeroes the vectors of other relations and takes the maximum over all neighbours
    zeroed = [row if r == relation else np.zeros_like(row) for r, row in rows]
    return np.max(zeroed, axis=0) if rows else None


def layer(h: np.ndarray, w: np.ndarray, v: np.ndarray, aggr: str, mask_empty: bool) -> np.ndarray:
    """One modality's new states, relation by relation."""
    out = np.zeros_like(h)
    for i in range(N_NODES):
        z_own = leaky(w @ h[i])
        scores, states = [], []
        for r in range(len(EDGES)):
            a = pool(h, i, r, aggr, mask_empty)
            if a is None and mask_empty:
                continue
            z = leaky(w @ (np.zeros(CHANNELS) if a is None else a))
            scores.append(leaky(v @ np.concatenate([z, z_own])))
            states.append(z)
        if scores:
            exp = np.exp(scores)
            out[i] = (exp / exp.sum()) @ np.array(states)
        out[i] += RHO * z_own
    return out


@pytest.mark.parametrize(("aggr", "mask_empty"), product(["max", "sum"], [True, False]))
def test_the_layer_is_its_equations(aggr: str, mask_empty: bool) -> None:
    torch.manual_seed(0)
    conv = MHGATConv(CHANNELS, aggr=aggr, mask_empty=mask_empty, residual_weight=RHO).double()
    h = draw_states()
    w = conv.lin.weight.detach().numpy()
    v = torch.cat([conv.att_relation.weight, conv.att_node.weight], 1)[0].detach().numpy()

    out = conv(torch.tensor(h), make_pairs()).detach().numpy()

    for m in range(N_MODALITIES):
        assert_allclose(out[:, m], layer(h[:, m], w, v, aggr, mask_empty), atol=1e-12)


@pytest.mark.parametrize("aggr", ["max", "sum"])
def test_pooling_is_that_of_pytorch_geometric(aggr: str) -> None:
    from torch_geometric.utils import scatter

    h = torch.tensor(draw_states()).flatten(1)
    pairs, edges = make_pairs(), make_edges()

    pooled = getattr(pairs, aggr)(h)

    index = edges.dst * len(EDGES) + edges.relation
    every = scatter(h[edges.src], index, dim_size=N_NODES * len(EDGES), reduce=aggr)
    reached = torch.unique(index)
    assert_allclose(pooled, every[reached], atol=1e-14)
    assert_allclose(pairs.node, reached // len(EDGES))


@pytest.mark.parametrize("aggr", ["max", "sum"])
@pytest.mark.parametrize("mask_empty", [True, False])
def test_the_gradient_is_that_of_finite_differences(
    aggr: str, mask_empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skmmg.nn._segment_max._CELLS", 30)  # three columns at a time
    torch.manual_seed(0)
    conv = MHGATConv(CHANNELS, aggr=aggr, mask_empty=mask_empty).double()
    h = torch.tensor(draw_states(), requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: conv(x, make_pairs()), h)


def test_edges_that_attain_a_maximum_share_its_gradient() -> None:
    pairs = make_pairs()
    h = torch.zeros(N_NODES, 1, dtype=torch.float64, requires_grad=True)

    pairs.max(h).sum().backward()

    # relation a: 1 and 2 into 0, twice 3 into 1, 4 into 2, 5 into 4; b: 2 and 3 into 0, 5, 0
    assert h.grad is not None
    assert_allclose(h.grad[:, 0], [1, 0.5, 1, 1.5, 1, 2])


def test_without_edges_a_node_keeps_its_own_state_alone() -> None:
    conv = MHGATConv(CHANNELS, residual_weight=RHO).double()
    none = make_pairs({("n", "a", "n"): np.zeros((2, 0), dtype=np.int64)})
    h = draw_states()

    out = conv(torch.tensor(h), none).detach().numpy()

    assert_allclose(out, RHO * leaky(h @ conv.lin.weight.detach().numpy().T), atol=1e-14)


def test_an_aggregation_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"aggr has to be one of \['max', 'sum'\], got 'mean'"):
        MHGATConv(CHANNELS, aggr="mean")
