"""The Triton kernels give what the sparse products give, and are taken when they should be.

Without a GPU they run in Triton's interpreter, which is slow; the tests marked "gpu" run the same
cases, and larger ones, on a GPU.
"""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from small_layers import METADATA, N_NODES, make_conv
from test_fused import SWITCHES, draw_structure, largest_kept, make_conv_for, make_structure, run
from torch import Tensor

from skmmg import MultiModalGraphClassifier
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGNNIMA, HGT
from skmmg.nn import HGNNIMAConv, _backend, set_backend
from skmmg.nn._edge_stage import Switches
from skmmg.nn._edges import EdgeStructure

HAS_TRITON = find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="the CPU builds of torch bring no Triton")
gpu = [pytest.mark.gpu, needs_triton]
# The interpreters of older ones do not take NumPy 2.4. It is on where there is no GPU (conftest).
INTERPRETED = (
    HAS_TRITON
    and tuple(map(int, version("triton").split(".")[:2])) >= (3, 7)
    and os.environ.get("TRITON_INTERPRET") == "1"
)
interpreted = pytest.mark.skipif(not INTERPRETED, reason="needs Triton 3.7 and its interpreter")
# The interpreter also computes what a phase does not use, from sums that are not known yet; a
# compiler drops it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
on_both = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=interpreted), pytest.param("cuda", marks=gpu)]
)
# a few of all on a CPU, where one takes seconds
CASES = [
    pytest.param(switches, device, id=f"{device}-{switches}", marks=marks)
    for device, marks, some in (("cpu", interpreted, SWITCHES[::7]), ("cuda", gpu, SWITCHES))
    for switches in some
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


def place(
    device: str, conv: HGNNIMAConv, h: Tensor, edges: EdgeStructure
) -> tuple[HGNNIMAConv, Tensor, EdgeStructure]:
    """The same on a device; of the edges, nothing that was made of them before."""
    there = copy.copy(edges)
    for name, value in vars(edges).items():
        if isinstance(value, Tensor):
            setattr(there, name, value.to(device))
    there._finish()
    return copy.deepcopy(conv).to(device), h.to(device), there


def assert_same(
    conv: HGNNIMAConv, h: Tensor, edges: EdgeStructure, device: str, tol: float
) -> None:
    expected = run(conv, h, edges, "sparse")
    found = run(*place(device, conv, h, edges), "triton")
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].device.type == device
        atol = tol * float(values.detach().abs().max() + 1e-3)
        torch.testing.assert_close(found[name].cpu(), values, rtol=0, atol=atol, msg=name)


# ------------------------------------------------------------------------------ the same numbers


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize(("switches", "device"), CASES)
def test_every_switch_gives_the_same_states_and_gradients(
    switches: dict[str, Any], device: str
) -> None:
    h, edges = make_structure(torch.float64, 2, 2)
    assert_same(make_conv(2, heads=1, channels=2, **switches), h, edges, device, 1e-10)


@pytest.mark.usefixtures("_unchecked")
@on_both
@pytest.mark.parametrize(("n_modalities", "channels"), [(1, 4), (3, 6), (5, 2)])
def test_any_number_of_modalities_heads_and_channels_will_do(
    n_modalities: int, channels: int, device: str
) -> None:
    h, edges = make_structure(torch.float32, n_modalities, channels)
    conv = make_conv(n_modalities, heads=2, channels=channels, residual="gated").float()
    assert_same(conv, h, edges, device, 1e-4)


@pytest.mark.usefixtures("_unchecked")
@on_both
@pytest.mark.parametrize("norm", ["softmax", "renormalize"])
def test_a_hub_takes_many_tiles(norm: str, device: str) -> None:
    h, edges = draw_structure(4, 80, hub=True)
    conv = make_conv_for(edges, heads=1, attention_norm=norm, scale=0.3)
    assert_same(conv, h, edges, device, 1e-10)


@pytest.mark.usefixtures("_unchecked")
@on_both
def test_part_of_the_nodes_and_no_edges_at_all_will_do(device: str) -> None:
    conv = make_conv(2, heads=1, channels=2)
    h, edges = make_structure(torch.float64, 2, 2)
    assert_same(conv, h, EdgeStructure({}, N_NODES, METADATA[1]), device, 1e-12)
    wanted = torch.zeros(edges.num_nodes, dtype=torch.bool)
    wanted[[0, 2, 6]] = True
    part, seen = edges.into(wanted)
    assert_same(conv, h[:, seen], part, device, 1e-10)


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize("norm", ["softmax", "renormalize"])
@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_eight_heads_of_real_widths_in_float32(n_modalities: int, width: int, norm: str) -> None:
    _, edges = draw_structure(300, 3000)
    shape = (n_modalities, edges.num_nodes, 8 * width)
    h = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    metadata, scale = (["n"], edges.edge_types), 2 * (8 * width) ** -0.5
    conv = make_conv(n_modalities, metadata, 8 * width, scale, heads=8, attention_norm=norm).float()
    part, seen = edges.into(torch.arange(edges.num_nodes) % 3 == 0)
    assert_same(conv, h, edges, "cuda", 1e-4)
    assert_same(conv, h[:, seen], part, "cuda", 1e-4)


