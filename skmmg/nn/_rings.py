"""Rings of neighbours around every node, and nodes by the shape of their rings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skmmg.nn._dtw import Sequences
from skmmg.nn._splitmix import GOLDEN, mix

Ints = NDArray[np.int64]

# nodes whose rings are found at a time: the block keeps a byte for each node of the graph
_ROWS = 256
# steps of the searches that take about a minute or two
_MOST_STEPS = 1e10


@dataclass(frozen=True)
class Shapes:
    """Nodes by the shape of their neighbourhood; nodes of one shape cannot be told apart.

    Parameters
    ----------
    shape_of : ndarray of int64 of shape (n_nodes,)
        Shape of every node. Shapes are sorted by degree, by number of rings, and so that
        neighbourhoods of about one size follow each other.
    group : ndarray of int64 of shape (n_shapes,)
        Number of the shape's degree and number of rings together.
    n_rings : ndarray of int64 of shape (n_shapes,)
        Number of rings.
    rings : list of Sequences
        For every ring its degrees and how many nodes have them, shape by shape.
    """

    shape_of: Ints
    group: Ints
    n_rings: Ints
    rings: list[Sequences]


def find_shapes(plain: sp.csr_array, max_ring: int) -> Shapes:
    """Shapes of the neighbourhoods of a graph without loops."""
    _check_steps(plain, max_ring)
    degree = np.diff(plain.indptr).astype(np.int64)
    values, place = np.unique(degree, return_inverse=True)
    n_nodes = len(degree)
    one_hot = sp.csr_array(
        (np.ones(n_nodes, dtype=np.int32), place, np.arange(n_nodes + 1)),
        shape=(n_nodes, len(values)),
    )
    blocks = [_rings_of(plain, one_hot, start, max_ring) for start in range(0, n_nodes, _ROWS)]
    counts = [sp.csr_array(sp.vstack(parts)) for parts in zip(*blocks, strict=True)]
    n_rings: Ints = np.sum([np.diff(ring.indptr) > 0 for ring in counts], axis=0)
    keys = np.stack([degree, n_rings, *_sort_keys(counts, values)])
    _, kept, shape_of = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    group = np.cumsum(np.append(0, (np.diff(keys[:2, kept]) != 0).any(0)))
    rings = [_sequences(ring[kept], values) for ring in counts]
    return Shapes(shape_of.reshape(-1), group, n_rings[kept], rings)


def _rings_of(
    plain: sp.csr_array, one_hot: sp.csr_array, start: int, max_ring: int
) -> list[sp.csr_array]:
    """For each ring of a block of nodes how many nodes of it have which degree."""
    n_nodes = plain.shape[0]
    nodes = np.arange(start, min(start + _ROWS, n_nodes))
    seen = np.zeros((len(nodes), n_nodes), dtype=bool)
    row, column = np.arange(len(nodes)), nodes
    out = []
    for _ in range(max_ring):
        seen[row, column] = True
        ones = np.ones(len(row), dtype=np.int32)
        reached = sp.csr_array((ones, (row, column)), shape=seen.shape) @ plain
        row = np.repeat(np.arange(len(nodes)), np.diff(reached.indptr))
        new = ~seen[row, reached.indices]
        row, column = row[new], reached.indices[new]
        ones = np.ones(len(row), dtype=np.int32)
        ring = sp.csr_array((ones, (row, column)), shape=seen.shape) @ one_hot
        ring.sort_indices()
        out.append(ring)
    return out


def _sort_keys(counts: list[sp.csr_array], values: Ints) -> list[Ints]:
    """Keys that are equal for nodes with equal rings: their size, and two sums of random numbers.

    A node's keys depend on its rings alone, not on what else is in the graph.
    """
    logs = np.log(values + 0.5)
    size = np.sum([ring @ logs for ring in counts], axis=0)
    keys = [np.round(size * 2**20).astype(np.int64)]
    for salt in (1, 2):
        total = np.zeros(counts[0].shape[0], dtype=np.int64)
        for i, ring in enumerate(counts):
            total += ring.astype(np.int64) @ _scramble(values * 1024 + 2 * i + salt)
        keys.append(total)
    return keys


def _scramble(numbers: Ints) -> Ints:
    """64 bits that look random, the same for the same number."""
    return mix(numbers.astype(np.uint64) * GOLDEN).view(np.int64)


def _sequences(ring: sp.csr_array, values: Ints) -> Sequences:
    degree = values[ring.indices].astype(np.float64)
    return Sequences(ring.indptr.astype(np.int64), degree, ring.data.astype(np.float64))


def _check_steps(plain: sp.csr_array, max_ring: int) -> None:
    walks = np.diff(plain.indptr).astype(np.float64)
    steps, most = 0.0, float(plain.shape[0]) * plain.nnz
    for _ in range(max_ring - 1):
        walks = plain @ walks
        steps += min(float(walks.sum()), most)
    if steps > _MOST_STEPS:
        raise ValueError(
            f"Finding the rings of this graph up to max_ring={max_ring} takes about {steps:.0e} "
            f"steps, and the limit is {_MOST_STEPS:.0e}. Lower max_ring."
        )
