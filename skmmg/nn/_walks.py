"""Random walks on a graph, all at once, and the neighbours that they visit most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._splitmix import GOLDEN, mix

# steps (times walks) that are counted at a time
_BLOCK = 1 << 22
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Neighborhood:
    """Neighbours of some nodes, by node type.

    Parameters
    ----------
    nodes : Tensor of shape (n_samples, n_types, size)
        The most visited first; repeated from the start where there are fewer than `size`.
    found : Tensor of shape (n_samples, n_types), dtype bool
        Whether there is any.
    """

    nodes: Tensor
    found: Tensor


class Walker:
    """Walks from a node to one of its in-neighbours, and so on; parallel edges count.

    Random numbers are a hash of a seed, of the in-neighbours of the node where the walk starts,
    and of the step: a node's walks are the same whatever other nodes there are, as long as its
    surroundings are.

    Parameters
    ----------
    edges : EdgeStructure
        The edges, whose numbering of nodes is used throughout. They are copied to the CPU.
    seed : int
        Seed of all walks.
    """

    def __init__(self, edges: EdgeStructure, seed: int) -> None:
        self.device, self.seed = edges.dst.device, seed
        self.indptr = edges.segments("node").offsets.cpu().numpy()
        self.source = edges.src.cpu().numpy()
        marks = mix(self.source.astype(np.uint64) + np.uint64(1))
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(marks, dtype=np.uint64)])
        self.keys = mix((total[self.indptr[1:]] - total[self.indptr[:-1]]) + _scalar(seed))

    def walks(self, starts: np.ndarray, length: int, number: int) -> np.ndarray:
        """`number` walks of `length` nodes from every start: (number * n_starts, length).

        A walk ends at a node without in-edges; what is left of it is -1.
        """
        out = np.full((number * len(starts), length), -1)
        out[:, 0] = np.tile(starts, number)
        keys = np.concatenate([mix(self.keys[starts] + _scalar(i + 1)) for i in range(number)])
        for i in range(1, length):
            last = out[:, i - 1]
            out[:, i] = np.where(last < 0, -1, self._step(last, _uniform(keys, i)))
        return out

    def visits(self, starts: np.ndarray, n_steps: int, restart_prob: float) -> np.ndarray:
        """Nodes that a walk with restarts visits, (n_starts, n_steps), -1 where it is at home."""
        out = np.full((len(starts), n_steps), -1)
        keys, now = self.keys[starts], starts
        for i in range(n_steps):
            u = _uniform(keys, i)
            goes = u >= restart_prob
            new = self._step(now, np.where(goes, (u - restart_prob) / (1 - restart_prob), 0.0))
            away = goes & (new >= 0) & (new != starts)
            out[:, i] = np.where(away, new, -1)
            now = np.where(away, new, starts)
        return out

    def neighborhood(
        self,
        starts: np.ndarray,
        types: Mapping[str, slice],
        *,
        size: int,
        n_visits: int,
        restart_prob: float,
    ) -> Neighborhood:
        """The `size` nodes of every type that walks with restarts visit most.

        A walk takes ``n_visits / (1 - restart_prob)`` steps, so that it leaves home about
        `n_visits` times. Ties go to the lowest node. `types` are the types' places in the
        numbering of the nodes.
        """
        n_steps = math.ceil(n_visits / (1 - restart_prob))
        first = np.array([part.start for part in types.values()])
        step = max(1, _BLOCK // n_steps)
        blocks = [starts[i : i + step] for i in range(0, len(starts), step)]
        empty = np.zeros((0, len(types), size), np.int64), np.zeros((0, len(types)), bool)
        parts = [empty]
        parts += [
            _most_visited(self.visits(block, n_steps, restart_prob), first, size)
            for block in blocks
        ]
        nodes, found = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Neighborhood(
            torch.from_numpy(nodes).to(self.device), torch.from_numpy(found).to(self.device)
        )

    def _step(self, nodes: np.ndarray, u: np.ndarray) -> np.ndarray:
        """The in-neighbour that a number in [0, 1) points at; -1 where there is none."""
        begin, end = self.indptr[nodes], self.indptr[nodes + 1]
        if not len(self.source):
            return np.full(len(nodes), -1)
        chosen = begin + (u * (end - begin)).astype(np.int64)
        return np.where(begin < end, self.source[np.minimum(chosen, len(self.source) - 1)], -1)


def _most_visited(
    visits: np.ndarray, first: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    n_starts, n_types = len(visits), len(first)
    start, place = np.nonzero(visits >= 0)
    pairs = np.stack([start, visits[start, place]])
    (start, node), count = _count_pairs(pairs)
    kind = np.searchsorted(first, node, side="right") - 1
    order = np.lexsort((node, -count, kind, start))
    group = (start * n_types + kind)[order]
    n_found = np.bincount(group, minlength=n_starts * n_types)
    rank = np.arange(len(group)) - (np.cumsum(n_found) - n_found)[group]
    kept = rank < size
    table = np.zeros((n_starts * n_types, size), np.int64)
    table[group[kept], rank[kept]] = node[order][kept]
    repeated = np.arange(size) % np.clip(n_found, 1, size)[:, None]
    table = np.take_along_axis(table, repeated, axis=1)
    return table.reshape(n_starts, n_types, size), (n_found > 0).reshape(n_starts, n_types)


def _count_pairs(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different columns of (2, n) and how often each is there."""
    base = int(pairs[1].max(initial=0)) + 1
    code, count = np.unique(pairs[0] * base + pairs[1], return_counts=True)
    return np.stack([code // base, code % base]), count


def _scalar(value: int) -> np.uint64:
    return np.uint64((value * int(GOLDEN)) & _MASK)


def _uniform(keys: np.ndarray, step: int) -> np.ndarray:
    """Numbers in [0, 1), one per key and step."""
    return (mix(keys + _scalar(step + 1)) >> np.uint64(11)) * 2.0**-53
