"""Products by oneDNN and by node type are those of torch, with their gradients."""

from __future__ import annotations

import ctypes
import mmap
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from skmmg.nn import _linear
from skmmg.nn._compile import find_compiler
from skmmg.nn._linear import constant_linear, product
from skmmg.nn._memory import new_empty
from skmmg.nn._typed_linear import typed_linear


@pytest.mark.parametrize("width", [64, 600])
def test_a_large_product_and_its_gradients_are_those_of_torch(width: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2000, width), torch.randn(16, width), torch.randn(16)
    weight.requires_grad_()
    bias.requires_grad_()
    out, expected = constant_linear(x, weight, bias), F.linear(x, weight, bias)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-3)
    found, wanted = (torch.autograd.grad((y**2).sum(), (weight, bias)) for y in (out, expected))
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4 * float(right.abs().max()))


def test_a_product_takes_views() -> None:
    x, weight = torch.randn(64, 3000).t()[::2], torch.randn(64, 32).t()
    torch.testing.assert_close(product(x, weight), x @ weight.t(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("nodes_first", [False, True])
def test_a_map_of_more_rows_than_a_block_is_that_of_torch(nodes_first: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    slices = [slice(0, 9000), slice(9000, 26_000)]
    h, seen = draw(2, 26_000, 24), torch.randn(2, 26_000, 40, generator=generator)
    weights, biases = [draw(40, 24), draw(40, 24)], [draw(40), draw(40)]
    out = typed_linear(h, weights, biases, slices, nodes_first)
    exact = zip(slices, weights, biases, strict=True)
    expected = [h.double()[:, s] @ w.double().t() + b.double() for s, w, b in exact]
    expected_out = torch.cat(expected, 1)

    torch.testing.assert_close(out, expected_out, rtol=1e-4, atol=1e-4, check_dtype=False)
    inputs = [h, *weights, *biases]
    found = torch.autograd.grad((out * seen).sum(), inputs)
    wanted = torch.autograd.grad((expected_out * seen).sum(), inputs)
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5 * float(right.abs().max()))


def test_blocks_of_16_bits_are_added_up_in_32(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    h, weight = torch.rand(1, 20_000, 8, generator=generator), torch.eye(8).requires_grad_()
    bias, errors = torch.zeros(8, requires_grad=True), []
    for rows in (20_000, 10):
        monkeypatch.setattr(_linear, "_ROWS", rows)
        with torch.autocast("cpu", torch.bfloat16):
            out = typed_linear(h, [weight], [bias], [slice(0, 20_000)])
        found = torch.autograd.grad(out.float().sum(), [weight, bias])
        exact = h[0].bfloat16().double().sum(0).expand(8, 8), torch.full((8,), 20_000.0)
        errors.append(
            [float((x - y).abs().max()) / 20_000 for x, y in zip(found, exact, strict=True)]
        )

    assert max(errors[1]) < 4e-3  # a rounding of bfloat16; added up in it they were .9


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no huge pages")
def test_a_large_tensor_asks_for_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int]] = []

    class Library:
        def madvise(self, start: Any, length: Any, advice: int) -> None:
            calls.append((start.value, length.value, advice))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    small, large = (new_empty(torch.zeros(1), 1 << power) for power in (10, 23))

    ((start, length, advice),) = calls
    assert small.numel() == 1 << 10
    assert start % mmap.PAGESIZE == 0
    assert 0 <= start - large.data_ptr() < mmap.PAGESIZE
    assert start + length == large.data_ptr() + 4 * large.numel()
    assert advice == mmap.MADV_HUGEPAGE


def test_a_tensor_in_huge_pages_is_a_tensor_like_others() -> None:
    like = torch.zeros(2, dtype=torch.float64)
    large = new_empty(like, 2, 1 << 21, 2).fill_(3)  # 64 MiB

    assert large.shape == (2, 1 << 21, 2)
    assert large.dtype == torch.float64
    assert float(large.sum()) == 3 * large.numel()


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")
# dynamo itself makes an instance of an autograd function, which torch warns of
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(("cuts", "width"), [((0, 40_000), 64), ((0, 100_000, 600_000), 16)])
def test_a_large_map_can_be_compiled(cuts: tuple[int, ...], width: int) -> None:
    torch.manual_seed(0)
    slices = [slice(*ends) for ends in pairwise(cuts)]
    weights = [torch.randn(width, width) for _ in slices]
    biases = [torch.randn(width) for _ in slices]
    h = torch.randn(1, cuts[-1], width).requires_grad_()  # the second asks for huge pages
    inputs, results = (h, weights, biases, slices), []
    for function in (typed_linear, torch.compile(typed_linear, fullgraph=True)):
        out = function(*inputs)
        results.append((out, *torch.autograd.grad(out.square().sum(), [h])))
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(5,), (2, 0, 4)], ids=str)
def test_a_map_per_type_has_right_first_and_second_derivatives(sizes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        x = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return x.requires_grad_()

    n_types, stops = len(sizes), torch.tensor(sizes).cumsum(0).tolist()
    slices = [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
    weights, biases = [draw(3, 4) for _ in sizes], [draw(3) for _ in sizes]

    def function(h: Tensor, *parameters: Tensor) -> Tensor:
        return typed_linear(h, parameters[:n_types], parameters[n_types:], slices) ** 2

    h = draw(2, sum(sizes), 4)
    inputs = (h, *weights, *biases)
    expected = [h[:, s] @ w.t() + b for s, w, b in zip(slices, weights, biases, strict=True)]
    torch.testing.assert_close(function(*inputs), torch.cat(expected, 1) ** 2)
    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)
