"""The whole flow of an estimator, from X to a trained module and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from skmmg._sklearn import InstanceOf, Interval, StrOptions
from skmmg.estimators._batching import check_samples, make_plan
from skmmg.estimators._focus import Block, Focus, RowGraph
from skmmg.estimators._labels import KnownLabels
from skmmg.estimators._params import NamedSpecsMixin
from skmmg.estimators._state import FittedStateMixin
from skmmg.graph import NodeView, split_modalities
from skmmg.graph._form import check_form, check_no_columns
from skmmg.graph._modalities import resolve_columns
from skmmg.graph._neighbors import GRAPHS, NeighborSpec
from skmmg.graph._validation import frame_values, is_frame
from skmmg.models import ModelOutput, ModelSpec, get_model
from skmmg.models._base import check_output
from skmmg.nn import Attention, GraphTensors
from skmmg.nn._modality_encoder import MISSING
from skmmg.training import (
    OPTIMIZERS,
    EpochTasks,
    GraphNet,
    NodeDataset,
    Ranks,
    autocast,
    choose_device,
    column_statistics,
    compute,
    infer_in_blocks,
    is_faster_in_blocks,
    private_seed,
    train,
    without_gradients,
)

FittedState = dict[str, Any]
_KEEP_COLUMNS = (
    "Samples may lack a modality, but X keeps the columns of fit: fill those of the modality with "
    "NaN. For a DataFrame X.reindex(columns=estimator.feature_names_in_) does it."
)
A_SPEC = (
    "a ModelSpec, such as skmmg.models.HGT() (write HGT(), not HGT; a torch module needs a "
    "ModelSpec that builds it, see CONTRIBUTING.md)"
)
_A_NEIGHBOR_SPEC = (
    "a KNNGraph or RadiusGraph (edges of your own make a view, and X is "
    "MultiModalGraph({'x': matrix}, {'near': edges}).nodes())"
)
EARLY_STOPPING = {"loss_and_accuracy", "loss", "accuracy"}


class GraphEstimator(NamedSpecsMixin, FittedStateMixin, CallbackSupportMixin, BaseEstimator):
    """What the estimators share: both forms of X, training, inference."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, InstanceOf(ModelSpec, A_SPEC)],
        "modalities": [dict, None],
        "graph": [StrOptions({*GRAPHS, "none"}), InstanceOf(NeighborSpec, _A_NEIGHBOR_SPEC)],
        "fusion": [StrOptions({"early", "late"}), None],
        "setting": [StrOptions({"transductive", "inductive"})],
        "missing": [StrOptions(set(MISSING))],
        "scaling": [StrOptions({"auto", "standardize"}), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "num_neighbors": [Interval(Integral, -1, None, closed="left"), list, tuple, None],
        "optimizer": [StrOptions(set(OPTIMIZERS))],
        "lr_scheduler": [StrOptions({"one_cycle", "cosine"}), None],
        "early_stopping": ["boolean", StrOptions(EARLY_STOPPING)],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "float64", "bf16"})],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model: str | ModelSpec = "hgnn_ima",
        *,
        modalities: Mapping[str, Any] | None = None,
        graph: Any = "knn",
        fusion: str | None = None,
        setting: str = "transductive",
        missing: str = "mean_neighbors",
        scaling: str | None = "auto",
        max_epochs: int = 300,
        lr: float = 3e-3,
        weight_decay: float = 5e-3,
        batch_size: int | None = None,
        num_neighbors: int | Sequence[int] | None = None,
        optimizer: str = "adamw",
        lr_scheduler: str | None = None,
        early_stopping: bool | str = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 30,
        tol: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
        device: str = "auto",
        precision: str = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.modalities = modalities
        self.graph = graph
        self.fusion = fusion
        self.setting = setting
        self.missing = missing
        self.scaling = scaling
        self.max_epochs = max_epochs
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.num_neighbors = num_neighbors
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.device = device
        self.precision = precision
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def set_callbacks(self, *callbacks: Any) -> Self:
        """Set callbacks of scikit-learn, such as ``sklearn.callback.ProgressBar()``.

        Parameters
        ----------
        *callbacks : callback
            What is told of every epoch; none removes those that were set.

        Returns
        -------
        self : estimator
            The estimator.
        """
        try:
            return super().set_callbacks(*callbacks)
        except TypeError as error:
            raise TypeError(
                "Callbacks have to be instances that follow scikit-learn's protocol, such as "
                f"sklearn.callback.ProgressBar(), got {', '.join(map(repr, callbacks))}. For those "
                "of skorch there are early_stopping, lr_scheduler and history_."
            ) from error

    # ------------------------------------------------------------------ X
    def _fit_focus(self, X: Any) -> Focus:
        """Nodes to train on: rows become a graph of neighbours; a view is one already."""
        if isinstance(X, NodeView):
            check_no_columns(self.modalities)
            self._forget_rows()
            if not len(X):
                raise ValueError(f"X has to hold at least one {X.node_type} to train on, got none.")
            if self.setting == "inductive":
                return Focus.induced(X, X.ids, scaling=self.scaling)
            return Focus(X.graph, X.node_type, X.ids, column_statistics(X.graph, self.scaling))
        X = self._check_rows(X, reset=True)
        names = getattr(self, "feature_names_in_", None)
        given = self.modalities
        self._columns = None if given is None else resolve_columns(given, X.shape[1], names)
        self.rows_ = RowGraph.fit(self._split(X), self._graph_spec(), self.scaling)
        return self.rows_.focus()

    def _forget_rows(self) -> None:
        """Drop what a fit on rows has left."""
        for name in ("rows_", "n_features_in_", "feature_names_in_", "_columns"):
            self.__dict__.pop(name, None)

    def _new_focus(self, X: Any) -> Focus:
        """Nodes to infer, showing the model the labels that it may see."""
        focus = self._attach(X)
        return focus if self.known_labels_ is None else self.known_labels_.on(focus)

    def _attach(self, X: Any) -> Focus:
        """Rows are attached to the fitted rows; a view's graph is taken whole."""
        check_form(X)
        fitted_on_rows = hasattr(self, "rows_")
        if isinstance(X, NodeView) == fitted_on_rows:
            wanted, got = ("rows of a 2-D X", "a NodeView"), ("a NodeView", type(X).__name__)
            raise TypeError(
                f"{type(self).__name__} was fitted on {wanted[not fitted_on_rows]} and needs the "
                f"same form of X, got {got[not fitted_on_rows]}. Pass "
                f"{'rows' if fitted_on_rows else 'graph.nodes(...)'}, or fit again."
            )
        if fitted_on_rows:
            return self._new_rows(X)
        self._check_same_columns(X)
        return Focus(X.graph, X.node_type, X.ids, self.statistics_)

    def _new_rows(self, X: Any) -> Focus:
        return self.rows_.attach(self._split(self._check_rows(X, reset=False)))

    def _check_rows(self, X: Any, reset: bool) -> Block:
        """A 2-D X of floats; NaN is allowed, because a row of NaN is a missing modality."""
        check_form(X)
        options = {"ensure_min_samples": 2} if reset else {}
        try:
            X = validate_data(
                self,
                X,
                reset=reset,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                ensure_all_finite="allow-nan",
                **options,
            )
        except (TypeError, ValueError) as error:
            if is_frame(X) and (isinstance(error, TypeError) or "could not conv" in str(error)):
                frame_values(X, "X")  # raises, and names the columns that are no numbers
            shape: tuple[int, ...] = getattr(X, "shape", ())
            several = not reset and len(self._columns or ()) > 1
            if several and len(shape) == 2 and shape[1] < self.n_features_in_:
                error.add_note(_KEEP_COLUMNS)
            raise
        return X if isinstance(X, np.ndarray) else sp.csr_array(X)

    def _split(self, X: Block) -> dict[str, Block]:
        return split_modalities(X, self._columns)

    def _graph_spec(self) -> NeighborSpec | None:
        if self.graph == "none":
            return None
        return GRAPHS[self.graph]() if isinstance(self.graph, str) else self.graph

    def _check_same_columns(self, X: NodeView) -> None:
        differences = self._diff(X.schema, X.graph)
        own, target = X.schema.node_types[X.node_type], str(self.schema_.target)
        lacking = [m for m in self.schema_.node_types[target] if m not in own]
        if lacking and target == X.node_type:
            mask = f"{{{target!r}: {{{lacking[0]!r}: np.zeros(n, dtype=bool)}}}}"
            differences.append(
                f"Nodes may lack a modality, but their graph has to name it: give {lacking[0]!r} "
                f"rows of NaN, and masks={mask} if all {X.node_type!r} nodes lack it."
            )
        unnamed = [e for e in self.schema_.edge_types if e not in X.schema.edge_types]
        if unnamed:
            differences.append(
                "A relation may be without edges, but the graph has to name it, and its 'rev_' "
                f"one: edges={{{unnamed[0]}: np.empty((2, 0), int), ...}}."
            )
        if differences:
            raise ValueError(
                "\n".join(["Graphs passed to fit and to predict differ:", *differences])
            )

    # ------------------------------------------------------------------ training
    def _fit_module(
        self,
        focus: Focus,
        y: np.ndarray,
        weight: np.ndarray,
        validation: tuple[Focus, np.ndarray, np.ndarray] | None,
        *,
        criterion: type[nn.Module] | nn.Module,
        stopping: str | None,
        n_outputs: int,
        seed: int,
        callback_data: tuple[Any, Any],
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        extend: Callable[[FittedState], FittedState] | None = None,
    ) -> None:
        """Build the module, train it (inside `wrap`), and keep its weights and the history.

        `extend` maps the fitted attributes to more of them.
        """
        spec, schema, device = self._model_spec(), focus.schema, choose_device(self.device)
        focus, y, weight = _of_weight(focus, y, weight)
        validation = None if validation is None else _of_weight(*validation)
        _warn_about_weights(spec, focus)
        labels = self._shown_labels(focus, y) if spec.uses_labels else None
        if labels is not None:
            focus = labels.on(focus)
            if validation is not None:
                validation = (labels.on(validation[0]), *validation[1:])
        plan = make_plan(spec, self.batch_size, self.num_neighbors, seed)
        context = self._init_callback_context(max_subtasks=self.max_epochs)
        context.call_on_fit_task_begin(estimator=self, X=callback_data[0], y=callback_data[1])

        def fitted_state(net: GraphNet) -> FittedState:
            state = self._fitted_state(net, module, focus, n_outputs) | {"known_labels_": labels}
            return state if extend is None else state | extend(state)

        callbacks = []
        if getattr(self, "_skl_callbacks", None):
            tasks = EpochTasks(self, context, *callback_data, fitted_state)
            callbacks.append(("epoch_tasks", tasks))
        with private_seed(seed, device), torch.inference_mode(False):
            module = spec.build(schema, n_outputs, fusion=self.fusion, missing=self.missing)
            module.register_forward_hook(check_output)
            if self.warm_start and hasattr(self, "weights_"):
                self._load_weights(module, focus, n_outputs)
            trained = module if wrap is None else wrap(module)
            net = train(
                trained.to(device=device, dtype=self._training_dtype()),
                self._dataset(focus, y, weight, device),
                None if validation is None else self._dataset(*validation, device),
                plan=plan,
                criterion=criterion,
                optimizer=self.optimizer,
                lr=self.lr,
                weight_decay=self.weight_decay,
                lr_scheduler=self.lr_scheduler,
                max_epochs=self.max_epochs,
                early_stopping=stopping,
                n_iter_no_change=self.n_iter_no_change,
                tol=self.tol,
                device=device,
                precision=self.precision,
                verbose=self.verbose,
                callbacks=callbacks,
            )
        _check_finite(module, net)
        for name, value in fitted_state(net).items():
            setattr(self, name, value)
        context.call_on_fit_task_end(
            estimator=self, X=callback_data[0], y=callback_data[1], reconstruction_attributes={}
        )

    def _model_spec(self) -> ModelSpec:
        return get_model(self.model)

    def _shown_labels(self, focus: Focus, y: np.ndarray) -> KnownLabels:
        """What a model with `uses_labels` gets to see."""
        return KnownLabels.of(focus, y, rows=hasattr(self, "rows_"))

    def _stopping_rule(self) -> str | None:
        if isinstance(self.early_stopping, str):
            return self.early_stopping
        return "loss" if self.early_stopping else None

    def _training_dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32

    def _dataset(
        self, focus: Focus, y: np.ndarray, weight: np.ndarray, device: torch.device
    ) -> NodeDataset:
        dtype = self._training_dtype()
        whole = self.batch_size is None
        return NodeDataset(
            graph=focus.tensors(device, dtype)
            if whole
            else focus.store(self.missing, device, dtype),
            ids=torch.tensor(focus.ids, device=device),
            y=torch.tensor(y, device=device),
            weight=torch.tensor(weight, device=device, dtype=dtype),
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # ------------------------------------------------------------------ inference
    def _infer(self, X: Any) -> ModelOutput:
        """Output of the fitted module for the rows or nodes of X."""
        check_is_fitted(self)
        return self._infer_focus(self._new_focus(X), self.__dict__)

    @without_gradients()
    def _infer_focus(self, focus: Focus, state: FittedState) -> ModelOutput:
        """Output of the module of a fitted state."""
        module = self._inference_module(state)
        batch_size = self._block_of(focus, module, state)
        if batch_size is not None:
            return self._infer_in_blocks(module, focus, state, batch_size)
        graph = self._inference_tensors(focus)
        ids = torch.tensor(focus.ids, device=graph.device)
        return compute(getattr(module, "infer", module), graph, ids, self.precision)

    def _block_of(self, focus: Focus, module: nn.Module, state: FittedState) -> int | None:
        """Nodes to compute at a time, each on what it sees; None takes the whole graph at once.

        On a CPU that is what few nodes of a large graph take as well.
        """
        n_samples = len(focus.ids)
        if self.batch_size is not None or not state["spec_"].samples:
            return self.batch_size
        on_cpu = choose_device(self.device).type == "cpu"
        few = on_cpu and is_faster_in_blocks(module, focus.graph, n_samples)
        return max(n_samples, 1) if few else None

    def _infer_in_blocks(
        self, module: nn.Module, focus: Focus, state: FittedState, batch_size: int
    ) -> ModelOutput:
        """The same numbers, from parts of the graph."""
        spec: ModelSpec = state["spec_"]
        check_samples(spec)
        device = choose_device(self.device)
        store = focus.store(state["missing_"], device, self._inference_dtype())
        with autocast(self.precision, device):
            return infer_in_blocks(
                module, store, focus.ids, num_hops=spec.num_hops(), batch_size=batch_size
            )

    def _inference_module(self, state: FittedState) -> nn.Module:
        device, dtype = choose_device(self.device), self._inference_dtype()
        module = state["_module"]
        if (device.type, dtype) != ("cpu", next(module.parameters()).dtype):
            module = self._build_module(state).to(device=device, dtype=dtype)
        return module

    def _inference_tensors(self, focus: Focus) -> GraphTensors:
        return focus.tensors(choose_device(self.device), self._inference_dtype())

    def _embed(self, X: Any) -> np.ndarray:
        """The fused embedding; in the dtype of X where that is one of floats."""
        embedding = self._infer(X).embedding.cpu().numpy()
        dtype = getattr(X, "dtype", None)
        return embedding.astype(dtype) if dtype in (np.float32, np.float64) else embedding

    @without_gradients()
    def _read_attention(self, X: NodeView) -> list[Attention]:
        """Attention of every layer, edges in the order of the graph's `edge_index`."""
        check_is_fitted(self)
        graph = self._inference_tensors(self._new_focus(X))
        read = getattr(self._inference_module(self.__dict__), "edge_attention", None)
        if read is None:
            return []
        edges = graph.edges(self.schema_.edge_types)
        with autocast(self.precision, choose_device(self.device)):
            return [layer.by_relation(edges).cpu() for layer in read(graph)]

    def _inference_dtype(self) -> torch.dtype:
        """float64 for rows: in float32 a row's result would depend on the batch it comes in."""
        if self.precision != "auto":
            return torch.float64 if self.precision == "float64" else torch.float32
        return torch.float64 if hasattr(self, "rows_") else torch.float32

    # ------------------------------------------------------------------ helpers of fit
    def _seed(self) -> int:
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        return seed if self.batch_size is None else Ranks.current().agree(seed)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[Self]:
        """Leave the estimator as it was if fit fails or is interrupted."""
        before = dict(self.__dict__)
        try:
            yield self
        except BaseException:
            callback_state = {k: v for k, v in self.__dict__.items() if "callback" in k}
            self.__dict__.clear()
            self.__dict__.update(before | callback_state)
            raise


def _of_weight(
    focus: Focus, y: np.ndarray, weight: np.ndarray
) -> tuple[Focus, np.ndarray, np.ndarray]:
    """Nodes that have a weight, and their weights scaled to a mean of 1."""
    used = weight > 0
    if not used.all():
        focus, y, weight = focus.at(focus.ids[used]), y[used], weight[used]
    weight = weight / weight.max()  # whose sum does not overflow
    return focus, y, weight / weight.mean()


def _check_finite(module: nn.Module, net: GraphNet) -> None:
    """Raise where training has led to weights that are no numbers."""
    if all(bool(value.isfinite().all()) for value in module.state_dict().values()):
        return
    finite = np.isfinite([row["train_loss"] for row in net.history])
    epoch = len(finite) if finite.all() else int(finite.argmin()) + 1
    raise ValueError(
        f"Training diverged: the weights are not finite after epoch {epoch}. Lower lr, or scale "
        "features and weights of samples that are huge."
    )


def _warn_about_weights(spec: ModelSpec, focus: Focus) -> None:
    """Say so where edges have weights that the model does not use."""
    weighted = list(focus.graph.edge_weight)
    if weighted and not spec.uses_edge_weight:
        warnings.warn(
            f"Model {spec.name!r} takes no weights of edges: the edges of {weighted} count alike. "
            "Give the relation values of 1 to say that this is meant.",
            UserWarning,
            stacklevel=5,
        )
