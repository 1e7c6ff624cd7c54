"""Models on one graph of all relations: what rows, batches and weights do to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.models import GAT, GCN, SAGE, ModelSpec, StrucGCN

SPECS: list[ModelSpec] = [
    GCN(),
    GCN(merge="mean"),
    GAT(),
    GAT(attention="v2", merge="mean"),
    SAGE(),
    SAGE(aggr="sum", normalize=False),
    SAGE(aggr="max"),
    StrucGCN(),
    StrucGCN(self_weight=1, adj_weight=2, struct_weight=0, merge="mean"),
    StrucGCN(self_weight=1, adj_weight=0, struct_weight=1),
]
# what a new row like a fitted one has around it is that row's neighbours, and that row
LOCAL = [spec for spec in SPECS if not isinstance(spec, StrucGCN)]


def fit(spec: ModelSpec, X: Any, y: np.ndarray, **params: Any) -> MultiModalGraphClassifier:
    clf = MultiModalGraphClassifier(
        spec, max_epochs=3, lr=0.02, early_stopping=False, random_state=0, **params
    )
    return clf.fit(X, y)


def draw_rows() -> tuple[np.ndarray, np.ndarray, dict[str, slice]]:
    X = np.random.default_rng(0).normal(size=(40, 7))
    return X, np.arange(40) % 3, {"text": slice(0, 4), "image": slice(4, 7)}


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_a_row_gets_the_same_whatever_it_is_predicted_with(spec: ModelSpec, fusion: str) -> None:
    X, y, modalities = draw_rows()
    clf = fit(spec, X[:30], y[:30], modalities=modalities, fusion=fusion)

    together = clf.predict_proba(X)

    alone = np.vstack([clf.predict_proba(X[i : i + 1]) for i in range(28, 33)])
    assert_allclose(alone, together[28:33], atol=1e-12)


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("spec", LOCAL, ids=repr)
def test_a_new_row_like_a_fitted_one_gets_what_that_one_has(spec: ModelSpec, fusion: str) -> None:
    X, y, modalities = draw_rows()
    clf = fit(spec, X, y, modalities=modalities, fusion=fusion)

    fitted = clf._infer_focus(clf.rows_.focus(), vars(clf)).embedding

    assert_allclose(clf.transform(X), fitted, atol=1e-12)
    # and the fitted rows do not see the new ones
    attached = clf.rows_.attach(clf._split(X[:7] + 1))
    output = clf._infer_focus(attached.at(np.arange(40)), vars(clf))
    assert_allclose(output.embedding, fitted, atol=1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_weights_of_edges_count_where_the_model_says_so(spec: ModelSpec) -> None:
    rng = np.random.default_rng(0)
    x, adjacency = rng.normal(size=(12, 4)), rng.random((12, 12)) * (rng.random((12, 12)) < 0.3)
    pairs = np.stack(adjacency.nonzero())
    weighted = MultiModalGraph({"x": x}, {"to": sp.csr_array(adjacency)})
    plain = MultiModalGraph({"x": x}, {"to": pairs})
    clf = fit(spec, plain.nodes(), np.arange(12) % 2)

    change = clf.transform(weighted.nodes()) - clf.transform(plain.nodes())

    assert bool(np.abs(change).max() > 1e-3) is spec.uses_edge_weight


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_rows_without_a_graph_are_classified(spec: ModelSpec) -> None:
    X, y, modalities = draw_rows()

    clf = fit(spec, X, y, modalities=modalities, graph="none")

    assert np.isfinite(clf.predict_proba(X)).all()
