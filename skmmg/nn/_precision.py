"""What stays in float32 under autocast, which makes products of 16-bit numbers.

torch's own autocast leaves softmax, norms and sums of products in 16 bits on a CPU, and knows
nothing of functions with a backward pass of their own. These run in float32 here, on any device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

P = ParamSpec("P")
R = TypeVar("R")

_HALF = (torch.bfloat16, torch.float16)


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run outside of autocast, with its 16-bit tensors as float32.

    Nothing changes where there is no autocast. The first positional argument that has a device,
    such as a tensor or a graph, tells which.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(x.device.type for x in args if hasattr(x, "device"))
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*widen(args), **kwargs)

    return run


def widen(x: Any) -> Any:
    """The same with 16-bit tensors as float32, inside of tuples, lists and dicts too."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in _HALF else x
    if isinstance(x, dict):
        return {name: widen(value) for name, value in x.items()}
    if type(x) in (tuple, list):
        return type(x)(widen(value) for value in x)
    return x


def narrow(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The factors of a product as autocast, where it is on, wants them."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.dtype == torch.float32 else x for x in tensors)


softmax = in_float32(torch.softmax)
log_softmax = in_float32(torch.log_softmax)
normalize = in_float32(F.normalize)
