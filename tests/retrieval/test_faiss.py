"""Approximate indexes: what they find, what they keep, and that one can do without them."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances

from skmmg.retrieval import index_recall, load_index, make_index

faiss = pytest.importorskip("faiss")

EVERY: list[tuple[str, dict[str, Any]]] = [
    ("faiss_hnsw", {}),
    ("faiss_ivf", {"n_lists": 20, "n_probe": 10}),
    ("faiss_ivf_rabitq", {"n_lists": 20, "n_probe": 10, "rescore": 40}),
]
each = pytest.mark.parametrize(("name", "options"), EVERY)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    faiss.omp_set_num_threads(1)


@each
def test_most_neighbours_are_found_and_their_distances_are_exact(
    data: Any, name: str, options: dict[str, Any]
) -> None:
    index = make_index(name, **options).fit(data.gallery)

    distances, ids = index.search(data.queries, 10)

    exact = np.take_along_axis(cosine_distances(data.queries, data.gallery), ids, axis=1)
    np.testing.assert_allclose(distances, exact, atol=1e-6)
    assert (np.diff(distances, axis=1) >= 0).all()
    assert index_recall(index, data.queries, 10) > 0.95


@each
def test_a_wider_search_finds_more(data: Any, name: str, options: dict[str, Any]) -> None:
    narrow, wide = (
        {"m": 4, "ef_search": ef} if name == "faiss_hnsw" else {**options, "n_probe": probe}
        for ef, probe in ((1, 1), (512, 20))
    )

    recalls = [
        index_recall(make_index(name, **each).fit(data.gallery), data.queries, 10)
        for each in (narrow, wide)
    ]

    assert recalls[0] < recalls[1] - 0.1
    assert recalls[1] > 0.98


@each
def test_the_exact_search_of_an_approximate_index_is_exact(
    data: Any, name: str, options: dict[str, Any]
) -> None:
    index = make_index(name, **options).fit(data.gallery[:500], np.arange(500) * 3)

    found = index.search_exact(data.queries, 7)

    expected = make_index("exact").fit(data.gallery[:500], np.arange(500) * 3)
    np.testing.assert_array_equal(found, expected.search(data.queries, 7))


@each
@pytest.mark.parametrize("mmap", [True, False])
def test_a_saved_approximate_index_finds_the_same_and_grows(
    data: Any, tmp_path: Path, name: str, options: dict[str, Any], mmap: bool
) -> None:
    index = make_index(name, **options).fit(data.gallery[:2000])
    index.save(tmp_path)

    opened = load_index(tmp_path, mmap=mmap)

    expected = index.search(data.queries, 5)
    np.testing.assert_array_equal(opened.search(data.queries, 5), expected)
    assert opened._options() == index._options()
    opened.add(data.gallery[2000:])
    assert len(opened) == 3000
    found = opened.search(data.gallery[2000:], 1)[1][:, 0]
    assert (found == np.arange(2000, 3000)).mean() > 0.95
    opened.save(tmp_path)
    assert len(load_index(tmp_path)) == 3000


@each
def test_a_changed_engine_file_is_noticed(
    data: Any, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    make_index(name, **options).fit(data.gallery[:800]).save(tmp_path)
    (path,) = tmp_path.glob("*.faiss")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(ValueError, match="has changed"):
        load_index(tmp_path)


@each
def test_an_approximate_index_survives_pickling(
    data: Any, name: str, options: dict[str, Any]
) -> None:
    index = make_index(name, **options).fit(data.gallery)

    copy = pickle.loads(pickle.dumps(index))

    expected = index.search(data.queries, 5)
    np.testing.assert_array_equal(copy.search(data.queries, 5), expected)
    assert len(pickle.loads(pickle.dumps(make_index(name)))) == 0


@each
@pytest.mark.parametrize("n_gallery", [1, 5, 40])
def test_a_small_gallery_is_searched_too(
    data: Any, name: str, options: dict[str, Any], n_gallery: int, capfd: Any
) -> None:
    index = make_index(name, **options).fit(data.gallery[:n_gallery])

    ids = index.search(data.gallery[:n_gallery], 1)[1][:, 0]

    np.testing.assert_array_equal(ids, np.arange(n_gallery))
    assert capfd.readouterr() == ("", "")  # faiss does not warn of few training vectors


@each
def test_one_query_finds_what_it_finds_among_others(
    data: Any, name: str, options: dict[str, Any]
) -> None:
    index = make_index(name, **options).fit(data.gallery)
    queries = data.queries.astype(np.float32)
    distances, ids = index.search(queries, 7)

    for start, stop in [(0, 0), (0, 1), (149, 150), (3, 80)]:
        part = index.search(queries[start:stop], 7)
        np.testing.assert_allclose(part[0], distances[start:stop], atol=1e-6)
        np.testing.assert_array_equal(part[1], ids[start:stop])


@each
def test_vectors_of_zeros_are_at_distance_one(
    data: Any, name: str, options: dict[str, Any]
) -> None:
    gallery = data.gallery[:300].copy()
    gallery[7] = 0
    index = make_index(name, **options).fit(gallery)

    distances, ids = index.search(np.vstack([np.zeros((1, 24)), data.queries]), 300)

    np.testing.assert_allclose(distances[0][ids[0] >= 0], 1)
    np.testing.assert_allclose(distances[ids == 7], 1)


def test_where_too_few_are_found_the_rest_is_marked(data: Any) -> None:
    index = make_index("faiss_ivf", n_lists=20, n_probe=1).fit(data.gallery)

    distances, ids = index.search(data.queries, 2000)

    assert (ids[:, -1] == -1).all()
    assert np.isinf(distances[ids == -1]).all()
    assert np.isfinite(distances[ids >= 0]).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("faiss_hnsw", {"m": 1}, "m must be an integer of at least 2"),
        ("faiss_hnsw", {"ef_search": 0}, "ef_search must be an integer of at least 1"),
        ("faiss_ivf", {"n_probe": 1.5}, "n_probe must be an integer"),
        ("faiss_ivf", {"rescore": True}, "rescore must be an integer"),
        ("auto", {"min_recall": 1.5}, "min_recall must be in"),
        ("auto", {"threshold": -1}, "threshold must be"),
    ],
)
def test_a_bad_option_is_told(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_index(name, **options)


@each
def test_without_faiss_the_way_to_get_it_is_told(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)

    with pytest.raises(ImportError, match=r'pip install "skmmg\[faiss\]"'):
        make_index(name, **options)


# ------------------------------------------------------------------------------------------ auto
def test_auto_is_exact_up_to_a_size(data: Any) -> None:
    index = make_index("auto").fit(data.gallery)

    assert index.measured_["index"] == "exact"
    expected = make_index("exact").fit(data.gallery).search(data.queries, 5)
    np.testing.assert_array_equal(index.search(data.queries, 5), expected)
    assert len(index) == 3000


def test_auto_widens_the_search_until_the_recall_is_reached(data: Any) -> None:
    index = make_index("auto", threshold=100).fit(data.gallery, queries=data.queries)

    assert index.measured_["index"] == "faiss_hnsw"
    assert index.measured_["queries"] == "given"
    recalls = list(index.measured_["recall"].values())
    assert recalls[-1] >= 0.98
    assert all(recall < 0.98 for recall in recalls[:-1])
    assert index_recall(index, data.queries, n_sample=500) == recalls[-1]
    assert str(index.chosen_.ef_search) == list(index.measured_["recall"])[-1]


def test_auto_is_exact_where_no_approximate_index_is_good_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("skmmg.retrieval._auto._EF_SEARCH", (10, 11))
    rows = np.random.default_rng(0).standard_normal((3050, 64))  # no structure
    auto = make_index("auto", threshold=100)

    with pytest.warns(UserWarning, match="so the exact index is used"):
        auto.fit(rows[50:], queries=rows[:50])

    assert auto.measured_["index"] == "exact"
    assert list(auto.measured_["recall"]) == ["10", "11"]
    assert index_recall(auto, rows[:10]) == 1.0


def test_auto_says_that_it_measured_with_rows_of_the_gallery(data: Any) -> None:
    index = make_index("auto", threshold=100).fit(data.gallery)

    assert index.measured_["queries"] == "rows of the gallery"


def test_auto_without_faiss_is_exact(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skmmg.retrieval._auto.find_spec", lambda name: None)

    index = make_index("auto", threshold=100).fit(data.gallery)

    assert index.measured_["reason"] == "faiss is not installed"


@pytest.mark.parametrize("threshold", [100, 10_000])
def test_what_auto_measured_is_saved(data: Any, tmp_path: Path, threshold: int) -> None:
    index = make_index("auto", threshold=threshold).fit(data.gallery, queries=data.queries)
    index.save(tmp_path)

    opened = load_index(tmp_path)

    assert opened.measured_ == index.measured_
    expected = index.search(data.queries, 5)
    np.testing.assert_array_equal(opened.search(data.queries, 5), expected)
    np.testing.assert_array_equal(
        opened.search_exact(data.queries, 5), index.search_exact(data.queries, 5)
    )
    assert len(opened.add(data.gallery[:3])) == 3003


def test_an_unfitted_auto_is_empty() -> None:
    with pytest.raises(ValueError, match="empty gallery"):
        make_index("auto").search([[1.0]], 1)
    assert len(make_index("auto")) == 0
