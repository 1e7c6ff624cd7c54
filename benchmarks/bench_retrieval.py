"""Retrieval across modalities: what networks find that classic methods do not.

    python benchmarks/bench_retrieval.py --data FOLDER [--jobs 2] [--quick] [--only wikipedia|imdb]

FOLDER holds the folders ``wikipedia`` (as `skmmg.datasets.load_wikipedia` takes it) and ``imdb``
(as `load_imdb` takes it), or is one of the two; a data set that is not there is left out.

Wikipedia: the standard split, mean average precision over the whole ranking of the test items,
image to text and text to image; an item of the query's category is right. `mm_gcn` has one layer
and a self-loop as heavy as the ten neighbours, everything trains for 200 epochs: chosen on a fifth
of the training items. Everything else is a default.

IMDB: poster to overview and back among the test movies of the shipped split that have both; right
is the movie's own answer (recall R@k, median rank), or any movie of its genre (mAP); with the edges
of the network and without them. With edges, a query and its own answer have the same director and
actors: then recall says that a cast is recognised, not that a poster is, and the mAP is the number
to look at.

Each finished run is a line of results/retrieval_<name>.jsonl, so that the program goes on where it
was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import torch
from _common import (
    SEEDS,
    Record,
    make_parser,
    read_log,
    results_folder,
    run_logged,
    summary_table,
    write_tables,
)
from _data_sets import DataSet
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmmg import CrossModalRetriever, ModalityTransformer
from skmmg.datasets import load_imdb, load_wikipedia
from skmmg.metrics import mean_average_precision, median_rank, recall_at_k
from skmmg.retrieval import make_index

# measured with scikit-learn, see the README of the data
PUBLISHED = {"CCA": (0.263, 0.214), "semantic matching": (0.294, 0.217), "SCM": (0.298, 0.222)}
MM_GCN = {"model__num_layers": 1, "model__self_weight": 10.0}
# model, whether it gets classes, parameters
Method = tuple[str, bool, dict[str, Any]]
CLASSIC = ("cca", "semantic")  # the same for every seed
WIKIPEDIA: dict[str, Method] = {
    "cca": ("cca", False, {}),
    "semantic": ("semantic", True, {}),
    "dual_mlp, pairs": ("dual_mlp", False, {}),
    "mm_gcn, pairs": ("mm_gcn", False, MM_GCN),
    "mm_gcn, pairs, no neighbours": ("mm_gcn", False, MM_GCN | {"attach": "none"}),
    "dual_mlp, classes": ("dual_mlp", True, {}),
    "mm_gcn, classes": ("mm_gcn", True, MM_GCN),
    "mm_gcn, classes, no neighbours": ("mm_gcn", True, MM_GCN | {"attach": "none"}),
}
IMDB: dict[str, Method] = {
    "cca": ("cca", False, {}),
    "semantic": ("semantic", True, {}),
    "dual_mlp, pairs": ("dual_mlp", False, {}),
    "mm_gcn, pairs, without edges": ("mm_gcn", False, {"attach": "none"}),
    "mm_gcn, pairs, with edges": ("mm_gcn", False, {}),
    "dual_mlp, classes": ("dual_mlp", True, {}),
    "mm_gcn, classes, without edges": ("mm_gcn", True, {"attach": "none"}),
    "mm_gcn, classes, with edges": ("mm_gcn", True, {}),
}
KS = (1, 10, 100)


def load_articles(folder: str) -> DataSet:
    """Articles in the standard split."""
    data = load_wikipedia(folder)
    split = data.train_idx, data.train_idx[:0], data.test_idx
    return DataSet(data.data, data.target, split, {"modalities": data.columns})


def load_movies(folder: str) -> DataSet:
    """Movies in the shipped split; to test on those that have both modalities."""
    imdb = load_imdb(folder, ["overview", "poster"])
    X = _reduce(imdb)
    both = X.present("overview") & X.present("poster")
    split = imdb.train_idx, imdb.val_idx, imdb.test_idx[both[imdb.test_idx]]
    return DataSet(X, imdb.target, split, {"query": "poster", "gallery": "overview"})


def score_articles(retriever: CrossModalRetriever, X: Any, y: np.ndarray) -> Record:
    """Mean average precision in both directions."""
    there, back = (
        mean_average_precision(rank(retriever, X, query, gallery), y, y)
        for query, gallery in (("image", "text"), ("text", "image"))
    )
    return {"image to text": there, "text to image": back, "mean": (there + back) / 2}


def score_movies(retriever: CrossModalRetriever, X: Any, y: np.ndarray) -> Record:
    """Recall and rank of a movie's own answer, mean average precision of its genre."""
    record, own = Record(), np.arange(len(y))
    for name, query, gallery in (("p>o", "poster", "overview"), ("o>p", "overview", "poster")):
        ranking = rank(retriever, X, query, gallery)
        record |= {f"{name} R@{k}": recall_at_k(ranking, own, k=k) for k in KS}
        record[f"{name} rank"] = median_rank(ranking, own)
        record[f"{name} mAP"] = mean_average_precision(ranking, y, y)
    return record


