"""HGNN-IMA in plain float64 NumPy loops: one function per equation, nothing shared with skmmg.

Equation numbers are those of Li et al., IJCAI 2025. Vectors are rows: ``k @ W @ q``. Parameters are
a dict of arrays under the layer's state-dict names; a graph is ``{(src, rel, dst): (2, E) ids}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float64]
EdgeType = tuple[str, str, str]
Metadata = tuple[Sequence[str], Sequence[EdgeType]]
Params = Mapping[str, Array]
NodeArrays = dict[str, Array]


@dataclass(frozen=True)
class Switches:
    """Every choice that the equations leave open; the defaults follow the paper."""

    heads: int = 8
    cross_modal: str = "adaptive"
    align: bool = True
    align_scale: str = "sum"
    attention_scope: str = "node"
    attention_norm: str = "softmax"
    combine: str = "product"
    modal_weight: str = "shared"
    residual: str = "add"
    activation: str | None = "gelu"
    norm: str | None = None


@dataclass(frozen=True)
class Edge:
    """One edge j -> i of one relation (numbered as in the metadata)."""

    relation: int
    source: tuple[str, int]
    target: tuple[str, int]


@dataclass(frozen=True)
class Attention:
    """What the layer computed for each edge, in the order of the edges."""

    alpha: Array
    lam: Array | None
    beta: Array
    align: Array | None
    weight: Array


def list_edges(edge_types: Sequence[EdgeType], edge_index: Mapping[EdgeType, Array]) -> list[Edge]:
    """All edges, relation by relation; duplicates and self-loops are edges like others."""
    return [
        Edge(r, (edge_type[0], int(j)), (edge_type[2], int(i)))
        for r, edge_type in enumerate(edge_types)
        for j, i in edge_index.get(edge_type, np.empty((2, 0))).T
    ]


def list_segments(edges: Sequence[Edge], scope: str) -> list[list[int]]:
    """Positions of the edges that share a softmax: N(i), or N_r(i)."""
    segments: dict[object, list[int]] = {}
    for position, edge in enumerate(edges):
        key = edge.target if scope == "node" else (edge.target, edge.relation)
        segments.setdefault(key, []).append(position)
    return list(segments.values())


def softmax(values: Array, axis: int = 0) -> Array:
    """Exponentials that sum to one along an axis."""
    shifted = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True))


def segment_softmax(values: Array, segments: Sequence[list[int]]) -> Array:
    """Softmax over the edges of each segment, for every modality and head by itself."""
    out = np.zeros_like(values)
    for segment in segments:
        out[segment] = softmax(values[segment])
    return out


def project(params: Params, name: str, x: NodeArrays, heads: int) -> NodeArrays:
    """K, Q or V of each node type, shared by the modalities: (M, n, d) -> (M, n, heads, dk)."""
    shape = {t: (*h.shape[:2], heads, h.shape[2] // heads) for t, h in x.items()}
    return {t: linear(params, f"{name}.{t}", h).reshape(shape[t]) for t, h in x.items()}


def linear(params: Params, name: str, x: Array) -> Array:
    """An affine map whose weight has one row per output, as in torch."""
    return np.asarray(x @ params[f"{name}.weight"].T + params[f"{name}.bias"])


def scores(params: Params, edges: Sequence[Edge], k: NodeArrays, q: NodeArrays) -> Array:
    """Eq. 2 (with mu and 1/sqrt(dk)): g_e^m = mu_r (k W_node,r . q) / sqrt(dk); (E, M, heads)."""
    n_modalities, _, heads, dk = next(iter(k.values())).shape
    g = np.zeros((len(edges), n_modalities, heads))
    for e, m, a in np.ndindex(g.shape):
        (source, j), (target, i), r = edges[e].source, edges[e].target, edges[e].relation
        product = k[source][m, j, a] @ params["w_node"][r, a] @ q[target][m, i, a]
        g[e, m, a] = params["mu"][r, a] * product / sqrt(dk)
    return g


def modal_scores(
    params: Params, edges: Sequence[Edge], k: NodeArrays, q: NodeArrays, cross_modal: str
) -> Array:
    """Eq. 4 over sqrt(dk): s_e^{m'}; "influenced": s_e^{m',m}, the query from the receiving m.

    The weight of a modality (the receiving one if "influenced") is used where there is one each.
    """
    n_modalities, _, heads, dk = next(iter(k.values())).shape
    s = np.zeros((len(edges), n_modalities, n_modalities, heads))
    for e, m_source, m, a in np.ndindex(s.shape):
        (source, j), (target, i), r = edges[e].source, edges[e].target, edges[e].relation
        weight = params["w_modal"][r, m if params["w_modal"].shape[1] > 1 else 0, a]
        s[e, m_source, m, a] = k[source][m_source, j, a] @ weight @ q[target][m, i, a] / sqrt(dk)
    return s if cross_modal == "influenced" else np.einsum("emma->ema", s)


def modality_influence(s: Array, segments: Sequence[list[int]], cross_modal: str) -> Array:
    """Eq. 5: lambda, the softmax over m' of s; "node": of the mean of s over N(i)."""
    if cross_modal != "node":
        return softmax(s, axis=1)
    lam = np.zeros_like(s)
    for segment in segments:
        lam[segment] = softmax(s[segment].mean(axis=0))
    return lam


