"""MAMSA: multiple attention between modalities and classes, without a graph (a reconstruction)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from skmmg._sklearn import Interval
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec, check_heads, make_encoder
from skmmg.nn import GraphTensors, ModalityEncoder
from skmmg.nn._multi_head import MultiHead

# scalars of the attention of one block of samples
_BLOCK = 1 << 24


class MAMSA(ModelSpec):
    r"""Multiple attention between the modalities of a sample and the classes; no graph.

    A modality is `n_tokens` vectors :math:`T^m = \tanh(x^m P_m)`, with mean :math:`\bar T^m`.

    .. math::

        g^m &= \sigma\bigl(W_m [\bar T^m \,\|\, \mathrm{mean}_{n \ne m} \bar T^n] + b_m\bigr),
        \qquad G^m = g^m \odot T^m \\
        c &= \mathrm{LN}\bigl(\mathrm{mean}_{m \ne n} \overline{A(G^m, G^n, G^n)}\bigr) \\
        a^m &= A_m(S, T^m, T^m), \qquad b^m = A'(c, a^m, a^m) \\
        U &= [b^1, \ldots, b^M, c], \qquad z = \overline{U + A''(U, U, U)}, \qquad
        o = \mathrm{MLP}(z)

    with multi-head attentions :math:`A(\mathrm{query}, \mathrm{key}, \mathrm{value})`, learned
    vectors :math:`S` of the classes, and bars for means over tokens.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the tokens and of the fused state.
    n_tokens : int, default=4
        Vectors that a modality's features are mapped to. With 1 the attention between modalities
        has one thing to look at, and the gates alone tell modalities apart there.
    heads : int, default=4
        Attention heads; has to divide `hidden_channels`.
    dropout : float, default=0.3
        Dropout of the attention and in the classifier, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, in [0, 1).

    Notes
    -----
    It takes the modalities natively, so that `fusion` does not apply. Edges are not used, but by
    ``missing="mean_neighbors"`` and for nodes without any modality.

    **This is a reconstruction.** Of the paper its abstract was at hand, and no code: gates that
    weigh the modalities and attention between them for what they have in common; class
    ("sentiment") information that guides each modality; fusion of the guided modalities and the
    common part in two levels. Which attention stands where, the gates' inputs, the residual and
    the classifier are ours, and scores may differ from the paper's. Tokens are ours too: the
    paper's texts and images come as sequences, our modalities as one vector per sample. One
    modality attends to itself; with more than two, ordered pairs are averaged.

    Training keeps one block of samples at a time and computes the others again on the way back.

    References
    ----------
    Wang, Ren, Yu, Multimodal sentiment analysis based on multiple attention, Engineering
    Applications of Artificial Intelligence, 2024. doi:10.1016/j.engappai.2024.109731

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import MAMSA
    >>> clf = MultiModalGraphClassifier(MAMSA(n_tokens=8), graph="none")
    """

    name: ClassVar[str] = "mamsa"
    paper: ClassVar[str] = (
        "Multimodal sentiment analysis based on multiple attention, Eng. Appl. Artif. Intell. "
        "2024, doi:10.1016/j.engappai.2024.109731 (a reconstruction)"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "n_tokens": [Interval(Integral, 1, None, closed="left")],
        "heads": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        n_tokens: int = 4,
        heads: int = 4,
        dropout: float = 0.3,
        input_dropout: float = 0.5,
    ) -> None:
        self.hidden_channels = hidden_channels
        self.n_tokens = n_tokens
        self.heads = heads
        self.dropout = dropout
        self.input_dropout = input_dropout

    def num_hops(self) -> int:
        """No edges are used."""
        return 0

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        check_heads(self.hidden_channels, self.heads)
        encoder = make_encoder(
            schema,
            self.n_tokens * self.hidden_channels,
            missing=missing,
            dropout=self.input_dropout,
        )
        return MAMSANet(
            encoder, schema, n_outputs, self.hidden_channels, heads=self.heads, dropout=self.dropout
        )


class MAMSANet(nn.Module):
    """The module of `MAMSA`."""

    def __init__(
        self,
        encoder: ModalityEncoder,
        schema: Schema,
        n_outputs: int,
        channels: int,
        *,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.out_channels = channels
        self.encoder, n_modalities = encoder, len(schema.modalities)

        def attention() -> MultiHead:
            return MultiHead(channels, heads, dropout)

        width = channels * min(n_modalities, 2)  # no other modality to look at where there is one
        self.gates = nn.ModuleList(nn.Linear(width, channels) for _ in self.modalities)
        self.between, self.norm = attention(), nn.LayerNorm(channels)
        self.classes = nn.Parameter(torch.empty(n_outputs, channels))
        nn.init.xavier_uniform_(self.classes)
        self.guides = nn.ModuleList(attention() for _ in self.modalities)
        self.first, self.second = attention(), attention()
        self.head = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(channels, n_outputs),
        )  # fmt: skip

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`."""
        h = self.encoder.encode_some(graph, self.target, ids)  # (M, n, T * d)
        tokens = h.unflatten(2, (-1, self.out_channels))  # (M, n, T, d)
        n_tokens = tokens.shape[0] * tokens.shape[2]
        per_sample = h.shape[0] * self.classes.numel() + n_tokens * (n_tokens + self.out_channels)
        blocks = tokens.split(max(1, _BLOCK // per_sample), 1)
        if len(blocks) == 1:
            z = self._fuse(tokens)
        else:
            z = torch.cat([checkpoint(self._fuse, block, use_reentrant=False) for block in blocks])
        return ModelOutput(self.head(z), z)

    def _fuse(self, tokens: Tensor) -> Tensor:
        """Fused states of some samples, (M, n, T, d) -> (n, d)."""
        gated = torch.stack(self._gate(tokens), 1)  # (n, M, T, d)
        common = self.norm(self.between.mutual(gated)).unsqueeze(1)  # (n, 1, d)
        classes = self.classes.unsqueeze(0)  # (1, C, d)
        guided = [guide(classes, t) for guide, t in zip(self.guides, tokens, strict=True)]
        u = torch.cat([*(self.first(common, a) for a in guided), common], 1)  # (n, M + 1, d)
        return (u + self.second(u, u)).mean(1)

    def _gate(self, tokens: Tensor) -> list[Tensor]:
        mean = tokens.mean(2)  # (M, n, d)
        n_others = len(mean) - 1
        if n_others:
            others = (mean.sum(0) - mean) / n_others
            mean = torch.cat([mean, others], 2)  # (M, n, 2d)
        gates = [gate(x).sigmoid() for gate, x in zip(self.gates, mean, strict=True)]
        return [g.unsqueeze(1) * t for g, t in zip(gates, tokens, strict=True)]
