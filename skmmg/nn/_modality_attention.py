"""Attention over the modalities of a node."""

from __future__ import annotations

from torch import Tensor, nn

from skmmg.nn._checks import check_option
from skmmg.nn._precision import softmax


class ModalityAttention(nn.Module):
    r"""Weigh the modalities of a node and add them up.

    .. math::

        \omega_i^m = w_2 \tanh(W_1 h_i^m + b_1) + b_2, \qquad
        \delta_i = \mathrm{softmax}_m\, \omega_i^m, \qquad
        z_i = \sum_m \delta_i^m h_i^m

    Parameters
    ----------
    channels : int
        Width of the states.
    scorer : {"mlp", "linear"}, default="mlp"
        "mlp": as above (equations 12 to 14 of the paper). "linear": what the released code of
        HGNN-IMA does, :math:`\omega = \tanh(D_{.5}(w D_{.6}(h) + b))`, with dropouts :math:`D`.

    References
    ----------
    Li et al., HGNN-IMA, IJCAI 2025, equations 12 to 14.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import ModalityAttention
    >>> z, weights = ModalityAttention(16)(torch.randn(2, 5, 16))
    >>> z.shape, weights.shape
    (torch.Size([5, 16]), torch.Size([5, 2]))
    """

    def __init__(self, channels: int, scorer: str = "mlp") -> None:
        super().__init__()
        check_option("scorer", scorer, ("mlp", "linear"))
        if scorer == "mlp":
            self.score = nn.Sequential(
                nn.Linear(channels, channels), nn.Tanh(), nn.Linear(channels, 1)
            )
        else:
            self.score = nn.Sequential(
                nn.Dropout(0.6), nn.Linear(channels, 1), nn.Dropout(0.5), nn.Tanh()
            )

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """States (n_modalities, n_nodes, channels) to (n_nodes, channels) and the weights."""
        weight = softmax(self.score(h), 0)  # (M, n, 1)
        return (weight * h).sum(0), weight.squeeze(-1).t()
