"""Self-attention graph pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

# scores closer than that are equal: which of two like nodes stays must not hang on rounding
_STEP = 1e-4


class SAGPool(nn.Module):
    r"""Keep the nodes of each graph that a graph convolution scores highest.

    .. math::

        s = \tanh(\mathrm{GCN}(X, A)), \qquad
        X' = (s \odot X)_{\mathrm{top}_k}, \qquad A' = A_{\mathrm{top}_k, \mathrm{top}_k}, \qquad
        k = \lceil \rho\, n \rceil

    Parameters
    ----------
    channels : int
        Width of the states.
    ratio : float, default=0.5
        :math:`\rho`, the share of a graph's nodes that stays, in (0, 1].

    Notes
    -----
    As PyG's SAGPooling with ``GNN=GCNConv``, but: scores that agree in four decimals are equal and
    the earlier node stays, so that a graph's nodes do not depend on the graphs beside it; a ratio
    of 1 keeps all; and there is no factor whose sign alone matters.

    References
    ----------
    Lee, Lee, Kang, Self-attention graph pooling, ICML 2019, equations 3 to 5. arXiv:1904.08082

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import SAGPool
    >>> edges = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    >>> kept, factor = SAGPool(8)(torch.randn(5, 8), edges, torch.tensor([0, 0, 1, 1, 1]))
    >>> len(kept), factor.shape
    (3, torch.Size([3, 1]))
    """

    def __init__(self, channels: int, ratio: float = 0.5) -> None:
        super().__init__()
        self.ratio = ratio
        self.score = GCNConv(channels, 1)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Which nodes stay (n_kept,), ascending, and what their states are multiplied by.

        Parameters
        ----------
        x : Tensor of shape (n_nodes, channels)
            States.
        edge_index : Tensor of shape (2, n_edges)
            Edges.
        batch : Tensor of shape (n_nodes,)
            Graph of every node, ascending.
        """
        score = self.score(x, edge_index)  # (n, 1)
        rounded = (score.detach().view(-1) / _STEP).round()
        order = torch.argsort(rounded, descending=True, stable=True)
        order = order[torch.argsort(batch[order], stable=True)]
        size = torch.bincount(batch)
        rank = torch.arange(len(batch), device=batch.device) - (size.cumsum(0) - size)[batch]
        quota = (self.ratio * size.double()).ceil()
        kept = order[rank < quota[batch]].sort().values
        return kept, score[kept].tanh()


def filter_edges(
    edge_index: Tensor, edge_weight: Tensor, kept: Tensor, num_nodes: int
) -> tuple[Tensor, Tensor]:
    """The edges between the nodes that stay, which are numbered anew."""
    place = edge_index.new_full((num_nodes,), -1)
    place[kept] = torch.arange(len(kept), device=kept.device)
    edges = place[edge_index]
    stays = (edges >= 0).all(0)
    return edges[:, stays], edge_weight[stays]
