"""Processes that share a batch, as torchrun starts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """A process among those of the default process group; alone where there is no group.

    Parameters
    ----------
    rank : int, default=0
        Number of the process.
    count : int, default=1
        How many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Self:
        """The process that asks, as torch.distributed knows it."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def share(self, together: np.ndarray) -> np.ndarray:
        """Own part of a batch; one element of another's where there are too few."""
        own = together[self.rank :: self.count]
        return own if len(own) else together[:1]

    def loss_share(self, together: np.ndarray) -> float | None:
        """What the own mean loss counts so that the mean over processes is the batch's.

        None where there is one process.
        """
        if self.count == 1:
            return None
        return self.count * len(together[self.rank :: self.count]) / len(together)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the processes, and rank 0's weights."""
        if self.count == 1:
            return module
        # a layer of a node type that no path leads from to a target gets no gradient
        return DistributedDataParallel(module, find_unused_parameters=True)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes; the same on each."""
        distributed.all_reduce(values)
        return values

    def gather(self, sums: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Sums over the processes, by name; a name may be unknown to some of them."""
        parts: list[dict[str, float]] = [{}] * self.count
        distributed.all_gather_object(parts, {name: float(value) for name, value in sums.items()})
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: sum(part.get(name, 0.0) for part in parts) for name in names}

    def agree(self, value: int) -> int:
        """The first process's value."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]
