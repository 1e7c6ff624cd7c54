"""Metapaths: walks over relations, and the nodes that they join.

A metapath is written as its edge types in the order in which a message takes them: it starts at
the source of the first and ends at the destination of the last.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch

from skmmg.nn._edges import EdgeStructure, EdgeType
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._splitmix import GOLDEN, mix

Metapath = tuple[EdgeType, ...]
Keep = Callable[[sp.csr_array, int], sp.csr_array]

# pairs of nodes that all metapaths of a model may join: about 8 GiB of attention with 8 heads
_MAX_PAIRS = 20_000_000
# walks that may be counted to find them: a minute or so
_MAX_WALKS = 5_000_000_000
# walks that one block of rows of a product takes
_BLOCK_WALKS = 1 << 23


# ------------------------------------------------------------------------------ which there are


def paths_into(edge_types: Sequence[EdgeType], target: str, hops: int) -> list[Metapath]:
    """All metapaths of at most `hops` steps that end at `target`; the first is the empty one."""
    if hops == 0:
        return [()]
    last = [e for e in edge_types if e[2] == target]
    return [(), *((*p, e) for e in last for p in paths_into(edge_types, e[0], hops - 1))]


def auto_metapaths(edge_types: Sequence[EdgeType], target: str) -> tuple[Metapath, ...]:
    """From the target type back to it: in one step, or in two through another node type."""
    paths = paths_into(edge_types, target, 2)
    return tuple(p for p in paths if p and p[0][0] == target and (len(p) == 1 or p[0][2] != target))


def check_metapaths(
    given: str | Sequence[object], edge_types: Sequence[EdgeType], target: str
) -> tuple[Metapath, ...]:
    """Metapaths from the target type back to it, as their edge types.

    Parameters
    ----------
    given : "auto" or sequence of metapaths
        "auto": see `auto_metapaths`. A metapath is a sequence of steps, a step the name of a
        relation or an edge type (source, relation, destination); one step may stand alone.
    edge_types : sequence of (str, str, str)
        The relations of the network.
    target : str
        The node type.

    Returns
    -------
    tuple of tuple of (str, str, str)
        The metapaths, each once.

    Raises
    ------
    ValueError
        If a step is no relation, the steps are no walk from the target type back to it or can be
        read in several ways, or there is no metapath.
    """
    if isinstance(given, str):
        paths = auto_metapaths(edge_types, target)
    else:
        paths = tuple(_read(path, edge_types, target) for path in given)
    if paths:
        return tuple(dict.fromkeys(paths))
    raise ValueError(
        f"At least one metapath has to lead from {target!r} back to {target!r}, in one step or "
        "through another node type, but the relations are "
        f"{list(edge_types)}, and metapaths={given!r}. Give relations between nodes of that type "
        '(for rows graph="knn"), reverse relations (add_reverse=True), or longer metapaths such '
        "as [(relation, relation, relation, relation)]."
    )


def _read(path: object, edge_types: Sequence[EdgeType], target: str) -> Metapath:
    """The edge types that a metapath's steps name."""
    several = isinstance(path, list | tuple) and path not in edge_types
    steps = list(cast("Sequence[object]", path)) if several else [path]
    walks: list[Metapath] = [()]
    for step in steps:
        found = _edge_types_of(step, edge_types)
        walks = [(*w, e) for w in walks for e in found if e[0] == (w[-1][2] if w else target)]
    walks = [w for w in walks if w and w[-1][2] == target]
    if len(walks) == 1:
        return walks[0]
    if walks:
        raise ValueError(
            f"Metapath {path!r} can be read in several ways: {walks}. Give its steps as edge "
            "types (source, relation, destination)."
        )
    raise ValueError(
        f"Metapath {path!r} has to be a walk from {target!r} back to {target!r} in which every "
        f"relation starts where the one before ends. The relations are {list(edge_types)}."
    )


