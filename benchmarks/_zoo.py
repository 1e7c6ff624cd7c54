"""The models that a report compares, and the settings that each is trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import TPESampler
from sklearn.base import clone
from sklearn.metrics import f1_score

from skmmg import MultiModalGraphClassifier
from skmmg.models import MODELS, get_model
from skmmg.tuning import suggest

# What sources say of model and training; `_report.INTRODUCTION` tells what of it is ours.
_PATIENT = {"max_epochs": 300, "n_iter_no_change": 50, "optimizer": "adam", "weight_decay": 0.0}
_SEED_A = _PATIENT | {"lr": 1e-3, "early_stopping": "loss_and_accuracy", "missing": "copy"}
PUBLISHED: dict[str, dict[str, Any]] = {
    "hgnn_ima": _SEED_A | {"model__preset": "paper"},
    "hgt": _SEED_A | {"model__num_layers": 3, "model__dropout": 0.6, "model__input_dropout": 0.0},
    "han": _PATIENT
    | {"lr": 5e-3, "weight_decay": 1e-3, "max_epochs": 200, "n_iter_no_change": 100},
    "sehgnn": _PATIENT | {"lr": 1e-3, "max_epochs": 200, "early_stopping": "loss"},
    "shgp": _PATIENT
    | {"lr": 5e-3, "weight_decay": 5e-4, "max_epochs": 100, "early_stopping": False}
    | {"model__cluster_ratio": 0.06, "model__warmup_epochs": 50, "model__scale_scores": False},
    "hero": _PATIENT
    | {"lr": 2.5e-3, "optimizer": "adamw", "max_epochs": 500, "n_iter_no_change": 30}
    | {"model__distance_weight": 100.0, "model__uniformity_weight": 10.0},
    "hetgnn": _PATIENT
    | {"lr": 1e-3, "max_epochs": 50}
    | {"model__objective": "link", "model__hidden_channels": 128},
    "mhgat": _PATIENT
    | {"lr": 1e-3, "max_epochs": 100, "n_iter_no_change": 100}
    | {"early_stopping": "loss_and_accuracy", "model__num_layers": 4, "model__mask_empty": False},
    "xgea": _PATIENT
    | {"lr": 5e-3, "weight_decay": 5e-4, "optimizer": "rmsprop"}
    | {"model__hidden_channels": 128, "model__dropout": 0.3},
    "idkg": _PATIENT | {"lr": 1e-3, "max_epochs": 30},
    "gcn": _PATIENT
    | {"lr": 1e-2, "weight_decay": 5e-4, "max_epochs": 200}
    | {"model__hidden_channels": 16, "model__dropout": 0.5},
    "gat": _PATIENT
    | {"lr": 5e-3, "weight_decay": 5e-4, "n_iter_no_change": 100}
    | {"model__hidden_channels": 64, "model__heads": 8, "model__dropout": 0.6}
    | {"model__att_dropout": 0.6, "model__input_dropout": 0.6},
    "sage": _PATIENT | {"lr": 1e-2, "max_epochs": 200},
    "strucgcn": _PATIENT
    | {"lr": 1e-3, "weight_decay": 5e-5, "max_epochs": 1000}
    | {"n_iter_no_change": 400, "early_stopping": "accuracy", "model__hidden_channels": 128},
    "mamsa": _PATIENT | {"lr": 1e-3, "model__hidden_channels": 128, "model__dropout": 0.3},
    "mm_gcn": _PATIENT | {"lr": 1e-3, "max_epochs": 200, "model__dropout": 0.5},
    "mlp": _SEED_A | {"model__dropout": 0.6, "model__input_dropout": 0.0},
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "mhgat": {"mhgat max": {"model__aggr": "max"}, "mhgat sum": {"model__aggr": "sum"}},
    "gat": {"gat v1": {"model__attention": "v1"}, "gat v2": {"model__attention": "v2"}},
}


@dataclass(frozen=True)
class Row:
    """A line of a table: a model, how it merges modalities, and what else makes it this line."""

    name: str
    model: str
    fusion: str | None = None
    params: tuple[tuple[str, Any], ...] = ()

    def classifier(self, settings: str, seed: int, **params: Any) -> MultiModalGraphClassifier:
        """A classifier with "default" settings, or those "published"."""
        clf = MultiModalGraphClassifier(self.model, fusion=self.fusion, random_state=seed)
        published = PUBLISHED.get(self.model, {}) if settings == "published" else {}
        return clf.set_params(**published | dict(self.params) | params)


def fit(
    clf: MultiModalGraphClassifier, X: Any, y: Any, X_val: Any, y_val: Any
) -> MultiModalGraphClassifier:
    """Fit, stopping on the validation samples; a model trained without labels needs none."""
    if get_model(clf.model).self_supervised:
        return clf.fit(X, y)
    return clf.fit(X, y, X_val=X_val, y_val=y_val)


def rows(models: list[str] | None = None) -> list[Row]:
    """Every model of the package, or those named, in every way of fusion."""
    out = []
    for model, spec in MODELS.items():
        if "classification" not in spec.tasks or (models and model not in models):
            continue
        for name, params in VARIANTS.get(model, {model: {}}).items():
            modes = spec.fusion_modes or (None,)
            for fusion in sorted(modes, key=str):
                label = f"{name}, {fusion}" if fusion else name
                out.append(Row(label, model, fusion, tuple(params.items())))
    return out


def tune(
    clf: MultiModalGraphClassifier,
    model: str,
    data: tuple[Any, Any, Any, Any],
    n_trials: int,
    seed: int,
    fixed: set[str],
) -> tuple[MultiModalGraphClassifier, dict[str, Any]]:
    """The fitted classifier with the best macro-F1 on the validation nodes, and its parameters.

    The first trial is the classifier as it is; all models get the same number of trials. The test
    nodes take no part.
    """
    X, y, X_val, y_val = data
    best: dict[str, Any] = {"score": -1.0}

    def objective(trial: optuna.Trial) -> float:
        drawn = {} if trial.number == 0 else suggest(trial, model)
        params = {name: value for name, value in drawn.items() if name not in fixed}
        fitted = fit(clone(clf).set_params(**params), X, y, X_val, y_val)
        score = f1_score(y_val, fitted.predict(X_val), average="macro")
        if score > best["score"]:
            best.update(score=score, clf=fitted, params=params)
        return float(score)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=TPESampler(seed=seed))
    study.optimize(objective, n_trials=n_trials)
    return best["clf"], best["params"]
