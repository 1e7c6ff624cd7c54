"""The compiled kernel gives what the sparse products give, and is taken when it should be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from small_layers import (
    METADATA,
    N_NODES,
    SMALL_EDGES,
    SMALL_METADATA,
    SMALL_N_NODES,
    assert_equals_reference,
    make_conv,
    make_edges,
    make_features,
    make_function,
)
from torch import Tensor

from skmmg.nn import HGNNIMAConv, _backend, _compile, set_backend
from skmmg.nn._backend import choose_backend
from skmmg.nn._edge_stage import Switches
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._fused import kernel_for

needs_compiler = pytest.mark.skipif(_compile.find_compiler() is None, reason="no C++ compiler")
KNOWN = ("adaptive", "node", "mean", "none")
SWITCHES = [
    {
        "cross_modal": cross_modal,
        "attention_scope": scope,
        "attention_norm": norm,
        "combine": combine,
        **align,
    }
    for cross_modal, scope, norm, (combine, align) in product(
        KNOWN,
        ("node", "relation"),
        ("softmax", "renormalize", "outer"),
        (
            ("product", {"align": False}),
            ("product", {"align_scale": "mean"}),
            ("sum", {"modal_weight": "per_modality"}),
        ),
    )
]


@pytest.fixture(autouse=True)
def _forget_backend() -> Iterator[None]:
    with set_backend("auto"):
        yield


def run(conv: HGNNIMAConv, h: Tensor, edges: EdgeStructure, backend: str) -> dict[str, Tensor]:
    """New states, attention paid to what is lacking, and the gradients of everything."""
    generator = torch.Generator().manual_seed(2)
    lacking = torch.rand(h.shape[0], edges.num_edges, generator=generator).to(h.device) < 0.3
    h = h.clone().requires_grad_()
    with set_backend(backend):
        out, paid = conv.propagate(h, edges, lacking)
        seen = torch.randn(out.shape, generator=generator, dtype=out.dtype)
        loss = (out * seen.to(h.device)).sum()
        if paid is not None:
            loss = loss + 0.1 * paid
        inputs = {"h": h, **dict(conv.named_parameters())}
        grads = torch.autograd.grad(
            loss, list(inputs.values()), allow_unused=True, materialize_grads=True
        )
    results = {"out": out, **dict(zip(inputs, grads, strict=True))}
    return results if paid is None else {**results, "paid": paid}


def assert_same(conv: HGNNIMAConv, h: Tensor, edges: EdgeStructure, tolerance: float) -> None:
    expected, found = (run(conv, h, edges, backend) for backend in ("sparse", "fused"))
    assert set(found) == set(expected)
    for name, values in expected.items():
        atol = tolerance * float(values.detach().abs().max() + 1e-3)
        torch.testing.assert_close(found[name], values, rtol=0, atol=atol, msg=name)


def make_structure(dtype: torch.dtype, n_modalities: int, channels: int) -> tuple[Any, Any]:
    x = make_features(n_modalities, channels=channels)
    edges = EdgeStructure(make_edges(), N_NODES, METADATA[1])
    return torch.cat(list(x.values()), 1).to(dtype), edges


def draw_structure(n_nodes: int, n_edges: int, hub: bool = False) -> tuple[Tensor, EdgeStructure]:
    """Random edges of two relations of one type; with `hub`, all into node 3."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, n_nodes, (2, 2, n_edges // 2), generator=generator)
    if hub:
        index[:, 1] = 3
    types = [("n", "a", "n"), ("n", "b", "n")]
    h = torch.randn(2, n_nodes, 8, dtype=torch.float64, generator=generator)
    return h, EdgeStructure(dict(zip(types, index, strict=True)), {"n": n_nodes}, types)


def make_conv_for(edges: EdgeStructure, **switches: Any) -> HGNNIMAConv:
    return make_conv(2, (list(edges.node_slices), edges.edge_types), **switches)


# ------------------------------------------------------------------------------ the same numbers


