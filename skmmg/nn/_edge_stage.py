"""The edge stage of HGNN-IMA by sparse products: equations 2 to 10, on any device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from skmmg.nn._attention import EdgeAttention
from skmmg.nn._edges import EdgeStructure, Segments
from skmmg.nn._precision import in_float32
from skmmg.nn._sparse import edge_dot, edge_sum, segment_softmax, segment_sum


@dataclass(frozen=True)
class Switches:
    """What `HGNNIMAConv` leaves open of the equations."""

    cross_modal: str = "adaptive"
    align: bool = True
    align_scale: str = "sum"
    attention_scope: str = "node"
    attention_norm: str = "softmax"
    combine: str = "product"

    @property
    def has_modal_attention(self) -> bool:
        """Whether there is an attention over modalities (5)."""
        return self.cross_modal in ("adaptive", "influenced", "node")

    @property
    def keeps_beta(self) -> bool:
        """Whether the weights (9) are the cross-modal attention as it is (6)."""
        plain = self.attention_norm == "softmax" or self.cross_modal == "none"
        return plain and not self.align


@dataclass(frozen=True)
class RelationMatrices:
    """The matrices of all relations, with the prior and the scale of the scores in them."""

    node: Tensor  # (R, h, dk, dk)
    modal: Tensor | None  # (R, M | 1, h, dk, dk)
    message: Tensor  # (R, h, dk, dk)


@dataclass(frozen=True)
class Tables:
    """Sources times the matrices of their relations, (h, M, rows, dk) each."""

    node: Tensor
    modal: Tensor | None
    message: Tensor

    @classmethod
    def of(
        cls, key: Tensor, value: Tensor, matrices: RelationMatrices, edges: EdgeStructure
    ) -> Self:
        """All that the edges need; not for ``cross_modal="influenced"``."""
        modal = None if matrices.modal is None else matrices.modal.transpose(1, 2)
        return cls(
            _fold(key, matrices.node[:, :, None], edges),
            None if modal is None else _fold(key, modal, edges),
            _fold(value, matrices.message[:, :, None], edges),
        )


def sparse_pass(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    matrices: RelationMatrices,
    edges: EdgeStructure,
    switches: Switches,
    lacking: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Messages into every node, and the attention paid to what the sources lack.

    Queries are (heads, M, edges.num_out, dk), keys and values (heads, M, edges.num_nodes, dk),
    the messages (M, edges.num_out, heads, dk).
    """
    attention = attend(query, key, matrices, edges, switches)
    table = _fold(value, matrices.message[:, :, None], edges)
    return _aggregate(attention.weight, table, edges), _paid(attention.lam, lacking)


