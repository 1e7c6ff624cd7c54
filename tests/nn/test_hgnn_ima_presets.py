"""HGNN-IMA as a whole, encoder to loss, against the equations in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose
from reference import Switches
from torch import nn

from skmmg import MultiModalGraph
from skmmg.models import HGNNIMA
from skmmg.models.hgnn_ima import HGNNIMAModule
from skmmg.training import ClassificationLoss, column_statistics, graph_tensors

Array = np.ndarray
States = dict[str, Array]
MODALITIES = ("text", "image")
N_CLASSES, TARGET = 3, "movie"
SWITCHES = Switches.__dataclass_fields__
# Actors have no image, tags have nothing, movie 1 has no image and movie 3 nothing.
N_NODES = {"movie": 5, "actor": 4, "tag": 3}
EDGES = {
    ("movie", "stars", "actor"): ([0, 0, 1, 2, 3, 4], [0, 1, 1, 2, 0, 0]),
    ("tag", "describes", "movie"): ([0, 1, 2, 2, 0], [0, 0, 1, 3, 3]),
    ("movie", "similar", "movie"): ([1, 1, 2, 4, 3], [0, 0, 1, 3, 3]),
    ("actor", "knows", "actor"): ([], []),
}


def make_graph() -> MultiModalGraph:
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(5, 6)), rng.normal(size=(5, 7))
    image[[1, 3]], text[3] = np.nan, np.nan
    nodes = {
        "movie": {"text": text, "image": image},
        "actor": {"text": rng.normal(size=(4, 5))},
        "tag": 3,
    }
    return MultiModalGraph(nodes, {e: np.array(ids, dtype=int) for e, ids in EDGES.items()})


def build(spec: HGNNIMA, graph: MultiModalGraph, missing: str) -> nn.Module:
    """Build the module in float64, every parameter with values of its own."""
    module = spec.build(graph.nodes(TARGET).schema, N_CLASSES, missing=missing).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            parameter.copy_(0.5 * noise)
    return module


# --------------------------------------------------------- what reference.py does not hold


def find_absent(graph: MultiModalGraph) -> dict[str, Array]:
    """Which nodes lack which modality, (M, n) by type."""
    lacks = {t: np.ones((len(MODALITIES), n), dtype=bool) for t, n in N_NODES.items()}
    for node_type, matrices in graph.x.items():
        for modality, x in matrices.items():
            lacks[node_type][MODALITIES.index(modality)] = np.isnan(x).all(axis=1)
    return lacks


def encode(module: nn.Module, graph: MultiModalGraph, missing: str) -> States:
    """Eq. 1, and what is put in the place of a missing modality."""
    encoder, h = module.encoder, {}
    absent = find_absent(graph)
    for o, (node_type, n) in enumerate(N_NODES.items()):
        h[node_type] = np.zeros((len(MODALITIES), n, encoder.channels))
        for modality, x in graph.x[node_type].items():
            linear = encoder.projections[node_type][modality]
            weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
            states = x @ weight.T + bias
            if encoder.activation == "tanh":
                states = np.tanh(states)
            h[node_type][MODALITIES.index(modality)] = states
        for m, i in np.argwhere(absent[node_type]):
            if missing == "learned":
                h[node_type][m, i] = encoder.placeholder[m, o].detach().numpy()
            elif not absent[node_type][:, i].all():  # "copy": of the other modality
                h[node_type][m, i] = h[node_type][1 - m, i]
    return h if missing != "copy" else fill_bare(module, graph, h, absent)


def fill_bare(
    module: nn.Module, graph: MultiModalGraph, h: States, absent: dict[str, Array]
) -> States:
    """Nodes with nothing: the mean of their in-neighbours that have something, plus a vector."""
    out = {t: states.copy() for t, states in h.items()}
    for o, node_type in enumerate(N_NODES):
        vector = module.encoder.placeholder[0, o].detach().numpy()
        for i in np.flatnonzero(absent[node_type].all(axis=0)):
            around = [
                h[src][:, j]
                for (src, _, dst), index in graph.edge_index.items()
                if dst == node_type
                for j in index[0][index[1] == i]
                if not absent[src][:, j].all()
            ]
            mean = np.mean(around, axis=0) if around else np.zeros_like(h[node_type][:, i])
            out[node_type][:, i] = mean + vector
    return out


def layer_params(conv: nn.Module) -> dict[str, Array]:
    """The layer's parameters under the names that the reference knows them by."""
    params = {}
    for name, values in conv.state_dict().items():
        room, _, rest = name.partition(".entries.")
        if rest:
            number, _, kind = rest.partition(".")
            name = f"{room}.{conv.node_types[int(number)]}.{kind}"
        params[name] = values.numpy()
    return params


