"""SHGP: pseudo-labels change with attention, are never one cluster, and are not kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from skmmg import MultiModalGraph, MultiModalGraphClassifier, NodeEmbedder
from skmmg.datasets import make_multimodal_graph
from skmmg.models import SHGP
from skmmg.nn import GraphTensors
from skmmg.training import SelfSupervisedLoss, column_statistics, graph_tensors

CPU = torch.device("cpu")


def make_tensors(n: int = 40) -> tuple[MultiModalGraph, GraphTensors]:
    graph = make_multimodal_graph(n, random_state=0).graph
    return graph, graph_tensors(graph, column_statistics(graph, None), device=CPU)


def build(graph: MultiModalGraph, fusion: str = "early", **params: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return SHGP(hidden_channels=8, **params).build(graph.nodes("item").schema, 0, fusion=fusion)


def test_labels_are_those_of_plain_propagation_until_the_warm_up_ends() -> None:
    graph, tensors = make_tensors()
    module = build(graph, warmup_epochs=3, cluster_ratio=0.5, scale_scores=False).train()
    seen = []
    for _ in range(6):
        module(tensors, torch.arange(40))
        seen.append(module.nets[0].clusters.labels)

    for labels in seen[1:3]:
        assert_array_equal(labels, seen[0])
    assert any(not np.array_equal(labels, seen[0]) for labels in seen[3:])


def test_a_single_cluster_is_followed_by_new_labels() -> None:
    graph, tensors = make_tensors()
    module = build(graph, warmup_epochs=0, cluster_ratio=0.5).train()
    module(tensors, torch.arange(40))
    clusters = module.nets[0].clusters
    clusters.labels = np.zeros_like(clusters.labels)

    module(tensors, torch.arange(40))

    assert len(np.unique(clusters.labels[tensors_slice(tensors)])) >= 2


def tensors_slice(tensors: GraphTensors) -> slice:
    start = 0
    for t, n in tensors.num_nodes.items():
        if t == "item":
            return slice(start, start + n)
        start += n
    raise AssertionError


@pytest.mark.parametrize(("ratio", "most", "wanted"), [(0.5, 512, 20), (0.01, 512, 2), (1, 7, 7)])
def test_the_number_of_clusters_is_a_share_of_the_nodes_and_bounded(
    ratio: float, most: int, wanted: int
) -> None:
    graph, tensors = make_tensors()
    module = build(graph, cluster_ratio=ratio, max_clusters=most).train()
    net = module.nets[0]

    _, n_clusters = net.clusters.update(tensors, [])

    assert n_clusters == wanted
    assert net.clusters.labels.max() < wanted
    assert net.head.out_features == most


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_the_loss_reaches_the_encoder_and_attention_stays_out_of_the_labels(fusion: str) -> None:
    rng = np.random.default_rng(0)
    edges = {"near": rng.integers(30, size=(2, 60)), "far": rng.integers(30, size=(2, 60))}
    features = {"text": rng.normal(size=(30, 5)), "image": rng.normal(size=(30, 4))}
    graph = MultiModalGraph(features, edges)
    tensors = graph_tensors(graph, column_statistics(graph, None), device=CPU)
    torch.manual_seed(0)
    module = SHGP(hidden_channels=8, warmup_epochs=0, cluster_ratio=0.2).build(
        graph.nodes().schema, 0, fusion=fusion
    )
    for _ in range(2):
        output = module.train()(tensors, torch.arange(30))
    loss, parts = SelfSupervisedLoss()(output, torch.zeros(30), torch.ones(30))
    loss.backward()

    assert set(parts) == (
        {"clusters"} if fusion == "early" else {"clusters_text", "clusters_image"}
    )
    assert output.logits.shape == (30, 0)
    assert output.embedding.shape == (30, 8 if fusion == "early" else 16)
    for name, parameter in module.named_parameters():
        if name != "encoder.placeholder":  # no node lacks everything
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_the_number_of_parameters_is_as_the_formula_says() -> None:
    graph, _ = make_tensors()
    schema, d, most, att = graph.nodes("item").schema, 8, 32, 4
    n_types, n_relations = len(schema.node_types), len(schema.edge_types)
    widths = [w for ms in schema.node_types.values() for w in ms.values()]
    encoder = sum((w + 1) * d for w in widths) + n_types * d
    layer = n_types * (d * d + 2 * d * att + 2 * att + d) + n_relations * d * d

    for fusion, copies in (("early", 1), ("late", len(schema.modalities))):
        module = build(graph, fusion, max_clusters=most, att_channels=att, num_layers=3)
        counted = sum(p.numel() for p in module.parameters())
        assert counted == encoder + copies * (3 * layer + (d + 1) * most)


def test_the_embedding_does_not_depend_on_the_clusters_of_training() -> None:
    X = make_multimodal_graph(40, random_state=0).graph.nodes("item")
    embedder = NodeEmbedder(SHGP(hidden_channels=8), max_epochs=12, random_state=0).fit(X)

    assert embedder.module_.nets[0].clusters.labels is None
    assert_array_equal(embedder.transform(X), embedder.transform(X))


def test_its_embedding_tells_what_a_perceptron_cannot_see() -> None:
    planted = make_multimodal_graph(
        240, hops=2, signal=4.0, homophily=1.0, n_attributes=24, random_state=0
    )
    X, y = planted.graph.nodes("item"), planted.target
    params = {"max_epochs": 40, "lr": 0.01, "early_stopping": False, "random_state": 0}
    spec = SHGP(hidden_channels=16, dropout=0.0)

    clf = MultiModalGraphClassifier(spec, **params).fit(X[:160], y[:160])
    mlp = MultiModalGraphClassifier("mlp", **params).fit(X[:160], y[:160])

    assert clf.score(X[160:], y[160:]) > mlp.score(X[160:], y[160:]) + 0.15
