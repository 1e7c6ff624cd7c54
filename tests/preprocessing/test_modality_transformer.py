"""ModalityTransformer on columns and on the nodes of a graph."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import (
    RFE,
    SelectFpr,
    SelectFromModel,
    SelectKBest,
    SelectPercentile,
    VarianceThreshold,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmmg.graph import MultiModalGraph, NodeView
from skmmg.preprocessing import ModalityTransformer
from skmmg.preprocessing._fitting import is_supervised

MODALITIES = {"image": slice(0, 3), "text": slice(3, 8)}
N_MOVIES, N_DIRECTORS, N_AWARDS = 30, 12, 8


class FirstRows(ClassifierMixin, BaseEstimator):
    """A logistic regression on one dense modality of a view."""

    def __init__(self, modality: str = "text") -> None:
        self.modality = modality

    def _columns(self, X: NodeView) -> Any:
        return X.graph.x[X.node_type][self.modality][X.ids]

    def fit(self, X: NodeView, y: Any) -> FirstRows:
        self.model_ = LogisticRegression().fit(self._columns(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: NodeView) -> Any:
        return self.model_.predict(self._columns(X))


@pytest.fixture
def X() -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 3.0, size=(20, 8))


@pytest.fixture
def y() -> np.ndarray:
    return np.arange(N_MOVIES) % 2


def make_graph(
    *, text_shift: Any = 0.0, movie_masks: Any = None, edges: Any = None
) -> MultiModalGraph:
    """Movies and directors share the columns of their text, awards do not."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(N_MOVIES, 4))
    image[[2, 5]] = np.nan
    return MultiModalGraph(
        {
            "movie": {
                "text": rng.normal(1.0, 2.0, size=(N_MOVIES, 6)) + text_shift,
                "image": image,
            },
            "director": {"text": rng.normal(-3.0, 0.5, size=(N_DIRECTORS, 6))},
            "award": {"text": rng.normal(7.0, 1.0, size=(N_AWARDS, 2))},
            "actor": 5,
        },
        {("movie", "directed_by", "director"): [range(12), range(12)]} if edges is None else edges,
        masks=movie_masks,
    )


@pytest.fixture
def graph() -> MultiModalGraph:
    return make_graph()


def mean_of(transformer: ModalityTransformer, node_type: str, modality: str) -> np.ndarray:
    return transformer.transformers_[node_type, modality].mean_


# ------------------------------------------------------------------------------ columns


@parametrize_with_checks(
    [
        ModalityTransformer(StandardScaler()),
        ModalityTransformer({"x": TruncatedSVD(1, random_state=0)}),
        ModalityTransformer(SelectKBest(k=1)),
        ModalityTransformer("passthrough"),
    ]
)
def test_the_checks_of_scikit_learn_pass(estimator: Any, check: Any) -> None:
    check(estimator)


def test_each_modality_has_its_own_transformer(X: np.ndarray) -> None:
    transformer = ModalityTransformer(
        {"text": PCA(2), "image": StandardScaler()}, modalities=MODALITIES
    )

    out = transformer.fit_transform(X)

    assert_allclose(out[:, :3], StandardScaler().fit_transform(X[:, :3]))
    assert_allclose(out[:, 3:], PCA(2).fit_transform(X[:, 3:]))
    assert transformer.modalities_ == {"image": slice(0, 3), "text": slice(3, 5)}
    assert list(transformer.transformers_) == ["image", "text"]
    assert transformer.n_features_in_ == 8


def test_a_single_transformer_is_fitted_once_per_modality(X: np.ndarray) -> None:
    transformer = ModalityTransformer(PCA(1), modalities=MODALITIES).fit(X)

    assert transformer.transform(X).shape == (20, 2)
    assert transformer.transformers_["image"] is not transformer.transformers_["text"]


@pytest.mark.parametrize(("remainder", "names"), [("drop", ["text"]), ("passthrough", MODALITIES)])
def test_remainder_says_what_becomes_of_other_modalities(
    X: np.ndarray, remainder: str, names: Any
) -> None:
    transformer = ModalityTransformer(
        {"text": StandardScaler()}, modalities=MODALITIES, remainder=remainder
    ).fit(X)

    assert list(transformer.modalities_) == list(names)
    assert transformer.transformers_["image"] == remainder


def test_columns_of_no_modality_are_left_out_and_shared_ones_are_repeated(X: np.ndarray) -> None:
    transformer = ModalityTransformer("passthrough", modalities={"a": [0, 1], "b": slice(1, 3)})

    assert_array_equal(transformer.fit_transform(X), X[:, [0, 1, 1, 2]])


def test_dropping_every_modality_is_an_error(X: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be kept, but \['x'\] are all dropped"):
        ModalityTransformer({"x": "drop"}).fit(X)


def test_a_missing_row_takes_no_part_in_fit_and_stays_missing(X: np.ndarray) -> None:
    X[4, :3] = np.nan
    others = np.arange(20) != 4
    transformer = ModalityTransformer(StandardScaler(), modalities=MODALITIES)

    out = transformer.fit_transform(X)

    assert np.isnan(out[4, :3]).all()
    assert_allclose(out[others, :3], StandardScaler().fit_transform(X[others, :3]))
    assert_allclose(out[:, 3:], StandardScaler().fit_transform(X[:, 3:]))


def test_a_row_with_some_nan_is_given_to_an_imputer(X: np.ndarray) -> None:
    X[4, :3] = np.nan
    X[6, 0] = np.nan
    transformer = ModalityTransformer({"image": SimpleImputer()}, modalities=MODALITIES)

    out = transformer.fit_transform(X)

    assert np.isnan(out[4, :3]).all()
    assert out[6, 0] == pytest.approx(np.nanmean(X[:, 0]))


def test_a_batch_in_which_all_rows_lack_a_modality_is_transformed(X: np.ndarray) -> None:
    transformer = ModalityTransformer({"text": PCA(2)}, modalities=MODALITIES).fit(X)
    X[:, 3:] = np.nan

    out = transformer.transform(X[:1])

    assert out.shape == (1, 5)
    assert np.isnan(out[0, 3:]).all()


def test_a_modality_that_no_row_of_fit_has_is_an_error(X: np.ndarray) -> None:
    X[:, :3] = np.nan

    with pytest.raises(ValueError, match="'image' of node type 'row' must have at least one row"):
        ModalityTransformer(StandardScaler(), modalities=MODALITIES).fit(X)


def test_integer_output_becomes_float_where_rows_are_missing(X: np.ndarray) -> None:
    X[4, :3] = np.nan
    to_int = FunctionTransformer(lambda x: (x > 0).astype(np.int8))

    out = ModalityTransformer(to_int, modalities={"image": slice(0, 3)}).fit_transform(X)

    assert out.dtype == np.float32
    assert np.isnan(out[4]).all()
    assert set(out[:4].ravel()) <= {0.0, 1.0}


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array])
def test_sparse_stays_sparse(X: np.ndarray, container: Any) -> None:
    X[X < 2] = 0
    transformer = ModalityTransformer({"text": MaxAbsScaler()}, modalities=MODALITIES)

    out = transformer.fit_transform(container(X))

    assert sparse.issparse(out)
    assert_allclose(out.toarray(), np.hstack([X[:, :3], X[:, 3:] / X[:, 3:].max(axis=0)]))


