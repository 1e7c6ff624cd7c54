"""What X is: graphs whose nodes carry several matrices, views of them, and edges from features."""

from __future__ import annotations

from skmmg.graph._graph import MultiModalGraph
from skmmg.graph._modalities import split_modalities, stack_modalities
from skmmg.graph._neighbors import KNNGraph, RadiusGraph
from skmmg.graph._schema import EdgeType, Schema
from skmmg.graph._stack_graphs import stack_graphs
from skmmg.graph._view import NodeView

__all__ = [
    "EdgeType",
    "KNNGraph",
    "MultiModalGraph",
    "NodeView",
    "RadiusGraph",
    "Schema",
    "split_modalities",
    "stack_graphs",
    "stack_modalities",
]
