"""Modules cut at their layers, so that a graph that does not fit in memory is predicted exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skmmg.models._base import ModelOutput
from skmmg.nn import GraphTensors
from skmmg.nn._edges import EdgeStructure, EdgeType, stack_slices
from skmmg.nn._field import receptive_field


@dataclass(frozen=True)
class Layer:
    """From the states of the nodes of a part of a graph to new states of some of them.

    Parameters
    ----------
    compute : callable
        Maps states (n_states, n_nodes of all types, channels), the part, without features, a node
        type and ids of its nodes (n_samples,) to their new states (n_states, n_samples, channels).
    num_hops : int, default=1
        The part has to hold all edges that end within so many steps of these nodes.
    """

    compute: Callable[[Tensor, GraphTensors, str, Tensor], Tensor]
    num_hops: int = 1


@dataclass(frozen=True)
class Layerwise:
    """A module cut at its layers: all nodes of a layer can be computed before the next.

    Parameters
    ----------
    project : callable
        Maps `GraphTensors` to states (n_states, n_nodes of all types, channels); a node's depends
        on its own features alone.
    complete : callable
        Maps states and a graph, without features, to states of nodes that lack nothing, see
        `skmmg.nn.ModalityEncoder.complete`.
    layers : list of Layer
        The layers.
    read_out : callable
        Maps the last states of some target nodes, (n_states, n_samples, channels), to their output.
    finds_field : bool, default=False
        Whether the module itself computes no more than what its target nodes can see.
    """

    project: Callable[[GraphTensors], Tensor]
    complete: Callable[[Tensor, GraphTensors], Tensor]
    layers: list[Layer]
    read_out: Callable[[Tensor], ModelOutput]
    finds_field: bool = False


def layer_on_edges(
    run: Callable[[Tensor, EdgeStructure], Tensor], edge_types: Sequence[EdgeType]
) -> Layer:
    """A layer that runs on the edges into the nodes asked for, see `EdgeStructure.into`."""

    def compute(h: Tensor, graph: GraphTensors, node_type: str, ids: Tensor) -> Tensor:
        field = receptive_field(graph, edge_types, node_type, ids, 1)
        return run(field.enter(h), field.layers[0])[:, field.target]

    return Layer(compute)


def layers_with_scale(
    find_scale: Callable[[Tensor, GraphTensors], Tensor],
    runs: Sequence[Callable[[Tensor, GraphTensors, Tensor], Tensor]],
) -> list[Layer]:
    """Layers in which an edge's weight depends on the edges into its source.

    A first layer finds a scale of every node (n_states, n_nodes, 1), and the others take it along
    as a channel, so that no layer looks further than one step.
    """

    def first(h: Tensor, graph: GraphTensors) -> Tensor:
        return torch.cat([h, find_scale(h, graph)], 2)

    def layer(i: int) -> Layer:
        def run(h: Tensor, graph: GraphTensors) -> Tensor:
            h, scale = h[..., :-1], h[..., -1:]
            h = runs[i](h, graph, scale)
            return h if i == len(runs) - 1 else torch.cat([h, scale], 2)

        return layer_on_graph(run)

    return [layer_on_graph(first), *map(layer, range(len(runs)))] if runs else []


def layer_on_graph(run: Callable[[Tensor, GraphTensors], Tensor], num_hops: int = 1) -> Layer:
    """A layer that gives new states of all nodes of a part; those at its rim are not used."""

    def compute(h: Tensor, graph: GraphTensors, node_type: str, ids: Tensor) -> Tensor:
        return run(h, graph)[:, ids + stack_slices(graph.num_nodes)[node_type].start]

    return Layer(compute, num_hops)
