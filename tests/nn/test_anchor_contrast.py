"""The contrast with anchors against its formula in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skmmg.nn._anchor_contrast import anchor_contrast

TAU, N_CLASSES, CHANNELS = 0.5, 3, 4


def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, CHANNELS)), rng.integers(3, size=n), rng.normal(size=(3, CHANNELS))


def contrast(h: np.ndarray, labels: np.ndarray, anchors: np.ndarray) -> float:
    h = h / np.linalg.norm(h, axis=1, keepdims=True)
    a = (anchors / np.linalg.norm(anchors, axis=1, keepdims=True))[labels]
    losses = []
    for i in range(len(h)):
        others = [k for k in range(len(h)) if labels[k] != labels[i]]
        for query, positive in ((h[i], a[i]), (a[i], h[i])):
            negatives = [np.exp(query @ x[k] / TAU) for k in others for x in (h, a)]
            share = np.exp(query @ positive / TAU)
            losses.append(-np.log(share / (share + np.sum(negatives))))
    return float(0.5 * np.mean(losses))


def run(h: np.ndarray, labels: np.ndarray, anchors: np.ndarray) -> float:
    tensors = (torch.tensor(x) for x in (h, labels, anchors))
    return anchor_contrast(*tensors, TAU).item()


@pytest.mark.parametrize("n", [1, 2, 20, 64])
def test_a_single_group_is_the_formula(n: int) -> None:
    assert_allclose(run(*draw(n)), contrast(*draw(n)), atol=1e-12)


def test_many_nodes_are_contrasted_in_groups_that_hold_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skmmg.nn._anchor_contrast._GROUP", 6)
    h, labels, anchors = draw(20)
    torch.manual_seed(1)
    groups = torch.randperm(20).view(4, 5).numpy()  # as the layer draws them

    torch.manual_seed(1)
    loss = run(h, labels, anchors)

    assert_allclose(loss, np.mean([contrast(h[g], labels[g], anchors) for g in groups]), atol=1e-12)


def test_places_that_fill_up_the_last_group_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skmmg.nn._anchor_contrast._GROUP", 4)
    h, labels, anchors = draw(7)
    torch.manual_seed(1)
    groups = [[k for k in row if k < 7] for row in torch.randperm(8).view(2, 4).tolist()]

    torch.manual_seed(1)
    loss = run(h, labels, anchors)

    parts = [contrast(h[g], labels[g], anchors) * len(g) for g in groups]
    assert_allclose(loss, sum(parts) / 7, atol=1e-12)


def test_nodes_at_the_anchor_of_their_class_have_the_lowest_loss() -> None:
    _, labels, anchors = draw(30)

    at_own, at_other = (run(anchors[(labels + k) % 3], labels, anchors) for k in (0, 1))

    assert at_own < at_other
