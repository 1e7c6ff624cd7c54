"""Labels that a model sees as inputs, the network that they belong to, and those that are none."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Self

import numpy as np
import scipy.sparse as sp

from skmmg.estimators._focus import Focus
from skmmg.graph import MultiModalGraph
from skmmg.graph._stack_graphs import is_stack

# rows of features that tell one set of graphs from another
_SAMPLE = 100

# by graph, and how many of its nodes count
_digests: weakref.WeakKeyDictionary[MultiModalGraph, dict[tuple[tuple[str, int], ...], bytes]]
_digests = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class KnownLabels:
    """Classes of the training nodes, for models with `uses_labels`.

    They are shown on fitted rows, and on the network that the model was fitted on, which may have
    grown: its nodes are the first of their types, and have the edges that they had. It is known by
    a digest of these, because an estimator keeps no graph. On another network no label is known.

    Parameters
    ----------
    ids : ndarray of shape (n_samples,)
        The training nodes, as the user's graph numbers them.
    codes : ndarray of shape (n_samples,)
        Their classes, numbered.
    network : bytes or None
        Digest of the user's graph; None for rows, whose first nodes are always the fitted rows.
    n_nodes : dict of str to int
        Number of nodes of every type of the user's graph, or of fitted rows.
    """

    ids: np.ndarray
    codes: np.ndarray
    network: bytes | None
    n_nodes: dict[str, int]

    @classmethod
    def of(cls, focus: Focus, codes: np.ndarray, rows: bool) -> Self:
        """The labels of the nodes in focus."""
        ids = focus.ids if focus.source_ids is None else focus.source_ids[focus.ids]
        source = focus.source or focus.graph
        n_nodes = dict(source.n_nodes)
        return cls(ids, codes, None if rows else _digest(source, n_nodes), n_nodes)

    def on(self, focus: Focus) -> Focus:
        """The same focus, in which the model sees these labels and knows these nodes."""
        source = focus.source or focus.graph
        known_ids = np.arange(source.n_nodes[focus.node_type])
        known_ids[self.n_nodes[focus.node_type] :] = -1
        labels = np.full(len(known_ids), -1, dtype=np.int64)
        if self.network is None or self.network == _digest(source, self.n_nodes):
            labels[self.ids] = self.codes
        else:
            known_ids[:] = -1
        if focus.source_ids is not None:
            labels, known_ids = labels[focus.source_ids], known_ids[focus.source_ids]
        return replace(focus, labels=labels, known_ids=known_ids)


def warn_about_no_label(classes: np.ndarray) -> None:
    """Say so where -1, by which scikit-learn marks samples without a label, is a class."""
    if classes.dtype.kind == "i" and len(classes) > 2 and classes[0] == -1:
        warnings.warn(
            f"y has the classes {classes.tolist()}, and -1 is one of them, predicted like others. "
            "If it marks samples without a label, leave them out of training: "
            "fit(X[y >= 0], y[y >= 0]).",
            UserWarning,
            stacklevel=6,
        )


def _digest(graph: MultiModalGraph, n_nodes: Mapping[str, int]) -> bytes | None:
    """Digest of the edges between the first so many nodes; None if there are not so many."""
    if any(graph.n_nodes.get(t, 0) < n for t, n in n_nodes.items()):
        return None
    digests = _digests.setdefault(graph, {})
    key = tuple(sorted(n_nodes.items()))
    if key not in digests:
        digests[key] = _make_digest(graph, n_nodes)
    return digests[key]


def _make_digest(graph: MultiModalGraph, n_nodes: Mapping[str, int]) -> bytes:
    """Digest; sets of graphs may have the same edges and be of other samples: features count."""
    digest = blake2b(repr(sorted(n_nodes.items())).encode(), digest_size=16)
    for edge_type in sorted(graph.edge_index):
        digest.update(repr(edge_type).encode())
        source, target = graph.edge_index[edge_type]
        n_sources, n_targets = n_nodes[edge_type[0]], n_nodes[edge_type[2]]
        old = (source < n_sources) & (target < n_targets)
        digest.update(np.sort(source[old] * n_targets + target[old]).data)
    if is_stack(graph.schema):
        for node_type, modality in sorted((t, m) for t, x in graph.x.items() for m in x):
            rows = graph.x[node_type][modality][: min(n_nodes[node_type], _SAMPLE)]
            digest.update(np.ascontiguousarray(rows.data if sp.issparse(rows) else rows).data)
    return digest.digest()
