"""Find items of one modality by items of another."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skmmg._sklearn import InstanceOf, Interval, StrOptions, fit_context
from skmmg.estimators._base import A_SPEC, GraphEstimator
from skmmg.estimators._classic import ClassicSpec
from skmmg.estimators._folds import ATTACH
from skmmg.estimators._labels import KnownLabels
from skmmg.estimators._query_encoder import RETRIEVAL_MODELS, QueryEncoder, check_one_class_each
from skmmg.graph._neighbors import GRAPHS
from skmmg.metrics import mean_average_precision, recall_at_k
from skmmg.metrics._scorer import check_answers
from skmmg.models import ModelSpec
from skmmg.retrieval import VectorIndex, make_index
from skmmg.retrieval._nearest import without_itself
from skmmg.retrieval._vectors import check_count

# queries whose whole rankings are held at a time: 64 MiB
_RANKED = 1 << 23


class CrossModalRetriever(TransformerMixin, ClassNamePrefixFeaturesOutMixin, QueryEncoder):
    """Search items of one modality by items of another, in one space for all modalities.

    Every item is encoded as a query that nobody has seen yet: known by one of its modalities, with
    edges that lead from fitted items to it and none that leaves it. So what an item is in its other
    modalities, and the pair that it forms, cannot reach its vector. Training does the same: items
    are dealt into folds, and while those of one fold are encoded, only the others are known.

    Parameters
    ----------
    query : str or None, default=None
        Modality that is searched with; "*" stands for all that an item has. None: the first one.
    gallery : str or None, default=None
        Modality that is searched in, or "*". None: the last one.
    model : str or ModelSpec, default="mm_gcn"
        A model, see `skmmg.list_models`, but those that are trained without labels, by a loss of
        their own ("shgp", "hero", "hetgnn" with ``objective="link"``), and "mm_gcn_pool", whose
        samples are graphs; "dual_mlp", a small network per modality without a graph; "cca",
        scikit-learn's canonical correlation analysis; "semantic", posteriors of a logistic
        regression in each modality; or a spec. Parameters of any of them can be set as
        ``model__hidden_channels``.
    objective : {"auto", "pairs", "labels"}, default="auto"
        What answers a query: the item itself ("pairs"), or any item of its class ("labels").
        "auto": "labels" where `fit` gets a y.
    classification_weight : float, default=0.0
        Weight of the cross-entropy of the classes beside the contrastive loss; needs a y.
    n_components : int, default=64
        Width of the space. "cca" and "semantic" have widths of their own.
    temperature : float or "learned", default=0.1
        What cosines are divided by in the loss, at least 1e-4; a learned one starts at 0.07 and
        does not fall below 0.01.
    n_folds : int or "auto", default="auto"
        Number of folds, at least 2. An epoch trains on one fold, in time that goes with the square
        of its items; more folds leave more items to be known to each other, and fewer to be told
        apart. "auto": 2, or as many as leave no more than 2048 items to a fold.
    attach : {"neighbors", "none"}, default="neighbors"
        Whether a query gets edges from fitted items: on rows from those near it in the modality
        that it is known by, on a view those that the graph has. "none" encodes it alone.
    n_neighbors : int, default=5
        Number of neighbours, where `kneighbors` is not told, and the k of `score`.
    index : str, default="exact"
        How vectors are searched, see `skmmg.retrieval.make_index`. "auto" measures what it misses
        with queries in the modality `query`. "qdrant" has a collection for each modality, written
        when it is first searched; a pickle searches those that were written before.
    index_params : dict or None, default=None
        Options of the index. `set_params` changes it, and `index`, for the next `fit`; `set_index`
        for a fitted retriever.
    modalities, graph, fusion, setting, missing, scaling : see `MultiModalGraphClassifier`
        The form of X, the model's inputs. On a view, items that were not passed to `fit` send no
        messages in either setting. "transductive": their features count in the statistics of
        `scaling` all the same, as for the classifier. "inductive": nothing of them is seen.
        `missing` is "zero" here, because every query lacks what it is not known by.
    max_epochs, lr, weight_decay, optimizer, lr_scheduler : see `MultiModalGraphClassifier`
        Training.
    early_stopping, validation_fraction, n_iter_no_change, tol : see `MultiModalGraphClassifier`
        As there, but off by default: the contrastive loss of items set aside stops getting better
        long before their ranking does. "accuracy" is the share of queries whose nearest item
        answers them.
    device, precision, warm_start, random_state, verbose : see `MultiModalGraphClassifier`
        As there.

    Attributes
    ----------
    query_, gallery_ : str
        The modalities that were chosen.
    embedding_ : dict of str to ndarray of shape (n_items, n_components)
        Unit vectors of the gallery's items by modality; rows of zeros where they lack it.
    index_ : VectorIndex
        The index of `gallery_`, which can be saved, and measured by `skmmg.retrieval.index_recall`.
    n_items_ : int
        Number of items of the gallery.
    classes_ : ndarray of shape (n_classes,)
        The classes, where `fit` got a y.
    maps_ : dict of str to Pipeline
        The fitted transformers of "cca" and "semantic".
    schema_, feature_names_, n_features_in_ : see `MultiModalGraphClassifier`
        As there; `feature_names_in_` too.
    spec_, fusion_, weights_, module_, history_, n_iter_, best_epoch_ : see those of the classifier
        As there, for the other models.

    Notes
    -----
    An item that lacks a modality takes part wherever it has one: text without an image is a query
    for images, is found among texts, and is a wrong answer to other images in training.

    Fitted items are encoded without the other items of their fold too, so their vectors do not
    depend on what they are encoded with. Vectors of new items depend on the fitted items alone.

    On a view, relations that were made from features (neighbours by image, say) tell something of
    the modality that they were made from; give rows, or leave such relations out, if that matters.

    References
    ----------
    Yuan and Xue, Preprints 2025, doi:10.20944/preprints202501.0405.v1; see
    `skmmg.models.MMGCN`. How its contrastive loss was changed: in the class that computes it,
    ``skmmg.training.ContrastiveLoss``.

    Examples
    --------
    >>> from skmmg import CrossModalRetriever
    >>> from skmmg.datasets import load_mfeat
    >>> digits = load_mfeat()
    >>> X, y = digits.data[::10], digits.target[::10]
    >>> retriever = CrossModalRetriever(
    ...     query="fou", gallery="pix", modalities=digits.columns, max_epochs=4, random_state=0
    ... ).fit(X, y)
    >>> retriever.kneighbors(digits.data[1:3], n_neighbors=4, return_distance=False).shape
    (2, 4)
    """

    _named_specs: ClassVar[dict[str, Any]] = {"model": RETRIEVAL_MODELS, "graph": GRAPHS}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{k: v for k, v in GraphEstimator._parameter_constraints.items() if k != "class_weight"},
        "model": [str, InstanceOf((ModelSpec, ClassicSpec), A_SPEC)],
        "query": [str, None],
        "gallery": [str, None],
        "objective": [StrOptions({"auto", "pairs", "labels"})],
        "classification_weight": [Interval(Real, 0, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 1e-4, None, closed="left"), StrOptions({"learned"})],
        "n_folds": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "attach": [StrOptions(set(ATTACH))],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "index": [str],
        "index_params": [dict, None],
    }

    def __init__(
        self,
        query: str | None = None,
        gallery: str | None = None,
        model: str | ModelSpec | ClassicSpec = "mm_gcn",
        *,
        objective: str = "auto",
        classification_weight: float = 0.0,
        n_components: int = 64,
        temperature: float | str = 0.1,
        n_folds: int | str = "auto",
        attach: str = "neighbors",
        n_neighbors: int = 5,
        index: str = "exact",
        index_params: Mapping[str, Any] | None = None,
        modalities: Mapping[str, Any] | None = None,
        graph: Any = "knn",
        fusion: str | None = None,
        setting: str = "transductive",
        missing: str = "zero",
        scaling: str | None = "auto",
        max_epochs: int = 300,
        lr: float = 3e-3,
        weight_decay: float = 5e-3,
        optimizer: str = "adamw",
        lr_scheduler: str | None = None,
        early_stopping: bool | str = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 30,
        tol: float = 0.0,
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
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            device=device,
            precision=precision,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.query = query
        self.gallery = gallery
        self.objective = objective
        self.classification_weight = classification_weight
        self.n_components = n_components
        self.temperature = temperature
        self.n_folds = n_folds
        self.attach = attach
        self.n_neighbors = n_neighbors
        self.index = index
        self.index_params = index_params

    # ------------------------------------------------------------------ fit
    @fit_context()
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the space from items, and take them as the gallery.

        Parameters
        ----------
        X : NodeView, or array, sparse matrix or DataFrame of shape (n_samples, n_features)
            Items with some or all of the modalities.
        y : array-like of shape (n_samples,) or None, default=None
            Their classes, see `objective`.

        Returns
        -------
        self : CrossModalRetriever
            The fitted estimator. If `fit` fails or is interrupted, it is left as it was.

        Raises
        ------
        ValueError
            If a parameter is out of range, a modality is not there, or y is needed and not given.
        TypeError
            If the index has no such option.
        ImportError
            If the index needs an engine that is not installed.
        """
        with self._all_or_nothing():
            make_index(self.index, **self.index_params or {})  # or say now that it cannot be made
            seed, focus = self._seed(), self._fit_focus(X)
            codes = self._check_classes(y, focus)
            if self.warm_start and hasattr(self, "weights_"):
                self._check_last_fit(focus, self.n_components)
            self.schema_, self.statistics_ = focus.schema, focus.statistics
            self.feature_names_ = focus.feature_names
            self.query_, self.gallery_ = self._choose_modalities()
            self.folds_ = KnownLabels.of(
                focus, self._deal(len(focus.ids), seed), rows=self._on_rows()
            )
            if self._classic() is not None:
                self._fit_classic(focus, codes)
            else:
                self._fit_contrast(X, y, focus, codes, seed)
            self._items = self._make_gallery(self._encode_all(focus))
        return self

    # ------------------------------------------------------------------ what a user asks
    @property
    def embedding_(self) -> dict[str, np.ndarray]:
        """Unit vectors of the gallery's items by modality."""
        check_is_fitted(self)
        return {modality: vectors for modality, (vectors, _) in self._items.encoded.items()}

    @property
    def index_(self) -> VectorIndex:
        """The index of `gallery_`."""
        check_is_fitted(self)
        return self._items.index(self.gallery_, self.query_)

    @property
    def n_items_(self) -> int:
        """Number of items of the gallery."""
        check_is_fitted(self)
        return len(self._items)

    def transform(self, X: Any, modality: str | None = None) -> np.ndarray:
        """Unit vectors of items, encoded as queries.

        Parameters
        ----------
        X : as in `fit`
            Items that all have the modality. Rows are new ones, even if they equal fitted rows.
        modality : str or None, default=None
            What they are known by, "*" for all that they have. None: `query`.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Vectors of length one.

        Raises
        ------
        ValueError
            If the modality was not fitted, or an item lacks it.
        """
        check_is_fitted(self)
        vectors = self._vectors(X, self._chosen("modality", modality, self.query_))
        dtype = getattr(X, "dtype", None)
        return vectors.astype(dtype) if dtype in (np.float32, np.float64) else vectors

    def kneighbors(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
        *,
        query: str | None = None,
        gallery: str | None = None,
    ) -> Any:
        """Items of the gallery that are nearest to queries.

        Parameters
        ----------
        X : as in `fit`, or None, default=None
            The queries; only their modality `query` is looked at. None: every item of the gallery
            that has it is a query, and does not find itself where both modalities are the same.
        n_neighbors : int or None, default=None
            Number of neighbours; None: the parameter of the estimator.
        return_distance : bool, default=True
            Whether to return distances too.
        query, gallery : str or None, default=None
            Modalities, "*" for all that an item has. None: the parameters of the estimator.

        Returns
        -------
        distances : ndarray of float32 of shape (n_queries, n_neighbors)
            Cosine distances, one minus the cosine, ascending; only if `return_distance`.
        ids : ndarray of int64 of shape (n_queries, n_neighbors)
            Positions of items in the X of `fit`, followed by those of each `add`. Where an
            approximate index found fewer, the id is -1 and the distance infinite.

        Raises
        ------
        ValueError
            If a modality was not fitted, a query lacks its modality, `n_neighbors` is no integer
            of at least 1, or the gallery has fewer items with the modality.
        """
        check_is_fitted(self)
        query = self._chosen("query", query, self.query_)
        gallery = self._chosen("gallery", gallery, self.gallery_)
        k = check_count(self.n_neighbors if n_neighbors is None else n_neighbors, "n_neighbors")
        if X is not None:
            found = self._items.search(self._vectors(X, query), gallery, query, k)
        else:
            vectors, has = self._items.encoded[query]
            own = np.flatnonzero(has) if query == gallery else None
            found = self._items.search(vectors[has], gallery, query, k, own)
        return found if return_distance else found[1]

    def kneighbors_graph(
        self,
        X: Any = None,
        n_neighbors: int | None = None,
        mode: str = "connectivity",
        *,
        query: str | None = None,
        gallery: str | None = None,
    ) -> sp.csr_array:
        """Nearest items as a sparse matrix of queries by items.

        Parameters
        ----------
        X, n_neighbors, query, gallery : as in `kneighbors`
            Queries and modalities.
        mode : {"connectivity", "distance"}, default="connectivity"
            Whether entries are 1 or cosine distances.

        Returns
        -------
        csr_array of shape (n_queries, n_items)
            `n_neighbors` stored values in each row; fewer where an approximate index found fewer.
        """
        if mode not in ("connectivity", "distance"):
            raise ValueError(f'mode has to be "connectivity" or "distance", got {mode!r}.')
        distances, ids = self.kneighbors(X, n_neighbors, query=query, gallery=gallery)
        values = distances if mode == "distance" else np.ones_like(distances)
        found = ids >= 0
        indptr = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
        shape = (len(ids), self.n_items_)
        return sp.csr_array((values[found], ids[found], indptr), shape=shape)

    def add(self, X: Any) -> Self:
        """Extend the gallery by items, without a new fit.

        Parameters
        ----------
        X : as in `fit`
            Items with some or all of the modalities. They are encoded as queries are, and found
            from then on; other items never get edges from them.

        Returns
        -------
        self : CrossModalRetriever
            The estimator. If `add` fails, it has the items that it had.
        """
        check_is_fitted(self)
        self._items = self._items.extended(self._encode_all(None, X))
        return self

    def set_index(self, index: str, **index_params: Any) -> Self:
        """Search the gallery by another index, without a new fit.

        The index is built from the vectors of the items, those of `add` included, and the
        parameters `index` and `index_params` become these.

        Parameters
        ----------
        index : str
            Name of the index, see `skmmg.retrieval.make_index`.
        **index_params
            Its options; those of the index before are not kept.

        Returns
        -------
        self : CrossModalRetriever
            The estimator. If the index cannot be built, it is left as it was.

        Raises
        ------
        ValueError
            If the index is not known, or an option is out of range.
        TypeError
            If the index has no such option.
        ImportError
            If the index needs an engine that is not installed.
        """
        check_is_fitted(self)
        with self._all_or_nothing():
            self.set_params(index=index, index_params=index_params or None)
            self._validate_params()
            self._items = self._make_gallery(self._items.encoded)
        return self

    def score(
        self, X: Any, y: Any = None, *, query: str | None = None, gallery: str | None = None
    ) -> float:
        """How well items of X find each other, from the query modality to the gallery's.

        The items are queries and gallery at once; fitted items and added ones are left out.

        Parameters
        ----------
        X : as in `fit`
            Items. Those that lack the gallery's modality are queries without an answer of their
            own, those that lack the query's are in the gallery only.
        y : array-like of shape (n_samples,) or None, default=None
            Their classes; needed where both modalities are the same.
        query, gallery : str or None, default=None
            Modalities, as in `kneighbors`.

        Returns
        -------
        float
            Without y, recall@k: the share of queries that find their own item among the first
            `n_neighbors`. With y, mean average precision of the whole ranking, where all items of
            a query's class are right, but the query itself within one modality, and queries without
            a right item are left out. `skmmg.metrics` has others.

        Raises
        ------
        ValueError
            If no item has a modality, y has another length than X, or there is no y within one
            modality.
        """
        check_is_fitted(self)
        query = self._chosen("query", query, self.query_)
        gallery = self._chosen("gallery", gallery, self.gallery_)
        check_answers(query, gallery, y)
        queries, asks = self._vectors_of_some(X, query)
        items, answers = self._vectors_of_some(X, gallery)
        if y is None:
            found = make_index().fit(items).search(queries, min(self.n_neighbors, len(items)))[1]
            places = np.where(answers, np.cumsum(answers) - 1, -1)
            return recall_at_k(found, places[asks], zero_division=np.nan)
        y = check_one_class_each(y, len(asks))
        if query == gallery and len(items) < 2:
            raise ValueError(
                f"Within one modality, {query!r}, items are scored by the others that they find, "
                "but one item alone has it. Give more items."
            )
        return _mean_precision(queries, items, y[asks], y[answers], query == gallery)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        classic = self._classic()
        by_class = self.objective == "labels" or self.classification_weight > 0
        tags.target_tags.required = by_class or (classic is not None and classic.needs_y)
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_items")


def _mean_precision(
    queries: np.ndarray, items: np.ndarray, y_query: np.ndarray, y_items: np.ndarray, within: bool
) -> float:
    """Mean average precision of whole rankings, a part of the queries at a time.

    Within one modality queries are the items, which neither find nor answer themselves.
    """
    index, values = make_index().fit(items), []
    step = max(1, _RANKED // len(items))
    for start in range(0, len(queries), step):
        part = np.arange(start, min(start + step, len(queries)))
        distances, ids = index.search(queries[part], len(items))
        if within:
            distances, ids = without_itself(distances, ids, part)
        own = part if within else None
        precision = mean_average_precision(
            ids, y_query[part], y_items, own=own, zero_division=np.nan, average=False
        )
        values.append(precision)
    return float(np.nanmean(np.concatenate(values)))
