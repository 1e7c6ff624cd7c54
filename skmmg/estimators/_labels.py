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
    n_nodes : int
        Number of target nodes of the user's graph, or of fitted rows.
    """

    ids: np.ndarray
    codes: np.ndarray
    network: bytes | None
    n_nodes: int

    @classmethod
    def of(cls, focus: Focus, codes: np.ndarray, rows: bool) -> Self:
        """The labels of the nodes in focus."""
        ids = focus.ids if focus.source_ids is None else focus.source_ids[focus.ids]
        source = focus.source or focus.graph
        network = None if rows else _digest(source)
        return cls(ids, codes, network, source.n_nodes[focus.node_type])

    def on(self, focus: Focus) -> Focus:
        """The same focus, in which the model sees these labels and knows these nodes."""
        source = focus.source or focus.graph
        known_ids = np.arange(source.n_nodes[focus.node_type])
        known_ids[self.n_nodes :] = -1
        labels = np.full(len(known_ids), -1, dtype=np.int64)
        if self.network is None or self.network == _digest(source):
            labels[self.ids] = self.codes
        else:
            known_ids[:] = -1
        if focus.source_ids is not None:
            labels, known_ids = labels[focus.source_ids], known_ids[focus.source_ids]
        return replace(focus, labels=labels, known_ids=known_ids)


def _digest(graph: MultiModalGraph) -> bytes:
    """Digest of the node counts and edges of a graph, in whatever order the edges are."""
    digest = blake2b(repr(sorted(graph.n_nodes.items())).encode(), digest_size=16)
    for edge_type in sorted(graph.edge_index):
        digest.update(repr(edge_type).encode())
        source, target = graph.edge_index[edge_type]
        digest.update(np.sort(source * graph.n_nodes[edge_type[2]] + target).data)
    return digest.digest()
