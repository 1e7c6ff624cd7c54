"""HGNNIMAConv against the float64 NumPy reference, PyG's HGTConv, and the oracles of the paper."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import EdgeType
from small_layers import (
    ACTS_IN,
    CHANNELS,
    KNOWS,
    METADATA,
    N_NODES,
    SIMILAR,
    SMALL_EDGES,
    SMALL_METADATA,
    SMALL_N_NODES,
    STARS,
    EdgeIndex,
    assert_close,
    assert_equals_reference,
    make_conv,
    make_edges,
    make_features,
    make_function,
)
from torch import Tensor

from skmmg.nn import HGNNIMAConv
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._sparse import edge_dot

CROSS_MODAL = ("adaptive", "none", "mean", "influenced", "node")
SCOPES = ("node", "relation")
NORMS = ("softmax", "renormalize", "outer")
ALIGNS: tuple[dict[str, Any], ...] = (
    {"align": False},
    {"align_scale": "sum"},
    {"align_scale": "mean"},
)


# ------------------------------------------------------------------------- numbers, by equation


@pytest.mark.parametrize("modal_weight", ["shared", "per_modality"])
@pytest.mark.parametrize("combine", ["product", "sum"])
@pytest.mark.parametrize("attention_norm", NORMS)
@pytest.mark.parametrize("attention_scope", SCOPES)
@pytest.mark.parametrize("align", ALIGNS, ids=["no_align", "align_sum", "align_mean"])
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_attention_and_output_equal_the_reference(
    cross_modal: str,
    align: dict[str, Any],
    attention_scope: str,
    attention_norm: str,
    combine: str,
    modal_weight: str,
) -> None:
    switches = {
        "attention_scope": attention_scope,
        "attention_norm": attention_norm,
        "combine": combine,
        "modal_weight": modal_weight,
        **align,
    }
    assert_equals_reference(3, METADATA, N_NODES, make_edges(), cross_modal=cross_modal, **switches)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("num_modalities", [1, 2])
@pytest.mark.parametrize("attention_norm", NORMS)
@pytest.mark.parametrize("attention_scope", SCOPES)
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_any_number_of_modalities_and_heads_equals_the_reference(
    cross_modal: str, attention_scope: str, attention_norm: str, num_modalities: int, heads: int
) -> None:
    assert_equals_reference(
        num_modalities,
        METADATA,
        N_NODES,
        make_edges(),
        heads=heads,
        cross_modal=cross_modal,
        attention_scope=attention_scope,
        attention_norm=attention_norm,
        modal_weight="per_modality",
    )


@pytest.mark.parametrize("norm", [None, "layer"])
@pytest.mark.parametrize("activation", ["gelu", "sigmoid", None])
@pytest.mark.parametrize("residual", ["add", "gated"])
@pytest.mark.parametrize("cross_modal", ["adaptive", "influenced"])
def test_update_equals_the_reference(
    cross_modal: str, residual: str, activation: str | None, norm: str | None
) -> None:
    switches = {"residual": residual, "activation": activation, "norm": norm}
    assert_equals_reference(2, METADATA, N_NODES, make_edges(), cross_modal=cross_modal, **switches)


@st.composite
def odd_graphs(draw: st.DrawFn) -> tuple[dict[str, int], EdgeIndex]:
    """Draw two types of no to five nodes, and relations of up to twelve edges."""
    n_nodes = {t: draw(st.integers(0, 5), label=t) for t in SMALL_N_NODES}
    edges: dict[EdgeType, Tensor] = {}
    for edge_type in SMALL_EDGES:
        ends = n_nodes[edge_type[0]], n_nodes[edge_type[2]]
        pair = st.tuples(*(st.integers(0, max(n - 1, 0)) for n in ends))
        pairs = draw(st.lists(pair, max_size=12 if min(ends) else 0), label=edge_type[1])
        edges[edge_type] = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    return n_nodes, edges


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    graph=odd_graphs(),
    num_modalities=st.integers(1, 3),
    cross_modal=st.sampled_from(CROSS_MODAL),
    attention_scope=st.sampled_from(SCOPES),
    attention_norm=st.sampled_from(NORMS),
    align=st.booleans(),
)
def test_odd_graphs_equal_the_reference(
    graph: tuple[dict[str, int], EdgeIndex], num_modalities: int, **switches: Any
) -> None:
    assert_equals_reference(num_modalities, SMALL_METADATA, *graph, **switches)


def test_a_hub_with_many_edges_equals_the_reference() -> None:
    n_nodes = {"movie": 5, "actor": 400, "tag": 3}
    fans = torch.arange(n_nodes["actor"])
    edges = make_edges() | {ACTS_IN: torch.stack([fans, torch.where(fans % 50 == 0, 1, 0)])}
    assert_equals_reference(2, METADATA, n_nodes, edges, heads=1)


def test_more_edges_than_pairs_of_nodes_equal_the_reference() -> None:
    ids = torch.arange(900)
    edges = make_edges() | {SIMILAR: torch.stack([ids % 5, ids // 7 % 3])}
    assert_equals_reference(2, METADATA, N_NODES, edges, heads=1)


def test_more_edges_than_pairs_of_nodes_leave_the_structure_whole() -> None:
    structure = EdgeStructure({SIMILAR: torch.zeros(2, 50).long()}, {"movie": 2}, [SIMILAR])
    states = torch.ones(1, 2, 3)
    assert torch.equal(edge_dot(states, states, structure), torch.full((1, 50), 3.0))
    # torch.sparse.sampled_addmm cuts index arrays in place to rows x columns, then writes past them
    assert structure.blocks(1).col.shape == (50,)


@pytest.mark.parametrize("activation", [None, "sigmoid", "gelu"])
def test_isolated_nodes_receive_nothing_but_the_bias(activation: str | None) -> None:
    conv, x = make_conv(activation=activation), make_features(2)
    out = conv(x, make_edges())
    nothing = 0.5 if activation == "sigmoid" else 0.0  # act(u) where u = 0
    for node_type, i in (("movie", 4), ("actor", 3), ("tag", 0)):
        linear = conv.a_lin[node_type]
        expected = x[node_type][:, i] + linear(torch.full((CHANNELS,), nothing).double())
        torch.testing.assert_close(out[node_type][:, i], expected, rtol=0, atol=1e-14)


def test_without_any_edge_all_nodes_are_isolated() -> None:
    conv, x = make_conv(), make_features(2)
    out, attention = conv(x, {}, return_attention=True)
    assert_close(out, {t: h + conv.a_lin[t].bias for t, h in x.items()})
    assert all(weight.shape == (0, 4) for weight in attention.weight.values())


# --------------------------------------------------------------------------------- PyG's HGTConv


def copy_to_hgt(conv: HGNNIMAConv) -> torch.nn.Module:
    """Give an HGTConv the weights of a layer with one modality."""
    from torch_geometric.nn import HGTConv

    node_types, edge_types = METADATA
    hgt = HGTConv(CHANNELS, CHANNELS, METADATA, heads=conv.heads).double()
    with torch.no_grad():
        for node_type in node_types:
            kqv = [getattr(conv, name)[node_type] for name in ("k_lin", "q_lin", "v_lin")]
            hgt.kqv_lin.lins[node_type].weight.copy_(torch.cat([lin.weight for lin in kqv]))
            hgt.kqv_lin.lins[node_type].bias.copy_(torch.cat([lin.bias for lin in kqv]))
            hgt.out_lin.lins[node_type].load_state_dict(conv.a_lin[node_type].state_dict())
            hgt.skip[node_type].copy_(conv.skip[node_types.index(node_type)])
        for r, edge_type in enumerate(edge_types):
            hgt.p_rel["__".join(edge_type)].copy_(conv.mu[r])
            hgt.k_rel.weight[r :: len(edge_types)].copy_(conv.w_node[r])
            hgt.v_rel.weight[r :: len(edge_types)].copy_(conv.w_msg[r])
    return hgt


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # by importing PyG
@pytest.mark.parametrize("heads", [1, 4])
def test_one_modality_without_cross_modal_parts_is_hgt(heads: int) -> None:
    conv = make_conv(1, heads=heads, cross_modal="none", align=False, residual="gated")
    x = {t: h[0] for t, h in make_features(1).items()}
    expected = copy_to_hgt(conv)(x, make_edges())
    out = conv(x, make_edges())
    assert set(expected) == {"movie", "actor"}  # HGTConv leaves out types that no relation ends in
    assert_close({t: out[t] for t in expected}, expected)


# ------------------------------------------------------------------------------------- invariance


@pytest.mark.parametrize("attention_scope", SCOPES)
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_the_order_of_edges_changes_nothing(cross_modal: str, attention_scope: str) -> None:
    conv = make_conv(cross_modal=cross_modal, attention_scope=attention_scope)
    x, edges, generator = make_features(2), make_edges(), torch.Generator().manual_seed(3)
    order = {t: torch.randperm(e.shape[1], generator=generator) for t, e in edges.items()}
    shuffled = {t: edges[t][:, order[t]] for t in reversed(edges)}
    out, attention = conv(x, edges, return_attention=True)
    other, weights = conv(dict(reversed(x.items())), shuffled, return_attention=True)
    assert_close(out, other)
    assert_close({t: w[order[t]] for t, w in attention.weight.items()}, weights.weight)


@pytest.mark.parametrize("attention_scope", SCOPES)
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_renumbering_the_nodes_renumbers_the_output(cross_modal: str, attention_scope: str) -> None:
    conv = make_conv(cross_modal=cross_modal, attention_scope=attention_scope)
    x, edges, generator = make_features(2), make_edges(), torch.Generator().manual_seed(4)
    order = {t: torch.randperm(n, generator=generator) for t, n in N_NODES.items()}
    new_id = {t: torch.argsort(p) for t, p in order.items()}
    moved = {t: torch.stack([new_id[t[0]][e[0]], new_id[t[2]][e[1]]]) for t, e in edges.items()}
    out = conv(x, edges)
    other = conv({t: h[:, order[t]] for t, h in x.items()}, moved)
    assert_close({t: h[:, order[t]] for t, h in out.items()}, other)


@pytest.mark.parametrize("modal_weight", ["shared", "per_modality"])
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_reordering_the_modalities_reorders_the_output(cross_modal: str, modal_weight: str) -> None:
    conv = make_conv(3, cross_modal=cross_modal, modal_weight=modal_weight)
    x, order = make_features(3), [2, 0, 1]
    out = conv(x, make_edges())
    if conv.w_modal is not None and conv.w_modal.shape[1] == 3:
        conv.w_modal.data = conv.w_modal.data[:, order]
    other = conv({t: h[order] for t, h in x.items()}, make_edges())
    assert_close({t: h[order] for t, h in out.items()}, other)


def test_a_relation_left_out_is_a_relation_without_edges() -> None:
    conv, x = make_conv(attention_scope="relation"), make_features(2)
    some = {t: e for t, e in make_edges().items() if t != KNOWS}
    assert_close(conv(x, some), conv(x, make_edges()), atol=0)


def test_one_modality_needs_no_axis_of_its_own() -> None:
    conv, x = make_conv(1), make_features(1)
    flat = conv({t: h[0] for t, h in x.items()}, make_edges())
    assert_close(flat, {t: h[0] for t, h in conv(x, make_edges()).items()}, atol=0)


def test_node_types_may_have_any_name() -> None:
    new = {"movie": "items", "actor": "a.b", "tag": "type"}
    edges = {(new[s], f"{r}.x", new[d]): e for (s, r, d), e in make_edges().items()}
    conv = make_conv(metadata=([new[t] for t in N_NODES], list(edges)))
    x = make_features(2)
    out = conv({new[t]: h for t, h in x.items()}, edges)
    assert_close(out, {new[t]: h for t, h in make_conv()(x, make_edges()).items()}, atol=0)


def test_inputs_are_left_as_they_were() -> None:
    x, edges = make_features(2), make_edges()
    make_conv()(x, edges)
    assert_close(x, make_features(2), atol=0)
    assert_close(edges, make_edges(), atol=0)


# ---------------------------------------------------------------------------------------- oracles


def in_degree(edges: EdgeIndex) -> dict[str, Tensor]:
    degree = {t: torch.zeros(n, dtype=torch.float64) for t, n in N_NODES.items()}
    for (_, _, dst), index in edges.items():
        degree[dst] += torch.bincount(index[1], minlength=N_NODES[dst])
    return degree


def test_one_modality_has_all_the_influence_and_is_aligned_with_itself() -> None:
    edges = make_edges()
    _, attention = make_conv(1)(make_features(1), edges, return_attention=True)
    degree = in_degree(edges)
    for edge_type, index in edges.items():
        assert torch.equal(attention.lam[edge_type], torch.ones(index.shape[1], 1, 4).double())
        uniform = (1 / degree[edge_type[2]][index[1]])[:, None].expand(-1, 4)
        torch.testing.assert_close(attention.align[edge_type], uniform, rtol=0, atol=1e-15)


def test_equal_modalities_have_equal_influence_and_equal_outputs() -> None:
    edges = make_edges()
    x = {t: h.expand(3, -1, -1) for t, h in make_features(1).items()}
    out, attention = make_conv(3)(x, edges, return_attention=True)
    degree = in_degree(edges)
    for edge_type, index in edges.items():
        third = torch.full((index.shape[1], 3, 4), 1 / 3, dtype=torch.float64)
        torch.testing.assert_close(attention.lam[edge_type], third, rtol=0, atol=1e-15)
        uniform = (1 / degree[edge_type[2]][index[1]])[:, None].expand(-1, 4)
        torch.testing.assert_close(attention.align[edge_type], uniform, rtol=0, atol=1e-15)
    for h in out.values():
        torch.testing.assert_close(h[1:], h[:1].expand(2, -1, -1), rtol=0, atol=1e-14)


def sum_by_node(values: Mapping[EdgeType, Tensor], edges: EdgeIndex) -> dict[str, Tensor]:
    """Sum per-edge values at the destinations of the edges."""
    shape = next(iter(values.values())).shape[1:]
    total = {t: torch.zeros(n, *shape, dtype=torch.float64) for t, n in N_NODES.items()}
    for edge_type, per_edge in values.items():
        total[edge_type[2]].index_add_(0, edges[edge_type][1], per_edge)
    return total


@pytest.mark.parametrize("scale", [0.7, 30.0], ids=["moderate", "extreme"])
@pytest.mark.parametrize("attention_norm", NORMS)
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_weights_into_a_node_sum_to_one(
    cross_modal: str, attention_norm: str, scale: float
) -> None:
    conv = make_conv(3, cross_modal=cross_modal, attention_norm=attention_norm, scale=scale)
    edges = make_edges()
    _, attention = conv(make_features(3), edges, return_attention=True)
    names = ["alpha", "align", "weight", *(["beta"] if attention_norm == "softmax" else [])]
    for name, (node_type, degree) in product(names, in_degree(edges).items()):
        total = sum_by_node(getattr(attention, name), edges)[node_type]
        torch.testing.assert_close(total[degree > 0], torch.ones_like(total[degree > 0]))
        assert not total[degree == 0].any()


@pytest.mark.parametrize("cross_modal", ["adaptive", "node", "influenced"])
def test_influence_of_the_modalities_sums_to_one(cross_modal: str) -> None:
    conv = make_conv(3, cross_modal=cross_modal)
    _, attention = conv(make_features(3), make_edges(), return_attention=True)
    for lam in attention.lam.values():
        torch.testing.assert_close(lam.sum(1), torch.ones_like(lam.sum(1)), rtol=0, atol=1e-14)


def test_parameters_are_as_many_as_the_formula_says() -> None:
    node_types, edge_types = ["movie", "director", "actor"], [STARS, ACTS_IN, SIMILAR]
    metadata = (node_types, [*edge_types, ("director", "directs", "movie")])
    conv = HGNNIMAConv(64, metadata, 2, heads=8, residual="gated", norm="layer")
    count: dict[str, int] = {}
    for name, parameter in conv.named_parameters():
        group = name.split(".")[0]
        count[group] = count.get(group, 0) + parameter.numel()
    assert sum(count[name] for name in ("k_lin", "q_lin", "v_lin", "a_lin")) == 49_920
    assert sum(count[name] for name in ("w_node", "w_modal", "w_msg")) == 6_144
    assert (count["mu"], count["skip"], count["norm"]) == (32, 3, 384)
    assert sum(count.values()) == 49_920 + 6_144 + 32 + 3 + 384


# -------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("align", ALIGNS[:2], ids=["no_align", "align"])
@pytest.mark.parametrize("attention_norm", NORMS)
@pytest.mark.parametrize("attention_scope", SCOPES)
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_gradients_reach_every_parameter(
    cross_modal: str, attention_scope: str, attention_norm: str, align: dict[str, Any]
) -> None:
    switches = {"attention_scope": attention_scope, "attention_norm": attention_norm, **align}
    switches |= {"modal_weight": "per_modality", "residual": "gated", "norm": "layer"}
    conv = make_conv(2, SMALL_METADATA, cross_modal=cross_modal, scale=0.4, **switches)
    out = conv(make_features(2, SMALL_N_NODES), make_edges(SMALL_EDGES))
    sum((h**3).sum() for h in out.values()).backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        per_matrix = name.startswith("w_")  # one for each relation, modality and head
        size = parameter.grad.abs().amax((-2, -1)) if per_matrix else parameter.grad.abs().max()
        # A key's bias is common to all edges of a softmax over one relation, so it has no effect.
        assert (size > 1e-12).all() or (name.startswith("k_lin") and attention_scope == "relation")


MAIN_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"cross_modal": "none", "combine": "sum", "activation": None},
    {"cross_modal": "mean", "attention_norm": "outer", "activation": "sigmoid"},
    {"cross_modal": "influenced", "align_scale": "mean", "norm": "layer"},
    {"cross_modal": "node", "attention_norm": "renormalize", "combine": "sum"},
    {"attention_norm": "renormalize", "align": False},
    {"attention_scope": "relation", "attention_norm": "outer", "residual": "gated"},
    {"cross_modal": "none", "attention_norm": "renormalize", "attention_scope": "relation"},
)


@pytest.mark.parametrize("switches", MAIN_VARIANTS, ids=str)
def test_gradients_are_right(switches: dict[str, Any]) -> None:
    torch.autograd.gradcheck(*make_function(**switches), fast_mode=bool(switches))


@pytest.mark.parametrize("switches", MAIN_VARIANTS[:2], ids=str)
def test_second_derivatives_are_right(switches: dict[str, Any]) -> None:
    torch.autograd.gradgradcheck(*make_function(**switches), fast_mode=True)


@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_nothing_of_edges_times_channels_is_kept_for_the_backward_pass(cross_modal: str) -> None:
    n_nodes, n_edges, channels = 100, 3000, 64
    generator = torch.Generator().manual_seed(5)
    edges = {SIMILAR: torch.randint(0, n_nodes, (2, n_edges), generator=generator)}
    conv = HGNNIMAConv(channels, (["movie"], [SIMILAR]), 2, heads=4, cross_modal=cross_modal)
    sizes: list[int] = []

    def record(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        out = conv({"movie": torch.randn(2, n_nodes, channels, generator=generator)}, edges)
    assert out["movie"].requires_grad
    assert 0 < max(sizes) < n_edges * channels


# ----------------------------------------------------------------------- precision, dropout, state


@pytest.mark.parametrize("attention_norm", NORMS)
def test_float32_agrees_with_float64(attention_norm: str) -> None:
    conv, x = make_conv(3, attention_norm=attention_norm), make_features(3)
    expected = conv(x, make_edges())
    out = conv.float()({t: h.float() for t, h in x.items()}, make_edges())
    for node_type, h in out.items():
        assert h.dtype == torch.float32
        torch.testing.assert_close(h.double(), expected[node_type], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attention_norm", NORMS)
@pytest.mark.parametrize("cross_modal", CROSS_MODAL)
def test_extreme_scores_give_finite_gradients_in_float32(
    cross_modal: str, attention_norm: str
) -> None:
    conv = make_conv(3, cross_modal=cross_modal, attention_norm=attention_norm, scale=30.0).float()
    out = conv({t: h.float() for t, h in make_features(3).items()}, make_edges())
    sum(h.sum() for h in out.values()).backward()
    grads = {name: p.grad for name, p in conv.named_parameters() if p.grad is not None}
    assert [name for name, grad in grads.items() if not grad.isfinite().all()] == []


def test_dropout_acts_in_training_and_not_in_evaluation() -> None:
    x, edges = make_features(2), make_edges()
    expected = make_conv()(x, edges)
    conv = make_conv(dropout=0.5)
    assert_close(conv(x, edges), expected, atol=0)
    torch.manual_seed(0)
    assert not torch.equal(conv.train()(x, edges)["movie"], expected["movie"])


def test_a_pickled_layer_gives_the_same_output() -> None:
    conv, x = make_conv(residual="gated", norm="layer"), make_features(2)
    expected = conv(x, make_edges())
    assert_close(pickle.loads(pickle.dumps(conv))(x, make_edges()), expected, atol=0)


def test_a_new_layer_starts_as_the_paper_says() -> None:
    conv = HGNNIMAConv(64, METADATA, 2, heads=8, residual="gated", norm="layer")
    assert torch.equal(conv.mu, torch.ones(6, 8))
    assert torch.equal(conv.skip, torch.ones(3))
    bound = (6 / (8 + 8)) ** 0.5  # Glorot, of matrices 8 x 8
    for weight in (conv.w_node, conv.w_modal, conv.w_msg):
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.95 * bound


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ({"heads": 3}, ("heads", "divide", "3", "8")),
        ({"heads": 0}, ("heads", "0")),
        ({"num_modalities": 0}, ("num_modalities", "0")),
        ({"dropout": 1.5}, ("dropout", "1.5")),
        ({"metadata": (["movie"], [STARS])}, ("stars", "actor", "movie")),
        *(
            ({name: "nothing"}, (name, "'nothing'", option))
            for name, option in (
                ("cross_modal", "adaptive"),
                ("align_scale", "mean"),
                ("attention_scope", "relation"),
                ("attention_norm", "renormalize"),
                ("combine", "product"),
                ("modal_weight", "per_modality"),
                ("residual", "gated"),
                ("activation", "gelu"),
                ("norm", "layer"),
            )
        ),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_what_was_expected(
    arguments: dict[str, Any], fragments: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=re.escape(fragments[0])) as error:
        HGNNIMAConv(**{"channels": CHANNELS, "metadata": METADATA, "heads": 4, **arguments})
    assert [part for part in fragments if part not in str(error.value)] == []


@pytest.mark.parametrize(
    ("x", "edges", "fragments"),
    [
        ({"director": torch.zeros(2, 1, CHANNELS)}, {}, ("director", "movie")),
        ({"movie": None}, {}, ("movie", "actor")),
        ({"movie": torch.zeros(3, 5, CHANNELS)}, {}, ("movie", "(2, n_nodes, 8)", "(3, 5, 8)")),
        ({"movie": torch.zeros(2, 5, 9)}, {}, ("movie", "(2, n_nodes, 8)", "(2, 5, 9)")),
        ({"movie": torch.zeros(5, CHANNELS)}, {}, ("movie", "(2, n_nodes, 8)", "(5, 8)")),
        ({}, {("movie", "sequel", "movie"): torch.zeros(2, 0).long()}, ("sequel", "similar")),
        ({}, {SIMILAR: torch.zeros(3, 2).long()}, ("similar", "(2, n_edges)", "(3, 2)")),
        ({}, {SIMILAR: torch.zeros(2, 2)}, ("similar", "integer", "float32")),
        ({}, {STARS: torch.tensor([[0], [4]])}, ("stars", "actor 4", "4 nodes", "0 to 3")),
        ({}, {STARS: torch.tensor([[-1], [0]])}, ("stars", "movie -1", "0 to 4")),
    ],
    ids=str,
)
def test_a_wrong_input_is_named_with_what_was_expected(
    x: dict[str, Tensor | None], edges: EdgeIndex, fragments: tuple[str, ...]
) -> None:
    features = {t: h for t, h in {**make_features(2), **x}.items() if h is not None}
    with pytest.raises(ValueError, match=re.escape(fragments[0])) as error:
        make_conv()(features, {**make_edges(), **edges})
    assert [part for part in fragments if part not in str(error.value)] == []
