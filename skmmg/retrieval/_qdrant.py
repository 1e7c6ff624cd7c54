"""A gallery outside of the process: collections of the vector database Qdrant."""

from __future__ import annotations

import atexit
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from uuid import uuid4
from weakref import WeakValueDictionary

import numpy as np

from skmmg.retrieval._base import Neighbors, VectorIndex
from skmmg.retrieval._files import write_parts
from skmmg.retrieval._vectors import Ids, Vectors, check_count, check_ids, check_k, check_unit

_QUERIES = 64  # in one request
_LOOKED_UP = 10_000  # ids in one request

# a folder can be opened once in a process, and several indexes may be in it
_opened: WeakValueDictionary[str, Any] = WeakValueDictionary()


@atexit.register
def _close_opened() -> None:
    for client in list(_opened.values()):
        client.close()


def import_qdrant() -> Any:
    """Return the client's module, or tell how to get it."""
    try:
        import qdrant_client
    except ImportError as error:
        raise ImportError(
            'index="qdrant" needs the client of Qdrant, which is not installed: '
            'pip install "skmmg[qdrant]". index="exact" does without.'
        ) from error
    return qdrant_client


def failures() -> tuple[type[BaseException], ...]:
    """What the client raises where the store cannot be reached or refuses."""
    from grpc import RpcError
    from qdrant_client.http.exceptions import ApiException

    return ApiException, RpcError, OSError


