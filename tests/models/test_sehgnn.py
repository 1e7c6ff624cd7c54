"""SeHGNN: its numbers are those of its equations, and no node sees its own label."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from small_models import (
    CHANNELS,
    N_CLASSES,
    N_NODES,
    WIDTHS,
    assert_every_parameter_counts,
    build,
    count,
    draw_parts,
    make_graph,
    make_single_type_graph,
    permute_nodes,
    small,
    to_tensors,
)

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.models import ModelSpec, SeHGNN, _fusion, sehgnn
from skmmg.nn import GraphTensors, _channel_embedding
from skmmg.nn._channels import PlainNorm
from skmmg.training import ClassificationLoss

Array = np.ndarray
LABELS = torch.tensor([0, 1, 2, -1, 1, -1, 0, -1, 2])
MISSING = ("mean_neighbors", "copy", "zero", "learned")
IDS = torch.tensor([7, 0, 4, 2])


def make_spec(**params: Any) -> ModelSpec:
    return small(SeHGNN, **params)


def show(graph: MultiModalGraph, labels: torch.Tensor = LABELS) -> GraphTensors:
    return to_tensors(graph).with_labels(labels)


# ------------------------------------------------------------------------------ equations


def mean_matrices(graph: MultiModalGraph) -> dict[Any, Array]:
    """Row-normalised matrices (n_dst, n_src), edges counted one by one."""
    out = {}
    for (src, rel, dst), index in graph.edge_index.items():
        a = np.zeros((N_NODES[dst], N_NODES[src]))
        np.add.at(a, (index[1], index[0]), 1)
        out[src, rel, dst] = a / np.maximum(a.sum(1, keepdims=True), 1)
    return out


def walks(graph: MultiModalGraph, hops: int, target: str = "movie") -> dict[Any, Array]:
    """Matrix of every metapath to the target type, the first relation first in its name."""
    matrices = mean_matrices(graph)
    found: dict[Any, Array] = {(): np.eye(N_NODES[target])}
    last = dict(found)
    for _ in range(hops):
        last = {
            (e, *path): a @ matrices[e]
            for path, a in last.items()
            for e in matrices
            if e[2] == (path[0][0] if path else target)
        }
        found |= last
    return found


def dense_features(graph: MultiModalGraph, t: str, m: str) -> tuple[Array, Array]:
    """Features with zeros for missing rows, and which rows are there."""
    x = np.nan_to_num(np.asarray(graph.x[t].get(m, np.zeros((N_NODES[t], 1)))))
    has = graph.present(t, m) if m in graph.x[t] else np.zeros(N_NODES[t], dtype=bool)
    return x, has


def embed(p: dict[str, Array], t: str, m: str, x: Array) -> Array:
    """Raw features to channels; zeros for a modality that the type lacks."""
    if m not in WIDTHS[t]:
        return np.zeros((len(x), CHANNELS))
    entry = f"{list(WIDTHS).index(t)}.entries.{list(WIDTHS[t]).index(m)}"
    return x @ p[f"encoder.projections.entries.{entry}.weight"].T


def completed(
    p: dict[str, Array], graph: MultiModalGraph, a: Array, t: str, m: str, how: str
) -> Array:
    """The channel of one modality along a metapath with matrix `a` from type t."""
    x, has = dense_features(graph, t, m)
    h = embed(p, t, m, x)
    if how == "mean_neighbors":
        out = np.zeros((len(a), CHANNELS))
        for i, row in enumerate(a):
            if row @ has > 0:
                out[i] = row.sum() * (row * has) @ h / (row @ has)
        return out
    for j in np.flatnonzero(~has):
        if how == "learned":
            order = ("text", "image").index(m), list(WIDTHS).index(t)
            h[j] = p["encoder.placeholder"][order]
        others = [k for k in ("text", "image") if dense_features(graph, t, k)[1][j]]
        if how == "copy" and others:
            h[j] = embed(p, t, others[0], dense_features(graph, t, others[0])[0][j : j + 1])[0]
    return a @ h


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, slope * x)


def layer_norm(x: Array) -> Array:
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + 1e-5))


def mix(p: dict[str, Array], net: str, h: Array, own: Array | None) -> Array:
    """Channels (c, d) of one node to its state before the task layers."""
    for k in range(2):
        h = np.stack(
            [
                h[c] @ p[f"{net}maps.{k}.weight"][c] + p[f"{net}maps.{k}.bias"][c, 0]
                for c in range(len(h))
            ]
        )
        h = layer_norm(h) * p[f"{net}norms.{k}.weight"] + p[f"{net}norms.{k}.bias"]
        h = prelu(h, p[f"{net}activations.{k}.weight"])
    q = h @ p[f"{net}query.weight"].T + p[f"{net}query.bias"]
    k_ = h @ p[f"{net}key.weight"].T
    e = np.exp(q @ k_.T / np.sqrt(CHANNELS // 4))
    beta = e / e.sum(1, keepdims=True)
    h = h + p[f"{net}gamma"] * beta @ (h @ p[f"{net}value.weight"].T + p[f"{net}value.bias"])
    z = h.reshape(-1) @ p[f"{net}merge.weight"].T + p[f"{net}merge.bias"]
    if own is not None:
        z = z + own @ p[f"{net}own.weight"].T
    return prelu(z, p[f"{net}activations.2.weight"])


def task(p: dict[str, Array], net: str, z: Array) -> Array:
    """The layers between the mixer and the classifier, with running statistics."""
    k = 0
    while f"{net}layers.{k}.linear.weight" in p:
        mean, var = p[f"{net}layers.{k}.norm.mean"], p[f"{net}layers.{k}.norm.var"]
        z = (z @ p[f"{net}layers.{k}.linear.weight"].T - mean) / np.sqrt(var + 1e-5)
        z = prelu(z, p[f"{net}activations.{k}.weight"])
        k += 1
    return z


def channels_of(
    p: dict[str, Array], graph: MultiModalGraph, modalities: tuple[str, ...], how: str, hops: int
) -> dict[Any, Array]:
    out = {}
    for path, a in walks(graph, hops).items():
        t = path[0][0] if path else "movie"
        wanted = {"learned": True, "copy": bool(WIDTHS[t])}.get(
            how, any(m in WIDTHS[t] for m in modalities)
        )
        if wanted:
            out[path] = sum(completed(p, graph, a, t, m, how) for m in modalities)
    return out


def label_channels_of(graph: MultiModalGraph, hops: int) -> dict[Any, Array]:
    one_hot = np.zeros((N_NODES["movie"], N_CLASSES))
    for i, label in enumerate(LABELS.tolist()):
        one_hot[i] = np.arange(N_CLASSES) == label
    found = walks(graph, hops)
    back = {path: a.copy() for path, a in found.items() if path and path[0][0] == "movie"}
    for a in back.values():
        np.fill_diagonal(a, 0)
    return {path: a @ one_hot for path, a in back.items()}


@pytest.mark.parametrize("precompute", [True, False])
@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize(
    ("fusion", "params"),
    [
        ("early", {}),
        ("late", {}),
        ("early", {"residual": True, "num_task_layers": 3, "num_feature_hops": 3}),
        ("late", {"num_task_layers": 1, "num_label_hops": 3, "late_fusion": "concat"}),
    ],
)
def test_the_output_is_what_the_equations_say(
    fusion: str, params: dict[str, Any], missing: str, precompute: bool
) -> None:
    graph = make_graph()
    spec = make_spec(precompute=precompute, **params)
    module = build(spec, graph, fusion=fusion, missing=missing)
    for name, buffer in module.named_buffers():
        buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.normal_()

    output = module(show(graph), IDS)

    p = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    labels = label_channels_of(graph, spec.num_label_hops)
    groups = [("text", "image")] if fusion == "early" else [("text",), ("image",)]
    parts = []
    for g, modalities in enumerate(groups):
        channels = channels_of(p, graph, modalities, missing, spec.num_feature_hops)
        paths, label_paths = module.encoder.paths[g], module.label_paths
        assert set(paths) == set(channels)
        assert set(label_paths) == set(labels)
        h = [channels[path] for path in paths]
        h += [labels[path] @ p["label_embedding"][k] for k, path in enumerate(label_paths)]
        own = channels[()] if spec.residual else [None] * N_NODES["movie"]
        net = f"backbones.{g}."
        mixed = np.stack([mix(p, f"{net}mixer.", np.stack([c[i] for c in h]), own[i]) for i in IDS])
        parts.append(task(p, f"{net}task.", mixed))
    if fusion == "early":
        z, head = parts[0], "head."
    elif spec.late_fusion == "concat":
        z, head = np.hstack(parts), "late.head."
    else:
        w = [
            np.tanh(q @ p["late.attention.score.0.weight"].T + p["late.attention.score.0.bias"])
            @ p["late.attention.score.2.weight"].T
            for q in parts
        ]
        e = np.exp(np.stack(w))
        z, head = ((e / e.sum(0)) * np.stack(parts)).sum(0), "late.head."
    logits = (z @ p[f"{head}linear.weight"].T - p[f"{head}norm.mean"]) / np.sqrt(
        p[f"{head}norm.var"] + 1e-5
    )
    assert_allclose(output.embedding.detach(), z, atol=1e-10)
    assert_allclose(output.logits.detach(), logits, atol=1e-10)


def test_sparse_features_are_never_filled_in_and_give_the_same() -> None:
    nodes, edges = draw_parts()
    nodes["movie"]["text"][:3, :2] = 0.0
    dense = MultiModalGraph({**nodes, "tag": N_NODES["tag"]}, edges)
    text = nodes["movie"]["text"]
    movie = {
        "text": sparse.csr_array(np.nan_to_num(text)),
        "image": nodes["movie"]["image"],
    }
    thin = MultiModalGraph(
        {**nodes, "movie": movie, "tag": N_NODES["tag"]},
        edges,
        masks={"movie": {"text": ~np.isnan(text).any(1)}},
    )
    module = build(make_spec(), dense)

    graph = show(thin)
    assert_allclose(
        module(graph, IDS).logits.detach(), module(show(dense), IDS).logits.detach(), atol=1e-12
    )
    assert not module.encoder._is_stored(graph, "text")
    assert module.encoder._is_stored(graph, "image")


def test_features_are_propagated_once_and_only_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, module = show(make_graph()), build(make_spec(), make_graph())
    calls: list[int] = []
    propagate = _channel_embedding.propagate

    def counted(*args: Any) -> Any:
        calls.append(1)
        return propagate(*args)

    monkeypatch.setattr(_channel_embedding, "propagate", counted)
    first = module(graph, IDS).logits
    n_calls = len(calls)
    second = module(graph, IDS).logits

    assert n_calls > 0
    assert len(calls) == n_calls
    assert_array_equal(first.detach(), second.detach())
    monkeypatch.setattr(_channel_embedding, "_MAX_STORED", 1)
    assert_allclose(module(graph, IDS).logits.detach(), first.detach(), atol=1e-12)
    assert len(calls) > n_calls


@pytest.mark.parametrize("num_task_layers", [1, 3])
@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("residual", [False, True])
def test_the_number_of_parameters_is_as_the_formula_says(
    fusion: str, num_task_layers: int, residual: bool
) -> None:
    graph, d = make_single_type_graph(), CHANNELS
    spec = make_spec(num_task_layers=num_task_layers, residual=residual)
    n_relations = len(graph.edge_types)
    n_labels = n_relations + n_relations**2
    c = 1 + 2 * n_labels  # of features, and of labels

    counted = count(build(spec, graph, "node", fusion=fusion, missing="zero"))

    blocks = 2 * (c * (d + 1) * d + 2 * c * d) + 3
    attention = 2 * d * (d // 4) + d // 4 + (d + 1) * d + 1
    merge = c * d * d + d + residual * d * d
    net = blocks + attention + merge + (num_task_layers - 1) * (d * d + 1)
    n_nets, scorer = (2, (d + 1) * d + d + 1) if fusion == "late" else (1, 0)
    embeddings = (5 + 4) * d + n_labels * N_CLASSES * d
    assert counted == embeddings + n_nets * net + scorer + d * N_CLASSES


@pytest.mark.parametrize("precompute", [True, False])
@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("norm", ["batch", "layer", None])
def test_gradients_reach_every_parameter(
    fusion: str, missing: str, norm: str | None, precompute: bool
) -> None:
    graph = make_single_type_graph()
    spec = make_spec(residual=True, norm=norm, precompute=precompute)
    module = build(spec, graph, "node", fusion=fusion, missing=missing).train()
    ids = torch.arange(9)

    loss, _ = ClassificationLoss()(
        module(show(graph), ids), ids % N_CLASSES, torch.ones(9).double()
    )
    loss.backward()

    assert_every_parameter_counts({n: p.grad for n, p in module.named_parameters()})


def test_at_the_start_the_channels_do_not_mix() -> None:
    module = SeHGNN().build(make_graph().nodes("movie").schema, N_CLASSES)

    assert module.backbones[0].mixer.gamma == 0


# ------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("fusion", ["early", "late"])
@pytest.mark.parametrize("num_label_hops", [1, 2, 4])
def test_a_nodes_own_label_never_changes_its_own_output(fusion: str, num_label_hops: int) -> None:
    nodes, edges = draw_parts()
    loops = np.stack([np.arange(9)] * 2)  # a node that is its own neighbour, too
    edges = {**edges, ("movie", "is", "movie"): loops}
    graph = MultiModalGraph({**nodes, "tag": N_NODES["tag"]}, edges)
    module = build(make_spec(num_label_hops=num_label_hops), graph, fusion=fusion)
    ids, others = torch.arange(9), 0.0

    before = module(show(graph), ids).logits.detach()
    for i in range(9):
        for label in {-1, 0, 1, 2} - {int(LABELS[i])}:
            labels = LABELS.clone()
            labels[i] = label
            after = module(show(graph, labels), ids).logits.detach()
            assert_array_equal(after[i], before[i])
            others += float((after - before).abs().sum())
    assert others > 0


def test_labels_say_nothing_without_label_hops() -> None:
    graph = make_graph()
    module = build(make_spec(num_label_hops=0), graph)

    logits = [
        module(show(graph, labels), IDS).logits for labels in (LABELS, -torch.ones_like(LABELS))
    ]

    assert_array_equal(logits[0].detach(), logits[1].detach())


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_renumbering_nodes_renumbers_the_output_with_labels(fusion: str) -> None:
    graph = make_graph()
    permuted, order = permute_nodes(graph)
    module, ids = build(make_spec(), graph, fusion=fusion), torch.arange(9)

    out = module(show(graph), ids).logits.detach()
    other = module(show(permuted, LABELS[order["movie"]]), ids).logits.detach()

    assert_allclose(other, out[order["movie"]], atol=1e-10)


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("fusion", "late_fusion"),
    [("early", "mean"), *itertools.product(["late"], _fusion.LATE_FUSION)],
)
def test_every_fusion_trains(fusion: str, late_fusion: str) -> None:
    X, y = make_graph().nodes("movie"), np.arange(9) % N_CLASSES
    spec = make_spec(late_fusion=late_fusion)

    clf = MultiModalGraphClassifier(
        spec, fusion=fusion, max_epochs=3, early_stopping=False, random_state=0
    ).fit(X, y)

    assert np.isfinite([row["train_loss"] for row in clf.history_]).all()
    assert_allclose(clf.predict_proba(X).sum(1), 1, atol=1e-6)
    both = (fusion, late_fusion) == ("late", "concat")
    assert clf.transform(X).shape == (9, CHANNELS * (1 + both))
    if (fusion, late_fusion) == ("late", "attention"):
        assert_allclose(clf.modality_weights(X).sum(axis=1), 1, atol=1e-6)


def test_one_node_is_predicted_as_it_is_among_others() -> None:
    X, y = make_graph().nodes("movie"), np.arange(9) % N_CLASSES
    clf = MultiModalGraphClassifier("sehgnn", max_epochs=3, early_stopping=False, random_state=0)

    clf.fit(X, y)

    assert_allclose(clf.predict_proba(X[3:4]), clf.predict_proba(X)[3:4], atol=1e-6)


def test_a_normalisation_without_statistics_of_others_takes_the_running_ones() -> None:
    norm, x = PlainNorm(3, "batch"), torch.randn(6, 3)

    trained = norm(x)
    kept = norm.mean.clone()
    norm(x + 5, keep=False)

    assert_allclose(trained.mean(0), 0, atol=1e-6)
    assert_array_equal(norm.mean, kept)
    assert_allclose(norm(x[:1]), norm.eval()(x)[:1])


def test_evaluation_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, module = show(make_graph()), build(make_spec(residual=True), make_graph())
    ids = torch.arange(9)
    with torch.no_grad():
        whole = module(graph, ids).logits
        monkeypatch.setattr(sehgnn, "_BLOCK", 2)
        blocks = module(graph, ids).logits

    assert_allclose(blocks, whole, atol=1e-12)


# ------------------------------------------------------------------------------ errors


def test_a_step_that_would_not_fit_is_refused_with_what_to_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sehgnn, "_MAX_KEPT", 1 << 12)
    graph, module = show(make_graph()), build(make_spec(), make_graph())

    module(graph, IDS)
    with pytest.raises(ValueError, match=r"on 4 nodes with .* Lower num_feature_hops, num_"):
        module.train()(graph, IDS)


@pytest.mark.parametrize(
    ("params", "target", "n_outputs", "message"),
    [
        ({"norm": "layer"}, "movie", 2, 'needs at least 3 classes, got 2.*norm="batch"'),
        ({"num_feature_hops": 0}, "tag", 3, "No node type within num_feature_hops=0 steps"),
        ({"residual": True}, "tag", 3, "residual=True needs features of 'tag'"),
        ({"num_task_layers": 0}, "movie", 3, "'num_task_layers' parameter of SeHGNN"),
    ],
)
def test_what_cannot_work_is_an_error(
    params: dict[str, Any], target: str, n_outputs: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SeHGNN(**params).build(make_graph().nodes(target).schema, n_outputs)
