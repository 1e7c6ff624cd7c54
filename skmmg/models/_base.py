"""What every model of the package shares: its spec, its output, its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar, Protocol

from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skmmg._sklearn import validate_params
from skmmg.graph import Schema
from skmmg.nn import GraphTensors, ModalityEncoder


@dataclass
class ModelOutput:
    """What a module gives for some target nodes.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_outputs)
        Scores of the classes; without columns if the model has no classifier.
    embedding : Tensor of shape (n_samples, out_channels)
        The fused state that the classifier sees.
    unimodal_logits : dict of str to Tensor of shape (n_samples, n_outputs)
        Scores from single modalities that the loss wants right as well.
    unimodal_weight : float
        How much each of them counts in the loss, beside 1 for `logits`.
    penalties : dict of str to Tensor
        Terms of the loss that need no label, with their weights in them.
    modality_weights : Tensor of shape (n_samples, n_modalities) or None
        Weights of the modalities in the fused state.

    Examples
    --------
    >>> import torch
    >>> from skmmg.models import ModelOutput
    >>> output = ModelOutput(logits=torch.zeros(4, 3), embedding=torch.zeros(4, 64))
    >>> output.unimodal_logits
    {}
    """

    logits: Tensor
    embedding: Tensor
    unimodal_logits: dict[str, Tensor] = field(default_factory=dict)
    unimodal_weight: float = 1.0
    penalties: dict[str, Tensor] = field(default_factory=dict)
    modality_weights: Tensor | None = None


class GraphModule(Protocol):
    """A module that an estimator can train.

    Its embedding is `out_channels` wide. Whoever runs it looks for three methods more, which it may
    lack. The first two give the numbers that it gives without them:

    - ``infer(graph, ids)``: the output without penalties, where these cost something;
    - ``layerwise()``: the module as `skmmg.models._layerwise.Layerwise`, or None, so that nodes
      of a graph that does not fit in memory are predicted layer by layer, each state computed once;
    - ``edge_attention(graph)``: the attention of every layer over all edges, a list of
      `skmmg.nn._attention.EdgeAttention`; without it, there is no attention to read out.
    """

    out_channels: int

    def __call__(self, graph: GraphTensors, ids: Tensor) -> ModelOutput:
        """Output for the target nodes with these ids."""


class Backbone(Protocol):
    """A network on one state per node, which the fusion wrappers make multi-modal.

    The wrappers look for two methods more, which it may lack:

    - ``run_field(h, field)``, and beside it the attributes `edge_types` and `num_layers`: states of
      the target nodes from those of the nodes that they see, (n_seen, channels), so that no more
      than a `skmmg.nn._field.ReceptiveField` is computed;
    - ``stages()``: its layers one by one, a list of `skmmg.models._layerwise.Layer`, from which
      the wrapper's ``layerwise`` is made.
    """

    out_channels: int

    def __call__(self, x_dict: Mapping[str, Tensor], graph: GraphTensors) -> dict[str, Tensor]:
        """New states of the node types, (n_nodes, out_channels) each."""


class ModelSpec(BaseEstimator):
    """Parameters of a model, its source, and how to build it: the base of every model.

    A subclass has an ``__init__`` that stores its parameters, `_parameter_constraints` in the
    form of scikit-learn's, the class attributes below, and a method ``_build``; and it overrides
    those of the properties for which it is an exception; they may depend on its parameters.

    Examples
    --------
    >>> from skmmg.models import HGT, ModelSpec
    >>> issubclass(HGT, ModelSpec), HGT.name, HGT.fusion_modes
    (True, 'hgt', ('late', 'early'))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    #: name under which `model=` knows it
    name: ClassVar[str]
    #: title, venue and identifier of the source
    paper: ClassVar[str]
    #: fusion strategies that `fusion=` can choose; the first is the default, none if it is built in
    fusion_modes: ClassVar[tuple[str, ...]] = ()
    #: tasks that it can be trained for
    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    @property
    def uses_edge_weight(self) -> bool:
        """Whether weights of edges change what it computes."""
        return False

    @property
    def uses_labels(self) -> bool:
        """Whether it sees the labels of the training nodes, in `GraphTensors.labels`."""
        return False

    @property
    def self_supervised(self) -> bool:
        """Whether it is trained without labels, by the penalties of its module in training."""
        return False

    @property
    def samples(self) -> bool:
        """Whether the part of a graph around some nodes is enough for their output: `num_hops`."""
        return True

    def build(
        self,
        schema: Schema,
        n_outputs: int,
        *,
        fusion: str | None = None,
        missing: str = "mean_neighbors",
    ) -> nn.Module:
        """Build the module for graphs of one schema.

        Parameters
        ----------
        schema : Schema
            Node types with their modalities, edge types, and the target node type.
        n_outputs : int
            Number of classes.
        fusion : str or None, default=None
            One of `fusion_modes`; None takes the first.
        missing : {"mean_neighbors", "copy", "zero", "learned"}, default="mean_neighbors"
            What a node gets for a modality that it lacks, see `skmmg.nn.ModalityEncoder`.

        Returns
        -------
        torch.nn.Module
            A module that maps (`skmmg.nn.GraphTensors`, target ids) to `ModelOutput`.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or the model does not take `fusion`.
        TypeError
            If ``_build`` gives no module, or one without `out_channels`.
        """
        validate_params(self)
        if schema.target is None:
            raise ValueError("The schema has no target. Take it from a view: graph.nodes(...).")
        if not schema.modalities:
            raise ValueError(
                "No node type has a modality, so there is nothing to learn from. Give at least "
                "one node type a feature matrix."
            )
        module: Any = self._build(schema, n_outputs, self.choose_fusion(fusion), missing)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"{type(self).__name__}._build has to return a torch.nn.Module, got "
                f"{type(module).__name__}."
            )
        if not isinstance(getattr(module, "out_channels", None), Integral):
            raise TypeError(
                f"The module of {type(self).__name__} has to have an attribute out_channels, the "
                f"width of its embedding, got {getattr(module, 'out_channels', None)!r}. Set "
                f"self.out_channels in {type(module).__name__}.__init__."
            )
        return module

    def choose_fusion(self, fusion: str | None) -> str | None:
        """Return the fusion strategy that `build` takes for ``fusion=``.

        Parameters
        ----------
        fusion : str or None
            One of `fusion_modes`; None takes the first.

        Returns
        -------
        str or None
            None where several modalities are taken natively.

        Raises
        ------
        ValueError
            If the model does not take `fusion`.

        Examples
        --------
        >>> from skmmg.models import HGNNIMA, HGT
        >>> HGT().choose_fusion(None), HGNNIMA().choose_fusion(None)
        ('late', None)
        """
        modes: Sequence[str] = self.fusion_modes
        if fusion is None:
            return modes[0] if modes else None
        if not modes:
            raise ValueError(
                f"fusion={fusion!r} does not apply to model {self.name!r}, which takes several "
                "modalities natively. Leave fusion=None."
            )
        if fusion not in modes:
            raise ValueError(f"fusion has to be one of {list(modes)}, got {fusion!r}.")
        return fusion

    def num_hops(self) -> int:
        """Steps, against the edges, to the furthest node that a node's output depends on.

        Mini-batches hold the nodes within so many steps. What completes missing modalities comes on
        top of it. A model whose `samples` is False has no such number.

        Returns
        -------
        int
            Number of steps: `num_layers`, unless a model says otherwise.

        Examples
        --------
        >>> from skmmg.models import HGT, MLP
        >>> HGT(num_layers=3).num_hops(), MLP(num_layers=3).num_hops()
        (3, 0)
        """
        if not hasattr(self, "num_layers"):
            raise TypeError(
                f"{type(self).__name__} has no num_layers, so it has to say by a method num_hops "
                "how many steps away a node's output looks. Write: def num_hops(self): return 1"
            )
        return int(self.num_layers)

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} has no _build.")

    def _check_hops(self) -> None:
        given: Any = self.num_hops
        if not callable(given):
            raise TypeError(
                f"num_hops of {type(self).__name__} has to be a method, got {given!r}. Write: "
                f"def num_hops(self): return {given!r}"
            )


