"""Training steps of HGNN-IMA: how fast, how much memory, how far from the floor of the machine.

A step is forward, backward and optimiser on the whole graph, 64 channels, three layers, eight
heads, two modalities, on IMDB (``--data``; otherwise random, of its size) and on random networks of
the sizes of AMAZON and AMAZON-1. The yardsticks: one network of PyG's HGTConv per modality with
late fusion, and the paper's equations edge by edge (`_plain_hgnn_ima.py`), which are checked to
give our scores. All take turns in one process; memory is measured in a process of its own for each.

The floor is the products' FLOPs at the rate that a product of such a shape reaches here, and the
bytes that the edges and the elementwise passes have to move at the rate of a copy.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from _common import Record, make_parser, results_folder, write_results
from _plain_hgnn_ima import PlainConv
from bench_epoch import (
    CHANNELS,
    DROPOUT,
    HEADS,
    LAYERS,
    PyGLateFusion,
    Step,
    _read_kilobytes,
    make_step,
    measure_seconds,
)
from bench_epoch import make_imdb_sized as _make_imdb_sized
from torch import nn

from skmmg import MultiModalGraph, NodeView
from skmmg.datasets import load_imdb
from skmmg.models import HGNNIMA, hgnn_ima
from skmmg.nn import GraphTensors, HGNNIMAConv, set_backend
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._field import receptive_field, whole_graph
from skmmg.nn._linear import product
from skmmg.training import column_statistics, graph_tensors

PYG, PLAIN = "PyG HGTConv, late", "the paper's equations, edge by edge"
OURS = "skmmg, kernel"
GRAPHS = ("IMDB", "AMAZON", "AMAZON-1")


@dataclass
class Task:
    """A network with its training nodes and their classes."""

    view: NodeView
    y: np.ndarray
    tensors: GraphTensors

    @property
    def n_edges(self) -> int:
        """Number of edges, the reversed ones too."""
        return sum(index.shape[1] for index in self.tensors.edge_index.values())


# -------------------------------------------------------------------------------- the networks
def make_task(name: str, folder: str | None) -> Task:
    """The network of that name, or a random one of its size."""
    rng = np.random.default_rng(0)
    if name == "IMDB":
        view, y = make_imdb(folder)
    else:
        graph, n_nodes = make_amazon(rng) if name == "AMAZON" else make_amazon_one(rng)
        train = rng.permutation(n_nodes)[: n_nodes // 5]
        view, y = graph.nodes("item")[np.sort(train)], rng.integers(3, size=len(train))
    statistics = column_statistics(view.graph, "auto")
    return Task(view, y, graph_tensors(view.graph, statistics, device=torch.device("cpu")))


def make_imdb(folder: str | None) -> tuple[NodeView, np.ndarray]:
    """Keywords and poster; the shipped training nodes."""
    if folder is not None:
        imdb = load_imdb(folder, ("keywords", "poster"))
        return imdb.graph.nodes("movie")[imdb.train_idx], imdb.target[imdb.train_idx]
    graph, y = _make_imdb_sized()
    return graph.nodes("movie")[:855], y[:855]


def make_amazon(rng: np.random.Generator) -> tuple[MultiModalGraph, int]:
    """Items and reviews, 13,189 nodes, 174,154 edges, 1156 columns."""
    counts = {"item": 6158, "review": 7031}
    nodes = {t: draw_features(rng, n, 1156) for t, n in counts.items()}
    edges = {
        ("item", "also_bought", "item"): draw_edges(rng, 6158, 6158, 56_259),
        ("item", "has", "review"): draw_edges(rng, 6158, 7031, 30_818),
    }
    return MultiModalGraph(nodes, edges), counts["item"]


def make_amazon_one(rng: np.random.Generator) -> tuple[MultiModalGraph, int]:
    """One node type with four relations, 58,088 nodes, 632,238 edges, 512 columns."""
    n_nodes, shares = 58_088, (0.45, 0.30, 0.10, 0.15)
    edges = {
        ("item", f"relation_{i}", "item"): draw_edges(rng, n_nodes, n_nodes, int(share * 316_119))
        for i, share in enumerate(shares)
    }
    return MultiModalGraph({"item": draw_features(rng, n_nodes, 512)}, edges), n_nodes


def draw_features(rng: np.random.Generator, n_nodes: int, width: int) -> dict[str, np.ndarray]:
    """Two modalities."""
    return {m: rng.standard_normal((n_nodes, width), dtype=np.float32) for m in ("text", "image")}


def draw_edges(rng: np.random.Generator, n_src: int, n_dst: int, n_edges: int) -> np.ndarray:
    """Random sources, destinations of heavy-tailed popularity."""
    popularity = rng.pareto(1.6, n_dst) + 0.3
    dst = rng.choice(n_dst, n_edges, p=popularity / popularity.sum())
    return np.stack([rng.integers(n_src, size=n_edges), dst])


# ------------------------------------------------------------------------------------ the steps
@contextmanager
def setting(backend: str, whole: bool) -> Iterator[None]:
    """Our step with one of the back ends, on the receptive field or on the whole graph."""

    def everything(graph: GraphTensors, types: Any, target: str, ids: Any, n: int, *_: Any) -> Any:
        return whole_graph(graph, types, target, ids, n)

    chosen = everything if whole else receptive_field
    with set_backend(backend), mock.patch.object(hgnn_ima, "receptive_field", chosen):
        yield


def within(step: Step, backend: str, whole: bool) -> Step:
    """The step in a setting."""

    def run() -> Any:
        with setting(backend, whole):
            return step()

    return run


def build(task: Task, **settings: Any) -> nn.Module:
    """HGNN-IMA with the paper's switches."""
    torch.manual_seed(0)
    spec = HGNNIMA("paper", **{"att_loss_weight": 0.0, "num_layers": LAYERS, **settings})
    spec.set_params(hidden_channels=CHANNELS, heads=HEADS, dropout=DROPOUT, input_dropout=0.0)
    return spec.build(task.view.schema, int(task.y.max()) + 1)


