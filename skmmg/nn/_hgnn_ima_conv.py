"""The HGNN-IMA operator: inter-modal attention nested in inter-node attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.nn._attention import Attention, EdgeAttention
from skmmg.nn._by_type import ByType
from skmmg.nn._checks import check_option
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._edges import EdgeStructure, EdgeType, Segments
from skmmg.nn._sparse import edge_dot, edge_sum, segment_softmax, segment_sum

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
        self.cross_modal, self.align, self.align_scale = cross_modal, align, align_scale
        self.attention_scope, self.attention_norm = attention_scope, attention_norm
        self.combine, self.residual, self.activation = combine, residual, activation
        self.dropout = dropout
        self.has_modal_attention = cross_modal in ("adaptive", "influenced", "node")

        n_relations, head_channels = len(self.edge_types), channels // heads
        for name in ("k_lin", "q_lin", "v_lin", "a_lin"):
            linears = {t: nn.Linear(channels, channels) for t in self.node_types}
            setattr(self, name, ByType(linears))
        matrix = (heads, head_channels, head_channels)
        self.w_node = nn.Parameter(torch.empty(n_relations, *matrix))
        self.w_msg = nn.Parameter(torch.empty(n_relations, *matrix))
        if self.has_modal_attention:
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
            f"cross_modal={self.cross_modal!r}, align={self.align}"
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
        kept = h if edges.kept is None else h[:, edges.kept]
        query, key = self._query_and_key(h, kept, edges)
        value = self._typed(self.v_lin, h, edges.node_slices)
        attention = self.attend(query, key, edges)
        u = self._aggregate(attention.weight, value, edges)  # (M, N, d)
        return self._update(kept, u, edges), _paid(attention.lam, lacking)

    def attention(self, h: Tensor, edges: EdgeStructure) -> EdgeAttention:
        """Attention of all edges, from the stacked states."""
        kept = h if edges.kept is None else h[:, edges.kept]
        return self.attend(*self._query_and_key(h, kept, edges), edges)

    def _query_and_key(
        self, h: Tensor, kept: Tensor, edges: EdgeStructure
    ) -> tuple[Tensor, Tensor]:
        query = self._typed(self.q_lin, kept, edges.out_slices)  # (h, M, N, dk)
        return query, self._typed(self.k_lin, h, edges.node_slices)

    # ------------------------------------------------------------------ scores and weights
    def attend(self, query: Tensor, key: Tensor, edges: EdgeStructure) -> EdgeAttention:
        """Attention from queries and keys (heads, num_modalities, n_nodes, head_channels)."""
        scale = 1.0 / math.sqrt(self.channels // self.heads)
        w_node = self.w_node * (self.mu * scale)[:, :, None, None]
        g = _scores(query, _fold(key, w_node[:, :, None], edges), edges)  # (h, M, E)      (2)
        alpha = segment_softmax(g, self._segments(edges, g))  # (h, M, E)                  (3)
        lam = self._modal_attention(query, key, edges, scale)  #                        (4, 5)
        beta = self._cross_modal_attention(alpha, lam, edges)  # (h, E) | (h, M, E)        (6)
        if not self.align:
            return EdgeAttention(alpha, lam, beta, None, self._without_alignment(beta, edges))
        misaligned = self._disagreement(g)  # (h, E)
        align = segment_softmax(-misaligned, self._segments(edges, misaligned))  #         (8)
        weight = self._modulate(beta, align, misaligned, edges)  #                         (9)
        return EdgeAttention(alpha, lam, beta, align, weight)

    def _segments(self, edges: EdgeStructure, like: Tensor) -> Segments:
        copies = like.shape[:-1].numel()
        return edges.segments(self.attention_scope, copies)

    def _modal_attention(
        self, query: Tensor, key: Tensor, edges: EdgeStructure, scale: float
    ) -> Tensor | None:
        """Equations 4 and 5; the modalities of the source are axis 1."""
        if not self.has_modal_attention:
            return None
        w_modal = self.w_modal.transpose(1, 2) * scale  # (R, h, M | 1, dk, dk)
        if self.cross_modal == "influenced":
            per_destination = [
                _scores(
                    query[:, [m]].expand_as(query),
                    _fold(key, w_modal[:, :, [m]], edges),
                    edges,
                )
                for m in range(self.num_modalities)
            ]
            return torch.stack(per_destination, 2).softmax(1)  # (h, M, M, E)
        s = _scores(query, _fold(key, w_modal, edges), edges)  # (h, M, E)
        if self.cross_modal == "node":
            segments = self._segments(edges, s)
            count = segments.offsets.diff().clamp_min(1).to(s.dtype)
            mean = segment_sum(s.reshape(-1), segments) / count
            s = mean[segments.index].view(s.shape)
        return s.softmax(1)

    def _cross_modal_attention(
        self, alpha: Tensor, lam: Tensor | None, edges: EdgeStructure
    ) -> Tensor:
        """Equation 6, or what an ablation puts in its place."""
        if self.cross_modal == "none":
            return alpha
        if lam is None:
            beta = alpha.mean(1)
        elif self.cross_modal == "influenced":
            beta = (lam * alpha[:, :, None]).sum(1)
        else:
            beta = (lam * alpha).sum(1)
        if self.attention_norm != "softmax":
            return beta
        return segment_softmax(beta, self._segments(edges, beta))

    def _disagreement(self, g: Tensor) -> Tensor:
        """Absolute differences of the modalities' scores, over all pairs of modalities."""
        first, second = torch.triu_indices(g.shape[1], g.shape[1], 1, device=g.device)
        pairs = (g[:, first] - g[:, second]).abs()
        if self.align_scale == "mean" and len(first):
            return pairs.mean(1)
        return pairs.sum(1)

    def _modulate(
        self, beta: Tensor, align: Tensor, misaligned: Tensor, edges: EdgeStructure
    ) -> Tensor:
        """Equation 9."""
        if beta.dim() > align.dim():
            align, misaligned = align[:, None], misaligned[:, None]
        segments = self._segments(edges, beta)
        if self.attention_norm != "renormalize":
            combined = beta * align if self.combine == "product" else beta + align
            return segment_softmax(combined, segments)
        if self.combine == "product":
            # the product, divided by its sum, in logarithms: it cannot underflow to 0 / 0
            return segment_softmax(_log(beta) - misaligned, segments)
        return segment_softmax(_log(beta + align), segments)

    def _without_alignment(self, beta: Tensor, edges: EdgeStructure) -> Tensor:
        if self.attention_norm == "softmax" or self.cross_modal == "none":
            return beta
        scores = _log(beta) if self.attention_norm == "renormalize" else beta
        return segment_softmax(scores, self._segments(edges, beta))

    # ------------------------------------------------------------------ aggregation and update
    def _aggregate(self, weight: Tensor, value: Tensor, edges: EdgeStructure) -> Tensor:
        """Equation 10: (M, N, d)."""
        heads, n_modalities, _, width = value.shape
        n_nodes = edges.num_out
        w_msg: Tensor = self.w_msg
        if self.attention_scope == "relation":
            into = [e[2] for e in self.edge_types]
            share = w_msg.new_tensor([1.0 / into.count(dst) for dst in into])
            w_msg = w_msg * share[:, None, None, None]
        table = _fold(value, w_msg[:, :, None], edges)  # (h, M, rows, dk)
        if weight.dim() == 3:
            u = edge_sum(weight.flatten(0, 1), table.flatten(0, 1), edges)
            u = u.view(heads, n_modalities, n_nodes, width).permute(1, 2, 0, 3)
        else:  # one weight for all modalities: their values stand side by side
            wide = table.permute(0, 2, 1, 3).flatten(2)  # (h, rows, M dk)
            u = edge_sum(weight, wide, edges).view(heads, n_nodes, n_modalities, width)
            u = u.permute(2, 1, 0, 3)
        return u.reshape(n_modalities, n_nodes, self.channels)

    def _update(self, h: Tensor, u: Tensor, edges: EdgeStructure) -> Tensor:
        """Equation 11."""
        if self.activation is not None:
            u = F.gelu(u) if self.activation == "gelu" else u.sigmoid()
        out = []
        for node_type, part in edges.out_slices.items():
            new = self.a_lin[node_type](u[:, part])
            new = drop(new, self.dropout, self.training)
            if self.skip is None:
                new = new + h[:, part]
            else:
                gate = self.skip[self.node_types.index(node_type)].sigmoid()
                new = gate * new + (1 - gate) * h[:, part]
            out.append(new if self.norm is None else self.norm[node_type](new))
        return torch.cat(out, 1)

    def _typed(self, linears: ByType[nn.Linear], h: Tensor, slices: Mapping[str, slice]) -> Tensor:
        """A Linear per node type, split into heads: (M, N, d) -> (h, M, N, dk)."""
        parts = [linears[t](h[:, part]) for t, part in slices.items()]
        out = torch.cat(parts, 1).unflatten(2, (self.heads, -1))
        return out.permute(2, 0, 1, 3).contiguous()

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


