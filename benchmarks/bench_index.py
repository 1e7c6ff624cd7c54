"""Search in large galleries: seconds to build, queries per second, recall and memory.

The gallery has clusters that overlap; queries are of another modality: noisy, moved copies of rows
of it. Recall is of the ten nearest, against the exact ones, for these queries and for queries of
the gallery's own modality. The engines take turns in one process, so that the load of the machine
meets all of them, each beside the bare library that it rests on: scikit-learn's NearestNeighbors
on unit vectors, and the engine of faiss that is in our index, called directly. Times are CPU
seconds of one thread; medians of `REPEATS` turns. Memory is measured in a process of its own for
each, beyond what the data take: the float32 gallery that is handed over; not for engines that take
minutes to build.

``--size`` takes one of the two sizes; IVF-RaBitQ and the cosine of scikit-learn are left out at the
larger one. Each finished size is a line of results/index.jsonl, and is not measured again as long
as it is there.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when the libraries are loaded

import faiss
import numpy as np
import pandas as pd
import torch
from _common import Record, make_parser, read_log, results_folder, run_logged, write_tables
from _memory import in_fresh_process, measure_peak
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from skmmg.retrieval import VectorIndex, make_index

K, REPEATS = 10, 5
SIZES = {"100,000 x 256": (100_000, 256), "1,000,000 x 128": (1_000_000, 128)}
N_CLUSTERS, N_LATENT, SPREAD = 200, 90, 1.5  # as wide as embeddings of sentences are
NOISE, OWN_NOISE, GAP = 1.0, 0.2, 0.5  # of queries; how far the other modality is away
Rows = NDArray[np.float32]
Search = Callable[[Rows], tuple[Any, Any]]  # queries to distances and ids

# ours, and the bare engine that it is compared with
PAIRS = {
    "exact": "scikit-learn, unit vectors",
    "faiss_ivf": "faiss IVF-SQ8 + refine, bare",
    "faiss_ivf_rabitq": "faiss IVF-RaBitQ + refine, bare",
    "faiss_hnsw": "faiss HNSW, bare",
}
ALONE = ["scikit-learn, cosine", "faiss flat"]  # exact ones, to see the choice by
LARGE = 500_000
NOT_AT_LARGE = {"faiss_ivf_rabitq", PAIRS["faiss_ivf_rabitq"], "scikit-learn, cosine"}
FAST = {name for pair in PAIRS.items() if "faiss" in pair[0] for name in pair}
BARE = {bare: ours for ours, bare in PAIRS.items() if "faiss" in bare}


# -------------------------------------------------------------------------------------- the data
def make_data(n_gallery: int, width: int, n_queries: int) -> tuple[Rows, Rows, Rows]:
    """Unit vectors: a gallery in clusters, queries of another modality, queries of its own."""
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((N_LATENT, width), dtype=np.float32)
    centres = rng.standard_normal((N_CLUSTERS, N_LATENT), dtype=np.float32)

    def noise(n_rows: int, scale: float) -> Rows:
        return np.float32(scale) * rng.standard_normal((n_rows, N_LATENT), dtype=np.float32)

    gallery = np.empty((n_gallery, width), dtype=np.float32)
    for start in range(0, n_gallery, 50_000):
        n = min(50_000, n_gallery - start)
        latent = centres[rng.integers(N_CLUSTERS, size=n)] + noise(n, SPREAD)
        gallery[start : start + n] = latent @ maps
    asked = gallery[rng.choice(n_gallery, n_queries, replace=False)]
    other = asked + (noise(n_queries, NOISE) + noise(1, GAP)) @ maps
    own = asked + noise(n_queries, OWN_NOISE) @ maps
    return to_unit(gallery), to_unit(other), to_unit(own)


def to_unit(rows: Rows) -> Rows:
    """Scale rows to length one, in place."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


# ----------------------------------------------------------------------------------- the engines
def build(name: str, gallery: Rows) -> tuple[Search, Any]:
    """Build an engine on a gallery; `K` neighbours are searched for."""
    if name in PAIRS:
        index: VectorIndex = make_index(name).fit(gallery)
        return lambda queries: index.search(queries, K), index
    if name.startswith("scikit-learn"):
        metric = "cosine" if "cosine" in name else "sqeuclidean"
        search = NearestNeighbors(n_neighbors=K, algorithm="brute", metric=metric).fit(gallery)
        return search.kneighbors, search
    engine = faiss.IndexFlatIP(gallery.shape[1])
    engine.add(gallery)
    return lambda queries: engine.search(queries, K), engine


def bare_search(index: Any) -> Search:
    """Search in the engine of an index, past the index."""
    engine = index._engine
    if isinstance(engine, faiss.IndexHNSW):
        engine.hnsw.efSearch = index.ef_search
    else:
        engine.k_factor = index.rescore
        faiss.downcast_index(engine.base_index).nprobe = index.n_probe
    return lambda queries: engine.search(queries, K)


