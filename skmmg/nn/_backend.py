"""Which code computes the edge stage: PyTorch's sparse products, or the compiled kernel."""

from __future__ import annotations

import logging
import os
from types import TracebackType

from torch import Tensor

from skmmg.nn._checks import check_option
from skmmg.nn._compile import CompileError
from skmmg.nn._edge_stage import Switches
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._fused import can_fuse, kernel_for

BACKENDS = ("auto", "sparse", "fused")
# Edges of a graph from which the kernel is worth being compiled, see docs/decisions.
_MIN_EDGES = 10_000
# Widest head, and fewest heads, for which it is faster.
_MAX_HEAD_CHANNELS, _MIN_HEADS = 32, 4

_logger = logging.getLogger("skmmg")
_told: set[str] = set()


class set_backend:
    """Choose what computes the edges of HGNN-IMA and HGT, from now on or inside a `with`.

    Parameters
    ----------
    backend : {"auto", "sparse", "fused"}
        "sparse": PyTorch's sparse products, on any device. "fused": a C++ kernel on the CPU that
        keeps nothing per edge; it is compiled when it is first needed, and kept in the user's
        cache. The ablations that it lacks, other devices and second derivatives take the sparse
        products all the same. "auto", as it is at the start: the kernel for graphs of 10,000 edges
        or more where there is a compiler, the sparse products otherwise. The environment variable
        ``SKMMG_BACKEND`` sets what it is at the start.

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


def takes_kernel(
    h: Tensor, edges: EdgeStructure, switches: Switches, heads: int, head_channels: int
) -> bool:
    """Whether the kernel computes this layer; it is compiled if so."""
    backend = set_backend._current
    check_option("SKMMG_BACKEND", backend, BACKENDS)
    if backend == "sparse" or not can_fuse(h, edges, switches, heads):
        return False
    wide = head_channels > _MAX_HEAD_CHANNELS or heads < _MIN_HEADS
    if backend == "auto" and (edges.num_edges_in_graph < _MIN_EDGES or wide):
        return False
    try:
        kernel_for(h.shape[0], head_channels, heads, h.dtype)
    except CompileError as error:
        if backend == "fused":
            raise
        _tell_once(str(error))
        return False
    return True


def _tell_once(reason: str) -> None:
    if reason not in _told:
        _told.add(reason)
        _logger.warning(
            "The fast kernel of HGNN-IMA is not used, PyTorch's sparse products are instead: %s.",
            reason,
        )
