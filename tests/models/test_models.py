"""Every model: it learns, it is invariant where it has to be, its options work, its errors tell."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from small_models import (
    CHANNELS,
    HEADS,
    MODELS,
    N_CLASSES,
    N_NODES,
    WIDTHS,
    assert_every_parameter_counts,
    build,
    count,
    count_encoder,
    draw_parts,
    fit,
    gradients,
    make_graph,
    make_single_type_graph,
    make_sparse_graph,
    permute_nodes,
    run,
    small,
)
from torch import nn

from skmmg import MultiModalGraph, list_models
from skmmg.datasets import make_multimodal_graph
from skmmg.models import (
    GAT,
    GCN,
    HAN,
    HERO,
    HGNNIMA,
    HGT,
    IDKG,
    MAMSA,
    MHGAT,
    MLP,
    MMGCN,
    SAGE,
    SHGP,
    XGEA,
    ModelSpec,
    SeHGNN,
    StrucGCN,
    get_model,
)
from skmmg.models import MODELS as ALL_MODELS
from skmmg.models._fusion import EARLY_FUSION, LATE_FUSION

ABLATIONS: dict[str, dict[str, Any]] = {
    "-cross": {"cross_modal": "none"},
    "-adapt": {"cross_modal": "mean"},
    "+inf": {"cross_modal": "influenced"},
    "-nei": {"cross_modal": "node"},
    "-align": {"align": False},
    "-Latt": {"att_loss_weight": 0.0},
    "-Lind": {"unimodal_loss_weight": 0.0},
}
NATIVE: list[tuple[str, str | None]] = [
    (name, None) for name in ("hgnn_ima", "mhgat", "xgea", "idkg")
]
WITH_FUSION = list(
    itertools.product(["han", "hgt", "mlp", "gcn", "gat", "sage", "strucgcn"], ["early", "late"])
)
SEHGNN = [("sehgnn", "early"), ("sehgnn", "late")]  # its early fusion has no options
LAYERED = [
    name
    for name, spec in MODELS.items()
    if "num_layers" in spec().get_params() and not spec().self_supervised
]
PRESETS = ("skmmg", "paper", "released")


# ------------------------------------------------------------------------------ they learn


@pytest.mark.parametrize("model", MODELS)
def test_twenty_labelled_nodes_are_learnt_by_heart(model: str) -> None:
    planted = make_multimodal_graph(60, signal=1.0, random_state=0)
    X, y = planted.graph.nodes("item")[:20], planted.target[:20]

    spec = small(model, hidden_channels=16)
    # what is learnt without labels is read by a probe that is hardly held back
    probe = LogisticRegression(C=1e4, max_iter=5000) if spec.self_supervised else None
    clf = fit(spec, X, y, max_epochs=60, lr=0.01, probe=probe)

    assert clf.score(X, y) == 1.0
    if probe is None:
        assert clf.history_[-1]["train_ce"] < 0.5 * clf.history_[0]["train_ce"]
    else:
        assert clf.history_[-1]["train_loss"] < clf.history_[0]["train_loss"]


@pytest.mark.parametrize(
    ("model", "fusion"),
    [*NATIVE, *SEHGNN, *(pair for pair in WITH_FUSION if pair[0] != "mlp")],
)
def test_a_graph_model_beats_the_mlp_where_the_label_is_two_hops_away(
    model: str, fusion: str | None
) -> None:
    planted = make_multimodal_graph(
        240, hops=2, signal=4.0, homophily=1.0, n_attributes=24, random_state=0
    )
    X, y, train = planted.graph.nodes("item"), planted.target, slice(0, 160)
    test = slice(160, None)
    settings = {"max_epochs": 80, "lr": 0.02}

    spec, mlp_spec = (small(name, hidden_channels=16) for name in (model, "mlp"))
    graph_model = fit(spec, X[train], y[train], fusion=fusion, **settings)
    mlp = fit(mlp_spec, X[train], y[train], **settings)

    assert graph_model.score(X[test], y[test]) > mlp.score(X[test], y[test]) + 0.2


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_numbers(model: str) -> None:
    planted = make_multimodal_graph(40, random_state=0)
    X, y = planted.graph.nodes("item"), planted.target

    first, second, other = (fit(model, X, y, random_state=seed) for seed in (0, 0, 1))

    for name, values in first.weights_.items():
        assert_array_equal(values, second.weights_[name])
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert np.abs(first.predict_proba(X) - other.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("model", MODELS)
def test_a_pickled_estimator_predicts_the_same(model: str) -> None:
    planted = make_multimodal_graph(40, random_state=0)
    X, y = planted.graph.nodes("item"), planted.target
    clf = fit(model, X, y)

    loaded = pickle.loads(pickle.dumps(clf))

    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kept", ["text", "image"])
def test_a_modality_can_be_dropped(model: str, kept: str) -> None:
    nodes, edges = draw_parts()
    kept_nodes = {t: {m: x for m, x in ms.items() if m == kept} for t, ms in nodes.items()}
    counted = {t: ms or N_NODES[t] for t, ms in kept_nodes.items()}
    X = MultiModalGraph(counted, edges).nodes("movie")

    clf = fit(small(model), X, np.arange(9) % N_CLASSES)

    assert clf.schema_.modalities == (kept,)
    assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_featureless_type_can_be_classified(model: str) -> None:
    clf = fit(small(model), make_graph().nodes("tag"), np.array([0, 1, 1]))

    assert np.isfinite(clf.predict_proba(make_graph().nodes("tag"))).all()


@pytest.mark.filterwarnings("ignore:.*takes no weights of edges:UserWarning")
@pytest.mark.parametrize("missing", ["copy", "mean_neighbors"])
@pytest.mark.parametrize("model", MODELS)
def test_mini_batches_without_sampling_give_the_numbers_of_the_whole_graph(
    model: str, missing: str
) -> None:
    X, y = make_sparse_graph().nodes("movie"), np.arange(40) % N_CLASSES
    spec, settings = small(model), {"missing": missing, "precision": "float64"}
    if model == "hgnn_ima":  # its attention loss is over the edges that a batch sees
        spec.set_params(att_loss_weight=0.0)
    if not spec.samples:
        with pytest.raises(ValueError, match="needs the whole graph at once"):
            fit(spec, X, y, batch_size=4, **settings)
        return

    whole = fit(spec, X, y, **settings)
    batches = fit(spec, X, y, batch_size=40, **settings)
    expected = whole.predict_proba(X[::-1])

    assert_allclose(batches.history_[0]["train_loss"], whole.history_[0]["train_loss"], rtol=1e-9)
    assert_allclose(batches.predict_proba(X[::-1]), expected, atol=1e-9)
    assert_allclose(whole.set_params(batch_size=3).predict_proba(X[::-1]), expected, atol=1e-9)


# ------------------------------------------------------------------------------ invariance


@pytest.mark.parametrize("missing", ["copy", "zero", "mean_neighbors", "learned"])
@pytest.mark.parametrize(
    "spec",
    [
        *(HGNNIMA(preset) for preset in PRESETS),
        HAN(),
        HAN(semantic_scope="global"),
        HGT(),
        HGT(late_fusion="concat"),
        MLP(),
        MMGCN(),
        GCN(),
        MHGAT(mask_empty=False),
        MHGAT(aggr="sum"),
        GAT(),
        GAT(attention="v2"),
        SAGE(),
        SAGE(aggr="max"),
        StrucGCN(),
        XGEA(),
        XGEA(reflection=True),
        MAMSA(),
        IDKG(),
        SeHGNN(),
        SHGP(),
        HERO(),
    ],
    ids=repr,
)
def test_renumbering_nodes_and_edges_renumbers_the_output(spec: ModelSpec, missing: str) -> None:
    graph = make_graph()
    permuted, order = permute_nodes(graph)
    module = build(spec.set_params(hidden_channels=16), graph, missing=missing)

    out, other = run(module, graph), run(module, permuted)

    assert_allclose(other.logits, out.logits[order["movie"]], atol=1e-10)
    assert_allclose(other.embedding, out.embedding[order["movie"]], atol=1e-10)


@pytest.mark.parametrize("missing", ["copy", "zero", "mean_neighbors"])
@pytest.mark.parametrize(("model", "fusion"), [*NATIVE, *SEHGNN, *WITH_FUSION])
def test_reordering_the_modalities_changes_nothing(
    model: str, fusion: str | None, missing: str
) -> None:
    graph = make_graph()
    movie = graph.x["movie"]
    reordered = graph.with_features({"movie": {m: movie[m] for m in ("image", "text")}})
    assert reordered.nodes("movie").schema.modalities == ("image", "text")
    spec, options = small(model), {"fusion": fusion, "missing": missing}
    module, other = (build(spec, g, **options) for g in (graph, reordered))

    copy_weights(module, other)

    assert_allclose(run(other, reordered).logits, run(module, graph).logits, atol=1e-10)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy every weight to where it belongs when the modalities have another order."""
    by_modality = len(getattr(source, "backbones", ())) == len(source.modalities)
    moved = ("encoder.projections.", "gates.", *(["backbones."] if by_modality else []))
    shared = {k: v for k, v in source.state_dict().items() if not k.startswith(moved)}
    order = [source.modalities.index(modality) for modality in target.modalities]
    for name in shared:
        if name.endswith("w_modal"):  # (relations, modalities, ...)
            shared[name] = shared[name][:, order]
    target.load_state_dict(shared, strict=False)
    for node_type, widths in WIDTHS.items():
        for modality in widths:
            projection = source.encoder.projections[node_type][modality]
            target.encoder.projections[node_type][modality].load_state_dict(projection.state_dict())
    for i, modality in enumerate(source.modalities):
        if by_modality:
            backbone = target.backbones[target.modalities.index(modality)]
            backbone.load_state_dict(source.backbones[i].state_dict())
        if hasattr(source, "gates"):
            target.gates[modality].load_state_dict(source.gates[modality].state_dict())


