"""Planted networks: every knob turns what it says, and the bound is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Bunch

from skmmg.datasets import make_multimodal_graph

OWN: dict[str, Any] = {"n_attributes": "own"}
SILENT: dict[str, Any] = {"homophily": 1 / 3}  # the links say nothing about three classes
BY_CLASS: dict[str, Any] = {"informative": {0: "modality_0", 1: "modality_1", 2: "modality_0"}}
NETWORKS = [
    pytest.param(parameters, id="-".join(map(str, parameters.values())))
    for parameters in (
        {},
        {"informative": "per_node"},
        {"informative": "per_node", "modalities": 4, "signal": 4.0} | SILENT,
        BY_CLASS | SILENT,
        {"informative": "modality_1", "n_classes": 5},
        {"missing": 0.5, "informative": "per_node"} | OWN,
        {"missing": {"modality_1": 0.9}} | SILENT,
        {"missing": 0.3, "missing_attributes": 0.5, "informative": "per_node"} | OWN,
        {"misaligned": 0.4, "signal": 4.0} | SILENT,
        {"misaligned": 0.4, "signal": 4.0, "informative": "per_node", "modalities": 3} | OWN,
        {"misaligned": {"attribute_0": 0.8}, "hops": 1, "signal": 5.0} | OWN,
        {"hops": 1, "informative": "per_node", "modalities": 3, "signal": 4.0} | OWN,
        {"hops": 1, "attributes": 2, "missing_types": {"attribute_1": "modality_0"}} | OWN,
        {"hops": 1},
        {"hops": 2, "attributes": ["director", "actor"], "n_neighbors": 2},
        {"n_classes": 2, "homophily": 0.0, "hops": 1} | OWN,
        {"homophily": 1.0, "hops": 2, "signal": 0.0},
    )
]


def standard_error(probability: float, n_trials: int) -> float:
    """Give the standard deviation of a share of successes, plus the grain of one trial."""
    return float(np.sqrt(probability * (1 - probability) / n_trials)) + 0.1 / n_trials


def stack(planted: Bunch, node_type: str = "item") -> npt.NDArray[np.float64]:
    """Put the modalities side by side, with zeros for missing rows."""
    return np.hstack([np.nan_to_num(rows) for rows in planted.graph.x[node_type].values()])


def sum_neighbors(planted: Bunch, relation: str, messages: Any) -> npt.NDArray[np.float64]:
    """Sum the messages of the attribute nodes to which an item is linked."""
    item, attribute = planted.graph.edge_index["item", relation, "attribute_0"]
    sums = np.zeros((len(planted.target), messages.shape[1]))
    np.add.at(sums, item, messages[attribute])
    return sums


def learned_accuracy(planted: Bunch, features: Any) -> tuple[float, float]:
    """Fit a linear model on half of the items; give its accuracy on the rest, and the bound."""
    train, test = np.arange(len(features)) % 2 == 0, np.arange(len(features)) % 2 == 1
    clf = LogisticRegression(C=0.1, max_iter=500).fit(features[train], planted.target[train])
    bound = planted.bayes_proba[test].max(axis=1).mean()
    return float(clf.score(features[test], planted.target[test])), float(bound)


@pytest.mark.parametrize("parameters", NETWORKS)
def test_the_oracle_is_as_often_right_as_the_bayes_accuracy_says(
    parameters: dict[str, Any],
) -> None:
    planted = make_multimodal_graph(6000, random_state=0, **parameters)
    accuracy = (planted.bayes_proba.argmax(axis=1) == planted.target).mean()
    error = standard_error(planted.bayes_accuracy, 6000)

    assert abs(accuracy - planted.bayes_accuracy) < 3.5 * error


@pytest.mark.parametrize("parameters", NETWORKS)
def test_the_posterior_of_every_class_is_calibrated(parameters: dict[str, Any]) -> None:
    planted = make_multimodal_graph(6000, random_state=1, **parameters)
    probability, truth = planted.bayes_proba[:, 0], planted.target == 0
    for low in np.arange(0.0, 1.0, 0.2):
        chosen = (probability >= low) & (probability <= low + 0.2)
        if chosen.sum() < 50:
            continue
        expected = probability[chosen].mean()
        error = standard_error(expected, chosen.sum())
        assert abs(truth[chosen].mean() - expected) < 4 * error


@pytest.mark.parametrize("parameters", NETWORKS)
def test_a_linear_model_of_a_neighbourhood_stays_below_the_bound(
    parameters: dict[str, Any],
) -> None:
    planted = make_multimodal_graph(4000, random_state=2, **parameters)
    features = [stack(planted)]
    if planted.graph.x.get("attribute_0"):
        features.append(sum_neighbors(planted, "has", stack(planted, "attribute_0")))
    for columns in (features[0], np.hstack(features)):
        accuracy, bound = learned_accuracy(planted, columns)
        assert accuracy < bound + 3 * standard_error(bound, 2000)


def test_the_bayes_accuracy_of_one_gaussian_modality_is_the_known_integral() -> None:
    signal, n_classes = 2.5, 4
    planted = make_multimodal_graph(
        40_000, n_classes=n_classes, modalities=1, signal=signal, homophily=0.25, random_state=0
    )
    shift = signal / np.sqrt(2)  # the class's own score is ahead of three others with equal noise
    known, _ = quad(lambda t: norm.pdf(t - shift) * norm.cdf(t) ** (n_classes - 1), -8, 12)

    assert planted.bayes_kind == "exact"
    assert abs(planted.bayes_accuracy - known) < 0.005


def test_the_posterior_is_bayes_rule_written_out_for_one_item() -> None:
    planted = make_multimodal_graph(
        30, modalities=3, informative="per_node", misaligned=0.3, random_state=3, **SILENT
    )
    rows = {name: rows.astype(float) for name, rows in planted.graph.x["item"].items()}
    density = {  # (item, class): density of a row that shows a class, and of one that does not
        name: np.exp(-((x[:, None] - planted.prototypes[name]) ** 2).sum(axis=2) / 2)
        for name, x in rows.items()
    }
    noise = {name: np.exp(-(x**2).sum(axis=1) / 2) for name, x in rows.items()}
    joint = np.full((30, 3), 0.3)
    for name in rows:  # misaligned: of any class, and informative one time out of three
        joint *= density[name].mean(axis=1)[:, None] / 3 + noise[name][:, None] * 2 / 3
    for informative in rows:
        factors = np.full((30, 3), 0.7 / 3)
        for name in rows:
            factors *= density[name] if name == informative else noise[name][:, None]
        joint += factors

    expected = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(planted.bayes_proba, expected, atol=1e-4)


def test_links_alone_bound_the_accuracy_where_the_own_features_say_nothing() -> None:
    planted = make_multimodal_graph(3000, hops=1, homophily=0.7, random_state=0)
    _, attribute = planted.graph.edge_index["item", "has", "attribute_0"]
    classes = planted.feature_class["attribute_0"][attribute].reshape(3000, 3)
    votes = (classes[:, :, None] == np.arange(3)).sum(axis=1)
    posterior = 0.7**votes * 0.15 ** (3 - votes)

    assert planted.bayes_kind == "upper_bound"
    np.testing.assert_allclose(
        planted.bayes_proba, posterior / posterior.sum(axis=1, keepdims=True), rtol=1e-9
    )


def test_no_fixed_weighting_is_right_where_the_informative_modality_differs_by_node() -> None:
    parameters: dict[str, Any] = {"modalities": 4, "signal": 4.0, "random_state": 0}
    planted = make_multimodal_graph(4000, informative="per_node", **parameters, **SILENT)
    accuracy, bound = learned_accuracy(planted, stack(planted))
    assert accuracy < bound - 0.1

    planted = make_multimodal_graph(4000, informative="modality_2", **parameters, **SILENT)
    accuracy, bound = learned_accuracy(planted, stack(planted))
    assert accuracy > bound - 0.02


def test_equal_trust_in_neighbours_falls_short_where_some_are_misaligned() -> None:
    gaps = []
    for misaligned in (0.0, 0.6):
        planted = make_multimodal_graph(
            6000,
            n_classes=5,
            hops=1,
            homophily=1.0,
            n_neighbors=5,
            signal=5.0,
            misaligned={"attribute_0": misaligned},
            random_state=0,
            **OWN,
        )
        sums = sum_neighbors(planted, "has", stack(planted, "attribute_0"))
        accuracy, bound = learned_accuracy(planted, sums)
        gaps.append(bound - accuracy)

    assert gaps[0] < 0.01
    assert gaps[1] > 0.05


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_own_features_show_the_label_at_zero_hops_only(hops: int) -> None:
    planted = make_multimodal_graph(4000, hops=hops, random_state=0)
    accuracy, _ = learned_accuracy(planted, stack(planted))

    assert accuracy > 0.8 if hops == 0 else abs(accuracy - 1 / 3) < 0.04


def test_one_hop_away_the_neighbours_features_show_the_label() -> None:
    planted = make_multimodal_graph(4000, hops=1, random_state=0)
    sums = sum_neighbors(planted, "has", stack(planted, "attribute_0"))
    accuracy, _ = learned_accuracy(planted, sums)

    assert accuracy > 0.6


def test_two_hops_away_other_items_show_the_label_and_nobody_nearer_does() -> None:
    planted = make_multimodal_graph(4000, hops=2, random_state=0)
    own = stack(planted)
    item, attribute = planted.graph.edge_index["item", "shows", "attribute_0"]
    shown = np.zeros((planted.graph.n_nodes["attribute_0"], own.shape[1]))
    np.add.at(shown, attribute, own[item])
    accuracy, bound = learned_accuracy(planted, sum_neighbors(planted, "has", shown))

    assert not planted.graph.x["attribute_0"]
    assert bound - 0.1 < accuracy < bound
    unrelated, _ = learned_accuracy(planted, sum_neighbors(planted, "shows", shown))
    assert abs(unrelated - 1 / 3) < 0.04


def test_neighbours_are_of_the_items_class_as_often_as_homophily_says() -> None:
    for parameters in ({}, OWN):
        planted = make_multimodal_graph(5000, homophily=0.6, random_state=0, **parameters)
        item, attribute = planted.graph.edge_index["item", "has", "attribute_0"]
        same = planted.target[item] == planted.feature_class["attribute_0"][attribute]
        assert abs(same.mean() - 0.6) < 4 * standard_error(0.6, 15_000)


def test_attribute_nodes_of_its_own_are_linked_to_one_item_each() -> None:
    graph = make_multimodal_graph(50, n_attributes="own", n_neighbors=4, random_state=0).graph
    item, attribute = graph.edge_index["item", "has", "attribute_0"]

    assert np.bincount(attribute).tolist() == [1] * 200
    assert np.bincount(item).tolist() == [4] * 50


def test_names_and_counts_shape_the_network() -> None:
    graph = make_multimodal_graph(
        60,
        modalities=["text", "image"],
        n_features={"text": 5, "image": 7},
        attributes=["director", "actor"],
        n_attributes=12,
        missing_types={"director": "image", "actor": ["text", "image"]},
        random_state=0,
    ).graph

    assert {node_type: dict(widths) for node_type, widths in graph.schema.node_types.items()} == {
        "item": {"text": 5, "image": 7},
        "director": {"text": 5},
        "actor": {},
    }
    assert dict(graph.n_nodes) == {"item": 60, "director": 12, "actor": 12}


def test_informative_modalities_are_told_for_every_node_of_every_type() -> None:
    make = make_multimodal_graph
    by_node = make(900, informative="per_node", missing_types={"attribute_0": "modality_1"})
    shares = np.unique(by_node.informative_modality["item"], return_counts=True)
    assert shares[0].tolist() == ["modality_0", "modality_1"]
    assert shares[1].min() > 350
    assert set(by_node.informative_modality["attribute_0"]) == {"modality_0", "none"}

    by_class = make(90, **BY_CLASS)
    expected = np.where(by_class.target == 1, "modality_1", "modality_0")
    assert by_class.informative_modality["item"].tolist() == expected.tolist()
    assert set(make(90).informative_modality["attribute_0"]) == {"all"}
    assert set(make(90, hops=2).informative_modality["attribute_0"]) == {"none"}


def test_only_the_informative_modality_differs_from_noise() -> None:
    planted = make_multimodal_graph(4000, informative="per_node", signal=5.0, random_state=0)
    for name, rows in planted.graph.x["item"].items():
        informative = planted.informative_modality["item"] == name
        own_mean = planted.prototypes[name][planted.target]
        assert abs((rows - own_mean)[informative].mean(axis=0)).max() < 0.1
        assert abs(rows[~informative].mean(axis=0)).max() < 0.1


def test_the_missing_share_is_drawn_for_each_item_and_modality() -> None:
    planted = make_multimodal_graph(5000, missing=0.3, random_state=0)
    present = [planted.graph.present("item", name) for name in ("modality_0", "modality_1")]

    for mask in present:
        assert abs(mask.mean() - 0.7) < 0.03
    assert abs((present[0] & present[1]).mean() - 0.49) < 0.03
    assert planted.graph.present("attribute_0", "modality_0").all()


def test_the_missing_share_can_differ_by_modality() -> None:
    graph = make_multimodal_graph(2000, missing={"modality_1": 0.5}, random_state=0).graph

    assert graph.present("item", "modality_0").all()
    assert abs(graph.present("item", "modality_1").mean() - 0.5) < 0.05


def test_attributes_miss_rows_too_and_nothing_else_changes() -> None:
    settings = {"attributes": 2, "missing": 0.2, "random_state": 0}
    complete, planted = (
        make_multimodal_graph(4000, missing_attributes={"modality_1": share}, **settings)
        for share in (0.0, 0.4)
    )

    for name in ("attribute_0", "attribute_1"):
        assert planted.graph.present(name, "modality_0").all()
        kept = planted.graph.present(name, "modality_1")
        assert abs(kept.mean() - 0.6) < 0.1
        whole = complete.graph.x[name]["modality_1"]
        np.testing.assert_array_equal(planted.graph.x[name]["modality_1"][kept], whole[kept])
    for modality, rows in complete.graph.x["item"].items():
        np.testing.assert_array_equal(planted.graph.x["item"][modality], rows)
    np.testing.assert_array_equal(planted.target, complete.target)


def test_misaligned_nodes_have_rows_of_nodes_of_unrelated_classes() -> None:
    planted = make_multimodal_graph(
        4000, misaligned={"attribute_0": 0.5}, n_attributes=2000, signal=12.0, random_state=0
    )
    misaligned = planted.misaligned["attribute_0"]
    shown = {
        name: (rows @ planted.prototypes[name].T).argmax(axis=1)
        for name, rows in planted.graph.x["attribute_0"].items()
    }

    assert not planted.misaligned["item"].any()
    assert abs(misaligned.mean() - 0.5) < 0.05
    for classes in shown.values():
        agrees = classes == planted.feature_class["attribute_0"]
        assert agrees[~misaligned].all()
        assert abs(agrees[misaligned].mean() - 1 / 3) < 0.1
    agrees = shown["modality_0"] == shown["modality_1"]
    assert abs(agrees[misaligned].mean() - 1 / 3) < 0.1


def test_the_same_seed_gives_the_same_network() -> None:
    first, second = (make_multimodal_graph(50, random_state=7) for _ in range(2))
    third = make_multimodal_graph(50, random_state=8)

    for node_type, x in first.graph.x.items():
        for name, rows in x.items():
            np.testing.assert_array_equal(rows, second.graph.x[node_type][name])
            assert not np.array_equal(rows, third.graph.x[node_type][name])
    np.testing.assert_array_equal(first.target, second.target)


def test_a_larger_missing_share_hides_more_rows_of_the_same_network() -> None:
    some, more = (make_multimodal_graph(300, missing=m, random_state=0) for m in (0.2, 0.5))
    np.testing.assert_array_equal(some.target, more.target)
    for edge_type, edges in some.graph.edge_index.items():
        np.testing.assert_array_equal(edges, more.graph.edge_index[edge_type])
    for name, rows in some.graph.x["item"].items():
        kept = more.graph.present("item", name)
        np.testing.assert_array_equal(rows[kept], more.graph.x["item"][name][kept])


def test_other_labels_do_not_change_a_label_given_the_features_and_the_links() -> None:
    planted = make_multimodal_graph(20_000, hops=1, random_state=0, **OWN)
    residual = np.eye(3)[planted.target] - planted.bayes_proba

    # No two items are connected, so the errors of the posterior are uncorrelated.
    assert abs((residual[:-1] * residual[1:]).mean()) < 0.005


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, "'n_samples' parameter .* must be an int, 1 or more. Got 0 instead"),
        ({"n_classes": 1}, "'n_classes'.*2 or more"),
        ({"n_neighbors": 1.5}, "'n_neighbors'.*an int"),
        ({"modalities": 0}, "'modalities'.*1 or more, or a list of names"),
        ({"modalities": "text"}, "'modalities'.*list of names. Got 'text'"),
        ({"modalities": ["text", "text"]}, "'modalities'.*distinct"),
        ({"modalities": ["text", "all"]}, "'modalities'.*other than .*Got 'all'"),
        ({"attributes": ["item"]}, "'attributes'.*other than .*Got 'item'"),
        ({"n_features": 2}, "'n_features'.*n_classes=3 or more"),
        ({"n_features": {"modality_0": 8}}, "'n_features'.*with the keys"),
        ({"n_attributes": 2}, "'n_attributes'.*n_classes=3 or more"),
        ({"n_attributes": "few"}, "'n_attributes'.*'auto', 'own' or an int"),
        ({"informative": "modality_2"}, "'informative'.*'per_node', one of"),
        ({"informative": {0: "modality_0"}}, "'informative'.*each class 0 to 2"),
        ({"signal": -1.0}, r"'signal'.*range \[0.0, inf\)"),
        ({"signal": np.nan}, "'signal'"),
        ({"hops": 3}, "'hops'.*0, 1 or 2"),
        ({"hops": 2, "n_attributes": "own"}, "Give the number of attribute nodes instead"),
        ({"homophily": 1.2}, r"'homophily'.*range \[0.0, 1.0\]"),
        ({"missing": 1.0}, r"'missing'.*range \[0.0, 1.0\)"),
        ({"missing": {"text": 0.5}}, "'missing'.*keys among .*Got 'text'"),
        ({"missing_attributes": -0.1}, r"'missing_attributes'.*range \[0.0, 1.0\)"),
        ({"misaligned": True}, "'misaligned'.*float"),
        ({"misaligned": {"person": 0.5}}, "'misaligned'.*Got 'person'"),
        ({"missing_types": "modality_0"}, "'missing_types'.*a dict"),
        ({"missing_types": {"item": "text"}}, "'missing_types'.*Got 'text'"),
        ({"missing_types": {"item": ["modality_0", "modality_1"]}}, "'item' keeps a modality"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_was_expected(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_multimodal_graph(**parameters)
