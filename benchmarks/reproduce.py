"""The tables and figures of both papers, with every model of the package, out of one command.

    python benchmarks/reproduce.py [--data FOLDER] [--wikipedia FOLDER] [--folders FOLDER ...]
                                   [--experiments ...] [--models ...] [--sets ...] [--seeds 5]
                                   [--tune N] [--jobs 2]

Every finished run is a line of results/reproduce.jsonl, so that the program goes on where it was
stopped and nothing is lost; results/reproduce.md and the figures are written anew from all lines
at the end, or with `--report` alone. Experiments:

- `scores`: paper 1, table 2: all models, early and late fusion, on all data sets. With skmmg's
  defaults, with the settings of the models' own papers ("published"), and, with `--tune N`, the
  best of N trials of Optuna on the validation samples ("tuned"), N being the same for every model.
- `ablations`, `layers`: table 4 and figure 3, HGNN-IMA with its parts off and with 0 to 4 layers.
- `pictures`: t-SNE of the embedding, and attention against the agreement of labels.
- `learning_rates`, `epochs`, `folds`: paper 2, table 1, figures 1 and 2.
- `cost`: parameters, seconds per epoch and peak memory of every model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import joblib
import numpy as np
import torch
from _common import SEEDS, Record, make_parser, read_log, results_folder, run_logged
from _cost import SIZES, measure_cost
from _data_sets import DataSet, Maker, make_data_sets
from _pictures import attention_and_agreement, embedding_map
from _report import write_report
from _zoo import Row, fit, rows, tune
from sklearn.metrics import f1_score, log_loss
from sklearn.model_selection import StratifiedKFold

SECOND_PAPER = ("gcn", "gat", "sage", "strucgcn", "mamsa", "mm_gcn")
LEARNING_RATES = (1e-2, 1e-3, 1e-4, 1e-5)
N_FOLDS = 5
ABLATIONS: dict[str, dict[str, Any]] = {
    "HGNN-IMA": {},
    "-cross": {"model__cross_modal": "none"},
    "-adapt": {"model__cross_modal": "mean"},
    "+inf": {"model__cross_modal": "influenced"},
    "-nei": {"model__cross_modal": "node"},
    "-align": {"model__align": False},
    "-Latt": {"model__att_loss_weight": 0.0},
    "-Lind": {"model__unimodal_loss_weight": 0.0},
}
# what tells one run from another
KEY = ("experiment", "data", "row", "settings", "seed", "fold")


# -------------------------------------------------------------------------------------- the runs
def score(clf: Any, data: DataSet, samples: np.ndarray) -> Record:
    """What a fitted classifier reaches on some samples."""
    X, y = data.X[samples], data.y[samples]
    predicted = clf.predict(X)
    return {
        "micro": float(f1_score(y, predicted, average="micro")),
        "macro": float(f1_score(y, predicted, average="macro")),
    }


def run_scores(row: Row, data: DataSet, settings: str, seed: int, **params: Any) -> Record:
    """Fit on the training samples, stop on the validation samples, score on the test samples."""
    train, val, test = data.split
    method, _, n_trials = settings.partition(" ")
    clf = row.classifier(method, seed, **data.params | params)
    X, y, X_val, y_val = data.X[train], data.y[train], data.X[val], data.y[val]
    chosen: dict[str, Any] = {}
    if method == "tuned":
        fixed = {name for name, _ in row.params}
        given = (X, y, X_val, y_val)
        clf, chosen = tune(clf, row.model, given, int(n_trials), seed, fixed)
    else:
        fit(clf, X, y, X_val, y_val)
    return score(clf, data, test) | {
        "val_macro": score(clf, data, val)["macro"],
        "epochs": clf.n_iter_,
        "n_parameters": sum(w.size for w in clf.weights_.values()),
        "chosen": chosen,
    }


def run_learning_rate(row: Row, data: DataSet, seed: int, lr: float) -> Record:
    """Cross-entropy on the test samples."""
    train, val, test = data.split
    clf = row.classifier("default", seed, lr=lr, max_epochs=200, **data.params)
    fit(clf, data.X[train], data.y[train], data.X[val], data.y[val])
    proba = clf.predict_proba(data.X[test])
    loss = log_loss(data.y[test], proba, labels=clf.classes_)
    return {"cross_entropy": float(loss)} | score(clf, data, test)


def run_epochs(row: Row, data: DataSet, seed: int) -> Record:
    """Accuracy on the validation samples after every epoch."""
    train, val, _ = data.split
    clf = row.classifier("default", seed, max_epochs=100, n_iter_no_change=1000, **data.params)
    fit(clf, data.X[train], data.y[train], data.X[val], data.y[val])
    return {"curve": [round(epoch["valid_acc"], 4) for epoch in clf.history_]}


def run_fold(row: Row, data: DataSet, seed: int, fold: int) -> Record:
    """Score on one fold of a stratified cross-validation."""
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    train, test = list(folds.split(data.y, data.y))[fold]
    clf = row.classifier("default", seed, **data.params).fit(data.X[train], data.y[train])
    return score(clf, data, test)


# ------------------------------------------------------------------------------------- the tasks
Task = dict[str, Any]


def make_tasks(args: Any, names: list[str]) -> Iterator[Task]:
    """Everything that the arguments ask for, seed by seed."""
    wanted = args.experiments or list(TASKS)
    for seed in SEEDS[: args.seeds]:
        for data in names:
            for experiment in wanted:
                for row, more in TASKS[experiment](args, data, seed):
                    yield {"experiment": experiment, "data": data, "row": row, "seed": seed, **more}
    if "cost" in wanted:
        for size in SIZES:
            for row in rows(args.models):
                yield {"experiment": "cost", "data": size, "row": row, "seed": 0}


def score_tasks(args: Any, data: str, seed: int) -> Iterator[tuple[Row, Task]]:
    """Every model with every kind of settings."""
    settings = args.settings + ([f"tuned {args.tune}"] if args.tune else [])
    for row in rows(args.models):
        for how in settings:
            yield row, {"settings": how}


def ablation_tasks(args: Any, data: str, seed: int) -> Iterator[tuple[Row, Task]]:
    """HGNN-IMA without one of its parts."""
    if not args.models or "hgnn_ima" in args.models:
        for label, params in ABLATIONS.items():
            yield Row(label, "hgnn_ima", None, tuple(params.items())), {}


def layer_tasks(args: Any, data: str, seed: int) -> Iterator[tuple[Row, Task]]:
    """HGNN-IMA and HGT with 0 to 4 layers."""
    for row in rows(["hgnn_ima", "hgt"]):
        if not args.models or row.model in args.models:
            for n in range(5):
                deep = replace(row, params=(*row.params, ("model__num_layers", n)))
                yield deep, {"settings": f"{n} layers"}


def picture_tasks(args: Any, data: str, seed: int) -> Iterator[tuple[Row, Task]]:
    """One fit of HGNN-IMA."""
    if seed == 0 and (not args.models or "hgnn_ima" in args.models):
        yield Row("hgnn_ima", "hgnn_ima"), {}


def second_paper(args: Any, data: str) -> list[Row]:
    """The models that the second paper compares; those of one modality with early fusion."""
    names = [name for name in SECOND_PAPER if not args.models or name in args.models]
    if data not in ("mfeat", "wikipedia") or not names:
        return []
    return [row for row in rows(names) if row.fusion != "late" and "v2" not in row.name]


def learning_rate_tasks(args: Any, data: str, seed: int) -> Iterator[tuple[Row, Task]]:
    """Four learning rates."""
    for row in second_paper(args, data):
        for lr in LEARNING_RATES:
            yield row, {"settings": f"lr {lr:g}", "lr": lr}


def epoch_tasks(args: Any, data: str, seed: int) -> Iterator[tuple[Row, Task]]:
    """One curve each."""
    for row in second_paper(args, data):
        yield row, {}


def fold_tasks(args: Any, data: str, seed: int) -> Iterator[tuple[Row, Task]]:
    """Five folds."""
    for row in second_paper(args, data):
        for fold in range(N_FOLDS):
            yield row, {"fold": fold}


TASKS: dict[str, Callable[[Any, str, int], Iterator[tuple[Row, Task]]]] = {
    "scores": score_tasks,
    "ablations": ablation_tasks,
    "layers": layer_tasks,
    "pictures": picture_tasks,
    "learning_rates": learning_rate_tasks,
    "epochs": epoch_tasks,
    "folds": fold_tasks,
    "cost": lambda args, data, seed: iter(()),
}


def run(task: Task, make: Maker | None, quick: bool) -> Record:
    """One line of the log; what goes wrong is a line too, and is tried again by the next call."""
    torch.set_num_threads(1)
    key = task | {"row": task["row"].name}
    start = time.perf_counter()
    try:
        result = dispatch(task, make, {"max_epochs": 2} if quick else {})
    except (ValueError, MemoryError, RuntimeError) as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    return key | result | {"seconds": time.perf_counter() - start}


def dispatch(task: Task, make: Maker | None, params: dict[str, Any]) -> Record:
    """The numbers of one run."""
    row, seed, experiment = task["row"], task["seed"], task["experiment"]
    if make is None:
        return measure_cost(row, task["data"])
    data = make(seed)
    if experiment == "learning_rates":
        return run_learning_rate(row, data, seed, task["lr"])
    if experiment == "epochs":
        return run_epochs(row, data, seed)
    if experiment == "folds":
        return run_fold(row, data, seed, task["fold"])
    if experiment == "pictures":
        return embedding_map(row, data, seed) | attention_and_agreement(row, data, seed)
    settings = task["settings"] if experiment == "scores" else "default"
    return run_scores(row, data, settings, seed, **params)


# --------------------------------------------------------------------------------------- the log
def identity(record: dict[str, Any]) -> tuple[str, ...]:
    """What tells a run from all others."""
    row = record["row"]
    plain = record | {"row": row.name if isinstance(row, Row) else row}
    return tuple(str(plain.get(name)) for name in KEY)


def main() -> None:
    """Run what is not in the log yet; write the report."""
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument("--wikipedia", metavar="FOLDER", help="folder as load_wikipedia takes it")
    parser.add_argument(
        "--folders", metavar="FOLDER", nargs="*", default=[], help="networks as load_folder takes"
    )
    parser.add_argument("--experiments", nargs="*", choices=TASKS, help="all by default")
    parser.add_argument("--models", nargs="*", help="names of models; all by default")
    parser.add_argument("--sets", nargs="*", help="names of data sets; all by default")
    parser.add_argument(
        "--settings", nargs="*", choices=("default", "published"), default=["default", "published"]
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--tune", type=int, default=0, metavar="N", help="trials per model")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    args = parser.parse_args()
    folder = results_folder(args.quick)
    log_file = folder / "reproduce.jsonl"
    log = read_log(log_file)
    if not args.report:
        makers = make_data_sets(args.data, args.wikipedia, args.folders, args.seeds)
        names = [name for name in makers if not args.sets or name in args.sets]
        done = {identity(record) for record in log if "error" not in record}
        tasks = [t for t in make_tasks(args, names) if identity(t) not in done]
        timed = [t for t in tasks if t["experiment"] == "cost"]  # one by one, for the clock's sake
        fits = [t for t in tasks if t["experiment"] != "cost"]
        jobs = (joblib.delayed(run)(t, makers[t["data"]], args.quick) for t in fits)
        runs = chain(
            joblib.Parallel(args.jobs, return_as="generator_unordered")(jobs),
            (run(t, None, args.quick) for t in timed),
        )
        log = run_logged(runs, len(tasks), log, log_file)
    write_report(log, folder)


if __name__ == "__main__":
    main()
