"""Models on the IMDB network: which one classifies its movies best, and what the graph adds.

    python benchmarks/bench_imdb.py --data FOLDER [--seeds 5] [--jobs 2] [--quick] [--models ...]

Two splits: the one that MHGAT's authors published, with five seeds of the model, and a grouped
stratified 20/10/70 split, another one for every seed. Modalities: keywords, overview, poster. Every
network gets the same features, the same training settings and the same validation nodes; logistic
regression gets the features before they are reduced, as it does better on them, and its C is
chosen on the validation nodes. The presets "paper" and "released" are trained as their sources say;
"best accuracy" keeps the epoch with the best validation accuracy, the other rows the one with the
best validation loss. Each finished run is a line of results/imdb.jsonl, so that the program goes
on where it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from _common import (
    RESULTS,
    compare_both,
    make_parser,
    read_log,
    results_folder,
    run_logged,
    summarise,
    write_tables,
)
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmmg import ModalityTransformer, MultiModalGraphClassifier
from skmmg.datasets import load_imdb
from skmmg.models import HGNNIMA, HGT, MLP

N_COMPONENTS = 256

NOTE = (
    "Means ± standard deviations (n - 1) over seeds. The last columns are the mean macro-F1 minus "
    "that of HGT with the same stopping, and p of the t-test paired by seed and of Welch's. "
    "Seconds of a fit are those of the clock, on a machine that had other work as well; "
    "`bench_speed.py` measures speed."
)
classifier = MultiModalGraphClassifier
# How the paper, and the code that circulates for it, train; both copy what a node lacks.
COPY = {"missing": "copy"}
PAPER = COPY | {"optimizer": "adam", "weight_decay": 0.0, "lr": 1e-3, "n_iter_no_change": 50}
PAPER |= {"early_stopping": "loss_and_accuracy"}
RELEASED = PAPER | {"optimizer": "adamw", "weight_decay": 5e-3, "lr_scheduler": "one_cycle"}
ACCURACY = {"early_stopping": "accuracy"}

NETWORKS: dict[str, Callable[[], MultiModalGraphClassifier]] = {
    "MLP": lambda: classifier(MLP(), **COPY),
    "HGT, early fusion": lambda: classifier(HGT(), fusion="early"),
    "HGT, late fusion": lambda: classifier(HGT(), fusion="late"),
    "HGNN-IMA": lambda: classifier(HGNNIMA()),
    "MLP, best accuracy": lambda: classifier(MLP(), **COPY, **ACCURACY),
    "HGT, early fusion, best accuracy": lambda: classifier(HGT(), fusion="early", **ACCURACY),
    "HGT, late fusion, best accuracy": lambda: classifier(HGT(), fusion="late", **ACCURACY),
    "HGNN-IMA, best accuracy": lambda: classifier(HGNNIMA(), **ACCURACY),
    "HGT, early fusion, missing copied": lambda: classifier(HGT(), fusion="early", **COPY),
    "HGNN-IMA, missing copied": lambda: classifier(HGNNIMA(), **COPY),
    "HGNN-IMA -cross": lambda: classifier(HGNNIMA(cross_modal="none")),
    "HGNN-IMA -adapt": lambda: classifier(HGNNIMA(cross_modal="mean")),
    "HGNN-IMA +inf": lambda: classifier(HGNNIMA(cross_modal="influenced")),
    "HGNN-IMA -nei": lambda: classifier(HGNNIMA(cross_modal="node")),
    "HGNN-IMA -align": lambda: classifier(HGNNIMA(align=False)),
    "HGNN-IMA -Latt": lambda: classifier(HGNNIMA(att_loss_weight=0.0)),
    "HGNN-IMA -Lind": lambda: classifier(HGNNIMA(unimodal_loss_weight=0.0)),
    "HGNN-IMA, preset paper": lambda: classifier(HGNNIMA("paper"), **PAPER),
    "HGNN-IMA, preset released": lambda: classifier(HGNNIMA("released"), **RELEASED),
}
REGRESSIONS: dict[str, tuple[str, ...]] = {
    "logistic regression, keywords": ("keywords",),
    "logistic regression, overview": ("overview",),
    "logistic regression, poster": ("poster",),
    "logistic regression, keywords + overview": ("keywords", "overview"),
    "logistic regression, all three": ("keywords", "overview", "poster"),
}
Split = tuple[np.ndarray, np.ndarray, np.ndarray]


def make_splits(imdb: Any, n_seeds: int) -> Iterator[tuple[str, int, Split]]:
    """Training, validation and test movies by split and seed."""
    for seed in range(n_seeds):
        yield "shipped", seed, (imdb.train_idx, imdb.val_idx, imdb.test_idx)
    for seed in range(n_seeds):
        folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed)
        parts = [test for _, test in folds.split(imdb.target, imdb.target, imdb.groups)]
        split = np.hstack(parts[:2]), parts[2], np.hstack(parts[3:])
        yield "grouped 20/10/70", seed, split


def reduce_features(imdb: Any) -> Any:
    """256 columns per modality, fitted without labels on what every node shows."""

    def text() -> Any:
        return make_pipeline(TfidfTransformer(), TruncatedSVD(N_COMPONENTS, random_state=0))

    poster = make_pipeline(StandardScaler(), PCA(N_COMPONENTS, random_state=0))
    transformer = ModalityTransformer(
        {
            "keywords": text(),
            "overview": TruncatedSVD(N_COMPONENTS, random_state=0),
            "poster": poster,
        }
    )
    return transformer.fit_transform(imdb.graph.nodes("movie"))


def run_network(name: str, X: Any, y: np.ndarray, split: Split, seed: int, quick: bool) -> Any:
    """Train one network and score it on the test movies."""
    train, val, test = split
    clf = NETWORKS[name]().set_params(random_state=seed)
    if quick:
        clf.set_params(max_epochs=3)
    clf.fit(X[train], y[train], X_val=X[val], y_val=y[val])
    scores = {"epochs": clf.n_iter_, "best_epoch": clf.best_epoch_}
    return scores | score(y, clf.predict(X[val]), clf.predict(X[test]), split)


def run_regression(name: str, imdb: Any, split: Split) -> dict[str, Any]:
    """Logistic regression on the raw features, C chosen on the validation movies."""
    train, val, test = split
    y = imdb.target
    X = sp.hstack([raw_block(imdb, m, train) for m in REGRESSIONS[name]], format="csr")
    best: dict[str, Any] = {"val_macro": -1.0}
    for C in 10.0 ** np.arange(-4, 3):
        model = LogisticRegression(C=C, max_iter=2000).fit(X[train], y[train])
        found = score(y, model.predict(X[val]), model.predict(X[test]), split) | {"C": C}
        best = max(best, found, key=lambda row: row["val_macro"])
    return best


def raw_block(imdb: Any, modality: str, train: np.ndarray) -> Any:
    """A modality's features; what a movie lacks is a row of zeros, the mean of the poster."""
    x = imdb.graph.x["movie"][modality]
    if modality == "keywords":
        return TfidfTransformer().fit(x).transform(x)
    if modality == "overview":
        return sp.csr_array(x)
    scaled = StandardScaler().fit(x[train]).transform(x)
    return sp.csr_array(np.nan_to_num(scaled, nan=0.0) / np.sqrt(x.shape[1]))


