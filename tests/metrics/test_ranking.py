"""Metrics of ranked neighbours: against loops, torchmetrics and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score
from torchmetrics.functional import retrieval as torchmetrics

from skmmg.metrics import (
    hit_rate_at_k,
    mean_average_precision,
    mean_reciprocal_rank,
    median_rank,
    ndcg,
    precision_at_k,
    recall_at_k,
)

Metric = Callable[..., Any]
EVERY = [
    recall_at_k,
    hit_rate_at_k,
    precision_at_k,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg,
]
N_QUERIES, N_GALLERY = 40, 30


@pytest.fixture
def ranking() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Whole rankings of a gallery, labels of queries (class 4 is nowhere in it) and gallery."""
    rng = np.random.default_rng(0)
    neighbors = rng.permuted(np.tile(np.arange(N_GALLERY), (N_QUERIES, 1)), axis=1)
    return neighbors, rng.integers(5, size=N_QUERIES), rng.integers(4, size=N_GALLERY)


def by_hand(metric: Metric, relevant: list[bool], n_relevant: int, k: int) -> float:
    """One query, from the definitions, rank by rank."""
    top = relevant[:k]
    if n_relevant == 0:
        return 0.0
    if metric is recall_at_k:
        return sum(top) / n_relevant
    if metric is hit_rate_at_k:
        return float(any(top))
    if metric is precision_at_k:
        return sum(top) / k
    if metric is mean_reciprocal_rank:
        return max([1.0 / (r + 1) for r in range(k) if top[r]], default=0.0)
    if metric is ndcg:
        ideal = sum(1.0 / np.log2(r + 2) for r in range(min(n_relevant, k)))
        return sum(1.0 / np.log2(r + 2) for r in range(k) if top[r]) / ideal
    precisions = [sum(top[: r + 1]) / (r + 1) for r in range(k) if top[r]]
    return sum(precisions) / min(n_relevant, k)


