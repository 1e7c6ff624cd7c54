"""Metrics of ranked neighbours, for labels and for pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skmmg.metrics._relevance import judge


def recall_at_k(
    neighbors: ArrayLike,
    y_query: ArrayLike,
    y_gallery: ArrayLike | None = None,
    *,
    k: int | None = None,
    own: ArrayLike | None = None,
    zero_division: float = 0.0,
    average: bool = True,
) -> Any:
    """Share of the relevant items that are among the first k neighbours.

    recall@k = (relevant among the first k) / (relevant in the gallery), averaged over queries. With
    pairs it is the share of queries whose right answer is among the first k.

    All metrics of this module take what is relevant in one of two forms:

    - **labels**: `y_query` and `y_gallery` hold a label per query and per item of the gallery, and
      an item is relevant to a query with the same label;
    - **pairs**: `y_gallery` is None, and `y_query` holds the id of the one right neighbour of each
      query, -1 where there is none.

    Parameters
    ----------
    neighbors : array-like of int of shape (n_queries, n_neighbors)
        Ids of the neighbours of each query, the nearest first, as from ``kneighbors(X,
        return_distance=False)``; -1 fills rows with fewer neighbours. For labels an id is a
        position in `y_gallery`.
    y_query : array-like of shape (n_queries,)
        Label of each query; without `y_gallery`, the id of its right neighbour.
    y_gallery : array-like of shape (n_gallery,), default=None
        Label of each item of the gallery.
    k : int, default=None
        How many of the neighbours count; None: all that are given.
    own : array-like of int of shape (n_queries,), default=None
        Where queries are items of the gallery that were kept from finding themselves, as by
        ``kneighbors(query=m, gallery=m)``: position in `y_gallery` of each query. It does not count
        as relevant to itself. ``np.arange(len(y))`` where every item is a query.
    zero_division : {0.0, 1.0, nan}, default=0.0
        Value of a query without any relevant item in the gallery. NaN leaves it out of the mean,
        as in scikit-learn; 0.0 is what trec_eval and torchmetrics do.
    average : bool, default=True
        Whether to return the mean over queries; else the value of each.

    Returns
    -------
    float or ndarray of shape (n_queries,)
        In [0, 1], the higher the better.

    Raises
    ------
    ValueError
        If shapes or ids do not fit, k exceeds the neighbours given, or a query has an item twice.

    See Also
    --------
    hit_rate_at_k : At least one relevant item, which is also called "recall@k" where a query has
        several right answers (image captions, metric learning).

    References
    ----------
    Manning, Raghavan, Schütze: Introduction to Information Retrieval, sections 8.3 and 8.4.
    Cambridge University Press 2008.

    Examples
    --------
    >>> from skmmg.metrics import recall_at_k
    >>> recall_at_k([[0, 2, 1], [2, 1, 0]], ["cat", "dog"], ["cat", "dog", "cat"], k=2)
    1.0
    >>> recall_at_k([[0, 2, 1], [2, 1, 0]], [0, 0], k=2)
    0.5

    Items that look for others of their class:

    >>> recall_at_k([[1, 2], [0, 2], [0, 1]], list("aab"), list("aab"), own=[0, 1, 2], k=1)
    0.666...
    """
    judged = judge(neighbors, y_query, y_gallery, k, own)
    values = judged.hits.sum(axis=1) / np.maximum(judged.n_relevant, 1)
    return judged.average(values, zero_division, average)


def hit_rate_at_k(
    neighbors: ArrayLike,
    y_query: ArrayLike,
    y_gallery: ArrayLike | None = None,
    *,
    k: int | None = None,
    own: ArrayLike | None = None,
    zero_division: float = 0.0,
    average: bool = True,
) -> Any:
    """Share of the queries that find at least one relevant item among the first k neighbours.

    Also known as success@k, and as "recall@k" in metric learning and image captioning. With pairs
    it equals :func:`recall_at_k`.

    Parameters
    ----------
    neighbors, y_query, y_gallery, k, own, zero_division, average
        As in :func:`recall_at_k`.

    Returns
    -------
    float or ndarray of shape (n_queries,)
        In [0, 1], the higher the better.

    Examples
    --------
    >>> from skmmg.metrics import hit_rate_at_k
    >>> hit_rate_at_k([[0, 2, 1], [2, 1, 0]], ["cat", "dog"], ["cat", "dog", "cat"], k=1)
    0.5
    """
    judged = judge(neighbors, y_query, y_gallery, k, own)
    return judged.average(judged.hits.any(axis=1).astype(float), zero_division, average)


def precision_at_k(
    neighbors: ArrayLike,
    y_query: ArrayLike,
    y_gallery: ArrayLike | None = None,
    *,
    k: int | None = None,
    own: ArrayLike | None = None,
    zero_division: float = 0.0,
    average: bool = True,
) -> Any:
    """Share of the first k neighbours that are relevant.

    precision@k = (relevant among the first k) / k. A missing neighbour (-1) is not relevant, and k
    is not reduced where fewer than k items are relevant: then 1 cannot be reached.

    Parameters
    ----------
    neighbors, y_query, y_gallery, k, own, zero_division, average
        As in :func:`recall_at_k`.

    Returns
    -------
    float or ndarray of shape (n_queries,)
        In [0, 1], the higher the better.

    References
    ----------
    Manning, Raghavan, Schütze: Introduction to Information Retrieval, section 8.4. Cambridge
    University Press 2008.

    Examples
    --------
    >>> from skmmg.metrics import precision_at_k
    >>> precision_at_k([[0, 2, 1], [2, 1, 0]], ["cat", "dog"], ["cat", "dog", "cat"], k=2)
    0.75
    """
    judged = judge(neighbors, y_query, y_gallery, k, own)
    return judged.average(judged.hits.mean(axis=1), zero_division, average)


def mean_average_precision(
    neighbors: ArrayLike,
    y_query: ArrayLike,
    y_gallery: ArrayLike | None = None,
    *,
    k: int | None = None,
    own: ArrayLike | None = None,
    zero_division: float = 0.0,
    average: bool = True,
    normalize_by: str = "attainable",
) -> Any:
    """Mean over queries of the precision at the ranks of relevant items (mAP, mAP@k).

    AP@k = 1/N · Σ_{r ≤ k} [the item at rank r is relevant] · precision@r. For the mAP over all,
    which Wikipedia results are quoted in, give the whole ranking of the gallery.

    Parameters
    ----------
    neighbors, y_query, y_gallery, k, own, zero_division, average
        As in :func:`recall_at_k`.
    normalize_by : {"attainable", "relevant", "retrieved"}, default="attainable"
        What N is; over a whole ranking all three are the same.

        - ``"attainable"``: relevant items in the gallery, at most k, so that 1 can be reached;
        - ``"relevant"``: relevant items in the gallery, as in trec_eval and ranx;
        - ``"retrieved"``: relevant items among the first k, as in torchmetrics and in most papers
          on cross-modal hashing ("mAP@50"). It does not punish what is not found.

    Returns
    -------
    float or ndarray of shape (n_queries,)
        In [0, 1], the higher the better.

    References
    ----------
    Manning, Raghavan, Schütze: Introduction to Information Retrieval, section 8.4. Cambridge
    University Press 2008.
    Rasiwasia et al.: A new approach to cross-modal multimedia retrieval. ACM Multimedia 2010,
    section 5 (label relevance on Wikipedia).

    Examples
    --------
    >>> from skmmg.metrics import mean_average_precision
    >>> mean_average_precision([[0, 1, 2]], ["cat"], ["cat", "dog", "cat"])
    0.833...
    """
    judged = judge(neighbors, y_query, y_gallery, k, own)
    found, n_neighbors = judged.hits.sum(axis=1), judged.hits.shape[1]
    norms = {
        "attainable": np.minimum(judged.n_relevant, n_neighbors),
        "relevant": judged.n_relevant,
        "retrieved": found,
    }
    if normalize_by not in norms:
        raise ValueError(f"normalize_by must be one of {list(norms)}, got {normalize_by!r}.")
    precisions = np.cumsum(judged.hits, axis=1) / np.arange(1, n_neighbors + 1)
    sums = (precisions * judged.hits).sum(axis=1)
    values = sums / np.maximum(norms[normalize_by], 1)
    return judged.average(values, zero_division, average)


def mean_reciprocal_rank(
    neighbors: ArrayLike,
    y_query: ArrayLike,
    y_gallery: ArrayLike | None = None,
    *,
    k: int | None = None,
    own: ArrayLike | None = None,
    zero_division: float = 0.0,
    average: bool = True,
) -> Any:
    """Mean over queries of 1 / (rank of the first relevant item), MRR.

    A query whose relevant items are not among the first k counts 0.

    Parameters
    ----------
    neighbors, y_query, y_gallery, k, own, zero_division, average
        As in :func:`recall_at_k`.

    Returns
    -------
    float or ndarray of shape (n_queries,)
        In [0, 1], the higher the better.

    References
    ----------
    Voorhees: The TREC-8 question answering track report. TREC-8, 1999.

    Examples
    --------
    >>> from skmmg.metrics import mean_reciprocal_rank
    >>> mean_reciprocal_rank([[0, 2, 1], [2, 1, 0]], [0, 1])
    0.75
    """
    judged = judge(neighbors, y_query, y_gallery, k, own)
    return judged.average(1.0 / judged.first_ranks(), zero_division, average)


def ndcg(
    neighbors: ArrayLike,
    y_query: ArrayLike,
    y_gallery: ArrayLike | None = None,
    *,
    k: int | None = None,
    own: ArrayLike | None = None,
    zero_division: float = 0.0,
    average: bool = True,
) -> Any:
    """Normalised discounted cumulative gain of the first k neighbours.

    DCG@k = Σ_{r ≤ k} [the item at rank r is relevant] / log2(r + 1), divided by its largest
    possible value. The same number as :func:`sklearn.metrics.ndcg_score` over the whole gallery,
    which needs a matrix of (n_queries, n_gallery) scores; this one needs the neighbours only.

    Parameters
    ----------
    neighbors, y_query, y_gallery, k, own, zero_division, average
        As in :func:`recall_at_k`.

    Returns
    -------
    float or ndarray of shape (n_queries,)
        In [0, 1], the higher the better.

    References
    ----------
    Järvelin, Kekäläinen: Cumulated gain-based evaluation of IR techniques. ACM TOIS 20(4), 2002;
    with the discount log2(r + 1) of Burges et al., ICML 2005.

    Examples
    --------
    >>> from skmmg.metrics import ndcg
    >>> ndcg([[0, 1, 2]], ["cat"], ["cat", "dog", "cat"])
    0.919...
    """
    judged = judge(neighbors, y_query, y_gallery, k, own)
    discounts = 1.0 / np.log2(np.arange(judged.hits.shape[1]) + 2)
    best = np.concatenate([[0.0], np.cumsum(discounts)])
    ideal = best[np.minimum(judged.n_relevant, len(discounts))]
    values = (judged.hits * discounts).sum(axis=1) / np.where(ideal > 0, ideal, 1.0)
    return judged.average(values, zero_division, average)


def median_rank(
    neighbors: ArrayLike,
    y_query: ArrayLike,
    y_gallery: ArrayLike | None = None,
    *,
    k: int | None = None,
    own: ArrayLike | None = None,
) -> float:
    """Median over queries of the rank of the first relevant item, from 1 (MedR).

    A rank beyond the neighbours that are given is infinite, and so is the median where at least
    half of the ranks are: search for more neighbours then. Queries without a relevant item are left
    out; NaN where no query has one.

    Parameters
    ----------
    neighbors, y_query, y_gallery, k, own
        As in :func:`recall_at_k`.

    Returns
    -------
    float
        At least 1, the lower the better.

    Examples
    --------
    >>> from skmmg.metrics import median_rank
    >>> median_rank([[0, 1, 2], [2, 1, 0], [2, 0, 1]], [0, 0, 2])
    1.0
    """
    judged = judge(neighbors, y_query, y_gallery, k, own)
    ranks = np.sort(judged.first_ranks()[judged.n_relevant > 0])
    if not len(ranks):
        return float("nan")
    middle = len(ranks) // 2
    return float(ranks[middle] if len(ranks) % 2 else (ranks[middle - 1] + ranks[middle]) / 2)
