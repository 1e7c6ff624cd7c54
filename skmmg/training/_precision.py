"""Mixed precision: products of bfloat16, everything else in float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from skmmg.models import ModelOutput
from skmmg.nn import GraphTensors
from skmmg.nn._precision import widen


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 for "bf16"; for any other precision nothing.

    Raises
    ------
    ValueError
        If the device does not compute in bfloat16.
    """
    if precision != "bf16":
        return nullcontext()
    if not _has_bfloat16(device):
        raise ValueError(
            'precision="bf16" needs a CPU, or a CUDA device that computes in bfloat16 (Ampere or '
            f'later), got device {str(device)!r}. Set precision="float32" or device="cpu".'
        )
    return torch.autocast(device.type, torch.bfloat16)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return device.type == "cpu"
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def compute(
    function: Callable[[GraphTensors, Tensor], ModelOutput],
    graph: GraphTensors,
    ids: Tensor,
    precision: str,
) -> ModelOutput:
    """Output for some nodes by a module or its `infer`, in float32 at least."""
    with autocast(precision, ids.device):
        output = function(graph, ids)
    return widened(output)


def widened(output: ModelOutput) -> ModelOutput:
    """The output with its 16-bit tensors as float32."""
    return replace(output, **widen(vars(output)))
