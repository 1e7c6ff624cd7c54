"""Multi-head attention is torch's; looking at each other is the mean over the pairs."""

from __future__ import annotations

import itertools

import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from skmmg.nn._multi_head import MultiHead

DTYPE = torch.float64


def make_pair() -> tuple[MultiHead, nn.MultiheadAttention]:
    torch.manual_seed(0)
    ours = MultiHead(8, 2, 0.0).double()
    with torch.no_grad():
        ours.in_proj_bias.normal_()
        ours.out_proj.bias.normal_()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("n_queries", [1, 5])
def test_it_is_the_operator_of_torch(n_queries: int) -> None:
    ours, theirs = make_pair()
    query = torch.randn(n_queries, 3, 8, dtype=DTYPE)
    source = torch.randn(5, 4, 8, dtype=DTYPE)

    expected = theirs(query.expand(5, -1, -1), source, source)[0]

    assert_allclose(ours(query, source).detach(), expected.detach(), atol=1e-12)


@pytest.mark.parametrize("n_sets", [1, 2, 3])
def test_looking_at_each_other_is_the_mean_over_ordered_pairs(n_sets: int) -> None:
    ours, theirs = make_pair()
    sets = torch.randn(5, n_sets, 4, 8, dtype=DTYPE)

    pairs = list(itertools.permutations(range(n_sets), 2)) or [(0, 0)]
    parts = [theirs(sets[:, a], sets[:, b], sets[:, b])[0].mean(1) for a, b in pairs]

    expected = torch.stack(parts).mean(0)
    assert_allclose(ours.mutual(sets).detach(), expected.detach(), atol=1e-12)
