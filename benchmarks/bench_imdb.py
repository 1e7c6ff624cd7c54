"""Which model classifies the movies of the IMDB network best, and is it the graph?

    python benchmarks/bench_imdb.py --data FOLDER [--seeds 5] [--jobs 2] [--quick]

Two splits: the one that MHGAT's authors published, with five seeds of the model, and a grouped
stratified 20/10/70 split, another one for every seed. Modalities: keywords, overview, poster. Every
network gets the same features, the same training settings and the same validation nodes; logistic
regression gets the features before they are reduced, as it does better on them, and its C is
chosen on the validation nodes. Each finished run is a line of results/imdb.jsonl, so that the program
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scipy import stats
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from _common import describe_environment
from skmmg import ModalityTransformer, MultiModalGraphClassifier
from skmmg.datasets import load_imdb
from skmmg.models import HGNNIMA, HGT, MLP

RESULTS = Path(__file__).parent / "results"
TEXT = {"keywords", "overview"}
N_COMPONENTS = 256

# training settings of the code that circulates for HGNN-IMA
RELEASED = {"optimizer": "adamw", "weight_decay": 5e-3, "lr_scheduler": "one_cycle"}
PAPER = {"optimizer": "adam", "weight_decay": 0.0}

NETWORKS: dict[str, Callable[[], MultiModalGraphClassifier]] = {
    "MLP": lambda: MultiModalGraphClassifier(MLP()),
    "HGT, early fusion": lambda: MultiModalGraphClassifier(HGT(), fusion="early"),
    "HGT, late fusion": lambda: MultiModalGraphClassifier(HGT(), fusion="late"),
    "HGNN-IMA": lambda: MultiModalGraphClassifier(HGNNIMA()),
    "HGNN-IMA, preset paper": lambda: MultiModalGraphClassifier(HGNNIMA("paper"), **PAPER),
    "HGNN-IMA, preset released": lambda: MultiModalGraphClassifier(HGNNIMA("released"), **RELEASED),
    "HGNN-IMA -cross": lambda: MultiModalGraphClassifier(HGNNIMA(cross_modal="none")),
    "HGNN-IMA -adapt": lambda: MultiModalGraphClassifier(HGNNIMA(cross_modal="mean")),
    "HGNN-IMA +inf": lambda: MultiModalGraphClassifier(HGNNIMA(cross_modal="influenced")),
    "HGNN-IMA -nei": lambda: MultiModalGraphClassifier(HGNNIMA(cross_modal="node")),
    "HGNN-IMA -align": lambda: MultiModalGraphClassifier(HGNNIMA(align=False)),
    "HGNN-IMA -Latt": lambda: MultiModalGraphClassifier(HGNNIMA(att_loss_weight=0.0)),
    "HGNN-IMA -Lind": lambda: MultiModalGraphClassifier(HGNNIMA(unimodal_loss=False)),
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
        {"keywords": text(), "overview": TruncatedSVD(N_COMPONENTS, random_state=0),
         "poster": poster}
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


def tabulate(log: pd.DataFrame) -> str:
    """Mean and standard deviation by split and model, with the t-tests against HGT."""
    lines = []
    for split, rows in log.groupby("split", sort=False):
        lines += [f"## Split: {split}", "", HEAD, "|---|---|---|---|---|---|---|"]
        for name in [*REGRESSIONS, *NETWORKS]:
            mine = rows[rows.model == name].sort_values("seed")
            if len(mine):
                lines.append(table_row(name, mine, rows))
        lines.append("")
    return "\n".join(lines)


HEAD = "| model | micro-F1 | macro-F1 | validation macro-F1 | epochs | seconds | t-tests of macro-F1 against HGT early; late: paired by seed, Welch (p) |"  # noqa: E501


def table_row(name: str, mine: pd.DataFrame, rows: pd.DataFrame) -> str:
    """One row of the table."""
    cells = [name]
    for column in ("micro", "macro", "val_macro"):
        cells.append(f"{mine[column].mean():.4f} ± {mine[column].std(ddof=1):.4f}")
    epochs = mine["epochs"].mean() if "epochs" in mine else np.nan
    cells += ["" if np.isnan(epochs) else f"{epochs:.0f}", f"{mine['seconds'].mean():.0f}"]
    cells.append("; ".join(t_tests(name, mine, rows)))
    return "| " + " | ".join(cells) + " |"


def t_tests(name: str, mine: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    """p-values of the paired and of Welch's t-test against both forms of HGT."""
    if not name.startswith("HGNN-IMA"):
        return
    for other_name in ("HGT, early fusion", "HGT, late fusion"):
        other = rows[rows.model == other_name].sort_values("seed")
        if len(other) == len(mine) > 1:
            paired = stats.ttest_rel(mine.macro, other.macro).pvalue
            welch = stats.ttest_ind(mine.macro, other.macro, equal_var=False).pvalue
            yield f"{mine.macro.mean() - other.macro.mean():+.4f} ({paired:.3f}, {welch:.3f})"


def main() -> None:
    """Run what is not in the log yet, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the IMDB network")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--models", nargs="*", help="rows to run (default: all)")
    parser.add_argument("--quick", action="store_true", help="three epochs, nothing is kept")
    args = parser.parse_args()
    imdb = load_imdb(args.data)
    X = reduce_features(imdb)
    log_file = RESULTS / "imdb.jsonl"
    log = [] if args.quick else read_log(log_file)
    done = {(row["split"], row["seed"], row["model"]) for row in log}
    names = args.models or [*REGRESSIONS, *NETWORKS]
    splits = list(make_splits(imdb, args.seeds))
    tasks = [(*s, name) for name in names for s in splits if (s[0], s[1], name) not in done]
    runs = joblib.Parallel(args.jobs, return_as="generator")(
        joblib.delayed(run)(task, imdb, X, args.quick) for task in tasks
    )
    for row in tqdm(runs, total=len(tasks), desc="runs"):
        log.append(row)
        if not args.quick:
            with log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    report = tabulate(pd.DataFrame(log))
    print(report)
    if not args.quick:
        head = f"# IMDB: {', '.join(imdb.graph.x['movie'])}\n\n{describe_environment()}\n\n"
        (RESULTS / "imdb.md").write_text(head + report, encoding="utf-8")


def read_log(file: Path) -> list[dict[str, Any]]:
    """Runs of an earlier call."""
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
