"""Channels of a node, one per metapath: mapped each by itself, mixed, and put together."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from skmmg.nn._dropout import dropout as drop
from skmmg.nn._precision import softmax

NORMS = ("batch", "layer")
# An epoch is one step: at torch's 0.1 the running statistics trail ten epochs behind the weights.
_MOMENTUM = 0.5


class ChannelLinear(nn.Module):
    """A linear map of its own for every channel, (n, n_channels, d) to the same shape."""

    def __init__(self, n_channels: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_channels, channels, channels))
        self.bias = nn.Parameter(torch.zeros(n_channels, 1, channels))
        bound = nn.init.calculate_gain("relu") * sqrt(3.0 / channels)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, h: Tensor) -> Tensor:
        """New states."""
        by_channel = torch.baddbmm(self.bias, h.transpose(0, 1), self.weight)  # (c, n, d)
        return by_channel.transpose(0, 1)


class ChannelMixer(nn.Module):
    r"""Merge the channels of a node to one state.

    .. math::

        H &\leftarrow D(\mathrm{PReLU}(\mathrm{LayerNorm}_{c,d}(H_c W_c + b_c)))
            \quad \text{twice} \\
        H &\leftarrow H + \gamma\, \mathrm{softmax}(Q K^\top / \sqrt{d_q})\, V \\
        z &= D(\mathrm{PReLU}(W [H_1 \Vert \dots \Vert H_C] + W_o x + b))

    where :math:`Q, K, V` are linear in H, the first two of width :math:`d_q = \max(d / 4, 1)`, and
    :math:`\gamma` starts at 0. :math:`W_o x` is there with `residual` only.

    Parameters
    ----------
    n_channels : int
        Number of channels, C.
    channels : int
        Width of every channel and of the output, d.
    dropout : float, default=0.5
        :math:`D`, in [0, 1).
    att_dropout : float, default=0.0
        Dropout of the attention, in [0, 1).
    residual : bool, default=False
        Whether the node's own embedded features x are added.

    References
    ----------
    Yang et al., Simple and efficient heterogeneous graph neural network, AAAI 2023, section 4.
    """

    def __init__(
        self,
        n_channels: int,
        channels: int,
        *,
        dropout: float = 0.5,
        att_dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.dropout, self.att_dropout = dropout, att_dropout
        self.maps = nn.ModuleList(ChannelLinear(n_channels, channels) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm((n_channels, channels)) for _ in range(2))
        self.activations = nn.ModuleList(nn.PReLU() for _ in range(3))
        narrow = max(channels // 4, 1)
        self.query = nn.Linear(channels, narrow)
        self.key = nn.Linear(channels, narrow, bias=False)  # softmax does not see a bias
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.merge = nn.Linear(n_channels * channels, channels)
        self.own = nn.Linear(channels, channels, bias=False) if residual else None

    def forward(self, h: Tensor, own: Tensor | None = None) -> Tensor:
        """States (n, n_channels, d), and own ones (n, d), to (n, d)."""
        for linear, norm, act in zip(self.maps, self.norms, self.activations, strict=False):
            h = drop(act(norm(linear(h))), self.dropout, self.training)  # (n, c, d)
        h = self._mix(h)
        z = self.merge(h.flatten(1))  # (n, d)
        if self.own is not None:
            z = z + self.own(own)
        return drop(self.activations[2](z), self.dropout, self.training)

    def _mix(self, h: Tensor) -> Tensor:
        query, key = self.query(h), self.key(h)  # (n, c, d_q)
        scores = query @ key.transpose(1, 2) / sqrt(query.shape[-1])  # (n, c, c)
        beta = drop(softmax(scores, -1), self.att_dropout, self.training)
        return h + self.gamma * (beta @ self.value(h))


class PlainNorm(nn.Module):
    """Normalisation without parameters: over the batch ("batch"), over the columns, or none.

    Over the batch, evaluation takes running statistics, as does a training batch of one node;
    `keep` says whether a training pass updates them.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, norm: str | None) -> None:
        super().__init__()
        self.channels, self.norm = channels, norm
        if norm == "batch":
            self.register_buffer("mean", torch.zeros(channels))
            self.register_buffer("var", torch.ones(channels))

    def forward(self, h: Tensor, keep: bool = True) -> Tensor:
        """Normalised states, (n, channels)."""
        if self.norm is None:
            return h
        if self.norm == "layer":
            return nn.functional.layer_norm(h, (self.channels,))
        training = self.training and len(h) > 1
        momentum = _MOMENTUM if keep else 0.0
        return nn.functional.batch_norm(
            h, self.mean, self.var, training=training, momentum=momentum
        )


class NormedLinear(nn.Module):
    """A linear map, then a `PlainNorm`."""

    def __init__(self, in_channels: int, out_channels: int, norm: str | None) -> None:
        super().__init__()
        # the mean over the batch takes a bias away again
        self.linear = nn.Linear(in_channels, out_channels, bias=norm != "batch")
        self.norm = PlainNorm(out_channels, norm)

    def forward(self, h: Tensor, keep: bool = True) -> Tensor:
        """New states, (n, out_channels)."""
        return self.norm(self.linear(h), keep)


class TaskLayers(nn.Module):
    """Linear, normalisation, PReLU, dropout, several times."""

    def __init__(self, num_layers: int, channels: int, *, norm: str | None, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.ModuleList(
            NormedLinear(channels, channels, norm) for _ in range(num_layers)
        )
        self.activations = nn.ModuleList(nn.PReLU() for _ in range(num_layers))

    def forward(self, h: Tensor, keep: bool = True) -> Tensor:
        """New states, (n, channels)."""
        for layer, act in zip(self.layers, self.activations, strict=True):
            h = drop(act(layer(h, keep)), self.dropout, self.training)
        return h
