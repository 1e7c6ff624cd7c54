"""What the sampler does for every node and edge, compiled: the same as `_sampler_numpy`.

Reads that miss the cache are what a sample of a large graph waits for. So the work is done in
passes that only read, whose misses overlap; and a found node is a bit, and its number a count of
bits: a million nodes are 250 KB, which the cache keeps.
"""

from __future__ import annotations

import numba
import numpy as np

from skmmg.nn._splitmix import GOLDEN, mix
from skmmg.training._sampler_numpy import WORD, Draw, Part

_ZERO, _ONE, _HALF = np.uint64(0), np.uint64(1), np.uint64(32)
_SPARE = 16  # positions that may be written beyond the last, see `_choose`
_mix = numba.njit(nogil=True, cache=True)(mix)


class Marks:
    """Which nodes of a type a sample has found: bits, 64 to a word."""

    def __init__(self, n_nodes: int) -> None:
        self.bits = np.zeros(n_nodes // 64 + 1, dtype=np.uint64)
        self.told = self.bits.copy()  # of the nodes that `fresh` has told
        self.rank = np.zeros(len(self.bits), dtype=np.int64)  # how many are marked before a word

    def add(self, ids: np.ndarray) -> None:
        """Mark nodes, which may be marked already."""
        _add(self.bits, ids)

    def fresh(self) -> np.ndarray:
        """Nodes marked since the last call, ascending."""
        ids = _list(self.bits ^ self.told, self.rank)
        self.told[:] = self.bits
        return ids

    def number(self) -> np.ndarray:
        """All marked nodes, ascending; `number_ends` then knows their positions."""
        return _list(self.bits, self.rank)

    def clear(self) -> None:
        """Forget all marks."""
        self.bits[:] = 0
        self.told[:] = 0


@numba.njit(nogil=True, cache=True)
def draw(
    indptr: np.ndarray, source: np.ndarray, nodes: np.ndarray, fan_out: int, key: np.uint64
) -> Draw:
    """Sources of the drawn edges, how many each node drew, and the edges' positions."""
    start, degree = np.empty((2, len(nodes)), dtype=np.int64)
    n_edges = 0
    for i in range(len(nodes)):
        start[i] = indptr[nodes[i]]
        degree[i] = indptr[nodes[i] + 1] - start[i]
        n_edges += min(degree[i], fan_out)
    position = _choose(nodes, start, degree, n_edges, fan_out, key)
    drawn = np.empty(n_edges, dtype=source.dtype)
    for i in range(n_edges):
        drawn[i] = source[position[i]]
    return drawn, np.minimum(degree, fan_out), position


def number_ends(parts: list[Part], source: Marks, destination: Marks) -> np.ndarray:
    """Both ends of the drawn edges (2, n_edges) as positions among the sampled nodes."""
    out = np.empty((2, sum(len(drawn) for _, drawn, *_ in parts)), dtype=np.int64)
    start = 0
    for nodes, drawn, taken, _ in parts:
        stop = start + len(drawn)
        _number_sources(drawn, source.bits, source.rank, out[0, start:stop])
        _number_nodes(nodes, taken, destination.bits, destination.rank, out[1, start:stop])
        start = stop
    return out


@numba.njit(nogil=True, cache=True)
def _choose(
    nodes: np.ndarray,
    start: np.ndarray,
    degree: np.ndarray,
    n_edges: int,
    fan_out: int,
    key: np.uint64,
) -> np.ndarray:
    """Positions of the drawn edges (n_edges,)."""
    # what is written too far, the next node overwrites: loops of one length can be predicted
    position = np.empty(n_edges + _SPARE, dtype=np.int64)
    at_least = fan_out if fan_out <= _SPARE else 0
    first = 0
    for k in range(len(nodes)):
        taken = min(degree[k], fan_out)
        base = _mix(key + GOLDEN * (np.uint64(nodes[k]) + _ONE))
        if degree[k] <= fan_out:
            for i in range(max(taken, at_least)):
                position[first + i] = start[k] + i
        elif degree[k] < 2 * fan_out and degree[k] <= WORD:
            _leave_out(position, first, start[k], degree[k], taken, base)
        else:
            _pick(position, first, start[k], degree[k], taken, base)
        first += taken
    return position[:n_edges]


@numba.njit(nogil=True, cache=True)
def _random(base: np.uint64, i: int, n: int) -> np.int64:
    """The `i`-th random number below `n`."""
    random = _mix(base + GOLDEN * np.uint64(i + 1)) >> _HALF
    return np.int64((random * np.uint64(n)) >> _HALF)


@numba.njit(nogil=True, cache=True)
def _pick(
    position: np.ndarray, first: int, start: int, degree: int, taken: int, base: np.uint64
) -> None:
    """Fill `position` from `first` on with some of a node's edges, by Floyd's algorithm."""
    for i in range(taken):
        last = degree - taken + i
        pick = start + _random(base, i, last + 1)
        repeated = False
        for j in range(first, first + i):  # all of them: a branch could not be predicted
            repeated |= position[j] == pick
        position[first + i] = start + last if repeated else pick


@numba.njit(nogil=True, cache=True)
def _leave_out(
    position: np.ndarray, first: int, start: int, degree: int, taken: int, base: np.uint64
) -> None:
    """The same where fewer stay out than are taken: choose these, as bits of a word."""
    out = _ZERO
    for i in range(degree - taken):
        last = taken + i
        pick = np.uint64(_random(base, i, last + 1))
        out |= _ONE << (np.uint64(last) if (out >> pick) & _ONE else pick)
    for i in range(degree):
        position[first] = start + i
        first += int(_ONE - (out & _ONE))
        out >>= _ONE


@numba.njit(nogil=True, cache=True)
def _add(bits: np.ndarray, ids: np.ndarray) -> None:
    for i in ids:
        bits[i >> 6] |= _ONE << np.uint64(i & 63)


@numba.njit(nogil=True, cache=True)
def _count(word: np.uint64) -> np.int64:
    """How many bits are set; one instruction where the processor has it."""
    pairs = word - ((word >> _ONE) & np.uint64(0x5555555555555555))
    fours = np.uint64(0x3333333333333333)
    nibbles = (pairs & fours) + ((pairs >> np.uint64(2)) & fours)
    octets = (nibbles + (nibbles >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((octets * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(nogil=True, cache=True)
def _list(bits: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The set bits, ascending; fill `rank` with how many are set before each word."""
    n_set = 0
    for w in range(len(bits)):
        rank[w] = n_set
        n_set += _count(bits[w])
    ids = np.empty(n_set, dtype=np.int64)
    n_set = 0
    for w in range(len(bits)):
        word = bits[w]
        while word != _ZERO:
            lowest = word & (_ZERO - word)
            ids[n_set] = 64 * w + _count(lowest - _ONE)
            n_set += 1
            word ^= lowest
    return ids


@numba.njit(nogil=True, cache=True)
def _position(i: int, bits: np.ndarray, rank: np.ndarray) -> int:
    """Where node `i` stands among the marked ones."""
    before = (_ONE << np.uint64(i & 63)) - _ONE
    return rank[i >> 6] + _count(bits[i >> 6] & before)


@numba.njit(nogil=True, cache=True)
def _number_sources(drawn: np.ndarray, bits: np.ndarray, rank: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(drawn)):
        out[i] = _position(drawn[i], bits, rank)


@numba.njit(nogil=True, cache=True)
def _number_nodes(
    nodes: np.ndarray, taken: np.ndarray, bits: np.ndarray, rank: np.ndarray, out: np.ndarray
) -> None:
    first = 0
    for k in range(len(nodes)):
        out[first : first + taken[k]] = _position(nodes[k], bits, rank)
        first += taken[k]
