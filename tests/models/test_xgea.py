"""XGEA: what it adds to the tests that every model has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_models import (
    CHANNELS,
    N_CLASSES,
    assert_every_parameter_counts,
    build,
    count,
    count_encoder,
    fit,
    gradients,
    make_graph,
    make_single_type_graph,
    run,
    small,
    to_tensors,
)

from skmmg.models import XGEA


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_number_of_parameters_is_as_the_formula_says(num_layers: int) -> None:
    d, graph = CHANNELS, make_graph()
    n_relations, width = len(graph.edge_types), (num_layers + 1) * CHANNELS
    ends = (width + 1) * width + width + 1 + (width + 1) * N_CLASSES
    shared = (n_relations * d + 2 * d * d) * (num_layers > 0)
    layer = {False: 2 * n_relations * d * d + d, True: 2 * d}

    counted = {
        style: count(build(small(XGEA, num_layers=num_layers, reflection=style), graph))
        for style in layer
    }

    assert counted == {
        style: count_encoder() + num_layers * size + style * shared + ends
        for style, size in layer.items()
    }


@pytest.mark.parametrize("reflection", [False, True])
def test_some_nodes_get_what_the_whole_graph_gives_them(reflection: bool) -> None:
    graph = make_graph()
    module = build(small(XGEA, reflection=reflection), graph)
    tensors, every = to_tensors(graph), run(module, graph)

    some = module(tensors, torch.tensor([7, 2]))

    assert_allclose(some.logits.detach(), every.logits[[7, 2]], atol=1e-12)


@pytest.mark.parametrize("reflection", [False, True])
def test_the_attention_over_edges_sums_to_one_at_every_node(reflection: bool) -> None:
    graph = make_graph()
    X, y = graph.nodes("movie"), np.arange(9) % N_CLASSES
    clf = fit(XGEA(8, 2, reflection=reflection), X, y)

    layers = clf.attention(X)

    assert len(layers) == 2
    total = {t: np.zeros((n, 2)) for t, n in graph.n_nodes.items()}
    for edge_type, weight in layers[1].weight.items():
        assert weight.shape == (graph.edge_index[edge_type].shape[1], 2, 1)
        np.add.at(total[edge_type[2]], graph.edge_index[edge_type][1], weight[..., 0].numpy())
    reached = {t: np.zeros(n, dtype=bool) for t, n in graph.n_nodes.items()}
    for edge_type, index in graph.edge_index.items():
        reached[edge_type[2]][index[1]] = True
    for t in total:
        assert_allclose(total[t][reached[t]], 1, atol=1e-5)


def test_gradients_reach_every_parameter_of_the_reflections() -> None:
    assert_every_parameter_counts(gradients(small(XGEA, reflection=True), make_single_type_graph()))
