"""A node as a combination of all others: the homophily matrix of HERO, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skmmg.nn._edges import stack_slices
from skmmg.nn._inputs import Features, GraphTensors
from skmmg.nn._precision import in_float32, widen
from skmmg.nn._sparse import SparseMatrix

_BLOCK_ROWS = 1024
# distances that differ by less, relative to their size, are equal
_ROUNDING = 1e-9
Block = np.ndarray | sp.csr_array


@in_float32
def self_expression(
    h: Tensor, reference: Tensor, ridge: float, penalty: Tensor | None = None
) -> Tensor:
    r"""States of nodes, rebuilt from the states of the reference nodes.

    .. math::

        S &= \arg\min_S \|H - S H_R\|^2 + \alpha \sum_{ij} S_{ij} D_{ij} + \beta \|S\|^2
           = (H H_R^\top - \tfrac{\alpha}{2} D)(H_R H_R^\top + \beta I)^{-1} \\
        Z &= S H_R = (H G - \tfrac{\alpha}{2} D H_R)(G + \beta I)^{-1},
           \qquad G = H_R^\top H_R

    :math:`S` is never made: moving :math:`H_R` through the inverse leaves one of (d, d).

    Parameters
    ----------
    h : Tensor of shape (n_samples, channels)
        States :math:`H` of the nodes to rebuild.
    reference : Tensor of shape (n_reference, channels)
        States :math:`H_R`.
    ridge : float
        :math:`\beta > 0`.
    penalty : Tensor of shape (n_samples, channels) or None, default=None
        :math:`\tfrac{\alpha}{2} D H_R`; None: no distances.

    Returns
    -------
    Tensor of shape (n_samples, channels)
        :math:`Z`.
    """
    gram = reference.t() @ reference  # (d, d)
    kept = h @ gram  # (n, d)
    if penalty is not None:
        kept = kept - penalty
    shrunk = gram + ridge * torch.eye(len(gram), dtype=h.dtype, device=h.device)
    return torch.linalg.solve(shrunk, kept.t()).t()


def choose_landmarks(reference: Tensor, most: int) -> Tensor:
    """All reference nodes, or `most` of them, always the same ones: (n_landmarks,) of ids."""
    if len(reference) <= most:
        return reference
    chosen = np.random.default_rng(0).choice(len(reference), most, replace=False)
    return reference[torch.from_numpy(np.sort(chosen)).to(reference.device)]


@dataclass(frozen=True)
class FarNodes:
    """Distances, near ones left out: a sparse matrix, and a number that is added to each row.

    Many distances of a row may be equal, as those of texts that share no word: where they are most
    of what is kept, their value is the number, and stored are the entries that differ from it.

    Parameters
    ----------
    matrix : SparseMatrix of shape (n_rows, n_columns)
        Entries minus the number of their row.
    level : Tensor of shape (n_rows, 1)
        The number of every row.
    """

    matrix: SparseMatrix
    level: Tensor

    def __matmul__(self, x: Tensor) -> Tensor:
        """Product with a matrix (n_columns, c)."""
        return self.matrix @ x + self.level * widen(x).sum(0)


def far_nodes(
    features: Sequence[Features],
    rows: Tensor,
    landmarks: Tensor,
    *,
    n_reference: int,
    quantile: float,
    dtype: torch.dtype,
) -> FarNodes:
    r"""Distances :math:`D` of nodes from landmarks, near ones left out.

    Squared distances of the features, each node's features scaled to length one over all
    modalities; rows scaled to length one; entries below a row's quantile, and the row of a node
    without features, set to zero. Landmarks stand for all reference nodes: values are scaled by
    :math:`\sqrt{n_{ref} / n_{landmarks}}`, so that sums over them estimate sums over all.

    Parameters
    ----------
    features : sequence of Tensor or SparseMatrix of shape (n_nodes, n_features)
        Features by modality.
    rows, landmarks : Tensor of shape (n_samples,), (n_landmarks,)
        The nodes of the rows, and those that they are compared with.
    n_reference : int
        Number of nodes that the landmarks stand for.
    quantile : float
        Share of a row that is left out, in [0, 1].
    dtype : torch.dtype
        Of the values.

    Returns
    -------
    FarNodes of shape (n_samples, n_landmarks)
        On the device of `rows`. It is made on the CPU, by blocks of rows.
    """
    first = math.ceil(round(quantile * (len(landmarks) - 1), 9))
    columns = _unit_rows(features, landmarks)
    scale = math.sqrt(n_reference / len(landmarks))
    parts, levels = [], [np.zeros(0)]
    for part in rows.split(_BLOCK_ROWS):
        block = _unit_rows(features, part)
        known = _squares(block)[:, None] > 0
        far, level = _keep_far(_distances(block, columns) * known, first)
        parts.append(sp.csr_array(far * scale))
        levels.append(level * scale)
    stored = sp.vstack([sp.csr_array((0, len(landmarks))), *parts], format="csr")
    matrix = torch.sparse_csr_tensor(
        torch.from_numpy(stored.indptr.astype(np.int64)),
        torch.from_numpy(stored.indices.astype(np.int64)),
        torch.from_numpy(stored.data).to(dtype),
        stored.shape,
        check_invariants=False,
    )
    column = torch.from_numpy(np.concatenate(levels)).to(dtype).unsqueeze(1)
    return FarNodes(SparseMatrix(matrix.to(rows.device)), column.to(rows.device))


def feature_rows(graph: GraphTensors, node_type: str, ids: Tensor) -> Tensor:
    """Whose features the nodes have: their own, unless the graph is shuffled."""
    if graph.row_order is None:
        return ids
    start = stack_slices(graph.num_nodes)[node_type].start
    return graph.row_order[ids + start] - start


def _unit_rows(features: Sequence[Features], index: Tensor) -> list[Block]:
    """Rows of every modality, divided by the length of a node's features in all of them."""
    blocks = [_take(x, index) for x in features]
    length = np.sqrt(_squares(blocks))
    inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    return [
        sp.csr_array(sp.diags_array(inverse) @ b) if sp.issparse(b) else b * inverse[:, None]
        for b in blocks
    ]


