"""A gallery with clusters, and queries of another modality: moved, and with noise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray


class Data(NamedTuple):
    gallery: NDArray[Any]
    queries: NDArray[Any]


def make_data(n_gallery: int, n_queries: int, width: int, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, width))
    gallery = centres[rng.integers(20, size=n_gallery)] + rng.standard_normal((n_gallery, width))
    of_query = rng.integers(n_gallery, size=n_queries)
    noise = 0.7 * rng.standard_normal((n_queries, width))
    return Data(gallery, gallery[of_query] + noise + 0.3 * rng.standard_normal(width))


@pytest.fixture(scope="session")
def data() -> Data:
    return make_data(3000, 150, 24)
