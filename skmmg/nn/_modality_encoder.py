"""From the features of every node type and modality to states of one width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from skmmg.nn._by_type import ByType
from skmmg.nn._checks import check_option
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._inputs import Features, GraphTensors
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
        h = torch.stack([self._encode(m, graph) for m in self.modalities])
        absent = graph.absent(self.modalities)
        return h if absent is None else self._complete(h, absent, graph)

    def _encode(self, modality: str, graph: GraphTensors) -> Tensor:
        parts = []
        for node_type, n_nodes in graph.num_nodes.items():
            x = graph.x.get(node_type, {}).get(modality)
            if x is None:
                like = next(self.parameters())
                parts.append(like.new_zeros(n_nodes, self.channels))
                continue
            parts.append(self._project(x, self.projections[node_type][modality]))
        h = torch.cat(parts)
        if graph.row_order is not None:
            h = h[graph.row_order]
        return h.tanh() if self.activation == "tanh" else h

    def _project(self, x: Features, linear: nn.Linear) -> Tensor:
        if isinstance(x, SparseMatrix):
            kept = x.dropout(self.dropout) if self.training and self.dropout else x
            return kept @ linear.weight.t() + linear.bias
        return linear(drop(x, self.dropout, self.training))

    def _complete(self, h: Tensor, absent: Tensor, graph: GraphTensors) -> Tensor:
        holes = absent.unsqueeze(-1)
        if self.missing == "zero":
            return h.masked_fill(holes, 0.0)
        sizes = torch.tensor(list(graph.num_nodes.values()), device=h.device)
        # a graph may have the node types in another order than the parameters
        order = [self.node_types.index(node_type) for node_type in graph.num_nodes]
        types = torch.tensor(order, device=h.device)
        vectors = self.placeholder[:, types.repeat_interleave(sizes)]  # (M | 1, N, d)
        if self.missing == "learned":
            return torch.where(holes, vectors, h)
        bare = absent.all(0)
        h = self._copy_first(h, absent).masked_fill(bare.unsqueeze(-1), 0.0)
        if self.missing == "mean_neighbors":
            h = self._average(h, absent, graph)
        else:
            h = self._average_bare(h, bare, graph)
        return torch.where(bare.unsqueeze(-1), h + vectors, h)

    @staticmethod
    def _copy_first(h: Tensor, absent: Tensor) -> Tensor:
        """The state of a node's first modality in the place of those that it lacks."""
        first = absent.to(torch.uint8).argmin(0)
        copied = h.gather(0, first[None, :, None].expand(1, -1, h.shape[2]))
        return torch.where(absent.unsqueeze(-1), copied, h)

    def _average(self, h: Tensor, absent: Tensor, graph: GraphTensors) -> Tensor:
        """The mean of the in-neighbours that have a modality, for the nodes that lack it.

        In a second round nodes that got one are neighbours that have it.
        """
        out = []
        for modality, h_m, lacking in zip(self.modalities, h, absent, strict=True):
            for hop in range(_HOPS):
                key = f"{modality}, hop {hop}"
                mean, found = graph.neighbor_mean(key, lacking, ~lacking, h.dtype)
                h_m = torch.where(found.unsqueeze(-1), mean @ h_m, h_m)
                lacking = lacking & ~found
            out.append(h_m)
        return torch.stack(out)

    @staticmethod
    def _average_bare(h: Tensor, bare: Tensor, graph: GraphTensors) -> Tensor:
        """The mean of the in-neighbours that have anything, for the nodes that have nothing."""
        mean, _ = graph.neighbor_mean("", bare, ~bare, h.dtype)
        return torch.where(bare.unsqueeze(-1), torch.stack([mean @ h_m for h_m in h]), h)