def test_a_missing_row_of_sparse_output_is_a_row_of_stored_nan(X: np.ndarray) -> None:
    X = np.round(X)
    X[4, :2] = np.nan
    transformer = ModalityTransformer(OneHotEncoder(), modalities={"image": slice(0, 2)})

    out = transformer.fit_transform(X)

    assert sparse.issparse(out)
    assert np.isnan(out[[4]].toarray()).all()
    assert_array_equal(np.delete(out.toarray(), 4, axis=0).sum(axis=1), np.full(19, 2.0))


def test_y_reaches_supervised_transformers_without_the_missing_rows(X: np.ndarray) -> None:
    labels = (X[:, 1] > 2).astype(int)
    X[4, :3] = np.nan
    transformer = ModalityTransformer({"image": SelectKBest(k=1)}, modalities=MODALITIES)

    transformer.fit(X, labels.tolist())

    assert transformer.get_feature_names_out()[0] == "image__x1"


def test_names_of_columns_say_their_modality(X: np.ndarray) -> None:
    frame = pd.DataFrame(X, columns=[f"i{k}" for k in range(3)] + [f"t{k}" for k in range(5)])
    transformer = ModalityTransformer(
        {"text": TruncatedSVD(2)}, modalities={"image": "i", "text": "t"}
    ).set_output(transform="pandas")

    out = transformer.fit_transform(frame)

    names = ["image__i0", "image__i1", "image__i2", "text__truncatedsvd0", "text__truncatedsvd1"]
    assert list(out.columns) == names
    assert list(transformer.feature_names_in_) == list(frame.columns)


def test_the_next_step_finds_modalities_by_prefix(X: np.ndarray) -> None:
    first = ModalityTransformer({"text": PCA(2)}, modalities=MODALITIES)
    second = ModalityTransformer(
        {"text": StandardScaler()}, modalities={"text": "text__", "image": "image__"}
    )
    pipe = make_pipeline(first, second).set_output(transform="pandas")

    names = list(pipe.fit_transform(X).columns)

    assert names == ["text__pca0", "text__pca1", "image__x0", "image__x1", "image__x2"]


def test_a_transformer_without_names_gets_numbered_ones(X: np.ndarray) -> None:
    transformer = ModalityTransformer({"text": FunctionTransformer()}, modalities=MODALITIES)

    names = transformer.fit(X).get_feature_names_out()

    assert names[-1] == "text__functiontransformer4"


def test_masked_arrays_are_errors(X: np.ndarray) -> None:
    transformer = ModalityTransformer(StandardScaler(), modalities=MODALITIES)
    masked, y = np.ma.masked_greater(X, 1), np.ma.masked_equal(np.arange(len(X)) % 2, 3)

    for use in (transformer.fit(X).transform, transformer.fit):
        with pytest.raises(TypeError, match=r"X must not be a masked array.*filled\(np\.nan\)"):
            use(masked)
    with pytest.raises(TypeError, match=r"y must not be a masked array\. Leave the masked"):
        transformer.fit(X, y)


# -------------------------------------------------------------------- text and categories

CLINIC = {"clinic": ["sex", "age", "site"], "image": "img_"}


@pytest.fixture
def patients() -> pd.DataFrame:
    """A table of text, numbers and categories, of which row 2 is missing, beside a matrix."""
    return pd.DataFrame(
        {
            "code": list("abcdef"),
            "sex": ["f", "m", None, "f", None, "m"],
            "age": [31.0, 50.0, np.nan, np.nan, 44.0, 28.0],
            "site": pd.Categorical(["x", "y", None, "y", "x", "x"]),
            "img_0": np.arange(6.0),
            "img_1": np.arange(6) % 2,
        },
        index=list("uvwxyz"),
    )


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else matrix


def encode_by_column() -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["sex", "site"]),
            ("age", SimpleImputer(), ["age"]),
        ]
    )


def test_a_table_with_text_reaches_its_transformer_as_a_data_frame(patients: pd.DataFrame) -> None:
    transformer = ModalityTransformer({"clinic": encode_by_column()}, modalities=CLINIC)

    out = transformer.fit_transform(patients)

    there = np.arange(6) != 2
    table = patients.loc[there, CLINIC["clinic"]]
    assert_allclose(out[there, :-2], encode_by_column().fit_transform(table))
    assert np.isnan(out[2, :-2]).all()
    assert_array_equal(out[:, -2:], patients[["img_0", "img_1"]])
    assert transformer.n_features_in_ == 6
    assert list(transformer.get_feature_names_out())[-3:] == [
        "clinic__age__age",
        "image__img_0",
        "image__img_1",
    ]


@pytest.mark.parametrize(
    "transformer",
    [
        OrdinalEncoder(),
        OneHotEncoder(),
        make_pipeline(encode_by_column(), StandardScaler(), PCA(2)),
        encode_by_column().set_output(transform="pandas"),
    ],
    ids=lambda transformer: type(transformer).__name__,
)
def test_rows_of_a_table_are_transformed_one_by_one(
    transformer: Any, patients: pd.DataFrame
) -> None:
    fitted = ModalityTransformer({"clinic": transformer}, modalities=CLINIC).fit(patients)

    parts = [pd.DataFrame(dense(fitted.transform(patients.iloc[[row]]))) for row in range(6)]

    assert_allclose(pd.concat(parts), dense(fitted.transform(patients)))