@needs_compiler
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_gives_the_same_states_and_gradients(switches: dict[str, Any]) -> None:
    h, edges = make_structure(torch.float64, 2, 8)
    assert_same(make_conv(2, **switches), h, edges, 1e-12)


@needs_compiler
@pytest.mark.parametrize("switches", SWITCHES[::5], ids=str)
def test_the_kernel_equals_the_reference(switches: dict[str, Any]) -> None:
    with set_backend("fused"):
        assert_equals_reference(2, METADATA, N_NODES, make_edges(), **switches)


@needs_compiler
@pytest.mark.parametrize("switches", SWITCHES[::5], ids=str)
def test_extreme_scores_give_the_same_states(switches: dict[str, Any]) -> None:
    h, edges = make_structure(torch.float64, 2, 8)
    conv, out = make_conv(2, scale=30.0, **switches), []
    for backend in ("sparse", "fused"):
        with set_backend(backend):
            out.append(conv.propagate(h, edges)[0])
    torch.testing.assert_close(*out, rtol=1e-9, atol=1e-9)


@needs_compiler
@pytest.mark.parametrize(("n_modalities", "heads"), [(1, 8), (3, 16), (4, 3), (5, 1)])
@pytest.mark.parametrize("norm", ["softmax", "renormalize"])
def test_any_number_of_modalities_and_heads_will_do(
    n_modalities: int, heads: int, norm: str
) -> None:
    channels = 2 * heads
    h, edges = make_structure(torch.float32, n_modalities, channels)
    conv = make_conv(
        n_modalities, heads=heads, channels=channels, residual="gated", attention_norm=norm
    )
    assert_same(conv.float(), h, edges, 2e-5)


@needs_compiler
@pytest.mark.parametrize(
    ("heads", "head_channels"), [(1, 16), (2, 8), (2, 12), (3, 4), (4, 5), (4, 16), (8, 8), (16, 1)]
)
def test_registers_that_channels_share_give_the_same_numbers(
    heads: int, head_channels: int
) -> None:
    h, edges = make_structure(torch.float32, 2, heads * head_channels)
    conv = make_conv(2, scale=0.3, heads=heads, channels=heads * head_channels)
    assert_same(conv.float(), h, edges, 2e-5)


@needs_compiler
def test_extreme_scores_give_finite_gradients_in_float32() -> None:
    h, edges = make_structure(torch.float32, 2, 8)
    for norm, combine in product(("softmax", "renormalize", "outer"), ("product", "sum")):
        conv = make_conv(2, scale=30.0, attention_norm=norm, combine=combine).float()
        found = run(conv, h, edges, "fused")
        assert all(values.isfinite().all() for values in found.values())


@needs_compiler
def test_part_of_the_nodes_and_no_edges_at_all_will_do() -> None:
    h, edges = make_structure(torch.float64, 2, 8)
    wanted = torch.zeros(edges.num_nodes, dtype=torch.bool)
    wanted[[0, 2, 6]] = True
    part, seen = edges.into(wanted)
    assert_same(make_conv(2), h[:, seen], part, 1e-12)
    assert_same(make_conv(2), h, EdgeStructure({}, N_NODES, METADATA[1]), 1e-12)


@needs_compiler
@pytest.mark.parametrize("norm", ["softmax", "renormalize"])
def test_a_hub_with_a_hundred_thousand_edges_is_a_node_like_others(norm: str) -> None:
    h, edges = draw_structure(50, 100_000, hub=True)
    assert_same(make_conv_for(edges, attention_norm=norm, scale=0.3), h, edges, 1e-10)


@needs_compiler
def test_two_threads_give_the_same_numbers_every_time() -> None:
    h, edges = draw_structure(2000, 20_000)
    conv = make_conv_for(edges)
    expected = run(conv, h, edges, "fused")
    try:
        torch.set_num_threads(2)
        first, second = (run(conv, h, edges, "fused") for _ in range(2))
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-9)


