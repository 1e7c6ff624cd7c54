"""SeHGNN: means along metapaths made once, then a network on the channels of a node."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skmmg._sklearn import Interval, StrOptions
from skmmg.graph import Schema
from skmmg.models._base import ModelOutput, ModelSpec
from skmmg.models._fusion import LATE_FUSION, LateReadOut
from skmmg.nn import GraphTensors
from skmmg.nn._channel_embedding import ChannelEmbedding
from skmmg.nn._channels import NORMS, ChannelMixer, NormedLinear, TaskLayers
from skmmg.nn._dropout import dropout as drop
from skmmg.nn._metapaths import paths_into
from skmmg.nn._propagation import propagate_labels

# what a training step may keep of the channels, and how many tensors of their size it keeps
_MAX_KEPT = 6 << 30
_N_KEPT = 22
# nodes whose channels are mixed at once when nothing is kept
_BLOCK = 8192
_LABEL_ADVICE = "Lower num_label_hops."


class SeHGNN(ModelSpec):
    r"""Simple and efficient heterogeneous graph neural network.

    The features of the nodes at the other end of every metapath of at most `num_feature_hops`
    steps, and the known labels at the end of those back to the target type, are averaged once,
    without parameters; a network on these channels follows, in which edges have no part.

    .. math::

        X_P &= A_{r_l} \cdots A_{r_1} X_{o(P)}, \qquad
        L_P = \mathrm{offdiag}(A_{r_l} \cdots A_{r_1})\, Y \\
        H_i &= [X_P E_{o(P)} \text{ for all } P,\; L_P E'_P \text{ for all } P]_i \\
        H_i &\leftarrow D(\mathrm{PReLU}(\mathrm{LayerNorm}(H_{i,c} W_c + b_c))) \quad
            \text{twice} \\
        H_i &\leftarrow H_i + \gamma\, \mathrm{softmax}(Q_i K_i^\top / \sqrt{d_q})\, V_i \\
        z_i &= \mathrm{MLP}(W [H_{i,1} \Vert \dots \Vert H_{i,C}] + b)

    with A the row-normalised matrix of a relation and Y the one-hot labels of the training nodes.

    Parameters
    ----------
    hidden_channels : int, default=64
        Width of the channels and states. The authors take 512.
    num_feature_hops : int, default=2
        Steps of the longest metapath of features; 0 leaves a node's own.
    num_label_hops : int, default=2
        Steps of the longest metapath of labels; 0 leaves labels out. Without the diagonal, a node
        does not see its own label.
    num_task_layers : int, default=2
        Linear maps of the MLP, the classifier among them. The authors have 1 to 4.
    residual : bool, default=False
        Whether the embedded features of the node itself are added before the MLP.
    norm : {"batch", "layer"} or None, default="batch"
        Normalisation, without parameters, in the MLP and of the scores of the classes: over the
        nodes or over the columns. "layer" needs three classes: of two scores it leaves the signs.
    dropout : float, default=0.5
        Dropout :math:`D` after each layer, in [0, 1).
    input_dropout : float, default=0.5
        Dropout of the embedded channels, in [0, 1).
    att_dropout : float, default=0.0
        Dropout of the attention among the channels, in [0, 1).
    precompute : bool, default=True
        Whether :math:`A X` is made once per graph, for modalities that are dense, up to 2 GiB for
        all metapaths. Otherwise, and always for sparse modalities, which it would fill in, the
        narrower :math:`A (X E)`, which is the same, is made in every step. False suits
        mini-batches, each a graph that is used once.
    late_fusion : {"attention", "mean", "concat", "logits"}, default="attention"
        How ``fusion="late"`` merges the networks of the modalities.

    Notes
    -----
    Fusion modes: "early" (default), the modalities of a node side by side are one X; "late", one
    network per modality, among whose channels are those of the labels, averaged and embedded once
    for all of them. For rows (a 2-D X) the relations of neighbours are the metapaths. Labels are
    shown on the network that the model was fitted on, which may have grown since, and on rows those
    of the fitted ones; on another network the label channels are 0. A new row that equals a fitted
    one is linked from it and sees its label: a score on the fitted rows is no measure.

    A node that lacks a modality: with ``missing="mean_neighbors"`` a mean is over the nodes that
    have it, and 0 if none does; "zero" averages zeros in; "copy" takes the node's first modality,
    embedded; "learned" a learned vector. A node with no modality at all gives zeros, save in
    "learned". Nothing but that is completed: a node's neighbours are channels of their own.

    Changed against the paper and its code: normalisation over the nodes keeps running statistics
    (momentum 0.5, an epoch being one step), where the code takes those of the batch in prediction
    too, so that one node's class would depend on the others; the attention has one head, as in the
    code's settings, and its key no bias, which softmax would not see; nor have maps before a
    normalisation over the nodes; there are no pseudo-labels in several stages. Cross-entropy is the
    loss on IMDB, too, where the code has several labels per node. The code trains with Adam, lr
    1e-3, batches of 10,000 nodes, 200 epochs.

    A training step keeps some twenty numbers per node, channel and width. It is refused above
    6 GiB, with what to change.

    References
    ----------
    Yang, Yan, Pan, Ye, Fan, Simple and efficient heterogeneous graph neural network, AAAI 2023.
    arXiv:2207.02547

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.datasets import make_multimodal_graph
    >>> from skmmg.models import SeHGNN
    >>> planted = make_multimodal_graph(60, random_state=0)
    >>> X, y = planted.graph.nodes("item"), planted.target
    >>> clf = MultiModalGraphClassifier(SeHGNN(num_label_hops=4), max_epochs=2, random_state=0)
    >>> clf = clf.fit(X, y)
    """

    name: ClassVar[str] = "sehgnn"
    paper: ClassVar[str] = (
        "Simple and efficient heterogeneous graph neural network, AAAI 2023, arXiv:2207.02547"
    )
    fusion_modes: ClassVar[tuple[str, ...]] = ("early", "late")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_channels": [Interval(Integral, 1, None, closed="left")],
        "num_feature_hops": [Interval(Integral, 0, None, closed="left")],
        "num_label_hops": [Interval(Integral, 0, None, closed="left")],
        "num_task_layers": [Interval(Integral, 1, None, closed="left")],
        "residual": ["boolean"],
        "norm": [StrOptions(set(NORMS)), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "att_dropout": [Interval(Real, 0, 1, closed="left")],
        "precompute": ["boolean"],
        "late_fusion": [StrOptions(set(LATE_FUSION))],
    }

    def __init__(
        self,
        hidden_channels: int = 64,
        num_feature_hops: int = 2,
        num_label_hops: int = 2,
        num_task_layers: int = 2,
        *,
        residual: bool = False,
        norm: str | None = "batch",
        dropout: float = 0.5,
        input_dropout: float = 0.5,
        att_dropout: float = 0.0,
        precompute: bool = True,
        late_fusion: str = "attention",
    ) -> None:
        self.hidden_channels = hidden_channels
        self.num_feature_hops = num_feature_hops
        self.num_label_hops = num_label_hops
        self.num_task_layers = num_task_layers
        self.residual = residual
        self.norm = norm
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.att_dropout = att_dropout
        self.precompute = precompute
        self.late_fusion = late_fusion

    @property
    def uses_labels(self) -> bool:
        """True: labels of neighbours are channels."""
        return True

    def num_hops(self) -> int:
        """Steps of the longest metapath, of features or labels."""
        return max(self.num_feature_hops, self.num_label_hops)

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        if self.norm == "layer" and n_outputs < 3:
            raise ValueError(
                f'norm="layer" needs at least 3 classes, got {n_outputs}: of two normalised scores '
                'only the signs are left. Take norm="batch".'
            )
        return SeHGNNModule(schema, n_outputs, self, str(fusion), missing)


class SeHGNNModule(nn.Module):
    """The network that `SeHGNN` describes."""

    def __init__(
        self, schema: Schema, n_outputs: int, spec: SeHGNN, fusion: str, missing: str
    ) -> None:
        super().__init__()
        self.modalities, self.target = schema.modalities, str(schema.target)
        self.n_outputs, self.input_dropout = n_outputs, spec.input_dropout
        groups = [self.modalities] if fusion == "early" else [(m,) for m in self.modalities]
        self.encoder = ChannelEmbedding(
            schema.node_types,
            self.modalities,
            self.target,
            paths_into(schema.edge_types, self.target, spec.num_feature_hops),
            groups,
            spec.hidden_channels,
            missing=missing,
            precompute=spec.precompute,
        )
        found = paths_into(schema.edge_types, self.target, spec.num_label_hops)
        self.label_paths = tuple(p for p in found if p and p[0][0] == self.target)
        label_embedding = torch.empty(len(self.label_paths), n_outputs, spec.hidden_channels)
        self.label_embedding = nn.Parameter(label_embedding.uniform_(-0.5, 0.5))
        self._check_paths(spec)
        self.backbones = nn.ModuleList(
            ChannelNet(len(paths) + len(self.label_paths), spec) for paths in self.encoder.paths
        )
        self.late, self.head = None, None
        if fusion == "late":
            self.late = LateReadOut(
                spec.hidden_channels,
                len(groups),
                n_outputs,
                spec.late_fusion,
                lambda width, n: NormedLinear(width, n, spec.norm),
            )
        else:
            self.head = NormedLinear(spec.hidden_channels, n_outputs, spec.norm)
        self.out_channels = self.late.out_channels if self.late else spec.hidden_channels

    def _check_paths(self, spec: SeHGNN) -> None:
        for group, paths in zip(self.encoder.groups, self.encoder.paths, strict=True):
            if not paths:
                raise ValueError(
                    f"No node type within num_feature_hops={spec.num_feature_hops} steps of a "
                    f"{self.target!r} has a modality of {list(group)}. Raise it, or take "
                    'fusion="early".'
                )
            if spec.residual and () not in paths:
                raise ValueError(
                    f"residual=True needs features of {self.target!r}, which has none of "
                    f"{list(group)}. Take residual=False."
                )

    def forward(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes `ids`."""
        self._check_memory(len(ids))
        keep = graph.row_order is None
        channels = self.encoder(graph, ids)
        parts = [
            self._run(g, net, channels.pop(0), graph, ids, keep)
            for g, net in enumerate(self.backbones)
        ]
        if self.late is not None:
            return self.late.merge(torch.stack(parts))
        assert self.head is not None
        return ModelOutput(self.head(parts[0], keep), parts[0])

    def _run(
        self,
        g: int,
        net: nn.Module,
        channels: list[Tensor],
        graph: GraphTensors,
        ids: Tensor,
        keep: bool,
    ) -> Tensor:
        """States (n, d) of one network; in blocks of nodes where nothing is kept for a gradient."""
        own = self.encoder.paths[g].index(()) if () in self.encoder.paths[g] else None
        size = len(ids) if self.training or torch.is_grad_enabled() else _BLOCK
        out = []
        for start in range(0, max(len(ids), 1), max(size, 1)):
            rows = slice(start, start + size)
            h = torch.stack([x[rows] for x in channels], 1)  # (n, c, d)
            x = None if own is None else h[:, own]
            h = torch.cat([h, self._labels(graph, ids[rows])], 1)
            out.append(net(drop(h, self.input_dropout, self.training), x, keep))
        return torch.cat(out)

    def _labels(self, graph: GraphTensors, ids: Tensor) -> Tensor:
        """Label channels (n, c, d)."""
        weight = self.label_embedding
        if not self.label_paths:
            return weight.new_zeros(len(ids), 0, weight.shape[2])
        means = propagate_labels(
            graph, self.label_paths, self.n_outputs, weight.dtype, _LABEL_ADVICE
        )
        return torch.bmm(means[:, ids], weight).transpose(0, 1)

    def _check_memory(self, n: int) -> None:
        if not (self.training and torch.is_grad_enabled()):
            return
        weight = self.label_embedding
        n_channels = sum(len(p) + len(self.label_paths) for p in self.encoder.paths)
        size = n * n_channels * weight.shape[2] * weight.element_size() * _N_KEPT
        if size > _MAX_KEPT:
            raise ValueError(
                f"A training step of model 'sehgnn' on {n:,} nodes with {n_channels} channels of "
                f"{weight.shape[2]} numbers keeps about {size / 2**30:.1f} GiB, and "
                f"{_MAX_KEPT / 2**30:.0f} GiB is the most. Lower num_feature_hops, num_label_hops "
                "or hidden_channels, or set batch_size with precompute=False."
            )


class ChannelNet(nn.Module):
    """Channels of a node to its state."""

    def __init__(self, n_channels: int, spec: SeHGNN) -> None:
        super().__init__()
        self.mixer = ChannelMixer(
            n_channels,
            spec.hidden_channels,
            dropout=spec.dropout,
            att_dropout=spec.att_dropout,
            residual=spec.residual,
        )
        self.task = TaskLayers(
            spec.num_task_layers - 1, spec.hidden_channels, norm=spec.norm, dropout=spec.dropout
        )

    def forward(self, h: Tensor, own: Tensor | None, keep: bool = True) -> Tensor:
        """States (n, channels) from channels (n, n_channels, channels)."""
        return self.task(self.mixer(h, own), keep)
