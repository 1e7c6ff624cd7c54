"""Triton kernels of the edge stage of HGNN-IMA, called by _triton.py.

A program computes one node and head, a tile of edges at a time, in up to four phases: each has the
sums over all edges that the softmaxes before it need. Scores are computed again in every phase, and
in the backward pass; what is kept are maxima and sums, nine numbers per node, head and modality.
Gradients of sources are summed by atomic additions.

Queries are (heads, M, N, dk), tables of sources (heads, M, rows, dk). Equation numbers are those of
Li et al., IJCAI 2025; _edge_stage.py is the same in torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import triton
import triton.language as tl
from torch import Tensor

from skmmg.nn._edge_stage import Switches

# Numbers in a tile of (edges, modalities, channels of a head), and edges at most and at least.
_TILE, _MOST, _LEAST = 1024, 16, 4
# Every mini-batch has other ones: kernels are not compiled again for 1 and for multiples of 16.
_SIZES = ["n_out", "n_rows", "n_marks", "n_segments"]


@dataclass(frozen=True)
class Plan:
    """What is known of a layer when its kernels are compiled."""

    M: int  # modalities, channels per head; the next powers of two; edges of a tile
    DK: int
    MP: int
    DP: int
    BE: int
    scale: float  # of the disagreement (8)
    tiny: float  # what logarithms are cut off at
    modal: bool  # there is an inter-modal attention (5)
    shared: bool  # modalities share their weights: all but "none"
    by_node: bool  # the attention (5) is one for all edges of a node: "node"
    align: bool
    add: bool
    log: bool  # the weights are computed in logarithms: "renormalize"
    beta_softmax: bool  # (6) has a softmax
    beta_weight: bool  # (9) is (6)

    @property
    def num_warps(self) -> int:
        """Eight numbers of a tile for every thread."""
        return max(1, min(4, self.BE * self.MP * self.DP // 256))

    @classmethod
    def of(cls, query: Tensor, switches: Switches) -> Self:
        """Of a layer whose queries are (h, M, N, dk)."""
        n_modalities, width = query.shape[1], query.shape[3]
        padded = triton.next_power_of_2(n_modalities), triton.next_power_of_2(width)
        n_pairs = n_modalities * (n_modalities - 1) // 2
        return cls(
            *(n_modalities, width, *padded),
            BE=max(_LEAST, min(_MOST, _TILE // (padded[0] * padded[1]))),
            scale=1 / n_pairs if switches.align_scale == "mean" and n_pairs else 1.0,
            tiny=torch.finfo(query.dtype).tiny,
            modal=switches.has_modal_attention,
            shared=switches.cross_modal != "none",
            by_node=switches.cross_modal == "node",
            align=switches.align,
            add=switches.combine == "sum",
            log=switches.attention_norm == "renormalize" and not switches.keeps_beta,
            beta_softmax=switches.attention_norm == "softmax" and switches.cross_modal != "none",
            beta_weight=switches.keeps_beta,
        )


# ------------------------------------------------------------------------------- a tile of edges
# What belongs to edges is (edges, modalities), to all edges of a softmax (modalities,). Where the
# modalities share something, all columns hold it.
@triton.jit
def _dots(table: tl.tensor, at: tl.tensor, mask: tl.tensor, x: tl.tensor) -> tl.tensor:
    """Products of rows of a table with a row for each modality."""
    return tl.sum(tl.load(table + at, mask=mask, other=0.0) * x[None], 2)


@triton.jit
def _over_modalities(x: tl.tensor, S: tl.constexpr) -> tl.tensor:
    """Sum over the modalities, in all columns."""
    real = (tl.arange(0, S.MP) < S.M)[None, :]
    return tl.sum(tl.where(real, x, 0.0), 1)[:, None] + tl.zeros_like(x)


@triton.jit
def _differences(g: tl.tensor, S: tl.constexpr) -> tl.tensor:
    """Sum over the other modalities of the sign of the difference to them, and of its size."""
    m = tl.arange(0, S.MP)
    apart = tl.where((m < S.M)[None, None, :], g[:, :, None] - g[:, None, :], 0.0)
    sign = tl.where(apart > 0, 1.0, 0.0) - tl.where(apart < 0, 1.0, 0.0)
    return tl.sum(sign.to(g.dtype), 2), tl.sum(tl.abs(apart), 2)


@triton.jit
def _scores(q: tl.tensor, node: tl.tensor, modal: tl.tensor, rows: tl.tensor, e: tl.tensor,
            stop: tl.tensor, head: tl.tensor, n_rows: tl.tensor,
            S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """(2), (4) and the exponent of (8) of the edges from e on, and where their sources stand."""
    m, d = tl.arange(0, S.MP)[None, :, None], tl.arange(0, S.DP)[None, None, :]
    edge = e + tl.arange(0, S.BE)
    inside = edge < stop
    row = tl.load(rows + edge, mask=inside, other=0)[:, None, None]
    at = ((head * S.M + m) * n_rows + row) * S.DK + d
    mask = inside[:, None, None] & (m < S.M) & (d < S.DK)
    g = _dots(node, at, mask, q)
    s, apart = tl.zeros_like(g), tl.zeros_like(g)
    if S.modal:
        s = _dots(modal, at, mask, q)
    if S.align:
        apart = _over_modalities(_differences(g, S)[1], S) * (-0.5 * S.scale)
    return g, s, apart, inside[:, None] & (tl.arange(0, S.MP) < S.M)[None, :], at, mask


@triton.jit
def _add_up(z: tl.tensor, x: tl.tensor, e: tl.tensor, stop: tl.tensor,
            S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """Maximum and sum of exponentials below it, over the edges so far and these."""
    x = tl.where((e + tl.arange(0, S.BE) < stop)[:, None], x, float("-inf"))
    top = tl.maximum(z[0], tl.max(x, 0))
    return top, z[1] * tl.exp(z[0] - top) + tl.sum(tl.exp(x - top[None, :]), 0)


@triton.jit
def _softmax(x: tl.tensor, z: tl.tensor, real: tl.tensor) -> tl.tensor:
    return tl.where(real, tl.exp(x - z[0][None, :]) / z[1][None, :], 0.0)


@triton.jit
def _final(beta: tl.tensor, logit: tl.tensor, z: tl.tensor, real: tl.tensor,
           S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """(9)."""
    weight = beta
    if not S.beta_weight:
        weight = _softmax(logit, z, real)
    return weight


@triton.jit
def _shared(x: tl.tensor, S: tl.constexpr) -> tl.tensor:
    """Summed over the modalities where they share their weights."""
    if S.shared:
        x = _over_modalities(x, S)
    return x


@triton.jit
def _attend(g: tl.tensor, s: tl.tensor, real: tl.tensor, z_alpha: tl.tensor, mean: tl.tensor,
            S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """(3), (5) and (6) without its softmax."""
    alpha = _softmax(g, z_alpha, real)
    lam, raw = alpha, alpha
    if S.modal:
        if S.by_node:
            s = tl.zeros_like(s) + mean[None, :]
        s = tl.where((tl.arange(0, S.MP) < S.M)[None, :], s, float("-inf"))
        lam = tl.exp(s - tl.max(s, 1)[:, None])
        lam = tl.where(real, lam / tl.sum(lam, 1)[:, None], 0.0)
        raw = _over_modalities(lam * alpha, S)
    elif S.shared:
        raw = _over_modalities(alpha, S) / S.M
    return alpha, lam, raw


@triton.jit
def _weigh(raw: tl.tensor, apart: tl.tensor, real: tl.tensor, z_align: tl.tensor,
           z_beta: tl.tensor, S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """(6), (8) and what the softmax of (9) is taken of."""
    beta, align = raw, tl.zeros_like(raw)
    if S.beta_softmax:
        beta = _softmax(raw, z_beta, real)
    if S.align:
        align = _softmax(apart, z_align, real)
    logit = beta + align
    if S.align and not S.add:
        logit = beta * align
    if S.log:
        if S.align and not S.add:
            logit = tl.log(tl.maximum(beta, S.tiny)) + apart
        else:
            logit = tl.log(tl.maximum(logit, S.tiny))
    return beta, align, logit


@triton.jit
def _lacks(lacking: tl.tensor, e: tl.tensor, stop: tl.tensor, n_marks: tl.tensor, like: tl.tensor,
           S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """1 where the source of an edge lacks a modality, as far as there are marks of edges."""
    edge, m = (e + tl.arange(0, S.BE))[:, None], tl.arange(0, S.MP)[None, :].to(tl.int64)
    mask = (edge < stop) & (edge < n_marks) & (m < S.M)
    return tl.load(lacking + m * n_marks + edge, mask=mask, other=0).to(like.dtype)


@triton.jit
def _through_weight(p: tl.tensor, t_weight: tl.tensor, beta: tl.tensor, align: tl.tensor,
                    weight: tl.tensor, S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """From the gradient of (9) to those of (6) and of (8), or of the exponent of (8)."""
    c = p
    if not S.beta_weight:
        c = weight * (p - t_weight[None, :])
    to_beta, to_align = c, c
    if S.log:
        below = beta
        if S.align and S.add:
            below = beta + align
        to_beta = tl.where(below > S.tiny, c / tl.maximum(below, S.tiny), 0.0)
        if S.add:
            to_align = to_beta
    elif S.align and not S.add:
        to_beta, to_align = c * align, c * beta
    if not S.shared:
        to_align = _over_modalities(to_align, S)
    return to_beta, to_align


@triton.jit
def _through_beta(to_beta: tl.tensor, t_beta: tl.tensor, beta: tl.tensor, alpha: tl.tensor,
                  lam: tl.tensor, S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """From the gradient of (6) to those of (3) and (5)."""
    if S.beta_softmax:
        to_beta = beta * (to_beta - t_beta[None, :])
    to_alpha = to_beta
    if S.modal:
        to_alpha = to_beta * lam
    elif S.shared:
        to_alpha = to_beta / S.M
    return to_alpha, to_beta * alpha


@triton.jit
def _scatter(at: tl.tensor, mask: tl.tensor, table: tl.tensor, grad: tl.tensor, x: tl.tensor,
             q: tl.tensor) -> tl.tensor:  # fmt: skip
    """From the gradient of scores to that of the queries, and, added up, to that of a table."""
    k = tl.load(table + at, mask=mask, other=0.0)
    tl.atomic_add(grad + at, x[:, :, None] * q[None], mask=mask, sem="relaxed")
    return tl.sum(x[:, :, None] * k, 0)


@triton.jit
def _through_align(to_align: tl.tensor, t_align: tl.tensor, align: tl.tensor, g: tl.tensor,
                   S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """From the gradient of (8), or of its exponent, to that of the scores, with the other sign."""
    out = tl.zeros_like(g)
    if S.align:
        if S.add or not S.log:
            to_align = align * (to_align - t_align[None, :])
        out = to_align * _differences(g, S)[0] * S.scale
    return out


@triton.jit
def _through_lam(to_lam: tl.tensor, t_lam: tl.tensor, lam: tl.tensor,
                 S: tl.constexpr) -> tl.tensor:  # fmt: skip
    """From the gradient of (5) to that of (4)."""
    if S.by_node:
        to_lam = tl.zeros_like(lam) + t_lam[None, :]
    return lam * (to_lam - _over_modalities(lam * to_lam, S))


# ---------------------------------------------------------------------------------- the kernels
@triton.jit
def _own(n_out: tl.tensor, S: tl.constexpr) -> tl.tensor:
    """Where the program's rows of queries and messages stand, (M, dk)."""
    i, h = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    m, d = tl.arange(0, S.MP)[:, None], tl.arange(0, S.DP)[None, :]
    return i, h, ((h * S.M + m) * n_out + i) * S.DK + d, (m < S.M) & (d < S.DK)