@needs_compiler
def test_threads_share_the_edges_evenly() -> None:
    _, edges = draw_structure(2000, 20_000)
    cuts = edges.runs().cuts(4)
    assert (cuts[0], cuts[-1], len(cuts)) == (0, 2000, 5)
    first_edges = edges.runs().ptr[edges.runs().node_ptr[cuts].long()]
    assert ((first_edges.diff() - 5000).abs() < 300).all()


@needs_compiler
def test_gradients_and_second_derivatives_are_right() -> None:
    with set_backend("fused"):
        torch.autograd.gradcheck(*make_function())
        torch.autograd.gradgradcheck(*make_function(), fast_mode=True)


@needs_compiler
def test_the_kernel_takes_what_autocast_has_rounded_in_float32() -> None:
    h, edges = make_structure(torch.float32, 2, 8)
    conv = make_conv(2, scale=0.3).float()
    exact = run(conv, h, edges, "fused")
    with torch.autocast("cpu", torch.bfloat16):
        found = {backend: run(conv, h, edges, backend) for backend in ("sparse", "fused")}
    for results in found.values():
        assert not torch.equal(results["out"], exact["out"])
        assert {values.dtype for values in results.values()} == {torch.float32}
        for name, values in exact.items():
            assert (results[name] - values).norm() <= 0.02 * values.norm(), name


