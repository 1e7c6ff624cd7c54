"""Products with weights by the fastest routine that torch has for them on this device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skmmg.nn._precision import narrow

# oneDNN's product: on AMD it uses AVX-512 where MKL, which torch's own functions call, does not.
# inductor calls it by this name; where a build lacks it, torch's own functions do.
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
# Multiplications from which its overhead does not show.
_WORTH_IT = 1 << 20
# Rows per thread whose product is still in the cache when something is done with it.
_ROWS = 8192


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.t() + bias`` for matrices (n, d), (d', d) and (d'); it has no gradient."""
    small = x.shape[0] * weight.numel() < _WORTH_IT
    if small or not _has_onednn(x):
        return F.linear(x, weight, bias)
    return _ONEDNN(x, weight, bias, "none", [], "")  # type: ignore[misc]


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """``grad.t() @ x`` for (n, d') and (n, d), whose rows are contiguous; it has no gradient."""
    if grad.shape[1] > x.shape[1]:  # faster with the wider one as the weight
        return product(x.t(), grad.t()).t()
    return product(grad.t(), x.t())


def in_blocks(*matrices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Their rows, on a CPU in blocks that fit in its cache."""
    whole = matrices[0].device.type != "cpu" or torch.compiler.is_compiling()  # it unrolls loops
    size = max(1, len(matrices[0])) if whole else _ROWS * torch.get_num_threads()
    return zip(*(x.split(size) for x in matrices), strict=True)


def _has_onednn(x: Tensor) -> bool:
    return (
        _ONEDNN is not None
        and not torch.compiler.is_compiling()  # which has it for constant weights alone
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
    )


def constant_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight.t() + bias`` of an input (n, d) that needs no gradient."""
    return _ConstantLinear.apply(*narrow(x, weight, bias))


class _ConstantLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor]:
        (x,), grad = ctx.saved_tensors, grads[0]
        if torch.is_grad_enabled():
            return None, grad.t() @ x, grad.sum(0)
        return None, weight_gradient(grad.contiguous(), x.contiguous()), grad.sum(0)