@triton.jit
def _keep(at: tl.tensor, z: tl.tensor, S: tl.constexpr) -> None:
    tl.store(at, z[0])
    tl.store(at + S.MP, z[1])


@triton.jit
def _read(at: tl.tensor, S: tl.constexpr) -> tl.tensor:
    return tl.load(at), tl.load(at + S.MP)


@triton.jit(do_not_specialize=_SIZES)
def forward(query: tl.tensor, node: tl.tensor, modal: tl.tensor, value: tl.tensor,
            rows: tl.tensor, offsets: tl.tensor, first: tl.tensor, lacking: tl.tensor,
            out: tl.tensor, paid: tl.tensor, stats: tl.tensor, n_out: tl.tensor,
            n_rows: tl.tensor, n_marks: tl.tensor, n_segments: tl.tensor,
            S: tl.constexpr) -> None:  # fmt: skip
    """Messages, attention paid to what is lacking, and the sums of all softmaxes."""
    i, h, own, mine = _own(n_out, S)
    m = tl.arange(0, S.MP)
    q = tl.load(query + own, mask=mine, other=0.0)
    total, nothing = tl.zeros_like(q), tl.sum(tl.zeros_like(q), 1)
    to_lacking = nothing
    for segment in range(tl.load(first + i), tl.load(first + i + 1)):
        start = tl.load(offsets + segment).to(tl.int64)
        stop = tl.load(offsets + segment + 1).to(tl.int64)
        z_alpha = (tl.full([S.MP], float("-inf"), q.dtype), nothing)
        z_align, z_beta, z_weight, mean = z_alpha, z_alpha, z_alpha, nothing
        for phase in tl.static_range(4):
            if (phase != 1 or S.beta_softmax) and (phase != 2 or not S.beta_weight):
                for e in range(start, stop, S.BE):
                    g, s, apart, real, at, mask = _scores(
                        q, node, modal, rows, e, stop, h, n_rows, S
                    )
                    _alpha, lam, raw = _attend(g, s, real, z_alpha, mean, S)
                    beta, _align, logit = _weigh(raw, apart, real, z_align, z_beta, S)
                    if phase == 0:
                        z_alpha = _add_up(z_alpha, g, e, stop, S)
                        z_align = _add_up(z_align, apart, e, stop, S)
                        mean += tl.sum(s, 0) / (stop - start)
                    elif phase == 1:
                        z_beta = _add_up(z_beta, raw, e, stop, S)
                    elif phase == 2:
                        z_weight = _add_up(z_weight, logit, e, stop, S)
                    else:
                        weight = _final(beta, logit, z_weight, real, S)
                        v = tl.load(value + at, mask=mask, other=0.0)
                        total += tl.sum(weight[:, :, None] * v, 0)
                        to_lacking += tl.sum(lam * _lacks(lacking, e, stop, n_marks, lam, S), 0)
        kept = stats + (h * n_segments + segment) * 9 * S.MP + m
        _keep(kept, z_alpha, S)
        _keep(kept + 2 * S.MP, z_align, S)
        _keep(kept + 4 * S.MP, z_beta, S)
        _keep(kept + 6 * S.MP, z_weight, S)
        tl.store(kept + 8 * S.MP, mean)
    tl.store(out + own, total, mask=mine)
    tl.store(paid + h * n_out + i, tl.sum(to_lacking, 0))


