"""GraphSAGE: a node's own state and an aggregate of its neighbours'."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.nn._checks import check_option
from skmmg.nn._homogeneous import HomogeneousGraph
from skmmg.nn._segment_max import segment_max
from skmmg.nn._sparse import SparseMatrix

AGGR = ("mean", "sum", "max")


class Neighborhood:
    """What an aggregator needs of a graph: a matrix, or the edges node by node."""

    def __init__(self, graph: HomogeneousGraph, aggr: str) -> None:
        self.matrix: SparseMatrix | None = None
        if aggr == "max":
            self.edges = graph.src, graph.dst, graph.offsets()
        else:
            self.matrix = graph.matrix(normalize=aggr == "mean")


class SAGEConv(nn.Module):
    r"""Concatenate a node's state with an aggregate of its neighbours', and map it.

    .. math::

        h_i' = \frac{u_i}{\|u_i\|_2}, \qquad
        u_i = \mathrm{ReLU}\bigl(W [h_i \,\|\, \mathrm{AGG}_{j \in N(i)} h_j] + b\bigr)

    AGG is the mean :math:`\sum_j w_{ij} h_j / \sum_j w_{ij}`, the sum :math:`\sum_j w_{ij} h_j`, or
    the max-pool :math:`\max_j \mathrm{ReLU}(W_p h_j + b_p)`, element by element and whatever the
    weights; zeros for a node without neighbours.

    Parameters
    ----------
    channels : int
        Width of the states.
    aggr : {"mean", "sum", "max"}, default="mean"
        AGG.
    normalize : bool, default=True
        Whether states get length 1.

    References
    ----------
    Hamilton et al., Inductive representation learning on large graphs, NeurIPS 2017, algorithm 1
    and equation 3. Weights of edges are ours.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn._homogeneous import HomogeneousGraph
    >>> from skmmg.nn._sage_conv import Neighborhood, SAGEConv
    >>> graph = HomogeneousGraph(torch.tensor([1]), torch.tensor([0]), torch.ones(1), 2)
    >>> SAGEConv(4)(torch.randn(2, 4), Neighborhood(graph, "mean")).shape
    torch.Size([2, 4])
    """

    def __init__(self, channels: int, aggr: str = "mean", *, normalize: bool = True) -> None:
        super().__init__()
        check_option("aggr", aggr, AGGR)
        self.aggr, self.normalize = aggr, normalize
        self.pool = nn.Linear(channels, channels) if aggr == "max" else None
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, h: Tensor, near: Neighborhood) -> Tensor:
        """New states (n_nodes, channels)."""
        if near.matrix is not None:
            around = near.matrix @ h  # (N, d)
        else:
            assert self.pool is not None
            around = segment_max(self.pool(h).relu(), *near.edges)  # (N, d)
        u = self.linear(torch.cat([h, around], 1)).relu()  # (N, d)
        return F.normalize(u, dim=1) if self.normalize else u
