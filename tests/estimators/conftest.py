"""A small planted network and small rows, made once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils import Bunch

from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGNNIMA


@pytest.fixture(scope="session")
def planted() -> Bunch:
    """60 items with two modalities, a fifth of the rows missing."""
    return make_multimodal_graph(60, signal=4.0, missing=0.2, n_features=6, random_state=0)


@pytest.fixture
def X(planted: Bunch) -> Any:
    return planted.graph.nodes("item")


@pytest.fixture
def y(planted: Bunch) -> np.ndarray:
    return planted.target


@pytest.fixture(scope="session")
def rows() -> Bunch:
    """60 rows of three classes with two modalities."""
    rng = np.random.default_rng(0)
    target = np.arange(60) % 3
    data = rng.normal(size=(60, 7)) + 2.0 * target[:, None]
    return Bunch(data=data, target=target, modalities={"a": slice(0, 4), "b": slice(4, 7)})


@pytest.fixture
def params() -> dict[str, Any]:
    """Parameters of a small estimator that is fitted fast."""
    spec = HGNNIMA(hidden_channels=8, heads=2, num_layers=1, dropout=0.2, input_dropout=0.0)
    return {"model": spec, "max_epochs": 5, "lr": 0.02, "random_state": 0}
