"""Graph attention (GAT, GATv2) that never keeps a tensor of (edges x channels)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skmmg.nn._checks import check_option
from skmmg.nn._dropout import dropout
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._sparse import edge_dot, edge_sum, segment_softmax

ATTENTION = ("v1", "v2")
# scalars of one block of (edges x channels) in the scores of v2
_BLOCK = 1 << 22


class GATConv(nn.Module):
    r"""Graph attention over weighted edges.

    .. math::

        g_e &= \mathrm{LeakyReLU}(a_s^\top W h_j + a_d^\top W h_i) \quad (v1), \qquad
        g_e = a^\top \mathrm{LeakyReLU}(W h_j + W_d h_i + b_d) \quad (v2) \\
        \alpha_e &= \frac{w_e \exp g_e}{\sum_{e' \in N(i)} w_{e'} \exp g_{e'}}, \qquad
        h_i' = \sum_{e \in N(i)} \alpha_e W h_j + b

    for each head and edge e from j to i. An edge of weight :math:`w_e = 2` counts as two edges.

    Parameters
    ----------
    in_channels : int
        Width of the states.
    out_channels : int
        Width of a head.
    heads : int, default=1
        Attention heads.
    concat : bool, default=True
        Whether heads stand side by side, or their mean is taken.
    attention : {"v1", "v2"}, default="v1"
        Score of GAT or of GATv2.
    negative_slope : float, default=0.2
        Slope of LeakyReLU below 0.
    dropout : float, default=0.0
        Dropout of the attention, in [0, 1).

    Notes
    -----
    v1's score is a sum of a number per node at either end, a sampled product of width 2. v2's
    needs the sum of two vectors: it is computed in blocks of edges, and once more on the way back.

    References
    ----------
    Velickovic et al., Graph attention networks, ICLR 2018, equations 1 to 6; Brody et al., How
    attentive are graph attention networks?, ICLR 2022, equation 7. Weights of edges are ours.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn._edges import EdgeStructure
    >>> from skmmg.nn._gat_conv import GATConv
    >>> link = ("node", "to", "node")
    >>> edges = EdgeStructure({link: torch.tensor([[0, 1], [1, 1]])}, {"node": 2}, [link])
    >>> GATConv(8, 4, heads=2)(torch.randn(2, 8), edges, torch.ones(2)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 1,
        *,
        concat: bool = True,
        attention: str = "v1",
        negative_slope: float = 0.2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_option("attention", attention, ATTENTION)
        self.heads, self.concat, self.attention = heads, concat, attention
        self.negative_slope, self.dropout = negative_slope, dropout
        self.linear = nn.Linear(in_channels, heads * out_channels, bias=False)
        self.target = nn.Linear(in_channels, heads * out_channels) if attention == "v2" else None
        n_vectors = 2 if attention == "v1" else 1  # a_d and a_s, or a
        self.vectors = nn.Parameter(torch.empty(n_vectors, heads, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels * (heads if concat else 1)))
        for weight in (*self.vectors, self.linear.weight):
            nn.init.xavier_uniform_(weight)

    def forward(self, h: Tensor, edges: EdgeStructure, weight: Tensor) -> Tensor:
        """New states (n_nodes, heads * out_channels or out_channels); `weight` is (n_edges,)."""
        table = self._by_head(self.linear(h))  # (h, N, c)
        score = self._score(h, table, edges) + weight.log()  # (h, E)
        alpha = segment_softmax(score, edges.segments("node", self.heads))
        alpha = dropout(alpha, self.dropout, self.training)
        out = edge_sum(alpha, table, edges)  # (h, N, c)
        merged = out.transpose(0, 1).flatten(1) if self.concat else out.mean(0)
        return merged + self.bias

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.heads, -1).transpose(0, 1).contiguous()

    def _score(self, h: Tensor, table: Tensor, edges: EdgeStructure) -> Tensor:
        if self.target is not None:
            return self._additive(table, self._by_head(self.target(h)), edges)
        ends = torch.einsum("hnc,khc->khn", table, self.vectors)  # (2, h, N)
        one = torch.ones_like(ends[0])
        left, right = torch.stack([ends[0], one], -1), torch.stack([one, ends[1]], -1)
        return F.leaky_relu(edge_dot(left, right, edges), self.negative_slope)

    def _additive(self, source: Tensor, target: Tensor, edges: EdgeStructure) -> Tensor:
        """Scores of v2, (h, N, c) twice -> (h, E)."""
        size = max(1, _BLOCK // (self.heads * source.shape[2]))
        score = partial(checkpoint, self._score_block, use_reentrant=False)
        blocks = zip(edges.src.split(size), edges.dst.split(size), strict=True)
        return torch.cat([score(source, target, src, dst) for src, dst in blocks], 1)

    def _score_block(self, source: Tensor, target: Tensor, src: Tensor, dst: Tensor) -> Tensor:
        pair = source.index_select(1, src) + target.index_select(1, dst)  # (h, e, c)
        return torch.einsum("hec,hc->he", F.leaky_relu(pair, self.negative_slope), self.vectors[0])
