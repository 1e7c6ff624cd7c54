"""Several processes that share batches train what one process would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmmg.training import Ranks

# Run by every process, and by one alone: fits, and writes weights and losses.
FIT = """
import json, os, sys
from datetime import timedelta
import numpy as np, torch
from torch import distributed
from skmmg import MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph
from skmmg.models import MODELS

torch.set_num_threads(1)
n_processes, settings, folder = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
rank = int(os.environ.get("RANK", 0))
if n_processes > 1:
    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
data = make_multimodal_graph(70, missing=0.2, n_attributes=50, random_state=0)
spec = MODELS[settings.pop("model")](hidden_channels=8, heads=2, **settings.pop("spec"))
clf = MultiModalGraphClassifier(spec, max_epochs=3, lr=0.01, precision="float64", **settings)
clf.fit(data.graph.nodes("item"), data.target)
np.savez(f"{folder}/{n_processes}-{rank}.npz", **clf.weights_)
history = [{k: v for k, v in row.items() if k != "dur"} for row in clf.history_]
with open(f"{folder}/{n_processes}-{rank}.json", "w") as file:
    json.dump(history, file)
if n_processes > 1:
    distributed.destroy_process_group()
"""


def fit(n_processes: int, folder: Path, **settings: Any) -> None:
    script = folder / "fit.py"
    script.write_text(FIT)
    start = [sys.executable]
    if n_processes > 1:
        start += ["-m", "torch.distributed.run", f"--nproc-per-node={n_processes}", "--standalone"]
    command = [*start, str(script), str(n_processes), json.dumps(settings), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def load(folder: Path, name: str) -> tuple[dict[str, np.ndarray], list[dict[str, float]]]:
    with np.load(folder / f"{name}.npz") as weights:
        return dict(weights), json.loads((folder / f"{name}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("num_neighbors", "class_weight"), [(None, None), (2, "balanced")])
def test_two_processes_train_what_one_would_with_the_doubled_batch(
    tmp_path: Path, num_neighbors: int | None, class_weight: str | None
) -> None:
    # 63 training nodes in batches of 16: the last of 15 is shared unequally
    settings: dict[str, Any] = {
        "model": "hgt",
        "spec": {"dropout": 0.0, "input_dropout": 0.0},
        "num_neighbors": num_neighbors,
        "class_weight": class_weight,
        "random_state": 0,
    }

    fit(2, tmp_path, batch_size=8, **settings)
    fit(1, tmp_path, batch_size=16, **settings)

    (first, history), (second, other) = load(tmp_path, "2-0"), load(tmp_path, "2-1")
    alone, expected = load(tmp_path, "1-0")
    assert history == other
    for name, weight in first.items():
        assert_array_equal(second[name], weight, err_msg=name)
        assert_allclose(weight, alone[name], rtol=1e-5, atol=1e-9, err_msg=name)
    for row, wanted in zip(history, expected, strict=True):
        assert row.keys() == wanted.keys()
        for key in ("train_loss", "valid_loss", "train_ce", "valid_acc"):
            assert_allclose(row[key], wanted[key], rtol=1e-6, err_msg=key)


@pytest.mark.slow
def test_processes_agree_on_a_seed_and_differ_in_dropout(tmp_path: Path) -> None:
    """With penalties that not every batch has, a batch of fewer nodes than processes, no seed."""
    fit(2, tmp_path, model="hgnn_ima", spec={"dropout": 0.5}, batch_size=31, num_neighbors=1)

    (first, history), (second, other) = load(tmp_path, "2-0"), load(tmp_path, "2-1")

    assert history == other
    assert len(history) == 3
    assert "train_attention" in history[0]
    for name, weight in first.items():
        assert_array_equal(second[name], weight, err_msg=name)


def test_the_shares_of_a_batch_are_its_nodes_and_count_as_many() -> None:
    together, every = np.array([4, 1, 3, 0, 2]), torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5])
    ranks = [Ranks(rank, 2) for rank in range(2)]

    shares = [r.share(together) for r in ranks]

    assert sorted(np.concatenate(shares)) == [0, 1, 2, 3, 4]
    counts = [r.loss_share(together) for r in ranks]
    means = [float(every[torch.from_numpy(share)].mean()) for share in shares]
    mean = np.mean([c * m for c, m in zip(counts, means, strict=True) if c is not None])
    assert_allclose(mean, float(every.mean()), rtol=1e-6)


def test_a_process_without_a_share_stands_in_with_a_node_that_counts_nothing() -> None:
    together = np.array([7])

    assert_array_equal(Ranks(1, 2).share(together), [7])
    assert Ranks(1, 2).loss_share(together) == 0
    assert Ranks(0, 2).loss_share(together) == 2


def test_one_process_has_everything() -> None:
    ranks = Ranks.current()

    assert ranks == Ranks(0, 1)
    assert ranks.loss_share(np.arange(3)) is None
    assert ranks.agree(5) == 5
    module = torch.nn.Linear(1, 1)
    assert ranks.wrap(module) is module
