"""MHGAT: what it adds to the tests that every model has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_models import (
    CHANNELS,
    N_CLASSES,
    build,
    count,
    count_encoder,
    fit,
    make_graph,
    run,
    small,
    to_tensors,
)

from skmmg.models import MHGAT
from skmmg.models.mhgat import LayerFusion


def test_the_attention_over_modalities_is_its_equation() -> None:
    fusion = LayerFusion(CHANNELS, 3, 0.0).double()
    h = np.random.default_rng(0).normal(size=(5, 2, CHANNELS))
    w1, w2 = fusion.lin.weight.detach().numpy(), fusion.att.weight.detach().numpy()

    t, weights = fusion(torch.tensor(h))

    for i in range(5):
        scores = np.array([np.tanh(w2[0] @ np.tanh(w1 @ h[i, m])) for m in range(2)])
        expected = np.exp(scores) / np.exp(scores).sum()
        assert_allclose(weights[i].detach(), expected, atol=1e-12)
        assert_allclose(t[i].detach(), expected @ h[i], atol=1e-12)


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_number_of_parameters_is_as_the_formula_says(num_layers: int) -> None:
    d, q, out = CHANNELS, 5, 6
    spec = small(MHGAT, num_layers=num_layers, att_channels=q, out_channels=out)
    conv_and_norm, fusion = d * d + 2 * d + 2 * d, (d + 1) * q
    n_merged = max(num_layers, 1)
    head = n_merged * d * out + (out + 1) * N_CLASSES

    counted = count(build(spec, make_graph()))

    assert counted == count_encoder() + num_layers * conv_and_norm + n_merged * fusion + head


@pytest.mark.parametrize("mask_empty", [True, False])
@pytest.mark.parametrize("aggr", ["max", "sum"])
def test_every_pooling_trains(aggr: str, mask_empty: bool) -> None:
    X, y = make_graph().nodes("movie"), np.arange(9) % N_CLASSES

    clf = fit(MHGAT(8, 2, aggr=aggr, mask_empty=mask_empty, out_channels=5), X, y)

    assert clf.transform(X).shape == (9, 5)
    assert_allclose(clf.modality_weights(X).sum(axis=1), 1, atol=1e-6)


def test_inference_normalises_by_the_statistics_of_training() -> None:
    graph = make_graph()
    module = build(small(MHGAT, num_layers=1), graph)
    before = run(module, graph).logits

    module.norms[0].running_mean += 1.0

    assert (run(module, graph).logits - before).abs().max() > 1e-3


def test_in_training_modalities_and_merged_state_are_normalised_as_one_batch() -> None:
    graph = make_graph()
    module = build(small(MHGAT, num_layers=1, att_dropout=0.0, out_dropout=0.0), graph).train()
    seen = []
    module.norms[0].register_forward_pre_hook(lambda norm, inputs: seen.append(inputs[0]))

    module(to_tensors(graph), torch.arange(9))

    assert seen[0].shape == (3 * sum(graph.n_nodes.values()), CHANNELS)
