"""Classify the nodes of a multi-modal graph, or rows with several modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import (
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.metaestimators import available_if

from skmmg._sklearn import HasMethods, check_y, fit_context
from skmmg.estimators._auto import AutoModel
from skmmg.estimators._pretraining import ProbeMixin, classifies_by_a_probe_with, probe_has
from skmmg.graph import NodeView
from skmmg.models import ModelSpec, get_model
from skmmg.nn import Attention


class MultiModalGraphClassifier(
    ClassifierMixin,
    TransformerMixin,
    ClassNamePrefixFeaturesOutMixin,
    ProbeMixin,
):
    """Classifier of the nodes of a multi-modal graph, or of rows with several modalities.

    Parameters
    ----------
    model : str or ModelSpec, default="hgnn_ima"
        Name of a model, see `skmmg.list_models`, or a spec such as
        ``skmmg.models.HGNNIMA(heads=4)``. Parameters of either can be set, and searched, as
        ``model__heads``. "auto" chooses by cross-validation, see `skmmg.AutoModel`.
    probe : classifier of scikit-learn or None, default=None
        For a model that is trained without labels (such as "shgp"): what classifies its embedding.
        A clone of it is fitted on the training nodes; its parameters are ``probe__C`` and the like.
        None takes ``make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))``. A model
        that is trained on labels classifies by itself and takes None only.
    modalities : dict or None, default=None
        Columns of every modality of a 2-D X: a slice, indices, a boolean mask, or a prefix of
        column names. None makes all columns one modality, "x". For views, which have modalities of
        their own, it has to be None.
    graph : {"knn", "radius", "none"}, KNNGraph or RadiusGraph, default="knn"
        Where the edges between the rows of a 2-D X come from. "knn" links a row to the 10 rows of
        the largest cosine in each modality, after scaling, which centres dense columns; for a table
        of a few columns ``KNNGraph(metric="euclidean")`` may be far better. Views have edges of
        their own.
    fusion : {"early", "late"} or None, default=None
        How a model for one modality is made one for several; None takes the model's default.
        Models that are multi-modal by nature take None only.
    setting : {"transductive", "inductive"}, default="transductive"
        What training on a view may see. "transductive": all nodes and features of the graph, also
        in the statistics of `scaling`, but labels of the view's nodes only. "inductive": the graph
        without the nodes of the view's type that are not in the view, and without what only these
        connect with it; a step before it in a pipeline has a `setting` of its own. Rows of a 2-D X
        that are not passed to `fit` are never seen.
    missing : {"mean_neighbors", "copy", "zero", "learned"}, default="mean_neighbors"
        What a node gets for a modality that it lacks, see `skmmg.nn.ModalityEncoder`. The default
        suits networks where whole node types lack one; where rows are missing by chance,
        "learned" is worth a try.
    scaling : {"auto", "standardize"} or None, default="auto"
        How features are scaled, with statistics of what training may see. "standardize": every
        column to mean 0 and standard deviation 1; a sparse one to mean square 1, as it is not
        centred. "auto": the same for a table, that is a modality whose columns' scales differ more
        than a hundredfold; all columns of any other modality (an embedding, a bag of words) are
        divided by one number.
    max_epochs : int, default=300
        Epochs at most.
    lr : float, default=3e-3
        Learning rate.
    weight_decay : float, default=5e-3
        Weight decay of the optimizer.
    batch_size : int or None, default=None
        Target nodes per mini-batch; None takes the whole graph at once. With it only the part of
        the graph around a batch is made into tensors, so that features may lie in a memory-mapped
        file that is larger than the memory, and predictions are made in blocks, without sampling:
        they are those of the whole graph. Where torch.distributed is initialised, `fit` shares the
        work between its processes, each of which has batches of this size.
    num_neighbors : int, list of int or None, default=None
        In-neighbours that a node of a mini-batch draws in every relation and epoch, for every step
        away from the target nodes, the nearest first; see `skmmg.models.ModelSpec.num_hops` for the
        number of steps. -1 and None take all. Needs `batch_size`.
    optimizer : {"adamw", "adam", "rmsprop", "sgd"}, default="adamw"
        Optimizer of torch.
    lr_scheduler : {"one_cycle", "cosine"} or None, default=None
        How the learning rate changes over `max_epochs`; it is the maximum of "one_cycle".
    early_stopping : bool or {"loss", "accuracy", "loss_and_accuracy"}, default=True
        Whether to stop when validation does not get better, and to keep the best epoch's weights.
        "loss" (True is short for it) and "accuracy" watch one of them. "loss_and_accuracy" is the
        papers' rule: a miss is an epoch whose loss is above the best loss and whose accuracy is
        below the best accuracy, and the weights of the last epoch that was best in both are kept.
        A model that is trained without labels sets no nodes aside: it takes a bool or "loss", and
        watches its training loss.
    validation_fraction : float, default=0.1
        Share of the training nodes that is set aside for early stopping, unless `fit` gets
        `X_val`. Stratified where every class has enough members.
    n_iter_no_change : int, default=30
        Misses in a row after which training stops.
    tol : float, default=0.0
        What counts as better for ``early_stopping="loss"`` and "accuracy".
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss and in the accuracies of `history_`, which early
        stopping may watch ("balanced" makes that the balanced accuracy); or in the probe.
    device : str, default="auto"
        "cpu", "cuda" or "cuda:1"; "auto" takes a GPU where there is one.
    precision : {"auto", "float32", "float64", "bf16"}, default="auto"
        "auto" trains in float32; it infers views in float32, and rows of a 2-D X in float64, so
        that a row's result does not depend on the batch it comes in. "bf16" trains and infers with
        products of bfloat16 (torch's autocast), on a CPU or on a CUDA device from Ampere on;
        weights, sums over edges, softmax, losses and outputs stay in float32.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit. The optimizer starts afresh.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, of dropout, of the validation split and of mini-batches.
        torch's global generators are neither used nor changed.
    verbose : int, default=0
        1 prints a line per epoch. For a progress bar, also within a grid search, use
        ``set_callbacks(sklearn.callback.ProgressBar())``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    schema_ : Schema
        Node types, modalities and edge types of the training graph.
    feature_names_ : dict of dict of tuple of str
        Column names by node type and modality, where data frames gave them. Other graphs that have
        names must have these.
    probe_ : classifier of scikit-learn
        The fitted probe, after a fit of a model that is trained without labels.
    spec_, fusion_ : ModelSpec, str or None
        The model that was trained, and how it merges modalities; None where it does so natively.
    leaderboard_ : pandas.DataFrame
        After ``model="auto"``: models by their cross-validated score, best first, with the epochs
        that they were given.
    weights_ : dict of str to ndarray
        The trained weights.
    module_ : torch.nn.Module
        The trained module, built from `weights_`.
    history_ : list of dict
        One row per epoch: loss, its parts, accuracy, seconds. Samples count by their weights.
    n_iter_ : int
        Number of epochs.
    best_epoch_ : int
        The epoch, counted from 1, whose weights were kept.
    n_features_in_ : int
        Number of columns, after a fit on a 2-D X.
    feature_names_in_ : ndarray of str
        Names of the columns, after a fit on a DataFrame.

    Notes
    -----
    A slice of a view is a focus, not a cut: ``X[train]`` is the same graph seen from the training
    nodes. With a 2-D X new rows are linked to the fitted rows near them, so that a prediction does
    not depend on the other rows that are predicted with it.

    See Also
    --------
    NodeEmbedder : The same models as a transformer.

    Examples
    --------
    Rows with several modalities:

    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.datasets import load_mfeat
    >>> data = load_mfeat()
    >>> clf = MultiModalGraphClassifier(
    ...     "hgt", modalities=data.columns, max_epochs=3, random_state=0
    ... )
    >>> clf.fit(data.data[::10], data.target[::10]).predict(data.data[:2]).shape
    (2,)

    Nodes of a graph:

    >>> from skmmg.datasets import make_multimodal_graph
    >>> data = make_multimodal_graph(n_samples=120, random_state=0)
    >>> X = data.graph.nodes(data.node_type)
    >>> clf = MultiModalGraphClassifier(max_epochs=3, random_state=0)
    >>> clf.fit(X[:80], data.target[:80]).predict_proba(X[80:]).shape
    (40, 3)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ProbeMixin._parameter_constraints,
        "probe": [HasMethods(["fit", "predict"]), None],
    }

    def __init__(
        self,
        model: str | ModelSpec = "hgnn_ima",
        *,
        probe: Any = None,
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
        super().__init__(
            model,
            modalities=modalities,
            graph=graph,
            fusion=fusion,
            setting=setting,
            missing=missing,
            scaling=scaling,
            max_epochs=max_epochs,
            lr=lr,
            weight_decay=weight_decay,
            batch_size=batch_size,
            num_neighbors=num_neighbors,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            class_weight=class_weight,
            device=device,
            precision=precision,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.probe = probe

    @fit_context()
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Self:
        """Train the model.

        Parameters
        ----------
        X : NodeView, or array, sparse matrix or DataFrame of shape (n_samples, n_features)
            Training nodes or rows.
        y : array-like of shape (n_samples,)
            Their classes.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Their weights in the loss, or in the probe.
        X_val, y_val : as X and y, or None, default=None
            Data for early stopping instead of a `validation_fraction` of X. Not for a model that
            is trained without labels.

        Returns
        -------
        self : MultiModalGraphClassifier
            The fitted estimator. If `fit` fails or is interrupted, it is left as it was.

        Raises
        ------
        ValueError
            If a parameter is out of range, X and y do not fit together, or y has one class.
        """
        with self._all_or_nothing():
            for name in ("probe_", "leaderboard_"):
                self.__dict__.pop(name, None)
            auto = AutoModel() if self.model == "auto" else self.model
            if isinstance(auto, AutoModel):
                self._fit_winner(auto, X, y, sample_weight, (X_val, y_val))
            elif get_model(self.model).self_supervised:
                self._fit_probe(X, y, sample_weight, (X_val, y_val))
            else:
                self._check_no_probe()
                self._fit_classes(X, y, sample_weight, X_val, y_val)
        return self

    def _fit_winner(
        self, auto: AutoModel, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any]
    ) -> None:
        """Choose a model, fit a clone that has it, and take over what that has learnt."""
        if self.warm_start:
            raise ValueError(
                "warm_start=True goes on with the model of the last fit, and model='auto' chooses "
                "one. Set warm_start=False, or name a model."
            )
        search = auto.search(self, X, check_y(y), sample_weight, self._seed())
        winner = clone(self).set_params(**search.params)
        winner.fit(X, y, sample_weight, **search.validation(*validation))
        given = self.get_params(deep=False)
        self._forget_rows()
        self.__dict__ |= {k: v for k, v in vars(winner).items() if k not in given}
        self.leaderboard_ = search.leaderboard

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of every sample.

        Parameters
        ----------
        X : as in `fit`
            Nodes of the training graph or of another one with its schema, or rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Classes.
        """
        output = self._infer(X)
        if hasattr(self, "probe_"):
            return self._ask_probe("predict", output)
        return self.classes_[output.logits.argmax(1).cpu().numpy()]

    @available_if(probe_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : as in `predict`
            Nodes or rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, columns in the order of `classes_`.
        """
        output = self._infer(X)
        if hasattr(self, "probe_"):
            return self._ask_probe("predict_proba", output)
        return output.logits.double().softmax(1).cpu().numpy()

    @available_if(probe_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : as in `predict`
            Nodes or rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Logarithms of the probabilities.
        """
        output = self._infer(X)
        if hasattr(self, "probe_"):
            return self._ask_probe("predict_log_proba", output)
        return output.logits.double().log_softmax(1).cpu().numpy()

    @available_if(classifies_by_a_probe_with("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes, of a probe that gives some.

        Only for a model that is trained without labels, with a probe such as ``LinearSVC()``. It is
        what ranks and calibrates such a probe, which has no probabilities.

        Parameters
        ----------
        X : as in `predict`
            Nodes or rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            What the probe's decision_function gives: larger is more probable, of the second class
            where there are two.
        """
        return self._ask_probe("decision_function", self._infer(X))

    def transform(self, X: Any) -> np.ndarray:
        """Fused embedding that the last layer, or the probe, classifies.

        Parameters
        ----------
        X : as in `predict`
            Nodes or rows.

        Returns
        -------
        ndarray of shape (n_samples, out_channels)
            Embedding.
        """
        return self._embed(X)

    def modality_weights(self, X: Any) -> pd.DataFrame:
        """Weights of the modalities in every sample's embedding.

        Parameters
        ----------
        X : as in `predict`
            Nodes or rows.

        Returns
        -------
        pandas.DataFrame of shape (n_samples, n_modalities)
            Weights, rows sum to 1.

        Raises
        ------
        ValueError
            If the model gives modalities no weights, as in early fusion.
        """
        weights = self._infer(X).modality_weights
        if weights is None:
            raise ValueError(
                f"{self.spec_} with fusion={self.fusion_!r} gives modalities no weights. Models "
                "that take several modalities natively do ('hgnn_ima', 'mhgat', 'xgea', 'idkg', "
                "'mm_gcn'), and fusion='late' with late_fusion='attention'."
            )
        return pd.DataFrame(weights.cpu().numpy(), columns=list(self.schema_.modalities))

    def attention(self, X: NodeView) -> list[Attention]:
        """Attention of every layer on every edge of the view's graph.

        Parameters
        ----------
        X : NodeView
            A view of the graph; which nodes it selects does not matter.

        Returns
        -------
        list of Attention
            One per layer. Values are tensors on the CPU by edge type, in the order of the graph's
            `edge_index`.

        Raises
        ------
        TypeError
            If X is not a view.
        ValueError
            If the model has no attention over edges to show.
        """
        if not isinstance(X, NodeView):
            raise TypeError(
                "attention is read on the edges of a graph, so X has to be a NodeView, got "
                f"{type(X).__name__}. For rows, make a graph of them, "
                "MultiModalGraph({modality: matrix}, {relation: edges}), and fit on its nodes."
            )
        layers = self._read_attention(X)
        if not layers:
            raise ValueError(
                f"{self.spec_} keeps no attention over edges. model='hgnn_ima' and model='xgea' "
                "with at least one layer do."
            )
        return layers
