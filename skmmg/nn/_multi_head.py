"""Multi-head attention over a few vectors per sample, for very many samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skmmg.nn._dropout import dropout
from skmmg.nn._precision import softmax


class MultiHead(nn.Module):
    r"""Multi-head attention with the parameters of `torch.nn.MultiheadAttention`.

    For sets of a handful of vectors, where torch's operator spends its time between the products.
    Queries that all samples share are projected once.

    Parameters
    ----------
    channels : int
        Width of the vectors.
    heads : int
        Attention heads; has to divide `channels`.
    dropout : float
        Dropout of the attention, in [0, 1).

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn._multi_head import MultiHead
    >>> MultiHead(8, 2, 0.0)(torch.randn(1, 3, 8), torch.randn(5, 4, 8)).shape
    torch.Size([5, 3, 8])
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        """What queries (n or 1, q, d) find in the vectors (n, s, d) of a sample, (n, q, d)."""
        weight = self._attend(self._project(query, 0), self._project(source, 1))  # (n, h, q, s)
        out = weight @ self._project(source, 2)  # (n, h, q, c)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def mutual(self, sets: Tensor) -> Tensor:
        """Mean of what the vectors of each set find in each other set, (n, M, s, d) -> (n, d).

        A mean of weighted sums is one weighted sum, so that no pair of sets has states of its own.
        One set looks at itself.
        """
        n_sets, size = sets.shape[1:3]
        flat = sets.flatten(1, 2)
        query, key = self._project(flat, 0), self._project(flat, 1)  # (n, h, M * s, c)
        score = (query @ key.transpose(2, 3)) * query.shape[3] ** -0.5
        alpha = softmax(score.unflatten(3, (n_sets, size)), 4)  # (n, h, M * s, M, s)
        alpha = dropout(alpha, self.dropout, self.training).unflatten(2, (n_sets, size))
        others = 1 - torch.eye(n_sets, dtype=sets.dtype, device=sets.device)
        pairs = others / others.sum() if n_sets > 1 else torch.ones_like(others)
        weight = torch.einsum("nhatbs,ab->nhbs", alpha, pairs / size).flatten(2)  # (n, h, M * s)
        out = weight.unsqueeze(2) @ self._project(flat, 2)  # (n, h, 1, c)
        return self.out_proj(out.flatten(1))

    def _attend(self, query: Tensor, key: Tensor) -> Tensor:
        score = (query @ key.transpose(2, 3)) * query.shape[3] ** -0.5
        return dropout(softmax(score, 3), self.dropout, self.training)

    def _project(self, x: Tensor, part: int) -> Tensor:
        """Queries (0), keys (1) or values (2) by head, (n, s, d) -> (n, h, s, c)."""
        weight, bias = self.in_proj_weight.chunk(3)[part], self.in_proj_bias.chunk(3)[part]
        return F.linear(x, weight, bias).unflatten(2, (self.heads, -1)).transpose(1, 2)