def _edge_types_of(step: object, edge_types: Sequence[EdgeType]) -> list[EdgeType]:
    found = [e for e in edge_types if step == e[1] or step == e]
    if found:
        return found
    close = difflib.get_close_matches(str(step), [e[1] for e in edge_types], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"A step of a metapath has to be the name of a relation or an edge type, got {step!r}."
        f"{hint} The relations are {list(edge_types)}."
    )


# ------------------------------------------------------------------------------ whom they join


def metapath_edges(
    graph: GraphTensors,
    metapaths: Sequence[Metapath],
    *,
    max_neighbors: int | None,
    self_loops: bool,
) -> list[EdgeStructure]:
    """The pairs of target nodes that each metapath joins, each pair once; kept with the graph.

    Parameters
    ----------
    graph : GraphTensors
        The graph.
    metapaths : sequence of metapaths
        From one node type back to it.
    max_neighbors : int or None
        The most neighbours that a node keeps: those that it shares the most walks with; among
        equals a fixed pseudo-random choice that depends on the two nodes' numbers alone.
    self_loops : bool
        Whether every node is its own neighbour, beyond `max_neighbors`.

    Returns
    -------
    list of EdgeStructure
        One relation each.

    Raises
    ------
    ValueError
        If there are too many pairs, or too many walks to count.
    """
    key = ("metapaths", tuple(metapaths), max_neighbors, self_loops)
    return graph.cached(key, lambda: _join(graph, metapaths, max_neighbors, self_loops), of="edges")


def _join(
    graph: GraphTensors, metapaths: Sequence[Metapath], max_neighbors: int | None, self_loops: bool
) -> list[EdgeStructure]:
    def keep(block: sp.csr_array, first: int) -> sp.csr_array:
        others = without_diagonal(block, first) if self_loops else block
        kept = others if max_neighbors is None else _strongest(others, first, max_neighbors)
        return kept + _identity(kept.shape, first) if self_loops else kept

    advice = _advise(graph, metapaths, max_neighbors, self_loops)
    out, left = [], _MAX_PAIRS
    for path in metapaths:
        chain = [count_matrix(graph, e) for e in reversed(path)]
        pairs = compose(chain, keep, path, left, advice).tocoo()
        left -= pairs.nnz
        index = torch.from_numpy(np.stack(pairs.coords[::-1]).astype(np.int64)).to(graph.device)
        node_type = path[-1][2]
        edge_type = (node_type, "metapath", node_type)
        nodes = {node_type: graph.num_nodes[node_type]}
        out.append(EdgeStructure({edge_type: index}, nodes, [edge_type], graph.device))
    return out


def _advise(
    graph: GraphTensors, metapaths: Sequence[Metapath], max_neighbors: int | None, self_loops: bool
) -> str:
    """What to set where the metapaths join too many pairs: a number that is sure to do."""
    n_rows = max(1, graph.num_nodes[metapaths[0][-1][2]] * len(metapaths))
    most = _MAX_PAIRS // n_rows - self_loops
    if most < 1:
        return f"Name fewer than these {len(metapaths)} metapaths."
    return (
        f"Set max_neighbors to {most} or less (it is {max_neighbors}), or name fewer than these "
        f"{len(metapaths)} metapaths."
    )


def _identity(shape: tuple[int, int], first: int) -> sp.csr_array:
    """Ones at the rows' own columns."""
    return sp.eye_array(*shape, k=first, format="csr")


def _strongest(counts: sp.csr_array, first: int, size: int) -> sp.csr_array:
    """The `size` largest entries of every row."""
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    order = np.lexsort((_scatter(row + first, counts.indices), -counts.data, row))
    rank = np.arange(counts.nnz) - counts.indptr[row]
    kept = order[rank < size]
    return sp.csr_array((counts.data[kept], (row[kept], counts.indices[kept])), counts.shape)


