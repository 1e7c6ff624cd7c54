"""Dropout whose random numbers do not cost more than the layer it is for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LEVELS = 1 << 16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each entry with probability `p`, rounded to 1 / 65536, and scale up the others.

    torch draws a 64-bit number per entry on a CPU, one after the other; four entries share one
    here, which is about five times as fast.
    """
    dropped = min(round(p * _LEVELS), _LEVELS - 1)
    if not training or not dropped:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    draws = numbers.view(torch.int16)[: x.numel()].view(x.shape)
    kept = draws >= dropped - _LEVELS // 2
    return x * kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))
