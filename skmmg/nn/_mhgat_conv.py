"""The MHGAT operator: pool the neighbours of each relation, then attend over the relations."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.nn._checks import check_option
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._relation_pairs import RelationPairs

AGGR = ("max", "sum")


class MHGATConv(nn.Module):
    r"""One layer of MHGAT for the states of all modalities, without the modality attention.

    For node :math:`i`, relation :math:`r` and modality :math:`m`, with :math:`D` dropout:

    .. math::

        a_{i,r} &= \max_{j \in N_r(i)} h_j \quad \text{or} \quad \sum_{j \in N_r(i)} h_j \\
        z_{i,r} &= \mathrm{LeakyReLU}(W D(a_{i,r})), \qquad z_i = \mathrm{LeakyReLU}(W D(h_i)) \\
        e_{i,r} &= \mathrm{LeakyReLU}(v^\top [z_{i,r} \| z_i]), \qquad
        \alpha_{i,r} = \mathrm{softmax}_r\, e_{i,r} \\
        h_i &\leftarrow \sum_r D'(\alpha_{i,r}) z_{i,r} + \rho z_i

    The modalities share :math:`W` and :math:`v`. Sums are sparse products; a maximum gathers a
    block of columns for all edges at a time and keeps none of it.

    Parameters
    ----------
    channels : int
        Width of the states, in and out.
    aggr : {"max", "sum"}, default="max"
        How the neighbours of one relation are pooled.
    mask_empty : bool, default=True
        Whether the softmax is over the relations that reach the node. False is what the released
        code does: it is over all relations of the graph, those that do not reach the node having
        :math:`a = 0`, and a maximum is taken with 0 wherever another relation reaches the node.
    residual_weight : float, default=0.1
        :math:`\rho`.
    negative_slope : float, default=0.2
        Slope of the LeakyReLU below 0.
    dropout : float, default=0.0
        Dropout :math:`D`, in [0, 1).
    att_dropout : float, default=0.0
        Dropout :math:`D'` of the attention, in [0, 1).

    References
    ----------
    Jia et al., Multimodal heterogeneous graph attention network, Neural Comput. Appl. 35(4), 2023.
    """

    def __init__(
        self,
        channels: int,
        *,
        aggr: str = "max",
        mask_empty: bool = True,
        residual_weight: float = 0.1,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        att_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_option("aggr", aggr, AGGR)
        self.aggr, self.mask_empty, self.residual_weight = aggr, mask_empty, residual_weight
        self.negative_slope, self.dropout, self.att_dropout = negative_slope, dropout, att_dropout
        self.lin = nn.Linear(channels, channels, bias=False)
        self.att_relation = nn.Linear(channels, 1, bias=False)  # the halves of v
        self.att_node = nn.Linear(channels, 1, bias=False)

    def forward(self, h: Tensor, pairs: RelationPairs) -> Tensor:
        """States (n_nodes, n_modalities, channels), the nodes of all types, to new ones."""
        a = self._pool(h.flatten(1), pairs).unflatten(1, h.shape[1:])  # (P, M, d)
        z_relation, z_node = self._transform(a), self._transform(h)  # (P, M, d), (N, M, d)
        alpha = self._attend(z_relation, z_node, pairs)  # (P, M)
        alpha = drop(alpha, self.att_dropout, self.training)
        weighted = (alpha.unsqueeze(-1) * z_relation).flatten(1)  # (P, M d)
        out = (pairs.of_node @ weighted).view(h.shape)  # (N, M, d)
        return out + self.residual_weight * z_node

    def _pool(self, h: Tensor, pairs: RelationPairs) -> Tensor:
        if self.aggr == "sum":
            return pairs.sum(h)
        a = pairs.max(h)
        if self.mask_empty:
            return a
        alone = pairs.reached_by[pairs.node] == 1
        return a.where(alone.unsqueeze(1), a.clamp_min(0.0))

    def _transform(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.lin(drop(x, self.dropout, self.training)), self.negative_slope)

    def _attend(self, z_relation: Tensor, z_node: Tensor, pairs: RelationPairs) -> Tensor:
        """Attention of every pair; a relation that does not reach a node has z = 0."""
        of_node = self.att_node(z_node).squeeze(-1)  # (N, M)
        score = self.att_relation(z_relation).squeeze(-1) + of_node[pairs.node]  # (P, M)
        score = F.leaky_relu(score, self.negative_slope)
        if self.mask_empty:
            return pairs.softmax(score)
        return pairs.softmax(score, F.leaky_relu(of_node, self.negative_slope))
