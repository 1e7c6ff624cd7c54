"""The index that misses nothing."""

from __future__ import annotations

from skmmg.retrieval._base import LocalIndex, Neighbors
from skmmg.retrieval._nearest import nearest
from skmmg.retrieval._vectors import Vectors


class ExactIndex(LocalIndex):
    """Every query is compared with every vector, in blocks; see :func:`make_index`."""

    name = "exact"

    def _find(self, unit: Vectors, k: int) -> Neighbors:
        return nearest(unit, self._rows, k)
