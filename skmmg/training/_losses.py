"""Losses on what a model gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.models import ModelOutput


class ClassificationLoss(nn.Module):
    r"""Cross-entropy of the fused and the unimodal scores, plus a model's penalties.

    .. math::

        L = \frac{1}{1 + \kappa |M|} \Bigl(CE(O) + \kappa \sum_m CE(O^m)\Bigr) + \sum_k penalty_k

    Every cross-entropy is a mean over the nodes of a batch, each times its weight. The weights have
    a mean of 1 over all nodes (`NodeDataset`), so that a node counts the same in any batch. A model
    without unimodal scores has :math:`CE(O)` alone; :math:`\kappa`, 1 in the paper, is the
    output's `unimodal_weight`.

    References
    ----------
    Li et al., HGNN-IMA, IJCAI 2025, equations 16 and 17; equation 16 as printed lacks the minus
    sign and the mean.
    """

    def forward(
        self, output: ModelOutput, y: Tensor, weight: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts."""
        ce = weighted_cross_entropy(output.logits, y, weight)
        unimodal = {
            f"ce_{m}": weighted_cross_entropy(logits, y, weight)
            for m, logits in output.unimodal_logits.items()
        }
        share = output.unimodal_weight
        mean = (ce + share * sum(unimodal.values())) / (1 + share * len(unimodal))
        loss = mean + sum(output.penalties.values())
        return loss, {"ce": ce} | unimodal | output.penalties


class SelfSupervisedLoss(nn.Module):
    """Sum of the penalties of a model that is trained without labels."""

    def forward(
        self, output: ModelOutput, y: Tensor, weight: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts; classes and weights are not looked at."""
        loss = torch.stack(list(output.penalties.values())).sum()
        return loss, dict(output.penalties)


def weighted_cross_entropy(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Mean over the nodes of the cross-entropies times their weights."""
    return (F.cross_entropy(logits, y, reduction="none") * weight).mean()
