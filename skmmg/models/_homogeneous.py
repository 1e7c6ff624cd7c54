"""What models on one homogeneous graph of all relations share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from skmmg._sklearn import StrOptions
from skmmg.models._fusion import FusedSpec
from skmmg.models._layerwise import Layer, layer_on_graph
from skmmg.nn import GraphTensors
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._edges import EdgeType, split_by_type
from skmmg.nn._homogeneous import MERGE, HomogeneousGraph, merge_relations

T = TypeVar("T")
# new states (n_nodes, channels) from a layer's module and the states
Step = Callable[[Any, Tensor], Tensor]


class HomogeneousSpec(FusedSpec):
    """Parameters of a model on one graph, which `merge` makes of the relations."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **FusedSpec._parameter_constraints,
        "merge": [StrOptions(set(MERGE))],
    }

    @property
    def uses_edge_weight(self) -> bool:
        """True: edges may have any weight that is at least 0."""
        return True


class HomogeneousBackbone(nn.Module):
    """A stack of layers on one state per node, whatever the node's type.

    A subclass says in ``_step`` how a layer of it computes on a graph.
    """

    def __init__(
        self,
        convs: Iterable[nn.Module],
        channels: int,
        edge_types: Sequence[EdgeType],
        *,
        dropout: float,
        merge: str,
    ) -> None:
        super().__init__()
        self.out_channels, self.dropout = channels, dropout
        self.edge_types, self.merge = tuple(edge_types), merge
        self.convs = nn.ModuleList(convs)

    def forward(self, x_dict: Mapping[str, Tensor], graph: GraphTensors) -> dict[str, Tensor]:
        """New states of all node types."""
        h = torch.cat(list(x_dict.values()))  # (N, d)
        if len(self.convs):
            step = self._step(graph, h.dtype)
        for conv in self.convs:
            h = drop(step(conv, h), self.dropout, self.training)  # (N, d)
        return split_by_type(h, graph.num_nodes)

    def stages(self) -> list[Layer]:
        """The layers one by one, for `Layerwise`."""

        def layer(conv: nn.Module) -> Layer:
            return layer_on_graph(lambda h, graph: self._step(graph, h.dtype)(conv, h[0])[None])

        return [layer(conv) for conv in self.convs]

    def _step(self, graph: GraphTensors, dtype: torch.dtype) -> Step:
        raise NotImplementedError(f"{type(self).__name__} has no _step.")

    def _derived(
        self,
        graph: GraphTensors,
        dtype: torch.dtype,
        name: Hashable,
        make: Callable[[HomogeneousGraph], T],
    ) -> T:
        """What `make` makes of the merged relations, kept with the graph under `name`."""

        def make_merged() -> T:
            return make(merge_relations(graph, self.edge_types, self.merge, dtype))

        key = (name, self.merge, dtype, *self.edge_types)
        return graph.cached(key, make_merged, of="edges")
