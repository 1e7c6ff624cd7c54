"""precision="bf16": products of bfloat16 in any model, all that is kept or given is wider."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.utils import Bunch

from skmmg import (
    CrossModalRetriever,
    MultiModalGraph,
    MultiModalGraphClassifier,
    NodeEmbedder,
    NodeView,
    stack_graphs,
)
from skmmg.datasets import make_multimodal_graph
from skmmg.models import MODELS
from skmmg.nn import HGNNIMAConv
from skmmg.training import _precision, autocast

Params = dict[str, Any]
OF_NODES = [name for name, spec in MODELS.items() if "classification" in spec.tasks]


def assert_plain(clf: Any, X: Any) -> None:
    """Weights, losses and outputs are finite and have no fewer than 32 bits."""
    kept = [w for w in clf.weights_.values() if w.dtype.kind == "f"]
    assert {w.dtype for w in kept} == {np.dtype("float32")}
    assert all(np.isfinite(w).all() for w in kept)
    assert all(np.isfinite(row["train_loss"]) for row in clf.history_)
    assert clf.transform(X).dtype in (np.float32, np.float64)


@pytest.mark.parametrize("name", OF_NODES)
def test_every_model_is_trained_and_read_in_mixed_precision(
    name: str, X: NodeView, y: np.ndarray
) -> None:
    clf = MultiModalGraphClassifier(name, precision="bf16", max_epochs=3, lr=0.01, random_state=0)
    clf.fit(X[:40], y[:40])

    assert_plain(clf, X)
    assert_allclose(clf.predict_proba(X).sum(1), 1.0, rtol=1e-6)
    if name in ("hgnn_ima", "mm_gcn", "mhgat", "idkg"):
        assert_allclose(clf.modality_weights(X).sum(axis=1), 1.0, atol=1e-5)


def test_a_model_of_graphs_is_trained_in_mixed_precision() -> None:
    rng, y = np.random.default_rng(0), np.arange(8) % 2
    graphs = [
        MultiModalGraph(
            {"eeg": rng.normal(size=(4, 3)) + i}, {"near": rng.integers(4, size=(2, 5))}
        )
        for i in y
    ]
    X = stack_graphs(graphs)
    clf = MultiModalGraphClassifier("mm_gcn_pool", precision="bf16", max_epochs=3, random_state=0)
    assert_plain(clf.fit(X, y), X)


@pytest.mark.parametrize("name", ["hgnn_ima", "hgt", "mlp"])
def test_it_scores_what_float32_scores(name: str) -> None:
    data = make_multimodal_graph(n_samples=300, random_state=0)
    X, y = data.graph.nodes(data.node_type), data.target
    scores = []
    for precision in ("float32", "bf16"):
        clf = MultiModalGraphClassifier(
            name, precision=precision, max_epochs=15, lr=0.02, random_state=0
        )
        scores.append(clf.fit(X[:150], y[:150]).score(X[150:], y[150:]))
    assert min(scores) > 0.75
    assert abs(scores[0] - scores[1]) < 0.06  # nine of 150 nodes


def test_products_are_rounded_and_no_more_than_that(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params, precision="float32").fit(X, y)
    exact = clf.predict_proba(X)
    rounded = clf.set_params(precision="bf16").predict_proba(X)
    assert not np.array_equal(rounded, exact)
    assert_allclose(rounded, exact, atol=0.03)


def test_mini_batches_and_blocks_are_computed_in_mixed_precision(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params, precision="bf16", batch_size=16).fit(X, y)
    assert_plain(clf, X)
    in_blocks = clf.predict_proba(X)
    assert_allclose(clf.set_params(batch_size=None).predict_proba(X), in_blocks, atol=0.03)


def test_rows_are_classified_and_searched_in_mixed_precision(rows: Bunch) -> None:
    common: Params = {"modalities": rows.modalities, "precision": "bf16", "random_state": 0}
    clf = MultiModalGraphClassifier("hgt", max_epochs=25, lr=0.01, **common)
    clf.fit(rows.data[:40], rows.target[:40])
    assert_plain(clf, rows.data)
    assert clf.score(rows.data[40:], rows.target[40:]) > 0.8

    retriever = CrossModalRetriever(max_epochs=3, **common).fit(rows.data, rows.target)
    distances, neighbors = retriever.kneighbors(rows.data[:5], n_neighbors=3)
    assert np.isfinite(distances).all()
    assert neighbors.shape == (5, 3)
    assert {w.dtype.str for w in retriever.weights_.values() if w.dtype.kind == "f"} == {"<f4"}


def test_an_embedder_gives_vectors_of_32_bits(X: NodeView) -> None:
    embedder = NodeEmbedder("hgt", precision="bf16", max_epochs=2, random_state=0)
    assert embedder.fit_transform(X).dtype == np.float32


def test_attention_is_read_in_32_bits(X: NodeView, y: np.ndarray, params: Params) -> None:
    (layer,) = MultiModalGraphClassifier(**params, precision="bf16").fit(X, y).attention(X)
    assert {part.dtype for part in layer.weight.values()} == {torch.float32}


def test_it_is_a_parameter_like_others(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params, precision="bf16")
    assert clone(clf).get_params()["precision"] == "bf16"
    clf.fit(X[:40], y[:40])
    read = pickle.loads(pickle.dumps(clf))
    assert read.precision == "bf16"
    assert_array_equal(read.predict_proba(X), clf.predict_proba(X))


def test_the_same_seed_gives_the_same_weights(X: NodeView, y: np.ndarray, params: Params) -> None:
    first, second = (MultiModalGraphClassifier(**params, precision="bf16") for _ in range(2))
    first.fit(X, y), second.fit(X, y)
    for name, weights in first.weights_.items():
        assert_array_equal(weights, second.weights_[name])


# ------------------------------------------------------------------------------ what is refused


def test_other_precisions_are_refused(X: NodeView, y: np.ndarray, params: Params) -> None:
    with pytest.raises(ValueError, match=r"'precision' parameter .*'bf16'.* Got '16-mixed'"):
        MultiModalGraphClassifier(**params, precision="16-mixed").fit(X, y)


def test_a_device_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"needs a CPU, or a CUDA device.*'meta'.*float32"):
        autocast("bf16", torch.device("meta"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: False)
    with pytest.raises(ValueError, match="'cuda:0'"):
        autocast("bf16", torch.device("cuda", 0))
    assert isinstance(_precision.autocast("float32", torch.device("cuda", 0)), nullcontext)


# ------------------------------------------------------------------------------------- operators


def test_scores_and_sums_of_an_operator_stay_in_32_bits() -> None:
    torch.manual_seed(0)
    conv = HGNNIMAConv(16, (["a"], [("a", "to", "a")]), num_modalities=2, heads=2)
    edges = {("a", "to", "a"): torch.randint(20, (2, 60))}
    h = torch.randn(2, 20, 16, requires_grad=True)

    def run() -> tuple[Any, Any, list[torch.Tensor]]:
        out, attention = conv({"a": h}, edges, return_attention=True)
        grads = torch.autograd.grad(out["a"].float().square().sum(), [h, *conv.parameters()])
        return out["a"], attention, list(grads)

    exact, _, exact_grads = run()
    with torch.autocast("cpu", torch.bfloat16):
        out, attention, grads = run()
    assert {part.dtype for part in attention.alpha.values()} == {torch.float32}
    assert not torch.equal(out, exact)
    torch.testing.assert_close(out.float(), exact, rtol=0.02, atol=0.02)
    for found, expected in zip(grads, exact_grads, strict=True):
        assert found.dtype == torch.float32
        assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.gpu
def test_a_gpu_computes_in_mixed_precision(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params, precision="bf16", device="cuda").fit(X[:40], y[:40])
    assert_plain(clf, X)
    rounded = clf.predict_proba(X)
    assert_allclose(clf.set_params(device="cpu").predict_proba(X), rounded, atol=0.05)
