"""The Triton kernels give what the sparse products give, and are taken when they should be.

Without a GPU they run in Triton's interpreter, which is slow; the tests marked "gpu" run the same
cases, and larger ones, on a GPU.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from small_layers import METADATA, N_NODES, make_conv, make_edges, make_features
from test_fused import SWITCHES, draw_structure, largest_kept, make_conv_for, make_structure, run
from torch import Tensor

from skmmg.nn import HGNNIMAConv, _backend, set_backend
from skmmg.nn._edges import EdgeStructure

HAS_TRITON = find_spec("triton") is not None
# The interpreters of older ones do not take NumPy 2.4.
RECENT = HAS_TRITON and tuple(map(int, version("triton").split(".")[:2])) >= (3, 7)
needs_triton = pytest.mark.skipif(
    not RECENT, reason="needs Triton 3.7, which the CPU builds of torch do not bring"
)
gpu = pytest.mark.gpu
# The interpreter also computes what a phase does not use, from sums that are not known yet; a
# compiler drops it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
DEVICES = ["cpu", pytest.param("cuda", marks=gpu)]
# a few of all on a CPU, where one takes seconds
CASES = [
    pytest.param(switches, device, id=f"{device}-{switches}", marks=gpu if device == "cuda" else ())
    for device in ("cpu", "cuda")
    for switches in (SWITCHES[::7] if device == "cpu" else SWITCHES)
]


@pytest.fixture(autouse=True)
def _forget_backend() -> Iterator[None]:
    trouble = _backend._trouble_with_triton
    trouble.cache_clear()
    with set_backend("auto"):
        yield
    trouble.cache_clear()


@pytest.fixture
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are the comparison."""
    monkeypatch.setattr(_backend, "_trouble_with_triton", lambda *kind: None)


def move(edges: EdgeStructure, device: str) -> EdgeStructure:
    """The same edges on another device."""
    for name, value in vars(edges).items():
        if isinstance(value, Tensor):
            setattr(edges, name, value.to(device))
    return edges


def assert_same(
    conv: HGNNIMAConv, h: Tensor, edges: EdgeStructure, device: str, tol: float
) -> None:
    expected = run(conv, h, edges, "sparse")
    found = run(conv.to(device), h.to(device), move(edges, device), "triton")
    assert set(found) == set(expected)
    for name, values in expected.items():
        atol = tol * float(values.detach().abs().max() + 1e-3)
        torch.testing.assert_close(found[name].cpu(), values, rtol=0, atol=atol, msg=name)


# ------------------------------------------------------------------------------ the same numbers


@needs_triton
@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize(("switches", "device"), CASES)
def test_every_switch_gives_the_same_states_and_gradients(
    switches: dict[str, Any], device: str
) -> None:
    h, edges = make_structure(torch.float64, 2, 2)
    assert_same(make_conv(2, heads=1, channels=2, **switches), h, edges, device, 1e-10)


@needs_triton
@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n_modalities", "channels"), [(1, 4), (3, 6), (5, 2)])
def test_any_number_of_modalities_heads_and_channels_will_do(
    n_modalities: int, channels: int, device: str
) -> None:
    h, edges = make_structure(torch.float32, n_modalities, channels)
    conv = make_conv(n_modalities, heads=2, channels=channels, residual="gated").float()
    assert_same(conv, h, edges, device, 1e-4)


@needs_triton
@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", ["softmax", "renormalize"])
def test_a_hub_takes_many_tiles(norm: str, device: str) -> None:
    h, edges = draw_structure(4, 80, hub=True)
    conv = make_conv_for(edges, heads=1, attention_norm=norm, scale=0.3)
    assert_same(conv, h, edges, device, 1e-10)


@needs_triton
@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize("device", DEVICES)
def test_part_of_the_nodes_and_no_edges_at_all_will_do(device: str) -> None:
    conv = make_conv(2, heads=1, channels=2)
    h, edges = make_structure(torch.float64, 2, 2)
    assert_same(conv, h, EdgeStructure({}, N_NODES, METADATA[1]), device, 1e-12)
    wanted = torch.zeros(edges.num_nodes, dtype=torch.bool)
    wanted[[0, 2, 6]] = True
    part, seen = edges.into(wanted)
    assert_same(conv.cpu(), h[:, seen], part, device, 1e-10)


@needs_triton
@pytest.mark.usefixtures("_unchecked")
def test_extreme_scores_give_finite_gradients_in_float32() -> None:
    h, edges = make_structure(torch.float32, 2, 2)
    for norm in ("softmax", "renormalize"):
        conv = make_conv(2, heads=1, channels=2, scale=30.0, attention_norm=norm).float()
        assert all(values.isfinite().all() for values in run(conv, h, edges, "triton").values())