def _scores(query: Tensor, table: Tensor, edges: EdgeStructure) -> Tensor:
    """Scores of all edges: (h, M, N, dk), (h, M, rows, dk) -> (h, M, E)."""
    heads, n_modalities = query.shape[:2]
    scores = edge_dot(query.flatten(0, 1), table.flatten(0, 1), edges)
    return scores.view(heads, n_modalities, edges.num_edges)


def _fold(x: Tensor, weight: Tensor, edges: EdgeStructure) -> Tensor:
    """Rows of every relation's sources times its matrix: (h, M, N, dk) -> (h, M, rows, dk).

    `weight` is (R, h, M or 1, dk, dk).
    """
    parts = [
        x[:, :, edges.node_slices[edge_type[0]]] @ weight[i]
        for i, edge_type in enumerate(edges.edge_types)
    ]
    return torch.cat(parts, 2) if parts else x[:, :, :0]


def _paid(lam: Tensor | None, lacking: Tensor | None) -> Tensor | None:
    if lam is None or lacking is None:
        return None
    per_source = lam if lam.dim() == 3 else lam.mean(2)
    return (per_source.mean(0) * lacking).sum()


def _log(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny).log()


def _check_metadata(node_types: Sequence[str], edge_types: Sequence[EdgeType]) -> None:
    for edge_type in edge_types:
        for end in (edge_type[0], edge_type[2]):
            if end not in node_types:
                raise ValueError(
                    f"Relation {edge_type} refers to node type {end!r}, which is not among the "
                    f"node types {list(node_types)}. Add it to the metadata."
                )
