"""What the sampler does for every edge, in numpy: the same draws as `_sampler_numba`."""

from __future__ import annotations

import numpy as np

from skmmg.nn._splitmix import GOLDEN, mix

_HALF = np.uint64(32)

Draw = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def key(seed: int, number: int) -> np.uint64:
    """Key of a relation's draws."""
    start = np.array([seed], dtype=np.uint64)
    return np.uint64(mix(mix(start) + GOLDEN * np.array([number + 1], dtype=np.uint64))[0])


def draw(
    indptr: np.ndarray,
    source: np.ndarray,
    nodes: np.ndarray,
    fan_out: int,
    key: np.uint64,
    seen: np.ndarray,
) -> Draw:
    """Sources, destinations, positions of the drawn edges; sources not seen before, each once."""
    start, degree = indptr[nodes], indptr[nodes + 1] - indptr[nodes]
    taken = np.minimum(degree, fan_out)
    row = np.repeat(np.arange(len(nodes)), taken)
    first = np.cumsum(taken) - taken
    offset = np.arange(len(row)) - first[row]
    crowded = degree > fan_out
    if crowded.any():
        offset[crowded[row]] = _choose(nodes[crowded], degree[crowded], fan_out, key).reshape(-1)
    position = start[row] + offset
    drawn = source[position].astype(np.int64)
    fresh = np.unique(drawn[seen[drawn] < 0])
    seen[fresh] = 0
    return drawn, nodes[row], position, fresh


def _choose(nodes: np.ndarray, degree: np.ndarray, fan_out: int, key: np.uint64) -> np.ndarray:
    """Different numbers below `degree`, (n_nodes, fan_out), by Floyd's algorithm."""
    base = mix(key + GOLDEN * (nodes.astype(np.uint64) + np.uint64(1)))
    out = np.empty((len(nodes), fan_out), dtype=np.int64)
    for i in range(fan_out):
        last = degree - fan_out + i
        random = mix(base + GOLDEN * np.array([i + 1], dtype=np.uint64)) >> _HALF
        pick = ((random * (last + 1).astype(np.uint64)) >> _HALF).astype(np.int64)
        taken = (out[:, :i] == pick[:, None]).any(1)
        out[:, i] = np.where(taken, last, pick)
    return out


def number(
    parts: list[tuple[np.ndarray, ...]], source: np.ndarray, destination: np.ndarray
) -> np.ndarray:
    """Both ends of the drawn edges (2, n_edges), by the numbers that the sampled nodes got."""
    empty = np.zeros(0, dtype=np.int64)
    ends = (source, 0), (destination, 1)
    return np.stack([at[np.concatenate([empty, *(p[i] for p in parts)])] for at, i in ends])