class QdrantIndex(VectorIndex):
    """Vectors in a collection of Qdrant; see :func:`make_index`.

    The name `collection` is an alias. `fit` fills a new collection and then points the alias to it,
    so that others see the old gallery or the new one.
    """

    name = "qdrant"
    is_stored = True

    def __init__(
        self,
        collection: str = "skmmg",
        url: str | None = None,
        path: str | Path | None = None,
        client: Any = None,
        batch_size: int = 512,
        ef_search: int | None = None,
        timeout: int = 60,
    ) -> None:
        import_qdrant()
        if sum(place is not None for place in (url, path, client)) != 1:
            raise ValueError(
                'index="qdrant" must be told one of url, path (a folder, in this process) and '
                "client (a QdrantClient)."
            )
        self.collection, self.url = collection, url
        self.path = None if path is None else str(Path(path).resolve())
        self.batch_size = check_count(batch_size, "batch_size")
        self.ef_search = None if ef_search is None else check_count(ef_search, "ef_search")
        self.timeout = check_count(timeout, "timeout")
        self._given, self._own = client, None
        self._target, self._n, self._width = "", 0, 0
        self._has_row_numbers = True

    # ------------------------------------------------------------------------------- in and out
    def fit(self, vectors: Any, ids: Any = None, queries: Any = None) -> Self:
        unit = check_unit(vectors, "vectors")
        if not len(unit):
            raise ValueError("The gallery must have at least one vector, got none.")
        new_ids = check_ids(ids, len(unit))
        target = f"{self.collection}-{uuid4().hex[:12]}"
        with self._told("write the gallery", "The gallery before is untouched"):
            old = self._behind_alias()
            try:
                self._create(target, unit.shape[1])
                self._write(target, unit, new_ids)
                self._point_alias(target, old)
            except BaseException:
                with suppress(*failures()):
                    self._client.delete_collection(target)
                raise
        if old:
            # the new gallery is there; an old one left over does no harm
            with suppress(*failures()):
                self._client.delete_collection(old)
        self._target, self._n, self._width = target, len(unit), unit.shape[1]
        self._has_row_numbers = ids is None
        return self

    def add(self, vectors: Any, ids: Any = None) -> Self:
        self._check_fitted()
        unit = check_unit(vectors, "vectors", self._width)
        if ids is None and not self._has_row_numbers:
            raise ValueError("The fitted vectors have ids of their own. Give ids to add, too.")
        numbers = np.arange(self._n, self._n + len(unit))
        new_ids = check_ids(numbers if ids is None else ids, len(unit))
        with self._told("look up ids"):
            self._check_new(new_ids)
        with self._told("add vectors", "None of them is kept"):
            self._add(unit, new_ids)
        self._n += len(unit)
        self._has_row_numbers &= ids is None
        return self

    def _add(self, unit: Vectors, ids: Ids) -> None:
        """Write vectors, all or none."""
        try:
            self._write(self._target, unit, ids)
        except BaseException as error:
            try:
                self._client.delete(self._target, ids.tolist())
            except failures():
                error.add_note(
                    f"Nor could the part that was written be removed: of the ids from {ids.min()} "
                    f"to {ids.max()}, some may be in {self._target!r}. Fit the index anew."
                )
            raise

    def search(self, queries: Any, k: int) -> Neighbors:
        return self._search(queries, k, hnsw_ef=self.ef_search)

    def search_exact(self, queries: Any, k: int) -> Neighbors:
        return self._search(queries, k, exact=True)

    def save(self, folder: Any) -> None:
        self._check_fitted()
        if self._given is not None:
            raise ValueError(
                "An index with a client of your own cannot be saved. Make it by url or path, so "
                "that load_index can find the store again."
            )
        options = {
            name: getattr(self, name)
            for name in ("collection", "url", "path", "batch_size", "ef_search", "timeout")
        }
        state = {
            "target": self._target,
            "width": self._width,
            "has_row_numbers": self._has_row_numbers,
        }
        about = {"index": self.name, "options": options, "n_gallery": self._n, "store": state}
        write_parts(Path(folder), about, {})

    def _attach(self, manifest: Mapping[str, Any]) -> None:
        """Take up a saved index, if the store still has its gallery."""
        state = manifest["store"]
        with self._told("open the gallery"):
            target = self._behind_alias()
            n_there = self._client.count(target).count if target else 0
        if target != state["target"] or n_there != manifest["n_gallery"]:
            raise ValueError(
                f"The gallery {self.collection!r} in the store at {self._place} has changed since "
                f"the index was saved: expected {manifest['n_gallery']} vectors in "
                f"{state['target']!r}, got {n_there} in {target!r}. Save the index again."
            )
        self._target, self._n, self._width = target, n_there, state["width"]
        self._has_row_numbers = state["has_row_numbers"]

    def __len__(self) -> int:
        return self._n

    def __sklearn_is_fitted__(self) -> bool:
        return self._n > 0

    def __getstate__(self) -> dict[str, Any]:
        if self._given is not None:
            raise TypeError(
                "An index with a client of your own cannot be pickled. Make it by url or path."
            )
        return {**self.__dict__, "_own": None}

    # ---------------------------------------------------------------------------------- requests
    @property
    def _client(self) -> Any:
        """The client: the one that was given, or one that is made when it is first needed."""
        if self._given is not None:
            return self._given
        if self._own is None and self.path is not None:
            if self.path not in _opened:
                made = import_qdrant().QdrantClient(path=self.path)
                _opened[self.path] = made
            self._own = _opened[self.path]
        elif self._own is None:
            self._own = import_qdrant().QdrantClient(
                url=self.url, timeout=self.timeout, check_compatibility=False
            )
        return self._own

    @property
    def _place(self) -> str:
        return self.url or self.path or "the client's address"

    def _check_fitted(self) -> None:
        if not self._n:
            raise ValueError(
                "This index has an empty gallery. Call fit with at least one vector first."
            )

    @contextmanager
    def _told(self, what: str, then: str = "") -> Iterator[None]:
        """Say which store failed, and what that means."""
        try:
            yield
        except failures() as error:
            told = ConnectionError(
                f"The Qdrant store at {self._place} could not be reached to {what}, or refused: "
                f"{error}. {then + '. ' if then else ''}Is it running, and is the address right?"
            )
            for note in getattr(error, "__notes__", ()):
                told.add_note(note)
            raise told from error

    def _behind_alias(self) -> str:
        """Return the collection that the alias points to, or nothing."""
        aliases = {a.alias_name: a.collection_name for a in self._client.get_aliases().aliases}
        if self.collection in aliases:
            return str(aliases[self.collection])
        if self._client.collection_exists(self.collection):
            raise ValueError(
                f"collection={self.collection!r} is a collection that this index did not make, and "
                f"it would be replaced. Choose another name."
            )
        return ""

    def _create(self, target: str, width: int) -> None:
        models = import_qdrant().models
        vectors = models.VectorParams(size=width, distance=models.Distance.COSINE)
        self._client.create_collection(target, vectors_config=vectors)

    def _write(self, target: str, unit: Vectors, ids: Ids) -> None:
        models = import_qdrant().models
        for start in range(0, len(unit), self.batch_size):
            block = slice(start, start + self.batch_size)
            batch = models.Batch(ids=ids[block].tolist(), vectors=unit[block].tolist())
            self._client.upsert(target, batch, wait=True)

    def _point_alias(self, target: str, old: str) -> None:
        """Let the alias point to another collection, in one request."""
        models = import_qdrant().models
        drop = models.DeleteAliasOperation(
            delete_alias=models.DeleteAlias(alias_name=self.collection)
        )
        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=target, alias_name=self.collection)
        )
        self._client.update_collection_aliases([drop, create] if old else [create])

    def _check_new(self, ids: Ids) -> None:
        """Raise if an id is in the gallery."""
        for start in range(0, len(ids), _LOOKED_UP):
            some = ids[start : start + _LOOKED_UP].tolist()
            there = self._client.retrieve(self._target, some, with_payload=False)
            if there:
                raise ValueError(
                    f"ids must be different, but {there[0].id} occurs more than once. An index "
                    f"does not replace vectors: fit it anew."
                )

    def _search(self, queries: Any, k: int, **parameters: Any) -> Neighbors:
        self._check_fitted()
        k, unit = check_k(k, self._n), check_unit(queries, "queries", self._width)
        models = import_qdrant().models
        how = models.SearchParams(**parameters) if any(parameters.values()) else None
        distances = np.full((len(unit), k), np.inf, dtype=np.float32)
        ids = np.full((len(unit), k), -1, dtype=np.int64)
        for start in range(0, len(unit), _QUERIES):
            requests = [
                models.QueryRequest(query=row, limit=k, params=how)
                for row in unit[start : start + _QUERIES].tolist()
            ]
            with self._told("search"):
                answers = self._ask(requests)
            for row, answer in enumerate(answers, start):
                found = [(1 - point.score, point.id) for point in answer.points]
                distances[row, : len(found)], ids[row, : len(found)] = zip(*found, strict=True)
        order = np.lexsort((ids, distances), axis=1)
        distances = np.take_along_axis(distances, order, 1)
        return np.maximum(distances, 0), np.take_along_axis(ids, order, 1)

    def _ask(self, requests: list[Any]) -> list[Any]:
        with warnings.catch_warnings():
            # a store in this process is always exact, and says so
            warnings.filterwarnings("ignore", "Local mode performs exact", UserWarning)
            return self._client.query_batch_points(self._target, requests)
