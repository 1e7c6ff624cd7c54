"""Planted networks: which model finds what, and how far is it from the best possible accuracy.

HGNN-IMA against HGT (early and late fusion) and an MLP without edges, on networks made by
`make_multimodal_graph`: where the informative modality differs from node to node, where modalities
are missing, by row or by node type, and where they are misaligned. For every model the same
networks, the same split (40 % of the items to train on, 10 % to stop on, 50 % to test), the same
width, depth, dropout and learning rate, the same budget of epochs, and the same early stopping.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from _common import (
    Record,
    compare,
    make_parser,
    results_folder,
    run_jobs,
    summarise,
    summary_table,
    write_results,
)
from matplotlib import pyplot as plt
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from skmmg import MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph

MODELS: dict[str, dict[str, Any]] = {
    # without edges, so not with the neighbours' mean, the default, where a row is missing
    "MLP": {"model": "mlp", "fusion": "early", "missing": "copy"},
    "HGT early": {"model": "hgt", "fusion": "early"},
    "HGT late": {"model": "hgt", "fusion": "late"},
    "HGNN-IMA": {"model": "hgnn_ima"},
    "HGNN-IMA -Lind": {"model": "hgnn_ima", "model__unimodal_loss_weight": 0.0},
}
RIVALS = ["MLP", "HGT early", "HGT late"]
N_SAMPLES, N_SEEDS = 1000, 20
TRAINING = {"lr": 0.01, "max_epochs": 200}
SIZE = {"model__hidden_channels": 32, "model__heads": 4}

# Every item has neighbours of its own. Of shared ones a model can learn by heart for which class
# they stand, and need not find out whom of them to believe; and the Bayes accuracy is exact.
OWN = {"n_attributes": "own"}
PER_NODE = OWN | {"informative": "per_node", "signal": 3.0}
CURVE = {  # setting: share of the rows that are missing, in each modality
    "one modality tells, another for each node": 0.0,
    **{f"the same, {share:.0%} of the rows missing": share for share in (0.25, 0.5, 0.75)},
}
EVERYWHERE = {f"the same, {s:.0%} of the neighbours' rows missing too": s for s in (0.25, 0.5)}
LEFT_EMPTY = {f'{name}, missing="learned"': share for name, share in EVERYWHERE.items()}
SETTINGS: dict[str, dict[str, Any]] = {
    "both modalities tell": OWN | {"informative": "all", "signal": 2.0},
    **{name: PER_NODE | {"missing": share} for name, share in CURVE.items()},
    **{
        name: PER_NODE | {"missing": share, "missing_attributes": share}
        for name, share in (EVERYWHERE | LEFT_EMPTY).items()
    },
    "the same, one modality missing by node type": PER_NODE
    | {
        "attributes": 2,
        "n_neighbors": 2,
        "missing_types": {"attribute_0": "modality_1", "attribute_1": "modality_0"},
    },
    "the same, seen one hop away": PER_NODE | {"signal": 4.0, "hops": 1, "n_neighbors": 5},
    "the same, seen two hops away": {
        "informative": "per_node",
        "signal": 4.0,
        "hops": 2,
        "n_neighbors": 5,
    },
    "both tell, 40% of the nodes misaligned": OWN
    | {"informative": "all", "signal": 3.0, "misaligned": 0.4},
    "both tell one hop away, 60% of the neighbours misaligned": OWN
    | {
        "informative": "all",
        "signal": 4.0,
        "hops": 1,
        "n_neighbors": 6,
        "misaligned": {"attribute_0": 0.6},
    },
}
NOTES = (
    f"{N_SAMPLES} items of 3 classes, 2 modalities of 16 features, 3 neighbours of its own for "
    "each item (as a product has its reviews) if not said otherwise, homophily 0.8; 40/10/50 "
    f"split; mean and standard deviation over {N_SEEDS} seeds, each with a network, a split and "
    "initial weights of its own. All models: 32 hidden channels, 4 heads, 2 layers where the "
    "label is two hops away and 1 elsewhere, learning rate 0.01, at most 200 epochs, and "
    "otherwise skmmg's defaults, but that the MLP copies what is missing and never looks at a "
    "neighbour, and that a vector that is learnt stands for a missing row where this is said. "
    "*Bayes* is what the classifier reaches that knows how the "
    'network was made; with "≤" it also knows the classes of the neighbours, which a model '
    "has to infer. The last column is the mean difference between HGNN-IMA and the best of "
    "HGT and MLP, and p of a paired t-test."
)


def split(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stratified 40/10/50."""
    rest, test = train_test_split(np.arange(len(y)), test_size=0.5, stratify=y, random_state=seed)
    train, val = train_test_split(rest, test_size=0.2, stratify=y[rest], random_state=seed)
    return train, val, test


