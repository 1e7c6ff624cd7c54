"""HGNN-IMA's layer edge by edge, as one would write it first: the yardstick of `bench_speed.py`.

It computes what `skmmg.nn.HGNNIMAConv` computes with the paper's switches, from the same
parameters, but gathers keys, queries and values for every edge and multiplies them there by the
matrices of the relation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.utils import scatter, softmax

from skmmg.nn import HGNNIMAConv
from skmmg.nn._edges import EdgeStructure


class PlainConv(nn.Module):
    """The paper's layer around the parameters of ours."""

    def __init__(self, conv: HGNNIMAConv) -> None:
        super().__init__()
        self.conv = conv

    def propagate(
        self, h: Tensor, edges: EdgeStructure, lacking: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """New states (M, N, d), equations 2 to 11."""
        conv = self.conv
        key, query, value = (
            self._project(linears, h, edges) for linears in (conv.k_lin, conv.q_lin, conv.v_lin)
        )  # (N, M, h, dk)
        scale = 1 / math.sqrt(conv.channels // conv.heads)
        scores, modal_scores, messages = [], [], []
        for r in range(len(edges.edge_types)):
            ours = edges.relation == r
            k, q, v = key[edges.src[ours]], query[edges.dst[ours]], value[edges.src[ours]]
            k_node = torch.einsum("emhc,hcd->emhd", k, conv.w_node[r])
            k_modal = torch.einsum("emhc,hcd->emhd", k, conv.w_modal[r, 0])
            scores.append((k_node * q).sum(-1) * conv.mu[r] * scale)
            modal_scores.append((k_modal * q).sum(-1) * scale)
            messages.append(torch.einsum("emhc,hcd->emhd", v, conv.w_msg[r]))
        dst = torch.cat([edges.dst[edges.relation == r] for r in range(len(edges.edge_types))])
        g, s, message = torch.cat(scores), torch.cat(modal_scores), torch.cat(messages)
        alpha = softmax(g, dst, num_nodes=edges.num_nodes)  # (E, M, h)
        beta = softmax((s.softmax(1) * alpha).sum(1), dst, num_nodes=edges.num_nodes)  # (E, h)
        pairs = torch.combinations(torch.arange(len(h)))
        apart = sum((g[:, a] - g[:, b]).abs() for a, b in pairs)
        align = softmax(-apart, dst, num_nodes=edges.num_nodes)
        weight = softmax(beta * align, dst, num_nodes=edges.num_nodes)
        u = scatter(weight[:, None, :, None] * message, dst, dim_size=edges.num_nodes)
        u = u.flatten(2).sigmoid().transpose(0, 1)  # (M, N, d)
        parts = [conv.a_lin[t](u[:, part]) for t, part in edges.node_slices.items()]
        return torch.cat(parts, 1) + h, None

    def _project(self, linears: nn.Module, h: Tensor, edges: EdgeStructure) -> Tensor:
        parts = [linears[t](h[:, part]) for t, part in edges.node_slices.items()]
        return torch.cat(parts, 1).unflatten(2, (self.conv.heads, -1)).transpose(0, 1)