def test_a_table_of_polars_is_encoded(patients: pd.DataFrame) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {
            name: patients[name].astype(object).where(patients[name].notna(), None).tolist()
            for name in patients
        }
    )
    transformer = ModalityTransformer({"clinic": OrdinalEncoder()}, modalities=CLINIC)

    out = transformer.fit_transform(frame)

    there = np.arange(6) != 2
    table = frame.select(CLINIC["clinic"])[np.flatnonzero(there)]
    assert_array_equal(out[there, :3], OrdinalEncoder().fit_transform(table))
    assert np.isnan(out[2, :3]).all()


@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(),
        CountVectorizer(),
        HashingVectorizer(n_features=8),
        make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0)),
        make_pipeline("passthrough", CountVectorizer()),
        make_union(TfidfVectorizer(), CountVectorizer(analyzer="char")),
    ],
    ids=lambda vectorizer: type(vectorizer).__name__,
)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_column_of_text_reaches_a_vectorizer_as_texts(vectorizer: Any, library: str) -> None:
    texts = ["good film", "bad film", None, "odd film", "good"]
    frame = pytest.importorskip(library).DataFrame({"title": texts, "year": np.arange(5.0)})
    there = [text is not None for text in texts]
    transformer = ModalityTransformer(
        {"text": vectorizer}, modalities={"text": ["title"], "x": ["year"]}
    )

    out = dense(transformer.fit_transform(frame))

    alone = dense(clone(vectorizer).fit_transform([text for text in texts if text]))
    assert_allclose(out[there, :-1], alone)
    assert np.isnan(out[2, :-1]).all()
    assert_array_equal(out[:, -1], np.arange(5))
    assert_allclose(dense(transformer.transform(frame[1:3])), out[1:3])


def test_what_comes_out_of_a_vectorizer_is_named_by_words() -> None:
    frame = pd.DataFrame({"title": ["good film", "bad film"]})
    transformer = ModalityTransformer({"text": CountVectorizer()}, modalities={"text": ["title"]})

    names = transformer.fit(frame).get_feature_names_out()

    assert list(names) == ["text__bad", "text__film", "text__good"]


def test_several_columns_of_text_are_an_error_that_names_the_column_transformer() -> None:
    frame = pd.DataFrame({"title": ["good", "bad"], "plot": ["he dies", "she dies"]})
    encode = ColumnTransformer([(c, TfidfVectorizer(), c) for c in frame])
    message = (
        r"one column of text, got \['title', 'plot'\]\. Give .* "
        r"ColumnTransformer\(\[\('title', TfidfVectorizer\(\), 'title'\), "
    )

    with pytest.raises(ValueError, match=message):
        ModalityTransformer(TfidfVectorizer()).fit(frame)
    assert ModalityTransformer(encode).fit_transform(frame).shape == (2, 5)


def test_what_comes_out_of_a_table_names_its_columns(patients: pd.DataFrame) -> None:
    transformer = ModalityTransformer({"clinic": OrdinalEncoder()}, modalities=CLINIC)

    out = transformer.set_output(transform="pandas").fit_transform(patients)

    assert list(out.columns) == [
        "clinic__sex",
        "clinic__age",
        "clinic__site",
        "image__img_0",
        "image__img_1",
    ]
    assert list(out.index) == list("uvwxyz")


def test_a_table_is_encoded_with_y(patients: pd.DataFrame) -> None:
    transformer = ModalityTransformer(
        {"clinic": TargetEncoder(cv=2, random_state=0)}, modalities=CLINIC
    )
    y = np.array([0, 1, 1, 0, 0, 1])
    there = np.arange(6) != 2

    out = clone(transformer).fit(patients, y).transform(patients)

    alone = TargetEncoder(cv=2, random_state=0).fit(patients.loc[there, CLINIC["clinic"]], y[there])
    assert_allclose(out[there, :3], alone.transform(patients.loc[there, CLINIC["clinic"]]))


def test_text_may_be_dropped_or_be_in_no_modality(patients: pd.DataFrame) -> None:
    dropped = ModalityTransformer({"clinic": "drop"}, modalities=CLINIC).fit_transform(patients)
    left_out = ModalityTransformer("passthrough", modalities={"image": "img_"})

    assert_array_equal(dropped, patients[["img_0", "img_1"]])
    assert_array_equal(left_out.fit_transform(patients), dropped)


def test_numbers_beside_a_table_reach_their_transformer_as_a_matrix(
    patients: pd.DataFrame,
) -> None:
    seen = []
    image = FunctionTransformer(lambda rows: seen.append(type(rows)) or rows)

    ModalityTransformer({"clinic": OrdinalEncoder(), "image": image}, modalities=CLINIC).fit(
        patients
    )

    assert set(seen) == {np.ndarray}


def test_objects_that_are_numbers_are_numbers(X: np.ndarray) -> None:
    X[4, :3] = np.nan
    frame = pd.DataFrame(X).rename(columns="c{}".format)
    objects = frame.astype(object).where(frame.notna(), None).assign(code="a")
    transformer = ModalityTransformer(
        {"image": FunctionTransformer(np.exp), "text": PCA(2)}, modalities=MODALITIES
    )

    out = transformer.fit_transform(objects)

    assert_allclose(out, transformer.fit_transform(X))


def test_the_pickle_of_an_encoded_table_gives_the_same_output(patients: pd.DataFrame) -> None:
    transformer = ModalityTransformer({"clinic": OrdinalEncoder()}, modalities=CLINIC)
    transformer.fit(patients)

    again = pickle.loads(pickle.dumps(transformer))

    assert_array_equal(again.transform(patients), transformer.transform(patients))


@pytest.mark.parametrize("transformers", [{}, "passthrough", {"image": StandardScaler()}])
def test_text_without_a_transformer_is_named(patients: pd.DataFrame, transformers: Any) -> None:
    message = r"'clinic' must have numeric columns, because .* in \['sex', 'site'\]. Give it one"

    with pytest.raises(ValueError, match=message):
        ModalityTransformer(transformers, modalities=CLINIC).fit(patients)


