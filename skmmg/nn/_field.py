"""What some target nodes can see of a graph, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skmmg.nn._edges import EdgeStructure, EdgeType
from skmmg.nn._inputs import GraphTensors

# Fields that a graph keeps: of the training, the validation and the predicted nodes.
_KEPT = 3
# A copy of the features of fewer nodes is worth its memory up to this share of the nodes.
_WORTH_A_COPY = 0.5


@dataclass(frozen=True)
class ReceptiveField:
    """The nodes and edges on which the states of some target nodes depend.

    The last layer gives the states of the target nodes alone, the layer before those of the nodes
    that they see, and so on: what comes out is what the whole graph would give.

    Parameters
    ----------
    graph : GraphTensors
        The graph to encode: the given one, or a smaller one where the field is small.
    rows : Tensor of shape (n_seen,) or None
        Which of its nodes go into the first layer; None: all of them.
    layers : tuple of EdgeStructure
        The edges of every layer.
    target : Tensor of shape (n_samples,)
        Where the target nodes stand in what the last layer gives.
    lacking : tuple of Tensor of shape (n_modalities, n_edges of the layer), dtype bool, or None
        For every layer the modalities that the source of an edge lacks, if that was asked for.
    """

    graph: GraphTensors
    rows: Tensor | None
    layers: tuple[EdgeStructure, ...]
    target: Tensor
    lacking: tuple[Tensor | None, ...]

    def enter(self, h: Tensor) -> Tensor:
        """States (n_modalities, n_seen, channels) for the first layer, of all that are encoded."""
        return h if self.rows is None else h.index_select(1, self.rows)


def whole_graph(
    graph: GraphTensors, edge_types: Sequence[EdgeType], node_type: str, ids: Tensor, n_layers: int
) -> ReceptiveField:
    """All nodes and edges, whatever the target nodes can see of them."""
    edges = graph.edges(edge_types)
    target = ids + edges.node_slices[node_type].start
    return ReceptiveField(graph, None, (edges,) * n_layers, target, (None,) * n_layers)


def lacking_sources(
    graph: GraphTensors, edge_types: Sequence[EdgeType], modalities: Sequence[str]
) -> Tensor | None:
    """Which modalities the source of an edge lacks (n_modalities, n_edges); None if none does."""

    def find() -> Tensor | None:
        absent = graph.absent(modalities)
        return None if absent is None else absent[:, graph.edges(edge_types).src]

    return graph.cached(("lacking", tuple(modalities), tuple(edge_types)), find)


def receptive_field(
    graph: GraphTensors,
    edge_types: Sequence[EdgeType],
    node_type: str,
    ids: Tensor,
    n_layers: int,
    encoder_hops: int = 0,
    modalities: Sequence[str] = (),
    with_lacking: bool = False,
) -> ReceptiveField:
    """What target nodes can see of a graph; kept for the ids that were asked for last.

    Parameters
    ----------
    graph : GraphTensors
        The graph.
    edge_types : sequence of (str, str, str)
        The relations of the layers.
    node_type : str
        Type of the target nodes.
    ids : Tensor of shape (n_samples,)
        The target nodes.
    n_layers : int
        Number of layers.
    encoder_hops : int, default=0
        How far the encoder looks to complete a node that lacks a modality.
    modalities : sequence of str, default=()
        The modalities that a node may lack.
    with_lacking : bool, default=False
        Whether every layer is to hold all edges whose source lacks a modality, too; of a graph
        that is `sampled`, those that the target nodes see.

    Returns
    -------
    ReceptiveField
        Nodes and edges, layer by layer.
    """
    key: tuple[object, ...] = (node_type, n_layers, tuple(edge_types), ids.cpu().numpy().tobytes())
    edges = graph.edges(edge_types)
    lacking = lacking_sources(graph, edge_types, modalities) if with_lacking else None
    if lacking is not None:
        key = (*key, tuple(modalities))
    layers, seen, target, lacking_of_layers = graph.cached(
        ("layers", *key),
        lambda: _layers(edges, node_type, ids, n_layers, lacking, graph.sampled),
        of="edges" if lacking is None else "features",
        keep=_KEPT,
    )
    part, rows = graph.cached(
        ("encoded", encoder_hops, tuple(modalities), *key),
        lambda: _encoded(graph, seen, encoder_hops, modalities),
        keep=_KEPT,
    )
    return ReceptiveField(part or graph, rows, layers, target, lacking_of_layers)


def _layers(
    edges: EdgeStructure,
    node_type: str,
    ids: Tensor,
    n_layers: int,
    lacking: Tensor | None,
    sampled: bool,
) -> tuple[tuple[EdgeStructure, ...], Tensor, Tensor, tuple[Tensor | None, ...]]:
    """Edges of every layer, mask of the nodes that go into the first, places of the targets.

    The fourth is `lacking` for the edges of every layer.
    """
    places = ids + edges.node_slices[node_type].start
    seen = torch.zeros(edges.num_nodes, dtype=torch.bool, device=ids.device)
    seen[places] = True
    if lacking is None or not n_layers:
        layers, into_first = _layers_into(edges, seen, n_layers)
        return layers, into_first, (seen.cumsum(0) - 1)[places], (None,) * n_layers
    if not sampled:  # the states of both ends of such an edge go into every layer
        seen[edges.dst[lacking.any(0)]] = True
    layers, into_first = _layers_into(edges, seen, n_layers)
    as_in_graph = torch.empty_like(lacking)
    as_in_graph[:, edges.order] = lacking
    of_layers = tuple(as_in_graph[:, part.order] for part in layers)
    return layers, into_first, (seen.cumsum(0) - 1)[places], of_layers


def _layers_into(
    edges: EdgeStructure, wanted: Tensor, n_layers: int
) -> tuple[tuple[EdgeStructure, ...], Tensor]:
    """Edges of every layer, and mask of the nodes that go into the first."""
    layers: list[EdgeStructure] = []
    for _ in range(n_layers):
        part, wanted = edges.into(wanted)
        layers.insert(0, part)
    return tuple(layers), wanted


def _encoded(
    graph: GraphTensors, seen: Tensor, hops: int, modalities: Sequence[str]
) -> tuple[GraphTensors | None, Tensor | None]:
    """The smaller graph to encode, None for the graph itself, and the rows of it that are seen."""
    if bool(seen.all()):
        return None, None
    needed = _with_givers(graph, seen, hops, modalities)
    shuffled = graph.row_order is not None
    if shuffled or int(needed.sum()) > _WORTH_A_COPY * len(needed):
        return None, seen.nonzero().squeeze(1)
    rows = None if int(needed.sum()) == int(seen.sum()) else seen[needed].nonzero().squeeze(1)
    return graph.induced(needed), rows


def _with_givers(graph: GraphTensors, seen: Tensor, hops: int, modalities: Sequence[str]) -> Tensor:
    """Mask of the nodes that are seen, and of those that complete their modalities."""
    absent = graph.absent(modalities) if hops else None
    if absent is None:
        return seen
    edges, lacking = graph.edges(tuple(graph.edge_index)), absent.any(0)
    needed = seen.clone()
    for _ in range(hops):
        asking = needed & lacking
        needed = needed.clone()
        needed[edges.src[asking[edges.dst]]] = True
    return needed
