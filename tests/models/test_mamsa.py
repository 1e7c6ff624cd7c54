"""MAMSA against a dense reference; its parameters; modalities in another order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from skmmg import MultiModalGraph
from skmmg.models import MAMSA, ModelOutput
from skmmg.models import mamsa as module_file
from skmmg.nn import GraphTensors
from skmmg.training import column_statistics, graph_tensors

WIDTHS = {"text": 5, "image": 4, "sound": 3}
D, HEADS, N_TOKENS, N_CLASSES, N = 4, 2, 3, 3, 7


def draw(names: tuple[str, ...]) -> MultiModalGraph:
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(N, width)) for name, width in WIDTHS.items()}
    return MultiModalGraph({name: x[name] for name in names})


def to_tensors(graph: MultiModalGraph) -> GraphTensors:
    return graph_tensors(
        graph, column_statistics(graph, None), device=torch.device("cpu"), dtype=torch.float64
    )


def build(graph: MultiModalGraph, **params: Any) -> nn.Module:
    torch.manual_seed(0)
    spec = MAMSA(D, n_tokens=N_TOKENS, heads=HEADS, dropout=0.0, input_dropout=0.0, **params)
    module = spec.build(graph.nodes().schema, N_CLASSES).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return module


def run(module: nn.Module, graph: MultiModalGraph) -> ModelOutput:
    output: ModelOutput = module(to_tensors(graph), torch.arange(N))
    return output


def attend(p: dict[str, np.ndarray], name: str, query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Multi-head attention of one sample, (q, d) and (k, d) -> (q, d)."""
    w, b = p[f"{name}.in_proj_weight"], p[f"{name}.in_proj_bias"]
    w, b = w.reshape(3, D, D), b.reshape(3, D)
    q, k, v = (x @ w_x.T + b_x for x, w_x, b_x in zip([query, key, key], w, b, strict=True))
    out = np.empty_like(q)
    width = D // HEADS
    for head in range(HEADS):
        part = slice(head * width, head * width + width)
        mass = np.exp(q[:, part] @ k[:, part].T / np.sqrt(width))
        out[:, part] = mass / mass.sum(1, keepdims=True) @ v[:, part]
    return out @ p[f"{name}.out_proj.weight"].T + p[f"{name}.out_proj.bias"]


def reference(module: nn.Module, graph: MultiModalGraph) -> np.ndarray:
    """Embeddings, sample by sample, from the equations."""
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}
    names, out = module.modalities, np.empty((N, D))
    for i in range(N):
        tokens = []
        for name in names:
            linear = module.encoder.projections["node"][name]
            x = graph.x["node"][name][i]
            flat = np.tanh(linear.weight.detach().numpy() @ x + linear.bias.detach().numpy())
            tokens.append(flat.reshape(N_TOKENS, D))
        gated = []
        for m, t in enumerate(tokens):
            others = [u.mean(0) for n, u in enumerate(tokens) if n != m]
            seen = np.concatenate([t.mean(0), *([np.mean(others, 0)] if others else [])])
            g = 1 / (1 + np.exp(-(p[f"gates.{m}.weight"] @ seen + p[f"gates.{m}.bias"])))
            gated.append(g * t)
        pairs = [(a, b) for a in range(len(names)) for b in range(len(names)) if a != b] or [(0, 0)]
        c = np.mean([attend(p, "between", gated[a], gated[b]).mean(0) for a, b in pairs], 0)
        c = (c - c.mean()) / np.sqrt(c.var() + 1e-5) * p["norm.weight"] + p["norm.bias"]
        guided = [attend(p, f"guides.{m}", p["classes"], t) for m, t in enumerate(tokens)]
        u = np.vstack([*(attend(p, "first", c[None], a) for a in guided), c])
        out[i] = (u + attend(p, "second", u, u)).mean(0)
    return out


@pytest.mark.parametrize("names", [("text",), ("text", "image"), ("text", "image", "sound")])
def test_the_embedding_is_the_formula(names: tuple[str, ...]) -> None:
    graph = draw(names)
    module = build(graph)

    assert_allclose(run(module, graph).embedding.detach(), reference(module, graph), atol=1e-12)


def test_blocks_of_samples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = draw(("text", "image"))
    module = build(graph).train()
    whole = run(module, graph)
    whole.logits.square().sum().backward()
    assert module.encoder.placeholder.grad is None  # nothing is missing
    used = {name: p for name, p in module.named_parameters() if p.grad is not None}
    expected = {name: p.grad.clone() for name, p in used.items()}
    module.zero_grad()

    monkeypatch.setattr(module_file, "_BLOCK", 300)  # blocks of three samples
    parts = run(module, graph)
    parts.logits.square().sum().backward()

    assert_allclose(parts.logits.detach(), whole.logits.detach(), atol=1e-12)
    for name, parameter in used.items():
        assert_allclose(parameter.grad, expected[name], atol=1e-12)


def test_reordering_the_modalities_changes_nothing() -> None:
    graph, other = draw(("text", "image", "sound")), draw(("sound", "text", "image"))
    module, moved = build(graph), build(other)
    places = {1: 0, 2: 1, 0: 2}  # where a modality stood
    own = ("encoder.projections.", "gates.", "guides.")
    state = module.state_dict()
    moved.load_state_dict({k: v for k, v in state.items() if not k.startswith(own)}, strict=False)
    for new, old in places.items():
        moved.gates[new].load_state_dict(module.gates[old].state_dict())
        moved.guides[new].load_state_dict(module.guides[old].state_dict())
    for name in WIDTHS:
        linear = module.encoder.projections["node"][name]
        moved.encoder.projections["node"][name].load_state_dict(linear.state_dict())

    assert_allclose(
        run(moved, other).logits.detach(), run(module, graph).logits.detach(), atol=1e-12
    )


@pytest.mark.parametrize("names", [("text",), ("text", "image"), ("text", "image", "sound")])
def test_the_number_of_parameters_is_as_the_formula_says(names: tuple[str, ...]) -> None:
    module, m = build(draw(names)), len(names)

    encoder = sum((WIDTHS[name] + 1) * N_TOKENS * D for name in names) + N_TOKENS * D
    gates = m * (min(m, 2) * D + 1) * D
    attentions = (3 + m) * 4 * (D + 1) * D
    rest = 2 * D + N_CLASSES * D + (D + 1) * D + (D + 1) * N_CLASSES
    assert sum(p.numel() for p in module.parameters()) == encoder + gates + attentions + rest
