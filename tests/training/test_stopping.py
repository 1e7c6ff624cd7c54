"""When training stops, and which weights are kept."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from skmmg.training._stopping import StopTraining, make_stopping

Row = tuple[float, float]


class FakeNet:
    """Just enough of a skorch net to live through epochs whose results are given."""

    def __init__(self) -> None:
        self.module_ = nn.Linear(1, 1, bias=False)
        self.history: Any = History()
        self.verbose = 0


class History(list[dict[str, Any]]):
    """A list of rows that takes skorch's two-part keys."""

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            rows = super().__getitem__(key[0])
            return [row[key[1]] for row in rows] if isinstance(key[0], slice) else rows[key[1]]
        return super().__getitem__(key)

    def record(self, key: str, value: Any) -> None:
        self[-1][key] = value


def train(rule: str, rows: Sequence[Row], patience: int, tol: float = 0.0) -> SimpleNamespace:
    """Let epochs with these validation losses and accuracies pass; the weight is the epoch."""
    net, stopping = FakeNet(), make_stopping(rule, patience, tol)
    stopping.initialize()
    stopping.on_train_begin(net)
    stopped = False
    for epoch, (loss, accuracy) in enumerate(rows, 1):
        nn.init.constant_(net.module_.weight, epoch)
        row = {"epoch": epoch, "valid_loss": loss, "valid_acc": accuracy, "train_loss": loss}
        net.history.append(row)
        try:
            stopping.on_epoch_end(net)
        except StopTraining:
            stopped = True
            break
    stopping.on_train_end(net)
    kept = int(net.module_.weight.item())
    return SimpleNamespace(epochs=epoch, kept=kept, stopped=stopped, best=stopping.best_epoch_)


def test_the_papers_rule_counts_epochs_that_are_worse_in_both() -> None:
    rows = [
        (1.0, 0.5),  # best of both
        (0.8, 0.6),  # better in both: kept
        (0.9, 0.7),  # worse loss, better accuracy: no miss
        (0.7, 0.6),  # better loss, worse accuracy: no miss
        (0.9, 0.5),  # 1st miss
        (0.8, 0.8),  # best accuracy: the counter is reset
        (0.9, 0.5),  # 1st
        (0.9, 0.5),  # 2nd
        (0.1, 0.9),  # never reached
    ]

    result = train("loss_and_accuracy", rows, patience=2)

    assert result.stopped
    assert result.epochs == 8
    assert result.kept == result.best == 2


def test_the_papers_rule_keeps_the_last_epoch_that_is_best_in_both() -> None:
    rows = [(1.0, 0.5), (0.8, 0.6), (0.8, 0.6), (0.9, 0.5), (0.9, 0.6)]

    result = train("loss_and_accuracy", rows, patience=5)

    assert not result.stopped
    assert result.kept == result.best == 3


def test_the_papers_rule_does_not_count_a_tie_as_a_miss() -> None:
    result = train("loss_and_accuracy", [(1.0, 0.5), *[(2.0, 0.5)] * 9], patience=2)

    assert not result.stopped
    assert result.kept == 1


def test_the_papers_rule_survives_a_loss_that_is_no_number() -> None:
    result = train("loss_and_accuracy", [(float("nan"), 0.5), (0.9, 0.6), (0.8, 0.7)], patience=2)

    assert result.kept == 3


@pytest.mark.parametrize(
    ("rule", "rows", "epochs", "kept"),
    [
        ("loss", [(1.0, 0), (0.5, 0), (0.6, 1), (0.7, 1), (0.1, 1)], 4, 2),
        ("accuracy", [(1.0, 0.5), (2.0, 0.6), (0.5, 0.6), (0.4, 0.5), (0.1, 0.9)], 4, 2),
        ("train_loss", [(1.0, 0), (0.5, 0), (0.6, 1), (0.7, 1), (0.1, 1)], 4, 2),
    ],
)
def test_one_metric_can_be_watched(rule: str, rows: list[Row], epochs: int, kept: int) -> None:
    result = train(rule, rows, patience=2)

    assert result.stopped
    assert (result.epochs, result.kept, result.best) == (epochs, kept, kept)


def test_tol_says_what_counts_as_better() -> None:
    rows = [(1.0, 0.0), (0.95, 0.0), (0.91, 0.0), (0.5, 0.0)]

    assert train("loss", rows, patience=2, tol=0.1).epochs == 3
    assert train("loss", rows, patience=2, tol=0.01).epochs == 4


def test_the_best_weights_are_a_copy() -> None:
    net, stopping = FakeNet(), make_stopping("loss_and_accuracy", 5, 0.0)
    stopping.on_train_begin(net)
    net.history.append({"epoch": 1, "valid_loss": 1.0, "valid_acc": 1.0})
    stopping.on_epoch_end(net)
    before = net.module_.weight.item()

    with torch.no_grad():
        net.module_.weight += 1
    stopping.on_train_end(net)

    assert net.module_.weight.item() == before
