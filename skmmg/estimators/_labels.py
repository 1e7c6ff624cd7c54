"""Labels that a model sees as inputs, and the network that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Self

import numpy as np

from skmmg.estimators._focus import Focus
from skmmg.graph import MultiModalGraph


@dataclass(frozen=True)
class KnownLabels:
    """Classes of the training nodes, for models with `uses_labels`.

    They are shown on the network that the model was fitted on, which is known by a digest of its
    edges because an estimator keeps no graph, and on fitted rows. On another network no label is
    known.

    Parameters
    ----------
    ids : ndarray of shape (n_samples,)
        The training nodes, as the user's graph numbers them.
    codes : ndarray of shape (n_samples,)
        Their classes, numbered.
    network : bytes or None
        Digest of the user's graph; None for rows, whose first nodes are always the fitted rows.
    """

    ids: np.ndarray
    codes: np.ndarray
    network: bytes | None

    @classmethod
    def of(cls, focus: Focus, codes: np.ndarray, rows: bool) -> Self:
        """The labels of the nodes in focus."""
        ids = focus.ids if focus.source_ids is None else focus.source_ids[focus.ids]
        return cls(ids, codes, None if rows else _digest(focus.source or focus.graph))

    def on(self, focus: Focus) -> Focus:
        """The same focus, in which the model sees these labels."""
        n_nodes = focus.graph.n_nodes[focus.node_type]
        labels = np.full(n_nodes, -1, dtype=np.int64)
        source = focus.source or focus.graph
        if self.network is None or self.network == _digest(source):
            known = np.full(source.n_nodes[focus.node_type], -1, dtype=np.int64)
            known[self.ids] = self.codes
            labels = known if focus.source_ids is None else known[focus.source_ids]
        return replace(focus, labels=labels)


def _digest(graph: MultiModalGraph) -> bytes:
    """Digest of the node counts and edges of a graph."""
    digest = blake2b(repr(sorted(graph.n_nodes.items())).encode(), digest_size=16)
    for edge_type in sorted(graph.edge_index):
        digest.update(repr(edge_type).encode())
        digest.update(np.ascontiguousarray(graph.edge_index[edge_type]).data)
    return digest.digest()