def score(y: np.ndarray, on_val: np.ndarray, on_test: np.ndarray, split: Split) -> dict[str, float]:
    """Micro- and macro-F1 on the test movies, macro-F1 on the validation movies."""
    _, val, test = split
    return {
        "micro": f1_score(y[test], on_test, average="micro"),
        "macro": f1_score(y[test], on_test, average="macro"),
        "val_macro": f1_score(y[val], on_val, average="macro"),
    }


def run(task: tuple[str, int, Split, str], imdb: Any, X: Any, quick: bool) -> dict[str, Any]:
    """One row of the log."""
    split_name, seed, split, name = task
    torch.set_num_threads(1)
    start = time.perf_counter()
    if name in REGRESSIONS:
        scores = run_regression(name, imdb, split)
    else:
        scores = run_network(name, X, imdb.target, split, seed, quick)
    seconds = time.perf_counter() - start
    return {"split": split_name, "seed": seed, "model": name, "seconds": seconds} | scores


def tabulate(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of every model on one split, with the t-tests against HGT."""
    lines = []
    for name in [*REGRESSIONS, *NETWORKS]:
        mine = rows[rows.model == name].sort_values("seed")
        if len(mine):
            lines.append(table_row(name, mine, rows))
    return pd.DataFrame(lines)


def table_row(name: str, mine: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Any]:
    """One row of the table."""
    line: dict[str, Any] = {"model": name, "seeds": len(mine)}
    columns = {"micro": "micro-F1", "macro": "macro-F1", "val_macro": "validation macro-F1"}
    for column, label in columns.items():
        line[label] = summarise(mine[column], digits=4)
    epochs = mine["epochs"].mean() if "epochs" in mine else np.nan
    line["epochs"] = "" if np.isnan(epochs) else f"{epochs:.0f}"
    line["seconds"] = f"{mine['seconds'].mean():.0f}"
    rule = ", best accuracy" if name.endswith("best accuracy") else ""
    for fusion in ("early", "late"):
        other = rows[rows.model == f"HGT, {fusion} fusion{rule}"].sort_values("seed")
        comparable = name.startswith("HGNN-IMA") and len(other) == len(mine) > 1
        line[f"minus HGT {fusion}"] = (
            compare_both(mine.macro.tolist(), other.macro.tolist(), 4) if comparable else ""
        )
    return line


def main() -> None:
    """Run what is not in the log yet, then print and write the tables."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="*", help="rows to run; all of them by default")
    args = parser.parse_args()
    if args.data is None:
        print("bench_imdb.py: nothing done, it needs the IMDB network: --data FOLDER")
        return
    imdb = load_imdb(args.data)
    X = reduce_features(imdb)
    log_file = RESULTS / "imdb.jsonl"
    log = [] if args.quick else read_log(log_file)
    done = {(row["split"], row["seed"], row["model"]) for row in log}
    names = args.models or [*REGRESSIONS, *NETWORKS]
    splits = list(make_splits(imdb, args.seeds))
    tasks = [(*s, name) for s in splits for name in names if (s[0], s[1], name) not in done]
    runs = joblib.Parallel(args.jobs, return_as="generator")(
        joblib.delayed(run)(task, imdb, X, args.quick) for task in tasks
    )
    log = run_logged(runs, len(tasks), log, None if args.quick else log_file)
    by_split = pd.DataFrame(log).groupby("split", sort=False)
    tables = {f"Split: {split}": tabulate(rows) for split, rows in by_split}
    title = "IMDB: keywords, overview, poster"
    write_tables("imdb", title, tables, notes=[NOTE], folder=results_folder(args.quick))


if __name__ == "__main__":
    main()
