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
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import (
    SEEDS,
    Record,
    make_parser,
    results_folder,
    run_jobs,
    summary_table,
    write_results,
)
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmmg import CrossModalRetriever, ModalityTransformer
from skmmg.datasets import load_imdb, load_wikipedia
from skmmg.metrics import make_retrieval_scorer

# measured with scikit-learn, see the README of the data
PUBLISHED = {"CCA": (0.263, 0.214), "semantic matching": (0.294, 0.217), "SCM": (0.298, 0.222)}
MM_GCN = {"model__num_layers": 1, "model__self_weight": 10.0}
# model, whether it gets classes, parameters
WIKIPEDIA: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "cca": ("cca", False, {}),
    "semantic": ("semantic", True, {}),
    "dual_mlp, pairs": ("dual_mlp", False, {}),
    "mm_gcn, pairs": ("mm_gcn", False, MM_GCN),
    "mm_gcn, pairs, no neighbours": ("mm_gcn", False, MM_GCN | {"attach": "none"}),
    "dual_mlp, classes": ("dual_mlp", True, {}),
    "mm_gcn, classes": ("mm_gcn", True, MM_GCN),
    "mm_gcn, classes, no neighbours": ("mm_gcn", True, MM_GCN | {"attach": "none"}),
}
IMDB: dict[str, tuple[str, bool, dict[str, Any]]] = {
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


def run_wikipedia(folder: str, method: str, seed: int, quick: bool) -> Record:
    """One fit on the training items; both directions on the test items."""
    data = load_wikipedia(folder)
    model, supervised, params = WIKIPEDIA[method]
    retriever = _make(model, params, quick, seed, modalities=data.columns)
    X, y, start = data.data, data.target, time.perf_counter()
    retriever.fit(X[data.train], y[data.train] if supervised else None)
    seconds = time.perf_counter() - start
    there, back = (
        make_retrieval_scorer("mean_average_precision", k=None, query=query, gallery=gallery)(
            retriever, X[data.test], y[data.test]
        )
        for query, gallery in (("image", "text"), ("text", "image"))
    )
    return {
        "image to text": there,
        "text to image": back,
        "mean": (there + back) / 2,
        "epochs": getattr(retriever, "n_iter_", 0),
        "seconds": seconds,
    }


def run_imdb(folder: str, method: str, seed: int, quick: bool) -> Record:
    """One fit on the movies to train and validate on; both directions among the test movies."""
    imdb = load_imdb(folder, ["overview", "poster"])
    model, supervised, params = IMDB[method]
    X, y = _reduce(imdb), imdb.target
    seen = np.concatenate([imdb.train_idx, imdb.val_idx])
    both = X.present("overview") & X.present("poster")
    test = imdb.test_idx[both[imdb.test_idx]]
    retriever = _make(model, params, quick, seed, query="poster", gallery="overview")
    start = time.perf_counter()
    retriever.fit(X[seen], y[seen] if supervised else None)
    record: Record = {"epochs": getattr(retriever, "n_iter_", 0)}
    record["seconds"] = time.perf_counter() - start
    for name, query, gallery in (("p>o", "poster", "overview"), ("o>p", "overview", "poster")):
        for k in KS:
            recall = make_retrieval_scorer("recall_at_k", k=k, query=query, gallery=gallery)
            record[f"{name} R@{k}"] = recall(retriever, X[test])
        rank = make_retrieval_scorer("median_rank", k=None, query=query, gallery=gallery)
        precision = make_retrieval_scorer(
            "mean_average_precision", k=None, query=query, gallery=gallery
        )
        record[f"{name} rank"] = -rank(retriever, X[test])
        record[f"{name} mAP"] = precision(retriever, X[test], y[test])
    return record


def _make(
    model: str, params: dict[str, Any], quick: bool, seed: int, **more: Any
) -> CrossModalRetriever:
    retriever = CrossModalRetriever(
        model=model, random_state=seed, max_epochs=2 if quick else 200, **more
    )
    return retriever.set_params(**params)


def _reduce(imdb: Any) -> Any:
    """256 columns per modality, fitted without labels."""
    poster = make_pipeline(StandardScaler(), PCA(256, random_state=0))
    text = TruncatedSVD(256, random_state=0)
    return ModalityTransformer({"overview": text, "poster": poster}).fit_transform(
        imdb.graph.nodes("movie")
    )


def main() -> None:
    """Run what has its data, and write tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=["wikipedia", "imdb"], help="one of the data sets")
    args = parser.parse_args()
    if args.data is None:
        print("bench_retrieval.py: nothing done, it needs the data: --data FOLDER")
        return
    sets = {"wikipedia": (run_wikipedia, WIKIPEDIA), "imdb": (run_imdb, IMDB)}
    for name, (function, methods) in sets.items():
        folder = next(
            (f for f in (Path(args.data) / name, Path(args.data).parent / name) if f.is_dir()), None
        )
        if folder is None or args.only not in (None, name):
            continue
        seeds = SEEDS[:1] if args.quick else SEEDS
        tasks = [
            {"folder": str(folder), "method": method, "seed": seed, "quick": args.quick}
            for method in methods
            for seed in (seeds[:1] if methods[method][0] in ("cca", "semantic") else seeds)
        ]
        records = run_jobs(function, tasks, args.jobs)
        for record in records:
            record.pop("folder")
        report(name, records, results_folder(args.quick))


def report(name: str, records: list[Record], folder: Path) -> None:
    """Write the table of one data set."""
    keys = [k for k in records[0] if k not in ("method", "seed", "quick")]
    scores = [k for k in keys if k not in ("epochs", "seconds")]
    table = summary_table(records, "method", values=scores)
    times = summary_table(records, "method", values=["epochs", "seconds"], digits=0)
    table = table.merge(times, on="method", sort=False)
    paragraphs = [" ".join(part.split()) for part in str(__doc__).split("\n\n")]
    notes = [part for part in paragraphs if part.lower().startswith(f"{name}:")]
    if name == "wikipedia":
        chance = pd.DataFrame(
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
        table = pd.concat([chance, table])
    write_results(
        f"retrieval_{name}",
        f"Retrieval across modalities: {name}",
        {"Means and standard deviations over seeds": table},
        records,
        notes=notes,
        folder=folder,
    )


if __name__ == "__main__":
    main()
