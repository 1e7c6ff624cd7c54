"""Bad input ends in an error that tells what to do, and nothing is lost."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import Bunch
from skorch.callbacks import EpochScoring
from torch_geometric.data import Data, HeteroData

from skmmg import (
    CrossModalRetriever,
    ModalityTransformer,
    MultiModalGraph,
    MultiModalGraphClassifier,
    NodeEmbedder,
    NodeView,
)
from skmmg.estimators._split import split_off_validation
from skmmg.models import HGNNIMA
from skmmg.training import ClassificationLoss

Params = dict[str, Any]
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(30, 4))
LABELS = np.arange(30) % 2
EDGES = {"near": RNG.integers(20, size=(2, 60))}


def fit(X: Any, params: Params, y: Any = LABELS, **settings: Any) -> MultiModalGraphClassifier:
    return MultiModalGraphClassifier(**params | settings).fit(X, y)


def make_view(x: Any = FEATURES, edges: Any = EDGES) -> NodeView:
    return MultiModalGraph({"x": x}, edges).nodes()


# ------------------------------------------------------------------------------ odd graphs


def test_ids_out_of_range_are_an_error() -> None:
    with pytest.raises(ValueError, match="refers to node 30, but there are 30 nodes"):
        make_view(edges={"near": [[0], [30]]})
    with pytest.raises(ValueError, match="30"):
        make_view().graph.nodes(ids=[0, 30])


def test_nothing_but_nan_in_a_modality_is_an_error(params: Params) -> None:
    view = MultiModalGraph({"x": FEATURES, "image": np.full((30, 2), np.nan)}).nodes()

    with pytest.raises(ValueError, match=r"(?s)'image'.*got NaN in all 30 rows"):
        fit(view, params)


def test_nothing_but_nan_in_a_modality_of_rows_is_an_error(params: Params) -> None:
    rows = np.hstack([FEATURES, np.full((30, 2), np.nan)])

    message = r"'image' must have .*got NaN in all 30 rows of X.*leave the modality out of `modal"
    with pytest.raises(ValueError, match=message):
        fit(rows, params, modalities={"x": slice(0, 4), "image": slice(4, 6)})


def test_new_rows_may_lack_a_modality_altogether(params: Params) -> None:
    rows = np.hstack([FEATURES, RNG.normal(size=(30, 2))])
    clf = fit(rows, params, modalities={"x": slice(0, 4), "image": slice(4, 6)})
    rows[:, 4:] = np.nan

    assert np.isfinite(clf.predict_proba(rows[:3])).all()


def test_an_infinite_value_is_an_error(params: Params) -> None:
    x = FEATURES.copy()
    x[3, 1] = np.inf

    with pytest.raises(ValueError, match="infinite value in row 3"):
        fit(make_view(x), params)
    with pytest.raises(ValueError, match="infinity"):
        fit(x, params)


@pytest.mark.parametrize("model", ["hgnn_ima", "hgt", "mlp"])
@pytest.mark.parametrize("edges", [None, {"near": np.empty((2, 0), dtype=int)}])
def test_an_empty_edge_set_will_do(model: str, edges: Any, params: Params) -> None:
    clf = fit(make_view(edges=edges), params, model=model)

    assert np.isfinite(clf.predict_proba(make_view(edges=edges))).all()


@pytest.mark.parametrize("model", ["hgnn_ima", "hgt"])
@pytest.mark.parametrize("missing", ["copy", "zero", "mean_neighbors", "learned"])
def test_isolated_nodes_are_classified_by_themselves(
    model: str, missing: str, params: Params
) -> None:
    assert EDGES["near"].max() < 20
    x = FEATURES.copy()
    x[[25, 26]] = np.nan  # isolated, and nothing is known about them

    clf = fit(make_view(x), params, model=model, missing=missing, precision="float64")

    proba = clf.predict_proba(make_view(x))
    assert np.isfinite(proba).all()
    assert_allclose(proba[25], proba[26])


def test_a_node_type_without_features_will_do(params: Params) -> None:
    graph = MultiModalGraph(
        {"movie": {"x": FEATURES}, "actor": 4, "tag": 2},
        {("movie", "stars", "actor"): [[0, 1, 2], [0, 1, 1]]},
    )

    clf = fit(graph.nodes("movie"), params)

    assert np.isfinite(clf.predict_proba(graph.nodes("movie"))).all()


def test_a_graph_without_any_feature_is_an_error(params: Params) -> None:
    graph = MultiModalGraph({"movie": 30, "actor": 4}, {("movie", "stars", "actor"): [[0], [1]]})

    with pytest.raises(ValueError, match="No node type has a modality"):
        fit(graph.nodes("movie"), params)


def test_duplicate_edges_count_twice(params: Params) -> None:
    edge, chain = np.array([[0], [1]]), np.array([[2, 3], [1, 2]])
    once = make_view(edges={"near": np.hstack([edge, chain])})
    twice = make_view(edges={"near": np.hstack([edge, edge, chain])})
    clf = fit(once, params, precision="float64", max_epochs=20)

    first, second = clf.predict_proba(once), clf.predict_proba(twice)

    assert np.abs(first[1] - second[1]).max() > 1e-6
    assert_allclose(first[5:], second[5:])


# ------------------------------------------------------------------------------ odd matrices


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.int64, np.float16])
@pytest.mark.parametrize("form", ["nodes", "rows"])
def test_features_of_any_number_type_will_do(
    dtype: type[np.generic], form: str, params: Params
) -> None:
    x = (FEATURES > 0).astype(dtype)
    as_float = x.astype(np.float64)

    def data(features: np.ndarray) -> Any:
        return features if form == "rows" else make_view(features)

    clf, expected = fit(data(x), params), fit(data(as_float), params)

    assert_array_equal(clf.predict_proba(data(x)), expected.predict_proba(data(as_float)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("form", ["nodes", "rows"])
def test_a_read_only_memory_map_will_do(
    dtype: type[np.floating], form: str, params: Params, tmp_path: Path
) -> None:
    path = tmp_path / "features.npy"
    np.save(path, FEATURES.astype(dtype))
    mapped = np.load(path, mmap_mode="r")
    X, plain = mapped, FEATURES.astype(dtype)
    if form == "nodes":
        X, plain = make_view(mapped), make_view(plain)

    clf = fit(X, params)

    assert_array_equal(clf.predict_proba(X), fit(plain, params).predict_proba(plain))


def test_sparse_features_that_cannot_be_written_to_will_do(params: Params) -> None:
    matrix = sparse.csr_array(FEATURES * (FEATURES > 0))
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.setflags(write=False)

    clf = fit(make_view(matrix), params)

    assert np.isfinite(clf.predict_proba(make_view(matrix))).all()
    assert np.isfinite(fit(matrix, params).predict_proba(matrix)).all()


# ------------------------------------------------------------------------------ another graph


def test_a_modality_missing_at_predict_is_an_error_with_a_difference(params: Params) -> None:
    text, image = FEATURES, RNG.normal(size=(30, 8))
    clf = fit(MultiModalGraph({"text": text, "image": image}, EDGES).nodes(), params)
    other = MultiModalGraph({"text": text[:, :3], "sound": image[:, :2]}, EDGES).nodes()

    with pytest.raises(ValueError, match="Graphs passed to fit and to predict differ") as error:
        clf.predict(other)

    assert str(error.value).splitlines()[1:] == [
        "~ text: 4 features -> 3 features",
        "- image: 8 features",
        "+ sound: 2 features",
        "Nodes may lack a modality, but their graph has to name it: give 'image' rows of NaN, and "
        "masks={'node': {'image': np.zeros(n, dtype=bool)}} if all 'node' nodes lack it.",
    ]


def test_another_graphs_schema_is_an_error(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = fit(X, params, y)

    with pytest.raises(ValueError, match="\\+ node type 'node'"):
        clf.predict(make_view())
    with pytest.raises(ValueError, match="node type in focus: item -> attribute_0"):
        clf.predict(X.graph.nodes("attribute_0"))


def test_a_relation_missing_at_predict_is_an_error_that_says_how_to_name_it(params: Params) -> None:
    clf = fit(make_view(), params)
    none = np.empty((2, 0), int)

    with pytest.raises(ValueError, match="Graphs passed to fit and to predict differ") as error:
        clf.predict(make_view(edges=None))

    assert str(error.value).splitlines()[1:] == [
        "- edge type ('node', 'near', 'node')",
        "- edge type ('node', 'rev_near', 'node')",
        "A relation may be without edges, but the graph has to name it, and its 'rev_' one: "
        "edges={('node', 'near', 'node'): np.empty((2, 0), int), ...}.",
    ]
    assert clf.predict(make_view(edges={"near": none, "rev_near": none})).shape == (30,)


def test_validation_data_of_another_schema_is_an_error(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    with pytest.raises(ValueError, match="The graphs of X and of X_val differ"):
        MultiModalGraphClassifier(**params).fit(X, y, X_val=make_view(), y_val=LABELS)


def name_columns(*names: str) -> NodeView:
    return make_view(pd.DataFrame(FEATURES, columns=names or None))


@pytest.mark.parametrize(
    "make",
    [
        MultiModalGraphClassifier,
        NodeEmbedder,
        partial(CrossModalRetriever, n_folds=2),
        partial(CrossModalRetriever, model="semantic", n_components=1),
    ],
)
def test_columns_have_the_names_and_order_of_fit(make: Callable[..., Any], params: Params) -> None:
    settings = {**params, **getattr(make, "keywords", {})}
    fitted = make(**settings).fit(name_columns(*"abcd"), LABELS)
    read = pickle.loads(pickle.dumps(fitted))
    infer = read.predict if hasattr(read, "predict") else read.transform

    for names, message in (
        ("acbd", "~ node / x: column 1 'b' -> 'c', columns in another order; reorder them"),
        ("abcz", "~ node / x: column 3 'd' -> 'z', other columns; select those, or rename them"),
    ):
        with pytest.raises(ValueError, match=f"passed to fit and to predict differ:\n{message}"):
            infer(name_columns(*names))
    assert_array_equal(infer(name_columns()), infer(name_columns(*"abcd")))


def test_columns_without_names_at_fit_may_have_any_later(params: Params) -> None:
    clf = fit(name_columns(), params)

    assert_array_equal(clf.predict(name_columns(*"dcba")), clf.predict(name_columns()))


def test_validation_data_and_a_warm_start_need_the_columns_of_fit(params: Params) -> None:
    X, other = name_columns(*"abcd"), name_columns(*"dcba")

    with pytest.raises(ValueError, match="The graphs of X and of X_val differ:\n~ node / x"):
        MultiModalGraphClassifier(**params).fit(X, LABELS, X_val=other, y_val=LABELS)
    with pytest.raises(ValueError, match="warm_start=True needs the schema, the columns"):
        fit(X, params, warm_start=True).fit(other, LABELS)


@pytest.mark.parametrize("fitted", ["nodes", "rows"])
def test_the_other_form_of_x_is_an_error(fitted: str, params: Params) -> None:
    forms: dict[str, Any] = {"nodes": make_view(), "rows": FEATURES}
    clf = fit(forms.pop(fitted), params)
    (other,) = forms.values()

    with pytest.raises(TypeError, match="needs the same form of X"):
        clf.predict(other)
    with pytest.raises(TypeError, match="X_val has to have the same form as X"):
        MultiModalGraphClassifier(**params).fit(
            make_view() if fitted == "nodes" else FEATURES, LABELS, X_val=other, y_val=LABELS
        )


HETERO = HeteroData()
HETERO["node"].x = torch.ones(30, 4)


@pytest.mark.parametrize(
    ("X", "way"),
    [
        (make_view().graph, r"MultiModalGraph\. Take .* graph\.nodes\(\.\.\.\)"),
        ({"x": FEATURES}, r"dict\. .*stack_modalities\(\{"),
        ([FEATURES, FEATURES[:, :2]], r"list of ndarray\. .*stack_modalities\(\{"),
        ((FEATURES, FEATURES), r"tuple of ndarray\. .*stack_modalities\(\{"),
        ([make_view().graph] * 2, r"list of MultiModalGraph\. stack_graphs\(graphs\)"),
        (HETERO, r"HeteroData\. Write MultiModalGraph\.from_hetero_data\(data\)\.nodes"),
        (Data(), r"Data\. Write .*from_hetero_data\(data\.to_heterogeneous\(\)\)\.nodes"),
        (nx.path_graph(30), r"Graph\. Write MultiModalGraph\.from_networkx\("),
    ],
    ids=["graph", "dict", "list", "tuple", "graphs", "hetero data", "data", "networkx"],
)
@pytest.mark.parametrize("fitted", [None, FEATURES, make_view()], ids=["fit", "rows", "nodes"])
def test_what_is_no_x_is_an_error_that_tells_how_to_make_one(X: Any, way: str, fitted: Any) -> None:
    expected = f"X has to be a NodeView or a 2-D matrix, got {way}"
    clf = MultiModalGraphClassifier("mlp", max_epochs=1, early_stopping=False)
    retriever = CrossModalRetriever(model="dual_mlp", max_epochs=1)
    transformer = ModalityTransformer("passthrough")

    for estimator in (clf, retriever, transformer):
        use = partial(estimator.fit, y=LABELS)
        if fitted is not None:
            use = getattr(estimator.fit(fitted, LABELS), "predict", estimator.transform)
        with pytest.raises(TypeError, match=expected):
            use(X)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["m", "f"] * 15),
        pd.Series(["m", "f"] * 15, dtype=object),
        pd.Series(["m", "f"] * 15, dtype="category"),
        pd.Series(["2001", "2002"] * 15, dtype="datetime64[ns]"),
    ],
    ids=lambda column: str(column.dtype),
)
def test_columns_of_a_frame_that_are_no_numbers_are_named(column: Any, params: Params) -> None:
    numbers = pd.DataFrame(FEATURES, columns=list("abcd"))

    with pytest.raises(TypeError, match=r"numeric columns only, got 'e' .* Encode .*\['e'\]"):
        fit(numbers.assign(e=column), params)
    with pytest.raises(TypeError, match=r"numeric columns only, got 'a' .* Encode .*\['a'\]"):
        fit(numbers, params).predict(numbers.assign(a=column))


@pytest.mark.parametrize(
    "estimator", [MultiModalGraphClassifier, NodeEmbedder, CrossModalRetriever]
)
def test_masked_rows_are_an_error(estimator: Any) -> None:
    groups = {"a": slice(0, 2), "b": slice(2, 4)}
    fitted = estimator(model="mlp", modalities=groups, max_epochs=2).fit(FEATURES, LABELS)
    masked = np.ma.masked_greater(FEATURES, 1)

    for use in (fitted.transform, lambda X: clone(fitted).fit(X, LABELS)):
        with pytest.raises(TypeError, match=r"X must not be a masked array.*filled\(np\.nan\)"):
            use(masked)


def test_masked_labels_and_weights_are_an_error(params: Params) -> None:
    masked = np.ma.masked_array(LABELS, np.arange(30) < 3)
    groups = {"a": slice(0, 2), "b": slice(2, 4)}

    with pytest.raises(TypeError, match=r"y must not be a masked array\. Leave the masked samples"):
        fit(FEATURES, params, masked)
    with pytest.raises(TypeError, match="y must not be a masked array"):
        CrossModalRetriever(model="cca", modalities=groups).fit(FEATURES, masked)
    with pytest.raises(TypeError, match=r"sample_weight must not be .* sample_weight\.data\[keep"):
        MultiModalGraphClassifier(**params).fit(FEATURES, LABELS, sample_weight=masked)


def test_columns_that_are_grouped_on_a_view_are_an_error(params: Params) -> None:
    with pytest.raises(ValueError, match=r"must be None for a NodeView.* ModalityTransformer\(\{"):
        fit(make_view(), params, modalities={"x": [0]})


# ------------------------------------------------------------------------------ labels


def test_a_class_of_minus_one_beside_others_is_a_warning(params: Params) -> None:
    X, y = make_view(), np.arange(30) % 3 - 1

    for estimator in (
        MultiModalGraphClassifier(**params),
        NodeEmbedder(**params),
        CrossModalRetriever(model="mlp", max_epochs=1),
    ):
        with pytest.warns(UserWarning, match=r"\[-1, 0, 1\].*fit\(X\[y >= 0\], y\[y >= 0\]\)"):
            estimator.fit(X, y)


@pytest.mark.parametrize(
    "y", [LABELS * 2 - 1, np.arange(30) % 3 - 2, (np.arange(30) % 3 - 1).astype(str)]
)
def test_other_negative_classes_are_no_warning(y: np.ndarray, params: Params) -> None:
    assert_array_equal(fit(make_view(), params, y).classes_, np.unique(y))


@pytest.mark.parametrize("form", ["nodes", "rows"])
def test_one_class_is_an_error(form: str, params: Params) -> None:
    X = make_view() if form == "nodes" else FEATURES

    with pytest.raises(ValueError, match=r"at least two classes, got one class: 'a'\."):
        fit(X, params, np.full(30, "a"))


@pytest.mark.parametrize("form", ["nodes", "rows"])
def test_labels_for_a_wrong_number_of_nodes_are_an_error(form: str, params: Params) -> None:
    X = make_view()[:20] if form == "nodes" else FEATURES[:20]

    with pytest.raises(ValueError, match=r"got 30 labels for 20 samples\. Slice both alike"):
        fit(X, params)


def test_labels_that_are_strings_will_do(params: Params) -> None:
    names = np.array(["drama", "comedy"])[LABELS]

    clf = fit(make_view(), params, names)

    assert clf.classes_.tolist() == ["comedy", "drama"]
    assert set(clf.predict(make_view())) <= {"comedy", "drama"}
    assert_array_equal(
        clf.predict_proba(make_view()),
        fit(make_view(), params, 1 - LABELS).predict_proba(make_view()),
    )


@pytest.mark.parametrize("y", [None, np.linspace(0, 1, 30), np.full(30, np.nan)])
def test_labels_that_are_no_classes_are_an_error(y: Any, params: Params) -> None:
    with pytest.raises(ValueError, match=r"y to be passed|Unknown label type|contains NaN"):
        fit(make_view(), params, y)


def test_validation_labels_that_training_has_not_are_an_error(params: Params) -> None:
    X = make_view()
    clf = MultiModalGraphClassifier(**params)

    with pytest.raises(ValueError, match=r"y_val has classes that y does not have: \[7\]"):
        clf.fit(X[:20], LABELS[:20], X_val=X[20:], y_val=np.append(LABELS[20:-1], 7))
    with pytest.raises(ValueError, match="X_val and y_val go together"):
        clf.fit(X[:20], LABELS[:20], X_val=X[20:])


def test_too_few_nodes_to_watch_any_are_an_error(params: Params) -> None:
    weight = np.zeros(30)
    with pytest.raises(ValueError, match="at least one non-zero"):
        MultiModalGraphClassifier(**params).fit(make_view(), LABELS, sample_weight=weight)
    with pytest.raises(ValueError, match="class_weight has to leave some sample a positive weight"):
        fit(make_view(), params, class_weight={0: 0, 1: 0})
    weight[0] = 1
    with pytest.raises(ValueError, match="at least two samples with a weight, got 1"):
        MultiModalGraphClassifier(**params).fit(make_view(), LABELS, sample_weight=weight)


def test_an_empty_view_is_an_error(params: Params) -> None:
    with pytest.raises(ValueError, match=r"0|empty|at least"):
        fit(make_view()[:0], params, LABELS[:0])

    with pytest.raises(ValueError, match="at least one node to train on, got none"):
        NodeEmbedder("mlp", max_epochs=1).fit(make_view()[:0])
    with pytest.raises(ValueError, match="X_val has to hold at least one sample"):
        MultiModalGraphClassifier(**params).fit(
            make_view(), LABELS, X_val=make_view()[:0], y_val=LABELS[:0]
        )


def test_training_that_diverges_is_an_error(params: Params) -> None:
    with pytest.raises(ValueError, match=r"Training diverged: .* after epoch \d+\. Lower lr"):
        fit(make_view(), params, lr=1e30, optimizer="sgd", early_stopping=False, max_epochs=9)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_of_classes_are_finite_and_not_negative(weight: float, params: Params) -> None:
    with pytest.raises(ValueError, match="class_weight has to hold finite weights of at least 0"):
        fit(make_view(), params, class_weight={0: weight})


def test_a_weight_of_a_class_that_y_lacks_is_named(params: Params) -> None:
    with pytest.raises(ValueError, match=r"classes of y, \[0, 1\], got \['drama'\]"):
        fit(make_view(), params, class_weight={0: 1.0, "drama": 2.0})


@pytest.mark.parametrize("batch_size", [None, 8])
def test_validation_data_without_a_weight_is_an_error(
    X: NodeView, y: np.ndarray, params: Params, batch_size: int | None
) -> None:
    clf = MultiModalGraphClassifier(
        **params, class_weight={0: 0.0, 1: 1.0, 2: 1.0}, batch_size=batch_size
    )
    with pytest.raises(ValueError, match=r"y_val has to have a class whose class_weight .* \[0\]"):
        clf.fit(X, y, X_val=X[y == 0], y_val=y[y == 0])


def test_early_stopping_leaves_every_class_a_sample_to_train_on(params: Params) -> None:
    labels = np.repeat(np.arange(15), 2)
    for seed in range(20):
        train, watched = split_off_validation(labels, np.ones(30), 0.1, seed)
        assert set(labels[train]) == set(range(15))
        assert sorted([*train, *watched]) == list(range(30))
        assert len(watched) == 3

    with pytest.raises(ValueError, match="every class has only one"):
        fit(make_view()[:10], params, np.arange(10))


def test_nothing_to_predict_gives_nothing(params: Params) -> None:
    clf = fit(make_view(), params)

    assert clf.predict(make_view()[:0]).shape == (0,)
    assert clf.predict_proba(make_view()[:0]).shape == (0, 2)


# ------------------------------------------------------------------------------ parameters


def test_an_unknown_model_is_an_error_with_a_suggestion() -> None:
    message = r"model='hgnn_imma' is not known\. Did you mean 'hgnn_ima'\? Known models: "
    with pytest.raises(ValueError, match=message):
        MultiModalGraphClassifier("hgnn_imma").fit(make_view(), LABELS)


@pytest.mark.parametrize("model", ["hgnn_ima", "hgt"])
def test_heads_that_do_not_divide_the_channels_are_an_error(model: str) -> None:
    clf = MultiModalGraphClassifier(model).set_params(model__heads=3)

    with pytest.raises(ValueError, match="heads has to divide hidden_channels, got heads=3"):
        clf.fit(make_view(), LABELS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0),
        ("max_epochs", 0),
        ("missing", "drop"),
        ("setting", "both"),
        ("scaling", "minmax"),
        ("fusion", "middle"),
        ("optimizer", "lbfgs"),
        ("early_stopping", "f1"),
        ("graph", "mutual"),
        ("precision", "float16"),
        ("validation_fraction", 1.0),
    ],
)
def test_a_parameter_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MultiModalGraphClassifier"):
        MultiModalGraphClassifier(**{name: value}).fit(make_view(), LABELS)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", HGNNIMA, r"a ModelSpec, such as .*HGT\(\) \(write HGT\(\), not HGT"),
        ("model", torch.nn.Linear(2, 2), r"a torch module needs a ModelSpec .* CONTRIBUTING\.md"),
        ("graph", np.eye(30), r"a KNNGraph or RadiusGraph .*MultiModalGraph\(.*\.nodes\(\)"),
        ("graph", sparse.eye_array(30), r"a KNNGraph or RadiusGraph .*MultiModalGraph\("),
    ],
)
@pytest.mark.parametrize(
    "estimator", [MultiModalGraphClassifier, NodeEmbedder, CrossModalRetriever]
)
def test_what_is_no_spec_is_an_error_that_says_what_to_write(
    estimator: type[Any], name: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"'{name}' parameter of .* must be .*{message}"):
        estimator(**{name: value}).fit(FEATURES, LABELS)


def test_a_parameter_of_what_has_none_is_an_error_that_says_what_to_set() -> None:
    clf = MultiModalGraphClassifier()

    with pytest.raises(
        ValueError, match=r"optimizer='adamw' has no .*__momentum\. What .* are lr,"
    ):
        clf.set_params(optimizer__momentum=0.9)
    with pytest.raises(ValueError, match=r"got modalities__x\. Set modalities itself\."):
        clf.set_params(modalities__x=1)
    with pytest.raises(ValueError, match="Invalid parameter 'optimiser'"):
        clf.set_params(optimiser__momentum=0.9)


def test_callbacks_of_another_library_are_an_error_that_names_whose_they_have_to_be() -> None:
    with pytest.raises(TypeError, match=r"follow scikit-learn's .*ProgressBar\(\), got <skorch"):
        MultiModalGraphClassifier().set_callbacks(EpochScoring("accuracy"))


def test_a_parameter_of_the_model_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"The 'dropout' parameter of HGNNIMA must be .* Got 1\.5"):
        MultiModalGraphClassifier(HGNNIMA(dropout=1.5)).fit(make_view(), LABELS)


def test_modalities_that_rows_do_not_have_are_an_error(params: Params) -> None:
    with pytest.raises((ValueError, IndexError), match="image"):
        fit(FEATURES, params, modalities={"image": [2, 9]})


# ------------------------------------------------------------------------------ nothing lost


def break_at(monkeypatch: pytest.MonkeyPatch, epoch: int, error: type[BaseException]) -> None:
    """Raise an error in the loss of some epoch."""
    calls: list[int] = []
    forward = ClassificationLoss.forward

    def broken(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) > 2 * epoch:
            raise error
        return forward(self, *args)

    monkeypatch.setattr(ClassificationLoss, "forward", broken)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("form", ["nodes", "rows"])
@pytest.mark.parametrize("estimator", [MultiModalGraphClassifier, NodeEmbedder])
def test_an_interrupted_fit_raises_and_leaves_the_estimator_as_it_was(
    estimator: type[Any],
    form: str,
    error: type[BaseException],
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forms: dict[str, Any] = {"nodes": make_view(), "rows": FEATURES}
    X = forms.pop(form)
    (other,) = forms.values()
    fitted, fresh = (estimator(**params) for _ in range(2))
    fitted.fit(X, LABELS)
    state, embedding = dict(fitted.__dict__), fitted.transform(X)
    break_at(monkeypatch, 2, error)

    with pytest.raises(error):
        fitted.fit(other, 1 - LABELS)
    with pytest.raises(error):
        fresh.fit(other, LABELS)

    assert fitted.__dict__ == state
    assert_array_equal(fitted.transform(X), embedding)
    assert fresh.__dict__ == estimator(**params).__dict__ | {"model": fresh.model}


def test_a_fit_that_fails_leaves_the_estimator_as_it_was(params: Params) -> None:
    clf = fit(make_view(), params)
    before = clf.predict_proba(make_view())

    with pytest.raises(ValueError, match="at least two classes"):
        clf.fit(FEATURES, np.zeros(30))

    assert_array_equal(clf.predict_proba(make_view()), before)


def test_an_estimator_that_is_not_fitted_says_so(params: Params) -> None:
    clf = clone(MultiModalGraphClassifier(**params))

    for method in ("predict", "predict_proba", "transform", "modality_weights", "attention"):
        with pytest.raises(ValueError, match="not fitted yet"):
            getattr(clf, method)(make_view())


def test_the_input_is_left_as_it_was(rows: Bunch, params: Params) -> None:
    data, target = rows.data.copy(), rows.target.copy()
    data[3] = np.nan
    before = data.copy()

    fit(data, params, target).predict(data)

    assert_array_equal(data, before)
    assert_array_equal(target, rows.target)
