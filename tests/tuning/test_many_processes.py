"""Searches over several processes: the same scores, and no trial is lost with a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from joblib import parallel_config
from numpy.testing import assert_allclose
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sklearn.model_selection import GridSearchCV

from skmmg import MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGT

# What every worker of a study runs, on however many machines; it waits in its second trial if told.
WORKER = """
import sys, time
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.model_selection import cross_val_score
from skmmg import MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGT

path, n_trials, waits = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "waits"
data = make_multimodal_graph(30, random_state=0)
X, y = data.graph.nodes("item"), data.target
done = 0

def objective(trial):
    global done
    done += 1
    trial.set_user_attr("worker", sys.argv[4])
    lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
    if waits and done == 2:
        time.sleep(600)
    clf = MultiModalGraphClassifier(HGT(8, heads=2), max_epochs=2, lr=lr, random_state=0)
    return cross_val_score(clf, X, y, cv=2).mean()

optuna.logging.set_verbosity(optuna.logging.WARNING)
storage = JournalStorage(JournalFileBackend(path))
study = optuna.load_study(study_name="lr", storage=storage)
study.optimize(objective, n_trials=n_trials)
"""


@pytest.mark.slow
def test_a_grid_search_over_two_processes_finds_what_one_finds() -> None:
    data = make_multimodal_graph(30, random_state=0)
    X, y = data.graph.nodes("item"), data.target
    clf = MultiModalGraphClassifier(HGT(8, heads=2), max_epochs=2, random_state=0)
    grid = {"lr": [1e-3, 1e-1], "batch_size": [None, 8]}

    alone = GridSearchCV(clf, grid, cv=2).fit(X, y)
    with parallel_config("loky", n_jobs=2):
        shared = GridSearchCV(clf, grid, cv=2).fit(X, y)

    name = "mean_test_score"
    assert_allclose(shared.cv_results_[name], alone.cv_results_[name])
    assert np.isfinite(alone.cv_results_[name]).all()


def start_worker(path: Path, n_trials: int, how: str, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(path), str(n_trials), how, name]
    return subprocess.Popen(command)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_no_trial_is_lost_when_a_worker_of_a_study_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(study_name="lr", storage=storage, direction="maximize")

    doomed = start_worker(path, 5, "waits", "doomed")
    survivor = start_worker(path, 4, "works", "survivor")
    for _ in range(600):
        mine = [t for t in study.get_trials() if t.user_attrs.get("worker") == "doomed"]
        if len(mine) == 2 and "lr" in mine[1].params:
            break
        time.sleep(0.2)
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.wait()
    assert survivor.wait(timeout=300) == 0

    # a journal has no heartbeat: what a dead worker was at is still "running". Queue it again.
    lost = study.get_trials(states=[TrialState.RUNNING])
    assert [t.user_attrs["worker"] for t in lost] == ["doomed"]
    for trial in lost:
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    assert start_worker(path, 1, "works", "heir").wait(timeout=300) == 0

    complete = study.get_trials(states=[TrialState.COMPLETE])
    assert len(complete) == 1 + 4 + 1
    assert complete[-1].params == lost[0].params
    assert all(np.isfinite(trial.value) for trial in complete)
