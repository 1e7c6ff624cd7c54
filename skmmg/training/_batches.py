"""Batches of target nodes, each with the part of the graph around them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from skmmg.training._net import Batch, NodeDataset
from skmmg.training._parallel import Ranks
from skmmg.training._store import GraphStore

T = TypeVar("T")


@dataclass(frozen=True)
class BatchPlan:
    """How target nodes are put into batches.

    Parameters
    ----------
    batch_size : int
        Target nodes per batch, and per process where several share the work.
    num_neighbors : tuple of int
        In-neighbours that a node draws per relation, step by step away from the batch; -1: all.
    seed : int
        Seed of the order of the nodes and of the draws.
    """

    batch_size: int
    num_neighbors: tuple[int, ...]
    seed: int


class BatchLoader:
    """Yields batches of target nodes with their sampled neighbourhoods, made one ahead.

    In training the nodes come in a new order and with new neighbours in every epoch. In validation
    order and neighbours are the same in every epoch, so that epochs can be compared. Of several
    processes each gets every n-th node of a batch.
    """

    def __init__(
        self, dataset: NodeDataset, plan: BatchPlan, *, training: bool, batch_size: int = 1
    ) -> None:
        # `batch_size` is skorch's, which knows nothing of the plan
        assert isinstance(dataset.graph, GraphStore)
        self.store, self.plan, self.training = dataset.graph, plan, training
        self.ranks = Ranks.current()
        self.ids, self.y, self.weight = dataset.ids, dataset.y, dataset.weight
        self.random = np.random.default_rng(plan.seed)

    def __len__(self) -> int:
        return -(-len(self.ids) // (self.plan.batch_size * self.ranks.count))

    def __iter__(self) -> Iterator[Batch]:
        return prefetch(self._batches())

    def _batches(self) -> Iterator[Batch]:
        random = self.random if self.training else np.random.default_rng(self.plan.seed)
        n_nodes = len(self.ids)
        order = random.permutation(n_nodes) if self.training else np.arange(n_nodes)
        size = self.plan.batch_size * self.ranks.count
        for start in range(0, len(order), size):
            yield self._batch(order[start : start + size], int(random.integers(1 << 62)))

    def _batch(self, together: np.ndarray, seed: int) -> Batch:
        """Own share of the nodes that all processes handle at once."""
        at = torch.from_numpy(self.ranks.share(together)).to(self.ids.device)
        graph, ids = self.store.near(self.ids[at].cpu().numpy(), self.plan.num_neighbors, seed)
        return (graph, ids), (self.y[at], self.weight[at], self.ranks.loss_share(together))


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, items, None)
        while (item := future.result()) is not None:
            future = pool.submit(next, items, None)
            yield item
