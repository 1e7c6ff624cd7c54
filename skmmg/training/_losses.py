"""Losses on what a model gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.models import ModelOutput


class ClassificationLoss(nn.Module):
    r"""Cross-entropy of the fused and the unimodal scores, plus a model's penalties.

    .. math:: L = \frac{1}{1 + |M|} \Bigl(CE(O) + \sum_m CE(O^m)\Bigr) + \sum_k penalty_k

    Every cross-entropy is a weighted mean over the nodes. A model without unimodal scores has
    :math:`CE(O)` alone.

    References
    ----------
    Li et al., HGNN-IMA, IJCAI 2025, equations 16 and 17; equation 16 as printed lacks the minus
    sign and the mean.
    """

    def forward(
        self, output: ModelOutput, y: Tensor, weight: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts."""
        scores = {"ce": output.logits}
        scores |= {f"ce_{m}": logits for m, logits in output.unimodal_logits.items()}
        parts = {name: weighted_cross_entropy(s, y, weight) for name, s in scores.items()}
        loss = sum(parts.values()) / len(parts) + sum(output.penalties.values())
        return loss, parts | output.penalties  # type: ignore[return-value]


class SelfSupervisedLoss(nn.Module):
    """Sum of the penalties of a model that is trained without labels."""

    def forward(
        self, output: ModelOutput, y: Tensor, weight: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts; classes and weights are not looked at."""
        loss = torch.stack(list(output.penalties.values())).sum()
        return loss, dict(output.penalties)


def weighted_cross_entropy(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the cross-entropies."""
    losses = F.cross_entropy(logits, y, reduction="none")
    return (losses * weight).sum() / weight.sum()
