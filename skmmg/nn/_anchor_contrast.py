"""Contrast of states with the anchors of their classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from skmmg.nn._precision import in_float32

# states that are contrasted with each other; the batch of IDKG
_GROUP = 64


@in_float32
def anchor_contrast(h: Tensor, labels: Tensor, anchors: Tensor, temperature: float) -> Tensor:
    r"""Pull states to the anchor of their class, away from states and anchors of other classes.

    .. math::

        L = -\tfrac12 \mathrm{mean}_q \log
            \frac{\exp(q^\top p / \tau)}{\exp(q^\top p / \tau) + \sum_k \exp(q^\top k / \tau)}

    over the queries :math:`q = h_i` with :math:`p = a_{y_i}` and the queries :math:`q = a_{y_i}`
    with :math:`p = h_i`, all divided by their lengths; :math:`k` runs over :math:`h_j` and
    :math:`a_{y_j}` for the nodes j of another class in a random group of at most 64.

    Parameters
    ----------
    h : Tensor of shape (n, channels)
        States.
    labels : Tensor of shape (n,)
        Their classes.
    anchors : Tensor of shape (n_classes, channels)
        Anchors of the classes.
    temperature : float
        :math:`\tau`.

    Returns
    -------
    Tensor of shape ()
        The loss; (n x 64) scores are built, never (n x n).
    """
    n_groups = -(-len(h) // _GROUP)
    size = -(-len(h) // n_groups)
    place = torch.randperm(n_groups * size, device=h.device).view(n_groups, size)
    real = place < len(h)
    place = place.clamp_max(len(h) - 1)
    state = F.normalize(h, dim=1)[place]  # (G, s, d)
    anchor = F.normalize(anchors, dim=1)[labels][place]
    other = labels[place]
    negative = (other.unsqueeze(2) != other.unsqueeze(1)) & real.unsqueeze(1)  # (G, s, s)
    positive = (state * anchor).sum(2) / temperature  # (G, s)
    losses = [
        _log_share(query, positive, (state, anchor), negative, temperature)
        for query in (state, anchor)
    ]
    return 0.5 * torch.stack(losses)[:, real].mean()


def _log_share(
    query: Tensor,
    positive: Tensor,
    keys: tuple[Tensor, Tensor],
    negative: Tensor,
    temperature: float,
) -> Tensor:
    """Minus the logarithm of the positive's share, (G, s)."""
    scores = [
        (query @ key.transpose(1, 2) / temperature).masked_fill(~negative, -torch.inf)
        for key in keys
    ]
    every = torch.cat([positive.unsqueeze(2), *scores], 2)
    return every.logsumexp(2) - positive
