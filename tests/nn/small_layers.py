"""What the tests of HGNNIMAConv and its back ends share: small graphs, layers, the reference."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import reference
import torch
from numpy.typing import NDArray
from reference import EdgeType, Switches
from torch import Tensor

from skmmg.nn import HGNNIMAConv

EdgeIndex = dict[EdgeType, Tensor]
Features = dict[str, Tensor]
EdgeLists = Mapping[EdgeType, tuple[list[int], list[int]]]

CHANNELS = 8

# Nothing ends in a tag. Movie 4 and actor 3 are isolated: nothing ends in them either.
N_NODES = {"movie": 5, "actor": 4, "tag": 3}
STARS, ACTS_IN = ("movie", "stars", "actor"), ("actor", "acts_in", "movie")
PRODUCES, SIMILAR = ("actor", "produces", "movie"), ("movie", "similar", "movie")
KNOWS, DESCRIBES = ("actor", "knows", "actor"), ("tag", "describes", "movie")
EDGES: EdgeLists = {
    STARS: ([0, 0, 1, 2, 3, 4], [0, 1, 1, 2, 0, 0]),
    ACTS_IN: ([0, 1, 1, 2, 0], [0, 0, 1, 2, 3]),
    PRODUCES: ([0, 3, 2], [0, 0, 2]),  # parallel to "acts_in": 0 -> 0 and 2 -> 2 are in both
    SIMILAR: ([0, 1, 1, 2, 2, 2], [0, 0, 0, 1, 2, 3]),  # self-loops; 1 -> 0 is there twice
    KNOWS: ([], []),
    DESCRIBES: ([0, 1, 2, 2], [0, 0, 1, 3]),
}
METADATA = (list(N_NODES), list(EDGES))

# Six nodes; every type is reached by two relations, so that every parameter has an effect.
SMALL_N_NODES = {"movie": 3, "actor": 3}
SMALL_EDGES: EdgeLists = {
    STARS: ([0, 1, 2, 0, 1], [0, 0, 1, 1, 2]),
    ACTS_IN: ([0, 1, 2, 2], [0, 0, 1, 2]),
    SIMILAR: ([1, 0, 2, 2, 2], [0, 1, 1, 2, 2]),
    KNOWS: ([1, 2, 0, 1], [0, 0, 1, 2]),
}
SMALL_METADATA = (list(SMALL_N_NODES), list(SMALL_EDGES))


def make_edges(edges: EdgeLists = EDGES) -> EdgeIndex:
    return {edge_type: torch.tensor(pair, dtype=torch.long) for edge_type, pair in edges.items()}


def make_features(
    n_modalities: int, n_nodes: Mapping[str, int] = N_NODES, channels: int = CHANNELS
) -> Features:
    generator = torch.Generator().manual_seed(0)
    return {
        t: torch.randn(n_modalities, n, channels, dtype=torch.float64, generator=generator)
        for t, n in n_nodes.items()
    }


def make_conv(
    num_modalities: int = 2,
    metadata: reference.Metadata = METADATA,
    channels: int = CHANNELS,
    scale: float = 0.7,
    **kwargs: Any,
) -> HGNNIMAConv:
    """Build a float64 layer in which every parameter, biases too, has values of its own."""
    conv = HGNNIMAConv(channels, metadata, num_modalities, **{"heads": 4, **kwargs})
    conv = conv.double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in conv.parameters():
            noise = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            parameter.copy_(scale * noise)
    return conv


def to_numpy(tensors: Mapping[Any, Tensor]) -> dict[Any, NDArray[Any]]:
    return {key: tensor.detach().numpy() for key, tensor in tensors.items()}


def make_params(conv: HGNNIMAConv) -> dict[str, NDArray[np.float64]]:
    """Give the layer's parameters the names that the reference knows them by."""
    params = {name: getattr(conv, name) for name in ("w_node", "w_msg", "w_modal", "mu", "skip")}
    for name, node_type in product(("k_lin", "q_lin", "v_lin", "a_lin", "norm"), conv.node_types):
        by_type = getattr(conv, name)
        if by_type is not None:
            params[f"{name}.{node_type}.weight"] = by_type[node_type].weight
            params[f"{name}.{node_type}.bias"] = by_type[node_type].bias
    return to_numpy({name: values for name, values in params.items() if values is not None})


def assert_close(left: Mapping[Any, Any], right: Mapping[Any, Any], atol: float = 1e-12) -> None:
    assert set(left) == set(right)
    for key in left:
        actual, desired = (
            v.detach() if isinstance(v, Tensor) else v for v in (left[key], right[key])
        )
        np.testing.assert_allclose(actual, desired, rtol=0, atol=atol, err_msg=str(key))


def assert_equals_reference(
    num_modalities: int,
    metadata: reference.Metadata,
    n_nodes: Mapping[str, int],
    edges: EdgeIndex,
    **kwargs: Any,
) -> None:
    """Compare the outputs and every attention value with the loops, to 1e-10."""
    conv = make_conv(num_modalities, metadata, **kwargs)
    x = make_features(num_modalities, n_nodes)
    out, attention = conv(x, edges, return_attention=True)
    expected, weights = reference.conv(
        make_params(conv),
        metadata,
        to_numpy(x),
        to_numpy(edges),
        Switches(**{"heads": 4, **kwargs}),
    )
    assert_close(out, expected, 1e-10)
    for name in ("alpha", "lam", "beta", "align", "weight"):
        by_relation = {t: getattr(w, name) for t, w in weights.items()}
        if any(values is None for values in by_relation.values()):
            assert getattr(attention, name) is None
        else:
            assert_close(getattr(attention, name), by_relation, 1e-10)


def make_function(**switches: Any) -> tuple[Any, tuple[Tensor, ...]]:
    """Write a layer on six nodes as a function of its inputs and parameters."""
    conv = make_conv(2, SMALL_METADATA, channels=4, **{"heads": 2, **switches})
    names, parameters = zip(*conv.named_parameters(), strict=True)
    edges = make_edges(SMALL_EDGES)

    def function(movie: Tensor, actor: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        x = {"movie": movie, "actor": actor}
        state = dict(zip(names, values, strict=True))
        return tuple(torch.func.functional_call(conv, state, (x, edges)).values())

    x = [h.requires_grad_() for h in make_features(2, SMALL_N_NODES, 4).values()]
    return function, (*x, *(p.detach().clone().requires_grad_() for p in parameters))
