"""Training without labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skmmg import MultiModalGraph, NodeEmbedder
from skmmg.models import HGT
from skmmg.training import Infomax, InfomaxLoss, column_statistics, graph_tensors, private_seed

CPU = torch.device("cpu")


def make_graph() -> MultiModalGraph:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 10)
    x = rng.normal(size=(20, 4)) + 3 * groups[:, None]
    edges = np.array([(i, j) for i in range(20) for j in range(20) if groups[i] == groups[j]]).T
    return MultiModalGraph({"x": x}, {"near": edges})


def make_net() -> tuple[Infomax, MultiModalGraph]:
    graph = make_graph()
    with private_seed(0, CPU):
        spec = HGT(hidden_channels=8, heads=2, dropout=0.0, input_dropout=0.0)
        return Infomax(spec.build(graph.nodes().schema, 2)), graph


def test_scores_are_of_the_shuffled_and_of_the_true_nodes() -> None:
    net, graph = make_net()
    tensors = graph_tensors(graph, column_statistics(graph, "auto"), device=CPU)

    with private_seed(0, CPU):
        output = net(tensors, torch.arange(5))

    assert output.logits.shape == (5, 2)
    assert torch.equal(output.embedding, net.module(tensors, torch.arange(5)).embedding)


def test_training_tells_true_from_shuffled_nodes() -> None:
    net, graph = make_net()
    tensors = graph_tensors(graph, column_statistics(graph, "auto"), device=CPU)
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.02), []

    with private_seed(0, CPU):
        for _ in range(30):
            optimizer.zero_grad()
            output = net(tensors, torch.arange(20))
            loss, parts = InfomaxLoss()(output, torch.ones(20), torch.ones(20))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    assert set(parts) == {"bce"}
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("model", ["hgnn_ima", "hgt", "mlp"])
def test_the_embedder_keeps_the_model_and_not_the_discriminator(model: str) -> None:
    embedder = NodeEmbedder(model, max_epochs=2, random_state=0).fit(make_graph().nodes())

    assert embedder.objective_ == "infomax"
    assert "weight" not in embedder.weights_
    assert set(embedder.weights_) == set(embedder.module_.state_dict())
    assert np.isfinite(embedder.transform(make_graph().nodes())).all()


def test_the_embedder_does_not_touch_torchs_generator() -> None:
    before = torch.get_rng_state()

    NodeEmbedder(max_epochs=2).fit(make_graph().nodes())

    assert torch.equal(torch.get_rng_state(), before)
