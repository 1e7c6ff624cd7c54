"""One homogeneous graph out of all relations and node types of a heterogeneous one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skmmg.nn._edges import EdgeStructure, EdgeType
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._sparse import SparseMatrix

MERGE = ("union", "mean")


@dataclass(frozen=True)
class HomogeneousGraph:
    r"""Nodes of all types in one numbering, and at most one edge from a node to another.

    Parameters
    ----------
    dst, src : Tensor of shape (n_edges,)
        Ends of every edge in the common numbering of `EdgeStructure`, sorted by both.
    weight : Tensor of shape (n_edges,)
        Weights, above 0.
    num_nodes : int
        Number of nodes of all types.
    """

    dst: Tensor
    src: Tensor
    weight: Tensor
    num_nodes: int

    def with_self_loops(self) -> HomogeneousGraph:
        """The graph with one more edge of weight 1 from every node to itself.

        An edge from a node to itself that is there stays beside it: a fitted row is linked from
        itself and a new row like it from that row, so that with a loop on top both get the same.
        """
        nodes = torch.arange(self.num_nodes, device=self.dst.device)
        dst, src = torch.cat([self.dst, nodes]), torch.cat([self.src, nodes])
        weight = torch.cat([self.weight, self.weight.new_ones(self.num_nodes)])
        order = torch.argsort(dst * self.num_nodes + src, stable=True)
        return HomogeneousGraph(dst[order], src[order], weight[order], self.num_nodes)

    def structure(self) -> EdgeStructure:
        """The edges, in the same order, as `edge_dot` and `edge_sum` take them."""
        relation = ("node", "to", "node")
        index = torch.stack([self.src, self.dst])
        return EdgeStructure({relation: index}, {"node": self.num_nodes}, [relation])

    def offsets(self) -> Tensor:
        """First edge into every node, and the number of edges, (n_nodes + 1,)."""
        nodes = torch.arange(self.num_nodes + 1, device=self.dst.device)
        return torch.searchsorted(self.dst, nodes)

    def degree(self) -> Tensor:
        """Sums of the weights of the edges into every node, (n_nodes,)."""
        return torch.segment_reduce(self.weight, "sum", offsets=self.offsets(), unsafe=True)

    def matrix(self, *, normalize: bool = False) -> SparseMatrix:
        """The weights (n_nodes, n_nodes) in rows of destinations; rows of sum 1 or of zeros."""
        crow, values = self.offsets(), self.weight
        if normalize:
            values = values / self.degree()[self.dst]
        shape = (self.num_nodes, self.num_nodes)
        return SparseMatrix(
            torch.sparse_csr_tensor(crow, self.src, values, shape, check_invariants=False)
        )


def merge_relations(
    graph: GraphTensors, edge_types: Sequence[EdgeType], merge: str, dtype: torch.dtype
) -> HomogeneousGraph:
    r"""One homogeneous graph out of relations, made once per graph.

    Parameters
    ----------
    graph : GraphTensors
        The graph.
    edge_types : sequence of (str, str, str)
        The relations; one that the graph lacks has no edges.
    merge : {"union", "mean"}
        "union": an edge is there if any relation has it, with the largest of its weights (1 where
        a relation has none), however often it is there. "mean": mean of the adjacency matrices of
        the relations between two node types, in each of which parallel edges add up.
    dtype : torch.dtype
        Of the weights.

    Returns
    -------
    HomogeneousGraph
        Without edges of weight 0.

    Raises
    ------
    ValueError
        If a weight is negative.
    """
    return graph.cached(
        ("homogeneous", merge, dtype, *edge_types),
        lambda: _merge(graph, edge_types, merge, dtype),
        of="edges",
    )


def edge_weights(graph: GraphTensors, edge_types: Sequence[EdgeType], dtype: torch.dtype) -> Tensor:
    """Weights of the edges of some relations, one after the other; 1 where there are none.

    In the order that `EdgeStructure.order` numbers. Raises where a weight is negative.
    """
    parts = [torch.zeros(0, dtype=dtype, device=graph.device)]
    for edge_type in edge_types:
        if edge_type not in graph.edge_index:
            continue
        weight = graph.edge_weight.get(edge_type)
        if weight is None:
            weight = torch.ones(graph.edge_index[edge_type].shape[1], device=graph.device)
        elif bool((weight < 0).any()):
            raise ValueError(
                f"Edges of {edge_type} have negative weights, and this model takes none. Shift "
                "them, or leave the edges with negative weights out."
            )
        parts.append(weight.to(dtype))
    return torch.cat(parts)


def normalized_adjacency(
    dst: Tensor, src: Tensor, weight: Tensor, num_nodes: int, *, self_loop: float = 1.0
) -> SparseMatrix:
    r"""Normalised adjacency matrix of a graph convolution.

    .. math::

        \hat A = \tilde D^{-1/2} (A + s I) \tilde D^{-1/2}, \qquad
        \tilde D_{ii} = s + \sum_j A_{ij}

    where :math:`A_{ij}` is the weight of the edges from j to i, and parallel edges add up. Only
    edges *into* a node count for its degree, so that a row does not change where a node is linked
    from it. A node of degree 0 gets and gives nothing.

    Parameters
    ----------
    dst, src : Tensor of shape (n_edges,)
        Ends of every edge, in any order.
    weight : Tensor of shape (n_edges,)
        Weights, at least 0.
    num_nodes : int
        Number of nodes.
    self_loop : float, default=1.0
        :math:`s`, at least 0; on top of edges from a node to itself.

    Returns
    -------
    SparseMatrix of shape (num_nodes, num_nodes)

    References
    ----------
    Kipf and Welling, Semi-supervised classification with graph convolutional networks, ICLR 2017,
    equation 2.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn._homogeneous import normalized_adjacency
    >>> matrix = normalized_adjacency(torch.tensor([1]), torch.tensor([0]), torch.ones(1), 2)
    >>> matrix @ torch.eye(2)
    tensor([[1.0000, 0.0000],
            [0.7071, 0.5000]])
    """
    if self_loop:
        nodes = torch.arange(num_nodes, device=dst.device)
        dst, src = torch.cat([dst, nodes]), torch.cat([src, nodes])
        weight = torch.cat([weight, weight.new_full((num_nodes,), self_loop)])
    order = torch.argsort(dst * num_nodes + src, stable=True)
    graph = HomogeneousGraph(dst[order], src[order], weight[order], num_nodes)
    scale = inverse_root(graph.degree())
    return replace(graph, weight=scale[graph.dst] * graph.weight * scale[graph.src]).matrix()


def inverse_root(degree: Tensor) -> Tensor:
    """One over the square root, and 0 for a degree of 0."""
    return torch.where(degree > 0, degree, 1.0).rsqrt() * (degree > 0)


def _merge(
    graph: GraphTensors, edge_types: Sequence[EdgeType], merge: str, dtype: torch.dtype
) -> HomogeneousGraph:
    edges = graph.edges(edge_types)
    weight = edge_weights(graph, edge_types, dtype)[edges.order]
    if merge == "mean":
        ends = [(src, dst) for src, _, dst in edge_types]
        shares = torch.tensor([1 / ends.count(e) for e in ends], dtype=dtype, device=graph.device)
        weight = weight * shares[edges.relation]
    key, order = torch.sort(edges.dst * edges.num_nodes + edges.src, stable=True)
    cells, counts = torch.unique_consecutive(key, return_counts=True)
    how = "max" if merge == "union" else "sum"
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    weight = torch.segment_reduce(weight[order], how, offsets=offsets, unsafe=True)
    cells, weight = cells[weight > 0], weight[weight > 0]
    dst = cells // edges.num_nodes
    return HomogeneousGraph(dst, cells - dst * edges.num_nodes, weight, edges.num_nodes)