def build_plain(task: Task) -> nn.Module:
    """The same with layers that go edge by edge."""
    module = build(task)
    module.convs = nn.ModuleList(PlainConv(conv) for conv in module.convs)
    module._count_lacking = lambda graph: 0
    return module


def make_steps(task: Task, plain: bool = True) -> dict[str, Callable[[], Step]]:
    """How to build a training step of every contestant, by its name."""
    ids, y = torch.tensor(task.view.ids), torch.tensor(task.y)

    def ours(backend: str, whole: bool, **settings: Any) -> Callable[[], Step]:
        return lambda: within(
            make_step(build(task, **settings), task.tensors, ids, y), backend, whole
        )

    steps = {
        OURS: ours("auto", whole=False),
        "skmmg, kernel, whole graph": ours("auto", whole=True),
        "skmmg, kernel, with attention loss": ours("auto", whole=False, att_loss_weight=1.0),
        "skmmg, sparse products": ours("sparse", whole=False),
        "skmmg, sparse products, whole graph": ours("sparse", whole=True),
        PYG: lambda: make_step(
            PyGLateFusion(task.view, int(task.y.max()) + 1), task.tensors, ids, y
        ),
    }
    if plain:
        steps[PLAIN] = lambda: within(
            make_step(build_plain(task), task.tensors, ids, y), "sparse", whole=True
        )
    return steps


def check_equal(task: Task) -> float:
    """Largest difference of the scores of kernel, sparse products and plain equations."""
    ids, scores = torch.tensor(task.view.ids[:50]), []
    plain = build_plain(task).eval()
    ours = build(task).eval()
    with torch.no_grad():
        for module, backend, whole in (
            (ours, "fused", False),
            (ours, "sparse", True),
            (plain, "sparse", True),
        ):
            with setting(backend, whole):
                scores.append(module(task.tensors, ids).logits)
    return float(max((s - scores[0]).abs().max() for s in scores))


