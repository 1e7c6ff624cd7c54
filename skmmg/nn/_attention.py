"""Attention of a layer, as it is computed and as it is read out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from skmmg.nn._edges import EdgeStructure, EdgeType


@dataclass(frozen=True)
class Attention:
    """Attention of one layer, by edge type, in the order of that type's `edge_index`.

    Parameters
    ----------
    alpha : dict of (str, str, str) to Tensor of shape (n_edges, n_modalities, heads)
        Inter-node attention of each modality (3).
    lam : dict or None
        Inter-modal attention (5), shaped as `alpha`, or (n_edges, n_modalities of the source,
        n_modalities of the destination, heads) for ``cross_modal="influenced"``; None for "none"
        and "mean".
    beta : dict
        Cross-modal attention (6): (n_edges, heads), or (n_edges, n_modalities, heads) where every
        modality has weights of its own.
    align : dict or None
        Alignment modulation (8), (n_edges, heads); None without it.
    weight : dict
        The weights that are used (9), shaped as `beta`.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import HGNNIMAConv
    >>> conv = HGNNIMAConv(8, (["a"], [("a", "to", "a")]), num_modalities=2, heads=2)
    >>> edges = {("a", "to", "a"): torch.tensor([[0, 1, 1], [2, 2, 0]])}
    >>> _, attention = conv({"a": torch.randn(2, 3, 8)}, edges, return_attention=True)
    >>> attention.weight["a", "to", "a"].shape
    torch.Size([3, 2])
    """

    alpha: dict[EdgeType, Tensor]
    lam: dict[EdgeType, Tensor] | None
    beta: dict[EdgeType, Tensor]
    align: dict[EdgeType, Tensor] | None
    weight: dict[EdgeType, Tensor]

    def cpu(self) -> Attention:
        """The same on the CPU."""
        return Attention(
            **{
                name: part and {edge_type: values.cpu() for edge_type, values in part.items()}
                for name, part in vars(self).items()
            }
        )


@dataclass(frozen=True)
class EdgeAttention:
    """Attention of one layer before it is taken apart by relation; edges are the last axis."""

    alpha: Tensor  # (h, M, E)
    lam: Tensor | None  # (h, M, E) or (h, M source, M destination, E)
    beta: Tensor  # (h, E) or (h, M, E)
    align: Tensor | None  # (h, E)
    weight: Tensor  # (h, E) or (h, M, E)

    def by_relation(self, edges: EdgeStructure) -> Attention:
        """Edges first, heads last, relation by relation."""

        def split(values: Tensor) -> dict[EdgeType, Tensor]:
            return edges.split(values.detach().movedim(0, -1).movedim(-2, 0))

        return Attention(
            alpha=split(self.alpha),
            lam=None if self.lam is None else split(self.lam),
            beta=split(self.beta),
            align=None if self.align is None else split(self.align),
            weight=split(self.weight),
        )
