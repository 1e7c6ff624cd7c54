"""Epochs of skorch as tasks of scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from skmmg.training._stopping import StopTraining


class EpochTasks(Callback):
    """Report every epoch to the callbacks that `set_callbacks` was given.

    Parameters
    ----------
    estimator : estimator
        The estimator that is being fitted.
    context : sklearn.callback.CallbackContext
        Context of its fit.
    X, y : any
        What `fit` got.
    reconstruct : callable
        Maps the net to the fitted attributes that make the estimator ready to predict.
    """

    def __init__(
        self,
        estimator: Any,
        context: Any,
        X: Any,
        y: Any,
        reconstruct: Callable[[NeuralNet], dict[str, Any]],
    ) -> None:
        self.estimator, self.context = estimator, context
        self.X, self.y, self.reconstruct = X, y, reconstruct

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open a task."""
        self.task = self.context.subcontext(task_name="epoch")
        self.task.call_on_fit_task_begin(estimator=self.estimator, X=self.X, y=self.y)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close the task; a callback may ask to stop."""
        stop = self.task.call_on_fit_task_end(
            estimator=self.estimator,
            X=self.X,
            y=self.y,
            reconstruction_attributes=lambda: self.reconstruct(net),
        )
        if stop:
            raise StopTraining