def test_a_wrong_key_is_told_before_the_text(patients: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"got 'clinc'\. Did you mean 'clinic'"):
        ModalityTransformer({"clinc": OrdinalEncoder()}, modalities=CLINIC).fit(patients)


def test_text_that_stays_text_is_an_error(patients: pd.DataFrame) -> None:
    imputer = SimpleImputer(strategy="most_frequent")

    with pytest.raises(TypeError, match=r"Modality 'clinic' must hold numbers .* dtype object"):
        ModalityTransformer({"clinic": imputer}, modalities=CLINIC).fit(patients)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (pd.DataFrame.to_numpy, TypeError, "must be a DataFrame, as it was in fit, where 'clinic'"),
        (lambda frame: frame[frame.columns[::-1]], ValueError, "must be in the same order"),
        (lambda frame: frame.iloc[:0], ValueError, "must have at least one row"),
        (
            lambda frame: frame.assign(img_1="x"),
            ValueError,
            r"'image' must have numeric columns, as in fit, .* in \['img_1'\]",
        ),
        (lambda frame: frame.assign(img_1=np.inf), ValueError, "modality 'image' contains inf"),
    ],
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_another_table_than_in_fit_is_an_error(
    patients: pd.DataFrame, change: Any, error: type[Exception], message: str
) -> None:
    transformer = ModalityTransformer({"clinic": OrdinalEncoder()}, modalities=CLINIC)

    with pytest.raises(error, match=message):
        transformer.fit(patients).transform(change(patients))


# --------------------------------------------------------------------------- parameters


def test_parameters_are_reached_by_key() -> None:
    transformer = ModalityTransformer({"text": PCA(2), ("director", "text"): StandardScaler()})

    transformer.set_params(**{"text__n_components": 3, "director/text__with_mean": False})

    params = transformer.get_params()
    assert params["text__n_components"] == 3
    assert params["director/text__with_mean"] is False
    assert params["director/text"] is transformer.transformers["director", "text"]


def test_exchanging_a_transformer_leaves_the_dict_of_the_caller_alone() -> None:
    given = {"text": PCA(2), ("director", "text"): "drop"}
    transformer = ModalityTransformer(given)

    transformer.set_params(**{"director/text": "passthrough", "text": MaxAbsScaler()})

    assert isinstance(given["text"], PCA)
    assert transformer.transformers["director", "text"] == "passthrough"
    assert isinstance(transformer.transformers["text"], MaxAbsScaler)


def test_a_transformer_and_its_parameter_can_be_set_in_one_call() -> None:
    transformer = ModalityTransformer({"text": "passthrough"})

    transformer.set_params(text__n_components=4, text=PCA(2), remainder="drop")

    assert transformer.transformers["text"].n_components == 4
    assert transformer.remainder == "drop"


def test_the_parameters_of_a_single_transformer_are_reached() -> None:
    transformer = ModalityTransformer(StandardScaler()).set_params(transformers__with_mean=False)

    assert transformer.transformers.with_mean is False


def test_an_unknown_parameter_is_an_error() -> None:
    with pytest.raises(ValueError, match="Invalid parameter 'txt'"):
        ModalityTransformer({"text": PCA()}).set_params(txt__n_components=2)


def test_what_is_given_is_never_fitted(X: np.ndarray) -> None:
    given = {"text": PCA(2), "image": StandardScaler()}
    transformer = ModalityTransformer(given, modalities=MODALITIES).fit(X)

    assert not hasattr(given["text"], "components_")
    assert hasattr(transformer.transformers_["text"], "components_")
    assert clone(transformer).transformers["text"] is not given["text"]


