"""A gallery in a vector database: the client's local mode stands in for a server."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skmmg import CrossModalRetriever
from skmmg.retrieval import index_recall, load_index, make_index

qdrant_client = pytest.importorskip("qdrant_client")

pytestmark = [
    pytest.mark.usefixtures("local_qdrant"),
    pytest.mark.filterwarnings("ignore:unclosed database in <sqlite3:ResourceWarning"),
]


@pytest.fixture
def client() -> Iterator[Any]:
    client = qdrant_client.QdrantClient(":memory:")
    yield client
    client.close()


def collections(client: Any) -> list[str]:
    return sorted(each.name for each in client.get_collections().collections)


def assert_same(found: Any, expected: Any) -> None:
    """Compare neighbours; the last digit of what the store computes is not always the same."""
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


def broken_after(client: Any, name: str, n_calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store go away after some calls of a method."""
    call, left = getattr(client, name), [None] * n_calls

    def fail(*args: Any, **kwargs: Any) -> Any:
        if not left:
            raise OSError("gone")
        left.pop()
        return call(*args, **kwargs)

    monkeypatch.setattr(client, name, fail)


def test_a_store_finds_what_the_exact_index_finds(data: Any, client: Any) -> None:
    index = make_index("qdrant", client=client, batch_size=300).fit(data.gallery[:1000])

    distances, ids = index.search(data.queries, 5)

    expected = make_index("exact").fit(data.gallery[:1000]).search(data.queries, 5)
    np.testing.assert_allclose(distances, expected[0], atol=1e-5)
    assert (ids == expected[1]).mean() > 0.999
    assert index_recall(index, data.queries[:20], 5) == 1.0
    assert len(index) == 1000
    assert client.count("skmmg").count == 1000


def test_adding_to_a_store_is_fitting_everything(data: Any, client: Any) -> None:
    index = make_index("qdrant", client=client).fit(data.gallery[:200])

    index.add(data.gallery[200:500]).add(np.empty((0, 24)))

    assert len(index) == 500
    found = index.search(data.gallery[:500], 1)[1][:, 0]
    np.testing.assert_array_equal(found, np.arange(500))


def test_a_store_keeps_ids(data: Any, client: Any) -> None:
    index = make_index("qdrant", client=client).fit(data.gallery[:9], np.arange(9) * 7)

    np.testing.assert_array_equal(index.search(data.gallery[:9], 1)[1][:, 0], np.arange(9) * 7)
    with pytest.raises(ValueError, match="Give ids to add"):
        index.add(data.gallery[9:10])
    with pytest.raises(ValueError, match="14 occurs more than once"):
        index.add(data.gallery[9:11], [1, 14])
    assert len(index.add(data.gallery[9:10], [1])) == 10


def test_fitting_again_replaces_the_gallery_and_leaves_nothing(data: Any, client: Any) -> None:
    make_index("qdrant", client=client).fit(data.gallery[:50])

    make_index("qdrant", client=client).fit(data.gallery[:20, :10])

    assert len(collections(client)) == 1
    assert client.count("skmmg").count == 20


