"""What the sampler does for every node and edge, in numpy: the same as `_sampler_numba`."""

from __future__ import annotations

import numpy as np

from skmmg.nn._splitmix import GOLDEN, mix

_HALF = np.uint64(32)

WORD = 64  # bits of a word, in which the compiled sampler notes what it leaves out

Draw = tuple[np.ndarray, np.ndarray, np.ndarray]
#: nodes that drew, and what `draw` gave for them
Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Marks:
    """Which nodes of a type a sample has found."""

    def __init__(self, n_nodes: int) -> None:
        self.found, self.told = np.zeros((2, n_nodes), dtype=bool)
        self.position = np.empty(n_nodes, dtype=np.int64)

    def add(self, ids: np.ndarray) -> None:
        """Mark nodes, which may be marked already."""
        self.found[ids] = True

    def fresh(self) -> np.ndarray:
        """Nodes marked since the last call, ascending."""
        ids = np.flatnonzero(self.found & ~self.told)
        self.told[ids] = True
        return ids

    def number(self) -> np.ndarray:
        """All marked nodes, ascending; `number_ends` then knows their positions."""
        ids = np.flatnonzero(self.found)
        self.position[ids] = np.arange(len(ids))
        return ids

    def clear(self) -> None:
        """Forget all marks."""
        self.found[:] = self.told[:] = False


def keys(seed: int, n_relations: int) -> np.ndarray:
    """Keys of the relations' draws (n_relations,)."""
    start = np.array([seed], dtype=np.uint64)
    return mix(mix(start) + GOLDEN * np.arange(1, n_relations + 1, dtype=np.uint64))


def draw(
    indptr: np.ndarray, source: np.ndarray, nodes: np.ndarray, fan_out: int, key: np.uint64
) -> Draw:
    """Sources of the drawn edges, how many each node drew, and the edges' positions."""
    start, degree = indptr[nodes], indptr[nodes + 1] - indptr[nodes]
    taken = np.minimum(degree, fan_out)
    first = np.cumsum(taken) - taken
    position = np.repeat(start - first, taken) + np.arange(taken.sum())
    crowded = np.flatnonzero(degree > fan_out)
    if len(crowded):
        chosen = _choose(nodes[crowded], degree[crowded], fan_out, key)
        position[first[crowded, None] + np.arange(fan_out)] = start[crowded, None] + chosen
    return source[position], taken, position


def _choose(nodes: np.ndarray, degree: np.ndarray, fan_out: int, key: np.uint64) -> np.ndarray:
    """Different numbers below `degree`, which is above `fan_out`: (n_nodes, fan_out).

    Where fewer stay out than are taken, these are chosen.
    """
    base = mix(key + GOLDEN * (nodes.astype(np.uint64) + np.uint64(1)))
    inverse = (degree < 2 * fan_out) & (degree <= WORD)
    out = np.empty((len(nodes), fan_out), dtype=np.int64)
    out[~inverse] = _floyd(base[~inverse], degree[~inverse], np.array(fan_out))
    chosen = _floyd(base[inverse], degree[inverse], degree[inverse] - fan_out)
    stays = np.arange(min(2 * fan_out, WORD)) < degree[inverse, None]
    row, column = np.nonzero(chosen >= 0)
    stays[row, chosen[row, column]] = False
    out[inverse] = np.nonzero(stays)[1].reshape(inverse.sum(), fan_out)
    return out


def _floyd(base: np.ndarray, degree: np.ndarray, n_chosen: np.ndarray) -> np.ndarray:
    """Different numbers below `degree` by Floyd's algorithm: (n_nodes, most), -1 at the end."""
    out = np.empty((len(base), n_chosen.max(initial=0)), dtype=np.int64)
    for i in range(out.shape[1]):
        last = degree - n_chosen + i
        random = mix(base + GOLDEN * np.array([i + 1], dtype=np.uint64)) >> _HALF
        pick = ((random * (last + 1).astype(np.uint64)) >> _HALF).astype(np.int64)
        taken = (out[:, :i] == pick[:, None]).any(1)
        out[:, i] = np.where(i < n_chosen, np.where(taken, last, pick), -1)
    return out


def number_ends(parts: list[Part], source: Marks, destination: Marks) -> np.ndarray:
    """Both ends of the drawn edges (2, n_edges) as positions among the sampled nodes."""
    empty = np.zeros((2, 0), dtype=np.int64)
    ends = [
        np.stack([source.position[drawn], np.repeat(destination.position[nodes], taken)])
        for nodes, drawn, taken, _ in parts
    ]
    return np.concatenate([empty, *ends], axis=1)
