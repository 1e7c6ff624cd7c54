"""TransH: entities of a knowledge graph as vectors, relations as translations on hyperplanes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# how far a translation may leave its hyperplane: the sine of the angle
_OFF_PLANE = 1e-3
# square distances below this are rounding noise
_NO_DISTANCE = 1e-12


class TransH(nn.Module):
    r"""Scores and loss of triples (head, relation, tail).

    .. math::

        h_\perp = h - (w_r^\top h) w_r, \qquad
        f(h, r, t) = -\|h_\perp + d_r - t_\perp\|, \qquad \|w_r\| = 1

    with the loss, for triples and corrupted ones :math:`(h', r, t')`,

    .. math::

        L = \mathrm{mean}\,[\gamma - f(h, r, t) + f(h', r, t')]_+
            + C \Bigl(\mathrm{mean}_e [\|e\|^2 - 1]_+
            + \mathrm{mean}_r [(w_r^\top d_r)^2 / \|d_r\|^2 - \epsilon^2]_+ \Bigr)

    The methods are those of PyTorch Geometric's `KGEModel`, which has no TransH.

    Parameters
    ----------
    num_nodes : int
        Number of entities.
    num_relations : int
        Number of relations.
    hidden_channels : int
        Width of the vectors.
    margin : float, default=1.0
        :math:`\gamma`.
    constraint_weight : float, default=0.25
        :math:`C`, weight of the constraints.

    Notes
    -----
    Changed against the paper: the distance is not squared, and the constraints are means, over the
    entities of a batch and over the relations, as the loss is one over triples.

    References
    ----------
    Wang, Zhang, Feng, Chen, Knowledge graph embedding by translating on hyperplanes, AAAI 2014,
    equations 1 to 4.
    """

    def __init__(
        self,
        num_nodes: int,
        num_relations: int,
        hidden_channels: int,
        *,
        margin: float = 1.0,
        constraint_weight: float = 0.25,
    ) -> None:
        super().__init__()
        self.margin, self.constraint_weight = margin, constraint_weight
        self.node_emb = nn.Embedding(num_nodes, hidden_channels)
        self.rel_emb = nn.Embedding(num_relations, hidden_channels)
        self.normal_emb = nn.Embedding(num_relations, hidden_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random directions of length 1."""
        with torch.no_grad():
            for embedding in (self.node_emb, self.rel_emb, self.normal_emb):
                nn.init.normal_(embedding.weight)
                embedding.weight.copy_(F.normalize(embedding.weight, dim=1))

    def forward(self, head_index: Tensor, rel_type: Tensor, tail_index: Tensor) -> Tensor:
        """Negative distance of every triple, (n_triples,)."""
        apart = self.node_emb(head_index) - self.node_emb(tail_index)
        return -self._distance(apart, rel_type)

    def loss(
        self,
        head_index: Tensor,
        rel_type: Tensor,
        tail_index: Tensor,
        corrupted: tuple[Tensor, Tensor],
        entities: Tensor | None = None,
    ) -> Tensor:
        """Margin ranking loss of triples against others with `corrupted` heads and tails.

        Heads and tails are rows of `entities`, by default the vectors of all entities.
        """
        entities = self.node_emb.weight if entities is None else entities
        heads, tails = torch.cat([head_index, corrupted[0]]), torch.cat([tail_index, corrupted[1]])
        apart = entities.index_select(0, heads) - entities.index_select(0, tails)  # (2 n, d)
        near, far = self._distance(apart, rel_type.repeat(2)).chunk(2)
        count = torch.bincount(torch.cat([heads, tails]), minlength=len(entities))
        outside = (F.relu(entities.square().sum(1) - 1) * count).sum() / count.sum()
        constraints = outside + self._off_plane()
        return F.relu(self.margin + near - far).mean() + self.constraint_weight * constraints

    def _distance(self, apart: Tensor, rel_type: Tensor) -> Tensor:
        r"""Distances (n,) on the hyperplanes, from dot products alone.

        With :math:`x = h - t`, :math:`\|x_\perp + d\|^2 = \|x\|^2 - (w^\top x)^2
        + 2 (d^\top x - (w^\top x)(w^\top d)) + \|d\|^2`.
        """
        normal, shift = F.normalize(self.normal_emb.weight, dim=1), self.rel_emb.weight
        one = rel_type.unsqueeze(1)  # the projection is linear
        along = (apart @ normal.t()).gather(1, one).squeeze(1)  # (n,)
        toward = (apart @ shift.t()).gather(1, one).squeeze(1)
        cross, square = (normal * shift).sum(1)[rel_type], shift.square().sum(1)[rel_type]
        product = toward - along * cross
        distance = apart.square().sum(1) - along.square() + 2 * product + square
        return distance.clamp_min(_NO_DISTANCE).sqrt()

    def _off_plane(self) -> Tensor:
        """How far the translations leave their hyperplanes."""
        along = F.cosine_similarity(self.normal_emb.weight, self.rel_emb.weight, dim=1)
        return F.relu(along.square() - _OFF_PLANE**2).mean()
