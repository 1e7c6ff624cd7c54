"""What the sampler does for every edge, compiled: the same draws as `_sampler_numpy`."""

from __future__ import annotations

import numba
import numpy as np

from skmmg.nn._splitmix import GOLDEN, mix
from skmmg.training._sampler_numpy import Draw

_ONE, _HALF = np.uint64(1), np.uint64(32)
_mix = numba.njit(nogil=True, cache=True)(mix)


def draw(
    indptr: np.ndarray,
    source: np.ndarray,
    nodes: np.ndarray,
    fan_out: int,
    key: np.uint64,
    seen: np.ndarray,
) -> Draw:
    """Sources, destinations, positions of the drawn edges; sources not seen before, each once."""
    n_edges = _count(indptr, nodes, fan_out)
    drawn, into, position, fresh = (np.empty(n_edges, dtype=np.int64) for _ in range(4))
    n_fresh = _draw(indptr, source, nodes, fan_out, key, seen, drawn, into, position, fresh)
    return drawn, into, position, fresh[:n_fresh]


def number(
    parts: list[tuple[np.ndarray, ...]], source: np.ndarray, destination: np.ndarray
) -> np.ndarray:
    """Both ends of the drawn edges (2, n_edges), by the numbers that the sampled nodes got."""
    out = np.empty((2, sum(len(part[0]) for part in parts)), dtype=np.int64)
    start = 0
    for drawn, into, _ in parts:
        stop = start + len(drawn)
        _number(drawn, into, source, destination, out[:, start:stop])
        start = stop
    return out


@numba.njit(nogil=True, cache=True)
def _count(indptr: np.ndarray, nodes: np.ndarray, fan_out: int) -> int:
    total = 0
    for node in nodes:
        total += min(indptr[node + 1] - indptr[node], fan_out)
    return total


@numba.njit(nogil=True, cache=True)
def _choose(out: np.ndarray, degree: int, base: np.uint64) -> None:
    """Fill `out` with different numbers below `degree`, by Floyd's algorithm."""
    for i in range(len(out)):
        last = degree - len(out) + i
        random = _mix(base + GOLDEN * np.uint64(i + 1)) >> _HALF
        pick = np.int64((random * np.uint64(last + 1)) >> _HALF)
        taken = 0
        for j in range(i):  # all of them: a branch could not be predicted
            taken |= out[j] == pick
        out[i] = pick + taken * (last - pick)


@numba.njit(nogil=True, cache=True)
def _draw(
    indptr: np.ndarray,
    source: np.ndarray,
    nodes: np.ndarray,
    fan_out: int,
    key: np.uint64,
    seen: np.ndarray,
    drawn: np.ndarray,
    into: np.ndarray,
    position: np.ndarray,
    fresh: np.ndarray,
) -> int:
    """Fill `drawn`, `into`, `position` and `fresh`; return how many of `fresh` are filled."""
    n_edges = n_fresh = 0
    for node in nodes:
        start = indptr[node]
        degree = indptr[node + 1] - start
        taken = min(degree, fan_out)
        chosen = position[n_edges : n_edges + taken]
        if degree > fan_out:
            _choose(chosen, degree, _mix(key + GOLDEN * (np.uint64(node) + _ONE)))
        else:
            for i in range(taken):
                chosen[i] = i
        for i in range(taken):
            chosen[i] += start
            neighbor = source[chosen[i]]
            drawn[n_edges] = neighbor
            into[n_edges] = node
            n_edges += 1
            if seen[neighbor] < 0:
                seen[neighbor] = 0
                fresh[n_fresh] = neighbor
                n_fresh += 1
    return n_fresh


@numba.njit(nogil=True, cache=True)
def _number(
    drawn: np.ndarray,
    into: np.ndarray,
    source: np.ndarray,
    destination: np.ndarray,
    out: np.ndarray,
) -> None:
    for i in range(len(drawn)):
        out[0, i] = source[drawn[i]]
        out[1, i] = destination[into[i]]