def neighbor_influence(
    alpha: Array, lam: Array | None, segments: Sequence[list[int]], switches: Switches
) -> Array:
    """Eq. 6: beta_e = softmax_N(i) sum_m' lambda_e^{m'} alpha_e^{m'}; "none": beta^m = alpha^m."""
    if switches.cross_modal == "none":
        return alpha
    if lam is None:
        mixed = alpha.mean(axis=1)
    elif switches.cross_modal == "influenced":
        mixed = np.einsum("esma,esa->ema", lam, alpha)
    else:
        mixed = np.einsum("esa,esa->ea", lam, alpha)
    return segment_softmax(mixed, segments) if switches.attention_norm == "softmax" else mixed


def alignment(g: Array, segments: Sequence[list[int]], align_scale: str) -> Array:
    """Eq. 8 (minus sign, unordered pairs): softmax_N(i) of -sum_{m1<m2} |g_e^{m1} - g_e^{m2}|."""
    pairs = list(combinations(range(g.shape[1]), 2))
    disagreement = np.zeros((g.shape[0], g.shape[2]))
    for m1, m2 in pairs:
        disagreement += np.abs(g[:, m1] - g[:, m2])
    if align_scale == "mean" and pairs:
        disagreement /= len(pairs)
    return segment_softmax(-disagreement, segments)


def edge_weights(
    beta: Array, aligned: Array | None, segments: Sequence[list[int]], switches: Switches
) -> Array:
    """Eq. 9: w_e = softmax_N(i)(beta_e bt_e), or beta_e bt_e divided by its sum over N(i)."""
    if aligned is None and (switches.attention_norm == "softmax" or switches.cross_modal == "none"):
        return beta
    weights = beta
    if aligned is not None:
        bt = aligned[:, None] if beta.ndim == 3 else aligned
        weights = beta * bt if switches.combine == "product" else beta + bt
    if switches.attention_norm != "renormalize":
        return segment_softmax(weights, segments)
    out = np.zeros_like(weights)
    for segment in segments:
        out[segment] = weights[segment] / weights[segment].sum(axis=0)
    return out


def aggregate(
    params: Params,
    edge_types: Sequence[EdgeType],
    edges: Sequence[Edge],
    v: NodeArrays,
    weight: Array,
    scope: str,
) -> NodeArrays:
    """Eq. 10: u_i^m = concat_heads sum_e w_e v_j^m W_msg,r; "relation": mean over the relations."""
    *_, heads, width = next(iter(v.values())).shape
    u = {node_type: np.zeros_like(values) for node_type, values in v.items()}
    for e, edge in enumerate(edges):
        (source, j), (target, i) = edge.source, edge.target
        for m, a in np.ndindex(len(v[source]), heads):
            w = weight[e, m, a] if weight.ndim == 3 else weight[e, a]
            u[target][m, i, a] += w * (v[source][m, j, a] @ params["w_msg"][edge.relation, a])
    for node_type, values in u.items():
        n_relations = sum(edge_type[2] == node_type for edge_type in edge_types)
        values /= max(n_relations, 1) if scope == "relation" else 1
    return {t: values.reshape(*values.shape[:2], heads * width) for t, values in u.items()}


def update(
    params: Params, node_types: Sequence[str], x: NodeArrays, u: NodeArrays, switches: Switches
) -> NodeArrays:
    """Eq. 11: h' = A(act(u)) + h, or s A(act(u)) + (1 - s) h with s = sigmoid(skip)."""
    out = {}
    for o, node_type in enumerate(node_types):
        h, message = x[node_type], activate(u[node_type], switches.activation)
        message = linear(params, f"a_lin.{node_type}", message)
        if switches.residual == "gated":
            gate = 1 / (1 + np.exp(-params["skip"][o]))
            h, message = (1 - gate) * h, gate * message
        out[node_type] = h + message
        if switches.norm == "layer":
            out[node_type] = layer_norm(params, f"norm.{node_type}", out[node_type])
    return out


def activate(u: Array, activation: str | None) -> Array:
    """GELU (the exact one), sigmoid or nothing."""
    if activation == "gelu":
        return np.asarray(u * (1 + erf(u / sqrt(2))) / 2)
    return 1 / (1 + np.exp(-u)) if activation == "sigmoid" else u


