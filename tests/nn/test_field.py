"""The receptive field of some target nodes gives what the whole graph gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from skmmg import MultiModalGraph
from skmmg.models import HGNNIMA, HGT, ModelSpec, hgnn_ima
from skmmg.nn import GraphTensors, set_backend
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._field import (
    ReceptiveField,
    lacking_sources,
    receptive_field,
    whole_graph,
)
from skmmg.training import ClassificationLoss, column_statistics, graph_tensors

N_CLASSES, N_MOVIES = 3, 60
IDS = torch.tensor([7, 2, 2, 31])  # in no order, one of them twice
ABLATIONS: tuple[dict[str, Any], ...] = (
    {"cross_modal": "none"},
    {"cross_modal": "mean"},
    {"cross_modal": "influenced"},
    {"cross_modal": "node"},
    {"align": False},
    {"num_layers": 0},
    {"num_layers": 1},
)
SPECS: tuple[tuple[ModelSpec, str | None], ...] = (
    *((HGNNIMA(preset, att_loss_weight=0), None) for preset in ("skmmg", "paper", "released")),
    *((HGNNIMA(att_loss_weight=0, **ablation), None) for ablation in ABLATIONS),
    *((HGNNIMA(preset), None) for preset in ("skmmg", "paper", "released")),
    *((HGNNIMA(cross_modal=how), None) for how in ("influenced", "node")),
    (HGT(), "early"),
    (HGT(num_layers=3, norm="layer"), "late"),
)


def make_graph(complete: bool = False) -> MultiModalGraph:
    """A sparse network, so that a few nodes see only a part of it; many rows are missing."""
    rng = np.random.default_rng(0)
    text = sp.random_array((N_MOVIES, 12), density=0.3, rng=rng, format="csr")
    image = rng.normal(size=(N_MOVIES, 4))
    actors = {"text": rng.normal(size=(40, 6))}
    if complete:
        actors["image"] = rng.normal(size=(40, 4))
    else:
        image[rng.random(N_MOVIES) < 0.5] = np.nan
    nodes: dict[str, Any] = {"movie": {"text": text, "image": image}, "actor": actors, "tag": 5}
    edges = {
        ("movie", "stars", "actor"): rng.integers([[N_MOVIES], [40]], size=(2, 70)),
        ("actor", "acts_in", "movie"): rng.integers([[40], [N_MOVIES]], size=(2, 50)),
        ("tag", "describes", "movie"): rng.integers([[5], [N_MOVIES]], size=(2, 20)),
        ("movie", "sequel", "movie"): np.zeros((2, 0), dtype=int),
    }
    if complete:
        nodes.pop("tag")
        edges.pop(("tag", "describes", "movie"))
    return MultiModalGraph(nodes, edges)


def to_tensors(graph: MultiModalGraph) -> GraphTensors:
    statistics = column_statistics(graph, None)
    return graph_tensors(graph, statistics, device=torch.device("cpu"), dtype=torch.float64)


def build(spec: ModelSpec, fusion: str | None, missing: str, graph: MultiModalGraph) -> nn.Module:
    torch.manual_seed(0)
    spec.set_params(hidden_channels=8, heads=2, dropout=0.0, input_dropout=0.0)
    schema = graph.nodes("movie").schema
    module = spec.build(schema, N_CLASSES, fusion=fusion, missing=missing).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


def loss_and_gradients(
    module: nn.Module, tensors: GraphTensors, ids: Tensor, rows: Tensor
) -> dict[str, Tensor]:
    """Logits, embedding, loss and gradients of some rows of the output for `ids`."""
    output = module(tensors, ids)
    output.logits, output.embedding = output.logits[rows], output.embedding[rows]
    output.unimodal_logits = {m: s[rows] for m, s in output.unimodal_logits.items()}
    y, weight = torch.tensor([0, 2, 1, 1]), torch.tensor([1.0, 2.0, 0.5, 1.0]).double()
    loss, _ = ClassificationLoss()(output, y, weight)
    names, parameters = zip(*module.named_parameters(), strict=True)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    results = {"logits": output.logits, "embedding": output.embedding, "loss": loss}
    return results | dict(zip(names, grads, strict=True))


@pytest.mark.parametrize("missing", ["mean_neighbors", "copy", "zero", "learned"])
@pytest.mark.parametrize(("spec", "fusion"), SPECS, ids=str)
def test_a_few_nodes_get_what_they_get_among_all_nodes(
    spec: ModelSpec, fusion: str | None, missing: str
) -> None:
    graph = make_graph()
    tensors, module = to_tensors(graph), build(spec, fusion, missing, graph)

    few = loss_and_gradients(module, tensors, IDS, torch.arange(4))

    everyone = loss_and_gradients(module, tensors, torch.arange(N_MOVIES), IDS)
    for name, values in few.items():
        torch.testing.assert_close(values, everyone[name], rtol=1e-9, atol=1e-12, msg=name)


def test_the_attention_loss_is_over_all_edges_whichever_nodes_are_asked_for() -> None:
    graph = make_graph()
    tensors, module = to_tensors(graph), build(HGNNIMA(), None, "mean_neighbors", graph)

    few, everyone = module(tensors, IDS), module(tensors, torch.arange(N_MOVIES))

    torch.testing.assert_close(few.penalties, everyone.penalties)
    assert few.penalties["attention"] > 0
    assert module.infer(tensors, IDS).penalties == {}
    torch.testing.assert_close(module.infer(tensors, IDS).logits, few.logits)


@pytest.mark.parametrize("backend", ["fused", "sparse"])
@pytest.mark.parametrize("preset", ["skmmg", "paper", "released"])
def test_the_attention_loss_and_its_gradients_are_those_of_the_whole_graph(
    preset: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make_graph()
    tensors, module = to_tensors(graph), build(HGNNIMA(preset), None, "mean_neighbors", graph)

    def everything(*place: Any) -> ReceptiveField:
        """All nodes and edges in every layer."""
        lacking = lacking_sources(tensors, place[1], place[6])
        return replace(whole_graph(*place[:5]), lacking=(lacking,) * place[4])

    with set_backend(backend):
        found = loss_and_gradients(module, tensors, IDS, torch.arange(4))
        monkeypatch.setattr(hgnn_ima, "receptive_field", everything)
        expected = loss_and_gradients(module, tensors, IDS, torch.arange(4))

    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-9, atol=1e-12, msg=name)


def test_beside_what_is_seen_layers_hold_the_edges_from_nodes_that_lack_a_modality() -> None:
    tensors, modalities = to_tensors(make_graph()), ("text", "image")
    edge_types = tuple(tensors.edge_index)
    edges, place = tensors.edges(edge_types), (tensors, edge_types, "movie", IDS)
    absent = tensors.absent(modalities)
    assert absent is not None
    ends = {int(i) for j, i in zip(edges.src, edges.dst, strict=True) if absent[:, j].any()}

    field = receptive_field(*place, 2, 0, modalities, True)

    seen = find_seen(edges, set(IDS.tolist()) | ends, 2)
    assert [len(nodes) for nodes in seen[1:]] == [layer.num_out for layer in field.layers]
    for layer, lacking in zip(field.layers, field.lacking, strict=True):
        assert lacking is not None
        assert lacking.shape == (2, layer.num_edges)
        assert lacking.sum() == absent[:, edges.src].sum()
    assert field.layers[1].num_edges < edges.num_edges


def test_attention_can_be_read_on_all_edges() -> None:
    graph = make_graph()
    tensors, module = to_tensors(graph), build(HGNNIMA(), None, "zero", graph)

    layers = module.edge_attention(tensors)

    n_edges = sum(index.shape[1] for index in graph.edge_index.values())
    assert [layer.weight.shape for layer in layers] == [(2, n_edges)] * 2


def find_seen(edges: EdgeStructure, places: set[int], n_layers: int) -> list[set[int]]:
    """The nodes that go into every layer, first layer first, edge by edge."""
    seen = [places]
    for _ in range(n_layers):
        into = {int(j) for j, i in zip(edges.src, edges.dst, strict=True) if int(i) in seen[0]}
        seen.insert(0, seen[0] | into)
    return seen


def test_around_a_batch_the_attention_loss_is_over_the_edges_that_the_batch_sees() -> None:
    graph = make_graph()
    whole, module = to_tensors(graph), build(HGNNIMA(), None, "mean_neighbors", graph)
    part, edges = replace(to_tensors(make_graph()), sampled=True), whole.edges(module.edge_types)

    output = module(part, IDS)

    absent = whole.absent(module.modalities)[:, edges.src]
    seen = find_seen(edges, set((IDS + edges.node_slices["movie"].start).tolist()), 2)
    paid, n_pairs = torch.zeros(()), 0
    for layer, nodes in zip(module.edge_attention(whole), seen[1:], strict=True):
        lacking = absent & torch.tensor([int(i) in nodes for i in edges.dst])
        per_source = layer.lam.mean(0) if layer.lam.dim() == 3 else layer.lam.mean((0, 2))
        paid, n_pairs = paid + (per_source * lacking).sum(), n_pairs + int(lacking.sum())
    torch.testing.assert_close(output.penalties["attention"], paid / n_pairs)
    assert output.penalties["attention"] != module(whole, IDS).penalties["attention"]
    torch.testing.assert_close(output.logits, module.infer(whole, IDS).logits)


def test_every_layer_takes_the_nodes_that_the_next_ones_see_and_no_others() -> None:
    tensors = to_tensors(make_graph())
    edge_types = tuple(tensors.edge_index)
    edges = tensors.edges(edge_types)

    field = receptive_field(tensors, edge_types, "movie", IDS, 3)

    seen = find_seen(edges, set(IDS.tolist()), 3)
    assert [len(nodes) for nodes in seen[:-1]] == [layer.num_nodes for layer in field.layers]
    assert [len(nodes) for nodes in seen[1:]] == [layer.num_out for layer in field.layers]
    n_into = [sum(int(i) in nodes for i in edges.dst) for nodes in seen[1:]]
    assert n_into == [layer.num_edges for layer in field.layers]
    assert n_into[-1] < n_into[0] < edges.num_edges


def test_a_small_field_encodes_a_smaller_graph() -> None:
    tensors = to_tensors(make_graph(complete=True))
    field = receptive_field(tensors, tuple(tensors.edge_index), "movie", IDS[:1], 1)
    assert sum(field.graph.num_nodes.values()) == field.layers[0].num_nodes < 20
    assert field.rows is None


def test_the_field_of_the_same_nodes_is_found_once_and_old_ones_are_forgotten() -> None:
    tensors = to_tensors(make_graph())
    place = (tensors, tuple(tensors.edge_index), "movie")
    train, valid = torch.tensor([0, 1]), torch.tensor([4])
    first = receptive_field(*place, train, 2)
    for _ in range(3):
        assert receptive_field(*place, valid, 2).layers is not first.layers
        assert receptive_field(*place, train, 2).layers is first.layers
    for node in range(10, 20):
        receptive_field(*place, torch.tensor([node]), 2)
    kept = [key for key in tensors._cache["edges"] if key[0] == "layers"]
    assert len(kept) <= 3
    assert receptive_field(*place, train, 2).layers is not first.layers


def test_rows_of_a_sparse_matrix_are_those_of_the_dense_one() -> None:
    matrix = to_tensors(make_graph()).x["movie"]["text"]
    dense, rows = matrix @ torch.eye(12).double(), torch.tensor([5, 0, 0, 59])
    torch.testing.assert_close(matrix.take(rows) @ torch.eye(12).double(), dense[rows])
    assert matrix.take(rows[:0]).shape == (0, 12)