@needs_triton
@pytest.mark.usefixtures("_unchecked")
def test_second_derivatives_are_those_of_the_sparse_products() -> None:
    x = [h.requires_grad_() for h in make_features(2, channels=2).values()]
    edges = EdgeStructure(make_edges(), N_NODES, METADATA[1])
    conv, found = make_conv(2, heads=1, channels=2), []
    for backend in ("sparse", "triton"):
        with set_backend(backend):
            out, _ = conv.propagate(torch.cat(x, 1), edges)
            first = torch.autograd.grad((out**2).sum(), x, create_graph=True)
            found.append(torch.autograd.grad(sum((g**2).sum() for g in first), x))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@needs_triton
@pytest.mark.usefixtures("_unchecked")
def test_nothing_is_kept_per_edge() -> None:
    h, edges = draw_structure(3, 400)
    assert 0 < largest_kept("triton", h, edges, heads=1) < edges.num_edges


# ------------------------------------------------------------------------ compiled for a real GPU

_COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from skmmg.nn import _triton_kernels as kernels
from skmmg.nn._edge_stage import Switches

plan = kernels.Plan.of(torch.zeros(8, 2, 1, 8), Switches())
for kernel in (kernels.forward, kernels.backward):
    types = {name: "i32" if name.startswith("n_") else "*fp32" for name in kernel.arg_names}
    types |= dict.fromkeys(("rows", "offsets", "first"), "*i64") | {"lacking": "*u8"}
    source = ASTSource(fn=kernel, signature=types | {"S": "constexpr"}, constexprs={"S": plan})
    options = {"num_warps": plan.num_warps}
    done = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    assert len(done.asm["cubin"]) > 1000
"""


@needs_triton
def test_the_kernels_compile_for_a_gpu_that_is_not_there() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", _COMPILE], env=environment, check=True)


# ---------------------------------------------------------------------------- which one is taken


@needs_triton
@pytest.mark.parametrize("device", DEVICES)
def test_a_kind_of_layer_is_compared_before_its_first_use(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    from skmmg.nn import _triton

    checked: list[Any] = []
    compare = _triton.check
    monkeypatch.setattr(_triton, "check", lambda *kind: checked.append(kind) or compare(*kind))
    h, edges = make_structure(torch.float32, 1, 2)
    conv = make_conv(1, heads=1, channels=2, cross_modal="none", align=False).float().to(device)
    with set_backend("triton"), torch.no_grad():
        for _ in range(2):
            conv.propagate(h.to(device), move(edges, device))
    assert checked == [(h.to(device).device, torch.float32, 1, 2, conv.switches)]


def test_a_layer_that_fails_takes_the_sparse_products_and_this_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_backend, "_told", set())
    monkeypatch.setattr(_backend, "_trouble_with_triton", lambda *kind: "RuntimeError: no luck")
    h, edges = make_structure(torch.float32, 2, 8)
    conv = make_conv(2).float()
    with caplog.at_level(logging.WARNING, "skmmg"):
        for _ in range(2):
            assert not _backend._takes_triton(h, conv.switches, 2, asked=False)
    assert [record.message.count("no luck") for record in caplog.records] == [1]
    with set_backend("triton"), pytest.raises(RuntimeError, match=r"no luck.*SKMMG_BACKEND"):
        conv.propagate(h, edges)


def test_what_goes_wrong_in_the_comparison_is_a_reason_and_not_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skmmg.nn._triton", None)
    trouble = _backend._trouble_with_triton(torch.device("cpu"), torch.float32, 2, 8, None)
    assert trouble is not None
    assert trouble.startswith("ModuleNotFoundError")


@needs_triton
def test_other_numbers_fail_the_comparison() -> None:
    from skmmg.nn import _triton

    kind = (torch.device("cpu"), torch.float64, 1, 2, make_conv(1, heads=1).switches)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_triton, "triton_pass", lambda *x: (_triton.sparse_pass(*x)[0] * 1.01, None))
        with pytest.raises(RuntimeError, match="other numbers"):
            _triton.check(*kind)


def test_what_the_kernels_lack_takes_the_sparse_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "_trouble_with_triton", lambda *kind: pytest.fail("taken"))
    h, edges = make_structure(torch.float64, 2, 8)
    with set_backend("triton"):
        make_conv(2, cross_modal="influenced").propagate(h, edges)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with set_backend("triton"):  # on a CPU
        make_conv(2).propagate(h, edges)


@gpu
@needs_triton
def test_a_large_graph_on_a_gpu_takes_them_by_itself() -> None:
    h, edges = draw_structure(2000, 20_000)
    conv = make_conv_for(edges).cuda()
    switches = conv.switches
    assert _backend.choose_backend(h.cuda(), edges, switches, 4, 2) == "triton"
    assert_same(conv.cpu(), h, edges, "cuda", 1e-10)
