"""The released style of XGEA: neighbours are reflected by their relation and by the other side."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._sparse import edge_dot, edge_sum, segment_softmax
from skmmg.nn._xgea_conv import mean_of_others, source_rows

# below this square length the pair of an edge has no direction
_NO_DIRECTION = 1e-6


class ReflectionConv(nn.Module):
    r"""Attention over neighbours that are reflected by relations and by the other modalities.

    For an edge :math:`e = (j \to i)` of relation :math:`r`, the reflection
    :math:`R_n(h) = h - 2 (h^\top n) n`, and :math:`c` the mean of the other modalities' *input*
    states (the modality's own where there is no other):

    .. math::

        \rho_r &= u_r / \|u_r\|, \qquad
        \chi_e = (P c_i + Q c_j) / \|P c_i + Q c_j\| \\
        a_e &= \mathrm{softmax}_{e \in N(i)}\, \rho_r^\top v, \qquad
        b_e = \mathrm{softmax}_{e \in N(i)}\, \chi_e^\top v' \\
        h_i &\leftarrow \tanh\Bigl(\sum_e a_e R_{\rho_r}(h_j)
            + \epsilon \sum_e b_e R_{\chi_e}(h_j)\Bigr)

    The vectors :math:`\chi_e` of the edges are never built: what is needed of them are dot
    products and sums of nodes' vectors, which are sparse products.

    Parameters
    ----------
    channels : int
        Width of the states, in and out.
    influence_weight : float, default=0.1
        :math:`\epsilon`.

    Notes
    -----
    The released code takes for :math:`[P \| Q]` the whitened principal components of the matrix of
    all edges (edges x 2 channels); here they are learned.

    References
    ----------
    Xu, Xu, Su, Cross-modal graph attention network for entity alignment, ACM MM 2023.
    """

    def __init__(self, channels: int, influence_weight: float = 0.1) -> None:
        super().__init__()
        self.influence_weight = influence_weight
        self.vector = nn.Parameter(torch.empty(channels))
        self.influence_vector = nn.Parameter(torch.empty(channels))
        bound = (3.0 / channels) ** 0.5
        nn.init.uniform_(self.vector, -bound, bound)
        nn.init.uniform_(self.influence_vector, -bound, bound)

    def forward(
        self, h: Tensor, x: Tensor, edges: EdgeStructure, relations: Tensor, pair: EdgePair
    ) -> Tensor:
        """States (n_modalities, n_nodes, channels) to (n_modalities, n_out, channels).

        `x` are the input states of the same nodes, `relations` the vectors :math:`u` of the
        relations (n_relations, channels), `pair` the maps :math:`P` and :math:`Q`.
        """
        rho = F.normalize(relations, dim=1)
        out = self._by_relation(h, rho, edges)
        return (out + self.influence_weight * self._by_others(h, x, edges, pair)).tanh()

    def _by_relation(self, h: Tensor, rho: Tensor, edges: EdgeStructure) -> Tensor:
        alpha = self.relation_attention(rho, edges)  # (E,)
        matrices = -2 * rho.unsqueeze(2) * rho.unsqueeze(1)  # (R, d, d), without the identity
        table = source_rows(h, edges) + source_rows(h, edges, matrices)  # (M, rows, d)
        wide = table.transpose(0, 1).flatten(1).unsqueeze(0)  # (1, rows, M d)
        out = edge_sum(alpha.unsqueeze(0), wide, edges)[0]
        return out.unflatten(1, (len(h), -1)).transpose(0, 1)  # (M, N, d)

    def relation_attention(self, rho: Tensor, edges: EdgeStructure) -> Tensor:
        """Attention by the relations, which the modalities share: (n_edges,)."""
        return segment_softmax((rho @ self.vector)[edges.relation], edges.segments("node"))

    def _by_others(self, h: Tensor, x: Tensor, edges: EdgeStructure, pair: EdgePair) -> Tensor:
        p, q = pair(x, edges)  # (M, n_out, d), (M, rows, d)
        rows = source_rows(h, edges)
        square = (p * p).sum(2)[:, edges.dst] + (q * q).sum(2)[:, edges.row]
        square = (square + 2 * edge_dot(p, q, edges)).clamp_min(_NO_DIRECTION)  # (M, E)
        at_p, at_q = p @ self.influence_vector, q @ self.influence_vector
        score = (at_p[:, edges.dst] + at_q[:, edges.row]) * square.rsqrt()
        beta = segment_softmax(score, edges.segments("node", len(h)))
        along = edge_dot(p, rows, edges) + (rows * q).sum(2)[:, edges.row]  # h_j (p_i + q_j)
        weight = 2 * beta * along / square  # (M, E)
        ones = torch.ones_like(q[..., :1])
        reflected = p * edge_sum(weight, ones, edges) + edge_sum(weight, q, edges)
        return edge_sum(beta, rows, edges) - reflected


class EdgePair(nn.Module):
    r"""What the other modalities' input states say of an edge, :math:`P c_i + Q c_j`, by its ends.

    Parameters
    ----------
    channels : int
        Width of the states.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dst = nn.Linear(channels, channels, bias=False)
        self.src = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, edges: EdgeStructure) -> tuple[Tensor, Tensor]:
        """Input states (M, N, d) to (M, n_out, d) and, for the source rows, (M, rows, d)."""
        c = mean_of_others(x)
        out = c if edges.kept is None else c[:, edges.kept]
        return self.dst(out), source_rows(self.src(c), edges)
