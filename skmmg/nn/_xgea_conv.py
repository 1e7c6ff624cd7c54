"""The XGEA operator for classification: a modality is attended to by what the others say."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skmmg.nn._additive_score import additive_score
from skmmg.nn._edges import EdgeStructure, stack_slices
from skmmg.nn._sparse import edge_sum, segment_softmax


class XGEAConv(nn.Module):
    r"""Graph attention whose weights for one modality come from the states of the others.

    For an edge :math:`e = (j \to i)` of relation :math:`r`, with :math:`c^m` the mean of the
    states of the modalities other than :math:`m` (:math:`h^m` itself where there is no other):

    .. math::

        \alpha_e^m &= \mathrm{softmax}_{e \in N(i)}\,
            v^\top \mathrm{LeakyReLU}(W_r [c_i^m \| c_j^m]), \qquad
            W_r = [W_r^{dst} \| W_r^{src}] \\
        h_i^m &\leftarrow \tanh \sum_{e \in N(i)} \alpha_e^m W_r^{src} h_j^m

    The modalities share the parameters. The messages' matrix is the half of :math:`W_r` that acts
    on the source, as in GATv2.

    Parameters
    ----------
    channels : int
        Width of the states, in and out.
    n_relations : int
        Number of relations.
    negative_slope : float, default=0.2
        Slope of the LeakyReLU below 0.
    """

    def __init__(self, channels: int, n_relations: int, negative_slope: float = 0.2) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.w_dst = nn.Parameter(torch.empty(n_relations, channels, channels))
        self.w_src = nn.Parameter(torch.empty(n_relations, channels, channels))
        self.vector = nn.Parameter(torch.empty(channels))
        bound = (3.0 / channels) ** 0.5
        for parameter in (self.w_dst, self.w_src, self.vector):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, h: Tensor, edges: EdgeStructure) -> Tensor:
        """States (n_modalities, n_nodes, channels) to (n_modalities, n_out, channels)."""
        alpha = self.attend(h, edges)  # (M, E)
        value = source_rows(h, edges, self.w_src)  # (M, rows, d)
        return edge_sum(alpha, value, edges).tanh()

    def attend(self, h: Tensor, edges: EdgeStructure) -> Tensor:
        """Attention of every modality over the edges, (n_modalities, n_edges)."""
        c = mean_of_others(h)
        query = self._destination_rows(c, edges)  # (M, rows of destinations, d)
        key = source_rows(c, edges, self.w_src)  # (M, rows, d)
        ends = (self._destination_row(edges), edges.row)
        score = additive_score(query, key, self.vector, ends, self.negative_slope)
        return segment_softmax(score, edges.segments("node", len(h)))

    def _destination_rows(self, c: Tensor, edges: EdgeStructure) -> Tensor:
        c = c if edges.kept is None else c[:, edges.kept]
        parts = [
            c[:, edges.out_slices[dst]] @ w
            for (_, _, dst), w in zip(edges.edge_types, self.w_dst, strict=True)
        ]
        return torch.cat([c[:, :0], *parts], 1)

    @staticmethod
    def _destination_row(edges: EdgeStructure) -> Tensor:
        """Place of an edge's destination among the destinations of all relations."""
        parts = [edges.out_slices[dst] for _, _, dst in edges.edge_types]
        rows = stack_slices({i: part.stop - part.start for i, part in enumerate(parts)})
        shifts = [rows[i].start - part.start for i, part in enumerate(parts)]
        return edges.dst + edges.dst.new_tensor(shifts)[edges.relation]


def mean_of_others(h: Tensor) -> Tensor:
    """For every modality the mean of the others' states; of a single one itself."""
    n_modalities = len(h)
    return h if n_modalities == 1 else (h.sum(0) - h) / (n_modalities - 1)


def source_rows(h: Tensor, edges: EdgeStructure, matrices: Tensor | None = None) -> Tensor:
    """States of the sources of every relation, times its matrix: (M, N, c) -> (M, rows, c)."""
    parts = [h[:, edges.node_slices[src]] for src, _, _ in edges.edge_types]
    if matrices is not None:
        parts = [part @ matrix for part, matrix in zip(parts, matrices, strict=True)]
    return torch.cat([h[:, :0], *parts], 1)
