"""Training steps and fits of HGNN-IMA: how fast, how much memory, how far from the machine's floor.

A step is forward, backward and optimiser (everybody has that of our fits) on the whole graph, 64
channels, three layers, eight heads, two modalities, on IMDB (``--data``; otherwise random, of its
size) and on random networks of the sizes of AMAZON and AMAZON-1. The yardsticks: one network of
PyG's HGTConv per modality with late fusion, and the paper's equations edge by edge
(`_plain_hgnn_ima.py`), which are checked to give our scores. All take turns in one process, on one
thread; seconds are of its CPU, so that what else the machine does counts less. Memory is measured
in a process of its own for each.
The floor is the products' FLOPs at the rate that a product of such a shape reaches here, and the
bytes that the edges and the elementwise passes have to move at the rate of a copy.

A fit is a hundred epochs on IMDB through the estimator, from arrays to restored weights, beside a
bare loop around the same module that has its tensors already (`_bare_loop.py`).

``--parts`` chooses what is measured; every part and network has a results file of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from _bare_loop import compare_fits
from _common import Record, make_parser, results_folder, write_results
from _memory import in_fresh_process, measure_peak
from _networks import GRAPHS, Task, make_task
from _plain_hgnn_ima import PlainConv
from _pyg_late_fusion import PyGLateFusion
from _scaling import draw_scaling, fastest, measure_scaling
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from skmmg.models import HGNNIMA, HGT, hgnn_ima
from skmmg.nn import GraphTensors, set_backend
from skmmg.nn._field import receptive_field, whole_graph
from skmmg.nn._linear import product
from skmmg.training import OPTIMIZERS, ClassificationLoss, autocast
from skmmg.training._precision import widened

CHANNELS, LAYERS, HEADS, DROPOUT = 64, 3, 8, 0.6
SIZE = {"hidden_channels": CHANNELS, "num_layers": LAYERS, "heads": HEADS}
SIZE |= {"dropout": DROPOUT, "input_dropout": 0.0}
PYG, PLAIN = "PyG HGTConv, late", "the paper's equations, edge by edge"
OURS = "skmmg, kernel"
PARTS = ("steps", "fit", "scaling")
Step = Callable[[], Any]


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
    spec = HGNNIMA("paper", **SIZE, **{"att_loss_weight": 0.0, **settings})
    return spec.build(task.view.schema, task.n_classes)


def build_plain(task: Task) -> nn.Module:
    """The same with layers that go edge by edge."""
    module = build(task)
    module.convs = nn.ModuleList(PlainConv(conv) for conv in module.convs)
    return module


def build_hgt(task: Task, fusion: str) -> nn.Module:
    """HGT on our layers."""
    return HGT(**SIZE).build(task.view.schema, task.n_classes, fusion=fusion)


def build_pyg(task: Task) -> nn.Module:
    """The yardstick of PyG's layers."""
    size = {"channels": CHANNELS, "num_layers": LAYERS, "heads": HEADS, "dropout": DROPOUT}
    return PyGLateFusion(task.view, task.n_classes, **size)


def make_steps(task: Task, plain: bool = True) -> dict[str, Callable[[], Step]]:
    """How to build a training step of every contestant, by its name."""

    def ours(backend: str, whole: bool, **settings: Any) -> Callable[[], Step]:
        return lambda: within(make_step(build(task, **settings), task), backend, whole)

    steps = {
        OURS: ours("auto", whole=False),
        "skmmg, kernel, whole graph": ours("auto", whole=True),
        "skmmg, kernel, with attention loss": ours("auto", whole=False, att_loss_weight=1.0),
        "skmmg, sparse products": ours("sparse", whole=False),
        "skmmg, sparse products, whole graph": ours("sparse", whole=True),
        "skmmg, HGT late": lambda: make_step(build_hgt(task, "late"), task),
        "skmmg, HGT early": lambda: make_step(build_hgt(task, "early"), task),
        PYG: lambda: make_step(build_pyg(task), task),
    }
    if plain:
        steps[PLAIN] = lambda: within(make_step(build_plain(task), task), "sparse", whole=True)
    return steps


