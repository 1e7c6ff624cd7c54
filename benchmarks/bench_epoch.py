"""One epoch on IMDB: seconds and peak memory.

One training step on the whole graph (forward, backward, optimiser) with 64 hidden channels, three
layers and eight heads; the modalities are keywords (3066 sparse columns), overview and poster. The
yardstick is what one would build of PyG's HGTConv for the same task: one network per modality, late
fusion by attention, the keywords sparse as well. The two take turns in one process, so that the
load of the machine meets both. Memory is measured in a process of its own for each.

Without ``--data`` the network is random, of IMDB's size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import Record, make_parser, results_folder, write_results
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import HGTConv
from tqdm import tqdm

from skmmg import MultiModalGraph, NodeView
from skmmg.datasets import load_imdb
from skmmg.models import HGNNIMA, HGT
from skmmg.nn import GraphTensors, ModalityAttention
from skmmg.training import ClassificationLoss, column_statistics, graph_tensors

CHANNELS, LAYERS, HEADS, DROPOUT = 64, 3, 8, 0.6
MODALITIES = ("keywords", "overview", "poster")
YARDSTICK = "PyG HGTConv, late"
Step = Callable[[], Any]


# ---------------------------------------------------------------------------------- the network
def load(folder: str | None) -> tuple[NodeView, np.ndarray, str]:
    """The training nodes, their classes, and what the network is."""
    if folder is None:
        graph, target = make_imdb_sized()
        return graph.nodes("movie")[:855], target[:855], "a random network of IMDB's size"
    imdb = load_imdb(folder, MODALITIES)
    ids = imdb.train_idx
    return imdb.graph.nodes("movie")[ids], imdb.target[ids], "the IMDB network"


def make_imdb_sized() -> tuple[MultiModalGraph, np.ndarray]:
    """Nodes, edges, widths and stored values in about the numbers of IMDB; all of it random."""
    rng = np.random.default_rng(0)
    counts = {"movie": 4278, "director": 2081, "actor": 5257}
    stored = {"movie": 7, "director": 13, "actor": 15}  # values per row

    def words(n_nodes: int, width: int, per_row: int) -> sparse.csr_array:
        matrix = sparse.random_array((n_nodes, width), density=per_row / width, rng=rng)
        return sparse.csr_array(matrix, dtype=np.float32)

    nodes: dict[str, dict[str, Any]] = {
        name: {"keywords": words(count, 3066, stored[name])} for name, count in counts.items()
    }
    nodes["movie"]["overview"] = words(counts["movie"], 9000, 25)
    poster = rng.standard_normal((counts["movie"], 1708), dtype=np.float32)
    poster[rng.random(len(poster)) < 0.08] = np.nan
    nodes["movie"]["poster"] = poster
    movies = np.arange(counts["movie"])
    edges = {
        ("movie", "directed_by", "director"): np.stack(
            [movies, rng.integers(counts["director"], size=len(movies))]
        ),
        ("movie", "stars", "actor"): np.stack(
            [np.tile(movies, 3), rng.integers(counts["actor"], size=3 * len(movies))]
        ),
    }
    return MultiModalGraph(nodes, edges), rng.integers(3, size=len(movies))


# ------------------------------------------------------------------------------------ the models
class PyGLateFusion(nn.Module):
    """One HGTConv network per modality, as PyG's users write it; then attention and a classifier.

    A node type that lacks a modality starts from a learned vector.
    """

    def __init__(self, view: NodeView, n_classes: int) -> None:
        super().__init__()
        schema = view.schema
        self.target, self.modalities = schema.target, schema.modalities
        metadata = (list(schema.node_types), list(schema.edge_types))
        self.inputs = nn.ModuleDict(
            {
                f"{node_type} {modality}": nn.Linear(widths.get(modality, 1), CHANNELS)
                for node_type, widths in schema.node_types.items()
                for modality in schema.modalities
            }
        )
        self.convs = nn.ModuleDict(
            {
                modality: nn.ModuleList(
                    HGTConv(CHANNELS, CHANNELS, metadata, HEADS) for _ in range(LAYERS)
                )
                for modality in schema.modalities
            }
        )
        self.fusion = ModalityAttention(CHANNELS)
        self.head = nn.Linear(CHANNELS, n_classes)

    def forward(self, graph: GraphTensors, ids: Tensor) -> Tensor:
        """Scores of the classes."""
        h = torch.stack([self._run(m, graph)[ids] for m in self.modalities])
        return self.head(self.fusion(h)[0])

    def _run(self, modality: str, graph: GraphTensors) -> Tensor:
        h = {}
        for node_type, n_nodes in graph.num_nodes.items():
            linear = self.inputs[f"{node_type} {modality}"]
            x = graph.x[node_type].get(modality)
            x = linear.weight.new_ones(n_nodes, 1) if x is None else x
            product = linear(x) if isinstance(x, Tensor) else x @ linear.weight.t() + linear.bias
            h[node_type] = product.tanh()
        for conv in self.convs[modality]:
            h = {
                t: F.dropout(x, DROPOUT, self.training)
                for t, x in conv(h, graph.edge_index).items()
            }
        return h[self.target]


def make_steps(view: NodeView, y: np.ndarray) -> dict[str, Step]:
    """One training step of every model, by its name; built when called for the first time."""
    n_classes = int(y.max()) + 1
    size = {"hidden_channels": CHANNELS, "num_layers": LAYERS, "heads": HEADS}
    settings = size | {"dropout": DROPOUT, "input_dropout": 0.0}
    schema = view.schema
    modules = {
        "HGNN-IMA": lambda: HGNNIMA(**settings).build(schema, n_classes),
        "HGNN-IMA, as in the paper": lambda: HGNNIMA("paper", **settings).build(schema, n_classes),
        "HGT late": lambda: HGT(**settings).build(schema, n_classes, fusion="late"),
        "HGT early": lambda: HGT(**settings).build(schema, n_classes, fusion="early"),
        YARDSTICK: lambda: PyGLateFusion(view, n_classes),
    }
    statistics = column_statistics(view.graph, "auto")
    tensors = graph_tensors(view.graph, statistics, device=torch.device("cpu"))
    ids, target = torch.tensor(view.ids), torch.tensor(y)
    return {name: make_step(build(), tensors, ids, target) for name, build in modules.items()}


def make_step(module: nn.Module, tensors: GraphTensors, ids: Tensor, y: Tensor) -> Step:
    """Forward, loss, backward, optimiser."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    criterion, weight = ClassificationLoss(), torch.ones(len(y))

    def step() -> None:
        output = module.train()(tensors, ids)
        if isinstance(output, Tensor):
            loss = F.cross_entropy(output, y)
        else:
            loss, _ = criterion(output, y, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


# ---------------------------------------------------------------------------------- measurements
def measure_seconds(steps: dict[str, Step], n_rounds: int) -> pd.DataFrame:
    """Seconds of every step, (n_rounds, n_models); the models take turns after two warm-ups."""
    for step in steps.values():
        step()
        step()
    rows = []
    for _ in tqdm(range(n_rounds), unit="round"):
        row = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            row[name] = time.perf_counter() - start
        rows.append(row)
    return pd.DataFrame(rows)


def measure_memory(name: str, folder: str | None) -> float:
    """Peak memory of a first step above what was resident before it, in MB; NaN if not Linux."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    view, y, _ = load(folder)
    step = make_steps(view, y)[name]
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _read_kilobytes(status, "VmRSS")
    step()
    return (_read_kilobytes(status, "VmHWM") - before) / 1024


def _read_kilobytes(status: Path, key: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def memory_of_each(names: list[str], folder: str | None) -> dict[str, float]:
    """`measure_memory`, each in a fresh process."""
    peaks = {}
    for name in tqdm(names, unit="process"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks[name] = pool.submit(measure_memory, name, folder).result()
    return peaks


def summarise_steps(seconds: pd.DataFrame, peaks: dict[str, float]) -> list[Record]:
    """Medians, and the median over the rounds of the ratio to the yardstick."""
    return [
        {
            "model": name,
            "seconds per epoch": f"{seconds[name].median():.3f}",
            "fastest": f"{seconds[name].min():.3f}",
            "times the speed of PyG's": f"{(seconds[YARDSTICK] / seconds[name]).median():.2f}",
            "peak memory (MB)": f"{peaks[name]:.0f}",
        }
        for name in seconds
    ]


def main() -> None:
    """Measure, print and write."""
    args = make_parser(__doc__).parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    view, y, what = load(args.data)
    print(f"{what}: {view.graph!r}")
    seconds = measure_seconds(make_steps(view, y), 2 if args.quick else 15)
    n_edges = sum(index.shape[1] for index in view.graph.edge_index.values())
    rows = summarise_steps(seconds, memory_of_each(list(seconds), args.data))
    write_results(
        "epoch",
        "One epoch on IMDB, and its peak memory",
        {"Training step on the whole graph": pd.DataFrame(rows)},
        rows,
        notes=[
            f"Measured on {what} ({sum(view.graph.n_nodes.values()):,} nodes, {n_edges:,} edges), "
            f"{CHANNELS} hidden channels, {LAYERS} layers, {HEADS} heads, dropout {DROPOUT} after "
            f"each layer and none at the input. Medians over {len(seconds)} rounds in which the "
            f'models take turns, on one thread; "times the speed" is the median of each round\'s '
            f"ratio. Memory is what the first step needs above what was resident before it, each "
            f"model in a process of its own."
        ],
        settings={"channels": CHANNELS, "layers": LAYERS, "heads": HEADS, "rounds": len(seconds)},
        folder=results_folder(args.quick),
    )


if __name__ == "__main__":
    main()
