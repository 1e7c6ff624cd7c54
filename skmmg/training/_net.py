"""A skorch net that trains on the nodes of a graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from skmmg.models import ModelOutput
from skmmg.nn import GraphTensors
from skmmg.training._parallel import Ranks
from skmmg.training._precision import compute
from skmmg.training._stopping import StopTraining
from skmmg.training._store import GraphStore

# (graph, target ids), (classes, weights, what the loss counts among processes that share a batch)
Batch = tuple[tuple[GraphTensors, Tensor], tuple[Tensor, Tensor, float | None]]


@dataclass
class NodeDataset(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Target nodes of a graph with their classes and weights.

    The graph is in the dataset and not in the batch, because skorch wants all parts of a batch to
    have one length. The weights have a mean of 1, so that a mean over a batch estimates the
    weighted mean over all nodes.
    """

    graph: GraphTensors | GraphStore
    ids: Tensor
    y: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor, Tensor]:
        return self.ids[index], self.y[index], self.weight[index]


class GraphLoader:
    """Yields the whole graph as a single batch."""

    def __init__(self, dataset: NodeDataset, batch_size: int | None = None) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Batch]:
        data = self.dataset
        assert isinstance(data.graph, GraphTensors)
        yield (data.graph, data.ids), (data.y, data.weight, None)

    def __len__(self) -> int:
        return 1


class GraphNet(NeuralNet):
    """Net whose batches are ((graph, node ids), (classes, weights, share))."""

    def __init__(
        self,
        module: nn.Module,
        *args: Any,
        precision: str = "float32",
        iterator_train: Callable[..., Any] = GraphLoader,
        iterator_valid: Callable[..., Any] = GraphLoader,
        **kwargs: Any,
    ) -> None:
        self.precision = precision
        super().__init__(
            module,
            *args,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            **kwargs,
        )

    def get_dataset(self, X: NodeDataset, y: None = None) -> NodeDataset:
        """Return X, which is a dataset already."""
        return X

    def infer(self, x: tuple[GraphTensors, Tensor], **fit_params: Any) -> ModelOutput:
        """Run the module on a graph and some of its target nodes."""
        return compute(self.module_, *x, self.precision)

    def get_loss(
        self,
        y_pred: ModelOutput,
        y_true: tuple[Tensor, Tensor, float | None],
        X: Any = None,
        training: bool = False,
    ) -> Tensor:
        """Loss of a batch; its parts, and the accuracy if there is one, go to the history."""
        y, weight, share = y_true
        loss, parts = self.criterion_(y_pred, y, weight)
        if "acc" not in parts and y_pred.logits.shape[1]:
            parts["acc"] = ((y_pred.logits.argmax(1) == y) * weight).mean()
        self._parts = {name: part.detach() for name, part in parts.items()}
        return loss if share is None else loss * share

    def run_single_epoch(
        self,
        iterator: Any,
        training: bool,
        prefix: str,
        step_fn: Callable[..., dict[str, Any]],
        **fit_params: Any,
    ) -> None:
        """As in skorch; a batch's size is its number of nodes, and parts are averaged over them."""
        if iterator is None:
            return
        sums: dict[str, Tensor | float] = defaultdict(float)
        n_nodes, shared = 0, False
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            loss, size, counts = _over_ranks(step["loss"].detach(), *batch[1][::2])
            self.history.record_batch(prefix + "_loss", loss)
            self.history.record_batch(prefix + "_batch_size", size)
            self.notify("on_batch_end", batch=batch, training=training, **step)
            n_nodes, shared = n_nodes + size, batch[1][2] is not None
            for name, part in self._parts.items():
                sums[name] = sums[name] + part * counts
        for name, total in (Ranks.current().gather(sums) if shared else sums).items():
            self.history.record(f"{prefix}_{name}", float(total) / n_nodes)

    def plain_history(self) -> list[dict[str, float]]:
        """One row of plain numbers per epoch."""
        return [
            {k: v if k == "epoch" else float(v) for k, v in row.items() if not _internal(k)}
            for row in self.history
        ]

    def partial_fit(
        self, X: NodeDataset, y: None = None, classes: None = None, **fit_params: Any
    ) -> GraphNet:
        """As in skorch, but an interrupt by the user is not swallowed."""
        if not self.initialized_:
            self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        with suppress(StopTraining):
            self.fit_loop(X, y, **fit_params)
        self.notify("on_train_end", X=X, y=y)
        return self


def _over_ranks(loss: Tensor, y: Tensor, share: float | None) -> tuple[float, int, float]:
    """Loss and number of nodes of a batch, and how many of the nodes this process stands for."""
    if share is None:
        return loss.item(), len(y), len(y)
    ranks = Ranks.current()
    total, size = ranks.sum(torch.stack([loss, loss.new_tensor(len(y) if share else 0)])).tolist()
    return total / ranks.count, int(size), size * share / ranks.count


def _internal(column: str) -> bool:
    return column == "batches" or column.endswith(("_best", "_batch_size", "_batch_count"))
