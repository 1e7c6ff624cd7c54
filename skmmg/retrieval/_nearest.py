"""Exact nearest neighbours of unit vectors by cosine, in blocks, on the CPU.

A matrix product by torch, in bfloat16 where that is faster, finds the groups of rows that may hold
one of the nearest; the rows of these groups are compared anew in float32. The error of the product
is bounded, so that no neighbour is lost. The second comparison does not depend on where a row
stands and on what else is asked for, so that equal rows have equal distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skmmg.retrieval._vectors import Ids, Vectors

if TYPE_CHECKING:
    from torch import Tensor

_QUERIES = 512  # in one block
_COSINES = 1 << 22  # in one block
_MAXIMA = 1 << 24  # values that are kept for one block of queries: 64 MiB
_VALUES = 1 << 22  # of gallery rows that are compared anew at once: 16 MiB
_FOUND = 1 << 20  # neighbours that are kept before the best are chosen
_FEW = 64  # queries for which it does not pay to turn the gallery into bfloat16
_TOO_MANY = 0.02  # of the gallery compared anew: bfloat16 does not pay

Found = tuple[Vectors, Ids]


def nearest(queries: Vectors, gallery: Vectors, k: int, bfloat16: bool | None = None) -> Found:
    """Return cosines and positions of the nearest rows, the nearest first.

    Rows of the same cosine are taken and ordered by their position.

    Parameters
    ----------
    queries, gallery : ndarray of float32 of shape (n_queries, d) and (n_gallery, d)
        Rows of length one, or zeros.
    k : int
        At most n_gallery.
    bfloat16 : bool, default=None
        Whether the first comparison is in bfloat16; None: where it is faster. The result is the
        same.
    """
    groups = Groups.of(gallery.shape, k, min(len(queries), _QUERIES))
    step = int(np.clip(_MAXIMA // groups.n_groups, 1, _QUERIES))
    is_low = (min(len(queries), step) >= _FEW and bfloat16_pays()) if bfloat16 is None else bfloat16
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        search = _Search(queries[block], gallery, k, groups)
        scores[block], rows[block], compared = search.run(is_low)
        is_low = is_low and (bfloat16 is not None or compared < _TOO_MANY)
    return scores, rows


def without_itself(distances: Vectors, ids: Ids, own: Ids) -> Found:
    """Drop each query from its neighbours, or the last neighbour where it is not among them."""
    dropped = ids == own[:, None]
    dropped[~dropped.any(axis=1), -1] = True
    shape = (len(ids), ids.shape[1] - 1)
    return distances[~dropped].reshape(shape), ids[~dropped].reshape(shape)


def score_pairs(queries: Vectors, rows: Vectors) -> Vectors:
    """Return cosines of query i and of each row of rows[i]: (n, d) and (n, m, d) to (n, m).

    Not a matrix product: its rounding would depend on the place of a row.
    """
    return np.einsum("nd,nmd->nm", queries, rows)


@cache
def bfloat16_pays() -> bool:
    """Measure whether products of bfloat16 are at least twice as fast here as those of float32."""
    import torch

    left, right = torch.ones(256, 256), torch.ones(256, 2048)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        pair = left.to(dtype), right.to(dtype)
        times = []
        for _ in range(4):
            start = perf_counter()
            torch.mm(*pair)
            times.append(perf_counter() - start)
        seconds[dtype] = min(times)
    return seconds[torch.bfloat16] * 2 < seconds[torch.float32]


def _multiply_low(left: Vectors, right: Vectors) -> Tensor:
    """Multiply matrices in bfloat16."""
    import torch

    # torch warns of arrays that it could write to although they are read-only
    factors = (m if m.flags.writeable else m.copy() for m in (left, right))
    first, second = (torch.from_numpy(m).to(torch.bfloat16) for m in factors)
    return first @ second


@dataclass(frozen=True)
class Groups:
    """How the gallery is divided: into blocks of rows, and each block into groups.

    Group j of a block has the rows j, j + stride, j + 2·stride, ... of the block, so that the
    maxima of all groups are elementwise maxima of long stretches.
    """

    n_rows: int
    block: int
    size: int

    @classmethod
    def of(cls, shape: tuple[int, ...], k: int, n_queries: int) -> Groups:
        """Choose the sizes: small groups make a long list of maxima, large ones comparisons."""
        n_rows, width = shape
        size = 1 << int(np.clip(np.log2(n_rows / (k * width)) / 2, 0, 6))
        block = 1 << int(np.clip(np.log2(_COSINES / max(n_queries, 1)), 10, 16))
        return cls(n_rows, block, size)

    @property
    def last_stride(self) -> int:
        """Number of groups in the last block, which may be shorter than the others."""
        return (self.n_rows - 1) % self.block // self.size + 1

    @property
    def n_groups(self) -> int:
        """Number of groups in all blocks."""
        return (self.n_rows - 1) // self.block * (self.block // self.size) + self.last_stride

    def rows(self, groups: NDArray[np.int64]) -> Ids:
        """Return the rows of groups, (...) to (..., size); those past the end do not exist."""
        block, place = np.divmod(groups, self.block // self.size)
        is_last = block == (self.n_rows - 1) // self.block
        stride = np.where(is_last, self.last_stride, self.block // self.size)
        first = block * self.block + place
        return first[..., None] + np.arange(self.size) * stride[..., None]


@dataclass(frozen=True, eq=False)
class _Search:
    """The search for one block of queries."""

    queries: Vectors
    gallery: Vectors
    k: int
    groups: Groups

    def run(self, is_low: bool) -> tuple[Vectors, Ids, float]:
        """Return cosines, positions, and what share of the gallery was compared anew."""
        maxima = self._group_maxima(is_low)
        n_first = min(self.k, self.groups.n_groups)
        first = maxima.topk(n_first, dim=1, sorted=False).indices
        maxima.scatter_(1, first, -float("inf"))
        best, threshold = self._compare_first(first.numpy())
        # no row outside these groups reaches the k-th best of the first ones
        reach = maxima.new_tensor(threshold - self._slack(is_low))
        pairs = (maxima >= reach[:, None]).nonzero().numpy()
        best = self._compare(pairs, best, threshold)
        compared = (first.numel() + len(pairs)) * self.groups.size
        shape = len(self.queries), self.k
        share = compared / (shape[0] * len(self.gallery))
        return best.scores.reshape(shape), best.rows.reshape(shape), share

    def _group_maxima(self, is_low: bool) -> Tensor:
        """Return the largest cosine in each group, (n_queries, n_groups), up to the slack."""
        import torch

        multiply = _multiply_low if is_low else np.matmul
        maxima = torch.empty(len(self.queries), self.groups.n_groups)
        size, done = self.groups.size, 0
        for start in range(0, len(self.gallery), self.groups.block):
            rows = self.gallery[start : start + self.groups.block]
            cosines = torch.as_tensor(multiply(self.queries, rows.T))  # (n_queries, n_rows)
            if len(rows) % size:
                missing = -len(rows) % size
                cosines = torch.nn.functional.pad(cosines, (0, missing), value=-float("inf"))
            by_group = cosines.view(len(cosines), size, -1)
            stride = by_group.shape[2]
            maxima[:, done : done + stride] = by_group.amax(1)
            done += stride
        return maxima

    def _slack(self, is_low: bool) -> float:
        """Bound the difference of the two comparisons, for vectors of length one.

        A sum of d products is off by at most d·u; bfloat16 rounds both factors and the result.
        """
        of_sums = 2 * (self.queries.shape[1] + 2) * 2.0**-24
        return of_sums + (3.05 * 2.0**-8 if is_low else 0.0)

    def _compare_first(self, groups: NDArray[np.int64]) -> tuple[_Best, Vectors]:
        """Compare the rows of groups, (n_queries, m), and return the k-th best for each query."""
        shape = (len(self.queries), groups.shape[1] * self.groups.size)
        scores, rows = np.empty(shape, np.float32), np.empty(shape, np.int64)
        step = max(1, _VALUES // (shape[1] * self.gallery.shape[1]))
        for start in range(0, shape[0], step):
            block = slice(start, start + step)
            rows[block] = self.groups.rows(groups[block]).reshape(-1, shape[1])
            scores[block] = self._score(np.arange(shape[0])[block], rows[block])
        threshold = np.partition(scores, shape[1] - self.k, axis=1)[:, shape[1] - self.k]
        query, place = np.nonzero(scores >= threshold[:, None])
        return _Best(query, scores[query, place], rows[query, place]), threshold

    def _compare(self, pairs: NDArray[np.int64], best: _Best, threshold: Vectors) -> _Best:
        """Compare the rows of (query, group) pairs, too, and keep the k best of each query."""
        step = max(1, _VALUES // (self.groups.size * self.gallery.shape[1]))
        for start in range(0, len(pairs), step):
            query, group = pairs[start : start + step].T
            rows = self.groups.rows(group)
            scores = self._score(query, rows)
            pair, place = np.nonzero(scores >= threshold[query, None])
            best = best.extend(_Best(query[pair], scores[pair, place], rows[pair, place]))
            if len(best.scores) > _FOUND + self.k * len(self.queries):
                best = best.keep(self.k)
        return best.keep(self.k)

    def _score(self, query: NDArray[np.int64], rows: Ids) -> Vectors:
        """Return the cosines of rows, (n, m), with a query each; rows that do not exist: -inf."""
        taken = self.gallery[np.minimum(rows, len(self.gallery) - 1)]
        scores = score_pairs(self.queries[query], taken)
        return np.where(rows < len(self.gallery), scores, -np.inf).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Best:
    """Neighbours of all queries, one after the other: query, cosine and row."""

    query: NDArray[np.int64]
    scores: Vectors
    rows: Ids

    def extend(self, other: _Best) -> _Best:
        """Append others."""
        return _Best(
            np.concatenate([self.query, other.query]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.rows, other.rows]),
        )

    def keep(self, k: int) -> _Best:
        """Keep the k best of each query, the best first, ties in the order of the rows."""
        order = np.lexsort((self.rows, -self.scores, self.query))
        query = self.query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        chosen = order[rank < k]
        return _Best(self.query[chosen], self.scores[chosen], self.rows[chosen])
