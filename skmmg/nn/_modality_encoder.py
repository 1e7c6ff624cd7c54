"""From the features of every node type and modality to states of one width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from skmmg.nn._by_type import ByType
from skmmg.nn._checks import check_option
from skmmg.nn._completion import Step, complete, copy_step, mean_step
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._field import receptive_field
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._linear import constant_linear
from skmmg.nn._precision import widen
from skmmg.nn._sparse import SparseMatrix

# rounds of "mean_neighbors": movie -> director -> another movie of the same director
_HOPS = 2
MISSING = ("copy", "zero", "mean_neighbors", "learned")
# how far away a state is looked for that completes a node
COMPLETION_HOPS = {"copy": 1, "zero": 0, "mean_neighbors": _HOPS, "learned": 0}


class ModalityEncoder(nn.Module):
    r"""Project every modality of every node type to one width and complete what is missing.

    .. math:: h_i^{0,m} = \sigma(x_i^m P_{o(i), m} + b_{o(i), m})

    Parameters
    ----------
    node_types : mapping of str to mapping of str to int
        Modalities and their numbers of features, by node type. A type may lack modalities.
    modalities : sequence of str
        The modalities, in the order of the output.
    channels : int
        Width of the output.
    missing : {"mean_neighbors", "copy", "zero", "learned"}, default="mean_neighbors"
        What a node gets for a modality that it lacks. "copy": its first modality's state; "zero":
        zeros; "mean_neighbors": the mean state of its in-neighbours that have the modality, else
        of those that got it that way, else as "copy"; "learned": a learned vector per node type
        and modality. With "copy", too, a node without any modality gets the mean of its
        in-neighbours; with both a learned vector of its type is added.
    activation : {"tanh"} or None, default="tanh"
        :math:`\sigma`.
    dropout : float, default=0.0
        Dropout of the features, in [0, 1); of a sparse modality's stored values.

    References
    ----------
    Li et al., HGNN-IMA, IJCAI 2025, equation 1, which has no activation (``activation=None``).

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import GraphTensors, ModalityEncoder
    >>> graph = GraphTensors(
    ...     x={"movie": {"text": torch.randn(3, 5), "image": torch.randn(3, 7)}},
    ...     num_nodes={"movie": 3, "actor": 2},
    ...     edge_index={("movie", "stars", "actor"): torch.tensor([[0, 2], [0, 1]])},
    ... )
    >>> types = {"movie": {"text": 5, "image": 7}, "actor": {}}
    >>> ModalityEncoder(types, ["text", "image"], 16)(graph).shape
    torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        node_types: Mapping[str, Mapping[str, int]],
        modalities: Sequence[str],
        channels: int,
        *,
        missing: str = "mean_neighbors",
        activation: str | None = "tanh",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_option("missing", missing, MISSING)
        self.modalities, self.channels = tuple(modalities), channels
        self.missing, self.activation, self.dropout = missing, activation, dropout
        self.node_types = tuple(node_types)
        self.projections = ByType(
            {
                t: ByType({m: nn.Linear(width, channels) for m, width in widths.items()})
                for t, widths in node_types.items()
            }
        )
        n_vectors = len(self.modalities) if missing == "learned" else 1
        if missing == "zero":
            self.register_parameter("placeholder", None)
        else:
            self.placeholder = nn.Parameter(torch.zeros(n_vectors, len(node_types), channels))

    @property
    def hops(self) -> int:
        """How far away a state is looked for that completes a node."""
        return COMPLETION_HOPS[self.missing]

    def forward(self, graph: GraphTensors) -> Tensor:
        """States (n_modalities, n_nodes of all types, channels), types in the graph's order."""
        return self.complete(self.project(graph), graph)

    def project(self, graph: GraphTensors) -> Tensor:
        """States from features alone; those of modalities that a node lacks mean nothing yet."""
        parts = [
            self._encode(node_type, modality, graph)
            for modality in self.modalities
            for node_type in graph.num_nodes
        ]
        # states are float32 under autocast too
        h = widen(torch.cat(parts)).view(len(self.modalities), -1, self.channels)
        if graph.row_order is not None:
            h = h[:, graph.row_order]
        return h.tanh() if self.activation == "tanh" else h

    def complete(self, h: Tensor, graph: GraphTensors) -> Tensor:
        """Projected states, those that nodes lack filled; of the graph's features it sees none."""
        absent = graph.absent(self.modalities)
        return h if absent is None else self._complete(h, absent, graph)

    def encode_some(self, graph: GraphTensors, node_type: str, ids: Tensor) -> Tensor:
        """States (n_modalities, n_samples, channels) of some nodes of a type, and no others."""
        relations = tuple(graph.edge_index)
        field = receptive_field(graph, relations, node_type, ids, 0, self.hops, self.modalities)
        return field.enter(self(field.graph))[:, field.target]

    def _encode(self, node_type: str, modality: str, graph: GraphTensors) -> Tensor:
        x = graph.x.get(node_type, {}).get(modality)
        if x is None:
            like = next(self.parameters())
            return like.new_zeros(graph.num_nodes[node_type], self.channels)
        linear = self.projections[node_type][modality]
        if isinstance(x, SparseMatrix):
            kept = x.dropout(self.dropout) if self.training and self.dropout else x
            return kept @ linear.weight.t() + linear.bias
        return constant_linear(drop(x, self.dropout, self.training), linear.weight, linear.bias)

    def _complete(self, h: Tensor, absent: Tensor, graph: GraphTensors) -> Tensor:
        if self.missing == "zero":
            return h.masked_fill(absent.unsqueeze(-1), 0.0)
        if self.missing == "learned":
            types = self._types(graph, h.device)
            return torch.where(absent.unsqueeze(-1), self.placeholder[:, types], h)
        key = ("completion", self.missing, self.modalities, h.dtype)
        steps, bare = graph.cached(key, lambda: self._plan(absent, graph, h.dtype))
        h = complete(h.flatten(0, 1), steps).view(h.shape)
        vectors = self.placeholder[:, self._types(graph, h.device)[bare]]  # (1, n_bare, d)
        return h.index_add(1, bare, vectors.expand(len(h), -1, -1))

    def _types(self, graph: GraphTensors, device: torch.device) -> Tensor:
        """Number of every node's type; a graph may have the types in another order than we."""
        order = [self.node_types.index(node_type) for node_type in graph.num_nodes]
        sizes = torch.tensor(list(graph.num_nodes.values()), device=device)
        return torch.tensor(order, device=device).repeat_interleave(sizes)

    def _plan(
        self, absent: Tensor, graph: GraphTensors, dtype: torch.dtype
    ) -> tuple[list[Step], Tensor]:
        """What is done to complete the states, and the nodes that have nothing of their own."""
        edges, bare = graph.edges(tuple(graph.edge_index)), absent.all(0)
        steps = [copy_step(absent, dtype)]
        if self.missing == "copy":
            lacking = bare.expand_as(absent)
            steps.append(mean_step(edges, lacking, ~lacking, dtype)[0])
        else:
            # in the second round, nodes that got a state are neighbours that have it
            for _ in range(self.hops):
                step, got = mean_step(edges, absent, ~absent, dtype)
                steps.append(step)
                absent = absent & ~got
        return steps, bare.nonzero().squeeze(1)