@triton.jit(do_not_specialize=_SIZES)
def backward(query: tl.tensor, node: tl.tensor, modal: tl.tensor, value: tl.tensor,
             rows: tl.tensor, offsets: tl.tensor, first: tl.tensor, lacking: tl.tensor,
             stats: tl.tensor, grad_out: tl.tensor, grad_paid: tl.tensor, grad_query: tl.tensor,
             grad_node: tl.tensor, grad_modal: tl.tensor, grad_value: tl.tensor, n_out: tl.tensor,
             n_rows: tl.tensor, n_marks: tl.tensor, n_segments: tl.tensor,
             S: tl.constexpr) -> None:  # fmt: skip
    """Gradients of the queries and of the tables."""
    i, h, own, mine = _own(n_out, S)
    m = tl.arange(0, S.MP)
    q = tl.load(query + own, mask=mine, other=0.0)
    asked = tl.load(grad_out + own, mask=mine, other=0.0)
    of_paid, of_query = tl.load(grad_paid), tl.zeros_like(q)
    nothing = tl.sum(of_query, 1)
    for segment in range(tl.load(first + i), tl.load(first + i + 1)):
        start = tl.load(offsets + segment).to(tl.int64)
        stop = tl.load(offsets + segment + 1).to(tl.int64)
        kept = stats + (h * n_segments + segment) * 9 * S.MP + m
        z_alpha, z_align = _read(kept, S), _read(kept + 2 * S.MP, S)
        z_beta, z_weight = _read(kept + 4 * S.MP, S), _read(kept + 6 * S.MP, S)
        mean = tl.load(kept + 8 * S.MP)
        t_weight, t_align, t_beta, t_alpha, t_lam = nothing, nothing, nothing, nothing, nothing
        for phase in tl.static_range(4):
            if phase != 0 or not S.beta_weight:
                for e in range(start, stop, S.BE):
                    g, s, apart, real, at, mask = _scores(
                        q, node, modal, rows, e, stop, h, n_rows, S
                    )
                    alpha, lam, raw = _attend(g, s, real, z_alpha, mean, S)
                    beta, align, logit = _weigh(raw, apart, real, z_align, z_beta, S)
                    weight = _final(beta, logit, z_weight, real, S)
                    p = _shared(_dots(value, at, mask, asked), S)
                    to_beta, to_align = _through_weight(p, t_weight, beta, align, weight, S)
                    to_alpha, to_lam = _through_beta(to_beta, t_beta, beta, alpha, lam, S)
                    to_lam += _lacks(lacking, e, stop, n_marks, lam, S) * of_paid
                    if phase == 0:
                        t_weight += tl.sum(weight * p, 0)
                    elif phase == 1:
                        t_align += tl.sum(align * to_align, 0)
                        t_beta += tl.sum(beta * to_beta, 0)
                    elif phase == 2:
                        t_alpha += tl.sum(alpha * to_alpha, 0)
                        t_lam += tl.sum(to_lam, 0) / (stop - start)
                    else:
                        to_g = alpha * (to_alpha - t_alpha[None, :])
                        to_g -= _through_align(to_align, t_align, align, g, S)
                        of_query += _scatter(at, mask, node, grad_node, to_g, q)
                        to_s = _through_lam(to_lam, t_lam, lam, S)
                        of_query += _scatter(at, mask & S.modal, modal, grad_modal, to_s, q)
                        of_value = weight[:, :, None] * asked[None]
                        tl.atomic_add(grad_value + at, of_value, mask=mask, sem="relaxed")
    tl.store(grad_query + own, of_query, mask=mine)
