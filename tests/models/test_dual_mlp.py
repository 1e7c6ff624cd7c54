"""DualMLP looks at an item alone, whatever it comes with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import N_CLASSES, fit, make_sparse_graph, small

from skmmg.models import DualMLP


@pytest.mark.filterwarnings("ignore:.*takes no weights of edges:UserWarning")
def test_mini_batches_give_the_numbers_of_the_whole_graph() -> None:
    X, y = make_sparse_graph().nodes("movie"), np.arange(40) % N_CLASSES
    spec = small(DualMLP)

    whole = fit(spec, X, y, precision="float64")
    batches = fit(spec, X, y, precision="float64", batch_size=40)
    expected = whole.predict_proba(X[::-1])

    assert_allclose(batches.history_[0]["train_loss"], whole.history_[0]["train_loss"], rtol=1e-9)
    assert_allclose(batches.predict_proba(X[::-1]), expected, atol=1e-9)
    assert_allclose(whole.set_params(batch_size=3).predict_proba(X[::-1]), expected, atol=1e-9)
