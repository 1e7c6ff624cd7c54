"""Attention between the modalities of one sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skmmg.nn._precision import softmax


class CrossModalAttention(nn.Module):
    r"""Each modality of a sample looks at all of its modalities, itself included.

    .. math::

        s_i^{mn} = \frac{(h_i^m)^\top W_{mn} h_i^n}{\sqrt d}, \qquad
        \alpha_i^{mn} = \mathrm{softmax}_n\, s_i^{mn}, \qquad
        o_i^m = \sum_n \alpha_i^{mn} h_i^n

    Parameters
    ----------
    channels : int
        Width d of the states.
    n_modalities : int
        Number of modalities.

    References
    ----------
    Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1, equations 2 to 4. As
    printed, equation 3 multiplies matrices whose shapes do not fit and equation 4 adds features of
    different widths: here both take a sample's states after the projection to one width, with a
    matrix for each ordered pair of modalities. The division by the root of the width is ours.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import CrossModalAttention
    >>> o, weight = CrossModalAttention(16, 2)(torch.randn(2, 5, 16))
    >>> o.shape, weight.shape
    (torch.Size([2, 5, 16]), torch.Size([2, 2, 5]))
    """

    def __init__(self, channels: int, n_modalities: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_modalities, n_modalities, channels, channels))
        bound = (3 / channels) ** 0.5  # Glorot's, for each matrix
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """States (n_modalities, n, channels) to new ones, and weights [m, n, i] that m gives n."""
        root = h.shape[2] ** 0.5
        # one modality at a time: all pairs at once would hold |M|^2 n d numbers
        scores = [
            ((h_m @ w_m) * h).sum(2) / root  # (M, n)
            for h_m, w_m in zip(h, self.weight, strict=True)
        ]
        weight = softmax(torch.stack(scores), 1)  # (M, M, n)
        return torch.einsum("mni,nid->mid", weight, h), weight
