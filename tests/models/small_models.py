"""What the tests of models share: narrow models, graphs of a few nodes, and what is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.models import MODELS as ALL_MODELS
from skmmg.models import ModelOutput, ModelSpec
from skmmg.nn import GraphTensors
from skmmg.training import ClassificationLoss, column_statistics, graph_tensors

# of nodes; models of graphs have tests of their own
MODELS = {name: spec for name, spec in ALL_MODELS.items() if "classification" in spec.tasks}
CHANNELS, HEADS, N_CLASSES = 8, 2, 3
N_NODES = {"movie": 9, "actor": 5, "tag": 3}
WIDTHS = {"movie": {"text": 5, "image": 4}, "actor": {"text": 6}, "tag": {}}
STARS, TAGGED, SIMILAR = (
    ("movie", "stars", "actor"),
    ("tag", "describes", "movie"),
    ("movie", "similar", "movie"),
)


def draw_parts() -> tuple[dict[str, Any], dict[Any, np.ndarray]]:
    """Matrices with rows that are missing, and edges; every type is reached and reaches."""
    rng = np.random.default_rng(0)
    nodes = {
        t: {m: rng.normal(size=(N_NODES[t], width)) for m, width in widths.items()}
        for t, widths in WIDTHS.items()
    }
    nodes["movie"]["image"][[1, 4]] = np.nan
    nodes["movie"]["text"][4] = np.nan  # movie 4 has nothing
    edges = {
        (src, rel, dst): rng.integers([[N_NODES[src]], [N_NODES[dst]]], size=(2, n))
        for (src, rel, dst), n in {STARS: 14, TAGGED: 10, SIMILAR: 12}.items()
    }
    return nodes, edges


def make_graph() -> MultiModalGraph:
    nodes, edges = draw_parts()
    return MultiModalGraph({**nodes, "tag": N_NODES["tag"]}, edges)


def make_sparse_graph() -> MultiModalGraph:
    """Forty movies so far from each other that a batch is a small part; edges have weights."""
    rng = np.random.default_rng(0)
    nodes: dict[str, Any] = {t: {} for t in ("movie", "actor")}
    for node_type, modality, size in (("movie", "text", 40), ("movie", "image", 40)):
        nodes[node_type][modality] = rng.normal(size=(size, 4))
        nodes[node_type][modality][rng.random(size) < 0.3] = np.nan
    nodes["actor"]["text"] = rng.normal(size=(30, 3))
    # every actor and tag is next to a movie: a batch of all movies is the whole graph
    stars = np.stack([rng.integers(40, size=36), np.arange(36) % 30])
    tagged = np.stack([np.arange(20) % 10, rng.integers(40, size=20)])
    similar, weights = rng.integers(40, size=(2, 30)), rng.random(30) + 0.5
    matrix = sparse.coo_array((weights, tuple(similar)), shape=(40, 40))
    return MultiModalGraph(
        {**nodes, "tag": 10},
        {STARS: stars, SIMILAR: matrix, TAGGED: tagged},
    )


def make_single_type_graph() -> MultiModalGraph:
    """One node type and two relations: every parameter has a say in what comes out."""
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(9, 5)), rng.normal(size=(9, 4))
    image[[1, 4]], text[[2, 4]] = np.nan, np.nan
    edges = {"near": rng.integers(9, size=(2, 20)), "far": rng.integers(9, size=(2, 20))}
    return MultiModalGraph({"text": text, "image": image}, edges)


def permute_nodes(graph: MultiModalGraph) -> tuple[MultiModalGraph, dict[str, np.ndarray]]:
    """The same graph with its nodes renumbered and its edges in another order."""
    rng = np.random.default_rng(1)
    order = {t: rng.permutation(n) for t, n in graph.n_nodes.items()}
    new_id = {t: np.argsort(p) for t, p in order.items()}
    nodes = {
        t: {m: x[order[t]] for m, x in ms.items()} or len(order[t]) for t, ms in graph.x.items()
    }
    edges = {
        (src, rel, dst): np.stack([new_id[src][index[0]], new_id[dst][index[1]]])[
            :, rng.permutation(index.shape[1])
        ]
        for (src, rel, dst), index in graph.edge_index.items()
    }
    return MultiModalGraph(nodes, edges, add_reverse=False), order


def to_tensors(graph: MultiModalGraph, dtype: torch.dtype = torch.float64) -> GraphTensors:
    return graph_tensors(
        graph, column_statistics(graph, None), device=torch.device("cpu"), dtype=dtype
    )


def small(model: str | type[ModelSpec], **params: Any) -> ModelSpec:
    """A narrow model without dropout."""
    spec = MODELS[model] if isinstance(model, str) else model
    sizes = {"hidden_channels": CHANNELS, "heads": HEADS}
    sizes |= dict.fromkeys(("dropout", "input_dropout", "att_dropout", "out_dropout"), 0.0)
    known = spec().get_params(deep=False)
    return spec(**{**{k: v for k, v in sizes.items() if k in known}, **params})


def build(
    spec: ModelSpec, graph: MultiModalGraph, target: str = "movie", **options: Any
) -> nn.Module:
    torch.manual_seed(0)
    module = spec.build(graph.nodes(target).schema, N_CLASSES, **options).double().eval()
    with torch.no_grad():  # biases and placeholders start at zero: give them values
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


def run(module: nn.Module, graph: MultiModalGraph, target: str = "movie") -> ModelOutput:
    with torch.no_grad():
        output: ModelOutput = module(to_tensors(graph), torch.arange(graph.n_nodes[target]))
    return output


def fit(spec: str | ModelSpec, X: Any, y: np.ndarray, **params: Any) -> MultiModalGraphClassifier:
    defaults = {"max_epochs": 3, "lr": 0.02, "early_stopping": False, "random_state": 0}
    return MultiModalGraphClassifier(spec, **{**defaults, **params}).fit(X, y)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_encoder(d: int = CHANNELS) -> int:
    """Projections of every type and modality, and a placeholder per type."""
    return sum((w + 1) * d for ms in WIDTHS.values() for w in ms.values()) + len(WIDTHS) * d


def gradients(spec: ModelSpec, graph: MultiModalGraph, **options: Any) -> dict[str, torch.Tensor]:
    """Gradients of the whole loss in training mode, by the parameter's name."""
    module = build(spec, graph, "node", **options).train()
    ids = torch.arange(graph.n_nodes["node"])
    loss, _ = ClassificationLoss()(
        module(to_tensors(graph), ids), ids % N_CLASSES, torch.ones(len(ids)).double()
    )
    loss.backward()
    assert torch.isfinite(loss)
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def assert_every_parameter_counts(grads: dict[str, torch.Tensor]) -> None:
    for name, grad in grads.items():
        assert grad is not None, name
        assert torch.isfinite(grad).all(), name
        # a softmax over the modalities does not see what is added to all of their scores
        if not name.endswith("score.2.bias"):
            assert grad.abs().max() > 0, name
