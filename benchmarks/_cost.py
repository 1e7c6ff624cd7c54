"""What a model costs: parameters, seconds per epoch, peak memory, on random graphs of two sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _common import Record
from _memory import in_fresh_process, measure_peak
from _networks import make_imdb_sized
from _zoo import Row

from skmmg import MultiModalGraph

N_EPOCHS = 4


def make_amazon_sized() -> tuple[MultiModalGraph, np.ndarray]:
    """58,088 items of 12 classes, 632,238 edges of four relations, two modalities of 512."""
    rng = np.random.default_rng(0)
    n_items, n_edges, width = 58_088, 632_238, 512
    nodes = {
        name: rng.standard_normal((n_items, width), dtype=np.float32) for name in ("text", "image")
    }
    parts = np.array_split(rng.integers(n_items, size=(2, n_edges)), 4, axis=1)
    edges = {("item", f"also_{i}", "item"): part for i, part in enumerate(parts)}
    graph = MultiModalGraph({"item": nodes}, edges, add_reverse=False)
    return graph, rng.integers(12, size=n_items)


SIZES = {
    "size of IMDB": (make_imdb_sized, "movie"),
    "58,088 nodes, 632,238 edges": (make_amazon_sized, "item"),
}


def measure_cost(row: Row, size: str) -> Record:
    """Measured in a process of its own, so that peak memory is the model's."""
    return in_fresh_process(_measure, row, size)


def _measure(row: Row, size: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    make, node_type = SIZES[size]
    graph, y = make()
    X = graph.nodes(node_type)
    labelled = np.random.default_rng(0).choice(len(y), len(y) // 5, replace=False)
    clf = row.classifier("default", 0, max_epochs=N_EPOCHS, early_stopping=False)
    with measure_peak() as peak:
        clf.fit(X[labelled], y[labelled])
    durations = [epoch["dur"] for epoch in clf.history_]
    return {
        "n_parameters": sum(w.size for w in clf.weights_.values()),
        "seconds_per_epoch": float(np.median(durations[1:])),
        "first_epoch": durations[0],
        "peak_mb": peak.mb,
    }
