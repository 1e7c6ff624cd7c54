"""Mini-batches: the sampler, and a network whose features are in a file.

*Sampler.* 512 seeds, three steps, ten in-neighbours per relation, on random networks of the sizes
of IMDB, AMAZON and AMAZON-1: ours compiled by numba, ours in numpy, and numpy with replacement,
which is what one would write first (it finds the same node again and again, so it reaches fewer
nodes: see the edges per second). They take turns in one process; CPU seconds, medians.

*Networks.* Planted networks of up to a million target nodes and ten million edges (their reverse
relation comes on top), two modalities of 128 features in memory-mapped files. One epoch of
HGNN-IMA by mini-batches, on a twentieth of the nodes and on all but a twentieth, and on the whole
graph where that is small enough; then predictions for all nodes; in processes of their own that
are measured: seconds, nodes per second, peak of resident memory (the pages of the files that are in
memory count in). The files are deleted at the end.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import RESULTS, Record, make_parser, results_folder, write_results
from _memory import in_fresh_process, measure_peak
from tqdm import tqdm

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.models import HGNNIMA
from skmmg.training._sampler import EdgeType, Hop, NeighborSampler

N_SEEDS, N_STEPS, FAN_OUT = 512, 3, 10
Edges = dict[EdgeType, np.ndarray]

# nodes of the target type, nodes of the other type, edges (their reverses come on top)
SAMPLED = {
    "IMDB": (4_278, 7_338, 17_106),
    "AMAZON": (7_000, 6_189, 87_077),
    "AMAZON-1": (38_000, 20_088, 316_119),
    "10 million edges": (1_000_000, 200_000, 10_000_000),
}
SIZES, SHARES_LABELLED, WHOLE_UP_TO = [10_000, 100_000, 1_000_000], (0.05, 0.95), 100_000
BATCH_SIZE, NUM_NEIGHBORS = 1024, [5, 3]
N_CLASSES, N_FEATURES = 10, 128
MODALITIES = ("text", "image")


# ----------------------------------------------------------------------------------- the sampler
def make_edges(n_targets: int, n_others: int, n_edges: int) -> tuple[Edges, dict[str, int]]:
    """Edges to attributes some of which are far more frequent than others, and their reverse."""
    rng = np.random.default_rng(0)
    others = (n_others * rng.random(n_edges) ** 2).astype(np.int64)
    index = np.stack([rng.integers(n_targets, size=n_edges), others])
    edges = {("item", "has", "attribute"): index, ("attribute", "rev_has", "item"): index[::-1]}
    return edges, {"item": n_targets, "attribute": n_others}


class WithReplacement:
    """Ten draws per node and relation, in numpy: what one would write first."""

    def __init__(self, sampler: NeighborSampler) -> None:
        self.relations, self.num_nodes = sampler._relations, sampler.num_nodes
        self.local = {t: np.full(n, -1) for t, n in self.num_nodes.items()}
        self.random = np.random.default_rng(0)

    def sample(self, seeds: dict[str, np.ndarray]) -> Edges:
        """Draw a neighbourhood; return its edges with local ids, by relation."""
        nodes = {t: seeds.get(t, np.zeros(0, dtype=np.int64)) for t in self.num_nodes}
        for node_type, ids in nodes.items():
            self.local[node_type][ids] = np.arange(len(ids))
        front, edges = nodes, {edge_type: [] for edge_type in self.relations}
        for _ in range(N_STEPS):
            fresh = {t: np.zeros(0, dtype=np.int64) for t in nodes}
            for edge_type, incoming in self.relations.items():
                src, _, dst = edge_type
                start = incoming.indptr[front[dst]]
                degree = incoming.indptr[front[dst] + 1] - start
                row = np.repeat(np.arange(len(start)), np.minimum(degree, FAN_OUT))
                at = start[row] + (self.random.random(len(row)) * degree[row]).astype(np.int64)
                drawn = incoming.source[at]
                new = _distinct(drawn[self.local[src][drawn] < 0])
                first = len(nodes[src])
                self.local[src][new] = np.arange(first, first + len(new))
                nodes[src] = np.concatenate([nodes[src], new])
                fresh[src] = np.concatenate([fresh[src], new])
                ends = self.local[src][drawn], self.local[dst][front[dst]][row]
                edges[edge_type].append(np.stack(ends))
            front = fresh
        for node_type, ids in nodes.items():
            self.local[node_type][ids] = -1
        return {edge_type: np.concatenate(parts, axis=1) for edge_type, parts in edges.items()}


def _distinct(ids: np.ndarray) -> np.ndarray:
    """`np.unique`, which hashes from numpy 2.3 on and takes many times as long."""
    ids = np.sort(ids)
    return ids[np.concatenate([ids[:1] >= 0, ids[1:] != ids[:-1]])]


def measure_samplers(quick: bool) -> list[Record]:
    """Medians of CPU seconds, the samplers taking turns."""
    rows = []
    for name, size in SAMPLED.items():
        if quick and size[2] > 1_000_000:
            continue
        edges, num_nodes = make_edges(*size)
        samplers = {c: NeighborSampler(edges, num_nodes, compiled=c) for c in (True, False)}
        plain = WithReplacement(samplers[False])
        hops, rng = [Hop(FAN_OUT)] * N_STEPS, np.random.default_rng(1)
        calls = {
            "numba": lambda seeds, i, s=samplers[True], hops=hops: s.sample(seeds, hops, i),
            "numpy": lambda seeds, i, s=samplers[False], hops=hops: s.sample(seeds, hops, i),
            "with replacement": lambda seeds, i, s=plain: s.sample(seeds),
        }
        times: dict[str, list[float]] = {key: [] for key in calls}
        parts: dict[str, Any] = {}
        for i in range(4 if quick else 101):
            seeds = {"item": np.sort(rng.choice(size[0], N_SEEDS, replace=False))}
            for key, call in calls.items():
                start = time.process_time()
                result = call(seeds, i)
                times[key].append(time.process_time() - start)
                parts[key] = result
        seconds = {key: float(np.median(values[1:])) for key, values in times.items()}
        part, other = parts["numba"], parts["with replacement"]
        n_edges = sum(index.shape[1] for index in part.edge_index.values())
        n_others = sum(index.shape[1] for index in other.values())
        rows.append(
            {
                "network": name,
                "edges": 2 * size[2],
                "sampled nodes": sum(map(len, part.nodes.values())),
                "sampled edges": n_edges,
                **{f"{key} (ms)": round(1e3 * value, 2) for key, value in seconds.items()},
                "numba: million edges/s": round(n_edges / seconds["numba"] / 1e6, 1),
                "with replacement: million edges/s": round(
                    n_others / seconds["with replacement"] / 1e6, 1
                ),
                "numba / numpy": round(seconds["numpy"] / seconds["numba"], 1),
                "numba / with replacement": round(
                    seconds["with replacement"] / seconds["numba"], 1
                ),
            }
        )
    return rows


# ----------------------------------------------------------------------------- the large network
def make_network(n_nodes: int, n_edges: int, folder: Path) -> None:
    """Write a planted network: an item's class is that of most of its attributes.

    Each modality is the class's direction and noise; a tenth of the rows is missing.
    """
    rng = np.random.default_rng(0)
    n_attributes = n_nodes // 5
    y, of_attribute = rng.integers(N_CLASSES, size=(2, n_nodes))
    of_attribute = of_attribute[:n_attributes]
    by_class = np.argsort(of_attribute, kind="stable")
    starts = np.searchsorted(of_attribute[by_class], np.arange(N_CLASSES + 1))
    item = rng.integers(n_nodes, size=n_edges)
    low, high = starts[y[item]], starts[y[item] + 1]
    alike = by_class[low + (rng.random(n_edges) * (high - low)).astype(np.int64)]
    other = rng.integers(n_attributes, size=n_edges)
    attribute = np.where(rng.random(n_edges) < 0.5, alike, other)
    np.save(folder / "edges.npy", np.stack([item, attribute]))
    np.save(folder / "y.npy", y)
    for name, codes in (("item", y), ("attribute", of_attribute)):
        for modality in MODALITIES:
            shape, directions = (len(codes), N_FEATURES), rng.normal(size=(N_CLASSES, N_FEATURES))
            x = np.lib.format.open_memmap(
                folder / f"{name}-{modality}.npy", mode="w+", dtype=np.float32, shape=shape
            )
            for start in range(0, len(codes), 50_000):
                part = codes[start : start + 50_000]
                noise = rng.standard_normal((len(part), N_FEATURES), dtype=np.float32)
                block = noise + 0.1 * directions[part].astype(np.float32)
                block[rng.random(len(part)) < 0.1] = np.nan
                x[start : start + 50_000] = block
            x.flush()


def open_network(folder: Path) -> tuple[MultiModalGraph, np.ndarray]:
    """The network, its features left in their files."""
    nodes = {
        name: {m: np.load(folder / f"{name}-{m}.npy", mmap_mode="r") for m in MODALITIES}
        for name in ("item", "attribute")
    }
    edges = {("item", "has", "attribute"): np.load(folder / "edges.npy")}
    return MultiModalGraph(nodes, edges), np.load(folder / "y.npy")


@contextmanager
def measure(name: str) -> Iterator[Record]:
    """Seconds, CPU seconds and peak memory of the block, known when it ends."""
    record: Record = {}
    start, cpu = time.perf_counter(), time.process_time()
    with measure_peak() as peak:
        yield record
    record |= {
        f"{name} (s)": time.perf_counter() - start,
        f"{name}, CPU (s)": time.process_time() - cpu,
        f"{name}, peak (MiB)": peak.resident,
    }


def run_network(
    folder: Path, batch_size: int | None, share: float, device: str = "cpu", n_epochs: int = 1
) -> Record:
    """Epochs, of which the last counts, and predictions for all nodes; in a process of its own."""
    torch.set_num_threads(1)
    size: dict[str, Any] = {"hidden_channels": 64, "heads": 4, "num_layers": 2, "dropout": 0.2}
    graph, y = open_network(folder)
    X, n_labelled = graph.nodes("item"), int(share * len(y))
    labelled = np.sort(np.random.default_rng(0).permutation(len(y))[:n_labelled])
    clf = MultiModalGraphClassifier(
        HGNNIMA(**size),
        max_epochs=n_epochs,
        early_stopping=False,
        device=device,
        batch_size=batch_size,
        num_neighbors=None if batch_size is None else NUM_NEIGHBORS,
        random_state=0,
    )
    with measure("fit") as fitted:
        clf.fit(X[labelled], y[labelled])
    with measure("predict all") as predicted:
        classes = clf.predict(X)
    epoch = clf.history_[-1]["dur"]
    rest = np.setdiff1d(np.arange(len(y)), labelled)
    record = {
        "target nodes": len(y),
        "edges": sum(index.shape[1] for index in graph.edge_index.values()),
        "labelled": n_labelled,
        "batch size": "whole graph" if batch_size is None else batch_size,
        **fitted,
        "of it the epoch (s)": epoch,
        "trained nodes/s": n_labelled / epoch,
        "trained nodes/CPU s": n_epochs * n_labelled / fitted["fit, CPU (s)"],
        **predicted,
        "predicted nodes/s": len(y) / predicted["predict all (s)"],
        "predicted nodes/CPU s": len(y) / predicted["predict all, CPU (s)"],
    }
    accuracy = float((classes[rest] == y[rest]).mean())
    plain = {k: _round(v) if isinstance(v, float) else v for k, v in record.items()}
    return plain | {"accuracy on the rest": round(accuracy, 3)}


def _round(value: float) -> float:
    return round(value, 1) if value < 100 else round(value)


def measure_networks(sizes: list[int]) -> list[Record]:
    """Every run in a fresh process, on networks that are deleted at the end."""
    records = []
    for n_nodes in sizes:
        runs = [(BATCH_SIZE, share) for share in SHARES_LABELLED]
        if n_nodes <= WHOLE_UP_TO:
            runs.insert(0, (None, SHARES_LABELLED[0]))
        with tempfile.TemporaryDirectory(prefix="skmmg-bench-") as name:
            make_network(n_nodes, 10 * n_nodes, Path(name))
            for run in tqdm(runs, unit="process", desc=f"{n_nodes} nodes"):
                records.append(in_fresh_process(run_network, Path(name), *run))
    return records


def main() -> None:
    """Measure, print and write."""
    parser = make_parser(__doc__)
    parser.add_argument("--sampler", action="store_true", help="keep the networks' last figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    samplers = measure_samplers(args.quick)
    if args.sampler:
        last = json.loads((RESULTS / "minibatch.json").read_text(encoding="utf-8"))["records"]
        networks = [record for record in last if "target nodes" in record]
    else:
        networks = measure_networks([2_000] if args.quick else SIZES)
    write_results(
        "minibatch",
        "Mini-batches: the sampler, and features in a file",
        {
            f"Sampling {N_SEEDS} seeds, {N_STEPS} steps, {FAN_OUT} neighbours per relation": (
                pd.DataFrame(samplers)
            ),
            "Networks with 2 x 128 features in files": pd.DataFrame(networks),
        },
        [*samplers, *networks],
        notes=[
            "Sampling: CPU milliseconds, medians; the samplers take turns. The networks are random "
            "and of the sizes named. The two samplers of ours draw without replacement and draw "
            "the same. Drawing with replacement finds fewer nodes, thus fewer edges.",
            f"Networks: 64 hidden channels, two layers, four heads, num_neighbors={NUM_NEIGHBORS}; "
            "one thread for the model and one that makes batches. An epoch trains on the labelled "
            "nodes. Resident memory counts the pages of the files in; edges are counted with their "
            "reverses. Fit minus epoch is the statistics for scaling and the sorting of the edges. "
            "CPU seconds are of both threads; where they are below the seconds, the machine was "
            "busy with other things. Trained nodes per CPU second are of the whole fit."
            + (" They are of an earlier run than the sampling." if args.sampler else ""),
        ],
        folder=results_folder(args.quick),
    )


if __name__ == "__main__":
    main()
