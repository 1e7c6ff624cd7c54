"""The exact index: brute force, ties, batches, ids, bad input."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics.pairwise import cosine_distances

from skmmg.retrieval import _nearest, index_recall, make_index
from skmmg.retrieval._nearest import Groups, nearest


def brute_force(queries: Any, gallery: Any, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    distances = cosine_distances(queries, gallery)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 10, 300, 3000])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_neighbours_are_those_of_brute_force(data: Any, k: int, bfloat16: bool) -> None:
    scores, rows = nearest(unit(data.queries), unit(data.gallery), k, bfloat16)

    distances, expected = brute_force(data.queries, data.gallery, k)
    np.testing.assert_allclose(1 - scores, distances, atol=1e-6)
    assert (rows == expected).mean() > 0.999  # rounding may swap two that are equally near
    assert all(len(set(row)) == k for row in rows)


@pytest.mark.parametrize("n_gallery", [1, 2, 63, 64, 65, 1023, 1024, 1025, 2048, 2999])
def test_every_row_can_be_found_wherever_blocks_and_groups_end(
    data: Any, n_gallery: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_nearest, "_COSINES", 1)  # the smallest blocks
    gallery = unit(data.gallery)[:n_gallery]

    scores, rows = nearest(gallery, gallery, 1, False)

    np.testing.assert_array_equal(rows[:, 0], np.arange(n_gallery))
    np.testing.assert_allclose(scores, 1, atol=1e-6)


@pytest.mark.parametrize(("n_rows", "k"), [(1, 1), (1000, 3), (5000, 1), (70_000, 1), (70_000, 9)])
def test_the_groups_hold_every_row_once(n_rows: int, k: int) -> None:
    groups = Groups.of((n_rows, 2), k, 512)

    rows = groups.rows(np.arange(groups.n_groups))

    np.testing.assert_array_equal(np.sort(rows[rows < n_rows]), np.arange(n_rows))


@pytest.mark.parametrize("bfloat16", [False, True])
def test_equal_rows_come_in_the_order_of_the_gallery(data: Any, bfloat16: bool) -> None:
    copies = np.tile(unit(data.gallery)[:100], (40, 1))

    scores, rows = nearest(unit(data.queries), copies, 60, bfloat16)

    assert (np.diff(scores, axis=1) <= 0).all()
    is_tied = np.diff(scores, axis=1) == 0
    assert is_tied.mean() > 0.9
    assert (np.diff(rows, axis=1)[is_tied] > 0).all()
    np.testing.assert_array_equal(rows[:, :40] // 100, np.tile(np.arange(40), (len(rows), 1)))


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_gallery_of_one_row_over_and_over_gives_the_first(bfloat16: bool) -> None:
    gallery = np.tile(unit(np.ones((1, 8))), (20_000, 1))

    rows = nearest(gallery[:3], gallery, 5, bfloat16)[1]

    np.testing.assert_array_equal(rows, np.tile(np.arange(5), (3, 1)))


@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_result_does_not_depend_on_the_batch(data: Any, dtype: Any, scale: float) -> None:
    index = make_index().fit(data.gallery)
    queries = (data.queries * scale).astype(dtype)

    distances, ids = index.search(queries, 7)

    for start, stop in [(0, 0), (0, 1), (149, 150), (0, 2), (3, 80), (100, 150)]:
        part = index.search(queries[start:stop], 7)
        np.testing.assert_array_equal(part[0], distances[start:stop])
        np.testing.assert_array_equal(part[1], ids[start:stop])


def test_bfloat16_is_left_where_it_does_not_pay(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    run = _nearest._Search.run
    monkeypatch.setattr(_nearest, "bfloat16_pays", lambda: True)
    monkeypatch.setattr(_nearest, "_QUERIES", 70)
    monkeypatch.setattr(_nearest._Search, "run", lambda s, low: used.append(low) or run(s, low))
    near = unit(1 + 1e-3 * data.gallery)  # all of them within the rounding of bfloat16

    nearest(near[:210], near, 3)

    assert used == [True, False, False]


def test_a_vector_of_zeros_has_distance_one_to_everything(data: Any) -> None:
    gallery = data.gallery[:5].copy()
    gallery[2] = 0
    index = make_index().fit(gallery)

    distances, ids = index.search(np.zeros((1, 24)), 5)
    np.testing.assert_array_equal(distances, np.ones((1, 5)))
    np.testing.assert_array_equal(ids, [np.arange(5)])
    distances, ids = index.search(data.queries, 5)
    np.testing.assert_array_equal(distances[ids == 2], np.ones(len(data.queries)))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1, 1e30, 1e160, 1e300])
def test_the_length_of_a_vector_does_not_matter(data: Any, scale: float) -> None:
    expected = make_index().fit(data.gallery).search(data.queries, 3)

    found = make_index().fit(data.gallery * scale).search(data.queries / scale, 3)

    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.longdouble, np.int8, np.uint16])
def test_every_kind_of_number_is_taken(data: Any, dtype: Any) -> None:
    gallery, queries = (np.abs(100 * rows).clip(0, 127).astype(dtype) for rows in data)

    found = make_index().fit(gallery).search(queries, 3)

    expected = make_index().fit(gallery.astype(np.float64)).search(queries.astype(np.float64), 3)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_adding_is_fitting_everything(data: Any) -> None:
    index = make_index().fit(data.gallery[:1000]).add(data.gallery[1000:1001])

    for start in range(1001, 3000, 400):
        index.add(data.gallery[start : start + 400])

    assert len(index) == 3000
    expected = make_index().fit(data.gallery).search(data.queries, 5)
    np.testing.assert_array_equal(index.search(data.queries, 5), expected)
    assert len(index.add(np.empty((0, 24)))) == 3000


def test_ids_are_returned_for_rows(data: Any) -> None:
    ids = np.random.default_rng(0).permutation(10_000)[:3000] + 2**40
    index = make_index().fit(data.gallery[:2000], ids[:2000]).add(data.gallery[2000:], ids[2000:])

    found = index.search(data.queries, 5)[1]

    np.testing.assert_array_equal(
        found, ids[make_index().fit(data.gallery).search(data.queries, 5)[1]]
    )


def test_the_gallery_that_was_given_is_neither_kept_nor_changed(data: Any) -> None:
    gallery = np.asfortranarray(data.gallery[:50])
    gallery.setflags(write=False)
    index = make_index().fit(gallery)

    assert not np.shares_memory(index._rows, gallery)


def test_an_index_survives_pickling_and_read_only_memory(data: Any) -> None:
    index = pickle.loads(pickle.dumps(make_index().fit(data.gallery)))
    index._buffer.setflags(write=False)

    found = index.search(data.queries, 5)

    expected = make_index().fit(data.gallery).search(data.queries, 5)
    np.testing.assert_array_equal(found, expected)
    assert len(index.add(data.gallery[:2])) == 3002


def test_an_exact_index_has_recall_one_even_with_ties(data: Any) -> None:
    index = make_index().fit(np.tile(data.gallery[:100], (3, 1)))

    assert index_recall(index, data.queries, 10, n_sample=50) == 1.0


def test_recall_counts_what_is_missed(data: Any) -> None:
    index = make_index().fit(data.gallery)
    index._find = lambda unit, k: tuple(part[:, 1:] for part in nearest(unit, index._rows, k + 1))

    assert index_recall(index, data.queries, 4) == pytest.approx(0.75)


NAN = np.array([[1.0, 2.0], [np.nan, 1.0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda i: i.search([[1.0, 0.0]], 4), ValueError, "at most the size of the gallery, 3"),
        (lambda i: i.search([[1.0, 0.0]], 0), ValueError, "at least 1"),
        (lambda i: i.search([[1.0, 0.0]], 1.5), ValueError, "integer"),
        (lambda i: i.search([1.0, 0.0], 1), ValueError, r"v\[None, :\]"),
        (lambda i: i.search([[1.0, 0.0, 0.0]], 1), ValueError, "width of the fitted vectors, 2"),
        (lambda i: i.search(NAN, 1), ValueError, "queries must be finite, but row 1"),
        (lambda i: i.search([["a", "b"]], 1), ValueError, "must be numbers"),
        (lambda i: i.add([[1.0]]), ValueError, "width of the fitted vectors"),
        (lambda i: i.add([[1.0, 1.0]], ids=[2]), ValueError, "2 occurs more than once"),
        (lambda i: i.fit(NAN), ValueError, "vectors must be finite, but row 1"),
        (lambda i: i.fit(-np.inf * np.ones((1, 2))), ValueError, "row 0"),
        (lambda i: i.fit(np.empty((0, 2))), ValueError, "at least one vector"),
        (lambda i: i.fit([[1.0, 0.0]], ids=[-1]), ValueError, "at least 0"),
        (lambda i: i.fit([[1.0, 0.0]], ids=[1, 2]), ValueError, "one per vector"),
        (lambda i: i.fit([[1.0, 0.0]], ids=[7]).add([[1.0, 1.0]]), ValueError, "Give ids"),
        (lambda i: make_index().search([[1.0]], 1), ValueError, "empty gallery"),
        (lambda i: make_index().add([[1.0]]), ValueError, "empty gallery"),
        (lambda i: make_index().save("."), ValueError, "empty index"),
        (lambda i: make_index("exat"), ValueError, "must be one of"),
        (lambda i: make_index(metric="l2"), ValueError, "'cosine'"),
        (lambda i: make_index(ef=3), TypeError, "got 'ef'"),
        (lambda i: make_index("auto").fit(1.0), ValueError, "must be numbers of shape"),
        (lambda i: index_recall(i, np.empty((0, 2))), ValueError, "at least one query"),
    ],
)
def test_bad_input_is_told(call: Any, error: type[Exception], message: str) -> None:
    index = make_index().fit([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

    with pytest.raises(error, match=message):
        call(index)


def test_a_failed_call_leaves_the_index_as_it_was() -> None:
    index = make_index().fit([[1.0, 0.0], [0.0, 1.0]])

    for call in (lambda: index.fit(NAN), lambda: index.add(NAN), lambda: index.fit([[1.0]], [-1])):
        with pytest.raises(ValueError, match=r"must be"):
            call()

    assert len(index) == 2
    assert index.search([[0.0, 1.0]], 1)[1] == 1


def test_sparse_vectors_are_told_to_be_dense() -> None:
    from scipy.sparse import eye_array

    rows = eye_array(3).tocsr()

    for call in (
        lambda: make_index().fit(rows),
        lambda: make_index("auto").fit(rows),
        lambda: index_recall(make_index().fit(np.eye(3)), rows),
    ):
        with pytest.raises(TypeError, match="toarray"):
            call()