def make_classifier(
    model: str, setting: str, seed: int, max_epochs: int
) -> MultiModalGraphClassifier:
    """A model with the settings that all share."""
    clf = MultiModalGraphClassifier(random_state=seed, **TRAINING | {"max_epochs": max_epochs})
    if setting in LEFT_EMPTY:
        clf.set_params(missing="learned")
    clf.set_params(**MODELS[model])
    known = clf.get_params()
    size = SIZE | {"model__num_layers": max(1, SETTINGS[setting].get("hops", 0))}
    return clf.set_params(**{key: value for key, value in size.items() if key in known})


def fit_one(model: str, setting: str, seed: int, n_samples: int, max_epochs: int) -> Record:
    """Scores of a model on the test items of a network, and the bound for these items."""
    planted = make_multimodal_graph(n_samples, random_state=seed, **SETTINGS[setting])
    X, y = planted.graph.nodes(planted.node_type), planted.target
    train, val, test = split(y, seed)
    clf = make_classifier(model, setting, seed, max_epochs)
    start = time.perf_counter()
    clf.fit(X[train], y[train], X_val=X[val], y_val=y[val])
    seconds = time.perf_counter() - start
    predicted = clf.predict(X[test])
    return {
        "accuracy": float((predicted == y[test]).mean()),
        "macro_f1": float(f1_score(y[test], predicted, average="macro")),
        "bayes_accuracy": float(planted.bayes_proba[test].max(axis=1).mean()),
        "bayes_kind": planted.bayes_kind,
        "seconds": seconds,
        "epochs": clf.n_iter_,
    }


def make_tasks(quick: bool, n_seeds: int) -> list[dict[str, Any]]:
    """All fits."""
    n_samples, max_epochs = (150, 5) if quick else (N_SAMPLES, TRAINING["max_epochs"])
    return [
        {
            "setting": setting,
            "model": model,
            "seed": seed,
            "n_samples": n_samples,
            "max_epochs": max_epochs,
        }
        for setting in SETTINGS
        for model in MODELS
        for seed in range(2 if quick else n_seeds)
    ]


def settings_table(records: list[Record]) -> pd.DataFrame:
    """A row per setting, a column per model, the bound, and HGNN-IMA against the next best."""
    table = summary_table(records, "setting", "model").set_index("setting")
    frame = pd.DataFrame(records)
    for setting, rows in frame.groupby("setting", sort=False):
        by_model = rows.pivot_table("accuracy", "seed", "model")
        ours, others = by_model["HGNN-IMA"], by_model[RIVALS]
        best = others.mean().idxmax()
        bound = rows.drop_duplicates("seed")
        sign = "≤ " if bound["bayes_kind"].iloc[0] == "upper_bound" else ""
        table.loc[setting, "Bayes"] = sign + summarise(bound["bayes_accuracy"])
        table.loc[setting, "HGNN-IMA − best rival"] = (
            f"{compare(ours.tolist(), others[best].tolist())}, {best}"
        )
    return table.reset_index()


def draw(records: list[Record], path: Path) -> None:
    """Accuracy against the share of missing rows: mean and standard deviation over the seeds."""
    frame = pd.DataFrame([r | {"share": CURVE[r["setting"]]} for r in records])
    fig, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for i, (model, rows) in enumerate(frame.groupby("model", sort=False)):
        by_share = rows.groupby("share")["accuracy"].agg(["mean", "std"])
        shifted = by_share.index + 0.005 * (i - 2)  # bars side by side
        ax.errorbar(shifted, by_share["mean"], by_share["std"], marker="o", capsize=3, label=model)
    bound = frame.groupby("share")["bayes_accuracy"].mean()
    ax.plot(bound, "k--", label="Bayes")
    ax.set(
        xlabel="share of missing rows, in each modality",
        ylabel="accuracy on test items",
        xticks=list(CURVE.values()),
        title="One of two modalities tells the class, another for each node",
    )
    ax.grid(alpha=0.3)
    fig.legend(loc="outside lower center", ncols=3)
    fig.savefig(path, dpi=150)


def main() -> None:
    """Fit all, print, write, draw."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=N_SEEDS, help=f"seeds (default: {N_SEEDS})")
    args = parser.parse_args()
    mpl.use("agg")
    records = run_jobs(fit_one, make_tasks(args.quick, args.seeds), args.jobs)
    costs = summary_table(records, "model", values=["seconds", "epochs"], digits=1)
    target = write_results(
        "planted",
        "Planted networks",
        {"Accuracy on the test items": settings_table(records), "Cost of a fit": costs},
        records,
        notes=[NOTES],
        settings={"training": TRAINING, "size": SIZE, "settings": SETTINGS},
        folder=results_folder(args.quick or args.seeds < N_SEEDS),
    )
    draw([r for r in records if r["setting"] in CURVE], target.with_suffix(".png"))


if __name__ == "__main__":
    main()
