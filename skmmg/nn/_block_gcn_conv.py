"""Graph convolution on (modality, node) pairs: edges within modalities, and between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skmmg.nn._edges import EdgeType
from skmmg.nn._homogeneous import edge_weights
from skmmg.nn._inputs import GraphTensors
from skmmg.nn._sparse import SparseMatrix

# relations that link samples by what they have in one modality
_SIMILARITIES = ("knn", "radius")


@dataclass(frozen=True)
class ModalityBlocks:
    """The diagonal blocks of a block graph: who is near whom in which modality.

    Parameters
    ----------
    adjacency : list of SparseMatrix of shape (n_nodes, n_nodes)
        One per modality; row i holds the weights of the edges into node i.
    degree : Tensor of shape (n_modalities, n_nodes)
        Sums of the rows.
    """

    adjacency: list[SparseMatrix]
    degree: Tensor

    @classmethod
    def of(
        cls,
        graph: GraphTensors,
        modalities: Sequence[str],
        edge_types: Sequence[EdgeType],
        dtype: torch.dtype,
    ) -> ModalityBlocks:
        """Blocks of a graph, made once.

        A relation "knn_<modality>" or "radius_<modality>" is an edge within that modality. Every
        other relation links two samples as a whole, and is an edge within each modality.
        """
        parts = [
            _adjacency(graph, relations_within(modality, modalities, edge_types), dtype)
            for modality in modalities
        ]
        return cls([part[0] for part in parts], torch.stack([part[1] for part in parts]))


def relations_within(
    modality: str, modalities: Sequence[str], edge_types: Sequence[EdgeType]
) -> tuple[EdgeType, ...]:
    """Relations whose edges run within a modality."""
    others = {f"{kind}_{m}" for kind in _SIMILARITIES for m in modalities if m != modality}
    return tuple(e for e in edge_types if e[1].removeprefix("rev_") not in others)


def _adjacency(
    graph: GraphTensors, edge_types: tuple[EdgeType, ...], dtype: torch.dtype
) -> tuple[SparseMatrix, Tensor]:
    """Adjacency of some relations together, and the sums of its rows."""
    return graph.cached(
        ("block_adjacency", edge_types, dtype),
        lambda: _make_adjacency(graph, edge_types, dtype),
        of="edges",
    )


def _make_adjacency(
    graph: GraphTensors, edge_types: tuple[EdgeType, ...], dtype: torch.dtype
) -> tuple[SparseMatrix, Tensor]:
    edges = graph.edges(edge_types)
    weight = edge_weights(graph, edge_types, dtype)[edges.order]
    crow = torch.searchsorted(edges.dst, torch.arange(edges.num_nodes + 1, device=edges.dst.device))
    shape = (edges.num_nodes, edges.num_nodes)
    matrix = torch.sparse_csr_tensor(crow, edges.src, weight, shape, check_invariants=False)
    degree = weight.new_zeros(edges.num_nodes).index_add_(0, edges.dst, weight)
    return SparseMatrix(matrix), degree


class BlockGCNConv(nn.Module):
    r"""Graph convolution on a block graph of (modality, node) pairs.

    .. math::

        H' = \tilde D^{-1/2} (A + s I) \tilde D^{-1/2} H W, \qquad
        A = \begin{pmatrix} A^1 & a_{12} I & \cdots \\ a_{21} I & A^2 & \cdots \\
            \vdots & & \ddots \end{pmatrix}

    :math:`A^m` links nodes within modality m, :math:`a_{mn} I` the modalities of one node.
    :math:`\tilde D` holds the sums of the rows of :math:`A + s I`. The block matrix is never built:
    a product with it is one sparse product per modality and a sum over the modalities.

    Parameters
    ----------
    in_channels, out_channels : int
        Width of the states.
    self_weight : float, default=1.0
        Weight s of a pair's edge to itself, above 0.

    Notes
    -----
    The paper's equation 1 has no self-loops, so that a node forgets itself and a node without
    neighbours divides by zero: they are added, as Kipf and Welling do. Sums of rows are degrees of
    *incoming* edges at both ends of an edge (as in PyG's `GCNConv`), so that edges into new nodes
    change nothing for the nodes that they come from.

    References
    ----------
    Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1, equation 1, on the blocks
    that its text describes (our reading: the printed shapes do not fit together).

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import BlockGCNConv, GraphTensors
    >>> graph = GraphTensors(
    ...     x={"row": {"text": torch.randn(3, 5), "image": torch.randn(3, 7)}},
    ...     num_nodes={"row": 3},
    ...     edge_index={("row", "knn_text", "row"): torch.tensor([[0, 2], [1, 1]])},
    ... )
    >>> h = torch.randn(2, 3, 8)
    >>> inter = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> conv = BlockGCNConv(8, 16)
    >>> conv(h, conv.blocks(graph, ["text", "image"]), inter).shape
    torch.Size([2, 3, 16])
    """

    def __init__(self, in_channels: int, out_channels: int, self_weight: float = 1.0) -> None:
        super().__init__()
        self.self_weight = self_weight
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        nn.init.xavier_uniform_(self.linear.weight)

    def blocks(
        self,
        graph: GraphTensors,
        modalities: Sequence[str],
        edge_types: Sequence[EdgeType] | None = None,
    ) -> ModalityBlocks:
        """Diagonal blocks of a graph, of all of its relations or of those given."""
        types = tuple(graph.edge_index) if edge_types is None else tuple(edge_types)
        return ModalityBlocks.of(graph, modalities, types, self.linear.weight.dtype)

    def scale(self, blocks: ModalityBlocks, inter: Tensor) -> Tensor:
        r"""Diagonal of :math:`\tilde D^{-1/2}`, (n_modalities, n_nodes, 1)."""
        degree = self.self_weight + blocks.degree + inter.sum(1, keepdim=True)  # (M, N)
        return degree.rsqrt().unsqueeze(-1)

    def forward(
        self, h: Tensor, blocks: ModalityBlocks, inter: Tensor, scale: Tensor | None = None
    ) -> Tensor:
        """New states (n_modalities, n_nodes, out_channels).

        `h` has shape (n_modalities, n_nodes, in_channels); `inter` holds the :math:`a_{mn}`,
        (n_modalities, n_modalities) with zeros on its diagonal. The scale is that of the blocks,
        unless it is given because these are a part of a graph, where nodes lack edges.
        """
        scale = self.scale(blocks, inter) if scale is None else scale
        x = self.linear(h) * scale  # (M, N, d)
        within = torch.stack([a @ x_m for a, x_m in zip(blocks.adjacency, x, strict=True)])
        between = (inter @ x.flatten(1)).view_as(x)
        return scale * (within + between + self.self_weight * x)
