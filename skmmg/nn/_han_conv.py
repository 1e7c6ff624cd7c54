"""HAN's operator: attention over metapath neighbours, then over metapaths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.nn._checks import check_option
from skmmg.nn._dropout import dropout
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._precision import softmax
from skmmg.nn._sparse import edge_sum, segment_softmax

SEMANTIC_SCOPES = ("global", "node")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"elu": F.elu, "relu": F.relu}


class HANConv(nn.Module):
    r"""Heterogeneous graph attention on the nodes of one type.

    .. math::

        h' &= M h, \qquad
        e_{ij}^p = \mathrm{LeakyReLU}(a_p^\top [h'_i \,\Vert\, h'_j]), \qquad
        \alpha_{ij}^p = \mathrm{softmax}_{j \in N_p(i)}\, e_{ij}^p \\
        z_i^p &= \mathop{\Vert}_{heads} \mathrm{ELU}\Bigl(\sum_j \alpha_{ij}^p h'_j\Bigr) \\
        w_p &= \frac{1}{n} \sum_i q^\top \tanh(W z_i^p + b), \qquad
        b_p = \mathrm{softmax}_p\, w_p, \qquad
        z_i = \sum_p b_p z_i^p

    Parameters
    ----------
    channels : int
        Width of input and output.
    n_metapaths : int
        Number of metapaths.
    heads : int, default=8
        Attention heads; has to divide `channels`.
    att_channels : int, default=128
        Width of :math:`q`.
    semantic_scope : {"node", "global"}, default="node"
        "global" as above; in evaluation the :math:`w_p` of the last training pass are used, so
        that the output of a node does not depend on the nodes beside it. "node": no mean over the
        nodes, each has weights of its own.
    activation : {"elu", "relu"}, default="elu"
        Activation of :math:`z^p`.
    negative_slope : float, default=0.2
        Slope of the LeakyReLU.
    att_dropout : float, default=0.0
        Dropout of :math:`\alpha`, in [0, 1).
    project : bool, default=True
        Whether there is an :math:`M` (with a bias); else :math:`h' = h`.

    References
    ----------
    Wang et al., Heterogeneous graph attention network, WWW 2019, equations 1 to 9.
    """

    score: Tensor

    def __init__(
        self,
        channels: int,
        n_metapaths: int,
        *,
        heads: int = 8,
        att_channels: int = 128,
        semantic_scope: str = "node",
        activation: str = "elu",
        negative_slope: float = 0.2,
        att_dropout: float = 0.0,
        project: bool = True,
    ) -> None:
        super().__init__()
        check_option("semantic_scope", semantic_scope, SEMANTIC_SCOPES)
        check_option("activation", activation, tuple(ACTIVATIONS))
        self.heads, self.semantic_scope, self.activation = heads, semantic_scope, activation
        self.negative_slope, self.att_dropout = negative_slope, att_dropout
        self.lin = nn.Linear(channels, channels) if project else nn.Identity()
        self.att_src = nn.Parameter(torch.empty(n_metapaths, heads, channels // heads))
        self.att_dst = nn.Parameter(torch.empty(n_metapaths, heads, channels // heads))
        self.semantic_lin = nn.Linear(channels, att_channels)
        self.q = nn.Parameter(torch.empty(att_channels))
        self.register_buffer("score", torch.zeros(n_metapaths))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot for the projection and the node level; N(0, 0.1) for the semantic level."""
        if isinstance(self.lin, nn.Linear):
            nn.init.xavier_uniform_(self.lin.weight)
            nn.init.zeros_(self.lin.bias)
        for att in (self.att_src, self.att_dst):
            bound = (6.0 / (att.shape[1] + att.shape[2])) ** 0.5
            nn.init.uniform_(att, -bound, bound)
        for parameter in (*self.semantic_lin.parameters(), self.q):
            nn.init.normal_(parameter, std=0.1)

    def forward(
        self, h: Tensor, metapaths: Sequence[EdgeStructure], keep_score: bool = True
    ) -> tuple[Tensor, Tensor]:
        """New states (n, channels), and weights of the metapaths (n_metapaths, n or 1).

        `keep_score` says whether a training pass keeps its :math:`w` for evaluation.
        """
        h = self.lin(h)
        table = h.view(len(h), self.heads, -1).transpose(0, 1).contiguous()  # (heads, n, dk)
        z = torch.stack([self._attend(table, p, e) for p, e in enumerate(metapaths)])  # (P, n, d)
        weight = softmax(self._semantic_score(z, keep_score), 0)  # (P, n | 1)
        return (weight.unsqueeze(-1) * z).sum(0), weight

    def _attend(self, table: Tensor, p: int, edges: EdgeStructure) -> Tensor:
        """States of the nodes along one metapath: (heads, n, dk) -> (n, d)."""
        source = torch.einsum("hnc,hc->hn", table, self.att_src[p]).index_select(1, edges.src)
        goal = torch.einsum("hnc,hc->hn", table, self.att_dst[p]).index_select(1, edges.dst)
        e = F.leaky_relu(source + goal, self.negative_slope)  # (heads, E)
        alpha = segment_softmax(e, edges.segments("node", self.heads))
        alpha = dropout(alpha, self.att_dropout, self.training)
        z = edge_sum(alpha, table, edges).transpose(0, 1).flatten(1)  # (n, d)
        return ACTIVATIONS[self.activation](z)

    def _semantic_score(self, z: Tensor, keep_score: bool) -> Tensor:
        if self.semantic_scope == "global" and not self.training:
            return self.score.unsqueeze(1)
        scores = self.semantic_lin(z).tanh() @ self.q  # (P, n)
        if self.semantic_scope == "node":
            return scores
        mean = scores.mean(1, keepdim=True)
        if keep_score:
            self.score.copy_(mean.detach().squeeze(1))
        return mean
