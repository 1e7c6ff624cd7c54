"""Time per edge of a layer of HGNN-IMA on random networks of growing size."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from _common import Record

from skmmg.nn import HGNNIMAConv, set_backend
from skmmg.nn._edges import EdgeStructure

# the sparse products keep 3 kB per edge
SPARSE_UP_TO = 3_000_000


def fastest(function: Callable[[], Any], n: int = 5) -> float:
    """Seconds of the fastest of n calls."""
    times = []
    for _ in range(n):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def measure_scaling(max_edges: int, channels: int, heads: int) -> list[Record]:
    """Nanoseconds per edge of a layer, forward and backward, ten edges per node."""
    records = []
    sizes = [10**k * f for k in range(4, 8) for f in (1, 3) if 10**k * f <= max_edges]
    for n_edges in sizes:
        for backend in ("fused", "sparse") if n_edges <= SPARSE_UP_TO else ("fused",):
            seconds = time_layer(n_edges, backend, channels, heads)
            ns = seconds / n_edges * 1e9
            records.append({"edges": n_edges, "back end": backend, "ns per edge": round(ns)})
            print(records[-1])
    return records


def time_layer(n_edges: int, backend: str, channels: int, heads: int) -> float:
    """Seconds of a layer with its projections."""
    generator = torch.Generator().manual_seed(0)
    n_nodes = n_edges // 10
    types = [("n", "a", "n"), ("n", "b", "n")]
    index = torch.randint(0, n_nodes, (2, 2, n_edges // 2), generator=generator)
    edges = EdgeStructure(dict(zip(types, index, strict=True)), {"n": n_nodes}, types)
    conv = HGNNIMAConv(channels, (["n"], types), 2, heads)
    h = torch.randn(2, n_nodes, channels, generator=generator).requires_grad_()

    def run() -> None:
        conv.propagate(h, edges)[0].sum().backward()

    with set_backend(backend):
        run()
        return fastest(run, 3 if n_edges > 1e6 else 7)


def draw_scaling(records: list[Record], folder: Path) -> None:
    """A plot, ``speed_scaling.svg``."""
    frame = pd.DataFrame(records)
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for backend, part in frame.groupby("back end"):
        axes.plot(part["edges"], part["ns per edge"], "o-", label=backend)
    axes.set(xscale="log", xlabel="edges", ylabel="ns per edge", ylim=(0, None))
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "speed_scaling.svg")