def largest_kept(backend: str, h: Tensor, edges: EdgeStructure, **options: Any) -> int:
    """Elements of the largest tensor that a layer keeps for its backward pass."""
    sizes: list[int] = []

    def record(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    conv = make_conv_for(edges, **options).to(h.device)
    with set_backend(backend), torch.autograd.graph.saved_tensors_hooks(record, lambda x: x):
        conv.propagate(h, edges)
    return max(sizes)


@needs_compiler
def test_nothing_is_kept_per_edge() -> None:
    h, edges = draw_structure(100, 40_000)
    assert 0 < largest_kept("fused", h, edges) < edges.num_edges


# ---------------------------------------------------------------------------- which one is taken


def layer_without_kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs a layer on a large enough graph where there is no compiler."""
    monkeypatch.setattr(_compile, "find_compiler", lambda: None)
    monkeypatch.setattr(_backend, "_told", set())
    _compile._load.cache_clear()
    h, edges = draw_structure(2000, 20_000)
    conv = make_conv_for(edges)
    return lambda: conv.propagate(h, edges)[0]


def test_without_a_compiler_the_sparse_products_are_taken_and_this_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = layer_without_kernel(monkeypatch)
    with set_backend("sparse"):
        expected = layer()
    with caplog.at_level(logging.WARNING, "skmmg"):
        assert torch.equal(layer(), expected)
        layer()
    assert [record.message.count("no C++ compiler") for record in caplog.records] == [1]


def test_without_a_compiler_asking_for_the_kernel_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = layer_without_kernel(monkeypatch)
    with set_backend("fused"), pytest.raises(RuntimeError, match=r"\$CXX"):
        layer()


def test_a_small_graph_does_not_pay_for_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "kernel_for", lambda *sizes: pytest.fail("compiled"))
    h, edges = draw_structure(100, 1000)
    make_conv_for(edges).propagate(h, edges)


@needs_compiler
@pytest.mark.parametrize(("shared", "heads", "chosen"), [(1, 2, False), (1, 4, True), (2, 2, True)])
def test_few_heads_take_the_kernel_where_channels_share_registers(
    monkeypatch: pytest.MonkeyPatch, shared: int, heads: int, chosen: bool
) -> None:
    kernel = mock.Mock(wraps=kernel_for(2, 8, heads, torch.float64))
    kernel.channels.return_value, kernel.channels.side_effect = shared, None
    monkeypatch.setattr(_backend, "kernel_for", lambda *sizes: kernel)
    h, edges = draw_structure(100, 20_000)
    backend = choose_backend(h, edges, Switches(), heads, 8)

    assert backend == ("fused" if chosen else "sparse")
    with set_backend("fused"):
        assert choose_backend(h, edges, Switches(), heads, 8) == "fused"


@needs_compiler
def test_an_ablation_that_the_kernel_lacks_takes_the_sparse_products() -> None:
    h, edges = make_structure(torch.float64, 2, 8)
    assert_same(make_conv(2, cross_modal="influenced"), h, edges, 0.0)


def test_a_backend_is_chosen_for_good_or_for_a_block() -> None:
    with set_backend("sparse"):
        with set_backend("fused"):
            assert set_backend._current == "fused"
        assert set_backend._current == "sparse"
        set_backend("auto")
        assert set_backend._current == "auto"
    with pytest.raises(ValueError, match=r"backend.*'cuda'"):
        set_backend("cuda")


# ------------------------------------------------------------------------------------ compilation


@needs_compiler
def test_a_library_is_compiled_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SKMMG_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "_add.cpp"
    source.write_text('extern "C" int add(int x) { return x + N; }')
    with caplog.at_level(logging.WARNING, "skmmg"):
        assert _compile.load(source, N=2).add(40) == 42
        _compile._load.cache_clear()
        assert _compile.load(source, N=2).add(40) == 42
        assert len(caplog.records) == 1
        assert str(tmp_path / "cache") in caplog.text
        assert _compile.load(source, N=3).add(40) == 43
    assert len(list((tmp_path / "cache").glob("add-*.so"))) == 2


@needs_compiler
def test_what_a_compiler_does_not_take_is_an_error_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKMMG_CACHE", str(tmp_path))
    source = tmp_path / "_bad.cpp"
    source.write_text("#error nothing works\n")
    with pytest.raises(_compile.CompileError, match="nothing works"):
        _compile.load(source)
    assert not list(tmp_path.glob("*.so"))


def test_a_cache_that_cannot_be_written_is_an_error_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SKMMG_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(_compile, "find_compiler", lambda: "/bin/true")
    with pytest.raises(_compile.CompileError, match="cache"):
        _compile.load(tmp_path / "_some.cpp")


@needs_compiler
def test_second_derivatives_of_the_kernel_are_those_of_the_sparse_products() -> None:
    x = [h.requires_grad_() for h in make_features(2, SMALL_N_NODES).values()]
    edges = EdgeStructure(make_edges(SMALL_EDGES), SMALL_N_NODES, SMALL_METADATA[1])
    conv = make_conv(2, SMALL_METADATA)
    found = []
    for backend in ("sparse", "fused"):
        with set_backend(backend):
            out, _ = conv.propagate(torch.cat(x, 1), edges)
            first = torch.autograd.grad((out**2).sum(), x, create_graph=True)
            found.append(torch.autograd.grad(sum((g**2).sum() for g in first), x))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@needs_compiler
def test_a_cache_that_can_only_be_read_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SKMMG_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "_add.cpp"
    source.write_text('extern "C" int add(int x) { return x + 2; }')
    assert _compile.load(source).add(40) == 42
    _compile._load.cache_clear()
    monkeypatch.setattr(_compile, "_locked", None)  # a lock is a file that is written
    caplog.clear()
    with caplog.at_level(logging.WARNING, "skmmg"):
        assert _compile.load(source).add(40) == 42
    assert not caplog.records


@needs_compiler
def test_a_library_that_was_cut_off_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKMMG_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "_add.cpp"
    source.write_text('extern "C" int add(int x) { return x + 2; }')
    compiler = _compile.find_compiler()
    assert compiler is not None
    name = f"add-{_compile._digest(source, compiler, [*_compile._FLAGS])}.so"
    (_compile.cache_folder() / name).touch()
    assert _compile.load(source).add(40) == 42


def test_without_a_home_the_error_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SKMMG_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(_compile, "find_compiler", lambda: "/bin/true")
    with pytest.raises(_compile.CompileError, match="SKMMG_CACHE can name a folder"):
        _compile.load(tmp_path / "_some.cpp")