def run_reference(
    module: nn.Module, graph: MultiModalGraph, settings: dict[str, Any], missing: str, y: Array
) -> dict[str, Any]:
    """Eq. 1 to 17."""
    h, layers = encode(module, graph, missing), []
    metadata = (graph.node_types, graph.edge_types)
    switches = Switches(**{k: v for k, v in settings.items() if k in SWITCHES})
    for conv in module.convs:
        h, attention = reference.conv(layer_params(conv), metadata, h, graph.edge_index, switches)
        layers.append(attention)
    omega = score_modalities(module, h[TARGET], settings["scorer"])
    z, delta = reference.fuse(h[TARGET], omega)
    weight, bias = module.head.weight.detach().numpy(), module.head.bias.detach().numpy()
    fused, *unimodal = (reference.classify(s, weight, bias) for s in (z, *h[TARGET]))
    absent = {t: mask for t, mask in find_absent(graph).items() if mask.any()}
    attention_loss = reference.attention_loss(layers, graph.edge_index, absent)
    classification = reference.classification_loss(
        fused, unimodal, y, settings["unimodal_loss_weight"]
    )
    total = reference.total_loss(classification, attention_loss, settings["att_loss_weight"])
    return {"z": z, "delta": delta, "fused": fused, "attention": attention_loss, "loss": total}


def score_modalities(module: nn.Module, h: Array, scorer: str) -> Array:
    """Eq. 12, or what the released code has in its place."""
    if scorer == "mlp":
        first, second = module.fusion.score[0], module.fusion.score[2]
        w1, b1, w2 = (p.detach().numpy() for p in (first.weight, first.bias, second.weight))
        return reference.modality_scores(h, w1, b1, w2[0], second.bias.item())
    linear = module.fusion.score[1]
    weight, bias = linear.weight.detach().numpy()[0], linear.bias.item()
    return reference.released_modality_scores(h, weight, bias)


# ------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("missing", ["copy", "learned"])
@pytest.mark.parametrize(
    "spec",
    [
        HGNNIMA("paper"),
        HGNNIMA("released"),
        HGNNIMA("skmmg"),
        HGNNIMA("paper", num_layers=0),
        HGNNIMA("paper", num_layers=1, cross_modal="influenced"),
        HGNNIMA("released", num_layers=1, cross_modal="node", att_loss_weight=0.5),
        HGNNIMA("skmmg", align=False, unimodal_loss_weight=0.0),
        HGNNIMA("skmmg", cross_modal="none", norm="layer"),
    ],
    ids=repr,
)
def test_the_whole_model_equals_the_reference(spec: HGNNIMA, missing: str) -> None:
    graph, y = make_graph(), np.array([0, 2, 1, 1, 0])
    spec = spec.set_params(hidden_channels=8, heads=2)
    module = build(spec, graph, missing)
    tensors = graph_tensors(
        graph, column_statistics(graph, None), device=torch.device("cpu"), dtype=torch.float64
    )

    with torch.no_grad():
        output = module(tensors, torch.arange(5))
        loss, parts = ClassificationLoss()(output, torch.tensor(y), torch.ones(5).double())

    expected = run_reference(module, graph, spec.settings(), missing, y)
    assert_allclose(output.embedding, expected["z"], atol=1e-10)
    assert_allclose(output.modality_weights, expected["delta"].T, atol=1e-10)
    assert_allclose(output.logits.softmax(1), expected["fused"], atol=1e-10)
    assert_allclose(loss, expected["loss"], atol=1e-10)
    if expected["attention"] and spec.settings()["att_loss_weight"]:
        weight = spec.settings()["att_loss_weight"]
        assert_allclose(parts["attention"], weight * expected["attention"], atol=1e-10)
    else:
        assert "attention" not in parts


def test_the_attention_loss_lies_between_zero_and_one() -> None:
    graph = make_graph()
    module = build(HGNNIMA("paper", hidden_channels=8, heads=2), graph, "copy")
    tensors = graph_tensors(
        graph, column_statistics(graph, None), device=torch.device("cpu"), dtype=torch.float64
    )

    penalty = module(tensors, torch.arange(5)).penalties["attention"].item()

    assert 0 < penalty < 1
    assert isinstance(module, HGNNIMAModule)


def test_there_is_no_attention_loss_where_nothing_is_missing() -> None:
    rng = np.random.default_rng(0)
    graph = MultiModalGraph(
        {"text": rng.normal(size=(4, 3)), "image": rng.normal(size=(4, 2))},
        {"near": [[0, 1, 2], [1, 2, 3]]},
    )
    spec = HGNNIMA("paper", hidden_channels=8, heads=2)
    module = spec.build(graph.nodes().schema, 2).double().eval()
    tensors = graph_tensors(
        graph, column_statistics(graph, None), device=torch.device("cpu"), dtype=torch.float64
    )

    assert module(tensors, torch.arange(4)).penalties == {}