# ------------------------------------------------------------------------------ parameters


def count_layer(n_relations: int, n_matrices: int, d: int = CHANNELS) -> int:
    """K, Q, V, A and a gate per type; matrices and a prior per relation and head."""
    per_type = 4 * (d + 1) * d + 1
    per_relation = HEADS * (n_matrices * (d // HEADS) ** 2 + 1)
    return len(WIDTHS) * per_type + n_relations * per_relation


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_number_of_parameters_is_as_the_formula_says(num_layers: int) -> None:
    graph, d = make_graph(), CHANNELS
    n_relations, n_modalities = len(graph.edge_types), 2
    scorer, head = (d + 1) * d + d + 1, (d + 1) * N_CLASSES
    expected = {
        ("hgnn_ima", None): num_layers * count_layer(n_relations, 2 + n_modalities) + scorer + head,
        ("hgt", "early"): num_layers * count_layer(n_relations, 2) + head,
        ("hgt", "late"): n_modalities * num_layers * count_layer(n_relations, 2) + scorer + head,
        ("mlp", "early"): num_layers * (d + 1) * d + head,
        ("mlp", "late"): n_modalities * num_layers * (d + 1) * d + scorer + head,
        ("gcn", "early"): num_layers * (d + 1) * d + head,
        ("gat", "early"): num_layers * (d + 3) * d + head,
        ("strucgcn", "early"): num_layers * 2 * d * d + head,
        ("sage", "early"): num_layers * (2 * d + 1) * d + head,
    }

    counted = {
        (model, fusion): count(build(small(model, num_layers=num_layers), graph, fusion=fusion))
        for model, fusion in expected
    }

    assert counted == {key: count_encoder() + value for key, value in expected.items()}


@pytest.mark.parametrize("missing", ["copy", "zero", "mean_neighbors", "learned"])
@pytest.mark.parametrize(
    ("model", "fusion"),
    [*NATIVE, ("mm_gcn", None), ("mamsa", None), *WITH_FUSION],
)
def test_gradients_reach_every_parameter(model: str, fusion: str | None, missing: str) -> None:
    grads = gradients(small(model), make_single_type_graph(), fusion=fusion, missing=missing)

    assert_every_parameter_counts(grads)


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize(
    ("model", "missing"),
    [
        (model, missing)
        for model in MODELS
        for missing in ("learned", "copy", "mean_neighbors")
        if model != "sehgnn" or missing == "learned"  # it has no such state otherwise
    ],
)
def test_a_learned_state_of_what_is_missing_moves_from_where_it_starts(
    model: str, fusion: str, missing: str
) -> None:
    graph = make_single_type_graph()
    text, image = (graph.x["node"][m].copy() for m in ("text", "image"))
    text[4] = image[4] = np.nan  # has nothing
    X = graph.with_features({"node": {"text": text, "image": image}}).nodes()
    y = np.arange(9) % N_CLASSES
    known = {"fusion": fusion} if MODELS[model]().get_params().get("late_fusion") else {}

    start, moved = (
        fit(small(model), X, y, missing=missing, max_epochs=n, weight_decay=0.0, **known).weights_[
            "encoder.placeholder"
        ]
        for n in (1, 3)
    )

    assert (start != moved).any(axis=(1, 2)).all()  # of every modality


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("ablation", ["", *ABLATIONS])
def test_gradients_reach_every_parameter_in_presets_and_ablations(
    preset: str, ablation: str
) -> None:
    spec = small(HGNNIMA, preset=preset, num_layers=2, **ABLATIONS.get(ablation, {}))

    assert_every_parameter_counts(gradients(spec, make_single_type_graph()))


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("ablation", ["", *ABLATIONS])
def test_presets_and_ablations_train(preset: str, ablation: str) -> None:
    params = ABLATIONS.get(ablation, {})
    X, y = make_graph().nodes("movie"), np.arange(9) % N_CLASSES

    clf = fit(HGNNIMA(preset, hidden_channels=8, heads=2, **params), X, y)

    losses = [row["train_loss"] for row in clf.history_]
    assert np.isfinite(losses).all()
    settings = clf.spec_.settings()
    assert ("train_ce_text" in clf.history_[0]) is bool(settings["unimodal_loss_weight"])
    attends = settings["cross_modal"] in ("adaptive", "influenced", "node")
    watches = bool(attends and settings["att_loss_weight"])
    assert ("train_attention" in clf.history_[0]) is watches


def test_the_presets_are_the_paper_and_the_code_it_came_with() -> None:
    paper, released = HGNNIMA("paper").settings(), HGNNIMA("released").settings()

    assert (paper["num_layers"], paper["dropout"], paper["activation"]) == (3, 0.6, "sigmoid")
    assert (paper["attention_scope"], paper["attention_norm"]) == ("node", "softmax")
    assert (released["dropout"], released["activation"], released["norm"]) == (0.2, None, "layer")
    assert (released["attention_scope"], released["attention_norm"]) == ("relation", "outer")
    assert HGNNIMA("paper", dropout=0.1).settings()["dropout"] == 0.1


@pytest.mark.parametrize("model", sorted(dict(WITH_FUSION)))
@pytest.mark.parametrize(
    ("fusion", "option"),
    [("early", o) for o in EARLY_FUSION] + [("late", o) for o in LATE_FUSION],
)
def test_every_fusion_trains(model: str, fusion: str, option: str) -> None:
    X, y = make_graph().nodes("movie"), np.arange(9) % N_CLASSES

    clf = fit(small(model, **{f"{fusion}_fusion": option}), X, y, fusion=fusion)

    assert np.isfinite([row["train_loss"] for row in clf.history_]).all()
    assert_allclose(clf.predict_proba(X).sum(1), 1)
    width = 2 * CHANNELS if option == "concat" and fusion == "late" else CHANNELS
    assert clf.transform(X).shape == (9, width)
    if option == "attention":
        assert_allclose(clf.modality_weights(X).sum(axis=1), 1, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="gives modalities no weights"):
            clf.modality_weights(X)


def test_early_fusion_by_concatenation_is_one_linear_map_of_the_columns() -> None:
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(6, 5)), rng.normal(size=(6, 4))
    graph = MultiModalGraph({"text": text, "image": image})
    module = build(small("mlp", num_layers=0), graph, "node", fusion="early")

    params = {name: p.detach().numpy() for name, p in module.named_parameters()}

    weights = [params[f"encoder.projections.entries.0.entries.{i}.weight"] for i in (0, 1)]
    bias = sum(params[f"encoder.projections.entries.0.entries.{i}.bias"] for i in (0, 1))
    z = np.tanh(np.hstack([text, image]) @ np.hstack(weights).T + bias)
    assert_allclose(run(module, graph, "node").embedding, z, atol=1e-12)


def test_late_fusion_of_logits_is_the_mean_of_the_log_probabilities() -> None:
    graph = make_graph()
    late = build(small("hgt", late_fusion="logits"), graph, fusion="late")

    logits = run(late, graph).logits

    # a mean of log-probabilities is below log 1
    assert (torch.logsumexp(logits, 1) <= 1e-12).all()


def test_one_modality_has_all_the_weight() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), np.arange(20) % 2

    clf = fit("hgnn_ima", X, y)

    assert_allclose(clf.modality_weights(X), 1)
    assert list(clf.modality_weights(X)) == ["x"]
    assert not any(name.startswith("train_ce_") for name in clf.history_[0])


