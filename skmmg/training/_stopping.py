"""When to stop training, and which epoch's weights to keep."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.utils import noop


class StopTraining(KeyboardInterrupt):
    """A callback ends training; an interrupt by the user is a plain KeyboardInterrupt."""


class StopOnMetric(EarlyStopping):
    """skorch's early stopping on one metric; the best epoch's weights are restored."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Stop by an exception of its own."""
        try:
            super().on_epoch_end(net, **kwargs)
        except KeyboardInterrupt as stop:
            raise StopTraining from stop


class StopOnLossAndAccuracy(Callback):
    """The papers' rule, on validation loss and accuracy together.

    The counter advances in an epoch whose loss is above the best loss and whose accuracy is below
    the best accuracy, and is reset by any other epoch. The weights that are restored are those of
    the last epoch with the best loss and the best accuracy so far.

    Parameters
    ----------
    patience : int
        Epochs in a row without progress after which training ends.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget an earlier fit."""
        self.misses_, self.best_epoch_ = 0, 0
        self.best_loss_, self.best_accuracy_ = float("inf"), -1.0
        self.best_model_weights_: dict[str, Any] | None = None

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Compare the epoch with the best ones."""
        row = net.history[-1]
        loss, accuracy = row["valid_loss"], row["valid_acc"]
        worse = loss > self.best_loss_ and accuracy < self.best_accuracy_
        best = loss <= self.best_loss_ and accuracy >= self.best_accuracy_
        if best or self.best_model_weights_ is None:
            self.best_epoch_ = row["epoch"]
            self.best_model_weights_ = deepcopy(net.module_.state_dict())
        self.best_loss_ = min(loss, self.best_loss_)
        self.best_accuracy_ = max(accuracy, self.best_accuracy_)
        self.misses_ = self.misses_ + 1 if worse else 0
        if self.misses_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the best epoch's weights."""
        if self.best_model_weights_ is not None:
            net.module_.load_state_dict(self.best_model_weights_)


def make_stopping(rule: str, patience: int, tol: float) -> Callback:
    """Callback of a rule: "loss_and_accuracy", "loss", "accuracy" or "train_loss"."""
    if rule == "loss_and_accuracy":
        return StopOnLossAndAccuracy(patience)
    monitors = {"loss": "valid_loss", "accuracy": "valid_acc", "train_loss": "train_loss"}
    return StopOnMetric(
        monitor=monitors[rule],
        lower_is_better=rule != "accuracy",
        patience=patience,
        threshold=tol,
        threshold_mode="abs",
        load_best=True,
        sink=noop,
    )