@pytest.mark.usefixtures("_unchecked")
@on_both
def test_extreme_scores_give_finite_gradients_in_float32(device: str) -> None:
    h, edges = make_structure(torch.float32, 2, 2)
    for norm in ("softmax", "renormalize"):
        conv = make_conv(2, heads=1, channels=2, scale=30.0, attention_norm=norm).float()
        found = run(*place(device, conv, h, edges), "triton")
        assert all(values.isfinite().all() for values in found.values())


@pytest.mark.usefixtures("_unchecked")
@on_both
def test_second_derivatives_are_those_of_the_sparse_products(device: str) -> None:
    h, edges = make_structure(torch.float64, 2, 2)
    conv, found = make_conv(2, heads=1, channels=2), []
    for backend, where in (("sparse", "cpu"), ("triton", device)):
        layer, x, structure = place(where, conv, h, edges)
        x.requires_grad_()
        with set_backend(backend):
            out, _ = layer.propagate(x, structure)
            (first,) = torch.autograd.grad((out**2).sum(), x, create_graph=True)
            found.append(torch.autograd.grad((first**2).sum(), x)[0].cpu())
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("_unchecked")
@on_both
def test_nothing_is_kept_per_edge(device: str) -> None:
    h, edges = draw_structure(3, 400)
    _, h, edges = place(device, make_conv(), h, edges)
    assert 0 < largest_kept("triton", h, edges, heads=1) < edges.num_edges


@on_both
def test_queries_may_lie_in_memory_in_any_order(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    from skmmg.nn import _triton

    given = _triton.triton_pass

    def turned(query: Tensor, *rest: Any) -> Any:
        return given(query.mT.contiguous().mT, *rest)

    monkeypatch.setattr(_triton, "triton_pass", turned)
    _triton.check(torch.device(device), torch.float64, 2, 2, Switches())


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


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.gpu
@needs_triton
def test_one_compilation_does_for_graphs_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    compiled: list[str] = []

    def note(*, metadata: dict[str, Any], **rest: Any) -> None:
        compiled.append(metadata["name"])

    monkeypatch.setattr(triton.knobs.compilation, "listener", note)
    for n_nodes, n_edges in ((1, 2), (7, 16), (16, 30), (33, 32), (48, 50)):
        h, edges = draw_structure(n_nodes, n_edges)
        conv = make_conv_for(edges, heads=2, combine="sum", align_scale="mean")  # of no other test
        run(*place("cuda", conv, h, edges), "triton")
    assert sorted(compiled) == ["backward", "forward"]


# ---------------------------------------------------------------------------- which one is taken


@needs_triton
@on_both
def test_a_kind_of_layer_is_compared_before_its_first_use(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    from skmmg.nn import _triton

    checked: list[Any] = []
    compare = _triton.check
    monkeypatch.setattr(_triton, "check", lambda *kind: checked.append(kind) or compare(*kind))
    h, edges = make_structure(torch.float32, 1, 2)
    conv = make_conv(1, heads=1, channels=2, cross_modal="none", align=False).float()
    conv, h, edges = place(device, conv, h, edges)
    with set_backend("triton"), torch.inference_mode():  # where gradients are compared too
        for _ in range(2):
            conv.propagate(h, edges)
    assert checked == [(h.device, torch.float32, 1, 2, conv.switches)]


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


@pytest.mark.gpu
@needs_triton
def test_a_large_graph_on_a_gpu_takes_them_by_itself() -> None:
    h, edges = draw_structure(2000, 20_000)
    conv = make_conv_for(edges)
    assert _backend.choose_backend(h.cuda(), edges, conv.switches, 4, 2) == "triton"
    assert_same(conv, h, edges, "cuda", 1e-10)
    part, seen = edges.into(torch.arange(edges.num_nodes) % 3 == 0)
    assert_same(conv, h[:, seen], part, "cuda", 1e-10)


@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize("precision", ["auto", "bf16"])
@pytest.mark.parametrize("batch_size", [None, 16])
@pytest.mark.parametrize("model", [HGNNIMA, HGT])
def test_estimators_are_trained_and_read_by_them(
    model: Any, batch_size: int | None, precision: str
) -> None:
    data = make_multimodal_graph(40, missing=0.2, n_features=6, random_state=0)
    X, y = data.graph.nodes("item"), data.target
    clf = MultiModalGraphClassifier(
        model(hidden_channels=8, heads=2, num_layers=1),
        device="cuda",
        batch_size=batch_size,
        precision=precision,
        max_epochs=2,
        random_state=0,
    )
    with set_backend("triton"):
        found = clf.fit(X[:30], y[:30]).predict_proba(X)
    assert _backend._trouble_with_triton.cache_info().currsize > 0
    with set_backend("sparse"):
        expected = clf.set_params(device="cpu").predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=0.05 if precision == "bf16" else 1e-4)