@pytest.mark.parametrize("model", LAYERED)
def test_without_layers_a_node_is_classified_by_its_own_features(model: str) -> None:
    graph = make_graph()
    module = build(small(model, num_layers=0), graph, missing="zero")
    x = dict(graph.x["movie"])
    other = graph.with_features({"movie": {m: np.vstack([a[:1], a[1:] + 1]) for m, a in x.items()}})

    first, second = run(module, graph).logits, run(module, other).logits

    assert_allclose(first[0], second[0], atol=1e-12)
    assert (first[2] - second[2]).abs().max() > 1e-3


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (HGNNIMA(dropout=1.5), r"The 'dropout' parameter of HGNNIMA must be .*\. Got 1.5 instead"),
        (HGNNIMA("papre"), "The 'preset' parameter of HGNNIMA must be a str among"),
        (HGNNIMA(cross_modal="all"), "The 'cross_modal' parameter of HGNNIMA must be a str among"),
        (HGT(num_layers=-1), r"The 'num_layers' parameter of HGT must be an int in the range"),
        (HGT(dropout=1.5), r"The 'dropout' parameter of HGT must be a float in the range \[0"),
        (MLP(hidden_channels=0), "The 'hidden_channels' parameter of MLP must be an int"),
    ],
    ids=repr,
)
def test_a_parameter_out_of_range_is_named(spec: ModelSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec.build(make_graph().nodes("movie").schema, 2)


@pytest.mark.parametrize("spec", [HGNNIMA, HGT])
def test_heads_that_do_not_divide_the_channels_are_an_error(spec: type[ModelSpec]) -> None:
    with pytest.raises(ValueError, match="heads has to divide hidden_channels, got heads=3"):
        spec(heads=3, hidden_channels=16).build(make_graph().nodes("movie").schema, 2)


def test_an_unknown_model_is_answered_with_the_nearest_one() -> None:
    message = r"model='hgnn_imma' is not known\. Did you mean 'hgnn_ima'\? Known models: hgnn_ima, "
    with pytest.raises(ValueError, match=message):
        get_model("hgnn_imma")


def test_a_model_that_takes_modalities_natively_refuses_fusion() -> None:
    with pytest.raises(ValueError, match="does not apply to model 'hgnn_ima'"):
        HGNNIMA().build(make_graph().nodes("movie").schema, 2, fusion="early")


def test_a_fusion_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"fusion has to be one of \['late', 'early'\]"):
        HGT().build(make_graph().nodes("movie").schema, 2, fusion="middle")


def test_a_schema_without_a_target_or_without_features_is_an_error() -> None:
    with pytest.raises(ValueError, match="The schema has no target"):
        HGT().build(make_graph().schema, 2)
    bare = MultiModalGraph({"node": 3}, {("node", "r", "node"): [[0], [1]]})
    with pytest.raises(ValueError, match="No node type has a modality"):
        HGT().build(bare.nodes().schema, 2)


def test_the_table_of_models_has_all_of_them() -> None:
    table = list_models()

    assert list(table.index) == list(ALL_MODELS)
    assert table.loc["hgnn_ima", "fusion"] == "native"
    assert table.loc["hgt", "fusion"] == "late, early"
    assert table["paper"].str.len().gt(0).all()
