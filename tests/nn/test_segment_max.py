"""Maxima over the edges of segments, and their gradients where several attain one."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from skmmg.nn import _segment_max
from skmmg.nn._segment_max import segment_max

DTYPE = torch.float64
OFFSETS = torch.tensor([0, 3, 3, 5, 9])  # the second segment is empty
SEGMENT = torch.repeat_interleave(torch.arange(4), OFFSETS.diff())
SRC = torch.tensor([0, 1, 2, 4, 1, 3, 0, 2, 3])


def dense_max(x: Tensor) -> Tensor:
    """What torch's dense maximum gives, which shares a gradient evenly."""
    empty = x.new_zeros(x.shape[1])
    parts = SRC.split(OFFSETS.diff().tolist())
    return torch.stack([x[part].amax(0) if len(part) else empty for part in parts])


@pytest.mark.parametrize("cells", [1, 20, 1 << 20])
@pytest.mark.parametrize("tied", [False, True])
def test_values_and_gradients_are_those_of_dense_maxima(
    tied: bool, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_segment_max, "_CELLS", cells)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 4, dtype=DTYPE, generator=generator)
    if tied:
        x[1:4] = x[0]
    grad = torch.randn(4, 4, dtype=DTYPE, generator=generator)  # of both signs

    results = []
    for function in (dense_max, lambda h: segment_max(h, SRC, SEGMENT, OFFSETS)):
        h = x.clone().requires_grad_()
        out = function(h)
        results.append((out.detach(), *torch.autograd.grad(out, h, grad)))

    for expected, found in zip(*results, strict=True):
        assert_allclose(found, expected, atol=1e-14)


def test_without_edges_there_are_zeros() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.long)

    out = segment_max(x, nothing, nothing, torch.zeros(4, dtype=torch.long))
    out.sum().backward()

    assert out.tolist() == [[0, 0]] * 3
    assert x.grad is not None
    assert not x.grad.any()
