"""The index that misses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skmmg.retrieval._base import LocalIndex, Neighbors
from skmmg.retrieval._files import open_parts
from skmmg.retrieval._nearest import nearest
from skmmg.retrieval._vectors import Vectors


class ExactIndex(LocalIndex):
    """Every query is compared with every vector, in blocks; see :func:`make_index`."""

    name = "exact"
    _buffer: Vectors  # rows from len(self) on are spare

    @property
    def _rows(self) -> Vectors:
        return self._buffer[: len(self)]

    def _build(self, unit: Vectors) -> None:
        self._buffer = unit

    def _extend(self, unit: Vectors) -> None:
        """Append rows, into a buffer with room for more: a vector is copied a few times at most."""
        old, n_old = self._rows, len(self)
        n_new = n_old + len(unit)
        if not self._buffer.flags.owndata or len(self._buffer) < n_new:
            self._buffer = np.empty((n_new + n_old // 4, unit.shape[1]), dtype=np.float32)
            self._buffer[:n_old] = old
        self._buffer[n_old:n_new] = unit

    def _find(self, unit: Vectors, k: int) -> Neighbors:
        return nearest(unit, self._rows, k)

    def _parts(self) -> dict[str, Any]:
        return {"vectors": self._rows}

    def _open(self, files: Mapping[str, Path], mmap: bool) -> None:
        arrays = open_parts(files, mmap)
        self._buffer, self._ids = arrays["vectors"], np.array(arrays["ids"])
        self._width = self._buffer.shape[1]
