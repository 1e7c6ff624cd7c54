"""Attention over the relations of a node: the layer of SHGP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from skmmg.nn._dropout import dropout
from skmmg.nn._edges import EdgeType
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._precision import softmax
from skmmg.nn._relations import mean_adjacency

_GAIN = 1.414


class AttHGNNConv(nn.Module):
    r"""Project a node and the mean of its neighbours by every relation, and weigh these parts.

    For a node type :math:`t` with incoming relations :math:`r = 1 \dots R_t` from types
    :math:`s(r)`

    .. math::

        p_0 &= X_t W_0, \qquad p_r = A_r X_{s(r)} W_r \\
        u &= p_0 W_q, \qquad v_k = p_k W_k, \qquad
        e_k = \mathrm{ELU}\Bigl(\frac{[v_k \,\|\, u]\, a}{\sqrt{2 d_a}}\Bigr) \\
        c &= \mathrm{softmax}_{k = 0 \dots R_t}\, e_k, \qquad
        out = \sum_k c_k \odot p_k + b

    with :math:`A_r` row-normalised and :math:`d_a` the width of queries and keys.
    :math:`W_0, W_q, W_k, a, b` are those of the node type.

    Parameters
    ----------
    in_channels, out_channels : int
        Widths of the states before and after.
    node_types : sequence of str
        Node types.
    edge_types : sequence of (str, str, str)
        Relations.
    att_channels : int, default=64
        Width of queries and keys.
    att_dropout : float, default=0.5
        Dropout of the pairs :math:`[v_k \| u]`, in [0, 1).
    scale_scores : bool, default=True
        Whether scores are divided by :math:`\sqrt{2 d_a}`. The paper does not: its softmax soon
        puts all weight on one part.

    References
    ----------
    Yang et al., SHGP, NeurIPS 2022, section 4.2; the layer is that of ie-HGCN. Weights and biases
    start Xavier-uniform with gain 1.414, as in the released code.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import AttHGNNConv, GraphTensors
    >>> stars = ("movie", "stars", "actor")
    >>> graph = GraphTensors(
    ...     x={}, num_nodes={"movie": 3, "actor": 2},
    ...     edge_index={stars: torch.tensor([[0, 2], [0, 1]])},
    ... )
    >>> conv = AttHGNNConv(5, 8, ["movie", "actor"], [stars])
    >>> h, weights = conv({"movie": torch.randn(3, 5), "actor": torch.randn(2, 5)}, graph)
    >>> h["actor"].shape, weights["actor"].shape
    (torch.Size([2, 8]), torch.Size([2, 2]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        node_types: Sequence[str],
        edge_types: Sequence[EdgeType],
        *,
        att_channels: int = 64,
        att_dropout: float = 0.5,
        scale_scores: bool = True,
    ) -> None:
        super().__init__()
        self.node_types, self.edge_types = tuple(node_types), tuple(edge_types)
        self.att_dropout = att_dropout
        self.scale = (2 * att_channels) ** -0.5 if scale_scores else 1.0
        n_types, n_relations = len(self.node_types), len(self.edge_types)
        self.self_weight = _xavier(n_types, in_channels, out_channels)
        self.relation_weight = _xavier(n_relations, in_channels, out_channels)
        self.query_weight = _xavier(n_types, out_channels, att_channels)
        self.key_weight = _xavier(n_types, out_channels, att_channels)
        self.score_weight = _xavier(n_types, 2 * att_channels, 1)
        self.bias = _xavier(n_types, 1, out_channels)

    def forward(
        self, x_dict: Mapping[str, Tensor], graph: GraphTensors
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """New states (n_nodes, out_channels) and weights of the parts (1 + R_t, n_nodes)."""
        out, weights = {}, {}
        for t, x in x_dict.items():
            i = self.node_types.index(t)
            parts = [x @ self.self_weight[i]]  # (n, d)
            for r, edge_type in enumerate(self.edge_types):
                if edge_type[2] == t:
                    mean = mean_adjacency(graph, edge_type, x.dtype)
                    parts.append(mean @ (x_dict[edge_type[0]] @ self.relation_weight[r]))
            p = torch.stack(parts)  # (1 + R_t, n, d)
            weights[t] = self._weigh(p, i)  # (1 + R_t, n)
            out[t] = (weights[t].unsqueeze(-1) * p).sum(0) + self.bias[i]  # (n, d)
        return out, weights

    def _weigh(self, p: Tensor, i: int) -> Tensor:
        query = (p[0] @ self.query_weight[i]).expand(len(p), -1, -1)  # (1 + R_t, n, att)
        pair = torch.cat([p @ self.key_weight[i], query], 2)  # (1 + R_t, n, 2 att)
        pair = dropout(pair, self.att_dropout, self.training)
        scores = nn.functional.elu(pair @ (self.scale * self.score_weight[i])).squeeze(2)
        return softmax(scores, 0)


def _xavier(n_matrices: int, n_rows: int, n_cols: int) -> nn.Parameter:
    weight = torch.empty(n_matrices, n_rows, n_cols)
    for matrix in weight:
        nn.init.xavier_uniform_(matrix, gain=_GAIN)
    return nn.Parameter(weight)
