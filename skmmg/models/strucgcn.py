"""StrucGCN: graph convolution over links and over nodes in like positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval
from skmmg.graph import Schema
from skmmg.models._homogeneous import HomogeneousBackbone, HomogeneousSpec, Step
from skmmg.nn import GraphTensors, SparseMatrix
from skmmg.nn._edges import EdgeType
from skmmg.nn._homogeneous import HomogeneousGraph, inverse_root
from skmmg.nn._structure import StructuralMatrix, structural_weights


class StrucGCN(HomogeneousSpec):
    r"""Structure-enhanced graph convolutional network, with early or late fusion.

    .. math::

        G = \alpha I + \beta A + \gamma A', \qquad N(G) = D_G^{-1/2} G D_G^{-1/2}, \qquad
        H \leftarrow \mathrm{ReLU}\bigl([\,N(G) H \,\|\, R\,] W\bigr)

    One of the three weights is 0, and R is what its matrix gives: :math:`H` for
    :math:`\alpha = 0`, :math:`N(A) H` for :math:`\beta = 0`, :math:`N(A') H` for
    :math:`\gamma = 0`. :math:`A` holds the weights of the edges, and the structural matrix
    :math:`A'` links nodes whose neighbourhoods have one shape, wherever they are.

    **The structural matrix.** Ring l of a node are the nodes l steps away. Its sequence are the
    degrees in it, ascending, with how many nodes have each. Two nodes of equal degree and equal
    number of rings are apart by the sum f over the rings of the dynamic time warping distances of
    their sequences, where matching (d, n) with (d', n') costs
    :math:`((\max(d, d') + .5) / (\min(d, d') + .5) - 1) \max(n, n')`. With :math:`d_1` the
    second smallest distance among the nodes with that number of rings (the smallest if there is
    one only), their weight is 1 for :math:`f \le d_1`, else :math:`e^{-(f / d_1 - 1)}` where that
    is above 0.01.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the states.
    num_layers : int, default=2
        Number of layers; 0 leaves the projection and the classifier.
    dropout : float, default=0.6
        Dropout after each layer, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the features, in [0, 1).
    self_weight, adj_weight, struct_weight : float, default=0.0, 0.5, 0.5
        :math:`\alpha, \beta, \gamma`, at least 0 and exactly one of them 0. Only the ratio of the
        other two counts.
    max_ring : int, default=2
        Rings that are looked at. Rings grow with the degrees: on a large network with nodes of
        very many neighbours, 3 may be refused.
    max_pairs : int, default=16
        Other shapes that each shape of neighbourhood is compared with, at least 2: those next to
        it in size, among those of equal degree and number of rings. Nodes of one shape are not
        counted: they are all linked.
    merge : {"union", "mean"}, default="union"
        How the relations become one graph. "union": an edge is there if any relation has it, with
        the largest of its weights. "mean": mean of the adjacency matrices of the relations
        between two node types, in each of which parallel edges add up.
    early_fusion : {"concat", "mean", "sum"}, default="concat"
        How ``fusion="early"`` merges the modalities of a node.
    late_fusion : {"attention", "mean", "concat", "logits"}, default="attention"
        How ``fusion="late"`` merges the networks of the modalities.

    Notes
    -----
    Fusion modes: "early" (default), "late". The structural matrix is computed once per graph, and
    takes seconds to a minute on tens of thousands of nodes. It is kept as weights between *shapes*
    of neighbourhoods, so that nodes that are all alike cost nothing, where the matrix itself would
    be full.

    It tells something where degrees differ. **In a graph of k nearest neighbours every row has k
    of them**, and rings differ in their sizes alone: take ``graph=RadiusGraph()`` for rows, or
    leave this model to networks. Rows without a graph, too, are all alike.

    On rows, new rows get their structure from the graph that they are attached to. Nodes from
    which no edge leaves, as new rows are, are nobody's structural neighbours, so that a row's
    result does not depend on the rows that it comes with; but a new row that equals a fitted one
    has that one among its neighbours, so its rings, and its result, may differ a little.

    Changed against the paper and its code: degrees :math:`D_G` are sums of weights, as in GCN,
    where the code counts entries, so that only ratios of the three weights matter; the number of
    rings and of comparisons is limited (`max_ring`, `max_pairs`), time warping is exact, where the
    code has an approximation, and a node's rings follow the edges into it; where all distances are
    0, weights are 1, where the code would divide by 0; features are projected to
    `hidden_channels` first. It is not sampled: mini-batches would show each node another
    structure. The paper trains 2 layers with Adam for up to 1000 epochs, on a 60/20/20 split, with
    weights, learning rate (0.001 to 0.03), dropout (0.3 to 0.8) and width (64 or 128) by data
    set: for Cora (1, 1, 0), 0.001, 0.8 and 128, for Pubmed (0, 1, 1), 0.01, 0.8 and 128.

    References
    ----------
    Zhang et al., StrucGCN: Structural enhanced graph convolutional networks for graph embedding,
    Information Fusion, 2024. The rings and their distances are those of Ribeiro et al., struc2vec,
    KDD 2017, section 3.1.

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.models import StrucGCN
    >>> clf = MultiModalGraphClassifier(StrucGCN(self_weight=1, adj_weight=0, struct_weight=1))
    """

    name: ClassVar[str] = "strucgcn"
    paper: ClassVar[str] = (
        "StrucGCN: Structural enhanced graph convolutional networks for graph embedding, "
        "Information Fusion 2024"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HomogeneousSpec._parameter_constraints,
        "self_weight": [Interval(Real, 0, None, closed="left")],
        "adj_weight": [Interval(Real, 0, None, closed="left")],
        "struct_weight": [Interval(Real, 0, None, closed="left")],
        "max_ring": [Interval(Integral, 1, None, closed="left")],
        "max_pairs": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.6,
        input_dropout: float = 0.5,
        self_weight: float = 0.0,
        adj_weight: float = 0.5,
        struct_weight: float = 0.5,
        max_ring: int = 2,
        max_pairs: int = 16,
        merge: str = "union",
        early_fusion: str = "concat",
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.self_weight = self_weight
        self.adj_weight = adj_weight
        self.struct_weight = struct_weight
        self.max_ring = max_ring
        self.max_pairs = max_pairs
        self.merge = merge
        self.early_fusion = early_fusion
        self.late_fusion = late_fusion

    @property
    def samples(self) -> bool:
        """False: nodes anywhere in the graph are structural neighbours."""
        return False

    def _backbone(self, schema: Schema) -> nn.Module:
        mix = (self.self_weight, self.adj_weight, self.struct_weight)
        if sum(weight == 0 for weight in mix) != 1:
            raise ValueError(
                "Exactly one of self_weight, adj_weight and struct_weight has to be 0, got "
                f"{mix}. The matrices of the other two are mixed; the third stands beside them."
            )
        return StrucGCNBackbone(
            self.hidden_channels,
            schema.edge_types,
            num_layers=self.num_layers,
            dropout=self.dropout,
            mix=mix,
            max_ring=self.max_ring,
            max_pairs=self.max_pairs,
            merge=self.merge,
        )


@dataclass(frozen=True)
class Operators:
    """The matrices of a mix of identity, adjacency and structural matrix, ready for products."""

    mix: tuple[float, float, float]
    adjacency: SparseMatrix
    structure: StructuralMatrix
    scales: tuple[Tensor, Tensor, Tensor]  # (N, 1) each: of G, of A, of A'

    def mixed(self, h: Tensor) -> Tensor:
        """N(G) h."""
        x = self.scales[0] * h
        out = self.mix[0] * x
        if self.mix[1]:
            out = out + self.mix[1] * (self.adjacency @ x)
        if self.mix[2]:
            out = out + self.mix[2] * (self.structure @ x)
        return self.scales[0] * out

    def left_out(self, h: Tensor) -> Tensor:
        """R: h, N(A) h or N(A') h."""
        place = self.mix.index(0)
        if place == 0:
            return h
        matrix = self.adjacency if place == 1 else self.structure
        return self.scales[place] * (matrix @ (self.scales[place] * h))


class StrucGCNBackbone(HomogeneousBackbone):
    """A stack of StrucGCN layers on one state per node."""

    def __init__(
        self,
        channels: int,
        edge_types: Sequence[EdgeType],
        *,
        num_layers: int,
        dropout: float,
        mix: tuple[float, float, float],
        max_ring: int,
        max_pairs: int,
        merge: str,
    ) -> None:
        convs = [nn.Linear(2 * channels, channels, bias=False) for _ in range(num_layers)]
        super().__init__(convs, channels, edge_types, dropout=dropout, merge=merge)
        self.mix, self.max_ring, self.max_pairs = mix, max_ring, max_pairs
        for conv in convs:
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")

    def _step(self, graph: GraphTensors, dtype: torch.dtype) -> Step:
        operators = self._operators(graph, dtype)

        def step(conv: nn.Linear, h: Tensor) -> Tensor:
            return conv(torch.cat([operators.mixed(h), operators.left_out(h)], 1)).relu()

        return step

    def _operators(self, graph: GraphTensors, dtype: torch.dtype) -> Operators:
        """The matrices; the structure is shared by all mixes."""
        rings = (self.max_ring, self.max_pairs)
        structure = self._derived(
            graph, dtype, ("structure", *rings), lambda g: find_structure(g, *rings)
        )
        name = ("mixed", self.mix, *rings)
        return self._derived(graph, dtype, name, lambda g: mix_operators(g, structure, self.mix))


def find_structure(graph: HomogeneousGraph, max_ring: int, max_pairs: int) -> StructuralMatrix:
    """Structural matrix of a graph; nodes from which no edge leaves give nothing."""
    dst, src = graph.dst.cpu().numpy(), graph.src.cpu().numpy()
    shape = (graph.num_nodes, graph.num_nodes)
    adjacency = sp.csr_array((np.ones(len(dst), dtype=np.int32), (dst, src)), shape=shape)
    gives = np.bincount(src, minlength=graph.num_nodes) > 0
    shape_of, weight = structural_weights(adjacency, gives, max_ring=max_ring, max_pairs=max_pairs)
    return StructuralMatrix(shape_of, weight, gives, graph.dst.device, graph.weight.dtype)


def mix_operators(
    graph: HomogeneousGraph, structure: StructuralMatrix, mix: tuple[float, float, float]
) -> Operators:
    """The adjacency, the structure and the inverse roots of the degrees of all three matrices."""
    degree = torch.segment_reduce(graph.weight, "sum", offsets=graph.offsets(), unsafe=True)
    mixed = mix[0] + mix[1] * degree + mix[2] * structure.degree
    roots = [inverse_root(d).unsqueeze(1) for d in (mixed, degree, structure.degree)]
    return Operators(mix, graph.matrix(), structure, (roots[0], roots[1], roots[2]))
