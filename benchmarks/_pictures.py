"""What HGNN-IMA sees: a map of its embedding, and whether attention goes to one's own class."""

from __future__ import annotations

from typing import Any

import numpy as np
from _common import Record
from _data_sets import DataSet
from _zoo import Row
from scipy import sparse
from scipy.stats import spearmanr
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from skmmg import NodeView

N_POINTS, N_BINS = 1000, 5


def embedding_map(row: Row, data: DataSet, seed: int) -> Record:
    """t-SNE of the test samples' embedding, with their classes."""
    clf = _fit(row, data, seed)
    test = np.random.default_rng(seed).permutation(data.split[2])[:N_POINTS]
    z = clf.transform(data.X[test])
    points = TSNE(2, init="pca", random_state=seed).fit_transform(z)
    return {
        "points": np.round(points, 2).tolist(),
        "classes": np.unique(data.y, return_inverse=True)[1][test].tolist(),
        "silhouette": float(silhouette_score(z, data.y[test])),
    }


def attention_and_agreement(row: Row, data: DataSet, seed: int) -> Record:
    """How attention on an edge into a sample goes with agreement of the edge's source.

    Attention is the last layer's weight, mean over the heads, times the number of edges into the
    node: 1 is what an even spread gives. The agreement of a source of the samples' own type is
    whether it has their class; of a source of another type, the share of the *other* samples that
    it points to with their class.
    """
    if not isinstance(data.X, NodeView):
        return {}
    graph, target = data.X.graph, data.X.node_type
    weights = _fit(row, data, seed).attention(data.X)[-1].weight
    n_samples = graph.n_nodes[target]
    into = {e: index for e, index in graph.edge_index.items() if e[2] == target}
    degree = sum(np.bincount(index[1], minlength=n_samples) for index in into.values())
    attention, agreement = [], []
    for edge_type, (src, dst) in into.items():
        w = weights[edge_type].double().cpu().numpy()
        w = w.reshape(len(w), -1).mean(1) * degree[dst]
        found = _agreement(data.y, src, dst, edge_type[0] == target, graph.n_nodes[edge_type[0]])
        known = ~np.isnan(found) & (degree[dst] > 1)
        attention.append(w[known])
        agreement.append(found[known])
    a, b = np.concatenate(attention), np.concatenate(agreement)
    bins = np.minimum((b * N_BINS).astype(int), N_BINS - 1)
    return {
        "spearman": float(spearmanr(a, b).statistic),
        "n_edges": len(a),
        "by_agreement": [
            float(a[bins == i].mean()) if (bins == i).any() else None for i in range(N_BINS)
        ],
        "edges_by_agreement": np.bincount(bins, minlength=N_BINS).tolist(),
    }


def _agreement(
    y: np.ndarray, src: np.ndarray, dst: np.ndarray, same_type: bool, n_sources: int
) -> np.ndarray:
    if same_type:
        return (y[src] == y[dst]).astype(float)
    codes = np.unique(y, return_inverse=True)[1]
    ones = np.ones(len(src))
    counts = sparse.coo_array((ones, (src, codes[dst])), (n_sources, codes.max() + 1)).toarray()
    others = counts.sum(1)[src] - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(others > 0, (counts[src, codes[dst]] - 1) / others, np.nan)


def _fit(row: Row, data: DataSet, seed: int) -> Any:
    train, val, _ = data.split
    clf = row.classifier("default", seed, **data.params)
    return clf.fit(data.X[train], data.y[train], X_val=data.X[val], y_val=data.y[val])
