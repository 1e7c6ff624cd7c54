"""Which code computes the edge stage: PyTorch's sparse products, or a compiled kernel."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from skmmg.nn._checks import check_option
from skmmg.nn._compile import CompileError
from skmmg.nn._edge_stage import Switches, sparse_pass
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._fused import can_fuse, kernel_for

BACKENDS = ("auto", "sparse", "fused", "triton")
# Edges of a graph from which a kernel is worth being compiled, see docs/decisions.
_MIN_EDGES = 10_000
# Widest head, and fewest heads, for which the C++ kernel is faster; the second where a register
# holds one channel only.
_MAX_HEAD_CHANNELS, _MIN_HEADS, _MIN_HEADS_APART = 32, 2, 4

_logger = logging.getLogger("skmmg")
_told: set[str] = set()


class set_backend:
    """Choose what computes the edges of HGNN-IMA and HGT, from now on or inside a `with`.

    Parameters
    ----------
    backend : {"auto", "sparse", "fused", "triton"}
        "sparse": PyTorch's sparse products, on any device. "fused": a C++ kernel on the CPU that
        keeps nothing per edge; it is compiled when it is first needed, and kept in the folder
        ``SKMMG_CACHE`` of the environment, or in the user's cache. "triton": kernels on a CUDA
        device that keep nothing per edge either; they were tested in Triton's interpreter and never
        ran on a GPU, so a small layer is compared with the sparse products before the first use.
        The ablations that a kernel lacks, other devices and second derivatives take the sparse
        products all the same. "auto", as it is at the start: the kernel of the device for graphs of
        10,000 edges or more, where there is a compiler (and at least two heads of up to 32
        channels, four where a register holds one channel only), or Triton and the comparison was
        passed; the sparse products otherwise. The environment variable ``SKMMG_BACKEND`` sets what
        it is at the start.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> from skmmg.nn import set_backend
    >>> with set_backend("sparse"):
    ...     pass  # fit, predict
    """

    _current = os.environ.get("SKMMG_BACKEND", "auto")

    def __init__(self, backend: str) -> None:
        check_option("backend", backend, BACKENDS)
        self._previous, set_backend._current = set_backend._current, backend

    def __enter__(self) -> None:
        """Nothing to do: it was chosen already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go back to what it was."""
        set_backend._current = self._previous


def choose_backend(
    h: Tensor, edges: EdgeStructure, switches: Switches, heads: int, head_channels: int
) -> str:
    """What computes this layer: "sparse", "fused" or "triton"; it is compiled if so."""
    asked = set_backend._current
    check_option("SKMMG_BACKEND", asked, BACKENDS)
    backend = asked
    if asked == "auto":
        small = edges.num_edges_in_graph < _MIN_EDGES
        backend = "sparse" if small else "triton" if h.device.type == "cuda" else "fused"
    if backend == "triton":
        takes = _takes_triton(h, switches, head_channels, asked == "triton")
    elif backend == "fused":
        takes = _takes_fused(h, edges, switches, heads, head_channels, asked == "fused")
    else:
        takes = False
    return backend if takes else "sparse"


def _takes_fused(
    h: Tensor,
    edges: EdgeStructure,
    switches: Switches,
    heads: int,
    head_channels: int,
    asked: bool,
) -> bool:
    wide = head_channels > _MAX_HEAD_CHANNELS or heads < _MIN_HEADS
    if not can_fuse(h, edges, switches, heads) or (wide and not asked):
        return False
    try:
        kernel = kernel_for(h.shape[0], head_channels, heads, h.dtype)
    except CompileError as error:
        if asked:
            raise
        _tell_once(str(error))
        return False
    return asked or heads >= _MIN_HEADS_APART or kernel.channels() > 1


def _takes_triton(h: Tensor, switches: Switches, head_channels: int, asked: bool) -> bool:
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    fits = h.dtype in (torch.float32, torch.float64) and switches.cross_modal != "influenced"
    if not fits or not (h.device.type == "cuda" or interpreted):
        return False
    trouble = _trouble_with_triton(h.device, h.dtype, h.shape[0], head_channels, switches)
    if trouble is not None:
        if asked:
            raise RuntimeError(
                f"backend='triton' does not work here: {trouble}. Set another one by "
                "skmmg.nn.set_backend or the environment variable SKMMG_BACKEND."
            )
        _tell_once(trouble)
    return trouble is None


@cache
def _trouble_with_triton(*kind: Any) -> str | None:
    """What keeps a kind of layer from the Triton kernels; found out once per process."""
    try:
        from skmmg.nn._triton import check

        check(*kind)
    except Exception as error:  # it never ran on a GPU: nothing that goes wrong may end a fit
        return f"{type(error).__name__}: {error}"
    return None


def table_function(backend: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """`sparse_pass`, or the same by Triton."""
    if backend == "triton":
        from skmmg.nn._triton import triton_pass

        return triton_pass
    return sparse_pass


def _tell_once(reason: str) -> None:
    if reason not in _told:
        _told.add(reason)
        _logger.warning(
            "The fast kernel of HGNN-IMA and HGT is not used, PyTorch's sparse products are: %s.",
            reason,
        )