def rank(retriever: CrossModalRetriever, X: Any, query: str, gallery: str) -> np.ndarray:
    """All items of X in the gallery's modality, the nearest first, for each as a query."""
    queries, items = retriever.transform(X, query), retriever.transform(X, gallery)
    return make_index().fit(items).search(queries, len(items))[1]


class Search(NamedTuple):
    """A data set: how it is loaded, what is compared on it, and by what."""

    load: Callable[[str], DataSet]
    methods: dict[str, Method]
    score: Callable[[CrossModalRetriever, Any, np.ndarray], Record]


SETS = {
    "wikipedia": Search(load_articles, WIKIPEDIA, score_articles),
    "imdb": Search(load_movies, IMDB, score_movies),
}


def run(name: str, method: str, seed: int, data: DataSet, quick: bool) -> Record:
    """One line of the log: fitted on the items to train and validate on, scored on the others."""
    torch.set_num_threads(1)
    model, supervised, params = SETS[name].methods[method]
    retriever = CrossModalRetriever(
        model=model, random_state=seed, max_epochs=2 if quick else 200, **data.params
    ).set_params(**params)
    train, val, test = data.split
    seen, start = np.concatenate([train, val]), time.perf_counter()
    retriever.fit(data.X[seen], data.y[seen] if supervised else None)
    seconds = time.perf_counter() - start
    scores = SETS[name].score(retriever, data.X[test], data.y[test])
    key = {"method": method, "seed": seed}
    return key | scores | {"epochs": getattr(retriever, "n_iter_", 0), "seconds": seconds}


def _reduce(imdb: Any) -> Any:
    """256 columns per modality, fitted without labels."""
    poster = make_pipeline(StandardScaler(), PCA(256, random_state=0))
    text = TruncatedSVD(256, random_state=0)
    return ModalityTransformer({"overview": text, "poster": poster}).fit_transform(
        imdb.graph.nodes("movie")
    )


def main() -> None:
    """Run what has its data and is not in the log yet, and write tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=SETS, help="one of the data sets")
    args = parser.parse_args()
    if args.data is None:
        print("bench_retrieval.py: nothing done, it needs the data: --data FOLDER")
        return
    results = results_folder(args.quick)
    for name in SETS if args.only is None else [args.only]:
        places = (Path(args.data) / name, Path(args.data).parent / name)
        folder = next((place for place in places if place.is_dir()), None)
        if folder is not None:
            report(name, run_all(name, folder, args, results), results)


def run_all(name: str, folder: Path, args: Any, results: Path) -> list[Record]:
    """All runs of a data set, those of earlier calls included, in the order of the methods."""
    methods, log_file = list(SETS[name].methods), results / f"retrieval_{name}.jsonl"
    log = read_log(log_file)
    done = {(record["method"], record["seed"]) for record in log}
    tasks = [
        (method, seed)
        for seed in (SEEDS[:1] if args.quick else SEEDS)
        for method in methods
        if (method, seed) not in done and (seed == SEEDS[0] or method not in CLASSIC)
    ]
    if tasks:
        data = SETS[name].load(str(folder))
        jobs = (joblib.delayed(run)(name, *task, data, args.quick) for task in tasks)
        runs = joblib.Parallel(args.jobs, return_as="generator_unordered")(jobs)
        log = run_logged(runs, len(tasks), log, log_file)
    return sorted(log, key=lambda record: (methods.index(record["method"]), record["seed"]))


def report(name: str, records: list[Record], folder: Path) -> None:
    """Write the table of one data set."""
    scores = [k for k in records[0] if k not in ("method", "seed", "epochs", "seconds")]
    table = summary_table(records, "method", values=scores)
    times = summary_table(records, "method", values=["epochs", "seconds"], digits=0)
    table = table.merge(times, on="method", sort=False)
    paragraphs = [" ".join(part.split()) for part in str(__doc__).split("\n\n")]
    notes = [part for part in paragraphs if part.lower().startswith(f"{name}:")]
    if name == "wikipedia":
        elsewhere = pd.DataFrame(
            [
                {
                    "method": f"{method}, measured elsewhere",
                    "image to text": there,
                    "text to image": back,
                    "mean": round((there + back) / 2, 3),
                }
                for method, (there, back) in PUBLISHED.items()
            ]
        )
        table = pd.concat([elsewhere, table])
    tables = {"Means and standard deviations over seeds": table}
    title = f"Retrieval across modalities: {name}"
    write_tables(f"retrieval_{name}", title, tables, notes=notes, folder=folder)


if __name__ == "__main__":
    main()
