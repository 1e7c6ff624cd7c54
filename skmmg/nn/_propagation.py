"""Means along metapaths: of features, and of labels without a node's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skmmg.nn._inputs import GraphTensors
from skmmg.nn._metapaths import Metapath, count_matrix, products, row_normalized, without_diagonal
from skmmg.nn._relations import mean_adjacency


def source_type(path: Metapath, target: str) -> str:
    """The node type that a metapath to `target` starts at."""
    return path[0][0] if path else target


def propagate(
    graph: GraphTensors, paths: Sequence[Metapath], x: Mapping[str, Tensor], target: str
) -> dict[Metapath, Tensor]:
    r"""Mean over the in-edges, step by step along every metapath.

    .. math:: X_P = A_{r_l} \cdots A_{r_1} X, \qquad P = (r_1, \dots, r_l)

    Metapaths that begin with the same steps share them. `x` has a matrix (n_nodes, c) for every
    node type that a metapath starts at; the result has (n_target_nodes, c) for every metapath.
    """
    done: dict[Metapath, Tensor] = {}

    def along(path: Metapath) -> Tensor:
        if not path:
            return x[target]
        if path not in done:
            before = along(path[:-1]) if len(path) > 1 else x[path[0][0]]
            done[path] = mean_adjacency(graph, path[-1], before.dtype) @ before
        return done[path]

    return {path: along(path) for path in paths}


def propagate_labels(
    graph: GraphTensors,
    paths: Sequence[Metapath],
    n_classes: int,
    dtype: torch.dtype,
    advice: str,
) -> Tensor:
    r"""Mean of the known labels along every metapath, a node's own left out; kept with the labels.

    .. math:: L_P = (A_P - \mathrm{diag}(A_P))\, Y, \qquad A_P = A_{r_l} \cdots A_{r_1}

    where :math:`Y` is one-hot for nodes with a known label and 0 for the others. The product is
    made in blocks of rows, and none of it is kept.

    Parameters
    ----------
    graph : GraphTensors
        The graph with its labels; without any, all are unknown.
    paths : sequence of metapaths
        From the target type back to it.
    n_classes : int
        Number of classes.
    dtype : torch.dtype
        Of the result.
    advice : str
        What an error tells the user to do.

    Returns
    -------
    Tensor of shape (n_paths, n_target_nodes, n_classes)
        The channels.

    Raises
    ------
    ValueError
        If a metapath stands for too many walks.
    """
    key = ("label_channels", tuple(paths), n_classes, dtype)

    def make() -> Tensor:
        channels = [_propagate_along(graph, path, n_classes, advice) for path in paths]
        return torch.from_numpy(np.stack(channels)).to(graph.device, dtype)

    return graph.cached(key, make, of="labels")


def _propagate_along(
    graph: GraphTensors, path: Metapath, n_classes: int, advice: str
) -> np.ndarray:
    n_nodes = graph.num_nodes[path[-1][2]]
    out = np.zeros((n_nodes, n_classes))
    labels = np.full(n_nodes, -1) if graph.labels is None else graph.labels.cpu().numpy()
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        return out
    one_hot = sp.csr_array((np.ones(len(known)), (known, labels[known])), (n_nodes, n_classes))
    chain = [row_normalized(count_matrix(graph, edge_type)) for edge_type in reversed(path)]
    chain[-1] = _only(chain[-1], labels >= 0)
    for rows, block in products(chain, path, advice):
        out[rows] = (without_diagonal(block, rows.start) @ one_hot).toarray()
    return out


def _only(matrix: sp.csr_array, kept: np.ndarray) -> sp.csr_array:
    """The matrix without the entries of the other columns."""
    entries = matrix.tocoo()
    row, col = entries.coords
    used = kept[col]
    return sp.csr_array((entries.data[used], (row[used], col[used])), matrix.shape)