def _take(x: Features, index: Tensor) -> Block:
    if isinstance(x, Tensor):
        return x[index].cpu().double().numpy()
    m, n_rows = x.matrix.cpu(), int(x.shape[0])
    parts = (m.values().double().numpy(), m.col_indices().numpy(), m.crow_indices().numpy())
    return sp.csr_array(parts, shape=(n_rows, int(x.shape[1])))[index.cpu().numpy()]


def _distances(rows: Sequence[Block], columns: Sequence[Block]) -> np.ndarray:
    """Squared distances (n_rows, n_columns) of rows of length one, or zero."""
    out = np.round(_squares(rows))[:, None] + np.round(_squares(columns))[None, :]
    for a, b in zip(rows, columns, strict=True):
        product: Any = a @ b.T
        out -= 2.0 * (product if isinstance(product, np.ndarray) else product.toarray())
    return np.maximum(out, 0.0)


def _squares(blocks: Sequence[Block]) -> np.ndarray:
    """Squared length of every node's features in all modalities."""
    return np.sum([np.asarray((b * b).sum(axis=1)).ravel() for b in blocks], axis=0)


def _keep_far(distances: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled rows, without what is below the entry of rank `first`, minus the levels (n_rows,)."""
    length = np.linalg.norm(distances, axis=1, keepdims=True)
    scaled = distances / np.where(length > 0, length, 1.0)
    bound = np.partition(scaled, first, axis=1)[:, first : first + 1]
    tied = np.abs(scaled - bound) <= _ROUNDING * bound
    kept = np.where(tied, bound, np.where(scaled > bound, scaled, 0.0))
    worth_it = (~tied).sum(1) < (kept > 0).sum(1)
    level = np.where(worth_it, bound[:, 0], 0.0)
    return kept - level[:, None], level
