"""Metrics of retrieval as scorers for scikit-learn's searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from skmmg._sklearn import check_y
from skmmg.metrics import _ranking
from skmmg.retrieval import make_index
from skmmg.retrieval._nearest import without_itself

_LOWER_IS_BETTER = {"median_rank"}
_METRICS = {
    "hit_rate_at_k",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "median_rank",
    "ndcg",
    "precision_at_k",
    "recall_at_k",
}


class RetrievalScorer:
    """What :func:`make_retrieval_scorer` makes: ``scorer(estimator, X, y=None)``."""

    def __init__(
        self,
        metric: str,
        k: int | None,
        query: str | None,
        gallery: str | None,
        options: dict[str, Any],
    ) -> None:
        self.metric, self.k, self.query, self.gallery = metric, k, query, gallery
        self.options = options

    def __repr__(self) -> str:
        given = {"k": self.k, "query": self.query, "gallery": self.gallery, **self.options}
        parts = [repr(self.metric), *(f"{key}={value!r}" for key, value in given.items())]
        return f"make_retrieval_scorer({', '.join(parts)})"

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Score the rows of X by how well they find each other; higher is better."""
        X, estimator = _unwrap(X, estimator)
        query = estimator.query_ if self.query is None else self.query
        gallery = estimator.gallery_ if self.gallery is None else self.gallery
        check_answers(query, gallery, y)
        if y is not None:
            # a list as it is, because NumPy would make strings of numbers that stand among strings
            y = check_y(y if hasattr(y, "dtype") else np.asarray(y, dtype=object))
        neighbors = self._rank(estimator, X, query, gallery)
        positions = np.arange(len(neighbors))
        relevant = (positions,) if y is None else (y, y)
        options = {**self.options, "own": positions} if query == gallery else self.options
        value = getattr(_ranking, self.metric)(neighbors, *relevant, **options)
        return -float(value) if self.metric in _LOWER_IS_BETTER else float(value)

    def _rank(self, estimator: Any, X: Any, query: str, gallery: str) -> NDArray[np.int64]:
        """Return positions in X of the rows that are nearest to each row."""
        queries = estimator.transform(X, modality=query)
        items = queries if query == gallery else estimator.transform(X, modality=gallery)
        most = len(items) - (query == gallery)
        k = max(1, most) if self.k is None else self.k
        if k > most:
            raise ValueError(
                f"k={self.k} neighbours were asked for, but each of the {len(items)} items to be "
                f"scored has {most} others to find. Give more items (larger folds), or a smaller k."
            )
        if query != gallery:
            return make_index().fit(items).search(queries, k)[1]
        found = make_index().fit(items).search(queries, k + 1)
        return without_itself(*found, np.arange(len(items)))[1]


def check_answers(query: str, gallery: str, y: Any) -> None:
    """Let queries pass that have an answer other than themselves."""
    if query == gallery and y is None:
        raise ValueError(
            f"Within one modality, {query!r}, no item has another one as its pair. Pass y, "
            "whose classes say what is right, or score between two modalities."
        )


def _unwrap(X: Any, estimator: Any) -> tuple[Any, Any]:
    """The retriever inside of pipelines and searches, and X as it sees it."""
    if isinstance(estimator, Pipeline):
        earlier = estimator[:-1]
        return _unwrap(earlier.transform(X) if len(earlier) else X, estimator[-1])
    if hasattr(estimator, "best_estimator_"):
        return _unwrap(X, estimator.best_estimator_)
    return X, estimator


def make_retrieval_scorer(
    metric: str | Callable[..., Any] = "recall_at_k",
    *,
    k: int | None = 10,
    query: str | None = None,
    gallery: str | None = None,
    **options: Any,
) -> RetrievalScorer:
    """Make a scorer for ``scoring=`` of GridSearchCV, cross_validate and the like.

    The items that are scored, for instance those of a held-out fold, are queries and gallery at
    once: each is encoded by its query modality and by its gallery modality, by
    ``estimator.transform(X, modality=...)``, and searched for exactly. So no item of the training
    part is in the gallery, and folds of one size are comparable. With ``y`` all items of the
    query's class are right, without it the query's own item is. Where both modalities are the same,
    an item neither finds nor answers itself, and y is needed.

    Parameters
    ----------
    metric : str or function, default="recall_at_k"
        A metric of :mod:`skmmg.metrics` or its name.
    k : int, default=10
        How many neighbours count; None: the whole ranking, as for the mAP over all.
    query, gallery : str, default=None
        Modalities; None: those that the fitted estimator has chosen.
    **options
        Other parameters of the metric, as ``zero_division``; not ``own``, which the scorer knows.

    Returns
    -------
    callable
        ``scorer(estimator, X, y=None)``. Higher is better: the median rank is negated.

    Raises
    ------
    ValueError
        If there is no such metric, or, when it scores, k is more than there is to find, or y is
        missing within one modality.

    Examples
    --------
    >>> from skmmg.metrics import make_retrieval_scorer
    >>> make_retrieval_scorer("mean_average_precision", k=None, query="image", gallery="text")
    make_retrieval_scorer('mean_average_precision', k=None, query='image', gallery='text')
    """
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))
    if name not in _METRICS or (callable(metric) and metric is not getattr(_ranking, name)):
        raise ValueError(f"metric must be one of {sorted(_METRICS)}, got {metric!r}.")
    return RetrievalScorer(name, k, query, gallery, options)
