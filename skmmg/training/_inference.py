"""Exact inference in bounded memory, without sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from skmmg.graph import MultiModalGraph
from skmmg.models import ModelOutput
from skmmg.models._layerwise import Layer, Layerwise, layer_on_graph
from skmmg.training._batches import prefetch
from skmmg.training._precision import widened
from skmmg.training._sampler import Hop, Neighborhood
from skmmg.training._store import GraphStore

# Nodes of a layer that are computed at once, at least: one step around them is little.
_LAYER_BLOCK = 4096

# A request is for few nodes if it is for at most one in so many; in blocks it then takes less time
# from so many edges on, and from so many where the module computes only what its targets can see.
_FEW, _MANY_EDGES, _MANY_EDGES_FOR_FIELDS = 1_000, 100_000, 1_000_000

Ids = dict[str, np.ndarray]
# states of some nodes of a type, by their places in a part of the graph
_Compute = Callable[[Neighborhood, str, Tensor], Tensor]
# states of some nodes, by type: their ids, ascending, and (n_states, n_nodes, channels)
_States = Mapping[str, tuple[np.ndarray, Tensor]]


def infer_in_blocks(
    module: nn.Module, store: GraphStore, ids: np.ndarray, *, num_hops: int, batch_size: int
) -> ModelOutput:
    """Output for target nodes, the same as from the whole graph; without attention and penalties.

    Where the module can be cut at its layers, all nodes of a layer that are needed are computed, in
    blocks, before the next. Otherwise blocks of `batch_size` target nodes are computed, each on all
    nodes within `num_hops` steps.
    """
    n_samples = len(ids)
    if not n_samples:  # an empty graph is no input for a model
        ids = np.zeros(1, dtype=np.int64)
    cut: Callable[[], Layerwise | None] | None = getattr(module, "layerwise", None)
    layerwise = None if cut is None else cut()
    if layerwise is not None:
        outputs = _by_layers(layerwise, store, ids, batch_size)
    else:
        parts = (store.near(block, [-1] * num_hops) for block in _blocks(ids, batch_size))
        infer = getattr(module, "infer", module)
        outputs = (infer(*part) for part in prefetch(parts))
    return _join([_plain(output) for output in outputs], n_samples)


def is_faster_in_blocks(module: nn.Module, graph: MultiModalGraph, n_samples: int) -> bool:
    """Whether to compute the output for so few target nodes of a large graph by layers.

    Only where the module can be cut at its layers, which then are known to be computed exactly.
    """
    cut: Callable[[], Layerwise | None] | None = getattr(module, "layerwise", None)
    if cut is None or n_samples * _FEW > sum(graph.n_nodes.values()):
        return False
    n_edges = sum(index.shape[1] for index in graph.edge_index.values())
    if n_edges < _MANY_EDGES:
        return False
    layerwise = cut()
    if layerwise is None:
        return False
    return n_edges >= _MANY_EDGES_FOR_FIELDS or not layerwise.finds_field


def _by_layers(
    net: Layerwise, store: GraphStore, ids: np.ndarray, batch_size: int
) -> Iterator[ModelOutput]:
    size = max(batch_size, _LAYER_BLOCK)
    steps = [(layer_on_graph(net.complete), store.completion)]
    steps += [(layer, [Hop(-1)] * layer.num_hops) for layer in net.layers]
    needed: list[Ids] = [{store.target: np.unique(ids)}]
    for _, hops in reversed(steps):
        needed.append(_with_neighbors(store, needed[-1], hops, size))

    def project(part: Neighborhood, node_type: str, at: Tensor) -> Tensor:
        return net.project(store.tensors(part))  # the part is these nodes and no others

    states = _compute(project, store, needed.pop(), [], size)
    for layer, hops in steps:
        states = _compute_layer(layer, store, states, needed.pop(), hops, size)
    wanted, h = states[store.target]
    for block in _blocks(ids, size):
        at = torch.from_numpy(np.searchsorted(wanted, block))
        yield net.read_out(h[:, at].to(store.device))


def _compute_layer(
    layer: Layer, store: GraphStore, states: _States, needed: Ids, hops: list[Hop], size: int
) -> _States:
    def compute(part: Neighborhood, node_type: str, at: Tensor) -> Tensor:
        h = [states[t][1][:, _at(states[t][0], ids)] for t, ids in part.nodes.items() if len(ids)]
        graph = store.tensors(part, features=False)
        return layer.compute(torch.cat(h, 1).to(store.device), graph, node_type, at)

    return _compute(compute, store, needed, hops, size)


def _compute(
    compute: _Compute, store: GraphStore, needed: Ids, hops: list[Hop], size: int
) -> _States:
    """New states of the needed nodes, block by block of one type, each in its neighbourhood."""
    out = {}
    for node_type, ids in needed.items():
        if not len(ids):
            continue
        blocks = [{node_type: block} for block in _blocks(ids, size)]
        parts = prefetch(store.sampler.sample(block, hops) for block in blocks)
        rows = []
        for block, part in zip(blocks, parts, strict=True):
            at = torch.from_numpy(part.positions(node_type, block[node_type]))
            rows.append(compute(part, node_type, at.to(store.device)).cpu())
        out[node_type] = ids, torch.cat(rows, 1)
    return out


def _with_neighbors(store: GraphStore, ids: Ids, hops: list[Hop], size: int) -> Ids:
    """The nodes and all that they reach by these steps."""
    marks = {t: np.zeros(n, dtype=bool) for t, n in store.graph.n_nodes.items()}
    for node_type, nodes in ids.items():
        for block in _blocks(nodes, size):
            for found_type, found in store.sampler.sample({node_type: block}, hops).nodes.items():
                marks[found_type][found] = True
    return {t: np.flatnonzero(mask) for t, mask in marks.items()}


def _at(known: np.ndarray, ids: np.ndarray) -> Tensor:
    return torch.from_numpy(np.searchsorted(known, ids))


def _blocks(ids: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _plain(output: ModelOutput) -> ModelOutput:
    """What a prediction needs, off the device."""
    weights = output.modality_weights
    plain = ModelOutput(
        output.logits.cpu(),
        output.embedding.cpu(),
        modality_weights=None if weights is None else weights.cpu(),
    )
    return widened(plain)


def _join(outputs: list[ModelOutput], n_samples: int) -> ModelOutput:
    weights = [o.modality_weights for o in outputs if o.modality_weights is not None]
    return ModelOutput(
        torch.cat([output.logits for output in outputs])[:n_samples],
        torch.cat([output.embedding for output in outputs])[:n_samples],
        modality_weights=torch.cat(weights)[:n_samples] if weights else None,
    )
