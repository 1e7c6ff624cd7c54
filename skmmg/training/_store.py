"""A graph that stays where it is, in memory or in a file, and gives out parts as tensors."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch

from skmmg.graph import MultiModalGraph
from skmmg.nn import GraphTensors
from skmmg.nn._modality_encoder import COMPLETION_HOPS
from skmmg.training._sampler import Hop, Neighborhood, NeighborSampler
from skmmg.training._tensors import Statistics, make_tensors

_samplers: weakref.WeakKeyDictionary[MultiModalGraph, NeighborSampler]
_samplers = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class GraphStore:
    """Parts of a graph as tensors: only the features of the nodes of a part are ever read.

    Parameters
    ----------
    graph : MultiModalGraph
        The graph; its matrices may be memory maps.
    statistics : dict
        How its features are scaled.
    target : str
        Type of the nodes that a model is asked for.
    missing : str
        How a model completes what nodes lack, see `skmmg.nn.ModalityEncoder`; a part holds the
        nodes that this needs.
    device : torch.device
        Where the tensors are made.
    dtype : torch.dtype
        Their type of float.
    labels : ndarray of shape (n_target_nodes,) or None, default=None
        Classes of the target nodes that a model may see, -1 for the others.
    """

    graph: MultiModalGraph
    statistics: Statistics
    target: str
    missing: str
    device: torch.device
    dtype: torch.dtype
    labels: np.ndarray | None = None
    _present: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def sampler(self) -> NeighborSampler:
        """The sampler of the graph; made once, however many stores the graph has."""
        if self.graph not in _samplers:
            graph = self.graph
            made = NeighborSampler(graph.edge_index, graph.n_nodes, graph.edge_weight)
            _samplers[graph] = made
        return _samplers[self.graph]

    @cached_property
    def completion(self) -> list[Hop]:
        """Steps beyond the model's, which only nodes that lack something take."""
        modalities = self.graph.schema.modalities
        every = self.missing == "copy"  # there only nodes with nothing look around
        lacking = {}
        for node_type, n_nodes in self.graph.n_nodes.items():
            absent = [~self.present(node_type, m) for m in modalities]
            reduce = np.logical_and if every else np.logical_or
            lacking[node_type] = reduce.reduce(absent) if absent else np.zeros(n_nodes, dtype=bool)
        if not any(mask.any() for mask in lacking.values()):
            return []
        return [Hop(-1, lacking)] * COMPLETION_HOPS[self.missing]

    def present(self, node_type: str, modality: str) -> np.ndarray:
        """Which nodes of a type have a modality."""
        key = node_type, modality
        if key not in self._present:
            has = modality in self.graph.x[node_type]
            none = np.zeros(self.graph.n_nodes[node_type], dtype=bool)
            self._present[key] = self.graph.present(*key) if has else none
        return self._present[key]

    def around(
        self, seeds: Mapping[str, np.ndarray], fan_outs: Sequence[int], seed: int = 0
    ) -> Neighborhood:
        """The neighbourhood of some nodes, and what completes its features.

        The steps of completion draw as many neighbours as the last step of the model.
        """
        last = fan_outs[-1] if len(fan_outs) else -1
        more = [hop._replace(fan_out=last) for hop in self.completion]
        return self.sampler.sample(seeds, [*map(Hop, fan_outs), *more], seed)

    def tensors(self, part: Neighborhood, *, features: bool = True) -> GraphTensors:
        """A part as a graph of its own, with scaled features or only with what is missing."""
        types = self.graph.x if features else {}
        known = types if features else dict.fromkeys(part.nodes, self.graph.schema.modalities)
        tensors = make_tensors(
            {t: {m: _rows(x, part.nodes[t]) for m, x in xs.items()} for t, xs in types.items()},
            {t: {m: self.present(t, m)[part.nodes[t]] for m in ms} for t, ms in known.items()},
            {t: len(ids) for t, ids in part.nodes.items()},
            part.edge_index,
            part.edge_weight,
            self.statistics,
            device=self.device,
            dtype=self.dtype,
        )
        tensors = replace(tensors, sampled=True)
        if self.labels is None:
            return tensors
        shown = torch.from_numpy(self.labels[part.nodes[self.target]])
        return tensors.with_labels(shown.to(self.device))

    def near(
        self, ids: np.ndarray, fan_outs: Sequence[int], seed: int = 0
    ) -> tuple[GraphTensors, torch.Tensor]:
        """The graph around target nodes, and where these nodes are in it."""
        part = self.around({self.target: np.unique(ids)}, fan_outs, seed)
        tensors = self.tensors(part)
        tensors.edges(tuple(part.edge_index))  # here, as this may run in a thread beside training
        return tensors, torch.from_numpy(part.positions(self.target, ids)).to(self.device)


def _rows(matrix: np.ndarray | sp.csr_array, ids: np.ndarray) -> np.ndarray | sp.csr_array:
    """Some rows; only they are read where the matrix is a memory map."""
    return sp.csr_array(matrix[ids]) if sp.issparse(matrix) else np.asarray(matrix[ids])
