"""X, in either form, as some nodes of a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch

from skmmg.graph import MultiModalGraph, NodeView, Schema
from skmmg.graph._inductive import induce
from skmmg.graph._neighbors import FittedNeighbors, NeighborSpec
from skmmg.graph._payload import Names
from skmmg.nn import GraphTensors
from skmmg.training import (
    GraphStore,
    Statistics,
    column_statistics,
    graph_tensors,
    labelled_tensors,
    scale_features,
)

Block = np.ndarray | sp.csr_array
ROW = "row"


@dataclass(frozen=True)
class Focus:
    """Some nodes of one type of a graph, and how the features of the graph are scaled.

    `source_ids` are the ids that the nodes of the type have in the graph that the user gave,
    `source`, where `graph` is a part of that; `labels` the classes that a model may see, -1 where
    it may not; `known_ids` the ids that the nodes of the type have in the network that the model
    was fitted on, -1 where they have none.
    """

    graph: MultiModalGraph
    node_type: str
    ids: np.ndarray
    statistics: Statistics
    source: MultiModalGraph | None = None
    source_ids: np.ndarray | None = None
    labels: np.ndarray | None = None
    known_ids: np.ndarray | None = None

    @classmethod
    def induced(
        cls,
        view: NodeView,
        seen: np.ndarray,
        *,
        statistics: Statistics | None = None,
        scaling: str | None = None,
    ) -> Self:
        """The nodes of a view, the last of `seen`, in a graph with only the nodes `seen`.

        What comes with the others is not seen either.
        """
        graph, new_ids = induce(view.graph, view.node_type, seen)
        source_ids = np.empty(graph.n_nodes[view.node_type], dtype=np.int64)
        source_ids[new_ids] = seen
        if statistics is None:
            statistics = column_statistics(graph, scaling)
        ids = new_ids[len(seen) - len(view.ids) :]
        return cls(graph, view.node_type, ids, statistics, view.graph, source_ids)

    @property
    def schema(self) -> Schema:
        """Schema of the graph with the node type as its target."""
        return self.graph.nodes(self.node_type, slice(0, 0)).schema

    @property
    def feature_names(self) -> Names:
        """Column names of the modalities that have any."""
        return {t: dict(named) for t, named in self.graph.feature_names.items()}

    def tensors(self, device: torch.device, dtype: torch.dtype) -> GraphTensors:
        """Scaled features and edges of the graph, made once per device and dtype."""
        tensors = graph_tensors(self.graph, self.statistics, device=device, dtype=dtype)
        if self.labels is None or self.known_ids is None:
            return tensors
        return labelled_tensors(self.graph, tensors, self.labels, self.known_ids)

    def store(self, missing: str, device: torch.device, dtype: torch.dtype) -> GraphStore:
        """The graph, left where it is, for parts of it as tensors."""
        return GraphStore(
            self.graph, self.statistics, self.node_type, missing, device, dtype, self.labels
        )

    def at(self, ids: np.ndarray) -> Focus:
        """The same graph seen from other nodes."""
        return replace(self, ids=ids)


@dataclass(frozen=True)
class RowGraph:
    """Rows of a 2-D X as the nodes of a graph that new rows can be attached to.

    Parameters
    ----------
    blocks : dict of str to array of shape (n_fitted, n_features_m)
        Scaled features of the fitted rows; rows that are missing hold zeros.
    present : dict of str to array of bool of shape (n_fitted,)
        Which fitted rows have the modality.
    statistics : dict of str to (mean, scale)
        How blocks were scaled.
    neighbors : FittedNeighbors or None
        Finds the fitted rows that are near a row; None for a graph without edges.
    edge_index : dict of (str, str, str) to array of shape (2, n_edges)
        Edges between the fitted rows.
    """

    blocks: dict[str, Block]
    present: dict[str, np.ndarray]
    statistics: dict[str, tuple[np.ndarray, np.ndarray]]
    neighbors: FittedNeighbors | None
    edge_index: dict[tuple[str, str, str], np.ndarray]

    @classmethod
    def fit(cls, blocks: dict[str, Block], spec: NeighborSpec | None, scaling: str | None) -> Self:
        """Scale the rows and link each to the rows near it, itself included."""
        graph = _graph_of(blocks)
        for name, block in blocks.items():
            if not graph.present(ROW, name).any():
                raise ValueError(
                    f"Modality {name!r} must have a row for some sample, got NaN in all "
                    f"{block.shape[0]} rows of X. Check how the rows were joined, leave the "
                    "modality out of `modalities`, or fit on a sample that has it."
                )
        statistics = column_statistics(graph, scaling)[ROW]
        scaled, present = _scale(graph, statistics)
        if spec is None:
            return cls(scaled, present, statistics, None, {})
        neighbors = spec.fit(scaled, present)
        return cls(scaled, present, statistics, neighbors, neighbors.edges(scaled, present))

    def focus(self) -> Focus:
        """The fitted rows."""
        return _focus_on_rows(self.blocks, self.present, self.edge_index)

    def links(self, ids: np.ndarray, shown: str | None) -> dict[tuple[str, str, str], np.ndarray]:
        """Edges that fitted rows would get as new rows; with `shown`, known by that modality."""
        if self.neighbors is None:
            return {}
        rows = {name: block[ids] for name, block in self.blocks.items()}
        present = {
            name: mask[ids] & (shown is None or name == shown)
            for name, mask in self.present.items()
        }
        edges = self.neighbors.edges(rows, present)
        return {e: np.stack([index[0], ids[index[1]]]) for e, index in edges.items()}

    def attach(self, blocks: dict[str, Block], shown: str | None = None) -> Focus:
        """Rows that are linked from the fitted rows near them and from nowhere else.

        No edge leaves a new row, so the fitted rows, and the other new rows, never see it. With
        `shown`, the new rows are known by that modality alone.
        """
        scaled, present = _scale(_graph_of(blocks), self.statistics)
        if shown is not None:
            present = {name: mask & (name == shown) for name, mask in present.items()}
        edges = dict(self.edge_index)
        n_fitted = len(next(iter(self.present.values())))
        if self.neighbors is not None:
            shift = np.array([[0], [n_fitted]])
            for edge_type, index in self.neighbors.edges(scaled, present).items():
                edges[edge_type] = np.hstack([edges[edge_type], index + shift])
        rows = {name: _stack(self.blocks[name], block) for name, block in scaled.items()}
        masks = {name: np.append(self.present[name], mask) for name, mask in present.items()}
        focus = _focus_on_rows(rows, masks, edges)
        return focus.at(focus.ids[n_fitted:])


def _graph_of(blocks: dict[str, Block]) -> MultiModalGraph:
    """Rows without edges; all of them may lack a modality."""
    given = {name: np.ones(block.shape[0], dtype=bool) for name, block in blocks.items()}
    return MultiModalGraph({ROW: blocks}, masks={ROW: given})


def _focus_on_rows(
    blocks: dict[str, Block],
    present: dict[str, np.ndarray],
    edge_index: dict[tuple[str, str, str], np.ndarray],
) -> Focus:
    graph = MultiModalGraph({ROW: blocks}, edge_index, masks={ROW: present}, add_reverse=False)
    return Focus(graph, ROW, np.arange(graph.n_nodes[ROW]), column_statistics(graph, None))


def _scale(
    graph: MultiModalGraph, statistics: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[str, Block], dict[str, np.ndarray]]:
    present = {name: graph.present(ROW, name) for name in graph.x[ROW]}
    scaled = {
        name: scale_features(x, present[name], *statistics[name])
        for name, x in graph.x[ROW].items()
    }
    return scaled, present


def _stack(fitted: Block, new: Block) -> Block:
    if isinstance(fitted, np.ndarray) and isinstance(new, np.ndarray):
        return np.vstack([fitted, new])
    return sp.csr_array(sp.vstack([sp.csr_array(fitted), sp.csr_array(new)], format="csr"))
