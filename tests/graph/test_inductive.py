"""What is there before some nodes of a type have come."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skmmg import MultiModalGraph
from skmmg.graph._inductive import induce, there_before


@pytest.fixture
def films() -> MultiModalGraph:
    """Film 0: actors 0, 1; film 1: 1, 2; film 2: 3, who knows 4; nobody has 5. Prizes have none."""
    rng = np.random.default_rng(0)
    stars = np.array([[0, 0, 1, 1, 2], [0, 1, 1, 2, 3]])
    return MultiModalGraph(
        {
            "film": {"plot": rng.normal(size=(3, 2))},
            "actor": {"face": rng.normal(size=(6, 4))},
            "prize": {"text": rng.normal(size=(2, 3))},
        },
        {("film", "stars", "actor"): stars, ("actor", "knows", "actor"): [[3, 4], [4, 3]]},
    )


@pytest.mark.parametrize(
    ("ids", "actors"),
    [
        ([0, 1, 2], [0, 1, 2, 3, 4, 5]),
        ([0], [0, 1, 5]),
        ([2, 1], [1, 2, 3, 4, 5]),
        ([2], [3, 4, 5]),
    ],
)
def test_what_only_held_out_nodes_connect_comes_with_them(
    ids: list[int], actors: list[int], films: MultiModalGraph
) -> None:
    there = there_before(films, "film", np.array(ids))

    assert np.flatnonzero(there["actor"]).tolist() == actors
    assert there["prize"].all()  # they come with no film


def test_what_comes_later_keeps_its_place_without_features_and_edges(
    films: MultiModalGraph,
) -> None:
    part, new_ids = induce(films, "film", np.array([1, 0]))

    assert part.n_nodes == {"film": 2, "actor": 6, "prize": 2}
    assert new_ids.tolist() == [1, 0]
    assert part.present("actor", "face").tolist() == [True, True, True, False, False, True]
    assert part.edge_index["film", "stars", "actor"].tolist() == [[0, 0, 1, 1], [0, 1, 1, 2]]
    assert part.edge_index["actor", "knows", "actor"].size == 0
    assert_array_equal(part.x["actor"]["face"], films.x["actor"]["face"])


def test_weights_and_masks_follow() -> None:
    graph = MultiModalGraph(
        {"film": {"plot": np.ones((2, 1))}, "actor": {"face": np.ones((3, 1))}},
        {
            ("film", "stars", "actor"): np.array([[0, 0, 1], [0, 1, 2]]),
            ("actor", "knows", "actor"): sp.csr_array(([0.5, 2.0], ([0, 2], [1, 2])), (3, 3)),
        },
        masks={"actor": {"face": [True, False, True]}},
    )

    part, _ = induce(graph, "film", np.array([0]))

    assert part.edge_weight["actor", "knows", "actor"].tolist() == [0.5]
    assert part.present("actor", "face").tolist() == [True, False, False]
