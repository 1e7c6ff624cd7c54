"""Exact dynamic time warping between many pairs of short sequences at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# elements of one side of the pairs that are compared at a time
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Sequences:
    """Sequences of (degree, count) pairs, one after the other.

    Parameters
    ----------
    offsets : ndarray of int64 of shape (n_sequences + 1,)
        Where each sequence begins.
    degree : ndarray of float64 of shape (n_elements,)
        Degrees, ascending within a sequence.
    count : ndarray of float64 of shape (n_elements,)
        How many nodes have the degree.
    """

    offsets: Ints
    degree: Floats
    count: Floats

    def lengths(self, ids: Ints) -> Ints:
        """Number of elements of some sequences."""
        return self.offsets[ids + 1] - self.offsets[ids]

    def padded(self, ids: Ints) -> tuple[Floats, Floats]:
        """Degrees and counts of some sequences, (n, longest), arbitrary behind the ends."""
        longest = int(self.lengths(ids).max())
        places = self.offsets[ids, None] + np.arange(longest)
        places = np.minimum(places, len(self.degree) - 1)
        return self.degree[places], self.count[places]


def warping_distances(sequences: Sequences, first: Ints, second: Ints) -> Floats:
    r"""Dynamic time warping distance of pairs of sequences, none of them empty.

    The cost of matching (degree d, count n) with (d', n') is

    .. math:: \Bigl(\frac{\max(d, d') + .5}{\min(d, d') + .5} - 1\Bigr) \max(n, n')

    and the distance the smallest sum of costs along a path that steps on in one sequence or both.
    """
    out = np.empty(len(first))
    lengths = np.maximum(sequences.lengths(first), sequences.lengths(second))
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        # pairs of about one length: those behind have at least the length of the first of them
        n_pairs = max(1, _BLOCK // int(lengths[order[start]]))
        part = order[start : start + n_pairs]
        part = part[lengths[part] <= 2 * lengths[part[0]]]
        out[part] = _warp(sequences, first[part], second[part])
        start += len(part)
    return out


def _warp(sequences: Sequences, first: Ints, second: Ints) -> Floats:
    """Distances of a block of pairs: all cells (i, j) with one i + j at a time."""
    degree_a, count_a = sequences.padded(first)  # (P, La)
    degree_b, count_b = sequences.padded(second)  # (P, Lb)
    n_rows, n_cols = degree_a.shape[1], degree_b.shape[1]
    last_row = sequences.lengths(first) - 1
    last = last_row + sequences.lengths(second) - 1
    # best cost up to the cells of the last two diagonals, by i + 1; nothing leads into i = 0
    before = np.full((len(first), n_rows + 1), np.inf)
    previous = before.copy()
    before[:, 0] = 0.0  # the path's start, diagonally before (0, 0)
    out = np.zeros(len(first))
    for diagonal in range(n_rows + n_cols - 1):
        low, high = max(0, diagonal - n_cols + 1), min(n_rows - 1, diagonal)
        rows = slice(low, high + 1)
        columns = diagonal - np.arange(low, high + 1)
        cost = _cost(degree_a[:, rows], count_a[:, rows], degree_b[:, columns], count_b[:, columns])
        inside, above = slice(low + 1, high + 2), slice(low, high + 1)
        best = np.minimum(np.minimum(previous[:, inside], previous[:, above]), before[:, above])
        before, previous = previous, np.full_like(previous, np.inf)
        previous[:, inside] = cost + best
        done = np.flatnonzero(last == diagonal)
        out[done] = previous[done, last_row[done] + 1]
    return out


def _cost(degree_a: Floats, count_a: Floats, degree_b: Floats, count_b: Floats) -> Floats:
    ratio = (np.maximum(degree_a, degree_b) + 0.5) / (np.minimum(degree_a, degree_b) + 0.5)
    return (ratio - 1) * np.maximum(count_a, count_b)