# -------------------------------------------------------------------------------------- measures
def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(names: list[str], data: tuple[Rows, Rows, Rows]) -> list[Record]:
    """Build all engines, then let them search in turns."""
    one_thread()
    gallery, queries, own = data
    engines, records = {}, {name: Record(engine=name) for name in names}
    for name in tqdm(names, unit="engine"):
        if name in BARE:
            engines[name] = bare_search(engines[BARE[name]][1]), None
            continue
        start = time.process_time()
        engines[name] = build(name, gallery)
        records[name]["build"] = time.process_time() - start
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in tqdm(range(REPEATS), unit="turn"):
        for name, (search, _kept) in engines.items():
            # brute force over a million rows takes seconds for what the others do in no time
            some, one_by_one = (
                (queries, queries[:200]) if name in FAST else (queries[:512], queries[:20])
            )
            batch = seconds(lambda s=search, q=some: s(q)) / len(some)
            single = seconds(lambda s=search, q=one_by_one: [s(row[None]) for row in q])
            times[name].append((batch, single / len(one_by_one)))
    for name, (search, _kept) in engines.items():
        batch, single = np.median(times[name], axis=0)
        records[name] |= {
            "batch": 1 / batch,
            "single": 1e3 * single,
            "recall": recall(search, engines["exact"][0], queries[:500]),
            "recall_own": recall(search, engines["exact"][0], own[:500]),
            "turns": times[name],
        }
    return list(records.values())


def recall(search: Search, exact: Search, queries: Rows) -> float:
    """Share of the nearest that a search finds."""
    pairs = zip(search(queries)[1], exact(queries)[1], strict=True)
    return float(np.mean([len(set(found) & set(true)) / K for found, true in pairs]))


def one_thread() -> None:
    """Hold all libraries to one thread."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    threadpool_limits(1)


def peak_memory(name: str, n_gallery: int, width: int) -> float:
    """MiB that building and searching took at most beyond the gallery; in a fresh process."""
    one_thread()
    gallery, queries, _own = make_data(n_gallery, width, 512)
    build(name, gallery[:2000])[0](queries[:600])  # what libraries load is not counted
    gc.collect()
    with measure_peak() as peak:
        search, _kept = build(name, gallery)
        search(queries)
    return peak.mb


# ---------------------------------------------------------------------------------------- tables
def engine_table(records: list[Record]) -> pd.DataFrame:
    """One row per engine."""
    return pd.DataFrame(
        {
            "engine": [r["engine"] for r in records],
            "build, s": [f"{r['build']:.1f}" if "build" in r else "" for r in records],
            "queries/s, batch": [f"{r['batch']:,.0f}" for r in records],
            "ms, one query": [f"{r['single']:.2f}" for r in records],
            "recall@10": [f"{r['recall']:.3f}" for r in records],
            "of its own modality": [f"{r['recall_own']:.3f}" for r in records],
            "peak, MiB": ["" if r["memory"] is None else f"{r['memory']:,.0f}" for r in records],
        }
    )


def ratio_table(records: list[Record]) -> pd.DataFrame:
    """Times of ours over those of the bare engine, turn by turn: below 1 ours is faster."""
    by_name = {r["engine"]: r for r in records}
    rows = []
    for ours, bare in PAIRS.items():
        if ours not in by_name:
            continue
        turns = np.array(by_name[ours]["turns"]) / np.array(by_name[bare]["turns"])
        batch, single = np.median(turns, axis=0)
        rows.append(
            {
                "ours / bare": f"{ours} / {bare}",
                "batch": f"{batch:.2f}",
                "one query": f"{single:.2f}",
            }
        )
    return pd.DataFrame(rows)


def measure(n_gallery: int, width: int) -> Iterator[Record]:
    """Times, recall and memory of all engines at one size."""
    is_large = n_gallery >= LARGE
    names = [*(name for pair in PAIRS.items() for name in pair), *ALONE]
    names = [name for name in names if not (is_large and name in NOT_AT_LARGE)]
    for record in compare(names, make_data(n_gallery, width, min(4096, n_gallery // 2))):
        name = record["engine"]
        skipped = name in BARE or (is_large and "_" in name)
        record["memory"] = (
            None if skipped else in_fresh_process(peak_memory, name, n_gallery, width)
        )
        yield record


def measure_sizes(sizes: dict[str, tuple[int, int]]) -> Iterator[Record]:
    """A line of the log for every size: the engines of one size are compared with each other."""
    for size, shape in sizes.items():
        yield {"size": size, "engines": list(measure(*shape))}


def main() -> None:
    """Measure all engines at the sizes that are not in the log yet."""
    parser = make_parser(__doc__)
    parser.add_argument("--size", choices=list(SIZES), action="append", help="all by default")
    args = parser.parse_args()
    folder = results_folder(args.quick)
    log_file = folder / "index.jsonl"
    log = read_log(log_file)
    done = {record["size"] for record in log}
    sizes = {size: SIZES[size] for size in args.size or SIZES if size not in done}
    if args.quick:
        sizes = {"5,000 x 32": (5000, 32)}
    log = run_logged(measure_sizes(sizes), len(sizes), log, log_file)
    tables = {}
    for record in sorted(log, key=lambda record: SIZES.get(record["size"], (0, 0))):
        tables[record["size"]] = engine_table(record["engines"])
        tables[f"{record['size']}: time over that of the bare engine"] = ratio_table(
            record["engines"]
        )
    note = "CPU seconds of one thread, medians of five turns; `python benchmarks/bench_index.py`."
    write_tables("index", "Search in large galleries", tables, notes=[note], folder=folder)


if __name__ == "__main__":
    main()
