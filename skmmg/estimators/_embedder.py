"""Turn the nodes of a multi-modal graph into rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from skmmg._sklearn import StrOptions, fit_context
from skmmg.estimators._focus import Focus
from skmmg.estimators._labels import KnownLabels
from skmmg.estimators._pretraining import PretrainingMixin
from skmmg.models import ModelSpec, get_model
from skmmg.training import Infomax, InfomaxLoss


class NodeEmbedder(TransformerMixin, ClassNamePrefixFeaturesOutMixin, PretrainingMixin):
    """Transformer from nodes, or rows with several modalities, to a 2-D array.

    Put it before any scikit-learn tool that needs columns: clustering, t-SNE, nearest
    neighbours, bagging, another classifier.

    Parameters
    ----------
    model : str or ModelSpec, default="hgnn_ima"
        Name of a model, see `skmmg.list_models`, or a spec.
    objective : {"auto", "classification", "infomax", "self_supervised"}, default="auto"
        What the model is trained for. "classification": to predict the y of `fit`. "infomax": to
        tell the nodes from nodes with shuffled features (deep graph infomax), without labels.
        "self_supervised": what its authors train it for, without labels, in models such as "shgp".
        "auto": "self_supervised" for such a model; else "classification" where `fit` gets a y,
        and "infomax" otherwise. In a Pipeline with a classifier at its end, `fit` gets a y.
    modalities, graph, fusion, setting, missing, scaling : see `MultiModalGraphClassifier`
        The form of X, the model's inputs.
    max_epochs, lr, weight_decay : see `MultiModalGraphClassifier`
        Training.
    batch_size, num_neighbors : see `MultiModalGraphClassifier`
        Mini-batches. "infomax" shuffles the features of a batch's nodes among these nodes, and
        summarises each batch.
    optimizer, lr_scheduler : see `MultiModalGraphClassifier`
        Training.
    early_stopping : bool or str, default=True
        As in `MultiModalGraphClassifier` for "classification". The other objectives need no
        validation nodes: True and "loss" stop when the training loss does not get better.
    validation_fraction, n_iter_no_change, tol, class_weight : see `MultiModalGraphClassifier`
        Early stopping, and weights of the classes for "classification".
    device, precision, warm_start, random_state, verbose : see `MultiModalGraphClassifier`
        As there.

    Attributes
    ----------
    weights_ : dict of str to ndarray
        The trained weights.
    module_ : torch.nn.Module
        The trained module.
    history_ : list of dict
        One row per epoch.
    schema_ : Schema
        Node types, modalities and edge types of the training graph.
    feature_names_ : dict of dict of tuple of str
        Column names by node type and modality, where data frames gave them. Other graphs that have
        names must have these.
    objective_ : str
        The objective that was used.
    classes_ : ndarray of shape (n_classes,)
        The classes, where `fit` got a y.
    spec_, fusion_, n_iter_, best_epoch_, n_features_in_ : see `MultiModalGraphClassifier`
        As there; `feature_names_in_` too.

    References
    ----------
    Velickovic et al., Deep graph infomax, ICLR 2019, for ``objective="infomax"``.

    Examples
    --------
    >>> from sklearn.cluster import KMeans
    >>> from sklearn.pipeline import make_pipeline
    >>> from skmmg import NodeEmbedder
    >>> from skmmg.datasets import make_multimodal_graph
    >>> X = make_multimodal_graph(n_samples=60, random_state=0).graph.nodes("item")
    >>> embedder = NodeEmbedder("hgt", max_epochs=3, random_state=0)
    >>> make_pipeline(embedder, KMeans(3, n_init=1, random_state=0)).fit_predict(X).shape
    (60,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PretrainingMixin._parameter_constraints,
        "objective": [StrOptions({"auto", "classification", "infomax", "self_supervised"})],
    }

    def __init__(
        self,
        model: str | ModelSpec = "hgnn_ima",
        *,
        objective: str = "auto",
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
        self.objective = objective

    @fit_context()
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train the model.

        Parameters
        ----------
        X : NodeView, or array, sparse matrix or DataFrame of shape (n_samples, n_features)
            Nodes or rows to train on.
        y : array-like of shape (n_samples,) or None, default=None
            Their classes, for ``objective="classification"``.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Their weights in the classification loss; for no other objective.

        Returns
        -------
        self : NodeEmbedder
            The fitted estimator. If `fit` fails or is interrupted, it is left as it was.
        """
        with self._all_or_nothing():
            self.objective_ = self._choose_objective(y)
            if sample_weight is not None and self.objective_ != "classification":
                raise ValueError(
                    f"objective={self.objective_!r} looks at no labels and takes no sample_weight. "
                    'Leave it out, or set objective="classification".'
                )
            if self.objective_ == "classification":
                self._fit_classes(X, y, sample_weight, None, None)
                return self
            self.__dict__.pop("classes_", None)
            settings: dict[str, Any] = {"seed": self._seed(), "callback_data": (X, None)}
            focus = self._fit_focus(X)
            if self.objective_ == "infomax":
                net = {"criterion": InfomaxLoss, "n_outputs": 2, "wrap": Infomax}
                self._fit_without_labels(focus, **net, **settings)
            else:
                self._pretrain(focus, **settings)
        return self

    def _choose_objective(self, y: Any) -> str:
        spec = get_model(self.model)
        if self.objective == "auto":
            if spec.self_supervised:
                return "self_supervised"
            return "infomax" if y is None else "classification"
        wanted = self.objective == "self_supervised"
        if wanted != spec.self_supervised and self.objective != "infomax":
            raise ValueError(
                f"objective={self.objective!r} does not apply to model {spec.name!r}, which is "
                f"trained {'with' if wanted else 'without'} labels. Take another model, or "
                'set objective="auto".'
            )
        if self.objective == "classification" and y is None:
            raise ValueError(
                'objective="classification" needs y, got None. Pass the classes of the nodes, or '
                'set objective="infomax".'
            )
        return self.objective

    def _shown_labels(self, focus: Focus, y: np.ndarray) -> KnownLabels:
        """No classes where none are learnt from: those of infomax are made up."""
        shown = super()._shown_labels(focus, y)
        if self.objective_ == "infomax" and not get_model(self.model).self_supervised:
            return replace(shown, ids=shown.ids[:0], codes=shown.codes[:0])
        return shown

    def transform(self, X: Any) -> np.ndarray:
        """Embed nodes or rows.

        Parameters
        ----------
        X : as in `fit`
            Nodes of the training graph or of another one with its schema, or rows.

        Returns
        -------
        ndarray of shape (n_samples, out_channels)
            Embedding.
        """
        return self._embed(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.objective == "classification"
        return tags