@pytest.mark.parametrize(
    ("method", "n_calls"),
    [("create_collection", 0), ("upsert", 0), ("upsert", 1), ("update_collection_aliases", 0)],
)
def test_a_fit_that_fails_leaves_the_gallery_before(
    data: Any, client: Any, method: str, n_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_index("qdrant", client=client, batch_size=10).fit(data.gallery[:30])
    before, expected = collections(client), index.search(data.queries[:5], 3)
    broken_after(client, method, n_calls, monkeypatch)

    with pytest.raises(ConnectionError, match="The gallery before is untouched"):
        index.fit(data.gallery[:40])

    assert collections(client) == before
    assert_same(index.search(data.queries[:5], 3), expected)
    assert len(index) == client.count("skmmg").count == 30


def test_an_add_that_fails_leaves_nothing(
    data: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_index("qdrant", client=client, batch_size=10).fit(data.gallery[:30])
    broken_after(client, "upsert", 1, monkeypatch)

    with pytest.raises(ConnectionError, match="None of them is kept"):
        index.add(data.gallery[30:60])

    assert len(index) == client.count("skmmg").count == 30


def test_what_could_not_be_removed_is_told(
    data: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_index("qdrant", client=client, batch_size=10).fit(data.gallery[:30])
    broken_after(client, "upsert", 1, monkeypatch)
    broken_after(client, "delete", 0, monkeypatch)

    with pytest.raises(ConnectionError) as caught:
        index.add(data.gallery[30:60])

    assert "the ids from 30 to 59" in caught.value.__notes__[0]


def test_a_collection_of_somebody_else_is_not_replaced(data: Any, client: Any) -> None:
    models = qdrant_client.models
    vectors = models.VectorParams(size=3, distance=models.Distance.DOT)
    client.create_collection("films", vectors_config=vectors)

    with pytest.raises(ValueError, match="Choose another name"):
        make_index("qdrant", client=client, collection="films").fit(data.gallery[:5])

    assert collections(client) == ["films"]


def test_a_store_that_is_not_there_is_told(data: Any) -> None:
    index = make_index("qdrant", url="http://127.0.0.1:9", timeout=2)

    with pytest.raises(ConnectionError, match=r"at http://127\.0\.0\.1:9 could not be reached"):
        index.fit(data.gallery[:5])
    assert len(index) == 0


def test_a_store_that_goes_away_is_told_by_search(
    data: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_index("qdrant", client=client).fit(data.gallery[:30])
    broken_after(client, "query_batch_points", 1, monkeypatch)

    with pytest.raises(ConnectionError, match="could not be reached to search"):
        index.search(data.queries, 3)


def test_an_index_in_a_store_is_saved_and_opened(data: Any, tmp_path: Path) -> None:
    index = make_index("qdrant", path=tmp_path / "store").fit(data.gallery[:30])
    index.save(tmp_path / "index")

    opened = load_index(tmp_path / "index")

    expected = index.search(data.queries, 3)
    assert_same(opened.search(data.queries, 3), expected)
    assert_same(pickle.loads(pickle.dumps(index)).search(data.queries, 3), expected)
    assert len(opened.add(data.gallery[30:40])) == 40
    with pytest.raises(ValueError, match="has changed since the index was saved"):
        load_index(tmp_path / "index")


def test_a_gallery_that_was_replaced_is_noticed(data: Any, tmp_path: Path) -> None:
    index = make_index("qdrant", path=tmp_path / "store").fit(data.gallery[:30])
    index.save(tmp_path / "index")
    index.fit(data.gallery[:30])

    with pytest.raises(ValueError, match="has changed since the index was saved"):
        load_index(tmp_path / "index")


def test_two_galleries_live_in_one_folder(data: Any, tmp_path: Path) -> None:
    first, second = (
        make_index("qdrant", path=tmp_path, collection=name).fit(data.gallery[:n])
        for name, n in (("image", 10), ("text", 20))
    )

    assert first.search(data.queries[:1], 10)[1].shape == (1, 10)
    assert second.search(data.queries[:1], 20)[1].shape == (1, 20)


def test_a_retriever_keeps_every_modality_in_a_collection_of_its_own(client: Any) -> None:
    rng = np.random.default_rng(0)
    topic = rng.standard_normal((40, 2))
    X = np.hstack([topic @ rng.standard_normal((2, 4)) for _ in range(2)])
    modalities = {"text": slice(0, 4), "image": slice(4, 8)}
    exact, stored = (
        CrossModalRetriever("text", "image", model="cca", modalities=modalities, **options).fit(X)
        for options in ({}, {"index": "qdrant", "index_params": {"client": client}})
    )

    for query, gallery in [("text", "image"), ("image", "text"), ("text", "image")]:
        found = stored.kneighbors(X[:5], n_neighbors=3, query=query, gallery=gallery)
        assert_same(found, exact.kneighbors(X[:5], n_neighbors=3, query=query, gallery=gallery))
    names = {each.alias_name for each in client.get_aliases().aliases}
    assert names == {"skmmg_image", "skmmg_text"}


def test_vectors_of_zeros_in_a_store_are_at_distance_one(data: Any, client: Any) -> None:
    gallery = data.gallery[:6].copy()
    gallery[2] = 0
    index = make_index("qdrant", client=client).fit(gallery)

    distances, ids = index.search(np.zeros((1, 24)), 6)
    np.testing.assert_array_equal(distances, np.ones((1, 6)))
    np.testing.assert_array_equal(ids, [np.arange(6)])
    distances, ids = index.search(data.queries, 6)
    np.testing.assert_allclose(distances[ids == 2], 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda i: i.search([[1.0, 0.0]], 4), ValueError, "at most the size of the gallery, 3"),
        (lambda i: i.search([[1.0]], 1), ValueError, "width of the fitted vectors, 2"),
        (lambda i: i.search([[np.nan, 1.0]], 1), ValueError, "queries must be finite, but row 0"),
        (lambda i: i.add([[1.0]]), ValueError, "width of the fitted vectors"),
        (lambda i: i.fit(np.empty((0, 2))), ValueError, "at least one vector"),
        (lambda i: i.fit([[1.0, 0.0]], ids=[-1]), ValueError, "at least 0"),
        (lambda i: i.save("."), ValueError, "client of your own"),
        (pickle.dumps, TypeError, "client of your own"),
        (lambda i: make_index("qdrant"), ValueError, "one of url, path"),
        (lambda i: make_index("qdrant", path="a", url="b"), ValueError, "one of url, path"),
        (lambda i: make_index("qdrant", client=i._given).search([[1.0]], 1), ValueError, "empty"),
    ],
)
def test_bad_input_to_a_store_is_told(
    client: Any, call: Any, error: type[Exception], message: str
) -> None:
    index = make_index("qdrant", client=client).fit([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

    with pytest.raises(error, match=message):
        call(index)


def test_without_the_client_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)

    with pytest.raises(ImportError, match=r'pip install "skmmg\[qdrant\]"'):
        make_index("qdrant", url="http://localhost")
