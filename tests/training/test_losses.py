"""Losses, their weights and their parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import softmax
from sklearn.metrics import log_loss

from skmmg.models import ModelOutput
from skmmg.training import ClassificationLoss, InfomaxLoss

Y = np.array([0, 2, 1, 1, 0])
WEIGHT = np.array([1.0, 0.5, 1.5, 0.25, 1.75])  # their mean is 1


def make_logits(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 3, dtype=torch.float64, generator=generator)


def cross_entropy(logits: torch.Tensor, weight: np.ndarray | None = None) -> float:
    return float(log_loss(Y, softmax(logits.numpy(), axis=1), sample_weight=weight))


def test_cross_entropy_is_scikit_learns_log_loss_with_weights() -> None:
    logits = make_logits(0)
    output = ModelOutput(logits, logits)

    loss, parts = ClassificationLoss()(output, torch.tensor(Y), torch.tensor(WEIGHT))

    assert_allclose(loss, cross_entropy(logits, WEIGHT))
    assert list(parts) == ["ce"]


@pytest.mark.parametrize("share", [1.0, 0.3, 0.0])
def test_unimodal_scores_are_averaged_with_the_fused_one_and_penalties_are_added(
    share: float,
) -> None:
    fused, text, image = (make_logits(seed) for seed in range(3))
    output = ModelOutput(
        fused,
        fused,
        unimodal_logits={"text": text, "image": image},
        unimodal_weight=share,
        penalties={"attention": torch.tensor(0.25)},
    )

    loss, parts = ClassificationLoss()(output, torch.tensor(Y), torch.ones(5))

    entropies = [cross_entropy(logits) for logits in (fused, text, image)]
    assert_allclose(loss, np.average(entropies, weights=[1, share, share]) + 0.25)
    assert_allclose([parts["ce"], parts["ce_text"], parts["ce_image"]], entropies)
    assert parts["attention"] == 0.25


def test_the_infomax_loss_is_the_cross_entropy_of_true_against_shuffled() -> None:
    scores = torch.tensor([[-2.0, 3.0], [0.5, -1.0]], dtype=torch.float64)

    loss, _ = InfomaxLoss()(ModelOutput(scores, scores), torch.ones(2), torch.ones(2))

    proba = 1 / (1 + np.exp(-scores.numpy().ravel()))
    assert_allclose(loss, log_loss([0, 1, 0, 1], proba))
