"""Scorers of retrieval: with scikit-learn's searches, pairs, labels and one modality."""

from __future__ import annotations

import pickle
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.cross_decomposition import CCA
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics.pairwise import cosine_distances
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmmg import CrossModalRetriever
from skmmg.metrics import make_retrieval_scorer, mean_average_precision, median_rank, recall_at_k


class TwoViews(BaseEstimator):
    """The least that a retriever has to be: CCA of the left and the right half of the columns."""

    def __init__(self, n_components: int = 2, query: str = "left", gallery: str = "right") -> None:
        self.n_components, self.query, self.gallery = n_components, query, gallery

    def fit(self, X: Any, y: Any = None) -> Self:
        self.cca_ = CCA(self.n_components).fit(*np.hsplit(X, 2))
        self.query_, self.gallery_ = self.query, self.gallery
        return self

    def transform(self, X: Any, modality: str | None = None) -> Any:
        return self.cca_.transform(*np.hsplit(X, 2))[(modality or self.query) == "right"]


@pytest.fixture
def X() -> Any:
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((120, 3))
    views = [latent @ rng.standard_normal((3, 6)) for _ in range(2)]
    return np.hstack(views) + 0.3 * rng.standard_normal((120, 12))


def neighbors_of(model: TwoViews, X: Any, query: str, gallery: str) -> Any:
    distances = cosine_distances(model.transform(X, query), model.transform(X, gallery))
    if query == gallery:
        np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1)


def test_pairs_are_scored_without_y(X: Any) -> None:
    model = TwoViews().fit(X[:80])

    value = make_retrieval_scorer("recall_at_k", k=3)(model, X[80:])

    ranking = neighbors_of(model, X[80:], "left", "right")
    assert value == recall_at_k(ranking, np.arange(40), k=3) > 0.2


def test_labels_are_scored_with_y_in_any_direction(X: Any) -> None:
    model, y = TwoViews().fit(X[:80]), X[80:, 0] > 0
    scorer = make_retrieval_scorer(
        mean_average_precision, k=None, query="right", gallery="left", normalize_by="relevant"
    )

    ranking = neighbors_of(model, X[80:], "right", "left")
    assert scorer(model, X[80:], y) == mean_average_precision(ranking, y, y)


def test_within_a_modality_an_item_neither_finds_nor_answers_itself(X: Any) -> None:
    model, y = TwoViews().fit(X), X[:, 0] > 0
    scorer = make_retrieval_scorer(k=5, query="left", gallery="left")

    value = scorer(model, X, y)

    others = neighbors_of(model, X, "left", "left")[:, :-1]  # the last one is the item itself
    found = (y[others] == y[:, None])[:, :5].sum(axis=1)
    assert value == pytest.approx(np.mean(found / (np.bincount(y)[y.astype(int)] - 1)))


class Given(BaseEstimator):
    """Vectors are what is given."""

    query_ = gallery_ = "all"

    def transform(self, X: Any, modality: str | None = None) -> Any:
        return X


@pytest.mark.parametrize("metric", ["recall_at_k", "mean_average_precision", "ndcg"])
def test_a_perfect_ranking_within_a_modality_scores_one(metric: str) -> None:
    X, y = np.repeat(np.eye(3), 4, axis=0), np.repeat([0, 1, 2], 4)

    assert make_retrieval_scorer(metric, k=None)(Given(), X, y) == pytest.approx(1.0)


def test_a_class_of_one_item_has_nothing_to_find_within_a_modality() -> None:
    X, y = np.eye(4), np.array([0, 0, 0, 1])

    values = [
        make_retrieval_scorer(k=None, zero_division=zero)(Given(), X, y) for zero in (0.0, np.nan)
    ]

    assert values == [0.75, 1.0]


def test_within_a_modality_classes_are_needed(X: Any) -> None:
    with pytest.raises(ValueError, match=r"Within one modality, 'all', no item .* Pass y"):
        make_retrieval_scorer(k=5)(Given(), X)


def test_the_median_rank_is_negated(X: Any) -> None:
    model = TwoViews().fit(X)

    value = make_retrieval_scorer("median_rank", k=None)(model, X)

    ranking = neighbors_of(model, X, "left", "right")
    assert value == -median_rank(ranking, np.arange(len(X)))