def table_pass(
    query: Tensor,
    tables: Tables,
    edges: EdgeStructure,
    switches: Switches,
    lacking: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`sparse_pass` from the tables."""
    g = _dots(query, tables.node, edges)
    s = None if tables.modal is None else _dots(query, tables.modal, edges)
    attention = _weigh(g, s, edges, switches)
    return _aggregate(attention.weight, tables.message, edges), _paid(attention.lam, lacking)


def attend(
    query: Tensor,
    key: Tensor,
    matrices: RelationMatrices,
    edges: EdgeStructure,
    switches: Switches,
) -> EdgeAttention:
    """Attention of all edges, equations 2 to 9."""
    g = _scores(query, key, matrices.node[:, :, None], edges)  # (h, M, E)                 (2)
    s = _modal_scores(query, key, matrices.modal, edges, switches)  #                      (4)
    return _weigh(g, s, edges, switches)


def _weigh(g: Tensor, s: Tensor | None, edges: EdgeStructure, switches: Switches) -> EdgeAttention:
    """Attention of all edges from their scores."""
    stage = _Stage(edges, switches)
    alpha = stage.softmax(g)  # (h, M, E)                                                  (3)
    lam = stage.modal_attention(s)  #                                                      (5)
    beta = stage.cross_modal_attention(alpha, lam)  # (h, E) | (h, M, E)                   (6)
    if not switches.align:
        return EdgeAttention(alpha, lam, beta, None, stage.without_alignment(beta))
    misaligned = _disagreement(g, switches.align_scale)  # (h, E)
    align = stage.softmax(-misaligned)  #                                                  (8)
    weight = stage.modulate(beta, align, misaligned)  #                                    (9)
    return EdgeAttention(alpha, lam, beta, align, weight)


@dataclass(frozen=True)
class _Stage:
    """Equations on given edges."""

    edges: EdgeStructure
    switches: Switches

    def _segments(self, like: Tensor) -> Segments:
        return self.edges.segments(self.switches.attention_scope, like.shape[:-1].numel())

    def softmax(self, x: Tensor, bounded: bool = False) -> Tensor:
        return segment_softmax(x, self._segments(x), bounded)

    def modal_attention(self, s: Tensor | None) -> Tensor | None:
        """Equation 5; the modalities of the source are axis 1."""
        if s is None:
            return None
        if self.switches.cross_modal == "node":
            segments = self._segments(s)
            count = segments.offsets.diff().clamp_min(1).to(s.dtype)
            mean = segment_sum(s.reshape(-1), segments) / count
            s = mean[segments.index].view(s.shape)
        return s.softmax(1)

    def cross_modal_attention(self, alpha: Tensor, lam: Tensor | None) -> Tensor:
        """Equation 6, or what an ablation puts in its place."""
        if self.switches.cross_modal == "none":
            return alpha
        if lam is None:
            beta = alpha.mean(1)
        elif self.switches.cross_modal == "influenced":
            beta = (lam * alpha[:, :, None]).sum(1)
        else:
            beta = (lam * alpha).sum(1)
        # a weighted mean of weights: in [0, 1]
        return self.softmax(beta, True) if self.switches.attention_norm == "softmax" else beta

    def modulate(self, beta: Tensor, align: Tensor, misaligned: Tensor) -> Tensor:
        """Equation 9."""
        if beta.dim() > align.dim():
            align, misaligned = align[:, None], misaligned[:, None]
        product = self.switches.combine == "product"
        if self.switches.attention_norm != "renormalize":
            return self.softmax(beta * align if product else beta + align, bounded=True)
        if product:
            # the product, divided by its sum, in logarithms: it cannot underflow to 0 / 0
            return self.softmax(_log(beta) - misaligned)
        return self.softmax(_log(beta + align))

    def without_alignment(self, beta: Tensor) -> Tensor:
        if self.switches.keeps_beta:
            return beta
        if self.switches.attention_norm == "renormalize":
            return self.softmax(_log(beta))
        return self.softmax(beta, bounded=True)


def _aggregate(weight: Tensor, table: Tensor, edges: EdgeStructure) -> Tensor:
    """Equation 10, from the folded values: (M, N, h, dk)."""
    heads, n_modalities, _, width = table.shape
    if weight.dim() == 3:
        u = edge_sum(weight.flatten(0, 1), table.flatten(0, 1), edges)
        return u.view(heads, n_modalities, edges.num_out, width).permute(1, 2, 0, 3)
    # one weight for all modalities: their values stand side by side
    wide = table.permute(0, 2, 1, 3).flatten(2)  # (h, rows, M dk)
    u = edge_sum(weight, wide, edges).view(heads, edges.num_out, n_modalities, width)
    return u.permute(2, 1, 0, 3)


def _disagreement(g: Tensor, align_scale: str) -> Tensor:
    """Absolute differences of the modalities' scores, over all pairs of modalities."""
    first, second = torch.triu_indices(g.shape[1], g.shape[1], 1, device=g.device)
    pairs = (g[:, first] - g[:, second]).abs()
    if align_scale == "mean" and len(first):
        return pairs.mean(1)
    return pairs.sum(1)


def _scores(query: Tensor, key: Tensor, weight: Tensor, edges: EdgeStructure) -> Tensor:
    """Scores of all edges: (h, M, N, dk) twice, (R, h, M or 1, dk, dk) -> (h, M, E)."""
    return _dots(query, _fold(key, weight, edges), edges)


def _modal_scores(
    query: Tensor,
    key: Tensor,
    w_modal: Tensor | None,
    edges: EdgeStructure,
    switches: Switches,
) -> Tensor | None:
    """Equation 4: (h, M, E), or (h, M source, M destination, E) for "influenced"."""
    if w_modal is None:
        return None
    w_modal = w_modal.transpose(1, 2)  # (R, h, M | 1, dk, dk)
    if switches.cross_modal != "influenced":
        return _scores(query, key, w_modal, edges)
    per_destination = [
        _scores(query[:, [m]].expand_as(query), key, w_modal[:, :, [m]], edges)
        for m in range(query.shape[1])
    ]
    return torch.stack(per_destination, 2)


def _dots(query: Tensor, table: Tensor, edges: EdgeStructure) -> Tensor:
    """Products of queries (h, M, N, dk) and rows of a table (h, M, rows, dk), (h, M, E)."""
    heads, n_modalities = query.shape[:2]
    scores = edge_dot(query.flatten(0, 1), table.flatten(0, 1), edges)
    return scores.view(heads, n_modalities, edges.num_edges)


@in_float32
def _fold(x: Tensor, weight: Tensor, edges: EdgeStructure) -> Tensor:
    """Rows of every relation's sources times its matrix: (h, M, N, dk) -> (h, M, rows, dk).

    `weight` is (R, h, M or 1, dk, dk).
    """
    return _Fold.apply(x, weight, edges)


class _Fold(torch.autograd.Function):
    """Written out because the gradients of slices are as large as what they are cut from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, edges: EdgeStructure) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.edges = edges
        out = x.new_empty(*x.shape[:2], edges.num_rows, x.shape[3])
        flat = x.flatten(0, 1)  # (h M, N, dk)
        for w, part, rows in zip(weight, edges.source_slices, edges.row_slices, strict=True):
            torch.bmm(flat[:, part], _per_copy(w, x), out=out.flatten(0, 1)[:, rows])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (x, weight), edges = ctx.saved_tensors, ctx.edges
        flat, grad = x.flatten(0, 1), grads[0].flatten(0, 1)
        of_x, of_weight = torch.zeros_like(flat), torch.zeros_like(weight)
        places = zip(weight, edges.source_slices, edges.row_slices, strict=True)
        for i, (w, part, rows) in enumerate(places):
            of_x[:, part].baddbmm_(grad[:, rows], _per_copy(w, x).transpose(1, 2))
            of_w = flat[:, part].transpose(1, 2) @ grad[:, rows]
            of_weight[i] = of_w.unflatten(0, x.shape[:2]).sum_to_size(w.shape)
        return of_x.view(x.shape), of_weight, None


def _per_copy(w: Tensor, x: Tensor) -> Tensor:
    """A matrix per head and modality: (h, M or 1, dk, dk) -> (h M, dk, dk)."""
    return w.expand(-1, x.shape[1], -1, -1).flatten(0, 1)


def _paid(lam: Tensor | None, lacking: Tensor | None) -> Tensor | None:
    if lam is None or lacking is None:
        return None
    per_source = lam if lam.dim() == 3 else lam.mean(2)
    return (per_source.mean(0) * lacking).sum()


def _log(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny).log()
