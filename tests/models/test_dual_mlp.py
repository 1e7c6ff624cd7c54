"""DualMLP looks at an item alone, whatever it comes with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_models import (
    N_CLASSES,
    build,
    count,
    fit,
    make_graph,
    make_sparse_graph,
    run,
    small,
    to_tensors,
)

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


def test_the_output_is_its_formula() -> None:
    graph = make_graph()  # movies 1 and 4 lack the image, movie 4 the text as well
    module = build(DualMLP(hidden_channels=8), graph)
    w = {name: values.numpy() for name, values in module.state_dict().items()}
    x = {m: values.numpy() for m, values in to_tensors(graph).x["movie"].items()}

    output = run(module, graph)

    z = np.zeros((9, 8))
    for i, m in enumerate(module.modalities):
        first = module.encoder.projections["movie"][m]
        h = np.maximum(x[m] @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
        part = h @ w[f"towers.{i}.weight"].T + w[f"towers.{i}.bias"]
        z += np.where(graph.present("movie", m)[:, None], part, 0)
    present = sum(graph.present("movie", m).astype(int) for m in module.modalities)
    z /= np.maximum(present, 1)[:, None]
    assert_allclose(output.embedding, z, atol=1e-12)
    assert_allclose(output.logits, z @ w["head.weight"].T + w["head.bias"], atol=1e-12)


def test_the_number_of_parameters_is_as_the_formula_says() -> None:
    d, widths = 8, {"text": 5, "image": 4}
    module = build(DualMLP(hidden_channels=d), make_graph())

    expected = sum((width + 1) * d for width in widths.values())
    expected += len(widths) * (d + 1) * d + (d + 1) * N_CLASSES
    assert count(module) == expected