def test_a_grid_search_picks_by_the_scorer(X: Any) -> None:
    search = GridSearchCV(TwoViews(), {"n_components": [1, 3]}, scoring=make_retrieval_scorer(k=5))

    assert search.fit(X).best_params_ == {"n_components": 3}


def test_the_retriever_of_this_package_is_scored(X: Any) -> None:
    modalities = {"left": slice(0, 6), "right": slice(6, 12)}
    retriever = CrossModalRetriever("left", "right", model="cca", modalities=modalities).fit(X[:80])

    value = make_retrieval_scorer(k=retriever.n_neighbors)(retriever, X[80:])

    assert value == retriever.score(X[80:])


def test_classes_may_be_a_column_as_in_the_score_of_a_retriever(X: Any) -> None:
    modalities = {"left": slice(0, 6), "right": slice(6, 12)}
    retriever = CrossModalRetriever("left", "right", model="cca", modalities=modalities).fit(X)
    y = np.arange(120) % 3
    scorer = make_retrieval_scorer("mean_average_precision", k=None)

    for column in (y[:, None], pd.DataFrame({"class": y})):
        with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
            assert scorer(retriever, X, column) == scorer(retriever, X, y)
    with pytest.warns(DataConversionWarning):
        assert retriever.score(X, y[:, None]) == pytest.approx(scorer(retriever, X, y))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([None, *"a" * 119], ValueError, "Input y contains NaN, None or NA"),
        (["a", 1] * 60, ValueError, "labels of one kind"),
        (np.ma.masked_equal(np.arange(120) % 3, 2), TypeError, "y must not be a masked array"),
    ],
)
def test_what_is_no_class_is_told(X: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_retrieval_scorer(k=5)(TwoViews().fit(X), X, y)


def test_several_scorers_and_a_pipeline_work(X: Any) -> None:
    scoring = {"r": make_retrieval_scorer(k=5), "m": make_retrieval_scorer("ndcg", k=None)}
    pipeline = make_pipeline(StandardScaler(), TwoViews())

    scores = cross_validate(pipeline, X, X[:, 0] > 0, scoring=scoring, cv=3)

    assert (scores["test_r"] > 0).all()
    assert (scores["test_m"] <= 1).all()


@pytest.mark.parametrize(
    "wrap",
    [
        make_pipeline,
        lambda m: make_pipeline(StandardScaler(), make_pipeline(m)),
        lambda m: GridSearchCV(m, {"n_components": [2]}, scoring=make_retrieval_scorer(k=5)),
        lambda m: GridSearchCV(
            make_pipeline(m),
            {"twoviews__n_components": [2]},
            scoring=make_retrieval_scorer(k=5),
        ),
    ],
    ids=["one step", "nested", "search", "search of a pipeline"],
)
def test_a_retriever_is_scored_inside_of_pipelines_and_searches(X: Any, wrap: Any) -> None:
    scores = cross_val_score(wrap(TwoViews()), X, scoring=make_retrieval_scorer(k=5), cv=3)

    alone = cross_val_score(TwoViews(), X, scoring=make_retrieval_scorer(k=5), cv=3)
    np.testing.assert_allclose(scores, alone)


def test_a_scorer_survives_pickling(X: Any) -> None:
    scorer = make_retrieval_scorer("mean_reciprocal_rank", k=5)
    model = TwoViews().fit(X)

    assert pickle.loads(pickle.dumps(scorer))(model, X) == scorer(model, X)


@pytest.mark.parametrize("metric", ["recal", len, lambda *a: 0.0])
def test_an_unknown_metric_is_told(metric: Any) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        make_retrieval_scorer(metric)


def test_more_neighbours_than_items_are_told(X: Any) -> None:
    with pytest.raises(ValueError, match="each of the 120 items to be scored has 119 others"):
        make_retrieval_scorer(k=120, query="left", gallery="left")(
            TwoViews().fit(X), X, X[:, 0] > 0
        )
    with pytest.raises(ValueError, match="each of the 1 items to be scored has 0 others"):
        make_retrieval_scorer(k=None)(Given(), X[:1], [0])
