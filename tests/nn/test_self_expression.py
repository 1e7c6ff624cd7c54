"""The closed form of HERO equals the dense one, and the dense one is the minimum it says."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose

from skmmg.nn import SparseMatrix
from skmmg.nn._self_expression import FarNodes, choose_landmarks, far_nodes, self_expression

ALPHA, BETA = 3.0, 2.0


def dense_distances(x: np.ndarray, quantile: float) -> np.ndarray:
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    D = ((unit[:, None] - unit[None]) ** 2).sum(2) * x.any(1)[:, None]
    D /= np.maximum(np.linalg.norm(D, axis=1, keepdims=True), 1e-300)
    return np.where(np.quantile(D, quantile, axis=1, keepdims=True) <= D, D, 0.0)


def to_dense(D: FarNodes) -> torch.Tensor:
    return D.matrix.matrix.to_dense() + D.level


def dense_matrix(H: np.ndarray, D: np.ndarray) -> np.ndarray:
    K = H @ H.T
    return (K - ALPHA / 2 * D) @ np.linalg.inv(K + BETA * np.eye(len(H)))


def draw(n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)), rng.normal(size=(n, 7))


def test_the_dense_matrix_is_the_minimum() -> None:
    H, x = (torch.tensor(a) for a in draw())
    D = torch.tensor(dense_distances(x.numpy(), 0.5))
    S = torch.tensor(dense_matrix(H.numpy(), D.numpy()), requires_grad=True)

    loss = ((H - S @ H) ** 2).sum() + ALPHA * (S * D).sum() + BETA * (S**2).sum()
    (gradient,) = torch.autograd.grad(loss, S)

    assert gradient.abs().max() < 1e-10


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("form", ["dense", "sparse", "modalities"])
def test_the_closed_form_equals_the_dense_one(quantile: float, form: str) -> None:
    H, x = draw()
    x[3] = 0.0  # a node that lacks the modality
    parts = [x[:, :3], x[:, 3:]] if form == "modalities" else [x]
    features = [torch.tensor(p) for p in parts]
    if form == "sparse":
        features = [SparseMatrix(torch.tensor(x).to_sparse_csr())]
    ids = torch.arange(12)

    D = far_nodes(features, ids, ids, n_reference=12, quantile=quantile, dtype=torch.float64)
    h = torch.tensor(H)
    Z = self_expression(h, h, BETA, ALPHA / 2 * (D @ h))

    wanted = dense_distances(x, quantile)
    assert_allclose(to_dense(D), wanted, atol=1e-12)
    assert_allclose(Z, dense_matrix(H, wanted) @ H, atol=1e-12)


def test_without_distances_it_is_a_ridge_regression_on_the_others() -> None:
    H, _ = draw()
    h = torch.tensor(H)

    assert_allclose(self_expression(h, h, BETA), dense_matrix(H, np.zeros((12, 12))) @ H)


def test_new_nodes_are_rebuilt_from_the_reference_alone() -> None:
    H, x = draw(12)
    h, ids = torch.tensor(H), torch.arange(12)
    K = H[:8] @ H[:8].T + BETA * np.eye(8)

    Z = self_expression(h[ids], h[:8], BETA)

    assert_allclose(Z, H @ H[:8].T @ np.linalg.inv(K) @ H[:8], atol=1e-12)
    kept = {"n_reference": 8, "quantile": 0.5, "dtype": torch.float64}
    D = far_nodes([torch.tensor(x)], ids, ids[:8], **kept)
    alone = far_nodes([torch.tensor(x)], ids[10:11], ids[:8], **kept)
    assert_allclose(to_dense(D)[10:11], to_dense(alone), atol=1e-14)


def test_landmarks_stand_for_the_others() -> None:
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=(600, 5)), torch.tensor(rng.normal(size=(600, 3)) + 1.0)
    ids = torch.arange(600)
    landmarks = choose_landmarks(ids, 300)
    kept = {"n_reference": 600, "quantile": 0.5, "dtype": torch.float64}

    estimate = far_nodes([torch.tensor(x)], ids, landmarks, **kept) @ h[landmarks]
    exact = far_nodes([torch.tensor(x)], ids, ids, **kept) @ h

    assert len(landmarks) == len(landmarks.unique()) == 300
    assert (landmarks == choose_landmarks(ids, 300)).all()
    assert (choose_landmarks(ids, 600) == ids).all()
    assert ((estimate - exact).norm() / exact.norm()) < 0.1


def test_sparse_features_are_not_made_dense() -> None:
    wide = sp.random_array((50, 10**7), density=1e-6, rng=0, format="csr")
    parts = [torch.tensor(a) for a in (wide.indptr, wide.indices, wide.data)]
    matrix = torch.sparse_csr_tensor(*parts, wide.shape, check_invariants=False)
    ids = torch.arange(50)

    D = far_nodes(
        [SparseMatrix(matrix)], ids, ids, n_reference=50, quantile=0.9, dtype=torch.float32
    )

    assert to_dense(D).shape == (50, 50)
    assert D.matrix.matrix.values().shape[0] < 100  # rows share no word but with themselves


def bag_of_words(n_rows: int) -> np.ndarray:
    """Rows of which most share no word; some are empty, some alike."""
    x = sp.random_array((n_rows, 200), density=0.02, rng=1).toarray() > 0
    x[3:5] = False
    x[7] = x[8] = x[9]
    return x.astype(float)


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("sparse", [False, True])
def test_of_equal_distances_all_are_kept_or_none(sparse: bool, quantile: float) -> None:
    rng, n = np.random.default_rng(0), 40
    x, h, order = bag_of_words(n), rng.normal(size=(n, 3)), rng.permutation(n)

    def measure(x: np.ndarray) -> FarNodes:
        features = torch.tensor(x)
        settings = {"n_reference": n, "quantile": quantile, "dtype": torch.float64}
        ids = torch.arange(n)
        return far_nodes(
            [SparseMatrix(features.to_sparse_csr()) if sparse else features], ids, ids, **settings
        )

    D, renumbered = measure(x), measure(x[order])

    shared, has = x @ x.T, x.any(1)
    length = np.maximum(np.sqrt(np.diag(shared)), 1)
    raw = np.round((1.0 + has - 2 * shared / np.outer(length, length)) * has[:, None], 12)
    raw /= np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-300)
    wanted = np.where(np.quantile(raw, quantile, axis=1, keepdims=True) <= raw, raw, 0.0)
    assert_allclose(to_dense(D), wanted, atol=1e-9)
    assert_allclose(D @ torch.tensor(h), wanted @ h, atol=1e-8)
    assert_allclose(to_dense(renumbered), to_dense(D)[order][:, order], atol=1e-12)