def test_a_grid_search_reaches_the_transformers(X: np.ndarray) -> None:
    labels = np.arange(20) % 2
    pipe = make_pipeline(
        ModalityTransformer({"text": PCA(1)}, modalities=MODALITIES), LogisticRegression()
    )
    grid = {
        "modalitytransformer__text__n_components": [1, 2],
        "modalitytransformer__text": [PCA(), TruncatedSVD()],
    }

    search = GridSearchCV(pipe, grid, cv=2, error_score="raise").fit(X, labels)

    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.n_features_in_ == 8


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"setting": "both"}, "'setting' parameter of ModalityTransformer must be a str among"),
        ({"fit_on": "mean"}, "'fit_on' parameter of ModalityTransformer must be a str among"),
        ({"remainder": None}, "'remainder' parameter of ModalityTransformer must be a str among"),
        ({"transformers": 3}, "'transformers' parameter of ModalityTransformer must be"),
    ],
)
def test_a_wrong_parameter_is_named(X: np.ndarray, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModalityTransformer({}).set_params(**params).fit(X)


@pytest.mark.parametrize(
    ("transformers", "error", "message"),
    [
        ({"imgae": PCA()}, ValueError, "got 'imgae'. Did you mean 'image'?.*'image', 'text'"),
        ({("movie", "text"): PCA()}, ValueError, r"Did you mean \('row', 'text'\)\?"),
        ({3: PCA()}, TypeError, "must be a modality .* got 3"),
        ({"text": PCA}, TypeError, r"transformers\['text'\] must be a transformer .* PCA\(\)\."),
        ({"text": "pass"}, TypeError, "'passthrough' or 'drop', got 'pass'"),
        ({"text": LogisticRegression()}, TypeError, "must be a transformer with fit and transform"),
        (PCA, TypeError, r"transformers must be a transformer .* Write PCA\(\)"),
    ],
)
def test_wrong_transformers_are_named(
    X: np.ndarray, transformers: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ModalityTransformer(transformers, modalities=MODALITIES).fit(X)


@pytest.mark.parametrize("name", ["setting", "a__b"])
def test_a_key_that_looks_like_another_parameter_is_an_error(X: np.ndarray, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be told from other parameters"):
        ModalityTransformer({name: PCA(1)}, modalities={name: slice(0, 3)}).fit(X)


@pytest.mark.parametrize("form", ["rows", "nodes"])
@pytest.mark.parametrize(
    "wrap",
    [lambda scaler: scaler, lambda scaler: make_pipeline(scaler, PCA(1)), make_union],
    ids=["alone", "pipeline", "union"],
)
def test_metadata_that_a_transformer_requests_is_an_error(
    form: str, wrap: Any, X: np.ndarray, graph: MultiModalGraph
) -> None:
    data = X if form == "rows" else graph.nodes("movie")
    modalities = MODALITIES if form == "rows" else None

    def fit(request: bool | str | None) -> None:
        scaler = StandardScaler().set_fit_request(sample_weight=request)
        ModalityTransformer({"text": wrap(scaler)}, modalities=modalities).fit(data)

    with config_context(enable_metadata_routing=True):
        fit(None)
        fit(False)
        for request, name in ((True, "sample_weight"), ("inner_weight", "inner_weight")):
            message = rf"\['text'\], .* requests {name}, which .* Leave the request out"
            with pytest.raises(NotImplementedError, match=f"(?s){message}"):
                fit(request)


def test_what_routes_no_metadata_transforms_where_it_is_routed(X: np.ndarray) -> None:
    class Unrouted(StandardScaler):
        def get_metadata_routing(self) -> Any:
            raise NotImplementedError

    transformer = ModalityTransformer(Unrouted(), modalities=MODALITIES)

    with config_context(enable_metadata_routing=True):
        out = transformer.fit_transform(X)

    assert_allclose(out, transformer.fit_transform(X))


def test_two_keys_with_one_spelling_are_an_error() -> None:
    graph = MultiModalGraph({"a": {"b": np.eye(3), "a/b": np.eye(3)}})

    with pytest.raises(ValueError, match="Two keys of transformers are spelled 'a/b'"):
        ModalityTransformer({("a", "b"): PCA(1), "a/b": PCA(1)}).fit(graph.nodes())


def test_an_error_of_a_transformer_says_which_modality_it_is_about(X: np.ndarray) -> None:
    transformer = ModalityTransformer({"image": PCA(7)}, modalities=MODALITIES)

    with pytest.raises(ValueError, match="n_components=7 must be between") as caught:
        transformer.fit(X)

    assert caught.value.__notes__ == [
        "This came from PCA(n_components=7) on modality 'image' of 'row'."
    ]


def draw_gaps() -> np.ndarray:
    """Ten rows, of which one is missing and one is partly missing."""
    X = np.arange(30.0).reshape(10, 3)
    X[3], X[5, 0] = np.nan, np.nan
    return X


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda x: x[:, 0], r"shape \(1,\) for 1 rows"),
        (lambda x: pd.Series(x[:, 0]), r"shape \(1,\) for 1 rows"),
        (lambda x: x[np.isfinite(x).all(axis=1)], r"shape \(8, 3\) for 9 rows"),
        (lambda x: sparse.csr_array(x[: -(len(x) // 2)] if len(x) > 1 else x), r"\(5, 3\) for 9"),
    ],
)
def test_a_transformer_that_gives_other_rows_is_named(change: Any, got: str) -> None:
    transformer = ModalityTransformer(FunctionTransformer(change))

    with pytest.raises(ValueError, match=f"2-D matrix with one row per row .* {got}") as caught:
        transformer.fit(draw_gaps()).transform(draw_gaps())

    assert "on modality 'x' of 'row'" in caught.value.__notes__[0]


# --------------------------------------------------------------------------------- nodes


def test_a_view_becomes_a_view_of_the_same_nodes(graph: MultiModalGraph) -> None:
    view = graph.nodes("movie")[[4, 1, 1]]

    out = ModalityTransformer({"text": PCA(2)}).fit_transform(view)

    assert isinstance(out, NodeView)
    assert_array_equal(out.ids, [4, 1, 1])
    assert out.node_type == "movie"
    assert out.graph is not graph
    assert out.graph.schema.node_types["director"] == {"text": 2}
    edge_type = ("movie", "directed_by", "director")
    assert out.graph.edge_types == graph.edge_types
    assert out.graph.edge_index[edge_type] is graph.edge_index[edge_type]
    assert graph.x["movie"]["text"].shape == (N_MOVIES, 6)


def test_node_types_with_the_same_columns_share_what_the_target_taught(
    graph: MultiModalGraph,
) -> None:
    transformer = ModalityTransformer({"text": StandardScaler()})

    out = transformer.fit_transform(graph.nodes("movie")).graph

    fitted = transformer.transformers_
    assert fitted["movie", "text"] is fitted["director", "text"]
    assert fitted["award", "text"] is not fitted["movie", "text"]
    scaler = StandardScaler().fit(graph.x["movie"]["text"])
    assert_allclose(out.x["director"]["text"], scaler.transform(graph.x["director"]["text"]))


def test_sharing_looks_at_the_names_of_the_columns() -> None:
    def table(*names: str) -> pd.DataFrame:
        return pd.DataFrame(np.eye(2), columns=list(names))

    graph = MultiModalGraph(
        {
            "movie": {"table": table("year", "budget")},
            "sequel": {"table": table("year", "budget")},
            "actor": {"table": table("age", "height")},
        }
    )

    fitted = ModalityTransformer(StandardScaler()).fit(graph.nodes("movie")).transformers_

    assert fitted["movie", "table"] is fitted["sequel", "table"]
    assert fitted["movie", "table"] is not fitted["actor", "table"]


def test_fit_on_says_what_a_shared_modality_is_fitted_on(graph: MultiModalGraph) -> None:
    movie, director = graph.x["movie"]["text"], graph.x["director"]["text"]
    view = graph.nodes("movie")
    each, joint = (
        ModalityTransformer({"text": StandardScaler()}, fit_on=fit_on).fit(view)
        for fit_on in ("each", "all")
    )

    assert_allclose(mean_of(each, "movie", "text"), movie.mean(axis=0))
    assert_allclose(mean_of(each, "director", "text"), director.mean(axis=0))
    assert_allclose(mean_of(joint, "director", "text"), np.vstack([movie, director]).mean(axis=0))
    assert joint.transformers_["movie", "text"] is joint.transformers_["director", "text"]


def test_half_precision_and_sparse_rows_are_fitted_together() -> None:
    rows = np.arange(6, dtype=np.float16).reshape(3, 2)
    graph = MultiModalGraph(
        {"movie": {"text": rows}, "director": {"text": sparse.csr_array(rows.astype(float))}}
    )

    fitted = ModalityTransformer(MaxAbsScaler(), fit_on="all").fit(graph.nodes("movie"))

    assert_array_equal(fitted.transformers_["movie", "text"].max_abs_, [4, 5])


def test_types_that_share_what_the_target_lacks_are_fitted_together(
    graph: MultiModalGraph,
) -> None:
    transformer = ModalityTransformer({"text": StandardScaler()}).fit(graph.nodes("actor"))

    both = np.vstack([graph.x["movie"]["text"], graph.x["director"]["text"]])
    assert_allclose(mean_of(transformer, "movie", "text"), both.mean(axis=0))


def test_a_key_with_a_node_type_beats_the_modality(graph: MultiModalGraph) -> None:
    transformer = ModalityTransformer(
        {"text": StandardScaler(), ("director", "text"): PCA(1), ("award", "text"): "drop"}
    )

    out = transformer.fit_transform(graph.nodes("movie")).graph

    assert out.schema.node_types["director"] == {"text": 1}
    assert out.schema.node_types["award"] == {}
    assert isinstance(transformer.transformers_["movie", "text"], StandardScaler)
    assert transformer.transformers_["movie", "image"] == "passthrough"
    assert_array_equal(out.x["movie"]["image"], graph.x["movie"]["image"])


def test_held_out_nodes_are_seen_in_the_transductive_setting_alone() -> None:
    train = np.arange(20)
    shift = np.zeros((N_MOVIES, 1))
    shift[20:] = 50.0
    graphs = make_graph(), make_graph(text_shift=shift)

    def means(setting: str, fit_on: str) -> list[np.ndarray]:
        transformer = ModalityTransformer(
            {"text": StandardScaler()}, setting=setting, fit_on=fit_on
        )
        views = [graph.nodes("movie")[train] for graph in graphs]
        return [mean_of(clone(transformer).fit(v), "movie", "text") for v in views]

    for fit_on in ("target", "all", "each"):
        assert not np.allclose(*means("transductive", fit_on))
        assert_array_equal(*means("inductive", fit_on))


def test_the_inductive_setting_sees_what_does_not_come_with_held_out_nodes(
    graph: MultiModalGraph,
) -> None:
    transformer = ModalityTransformer(
        {"text": StandardScaler()}, setting="inductive", fit_on="each"
    )

    transformer.fit(graph.nodes("movie")[2:20])

    texts = graph.x["director"]["text"], graph.x["award"]["text"]
    assert_allclose(mean_of(transformer, "director", "text"), texts[0][2:].mean(axis=0))
    assert_allclose(mean_of(transformer, "award", "text"), texts[1].mean(axis=0))  # no edges
    assert_allclose(
        mean_of(transformer, "movie", "text"), graph.x["movie"]["text"][2:20].mean(axis=0)
    )


@pytest.mark.parametrize("fit_on", ["target", "all"])
@pytest.mark.parametrize(
    "selector",
    [
        SelectKBest(k=1),
        make_pipeline(SelectKBest(k=1), StandardScaler()),
        SelectFromModel(LogisticRegression(), max_features=1, threshold=-np.inf),
    ],
)
def test_what_needs_y_sees_the_labelled_nodes_alone(selector: Any, fit_on: str) -> None:
    labels = np.arange(20) % 2
    text_shift = np.zeros((N_MOVIES, 6))
    text_shift[np.ix_(np.flatnonzero(labels), [3])] = 20.0
    graph = make_graph(text_shift=text_shift)
    transformer = ModalityTransformer(
        {"text": selector, ("award", "text"): "passthrough"}, fit_on=fit_on
    )

    out = transformer.fit_transform(graph.nodes("movie")[np.arange(20)], labels).graph

    assert out.schema.node_types["director"] == {"text": 1}
    chosen = out.x["movie"]["text"][:, 0]
    assert abs(np.corrcoef(chosen, graph.x["movie"]["text"][:, 3])[0, 1]) == pytest.approx(1.0)


def test_y_leaves_out_nodes_that_lack_the_modality(graph: MultiModalGraph, y: np.ndarray) -> None:
    transformer = ModalityTransformer({"image": SelectKBest(k=2)}).fit(graph.nodes("movie"), y)

    has = graph.present("movie", "image")
    expected = SelectKBest(k=2).fit(graph.x["movie"]["image"][has], y[has])
    assert_allclose(transformer.transformers_["movie", "image"].scores_, expected.scores_)


def test_what_needs_y_cannot_be_fitted_on_a_type_without_labels(
    graph: MultiModalGraph, y: np.ndarray
) -> None:
    transformer = ModalityTransformer({"text": SelectKBest(k=1)}, fit_on="each")

    with pytest.raises(ValueError, match=r"'text' of node type 'director' .* y belongs to 'movie'"):
        transformer.fit(graph.nodes("movie"), y)


@pytest.mark.parametrize(
    "transformer",
    [
        SelectKBest(),
        SelectPercentile(),
        SelectFpr(),
        LinearDiscriminantAnalysis(),
        PLSRegression(),
        TargetEncoder(),
        SelectFromModel(LogisticRegression()),
        RFE(LogisticRegression()),
        make_union(PCA(), SelectKBest()),
        make_pipeline(SelectKBest(), StandardScaler()),
    ],
)
def test_transformers_that_need_y_are_found(transformer: Any) -> None:
    assert is_supervised(transformer)


@pytest.mark.parametrize(
    "transformer",
    [
        PCA(),
        VarianceThreshold(),
        KBinsDiscretizer(),
        SelectFromModel(PCA()),
        make_pipeline(SimpleImputer(), PCA()),
    ],
)
def test_transformers_that_need_no_y_are_found(transformer: Any) -> None:
    assert not is_supervised(transformer)


def test_a_regressor_inside_an_imputer_does_not_need_y() -> None:
    class RegressionImputer(SimpleImputer):
        def __init__(self, estimator: Any = None) -> None:
            super().__init__()
            self.estimator = estimator

    imputer = RegressionImputer(RandomForestRegressor())

    assert not is_supervised(imputer)
    assert not is_supervised(make_pipeline(imputer, PCA()))


def test_labels_for_a_wrong_number_of_nodes_are_an_error(
    graph: MultiModalGraph, y: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[10, 30\]"):
        ModalityTransformer(SelectKBest(k=1)).fit(graph.nodes("movie")[:10], y)


def test_nodes_without_a_modality_still_lack_it(graph: MultiModalGraph) -> None:
    out = ModalityTransformer({"image": StandardScaler()}).fit_transform(graph.nodes("movie"))

    has = graph.present("movie", "image")
    assert_array_equal(out.present("image"), has)
    expected = StandardScaler().fit_transform(graph.x["movie"]["image"][has])
    assert_allclose(out.graph.x["movie"]["image"][has], expected)
    assert np.isnan(out.graph.x["movie"]["image"][~has]).all()


@pytest.mark.parametrize("transformer", [MaxAbsScaler(), TruncatedSVD(2, random_state=0)])
def test_masked_rows_of_a_sparse_matrix_stay_missing(transformer: Any) -> None:
    text = sparse.random_array((10, 6), density=0.5, rng=0, format="csr")
    has = np.arange(10) % 3 > 0
    graph = MultiModalGraph({"text": text}, masks={"text": has})

    out = ModalityTransformer({"text": transformer}).fit_transform(graph.nodes())

    assert_array_equal(out.present("text"), has)
    expected = clone(transformer).fit_transform(text[np.flatnonzero(has)])
    rows = out.graph.x["node"]["text"][np.flatnonzero(has)]
    assert sparse.issparse(rows) == sparse.issparse(expected)
    assert_allclose(*(m.toarray() if sparse.issparse(m) else m for m in (rows, expected)))


def test_masked_rows_of_a_modality_that_is_passed_through_stay_missing() -> None:
    has = np.arange(N_MOVIES) > 3
    graph = make_graph(movie_masks={"movie": {"text": has}})

    out = ModalityTransformer({"image": StandardScaler()}).fit_transform(graph.nodes("movie"))

    assert_array_equal(out.present("text"), has)


def test_a_new_graph_whose_nodes_all_lack_a_modality_is_transformed(
    graph: MultiModalGraph,
) -> None:
    transformer = ModalityTransformer({"text": PCA(2)}).fit(graph.nodes("movie"))
    lacking = make_graph(movie_masks={"movie": {"text": np.zeros(N_MOVIES, dtype=bool)}})

    out = transformer.transform(lacking.nodes("movie"))

    assert out.graph.x["movie"]["text"].shape == (N_MOVIES, 2)
    assert not out.present("text").any()


def test_a_modality_that_no_node_in_sight_has_is_an_error(graph: MultiModalGraph) -> None:
    transformer = ModalityTransformer({"image": StandardScaler()}, setting="inductive")

    with pytest.raises(ValueError, match="'image' of node type 'movie' must have at least one row"):
        transformer.fit(graph.nodes("movie")[[2, 5]])


def test_names_of_features_go_with_the_graph() -> None:
    table = pd.DataFrame({"year": [1999.0, 2001.0, 2010.0], "budget": [1.0, np.nan, 3.0]})
    graph = MultiModalGraph({"table": table, "text": np.eye(3)})
    transformer = ModalityTransformer(
        {"table": make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())}
    )

    out = transformer.fit_transform(graph.nodes()).graph

    assert out.feature_names["node"] == {"table": ("year", "budget", "missingindicator_budget")}
    assert not np.isnan(out.x["node"]["table"]).any()


def test_read_only_memory_maps_and_float16_are_taken(tmp_path: Any) -> None:
    values = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float16)
    np.save(tmp_path / "text.npy", values)
    mapped = np.load(tmp_path / "text.npy", mmap_mode="r")
    graph = MultiModalGraph({"text": mapped, "image": values})

    out = ModalityTransformer({"text": StandardScaler()}).fit_transform(graph.nodes()).graph

    assert_allclose(out.x["node"]["text"], StandardScaler().fit_transform(values))
    assert out.x["node"]["image"].dtype == np.float16


def test_a_new_graph_with_the_same_modalities_is_transformed(graph: MultiModalGraph) -> None:
    transformer = ModalityTransformer({"text": StandardScaler()}).fit(graph.nodes("movie"))
    other = make_graph(text_shift=1.0, edges={("actor", "stars_in", "movie"): [[0], [0]]})

    out = transformer.transform(other.nodes("movie")[:3]).graph

    expected = transformer.transformers_["movie", "text"].transform(other.x["movie"]["text"])
    assert_allclose(out.x["movie"]["text"], expected)


def test_columns_of_every_node_type_have_the_names_and_order_of_fit() -> None:
    def draw(movie: str | None, actor: str | None) -> NodeView:
        tables = {
            node_type: {"table": pd.DataFrame(np.eye(3), columns=names and list(names))}
            for node_type, names in (("movie", movie), ("actor", actor))
        }
        return MultiModalGraph(tables).nodes("movie")

    transformer = pickle.loads(
        pickle.dumps(ModalityTransformer(StandardScaler()).fit(draw("abc", "def")))
    )

    with pytest.raises(ValueError, match="Modalities passed to fit and to transform") as caught:
        transformer.transform(draw("acb", "dez"))
    assert str(caught.value).split("\n")[1:] == [
        "~ movie / table: column 1 'b' -> 'c', columns in another order; reorder them",
        "~ actor / table: column 2 'f' -> 'z', other columns; select those, or rename them",
    ]
    named, unnamed = (
        transformer.transform(draw(*names)) for names in (("abc", "def"), (None, None))
    )
    assert_array_equal(named.graph.x["actor"]["table"], unnamed.graph.x["actor"]["table"])
    assert not hasattr(transformer.fit(np.eye(3)), "feature_names_")


def test_a_graph_with_other_modalities_is_an_error_that_lists_the_differences() -> None:
    transformer = ModalityTransformer(StandardScaler())
    transformer.fit(MultiModalGraph({"text": np.eye(4), "image": np.eye(4)}).nodes())
    other = MultiModalGraph({"text": np.eye(4)[:, :3], "sound": np.eye(4)})

    with pytest.raises(ValueError, match="Modalities passed to fit and to transform") as caught:
        transformer.transform(other.nodes())

    assert str(caught.value).split("\n") == [
        "Modalities passed to fit and to transform differ:",
        "~ text: 4 features -> 3 features",
        "- image: 4 features",
        "+ sound: 4 features",
    ]


def test_transform_before_fit_is_an_error(graph: MultiModalGraph, X: np.ndarray) -> None:
    for samples in (graph.nodes("movie"), X):
        with pytest.raises(NotFittedError, match="This ModalityTransformer instance is not fitted"):
            ModalityTransformer(StandardScaler()).transform(samples)


def test_the_other_form_of_X_is_an_error(graph: MultiModalGraph, X: np.ndarray) -> None:
    view = graph.nodes("movie")

    with pytest.raises(TypeError, match=r"fitted on a NodeView.* Pass graph.nodes\('movie'\)"):
        ModalityTransformer(StandardScaler()).fit(view).transform(X)
    with pytest.raises(TypeError, match=r"fitted on a 2-D X, .* got NodeView"):
        ModalityTransformer(StandardScaler()).fit(X).transform(view)


def test_a_second_fit_may_be_given_the_other_form(graph: MultiModalGraph, X: np.ndarray) -> None:
    transformer = ModalityTransformer(StandardScaler()).fit(X)

    transformer.fit(graph.nodes("movie"))

    assert not hasattr(transformer, "n_features_in_")
    assert not hasattr(transformer, "modalities_")
    assert not hasattr(transformer, "get_feature_names_out")
    assert_allclose(transformer.fit(X).transform(X), StandardScaler().fit_transform(X))
    assert not hasattr(transformer, "schema_")


def test_columns_cannot_be_grouped_in_a_view(graph: MultiModalGraph) -> None:
    with pytest.raises(ValueError, match=r"must be None for a NodeView.* ModalityTransformer\(\{"):
        ModalityTransformer(StandardScaler(), modalities=MODALITIES).fit(graph.nodes("movie"))


def test_an_unknown_key_is_told_with_what_is_known(graph: MultiModalGraph) -> None:
    with pytest.raises(ValueError, match=r"Did you mean \('director', 'text'\)\?"):
        ModalityTransformer({("directors", "text"): PCA()}).fit(graph.nodes("movie"))
    with pytest.raises(ValueError, match=r"of X, got \('actor', 'poster'\)"):
        ModalityTransformer({("actor", "poster"): PCA()}).fit(graph.nodes("movie"))


# ---------------------------------------------------------------------- with scikit-learn


def test_a_pipeline_is_cross_validated_on_a_view(graph: MultiModalGraph, y: np.ndarray) -> None:
    pipe = make_pipeline(
        ModalityTransformer({"text": SelectKBest(k=2), ("award", "text"): "passthrough"}),
        FirstRows(),
    )

    scores = cross_val_score(pipe, graph.nodes("movie"), y, cv=3, error_score="raise")

    assert scores.shape == (3,)


def test_output_in_pandas_is_for_columns_and_leaves_views_alone(
    graph: MultiModalGraph, X: np.ndarray
) -> None:
    transformer = ModalityTransformer({"text": PCA(2)})

    with config_context(transform_output="pandas"):
        out = transformer.fit_transform(graph.nodes("movie"))
        frame = clone(transformer).set_params(modalities=MODALITIES).fit_transform(X)

    assert isinstance(out, NodeView)
    assert list(frame.columns)[-1] == "text__pca1"


def test_transformers_may_give_data_frames(graph: MultiModalGraph) -> None:
    scaler = StandardScaler().set_output(transform="pandas")

    out = ModalityTransformer({"image": scaler}).fit_transform(graph.nodes("movie"))

    assert isinstance(out.graph.x["movie"]["image"], np.ndarray)


def test_views_of_one_graph_are_transformed_once(graph: MultiModalGraph) -> None:
    view = graph.nodes("movie")
    transformer = ModalityTransformer({"text": PCA(2)}).fit(view[:20])

    first, second = transformer.transform(view[:20]), transformer.transform(view[20:])
    directors = transformer.transform(graph.nodes("director"))

    assert first.graph is second.graph
    assert first.graph is directors.graph


def test_a_second_fit_forgets_what_was_transformed(graph: MultiModalGraph) -> None:
    view = graph.nodes("movie")
    transformer = ModalityTransformer({"text": StandardScaler()}, setting="inductive")

    first = transformer.fit_transform(view[:10])
    second = transformer.fit_transform(view[10:])

    assert not np.allclose(first.graph.x["movie"]["text"], second.graph.x["movie"]["text"])


def test_nothing_keeps_a_graph_alive() -> None:
    graph = make_graph()
    matrix = weakref.ref(graph.x["movie"]["image"])
    transformer = ModalityTransformer({"text": PCA(2)}).fit(graph.nodes("movie"))
    transformed = weakref.ref(transformer.transform(graph.nodes("movie")).graph)
    assert transformed() is not None

    del graph
    gc.collect()

    assert transformed() is None
    assert matrix() is None


def test_the_pickle_carries_no_graph_and_gives_the_same_output() -> None:
    rng = np.random.default_rng(0)
    graph = MultiModalGraph({"text": rng.normal(size=(5000, 6)), "image": np.ones((5000, 9))})
    view = graph.nodes()
    transformer = ModalityTransformer({"text": StandardScaler()}).fit(view)
    out = transformer.transform(view)

    data = pickle.dumps(transformer)

    assert len(data) < 5000
    again = pickle.loads(data).transform(view)
    assert_array_equal(again.graph.x["node"]["text"], out.graph.x["node"]["text"])


def test_transform_changes_no_attribute(graph: MultiModalGraph) -> None:
    transformer = ModalityTransformer({"text": PCA(2)}).fit(graph.nodes("movie"))
    before = dict(vars(transformer))

    transformer.transform(graph.nodes("movie"))

    assert vars(transformer) == before


def test_the_order_of_modalities_and_of_node_types_does_not_matter(
    graph: MultiModalGraph,
) -> None:
    transformer = ModalityTransformer({"text": PCA(2), "image": StandardScaler()})
    transformer.fit(graph.nodes("movie"))
    turned = MultiModalGraph(
        {t: dict(reversed(graph.x[t].items())) or 5 for t in reversed(graph.node_types)}
    )

    out, again = (transformer.transform(g.nodes("movie")).graph for g in (graph, turned))

    assert_array_equal(out.x["movie"]["image"], again.x["movie"]["image"])
    assert_array_equal(out.x["director"]["text"], again.x["director"]["text"])


def test_rows_are_transformed_one_by_one(X: np.ndarray) -> None:
    transformer = ModalityTransformer({"text": Binarizer()}, modalities=MODALITIES).fit(X)

    rows = np.vstack([transformer.transform(X[[k]]) for k in range(20)])

    assert_array_equal(rows, transformer.transform(X))