# ------------------------------------------------------------------------------- the measurements
def measure_memory(graph: str, name: str, folder: str | None) -> float:
    """Peak memory of a first step above what was resident before it, in MB; NaN if not Linux."""
    torch.set_num_threads(1)
    task = make_task(graph, folder)
    step = make_steps(task)[name]()
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    Path("/proc/self/clear_refs").write_text("5")
    before = _read_kilobytes(status, "VmRSS")
    step()
    return (_read_kilobytes(status, "VmHWM") - before) / 1024


def in_fresh_process(function: Callable[..., float], *args: Any) -> float:
    """Call it in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def fastest(function: Callable[[], Any], n: int = 5) -> float:
    """Seconds of the fastest of n calls."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure_rates() -> tuple[float, float]:
    """FLOP/s of a product (20,000 x 64) by (64 x 128), bytes/s of a copy (read and write)."""
    x, w = torch.randn(20_000, CHANNELS), torch.randn(2 * CHANNELS, CHANNELS)
    flops = 2 * x.numel() * len(w) / fastest(lambda: product(x, w))
    source = torch.zeros(1 << 26)
    target = torch.zeros_like(source)
    return flops, 2 * source.numel() * 4 / fastest(lambda: target.copy_(source))


def find_floor(task: Task, rates: tuple[float, float]) -> float:
    """Seconds that a step on the receptive field takes at least."""
    schema = task.view.schema
    n_modalities = len(schema.modalities)
    field = receptive_field(
        task.tensors,
        schema.edge_types,
        str(schema.target),
        torch.tensor(task.view.ids),
        LAYERS,
        2,
        schema.modalities,
    )
    flops = bytes_moved = 0.0
    for matrices in field.graph.x.values():
        for x in matrices.values():
            stored = x.numel() if isinstance(x, torch.Tensor) else len(x.matrix.values())
            flops += 2 * 2 * stored * CHANNELS  # forward, gradient of the weight
    state = n_modalities * CHANNELS * 4  # bytes of a node's states
    for layer in field.layers:
        products = 2 * layer.num_out + 2 * layer.num_nodes  # query and update, key and value
        flops += 3 * 2 * n_modalities * products * CHANNELS**2
        flops += 2 * n_modalities * CHANNELS * layer.num_edges * (3 + 2 + 1 + 5)
        # keys and values are read twice; their gradients read and written once
        bytes_moved += layer.num_edges * 2 * state * (2 + 2)
        # projections, messages, activation, dropout, residual, and their gradients
        bytes_moved += 2 * state * (3 * layer.num_nodes + 8 * layer.num_out)
    return flops / rates[0] + bytes_moved / rates[1]


def measure_graph(name: str, folder: str | None, rounds: int, plain: bool) -> list[Record]:
    """Seconds, ratios, memory and floor of every contestant on one network."""
    task = make_task(name, folder)
    print(f"{name}: {task.view.graph!r}; scores differ by {check_equal(task):.1e}")
    floor = find_floor(task, measure_rates())
    steps = {n: make() for n, make in make_steps(task, plain).items()}
    seconds = measure_seconds(steps, rounds)
    del steps
    records = []
    for contestant in seconds:
        peak = in_fresh_process(measure_memory, name, contestant, folder)
        record = {
            "network": f"{name} ({sum(task.tensors.num_nodes.values()):,} / {task.n_edges:,})",
            "step": contestant,
            "seconds": f"{seconds[contestant].median():.3f}",
            "times the speed of PyG's": ratio(seconds, PYG, contestant),
            "of the plain equations'": ratio(seconds, PLAIN, contestant) if plain else "",
            "times the floor": f"{seconds[contestant].median() / floor:.1f}",
            "peak memory (MB)": f"{peak:.0f}",
        }
        records.append(record)
    return records