def _scatter(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """A pseudo-random number of every pair."""
    return mix(row.astype(np.uint64) * GOLDEN + col.astype(np.uint64))


# ------------------------------------------------------------------------------ algebra


def count_matrix(graph: GraphTensors, edge_type: EdgeType) -> sp.csr_array:
    """Number of edges from every source (column) to every destination (row)."""
    index = graph.edge_index.get(edge_type)
    src, dst = np.zeros((2, 0), dtype=np.int64) if index is None else index.cpu().numpy()
    shape = (graph.num_nodes[edge_type[2]], graph.num_nodes[edge_type[0]])
    return sp.csr_array((np.ones(len(src)), (dst, src)), shape)


def row_normalized(counts: sp.csr_array) -> sp.csr_array:
    """The matrix with rows that sum to 1, or are empty."""
    degree = np.repeat(counts.sum(axis=1), np.diff(counts.indptr))
    return sp.csr_array((counts.data / degree, counts.indices, counts.indptr), counts.shape)


def without_diagonal(block: sp.csr_array, first: int) -> sp.csr_array:
    """Rows `first` and following of a matrix, without the entries on its diagonal."""
    entries = block.tocoo()
    row, col = entries.coords
    off = row + first != col
    return sp.csr_array((entries.data[off], (row[off], col[off])), block.shape)


def compose(
    chain: Sequence[sp.csr_array], keep: Keep, path: Metapath, max_pairs: int, advice: str
) -> sp.csr_array:
    """Product of a chain of matrices, block of rows by block of rows.

    `keep` gets a block and its first row and gives what stays of it, so that the whole product
    need not fit into memory. `advice` is for too many pairs.
    """
    parts, n_pairs = [], 0
    for rows, block in products(chain, path, "Name the metapaths without it."):
        parts.append(keep(block, rows.start))
        n_pairs += parts[-1].nnz
        if n_pairs > max_pairs:
            raise ValueError(
                f"The metapaths up to {_spell(path)} join more than {_MAX_PAIRS:,} pairs of nodes, "
                f"which is the most. {advice}"
            )
    return sp.csr_array(sp.vstack(parts, format="csr"))


def products(
    chain: Sequence[sp.csr_array], path: Metapath, advice: str
) -> Iterator[tuple[slice, sp.csr_array]]:
    """Blocks of rows of the product of a chain of matrices, one after the other."""
    for rows in _blocks(chain, path, advice):
        block = chain[0][rows]
        for matrix in chain[1:]:
            block = block @ matrix
        yield rows, block


def _blocks(chain: Sequence[sp.csr_array], path: Metapath, advice: str) -> Iterator[slice]:
    """Blocks of rows in which about `_BLOCK_WALKS` walks end."""
    walks = sum(_count_walks(chain[: i + 1]) for i in range(len(chain)))
    total = np.cumsum(walks)
    if len(total) and total[-1] > _MAX_WALKS:
        raise ValueError(
            f"Metapath {_spell(path)} stands for {total[-1]:.2g} walks, more than "
            f"{_MAX_WALKS:.0e}, which is the most: it passes through nodes with very many "
            f"neighbours. {advice}"
        )
    last = int(total[-1] // _BLOCK_WALKS) if len(total) else 0
    starts = np.searchsorted(total, np.arange(last + 1) * float(_BLOCK_WALKS))
    starts = np.unique(np.append(starts, 0))
    for start, stop in zip(starts, [*starts[1:], chain[0].shape[0]], strict=True):
        yield slice(int(start), int(stop))


def _count_walks(chain: Sequence[sp.csr_array]) -> np.ndarray:
    """Distinct walks that end at every row."""
    count = np.ones(chain[-1].shape[1])
    for matrix in reversed(chain):
        pattern = sp.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape)
        count = pattern @ count
    return count


def _spell(path: Metapath) -> str:
    return " -> ".join([path[0][0], *(f"{relation} -> {end}" for _, relation, end in path)])
