"""The graphs that samples consist of, one set of graphs for each modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skmmg.nn._edges import stack_slices
from skmmg.nn._inputs import GraphTensors


@dataclass(frozen=True)
class MemberGraph:
    """Nodes and edges of many unconnected graphs.

    Parameters
    ----------
    nodes : Tensor of shape (n_members,)
        The nodes, in the common numbering of all types.
    batch : Tensor of shape (n_members,)
        Which graph each belongs to, ascending.
    edge_index : Tensor of shape (2, n_edges)
        Edges between them, by their position in `nodes`.
    edge_weight : Tensor of shape (n_edges,)
        Weights of the edges, 1 where a relation has none.
    """

    nodes: Tensor
    batch: Tensor
    edge_index: Tensor
    edge_weight: Tensor

    def of(self, asked: Tensor) -> MemberGraph:
        """Only these graphs (ascending), numbered in this order."""
        place = torch.searchsorted(asked, self.batch).clamp_max(len(asked) - 1)
        kept = asked[place] == self.batch
        if bool(kept.all()):
            return MemberGraph(self.nodes, place, self.edge_index, self.edge_weight)
        # no edge leaves a graph, so the source tells whether an edge stays
        stays = kept[self.edge_index[0]]
        position = kept.cumsum(0) - 1
        return MemberGraph(
            self.nodes[kept],
            place[kept],
            position[self.edge_index[:, stays]],
            self.edge_weight[stays],
        )


def member_graphs(graph: GraphTensors, modalities: Sequence[str], target: str) -> list[MemberGraph]:
    """For each modality the nodes that have it and point to a node of `target`: made once.

    Raises
    ------
    ValueError
        If a node points to two nodes of `target`, or an edge leaves a graph.
    """
    return graph.cached(
        ("member_graphs", target, *modalities), lambda: _find(graph, modalities, target)
    )


def _find(graph: GraphTensors, modalities: Sequence[str], target: str) -> list[MemberGraph]:
    owner = _owners(graph, target)
    slices = stack_slices(graph.num_nodes)
    inner = [e for e in graph.edge_index if target not in (e[0], e[2])]
    empty = torch.zeros(2, 0, dtype=torch.long, device=graph.device)
    shifted = [
        graph.edge_index[e]
        + graph.edge_index[e].new_tensor([[slices[e[0]].start], [slices[e[2]].start]])
        for e in inner
    ]
    edges = torch.cat([empty, *shifted], 1)
    ones = torch.ones(0, device=graph.device, dtype=_dtype(graph))
    weight = torch.cat(
        [
            ones,
            *(graph.edge_weight.get(e, ones.new_ones(graph.edge_index[e].shape[1])) for e in inner),
        ]
    )
    if bool((owner[edges[0]] != owner[edges[1]]).any()):
        raise ValueError(
            f"Edges lead from one {target!r} to another, but samples that are graphs are apart. "
            "Make X by stack_graphs."
        )
    absent = graph.absent(modalities)
    rows = [None] * len(modalities) if absent is None else list(absent)
    return [_part(owner, edges, weight, row) for row in rows]


def _owners(graph: GraphTensors, target: str) -> Tensor:
    """Which target node every node points to, -1 where none."""
    slices = stack_slices(graph.num_nodes)
    owner = torch.full((sum(graph.num_nodes.values()),), -1, device=graph.device)
    count = torch.zeros_like(owner)
    for (source, _, destination), (src, dst) in graph.edge_index.items():
        if destination == target and source != target:
            owner[src + slices[source].start] = dst
            count += torch.bincount(src + slices[source].start, minlength=len(owner))
    if bool((count > 1).any()):
        raise ValueError(
            f"A node may be part of one {target!r} only, got {int((count > 1).sum())} nodes that "
            "point to several. Make X by stack_graphs, with a copy of the node in each graph."
        )
    return owner


def _part(owner: Tensor, edges: Tensor, weight: Tensor, absent: Tensor | None) -> MemberGraph:
    has = owner >= 0 if absent is None else (owner >= 0) & ~absent
    nodes = has.nonzero().view(-1)
    nodes = nodes[torch.argsort(owner[nodes], stable=True)]
    position = torch.full_like(owner, -1)
    position[nodes] = torch.arange(len(nodes), device=owner.device)
    inside = has[edges[0]] & has[edges[1]]
    return MemberGraph(nodes, owner[nodes], position[edges[:, inside]], weight[inside])


def _dtype(graph: GraphTensors) -> torch.dtype:
    for features in graph.x.values():
        for x in features.values():
            return x.dtype if isinstance(x, Tensor) else x.matrix.dtype
    return torch.get_default_dtype()