@pytest.mark.parametrize("k", [1, 3, 10, N_GALLERY])
@pytest.mark.parametrize("metric", EVERY)
def test_a_metric_of_labels_is_what_its_definition_says(
    ranking: Any, metric: Metric, k: int
) -> None:
    neighbors, y_query, y_gallery = ranking

    values = metric(neighbors, y_query, y_gallery, k=k, average=False)

    expected = [
        by_hand(metric, [y_gallery[i] == y for i in row], int((y_gallery == y).sum()), k)
        for row, y in zip(neighbors, y_query, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert metric(neighbors, y_query, y_gallery, k=k) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("k", [1, 3, 10, N_GALLERY])
@pytest.mark.parametrize("metric", EVERY)
def test_a_metric_of_pairs_is_what_its_definition_says(
    ranking: Any, metric: Metric, k: int
) -> None:
    neighbors, right = ranking[0], np.arange(N_QUERIES) % N_GALLERY

    values = metric(neighbors, right, k=k, average=False)

    expected = [
        by_hand(metric, [i == answer for i in row], 1, k)
        for row, answer in zip(neighbors, right, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10, N_GALLERY])
@pytest.mark.parametrize(
    ("metric", "other", "options"),
    [
        (recall_at_k, torchmetrics.retrieval_recall, {}),
        (hit_rate_at_k, torchmetrics.retrieval_hit_rate, {}),
        (precision_at_k, torchmetrics.retrieval_precision, {}),
        (mean_reciprocal_rank, torchmetrics.retrieval_reciprocal_rank, {}),
        (ndcg, torchmetrics.retrieval_normalized_dcg, {}),
        (
            mean_average_precision,
            torchmetrics.retrieval_average_precision,
            {"normalize_by": "retrieved"},
        ),
    ],
)
def test_a_metric_equals_that_of_torchmetrics(
    ranking: Any, metric: Metric, other: Callable[..., Any], options: dict[str, Any], k: int
) -> None:
    neighbors, y_query, y_gallery = ranking

    values = metric(neighbors, y_query, y_gallery, k=k, average=False, **options)

    scores = torch.arange(N_GALLERY, 0, -1).double()  # by rank
    expected = [
        float(other(scores, torch.tensor(y_gallery[row] == y), top_k=k))
        for row, y in zip(neighbors, y_query, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, N_GALLERY])
def test_ndcg_of_the_neighbours_equals_that_of_scikit_learn_over_the_gallery(
    ranking: Any, k: int
) -> None:
    neighbors, y_query, y_gallery = ranking
    scores = np.empty((N_QUERIES, N_GALLERY))
    np.put_along_axis(scores, neighbors, -np.arange(N_GALLERY)[None, :].astype(float), axis=1)

    expected = ndcg_score(y_query[:, None] == y_gallery, scores, k=k)

    assert ndcg(neighbors[:, :k], y_query, y_gallery) == pytest.approx(expected, rel=1e-12)


def test_over_a_whole_ranking_the_normalisations_of_map_agree(ranking: Any) -> None:
    values = {
        mean_average_precision(*ranking, normalize_by=name)
        for name in ("attainable", "relevant", "retrieved")
    }

    assert max(values) - min(values) < 1e-12


def test_map_at_k_differs_by_what_it_is_normalised_by() -> None:
    values = [
        mean_average_precision([[0, 1]], [0], [0, 1, 0, 0], normalize_by=name)
        for name in ("attainable", "relevant", "retrieved")
    ]

    assert values == [1 / 2, 1 / 3, 1.0]


@pytest.mark.parametrize("metric", EVERY)
def test_a_query_without_a_relevant_item_counts_as_asked(metric: Metric) -> None:
    neighbors, y_query, y_gallery = [[0, 1], [0, 1]], ["a", "c"], ["a", "a"]

    assert metric(neighbors, y_query, y_gallery) == 0.5
    assert metric(neighbors, y_query, y_gallery, zero_division=1.0) == 1.0
    assert metric(neighbors, y_query, y_gallery, zero_division=np.nan) == 1.0
    assert np.isnan(metric(neighbors[1:], y_query[1:], y_gallery, zero_division=np.nan))


@pytest.mark.parametrize("metric", EVERY)
def test_a_pair_without_an_answer_is_a_query_without_a_relevant_item(metric: Metric) -> None:
    assert metric([[0, 1], [-1, -1]], [0, -1], zero_division=np.nan, k=1) == 1.0


@pytest.mark.parametrize("metric", [*EVERY, median_rank])
def test_a_missing_neighbour_is_not_relevant(metric: Metric) -> None:
    labels = ["b", "a"]  # position -1 would be the last one, an "a"

    assert metric([[0, -1, -1]], ["a"], labels) in (0.0, np.inf)


@pytest.mark.parametrize(
    ("right", "expected"), [([0, 1, 2], 1.0), ([0, 2, 3], 2.0), ([3, 3, 1], np.inf), ([-1] * 3, 0)]
)
def test_the_median_rank_counts_from_one_and_knows_no_rank_beyond_k(
    right: list[int], expected: float
) -> None:
    neighbors = [[0, 2, 1], [1, 2, 0], [2, 3, 1]]

    value = median_rank(neighbors, right, k=2)

    assert value == expected or (expected == 0 and np.isnan(value))


def test_the_median_of_an_even_number_of_ranks_is_their_middle() -> None:
    assert median_rank([[0, 1], [0, 1]], [0, 1]) == 1.5


@pytest.mark.parametrize("metric", [*EVERY, median_rank])
def test_a_query_of_the_gallery_is_no_answer_to_itself(metric: Metric) -> None:
    neighbors, y = [[1, 2], [0, 2], [0, 1]], ["a", "a", "b"]
    options = {} if metric is median_rank else {"zero_division": np.nan}

    value = metric(neighbors, y, y, own=np.arange(3), k=1, **options)

    assert value == 1.0  # the only "b" has no answer


def test_labels_may_be_strings_of_pandas() -> None:
    assert recall_at_k([[0]], pd.Series(["a"]), pd.Series(["a"], dtype=object)) == 1.0


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None, None],
        [1.0, np.nan, np.nan],
        pd.Series(["a", np.nan, np.nan], dtype=object),
        pd.Series(["a", None, None], dtype="str"),
        pd.Series(["a", None, None], dtype="string"),
        pd.Series([1, None, None], dtype="Int64"),
        pd.Categorical(["a", None, None]),
    ],
    ids=lambda labels: str(getattr(labels, "dtype", labels)),
)
def test_missing_labels_are_an_error(labels: Any) -> None:
    with pytest.raises(
        ValueError, match=r"without missing values .* got one at position 1\. Leave"
    ):
        recall_at_k([[1, 2], [0, 2], [0, 1]], labels, labels, k=2)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[0.5]], [0]), {}, "must be integers of shape"),
        (([0, 1], [0]), {}, "must be integers of shape"),
        ((np.empty((0, 2), int), []), {}, "at least one query"),
        (([[0, -2]], [0]), {}, "got -2"),
        (([[0, 1]], [0]), {"k": 3}, "from 1 to 2"),
        (([[0, 1]], [0]), {"k": 0}, "from 1 to 2"),
        (([[0, 0]], [0]), {}, "query 0 has item 0 twice"),
        (([[0, 1]], [0, 1]), {}, "one value per row"),
        (([[0, 1]], ["cat"]), {}, "For labels, give y_gallery"),
        (([[0, 1]], ["cat"], ["cat"]), {}, "from 0 to 0"),
        (([[0, 1]], ["1"], [1, 2]), {}, "labels of one kind"),
        (([[0, 1]], [1], ["1", 1]), {}, "labels of one kind, got strings and others"),
        (([[0, 1]], [1, 2], [1, 2]), {"own": [0]}, "one value per row"),
        (([[1]], [1], [1, 2]), {"own": [0, 1]}, r"own must be integers of shape \(1,\)"),
        (([[1]], [1], [1, 2]), {"own": [0.0]}, "own must be integers"),
        (([[1]], [1], [1, 2]), {"own": [2]}, "own must be positions in y_gallery, from 0 to 1"),
        (([[1, 0]], [1], [1, 2]), {"own": [0]}, "no query may be among its neighbours, but que"),
        (([[1]], [1]), {"own": [0]}, "own needs y_gallery"),
        (([[0, 1]], [[0]]), {}, "one dimension"),
        (([[0, 1]], [0]), {"zero_division": 0.5}, "0.0, 1.0 or nan"),
    ],
)
def test_a_metric_says_what_it_expected(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recall_at_k(*arguments, **options)


def test_an_unknown_normalisation_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        mean_average_precision([[0]], [0], normalize_by="r")
