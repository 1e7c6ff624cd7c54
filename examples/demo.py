"""The main job of skmmg in two minutes: cross-validate five models, print a table, draw a figure.

    python examples/demo.py                   handwritten digits in six modalities, bundled
    python examples/demo.py --data FOLDER     films with their directors and actors (see load_imdb)

Digits: 450 of the 2000 rows in three folds; the graph models link the rows that look alike.
Films: the network and the split that MHGAT's authors published (855 films to train on, 855 to stop
on, 2568 to test), keywords, overview and poster reduced to 128 columns each. Both: 60 epochs at
most, so that it takes less than two minutes on two cores; the benchmarks train longer, with five
seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from skmmg import ModalityTransformer, MultiModalGraphClassifier, stack_modalities
from skmmg.datasets import load_imdb, load_mfeat

MODELS = {  # name in the table: model, fusion
    "MLP": ("mlp", "early"),
    "HGT early": ("hgt", "early"),
    "HGT late": ("hgt", "late"),
    "HGNN-IMA": ("hgnn_ima", None),
}
SCORES = {"f1_micro": "micro-F1", "f1_macro": "macro-F1"}


@dataclass
class Task:
    """What is classified, how it is split, and what the graph models are told."""

    name: str
    X: Any  # rows, or nodes of a network
    columns: np.ndarray  # the same samples as plain columns, for the logistic regression
    y: np.ndarray
    splits: Sequence[tuple[np.ndarray, np.ndarray]]
    settings: dict[str, Any]
    fit_params: dict[str, Any] = field(default_factory=dict)


def digits() -> Task:
    """Rows with six modalities; three folds."""
    mfeat = load_mfeat()
    X, _, y, _ = train_test_split(
        mfeat.data, mfeat.target, train_size=450, stratify=mfeat.target, random_state=0
    )
    splits = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    settings = {"modalities": mfeat.columns, "lr": 5e-3, "max_epochs": 60, "n_iter_no_change": 20}
    return Task("digits", X, X, y, splits, settings)


def films(folder: str) -> Task:
    """Nodes of the IMDB network; one split."""
    imdb = load_imdb(folder, modalities=("keywords", "overview", "poster"))
    reduce = ModalityTransformer(
        {
            "keywords": make_pipeline(TfidfTransformer(), TruncatedSVD(128, random_state=0)),
            "overview": TruncatedSVD(128, random_state=0),
            "poster": make_pipeline(StandardScaler(), PCA(128, random_state=0)),
        }
    )
    X, y = reduce.fit_transform(imdb.graph.nodes("movie")), imdb.target
    columns, _ = stack_modalities(X.graph.x["movie"])
    settings = {"lr": 3e-3, "max_epochs": 60, "n_iter_no_change": 20}
    validation = {"X_val": X[imdb.val_idx], "y_val": y[imdb.val_idx]}
    return Task("films", X, columns, y, [(imdb.train_idx, imdb.test_idx)], settings, validation)


def score(task: Task, model: str, split: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """One row of the results: a model on a fold."""
    classifier: Any
    if model in MODELS:
        name, fusion = MODELS[model]
        classifier = MultiModalGraphClassifier(name, fusion=fusion, random_state=0, **task.settings)
        X, params = task.X, task.fit_params
    else:
        steps = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))
        classifier = GridSearchCV(steps, {"logisticregression__C": [1e-3, 1e-2, 1e-1]}, cv=3)
        X, params = task.columns, {}
    result = cross_validate(
        classifier, X, task.y, cv=[split], scoring=list(SCORES), params=params, error_score="raise"
    )
    scores = {label: result[f"test_{name}"][0] for name, label in SCORES.items()}
    return {"model": model, **scores, "seconds": result["fit_time"][0]}


def draw(results: pd.DataFrame, task: Task, path: str) -> None:
    """Macro-F1 of every model, a dot per fold."""
    means = results.groupby("model", sort=False)["macro-F1"].mean()[::-1]
    fig, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
    ax.plot(means, means.index, "|", markersize=18, color="black")
    ax.plot(results["macro-F1"], results["model"], "o", alpha=0.6)
    ax.set(xlabel="macro-F1", title=f"{task.name}: {len(task.splits)} fold(s)")
    ax.margins(y=0.15)
    ax.grid(axis="x", alpha=0.3)
    fig.savefig(path, dpi=150)


def main() -> None:
    """Run every model on every fold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="FOLDER", help="folder of the IMDB network")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    args = parser.parse_args()
    mpl.use("agg")

    task = films(args.data) if args.data else digits()
    names = ["logistic regression", *MODELS]
    jobs = [delayed(score)(task, name, split) for name in names for split in task.splits]
    rows = Parallel(args.jobs, return_as="generator")(jobs)
    results = pd.DataFrame(tqdm(rows, total=len(jobs), desc=task.name, unit="fit"))

    table = results.groupby("model", sort=False).mean()
    print(table.to_string(formatters=[*["{:.3f}".format] * 2, "{:.1f}".format]))
    figure = f"demo_{task.name}.png"
    draw(results, task, figure)
    print(f"figure: {figure}")


if __name__ == "__main__":
    main()
