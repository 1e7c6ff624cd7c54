"""A fit through the estimator beside a bare loop around the same module: what the rest costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import Record
from _networks import PLANTED, Task, make_split, make_task
from torch import Tensor
from tqdm import tqdm

from skmmg import MultiModalGraphClassifier
from skmmg.models import GCN, HGNNIMA, HGT, ModelSpec
from skmmg.training import OPTIMIZERS, ClassificationLoss

LR, WEIGHT_DECAY = 3e-3, 5e-3
# fitted with skmmg's defaults, on networks of `make_split`
FITTED: list[tuple[str, str, Callable[[], ModelSpec]]] = [
    ("IMDB", "HGNN-IMA", HGNNIMA),
    ("IMDB", "HGNN-IMA, no attention loss", lambda: HGNNIMA(att_loss_weight=0.0)),
    ("IMDB", "HGT", HGT),
    (PLANTED, "HGNN-IMA", HGNNIMA),
    (PLANTED, "HGT", HGT),
    (PLANTED, "GCN", GCN),
]


def fit_estimator(
    network: str, folder: str | None, spec: ModelSpec, n_epochs: int
) -> tuple[float, list[float]]:
    """Seconds of a fit on a network that no tensors were made of, and its validation losses."""
    X, y, train, val = make_split(network, folder)
    clf = MultiModalGraphClassifier(
        spec,
        max_epochs=n_epochs,
        n_iter_no_change=n_epochs,
        lr=LR,
        weight_decay=WEIGHT_DECAY,
        random_state=0,
        device="cpu",
    )
    start = time.process_time()
    clf.fit(X[train], y[train], X_val=X[val], y_val=y[val])
    return time.process_time() - start, [row["valid_loss"] for row in clf.history_]


def fit_bare(
    network: str, folder: str | None, spec: ModelSpec, n_epochs: int
) -> tuple[float, list[float]]:
    """The same in a loop that has its tensors: train, watch, keep the best weights."""
    task = make_task(network, folder)
    start = time.process_time()
    losses = run_loop(task, spec, n_epochs)
    return time.process_time() - start, losses


def run_loop(task: Task, spec: ModelSpec, n_epochs: int) -> list[float]:
    """Train, and return the validation losses."""
    torch.manual_seed(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    module = spec.build(task.view.schema, task.n_classes)
    optimizer = OPTIMIZERS["adamw"](module.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    criterion = ClassificationLoss()
    train = _as_tensors(task.view.ids, task.y)
    watched = _as_tensors(task.validation.ids, task.y_validation)
    losses: list[float] = []
    best: dict[str, Any] = {}
    for _ in range(n_epochs):
        ids, y, weight = train
        loss, _ = criterion(module.train()(task.tensors, ids), y, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ids, y, weight = watched
        with torch.no_grad():
            output = module.eval()(task.tensors, ids)
            loss, _ = criterion(output, y, weight)
            float((output.logits.argmax(1) == y).float().mean())
        if not losses or float(loss) < min(losses):
            best = deepcopy(module.state_dict())
        losses.append(float(loss))
    module.load_state_dict(best)
    return losses


def _as_tensors(ids: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    return torch.tensor(ids), torch.tensor(y), torch.ones(len(y))


def compare_fits(folder: str | None, n_epochs: int, n_rounds: int) -> list[Record]:
    """Seconds of both, taking turns, and the median of the rounds' ratios."""
    records = []
    for network, name, make_spec in FITTED:
        rows = []
        for _ in tqdm(range(n_rounds), unit="round", desc=f"{network}, {name}"):
            fitted, losses = fit_estimator(network, folder, make_spec(), n_epochs)
            bare, expected = fit_bare(network, folder, make_spec(), n_epochs)
            np.testing.assert_array_equal(losses, expected)  # it is the same work
            rows.append({"fit": fitted, "bare": bare})
        seconds = pd.DataFrame(rows)
        ratio = seconds["fit"] / seconds["bare"]
        records.append(
            {
                "network": network,
                "model": name,
                "fit (s)": f"{seconds['fit'].median():.2f}",
                "bare loop (s)": f"{seconds['bare'].median():.2f}",
                "an epoch of it (ms)": f"{1e3 * seconds['bare'].median() / n_epochs:.0f}",
                "fit / bare loop": f"{ratio.median():.2f}",
                "smallest and largest ratio": f"{ratio.min():.2f} - {ratio.max():.2f}",
            }
        )
    return records
