"""The HGNN-IMA operator: inter-modal attention nested in inter-node attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.nn._attention import Attention, EdgeAttention
from skmmg.nn._backend import choose_backend, table_function
from skmmg.nn._by_type import ByType
from skmmg.nn._checks import check_option
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._edge_stage import RelationMatrices, Switches, attend
from skmmg.nn._edges import EdgeStructure, EdgeType
from skmmg.nn._fused import fused_pass, lanes
from skmmg.nn._typed_linear import typed_linear

CROSS_MODAL = ("adaptive", "mean", "influenced", "node", "none")
ALIGN_SCALE = ("sum", "mean")
ATTENTION_SCOPE = ("node", "relation")
ATTENTION_NORM = ("softmax", "renormalize", "outer")
COMBINE = ("product", "sum")
MODAL_WEIGHT = ("shared", "per_modality")
RESIDUAL = ("add", "gated")
ACTIVATION = ("gelu", "sigmoid", None)
NORM = ("layer", None)


class HGNNIMAConv(nn.Module):
    r"""One layer of HGNN-IMA: every edge is weighted by all modalities of its two ends.

    For an edge :math:`e = (j \to i)` of relation :math:`r`, in every head, with
    :math:`k_j^m, q_i^m, v_j^m` the keys, queries and values of modality :math:`m`:

    .. math::

        g_e^m &= \mu_r \, k_j^m W^{node}_r q_i^m / \sqrt{d_k}, \qquad
        \alpha_e^m = \mathrm{softmax}_{e \in N(i)}\, g_e^m \\
        s_e^m &= k_j^m W^{modal}_r q_i^m / \sqrt{d_k}, \qquad
        \lambda_e^m = \mathrm{softmax}_m\, s_e^m \\
        \beta_e &= \mathrm{softmax}_{e \in N(i)} \sum_m \lambda_e^m \alpha_e^m \\
        \tilde\beta_e &= \mathrm{softmax}_{e \in N(i)}
            \Bigl(-\sum_{m < m'} |g_e^m - g_e^{m'}|\Bigr) \\
        w_e &= \mathrm{softmax}_{e \in N(i)}\, \beta_e \tilde\beta_e \\
        u_i^m &= \sum_{e \in N(i)} w_e\, v_j^m W^{msg}_r, \qquad
        h_i^m \leftarrow A(\sigma(u_i^m)) + h_i^m

    Nothing of size (edges, modalities, channels) is built: scores are sampled dense-dense
    products, sums are sparse-dense products, and a product by a relation's matrix is done once
    for a node instead of once for an edge.

    Parameters
    ----------
    channels : int
        Width of every modality's node states, in and out.
    metadata : (sequence of str, sequence of (str, str, str))
        Node types and edge types, as `HeteroData.metadata()` returns them.
    num_modalities : int, default=1
        Number of modalities; every node type has states for all of them.
    heads : int, default=8
        Number of attention heads; has to divide `channels`.
    cross_modal : {"adaptive", "mean", "influenced", "node", "none"}, default="adaptive"
        How the modalities' attentions become one. "adaptive": equations 4 to 6. Ablations of the
        paper: "none" (-cross) keeps the weights of each modality apart; "mean" (-adapt) averages
        them; "influenced" (+inf) has an inter-modal attention for every receiving modality;
        "node" (-nei) has one inter-modal attention per node instead of per edge.
    align : bool, default=True
        Alignment modulation, equations 8 and 9. False is the paper's -align: :math:`w = \beta`.
    align_scale : {"sum", "mean"}, default="sum"
        Sum or mean over the pairs of modalities in equation 8.
    attention_scope : {"node", "relation"}, default="node"
        Softmaxes over all edges into a node (paper), or over its edges of one relation, with the
        relations into its type averaged afterwards (released code; a relation without an edge
        into the node counts as zeros).
    attention_norm : {"softmax", "renormalize", "outer"}, default="softmax"
        "softmax": a softmax in equation 6 and another in equation 9 (paper). "renormalize": in
        both places a division by the sum instead. "outer": none in equation 6 (released code).
    combine : {"product", "sum"}, default="product"
        How :math:`\beta` and :math:`\tilde\beta` are combined in equation 9.
    modal_weight : {"shared", "per_modality"}, default="shared"
        :math:`W^{modal}` per relation (paper), or per relation and modality (released code).
        ``cross_modal="influenced"`` always has one per receiving modality.
    residual : {"add", "gated"}, default="add"
        Equation 11, or HGT's gate :math:`s A(u) + (1 - s) h` with a learned :math:`s` per type.
    activation : {"gelu", "sigmoid"} or None, default="gelu"
        :math:`\sigma` of equation 11.
    norm : {"layer"} or None, default=None
        LayerNorm per node type after the residual.
    dropout : float, default=0.0
        Dropout on :math:`A`'s output, before the residual.

    Raises
    ------
    ValueError
        If `heads` does not divide `channels`, an option is not known, or the inputs of `forward`
        do not fit `metadata`.

    Notes
    -----
    Changed against the paper: equation 8 has a minus sign, over unordered pairs (as printed,
    disagreement would raise a weight); equations 2 and 4 are divided by :math:`\sqrt{d_k}`, and
    equation 2 has HGT's prior :math:`\mu_r` (both as in HGT, on which the paper builds);
    :math:`\sigma` in equation 11 is GELU by default, as in HGT.

    With one modality, ``cross_modal="none"``, ``align=False``, ``residual="gated"`` this is the
    heterogeneous graph transformer, `torch_geometric.nn.HGTConv`.

    References
    ----------
    Li et al., HGNN-IMA, IJCAI 2025, equations 2 to 6 and 8 to 11. doi:10.24963/ijcai.2025/338

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import HGNNIMAConv
    >>> metadata = (["movie", "actor"], [("actor", "plays_in", "movie")])
    >>> conv = HGNNIMAConv(16, metadata, num_modalities=2, heads=4)
    >>> x_dict = {"movie": torch.randn(2, 3, 16), "actor": torch.randn(2, 5, 16)}
    >>> edges = {("actor", "plays_in", "movie"): torch.tensor([[0, 1, 4], [0, 0, 2]])}
    >>> out, attention = conv(x_dict, edges, return_attention=True)
    >>> out["movie"].shape
    torch.Size([2, 3, 16])
    >>> attention.weight["actor", "plays_in", "movie"].shape
    torch.Size([3, 4])
    """

    k_lin: ByType[nn.Linear]
    q_lin: ByType[nn.Linear]
    v_lin: ByType[nn.Linear]
    a_lin: ByType[nn.Linear]

    def __init__(
        self,
        channels: int,
        metadata: tuple[Sequence[str], Sequence[EdgeType]],
        num_modalities: int = 1,
        heads: int = 8,
        *,
        cross_modal: str = "adaptive",
        align: bool = True,
        align_scale: str = "sum",
        attention_scope: Literal["node", "relation"] | str = "node",
        attention_norm: str = "softmax",
        combine: str = "product",
        modal_weight: str = "shared",
        residual: str = "add",
        activation: str | None = "gelu",
        norm: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(
                f"heads has to divide the number of channels, got heads={heads} and "
                f"{channels} channels. Change one of them."
            )
        if num_modalities < 1:
            raise ValueError(f"num_modalities has to be at least 1, got {num_modalities}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout has to be in [0, 1), got {dropout}.")
        _check_metadata(*metadata)
        check_option("cross_modal", cross_modal, CROSS_MODAL)
        check_option("align_scale", align_scale, ALIGN_SCALE)
        check_option("attention_scope", attention_scope, ATTENTION_SCOPE)
        check_option("attention_norm", attention_norm, ATTENTION_NORM)
        check_option("combine", combine, COMBINE)
        check_option("modal_weight", modal_weight, MODAL_WEIGHT)
        check_option("residual", residual, RESIDUAL)
        check_option("activation", activation, ACTIVATION)
        check_option("norm", norm, NORM)
        self.node_types = list(metadata[0])
        self.edge_types = [(src, relation, dst) for src, relation, dst in metadata[1]]
        self.channels, self.heads, self.num_modalities = channels, heads, num_modalities
        self.switches = Switches(
            cross_modal, align, align_scale, attention_scope, attention_norm, combine
        )
        self.residual, self.activation, self.dropout = residual, activation, dropout

        n_relations, head_channels = len(self.edge_types), channels // heads
        for name in ("k_lin", "q_lin", "v_lin", "a_lin"):
            linears = {t: nn.Linear(channels, channels) for t in self.node_types}
            setattr(self, name, ByType(linears))
        matrix = (heads, head_channels, head_channels)
        self.w_node = nn.Parameter(torch.empty(n_relations, *matrix))
        self.w_msg = nn.Parameter(torch.empty(n_relations, *matrix))
        if self.switches.has_modal_attention:
            own = modal_weight == "per_modality" or cross_modal == "influenced"
            n_modal = num_modalities if own else 1
            self.w_modal = nn.Parameter(torch.empty(n_relations, n_modal, *matrix))
        else:
            self.register_parameter("w_modal", None)
        self.mu = nn.Parameter(torch.empty(n_relations, heads))
        gated = residual == "gated"
        self.skip = nn.Parameter(torch.empty(len(self.node_types))) if gated else None
        norms = {t: nn.LayerNorm(channels) for t in self.node_types}
        self.norm = ByType(norms) if norm == "layer" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform relation matrices, ones for the priors and gates."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.LayerNorm)):
                module.reset_parameters()
        bound = math.sqrt(3.0 * self.heads / self.channels)
        for weight in (self.w_node, self.w_msg, self.w_modal):
            if weight is not None:
                nn.init.uniform_(weight, -bound, bound)
        nn.init.ones_(self.mu)
        if self.skip is not None:
            nn.init.ones_(self.skip)

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, num_modalities={self.num_modalities}, heads={self.heads}, "
            f"cross_modal={self.switches.cross_modal!r}, align={self.switches.align}"
        )

    def forward(
        self,
        x_dict: Mapping[str, Tensor],
        edge_index_dict: Mapping[EdgeType, Tensor],
        return_attention: bool = False,
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], Attention]:
        """Run the layer.

        Parameters
        ----------
        x_dict : mapping of str to Tensor of shape (num_modalities, n_nodes, channels)
            States of all node types; (n_nodes, channels) will do where there is one modality.
        edge_index_dict : mapping of (str, str, str) to Tensor of shape (2, n_edges)
            Source and destination ids. A relation that is left out has no edges.
        return_attention : bool, default=False
            Whether to return the attention as well.

        Returns
        -------
        dict of str to Tensor
            New states, shaped as they came.
        Attention
            Only with `return_attention`.
        """
        self._check_inputs(x_dict, edge_index_dict)
        flat = x_dict[self.node_types[0]].dim() == 2
        states = [x_dict[t].unsqueeze(0) if flat else x_dict[t] for t in self.node_types]
        num_nodes = {t: h.shape[1] for t, h in zip(self.node_types, states, strict=True)}
        edges = EdgeStructure(edge_index_dict, num_nodes, self.edge_types, states[0].device)
        stacked = torch.cat(states, 1)
        h, _ = self.propagate(stacked, edges)
        out = {t: h[:, part] for t, part in edges.node_slices.items()}
        if flat:
            out = {t: part[0] for t, part in out.items()}
        if not return_attention:
            return out
        return out, self.attention(stacked, edges).by_relation(edges)

    def propagate(
        self, h: Tensor, edges: EdgeStructure, lacking: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the layer on stacked states.

        Parameters
        ----------
        h : Tensor of shape (num_modalities, edges.num_nodes, channels)
            States of the nodes that go in, type after type.
        edges : EdgeStructure
            Edges, and the nodes whose states come out.
        lacking : Tensor of shape (num_modalities, n_edges), dtype bool, or None
            Modalities that the source of an edge lacks.

        Returns
        -------
        Tensor of shape (num_modalities, edges.num_out, channels)
            New states.
        Tensor or None
            With `lacking`: the inter-modal attention paid to it, summed, mean over the heads.
            None where there is no inter-modal attention.
        """
        kept = h if edges.kept is None else h.index_select(1, edges.kept)
        head_channels = self.channels // self.heads
        backend = choose_backend(h, edges, self.switches, self.heads, head_channels)
        if backend == "fused":
            width = lanes(self.heads)
            u, paid = self._fused(h, kept, edges, lacking, width)
        else:
            width = None
            u, paid = self._heads_apart(h, kept, edges, lacking, backend)
        return self._update(kept, u, edges, width), paid

    def attention(self, h: Tensor, edges: EdgeStructure) -> EdgeAttention:
        """Attention of all edges, without the messages.

        Parameters
        ----------
        h : Tensor of shape (n_modalities, n_nodes of all types, channels)
            The states.
        edges : EdgeStructure
            The edges of all relations, from :meth:`GraphTensors.edges`.

        Returns
        -------
        EdgeAttention
            Edges last; ``by_relation(edges)`` takes it apart.
        """
        kept = h if edges.kept is None else h.index_select(1, edges.kept)
        query, key = self._query_and_key(h, kept, edges)
        return attend(query, key, self._relation_matrices(), edges, self.switches)

    # ------------------------------------------------------------------ messages
    def _heads_apart(
        self, h: Tensor, kept: Tensor, edges: EdgeStructure, lacking: Tensor | None, backend: str
    ) -> tuple[Tensor, Tensor | None]:
        """Messages (M, N, h dk)."""
        query, key = self._query_and_key(h, kept, edges)
        value = self._typed([self.v_lin], h, edges.node_slices)
        matrices = self._relation_matrices()
        u, paid = table_function(backend)(
            query, key, self._heads_first(value), matrices, edges, self.switches, lacking
        )
        return u.flatten(2), paid

    def _fused(
        self, h: Tensor, kept: Tensor, edges: EdgeStructure, lacking: Tensor | None, width: int
    ) -> tuple[Tensor, Tensor | None]:
        """Messages (M, N, dk width), the heads fastest, padded to `width`."""
        query = self._typed([self.q_lin], kept, edges.out_slices, width)
        pair = self._typed([self.k_lin, self.v_lin], h, edges.node_slices, width, nodes_first=True)
        u, paid = fused_pass(
            query.unflatten(2, (-1, width)),
            pair.unflatten(2, (2, -1, width)).transpose(0, 1),
            self._relation_matrices(),
            edges,
            self.switches,
            lacking,
        )
        return u.flatten(2), paid

    def _query_and_key(
        self, h: Tensor, kept: Tensor, edges: EdgeStructure
    ) -> tuple[Tensor, Tensor]:
        query = self._typed([self.q_lin], kept, edges.out_slices)
        key = self._typed([self.k_lin], h, edges.node_slices)
        return self._heads_first(query), self._heads_first(key)  # (h, M, N, dk)

    def _relation_matrices(self) -> RelationMatrices:
        scale = 1.0 / math.sqrt(self.channels // self.heads)
        w_msg: Tensor = self.w_msg
        if self.switches.attention_scope == "relation":
            into = [e[2] for e in self.edge_types]
            share = w_msg.new_tensor([1.0 / into.count(dst) for dst in into])
            w_msg = w_msg * share[:, None, None, None]
        return RelationMatrices(
            self.w_node * (self.mu * scale)[:, :, None, None],
            None if self.w_modal is None else self.w_modal * scale,
            w_msg,
        )

    def _typed(
        self,
        linears: list[ByType[nn.Linear]],
        h: Tensor,
        slices: Mapping[str, slice],
        width: int | None = None,
        nodes_first: bool = False,
    ) -> Tensor:
        """Linear maps per node type side by side, (M, N, d) -> (M, N, maps h dk).

        With a width, (M, N, maps dk width): the heads are the fastest axis, padded by zeros. With
        `nodes_first`, the modalities of a node are side by side in memory.
        """
        maps = [[linear[t] for linear in linears] for t in slices]
        weights = [torch.cat([self._to_lanes(m.weight, width) for m in row]) for row in maps]
        biases = [torch.cat([self._to_lanes(m.bias, width) for m in row]) for row in maps]
        return typed_linear(h, weights, biases, list(slices.values()), nodes_first)

    def _to_lanes(self, parameter: Tensor, width: int | None) -> Tensor:
        """Rows (h dk) of a weight or bias as (dk width), zeros for the heads that are not."""
        if width is None:
            return parameter
        by_head = parameter.unflatten(0, (self.heads, -1)).transpose(0, 1)  # (dk, h, ...)
        if width > self.heads:
            extra = (0, width - self.heads)
            by_head = F.pad(by_head, (0, 0) * (parameter.dim() - 1) + extra)
        return by_head.flatten(0, 1)

    def _heads_first(self, x: Tensor) -> Tensor:
        """(M, N, h dk) -> (h, M, N, dk)."""
        return x.unflatten(2, (self.heads, -1)).permute(2, 0, 1, 3).contiguous()

    # ------------------------------------------------------------------ update
    def _update(self, h: Tensor, u: Tensor, edges: EdgeStructure, width: int | None) -> Tensor:
        """Equation 11; the messages are (M, N, h dk), or (M, N, dk width)."""
        if self.activation is not None:
            u = F.gelu(u) if self.activation == "gelu" else u.sigmoid()
        maps = [self.a_lin[t] for t in edges.out_slices]
        weights = [self._to_lanes(m.weight.t(), width).t() for m in maps]
        biases = [m.bias for m in maps]
        if self.skip is None:
            new = typed_linear(u, weights, biases, list(edges.out_slices.values()))
            new = h + drop(new, self.dropout, self.training)
        else:  # the gate is in the map: dropout and it can change places
            gate = torch.stack([self.skip[self.node_types.index(t)] for t in edges.out_slices])
            gate = gate.sigmoid()
            weights = [w * s for w, s in zip(weights, gate, strict=True)]
            biases = [b * s for b, s in zip(biases, gate, strict=True)]
            new = typed_linear(u, weights, biases, list(edges.out_slices.values()))
            new = drop(new, self.dropout, self.training)
            sizes = [part.stop - part.start for part in edges.out_slices.values()]
            rest = (1 - gate).repeat_interleave(torch.tensor(sizes, device=gate.device))
            new = torch.addcmul(new, h, rest[:, None])
        if self.norm is None:
            return new
        return torch.cat([self.norm[t](new[:, part]) for t, part in edges.out_slices.items()], 1)

    # ------------------------------------------------------------------ checks
    def _check_inputs(
        self, x_dict: Mapping[str, Tensor], edge_index_dict: Mapping[EdgeType, Tensor]
    ) -> None:
        if set(x_dict) != set(self.node_types):
            raise ValueError(
                f"x_dict has to hold the node types {self.node_types}, got {list(x_dict)}."
            )
        unknown = [e for e in edge_index_dict if tuple(e) not in self.edge_types]
        if unknown:
            raise ValueError(
                f"edge_index_dict has relations that are not in the metadata: {unknown}. "
                f"Known relations: {self.edge_types}."
            )
        n_dims = {h.dim() for h in x_dict.values()}
        allowed = {2, 3} if self.num_modalities == 1 else {3}
        for node_type, h in x_dict.items():
            shaped = h.dim() in allowed and len(n_dims) == 1 and h.shape[-1] == self.channels
            if not shaped or (h.dim() == 3 and h.shape[0] != self.num_modalities):
                raise ValueError(
                    f"x_dict[{node_type!r}] has to be of shape ({self.num_modalities}, n_nodes, "
                    f"{self.channels}), the same form for every node type, got "
                    f"{tuple(h.shape)}."
                )
        for edge_type, index in edge_index_dict.items():
            self._check_edge_index(edge_type, index, x_dict)

    @staticmethod
    def _check_edge_index(edge_type: EdgeType, index: Tensor, x_dict: Mapping[str, Tensor]) -> None:
        if index.dim() != 2 or index.shape[0] != 2 or index.is_floating_point():
            raise ValueError(
                f"edge_index_dict[{edge_type}] has to be an integer tensor of shape "
                f"(2, n_edges), got {index.dtype} of shape {tuple(index.shape)}."
            )
        for ids, node_type in zip(index, (edge_type[0], edge_type[2]), strict=True):
            n_nodes = x_dict[node_type].shape[-2]
            if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= n_nodes):
                raise ValueError(
                    f"edge_index_dict[{edge_type}] refers to {node_type} "
                    f"{int(ids.max() if ids.max() >= n_nodes else ids.min())}, but there are "
                    f"{n_nodes} nodes of that type, so ids run from 0 to {n_nodes - 1}."
                )


def _check_metadata(node_types: Sequence[str], edge_types: Sequence[EdgeType]) -> None:
    for edge_type in edge_types:
        for end in (edge_type[0], edge_type[2]):
            if end not in node_types:
                raise ValueError(
                    f"Relation {edge_type} refers to node type {end!r}, which is not among the "
                    f"node types {list(node_types)}. Add it to the metadata."
                )
