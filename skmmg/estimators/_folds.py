"""Fitted items in the place of queries that nobody has seen yet."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skmmg.estimators._focus import RowGraph
from skmmg.nn import GraphTensors
from skmmg.nn._edges import EdgeType
from skmmg.training import FUSED, hide, silence

ATTACH = ("neighbors", "none")
# where the graphs of all folds have more edges, each is made anew when its turn comes
_MOST_EDGES = 1 << 23


@dataclass
class QueryGraphs:
    """The graph for items that are known by one modality: fitted items speak, they do not.

    Parameters
    ----------
    node_type : str
        Type of the items.
    folds : ndarray of shape (n_items,)
        Fold of every fitted item, -1 for others. Items of one fold are encoded together, and
        what the others of the fold are is not seen then.
    n_folds : int
        Number of folds whose items may speak; those of a later one (validation) never do.
    rows : RowGraph or None
        Where the edges of fitted rows come from; None for a view, which has edges of its own.
    attach : {"neighbors", "none"}
        Whether edges lead into a query.
    """

    node_type: str
    folds: np.ndarray
    n_folds: int
    rows: RowGraph | None
    attach: str
    _kept: dict[tuple[int, str], GraphTensors] = field(default_factory=dict, repr=False)

    def __call__(self, graph: GraphTensors, fold: int, shown: str) -> GraphTensors:
        """The graph for the items of a fold, known by a modality; made once, if memory allows."""
        key = (fold, shown)
        if key in self._kept:
            return self._kept[key]
        made = self.make(graph, np.flatnonzero(self.folds == fold), fold, shown)
        n_edges = sum(index.shape[1] for index in graph.edge_index.values())
        if self.n_folds * n_edges <= _MOST_EDGES or fold == self.n_folds:
            self._kept[key] = made
        return made

    def make(self, graph: GraphTensors, ids: np.ndarray, fold: int, shown: str) -> GraphTensors:
        """The graph for some items of a fold, known by a modality ("*": by all that they have)."""
        queries = torch.zeros(len(self.folds), dtype=torch.bool, device=graph.device)
        queries[torch.tensor(ids, device=graph.device)] = True
        speaks = (self.folds >= 0) & (self.folds < self.n_folds) & (self.folds != fold)
        speakers = torch.tensor(speaks, device=graph.device)
        silent = silence(graph, self.node_type, queries, speakers, self._links(graph, ids, shown))
        return silent if shown == FUSED else hide(silent, self.node_type, queries, shown)

    def _links(
        self, graph: GraphTensors, ids: np.ndarray, shown: str
    ) -> dict[EdgeType, Tensor] | None:
        """Edges into the queries; None for those that the graph has."""
        if self.attach == "none":
            return {}
        if self.rows is None or (self.folds[ids] < 0).any():
            return None  # new rows were linked by what they are known by when they were attached
        links = self.rows.links(ids, None if shown == FUSED else shown)
        return {e: torch.tensor(index, device=graph.device) for e, index in links.items()}


def deal(n_items: int, n_folds: int, seed: int) -> np.ndarray:
    """Deal items into folds of equal size: every n_folds-th of a random order."""
    folds = np.empty(n_items, dtype=np.int64)
    folds[np.random.RandomState(seed).permutation(n_items)] = np.arange(n_items) % n_folds
    return folds