def layer_norm(params: Params, name: str, x: Array) -> Array:
    """LayerNorm over the channels, with torch's epsilon."""
    centered = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    return np.asarray(centered / scale * params[f"{name}.weight"] + params[f"{name}.bias"])


def conv(
    params: Params,
    metadata: Metadata,
    x: NodeArrays,
    edge_index: Mapping[EdgeType, Array],
    switches: Switches,
) -> tuple[NodeArrays, dict[EdgeType, Attention]]:
    """One layer, eq. 2 to 11: (M, n, d) per node type in and out, and the attention."""
    node_types, edge_types = metadata
    edges = list_edges(edge_types, edge_index)
    segments = list_segments(edges, switches.attention_scope)
    k, q, v = (project(params, name, x, switches.heads) for name in ("k_lin", "q_lin", "v_lin"))
    g = scores(params, edges, k, q)
    alpha = segment_softmax(g, segments)  # eq. 3
    lam = None
    if switches.cross_modal not in ("none", "mean"):
        s = modal_scores(params, edges, k, q, switches.cross_modal)
        lam = modality_influence(s, segments, switches.cross_modal)
    beta = neighbor_influence(alpha, lam, segments, switches)
    aligned = alignment(g, segments, switches.align_scale) if switches.align else None
    weight = edge_weights(beta, aligned, segments, switches)
    u = aggregate(params, edge_types, edges, v, weight, switches.attention_scope)
    attention = Attention(alpha, lam, beta, aligned, weight)
    return update(params, node_types, x, u, switches), split_attention(attention, edge_types, edges)


def split_attention(
    attention: Attention, edge_types: Sequence[EdgeType], edges: Sequence[Edge]
) -> dict[EdgeType, Attention]:
    """The attention of each relation, in the order of its edges."""
    relation = np.array([edge.relation for edge in edges], dtype=int)
    fields = vars(attention)
    return {
        edge_type: Attention(**{f: v if v is None else v[relation == r] for f, v in fields.items()})
        for r, edge_type in enumerate(edge_types)
    }


def modality_scores(h: Array, w1: Array, b1: Array, w2: Array, b2: float) -> Array:
    """Eq. 12: omega_i^m = w2 . tanh(W1 h_i^m + b1) + b2; (M, n, d) -> (M, n)."""
    return np.asarray(np.tanh(h @ w1.T + b1) @ w2 + b2)


def released_modality_scores(h: Array, w: Array, b: float) -> Array:
    """What the released code has for eq. 12, without its dropouts: tanh(w . h_i^m + b)."""
    return np.asarray(np.tanh(h @ w + b))


def fuse(h: Array, omega: Array) -> tuple[Array, Array]:
    """Eq. 13 and 14: delta = softmax_m(omega), (M, n); Z_i = sum_m delta_i^m h_i^m, (n, d)."""
    delta = softmax(omega, axis=0)
    return np.einsum("mn,mnd->nd", delta, h), delta


def classify(z: Array, weight: Array, bias: Array) -> Array:
    """Eq. 15: O_i = softmax(W_c Z_i); the same W_c serves every modality."""
    return softmax(z @ weight.T + bias, axis=-1)


def cross_entropy(probabilities: Array, y: NDArray[np.int64]) -> float:
    """Mean negative log-probability of the labels."""
    return float(-np.log(probabilities[np.arange(len(y)), y]).mean())


def classification_loss(
    fused: Array, unimodal: Sequence[Array], y: NDArray[np.int64], share: float
) -> float:
    """Eq. 16 (minus sign, means), the unimodal parts counting `share`, over labelled targets."""
    parts = [cross_entropy(probabilities, y) for probabilities in (fused, *unimodal)]
    return float(np.average(parts, weights=[1.0] + [share] * len(unimodal)))


def attention_loss(
    layers: Sequence[Mapping[EdgeType, Attention]],
    edge_index: Mapping[EdgeType, Array],
    missing: Mapping[str, NDArray[np.bool_]],
) -> float:
    """Eq. 7 (a mean): lambda_e^{m'} over layers, heads and pairs (e, m') with m' missing at j.

    ``missing`` has a mask of shape (M, n) for each node type; other types miss nothing.
    """
    values: list[float] = []
    for layer in layers:
        for edge_type, index in edge_index.items():
            lam, mask = layer[edge_type].lam, missing.get(edge_type[0])
            if lam is None or mask is None:
                continue
            for e, j in enumerate(index[0]):
                values.extend(lam[e][mask[:, int(j)]].ravel())
    return float(np.mean(values)) if values else 0.0


def total_loss(classification: float, attention: float, att_loss_weight: float = 1.0) -> float:
    """Eq. 17: L = L_cro + att_loss_weight * L_att."""
    return classification + att_loss_weight * attention
