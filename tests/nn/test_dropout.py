"""Dropout by shared random numbers."""

from __future__ import annotations

import pytest
import torch

from skmmg.nn._dropout import dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_share_p_is_zeroed_and_the_others_keep_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(201, 503, dtype=dtype)

    out = dropout(x, p, training=True)

    assert out.dtype == dtype
    assert abs(float((out == 0).double().mean()) - p) < 0.01
    assert len(out.unique()) == 2
    assert abs(float(out.mean()) - 1) < 0.02


def test_neighbouring_entries_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(100_000, 4), 0.5, training=True) != 0).double()

    assert (torch.corrcoef(kept.t()) - torch.eye(4)).abs().max() < 0.02


def test_dropout_acts_in_training_only_and_where_p_is_not_zero() -> None:
    x = torch.randn(5, 3)

    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x


def test_gradients_go_through_what_was_kept() -> None:
    x = torch.randn(50, 3, requires_grad=True)

    out = dropout(x, 0.5, training=True)
    out.sum().backward()

    assert torch.equal(x.grad == 0, out == 0)


@pytest.mark.parametrize("p", [1e-9, 0.999999, 1 - 1e-12])
def test_probabilities_next_to_the_ends_are_no_error(p: float) -> None:
    assert torch.isfinite(dropout(torch.ones(1000), p, training=True)).all()


def test_an_empty_matrix_stays_empty() -> None:
    assert dropout(torch.ones(0, 3), 0.5, training=True).shape == (0, 3)