def check_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    """Let an output pass that has rows for the asked ids; a forward hook."""
    name, ids = type(module).__name__, inputs[-1]
    if not isinstance(output, ModelOutput):
        raise TypeError(
            f"{name}.forward has to return a skmmg.models.ModelOutput, got "
            f"{type(output).__name__}. Write: return ModelOutput(logits=..., embedding=...)"
        )
    for what, tensor in (("logits", output.logits), ("embedding", output.embedding)):
        if tensor.ndim != 2 or len(tensor) != len(ids):
            raise ValueError(
                f"{name}.forward(graph, ids) has to return {what} with a row for each of the "
                f"{len(ids)} asked ids, got shape {tuple(tensor.shape)}. Take these rows of what "
                "it has for all target nodes: h[ids]."
            )
    if output.embedding.shape[1] != module.out_channels:
        raise ValueError(
            f"{name}.forward has to return an embedding with out_channels={module.out_channels} "
            f"columns, got shape {tuple(output.embedding.shape)}. Set out_channels to its width."
        )


def make_encoder(schema: Schema, channels: int, **options: Any) -> ModalityEncoder:
    """An encoder for all node types and modalities of a schema."""
    return ModalityEncoder(schema.node_types, schema.modalities, channels, **options)


def check_heads(channels: int, heads: int) -> None:
    """Raise where the heads cannot share the channels."""
    if channels % heads:
        raise ValueError(
            f"heads has to divide hidden_channels, got heads={heads} and "
            f"hidden_channels={channels}. Change one of them."
        )
