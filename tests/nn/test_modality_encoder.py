"""What a node gets for a modality that it lacks, and features that stay sparse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse
from torch import Tensor

from skmmg.nn import GraphTensors, ModalityEncoder, SparseMatrix

CHANNELS = 4
TYPES = {"movie": {"text": 3, "image": 2}, "actor": {"text": 3}, "tag": {}}
N_NODES = {"movie": 4, "actor": 2, "tag": 2}
MOVIES, ACTORS, TAGS = slice(0, 4), slice(4, 6), slice(6, 8)
STARS, TAGGED = ("movie", "stars", "actor"), ("movie", "rev_describes", "tag")
SEQUEL = ("movie", "sequel", "movie")
EDGES = {
    STARS: torch.tensor([[0, 1, 2], [0, 0, 0]]),
    TAGGED: torch.tensor([[0, 1], [0, 0]]),
    SEQUEL: torch.tensor([[0, 2, 1, 0], [1, 1, 3, 3]]),
}


def make_graph() -> GraphTensors:
    """Movie 1 lacks the image, movie 3 has nothing; actors have no image, tags have nothing."""
    generator = torch.Generator().manual_seed(0)
    x = {
        t: {m: torch.randn(N_NODES[t], width, generator=generator) for m, width in ms.items()}
        for t, ms in TYPES.items()
    }
    x["movie"]["image"][[1, 3]] = 0.0
    x["movie"]["text"][3] = 0.0
    lacks_image, lacks_text = torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    lacks_image[[1, 3]], lacks_text[3] = True, True
    missing = {"movie": {"text": lacks_text, "image": lacks_image}}
    return GraphTensors(x=x, num_nodes=N_NODES, edge_index=EDGES, missing=missing)


def encode(missing: str) -> tuple[ModalityEncoder, Tensor]:
    torch.manual_seed(0)
    encoder = ModalityEncoder(TYPES, ["text", "image"], CHANNELS, missing=missing)
    with torch.no_grad():
        if encoder.placeholder is not None:
            encoder.placeholder.normal_()
        return encoder, encoder(make_graph())


@pytest.mark.parametrize("missing", ["copy", "zero", "mean_neighbors", "learned"])
def test_a_node_that_has_a_modality_keeps_its_state(missing: str) -> None:
    encoder, h = encode(missing)

    def project(node_type: str, modality: str, rows: list[int]) -> Tensor:
        x = make_graph().x[node_type][modality][rows]
        return encoder.projections[node_type][modality](x).tanh().detach()

    assert_allclose(h[0, :3], project("movie", "text", [0, 1, 2]), atol=1e-6)
    assert_allclose(h[1, [0, 2]], project("movie", "image", [0, 2]), atol=1e-6)
    assert_allclose(h[0, ACTORS], project("actor", "text", [0, 1]), atol=1e-6)


def test_copy_gives_the_state_of_the_modality_that_is_there() -> None:
    _, h = encode("copy")

    assert_allclose(h[1, 1], h[0, 1])
    assert_allclose(h[1, ACTORS], h[0, ACTORS])


def test_a_node_without_any_modality_gets_its_neighbours_mean_and_its_types_vector() -> None:
    encoder, h = encode("copy")
    movie, _, tag = encoder.placeholder.detach()[0]

    assert_allclose(h[:, 3], (h[:, 1] + h[:, 0]) / 2 + movie, atol=1e-6)
    assert_allclose(h[:, 6], (h[:, 0] + h[:, 1]) / 2 + tag, atol=1e-6)
    assert_allclose(h[:, 7], torch.stack([tag, tag]), atol=1e-6)  # nothing ends in it


def test_zero_gives_zeros() -> None:
    encoder, h = encode("zero")

    assert encoder.placeholder is None
    assert h[1, [1, 3]].abs().max() == 0
    assert h[0, 3].abs().max() == h[1, ACTORS].abs().max() == h[:, TAGS].abs().max() == 0


def test_mean_neighbors_gives_the_mean_of_the_neighbours_that_have_the_modality() -> None:
    _, h = encode("mean_neighbors")

    assert_allclose(h[1, 1], (h[1, 0] + h[1, 2]) / 2, atol=1e-6)
    assert_allclose(h[1, 4], (h[1, 0] + h[1, 2]) / 2, atol=1e-6)  # movie 1 has none to give
    assert_allclose(h[1, 5], h[0, 5])  # nothing ends in it: as "copy"


def test_mean_neighbors_averages_by_modality_for_a_node_without_any() -> None:
    encoder, h = encode("mean_neighbors")
    movie, _, tag = encoder.placeholder.detach()[0]

    assert_allclose(h[0, 3], (h[0, 1] + h[0, 0]) / 2 + movie, atol=1e-6)
    assert_allclose(h[1, 3], h[1, 0] + movie, atol=1e-6)
    assert_allclose(h[0, 6], (h[0, 0] + h[0, 1]) / 2 + tag, atol=1e-6)
    assert_allclose(h[:, 7], torch.stack([tag, tag]), atol=1e-6)


def test_mean_neighbors_looks_two_steps_far() -> None:
    lacks = torch.tensor([False, True, True, True])
    chain = GraphTensors(
        x={"node": {"text": torch.randn(4, 3), "image": torch.randn(4, 2)}},
        num_nodes={"node": 4},
        edge_index={("node", "next", "node"): torch.tensor([[0, 1, 2], [1, 2, 3]])},
        missing={"node": {"image": lacks}},
    )
    encoder = ModalityEncoder(
        {"node": {"text": 3, "image": 2}}, ["text", "image"], CHANNELS, missing="mean_neighbors"
    )

    text, image = encoder(chain).detach()

    assert_allclose(image[1:3], image[[0, 0]])
    assert_allclose(image[3], text[3])


def test_learned_gives_a_vector_of_the_type_and_modality() -> None:
    encoder, h = encode("learned")
    vectors = encoder.placeholder.detach()

    assert_allclose(h[1, 1], vectors[1, 0])
    assert_allclose(h[:, 3], vectors[:, 0])
    assert_allclose(h[1, ACTORS], vectors[1, [1, 1]])
    assert_allclose(h[:, TAGS], vectors[:, [2, 2]])


def test_a_policy_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"missing has to be one of \['copy', .*got 'mean'"):
        ModalityEncoder(TYPES, ["text"], CHANNELS, missing="mean")


def test_shuffled_features_take_their_gaps_along() -> None:
    torch.manual_seed(0)
    graph = make_graph()
    shuffled = graph.shuffled()
    order = shuffled.row_order
    assert sorted(order[MOVIES].tolist()) == [0, 1, 2, 3]
    assert sorted(order[TAGS].tolist()) == [6, 7]
    encoder = ModalityEncoder(TYPES, ["text", "image"], CHANNELS, missing="zero")

    assert_allclose(encoder(shuffled).detach(), encoder(graph)[:, order].detach())


# ------------------------------------------------------------------------------ sparse features


def make_sparse(dtype: torch.dtype = torch.float64) -> tuple[SparseMatrix, Tensor]:
    matrix = sparse.random_array((6, 40), density=0.2, rng=np.random.default_rng(0)).tocsr()
    dense = torch.tensor(matrix.toarray(), dtype=dtype)
    return SparseMatrix(dense.to_sparse_csr()), dense


def test_a_product_by_a_sparse_matrix_equals_the_dense_one_with_its_gradients() -> None:
    x, dense = make_sparse()
    weight = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)

    assert_allclose((x @ weight).detach(), (dense @ weight).detach(), atol=1e-12)
    assert torch.autograd.gradcheck(lambda w: x @ w, (weight,))
    assert torch.autograd.gradgradcheck(lambda w: x @ w, (weight,))


def test_a_sparse_modality_is_encoded_as_a_dense_one() -> None:
    x, dense = make_sparse(torch.float32)
    torch.manual_seed(0)
    encoder = ModalityEncoder({"node": {"x": 40}}, ["x"], CHANNELS, missing="copy")
    graphs = [GraphTensors({"node": {"x": f}}, {"node": 6}, {}) for f in (x, dense)]

    assert_allclose(*(encoder(graph).detach() for graph in graphs), atol=1e-6)


def test_dropout_of_a_sparse_matrix_zeroes_stored_values_and_scales_the_others() -> None:
    torch.manual_seed(0)
    x, dense = make_sparse()

    dropped = x.dropout(0.5)

    kept = dropped.matrix.to_dense()
    assert_allclose(kept, torch.where(kept != 0, 2 * dense, 0.0))
    assert 0.2 < (kept != 0).sum() / (dense != 0).sum() < 0.8
    assert_allclose(dropped.transposed.to_dense(), kept.t())
    assert_allclose(x.matrix.to_dense(), dense)  # as it was


def test_dropout_acts_on_features_in_training_only() -> None:
    x, dense = make_sparse(torch.float32)
    for features in (x, dense):
        encoder = ModalityEncoder({"node": {"x": 40}}, ["x"], CHANNELS, dropout=0.5)
        graph = GraphTensors({"node": {"x": features}}, {"node": 6}, {})
        outputs: list[Any] = [encoder(graph).detach() for _ in range(2)]
        assert not torch.equal(*outputs)
        encoder.eval()
        assert torch.equal(encoder(graph), encoder(graph))