def ratio(seconds: pd.DataFrame, yardstick: str, name: str) -> str:
    """Median over the rounds."""
    return f"{(seconds[yardstick] / seconds[name]).median():.2f}"


# ------------------------------------------------------------------------------------- scaling
def measure_scaling(max_edges: int) -> list[Record]:
    """Nanoseconds per edge of a layer, forward and backward, ten edges per node."""
    records = []
    sizes = [10**k * f for k in range(4, 8) for f in (1, 3) if 10**k * f <= max_edges]
    for n_edges in sizes:
        for backend in ("fused", "sparse"):
            seconds = time_layer(n_edges, backend)
            ns = seconds / n_edges * 1e9
            records.append({"edges": n_edges, "back end": backend, "ns per edge": round(ns)})
            print(records[-1])
    return records


def time_layer(n_edges: int, backend: str) -> float:
    """Seconds of a layer with its projections."""
    generator = torch.Generator().manual_seed(0)
    n_nodes = n_edges // 10
    types = [("n", "a", "n"), ("n", "b", "n")]
    index = torch.randint(0, n_nodes, (2, 2, n_edges // 2), generator=generator)
    edges = EdgeStructure(dict(zip(types, index, strict=True)), {"n": n_nodes}, types)
    conv = HGNNIMAConv(CHANNELS, (["n"], types), 2, HEADS)
    h = torch.randn(2, n_nodes, CHANNELS, generator=generator).requires_grad_()

    def run() -> None:
        conv.propagate(h, edges)[0].sum().backward()

    with set_backend(backend):
        run()
        return fastest(run, 3 if n_edges > 1e6 else 7)


def draw_scaling(records: list[Record], folder: Path) -> None:
    """A plot, ``speed.svg``."""
    frame = pd.DataFrame(records)
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for backend, part in frame.groupby("back end"):
        axes.plot(part["edges"], part["ns per edge"], "o-", label=backend)
    axes.set(xscale="log", xlabel="edges", ylabel="ns per edge", ylim=(0, None))
    axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "speed.svg")


def main() -> None:
    """Measure, print and write."""
    parser = make_parser(__doc__)
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=GRAPHS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--max-edges", type=int, default=10_000_000, help="of the scaling")
    parser.add_argument("--no-plain", action="store_true", help="without the plain equations")
    args = parser.parse_args()
    if args.quick:
        args.graphs, args.rounds, args.max_edges = ["IMDB"], 1, 30_000
    torch.set_num_threads(1)
    records: list[Record] = []
    for name in args.graphs:
        records += measure_graph(name, args.data, args.rounds, not args.no_plain)
    scaling = measure_scaling(args.max_edges)
    folder = results_folder(args.quick)
    draw_scaling(scaling, folder)
    by_size = pd.DataFrame(scaling).pivot(index="edges", columns="back end", values="ns per edge")
    flops, bandwidth = measure_rates()
    write_results(
        "speed",
        "Training steps of HGNN-IMA",
        {
            "Training step": pd.DataFrame(records),
            "Nanoseconds per edge of a layer, forward and backward": by_size.reset_index(),
        },
        copy.deepcopy([*records, *scaling]),
        notes=[
            f"{CHANNELS} channels, {LAYERS} layers, {HEADS} heads, two modalities, one thread. "
            f"Networks are given with their numbers of nodes and edges. Medians over {args.rounds} "
            f"rounds in which all take turns; ratios are medians of each round's. The floor: "
            f"products at {flops / 1e9:.0f} GFLOP/s, bytes at {bandwidth / 1e9:.0f} GB/s, of the "
            f"step on the receptive field. Memory is what a first step needs above what was "
            f"resident before it, in a process of its own."
        ],
        settings={"channels": CHANNELS, "layers": LAYERS, "heads": HEADS, "rounds": args.rounds},
        folder=folder,
    )


if __name__ == "__main__":
    main()