def make_step(module: nn.Module, task: Task, precision: str = "float32") -> Step:
    """Forward, loss, backward, optimiser, where the task's tensors are."""
    device = task.tensors.device
    optimizer = OPTIMIZERS["adamw"](module.to(device).parameters(), lr=1e-3)
    criterion, ids = ClassificationLoss(), torch.tensor(task.view.ids, device=device)
    y, weight = torch.tensor(task.y, device=device), torch.ones(len(task.y), device=device)

    def step() -> None:
        with autocast(precision, device):
            output = module.train()(task.tensors, ids)
        if isinstance(output, Tensor):
            loss = F.cross_entropy(output, y)
        else:
            loss, _ = criterion(widened(output), y, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def check_equal(task: Task, kernel: str = "fused", with_plain: bool = True) -> float:
    """Largest difference of the scores of kernel, sparse products and plain equations."""
    device, scores = task.tensors.device, []
    ids = torch.tensor(task.view.ids[:50], device=device)
    ours = build(task).to(device).eval()
    runs = [(ours, kernel, False), (ours, "sparse", True)]
    if with_plain:
        runs.append((build_plain(task).to(device).eval(), "sparse", True))
    with torch.no_grad():
        for module, backend, whole in runs:
            with setting(backend, whole):
                scores.append(module(task.tensors, ids).logits)
    return float(max((s - scores[0]).abs().max() for s in scores))


# ------------------------------------------------------------------------------- the measurements
def cpu_seconds(step: Step) -> float:
    """Seconds of CPU time."""
    start = time.process_time()
    step()
    return time.process_time() - start


def measure_seconds(
    steps: dict[str, Step], n_rounds: int, seconds_of: Callable[[Step], float] = cpu_seconds
) -> pd.DataFrame:
    """Seconds of every step, (n_rounds, n_models); the models take turns after two warm-ups."""
    for step in steps.values():
        step()
        step()
    rows = []
    for _ in tqdm(range(n_rounds), unit="round"):
        rows.append({name: seconds_of(step) for name, step in steps.items()})
    return pd.DataFrame(rows)


def measure_memory(graph: str, name: str, folder: str | None) -> float:
    """Peak memory of a first step above what was resident before it, in MB; NaN if not Linux."""
    torch.set_num_threads(1)
    task = make_task(graph, folder)
    step = make_steps(task)[name]()
    with measure_peak() as peak:
        step()
    return peak.mb


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


# ------------------------------------------------------------------------------------ the reports
def main() -> None:
    """Measure, print and write."""
    parser = make_parser(__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=GRAPHS)
    parser.add_argument("--rounds", type=int, default=9, help="of steps; a third of it of fits")
    parser.add_argument("--max-edges", type=int, default=10_000_000, help="of the scaling")
    parser.add_argument("--no-plain", action="store_true", help="without the plain equations")
    args = parser.parse_args()
    if args.quick:
        args.graphs, args.rounds, args.max_edges = ["IMDB"], 1, 30_000
    torch.set_num_threads(1)
    folder = results_folder(args.quick)
    for name in args.graphs if "steps" in args.parts else ():
        records = measure_graph(name, args.data, args.rounds, not args.no_plain)
        report_steps(name, records, args.rounds, folder)
    if "fit" in args.parts:
        n_epochs = 3 if args.quick else 100
        records = compare_fits(args.data, n_epochs, max(1, args.rounds // 3))
        report_fits(records, n_epochs, folder)
    if "scaling" in args.parts:
        report_scaling(measure_scaling(args.max_edges, CHANNELS, HEADS), folder)


def report_steps(name: str, records: list[Record], n_rounds: int, folder: Path) -> None:
    """Print and write the training steps on one network."""
    flops, bandwidth = measure_rates()
    write_results(
        f"speed_{name.lower()}",
        f"Training steps of HGNN-IMA, {name}",
        {"Training step": pd.DataFrame(records)},
        records,
        notes=[
            f"{CHANNELS} channels, {LAYERS} layers, {HEADS} heads, two modalities, one thread. "
            f"The network is given with its numbers of nodes and edges. Seconds of CPU time, "
            f"medians over {n_rounds} rounds in which all take turns; ratios are medians of "
            f"each round's. The floor: "
            f"products at {flops / 1e9:.0f} GFLOP/s, bytes at {bandwidth / 1e9:.0f} GB/s, of the "
            f"step on the receptive field. Memory is what a first step needs above what was "
            f"resident before it, in a process of its own."
        ],
        settings={**SIZE, "rounds": n_rounds},
        folder=folder,
    )


def report_fits(records: list[Record], n_epochs: int, folder: Path) -> None:
    """Print and write what surrounds the module."""
    write_results(
        "speed_fit",
        "A fit beside a bare loop",
        {f"{n_epochs} epochs": pd.DataFrame(records)},
        records,
        notes=[
            "The fit is MultiModalGraphClassifier.fit with a validation set and early stopping "
            "that never stops, on a graph that no tensors were made of. The bare loop has its "
            "tensors, trains the same module with the same seed, looks at the same validation "
            "nodes after every epoch and keeps the best weights; the losses of all epochs agree. "
            "skmmg's default parameters, one thread; CPU seconds; the two take turns. IMDB has "
            "keywords and poster; the planted network has 2,000 items and 12,000 edges."
        ],
        settings={"epochs": n_epochs},
        folder=folder,
    )


def report_scaling(records: list[Record], folder: Path) -> None:
    """Print, draw and write the time per edge."""
    draw_scaling(records, folder)
    by_size = pd.DataFrame(records).pivot(index="edges", columns="back end", values="ns per edge")
    table = by_size.astype("Int64").astype("string").fillna("").reset_index()
    write_results(
        "speed_scaling",
        "Time per edge of a layer of HGNN-IMA",
        {"Nanoseconds per edge, forward and backward": table},
        records,
        notes=[
            f"One layer with its projections, {CHANNELS} channels, {HEADS} heads, two modalities, "
            f"two relations with random ends, ten edges per node; CPU time, fastest of several "
            f"runs, one thread."
        ],
        folder=folder,
    )


if __name__ == "__main__":
    main()
