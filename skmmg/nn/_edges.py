"""All relations of a heterogeneous graph in one compressed structure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

EdgeType = tuple[str, str, str]
K = TypeVar("K")


@dataclass(frozen=True)
class Segments:
    """Runs of consecutive edges over which a softmax is taken."""

    offsets: Tensor  # (n_segments + 1,) first edge of every run
    index: Tensor  # (n_edges,) run of every edge


@dataclass(frozen=True)
class Runs:
    """Edges by runs of one destination and relation, for a kernel that goes node by node."""

    src: Tensor  # (n_edges,) int32
    ptr: Tensor  # (n_runs + 1,) int32, first edge of every run
    relation: Tensor  # (n_runs,) int32
    node_ptr: Tensor  # (num_out + 1,) int32, first run of every node
    longest: int  # most edges into one node

    def cuts(self, n_threads: int) -> Tensor:
        """First node of every thread (n_threads + 1,), so that they have as many edges each."""
        n_nodes = len(self.node_ptr) - 1
        # a node costs something too
        work = self.ptr[self.node_ptr.long()].double() + torch.arange(n_nodes + 1)
        wanted = torch.linspace(0, float(work[-1]), n_threads + 1, dtype=torch.float64)
        cuts = torch.searchsorted(work, wanted)
        cuts[-1] = n_nodes
        return cuts


class EdgeStructure:
    """The edges of all relations, sorted by (destination, relation).

    Nodes of all types get one numbering: type after type, in the order of `num_nodes`. A *source
    row* numbers (relation, source node) pairs, because an operator transforms the sources of each
    relation by a matrix of its own before it gathers them.

    A layer takes the states of all nodes and gives new ones for all of them; after `into` it takes
    those that are seen and gives those that are wanted.

    Parameters
    ----------
    edge_index_dict : mapping of (str, str, str) to Tensor of shape (2, n_edges)
        Source and destination ids, each counted within its node type. Parallel edges and
        self-loops are kept.
    num_nodes : mapping of str to int
        Number of nodes of every node type.
    edge_types : sequence of (str, str, str)
        The relations, in the order in which an operator stacks its parameters. A relation that
        `edge_index_dict` lacks has no edges.
    device : torch.device or None, default=None
        Where the edges are; needed where there is no relation to tell.

    Attributes
    ----------
    num_nodes, num_out : int
        Number of nodes whose states go in, and of nodes whose states come out.
    node_slices, out_slices : dict of str to slice
        Where the nodes of a type stand in the common numbering of what goes in, and what comes out.
    kept : Tensor of shape (num_out,) or None
        Where the nodes that come out stand among those that go in; None where they are the same.
    row_slices : list of slice
        Where the sources of a relation stand among the source rows.
    dst, src, row, relation : Tensor of shape (n_edges,)
        Destination, source, source row and relation of every edge, in sorted order.
    num_edges, num_edges_in_graph : int
        Number of edges, and before `into`.
    order : Tensor of shape (n_edges,)
        Position of every sorted edge in the concatenation of the edges of the relations, all of
        them, of the whole graph.
    """

    def __init__(
        self,
        edge_index_dict: Mapping[EdgeType, Tensor],
        num_nodes: Mapping[str, int],
        edge_types: Sequence[EdgeType],
        device: torch.device | None = None,
    ) -> None:
        self.edge_types = tuple(edge_types)
        self.node_slices = self.out_slices = stack_slices(num_nodes)
        self.row_slices = self._stack_sources()
        self.num_nodes = self.num_out = sum(num_nodes.values())
        self.kept: Tensor | None = None
        if device is None and edge_index_dict:
            device = next(iter(edge_index_dict.values())).device
        present = {e: edge_index_dict[e] for e in self.edge_types if e in edge_index_dict}
        empty = torch.zeros(2, 0, dtype=torch.long, device=device)
        parts = [present.get(e, empty) for e in self.edge_types]
        self.num_edges_per_type = [part.shape[1] for part in parts]
        starts = {t: part.start for t, part in self.node_slices.items()}
        ends = list(zip(parts, self.edge_types, self.row_slices, strict=True))
        dst = torch.cat([empty[1], *(p[1] + starts[e[2]] for p, e, _ in ends)])
        src = torch.cat([empty[0], *(p[0] + starts[e[0]] for p, e, _ in ends)])
        row = torch.cat([empty[0], *(p[0] + rows.start for p, _, rows in ends)])
        relation = torch.repeat_interleave(
            torch.arange(len(parts), device=device),
            torch.tensor(self.num_edges_per_type, dtype=torch.long, device=device),
        )
        self.order = torch.argsort(dst * len(parts) + relation, stable=True)
        self.dst, self.src = dst[self.order], src[self.order]
        self.row, self.relation = row[self.order], relation[self.order]
        self.num_edges_in_graph = len(self.order)
        self._finish()

    @property
    def source_slices(self) -> list[slice]:
        """Where the nodes of a relation's source type stand among those that go in."""
        return [self.node_slices[src] for src, _, _ in self.edge_types]

    def _stack_sources(self) -> list[slice]:
        sizes = {i: part.stop - part.start for i, part in enumerate(self.source_slices)}
        return list(stack_slices(sizes).values())

    def _finish(self) -> None:
        """What follows from the sorted edges; the arrays for products are made when asked for."""
        self.num_edges = len(self.dst)
        self.num_rows = self.row_slices[-1].stop if self.row_slices else 0
        self._blocks: dict[int, _Blocks] = {}
        self._segments: dict[tuple[str, int], Segments] = {}
        self._runs: Runs | None = None
        self._indptr = _indptr(self.dst, self.num_out)

    def into(self, wanted: Tensor) -> tuple[EdgeStructure, Tensor]:
        """The edges into some of the nodes, for a layer that gives the states of these alone.

        Parameters
        ----------
        wanted : Tensor of shape (num_out,), dtype bool
            The nodes whose states are to come out; of a structure with all nodes.

        Returns
        -------
        EdgeStructure
            The edges into the nodes that are wanted, between them and their sources.
        Tensor of shape (num_nodes,), dtype bool
            The nodes that are seen, those wanted and the sources of the edges into them.
        """
        used = wanted[self.dst]
        seen = wanted.clone()
        seen[self.src[used]] = True
        if bool(wanted.all()):
            return self, seen
        part = copy.copy(self)
        part.node_slices = _slices_of(seen, self.node_slices)
        part.out_slices = _slices_of(wanted, self.node_slices)
        part.row_slices = part._stack_sources()
        position = seen.cumsum(0) - 1
        part.kept = position[wanted]
        part.num_nodes, part.num_out = int(seen.sum()), len(part.kept)
        part.dst = (wanted.cumsum(0) - 1)[self.dst[used]]
        part.src, part.relation = position[self.src[used]], self.relation[used]
        starts = [
            rows.start - nodes.start
            for rows, nodes in zip(part.row_slices, part.source_slices, strict=True)
        ]
        part.row = part.src + part.src.new_tensor(starts)[part.relation]
        part.order = self.order[used]
        part._finish()
        return part, seen

    def segments(self, scope: str, copies: int = 1) -> Segments:
        """Edges into one node (`scope="node"`), or into one node by one relation.

        With ``copies`` > 1 the runs of that many stacked copies of the edges.
        """
        key = (scope, copies)
        if key not in self._segments:
            if scope == "node":
                offsets, index = self._indptr, self.dst
            else:
                run = self.dst * max(len(self.edge_types), 1) + self.relation
                _, index, counts = torch.unique_consecutive(
                    run, return_inverse=True, return_counts=True
                )
                offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            self._segments[key] = Segments(
                _stack_offsets(offsets, self.num_edges, copies),
                _stack(index, len(offsets) - 1, copies),
            )
        return self._segments[key]

    def blocks(self, copies: int) -> _Blocks:
        """Block-diagonal index arrays of `copies` copies of the (node, source row) matrix."""
        if copies not in self._blocks:
            self._blocks[copies] = _Blocks(self, copies)
        return self._blocks[copies]

    def runs(self) -> Runs:
        """The edges run by run."""
        if self._runs is None:
            n_relations = max(len(self.edge_types), 1)
            run = self.dst * n_relations + self.relation
            run, counts = torch.unique_consecutive(run, return_counts=True)
            self._runs = Runs(
                src=self.src.int(),
                ptr=torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int(),
                relation=(run % n_relations).int(),
                node_ptr=_indptr(run // n_relations, self.num_out).int(),
                longest=int(self._indptr.diff().max()) if self.num_out else 0,
            )
        return self._runs

    def split(self, values: Tensor) -> dict[EdgeType, Tensor]:
        """Per-edge values (n_edges, ...) in sorted order, given back relation by relation."""
        unsorted = torch.empty_like(values)
        unsorted[self.order] = values
        parts = torch.split(unsorted, self.num_edges_per_type)
        return dict(zip(self.edge_types, parts, strict=True))


class _Blocks:
    """Index arrays (int32 where they fit) of a block-diagonal matrix and of its transpose."""

    def __init__(self, edges: EdgeStructure, copies: int) -> None:
        n_nodes, n_rows, n_edges = edges.num_out, edges.num_rows, edges.num_edges
        largest = copies * max(n_nodes, n_rows, n_edges)
        dtype = torch.int32 if largest < torch.iinfo(torch.int32).max else torch.int64
        by_row = torch.argsort(edges.row, stable=True)
        rows = _indptr(edges.row, n_rows)
        self.crow = _stack_offsets(edges._indptr, n_edges, copies).to(dtype)
        self.col = _stack(edges.row, n_rows, copies).to(dtype)
        self.crow_t = _stack_offsets(rows, n_edges, copies).to(dtype)
        self.col_t = _stack(edges.dst[by_row], n_nodes, copies).to(dtype)
        self.permutation = _stack(by_row, n_edges, copies)
        self.shape = (copies * n_nodes, copies * n_rows)
        # rows to add below the matrix so that it has no fewer cells than edges: torch's sampled
        # product cuts the index arrays of a multigraph denser than that, in place
        cells = max(self.shape[1], 1)
        self.padding = max(0, -(-copies * n_edges // cells) - self.shape[0])
        self.crow_padded = torch.cat([self.crow, self.crow[-1:].expand(self.padding)])


def stack_slices(sizes: Mapping[K, int]) -> dict[K, slice]:
    """Where parts of these sizes stand when they are stacked in order."""
    start, out = 0, {}
    for key, size in sizes.items():
        out[key] = slice(start, start + size)
        start += size
    return out


def split_by_type(x: Tensor, sizes: Mapping[K, int]) -> dict[K, Tensor]:
    """Stacked rows (n_nodes of all types, ...), given back part by part."""
    return dict(zip(sizes, torch.split(x, list(sizes.values())), strict=True))


def _slices_of(mask: Tensor, slices: Mapping[str, slice]) -> dict[str, slice]:
    """The slices of what a mask leaves of every slice."""
    return stack_slices({name: int(mask[part].sum()) for name, part in slices.items()})


def _indptr(index: Tensor, size: int) -> Tensor:
    counts = torch.bincount(index, minlength=size)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _stack(index: Tensor, step: int, copies: int) -> Tensor:
    shift = torch.arange(copies, device=index.device) * step
    return (index + shift[:, None]).reshape(-1)


def _stack_offsets(offsets: Tensor, step: int, copies: int) -> Tensor:
    return torch.cat([offsets[:1], _stack(offsets[1:], step, copies)])
