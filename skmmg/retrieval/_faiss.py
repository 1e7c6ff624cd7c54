"""Approximate indexes of faiss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skmmg.retrieval._base import LocalIndex, Neighbors
from skmmg.retrieval._nearest import score_pairs
from skmmg.retrieval._vectors import Ids, Vectors, check_count

_VALUES = 1 << 22  # of gallery rows that are compared anew at once: 16 MiB
_ROWS_PER_LIST = 39  # with fewer, faiss warns that lists are badly trained


def import_faiss() -> Any:
    """Return faiss, or tell how to get it."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            'Approximate indexes need faiss, which is not installed: pip install "skmmg[faiss]". '
            'index="exact" does without.'
        ) from error
    return faiss


class FaissIndex(LocalIndex):
    """An engine of faiss on inner products of unit vectors, beside the vectors and their ids."""

    def __init__(self) -> None:
        self._faiss = import_faiss()
        self._engine: Any = None
        self._is_mapped = False

    @abstractmethod
    def _factory(self, n_gallery: int) -> str:
        """Describe the engine in faiss's language."""

    def _build(self, unit: Vectors) -> None:
        description = self._factory(len(unit))
        metric = self._faiss.METRIC_INNER_PRODUCT
        engine = self._faiss.index_factory(unit.shape[1], description, metric)
        self._set_up(engine)
        engine.train(unit)
        engine.add(unit)
        self._engine, self._is_mapped = engine, False
        super()._build(unit)

    def _set_up(self, engine: Any) -> None:
        """Set what the description cannot say."""

    def _extend(self, unit: Vectors) -> None:
        if self._is_mapped:  # faiss ends the process when it is told to add to a mapped file
            copy = self._faiss.serialize_index(self._engine)
            self._engine, self._is_mapped = self._faiss.deserialize_index(copy), False
        super()._extend(unit)
        self._engine.add(unit)

    def _parts(self) -> dict[str, Any]:
        def write(path: str) -> None:
            self._faiss.write_index(self._engine, path)

        return {**super()._parts(), "engine": write}

    def _open(self, files: Mapping[str, Path], mmap: bool) -> None:
        flags = self._faiss.IO_FLAG_MMAP_IFC if mmap else 0
        self._engine, self._is_mapped = self._faiss.read_index(str(files["engine"]), flags), mmap
        super()._open(files, mmap)

    def __getstate__(self) -> dict[str, Any]:
        engine = None if self._engine is None else self._faiss.serialize_index(self._engine)
        return {**self.__dict__, "_faiss": None, "_engine": engine, "_is_mapped": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _faiss=import_faiss())
        if self._engine is not None:
            self._engine = self._faiss.deserialize_index(self._engine)


class FaissHNSW(FaissIndex):
    """A graph of near vectors that is walked greedily; see :func:`make_index`.

    The vectors are kept once, in faiss.
    """

    name = "faiss_hnsw"

    def __init__(self, m: int = 32, ef_construction: int = 80, ef_search: int = 64) -> None:
        super().__init__()
        self.m = check_count(m, "m", at_least=2)
        self.ef_construction = check_count(ef_construction, "ef_construction")
        self.ef_search = check_count(ef_search, "ef_search")

    @property
    def _rows(self) -> Vectors:
        self._check_fitted()
        storage = self._faiss.downcast_index(self._engine.storage)
        flat = self._faiss.rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d)
        return flat.reshape(storage.ntotal, storage.d)

    def _options(self) -> dict[str, Any]:
        return {
            "m": self.m,
            "ef_construction": self.ef_construction,
            "ef_search": self.ef_search,
        }

    def _factory(self, n_gallery: int) -> str:
        return f"HNSW{self.m},Flat"

    def _set_up(self, engine: Any) -> None:
        engine.hnsw.efConstruction = self.ef_construction

    def _keep(self, unit: Vectors) -> None:
        """Keep nothing: the engine has the vectors."""

    def _append(self, unit: Vectors) -> None:
        """Append nothing: the engine has the vectors."""

    def _find(self, unit: Vectors, k: int) -> Neighbors:
        parameters = self._faiss.SearchParametersHNSW(efSearch=max(self.ef_search, k))
        scores, positions = self._engine.search(unit, k, params=parameters)
        return scores, positions

    def _parts(self) -> dict[str, Any]:
        return {name: part for name, part in super()._parts().items() if name != "vectors"}


class FaissIVF(FaissIndex):
    """Lists of near vectors in eight bits per value, the found ones compared anew."""

    name = "faiss_ivf"
    _code = "SQ8"

    def __init__(self, n_lists: int | None = None, n_probe: int = 16, rescore: int = 2) -> None:
        super().__init__()
        self.n_lists = None if n_lists is None else check_count(n_lists, "n_lists")
        self.n_probe = check_count(n_probe, "n_probe")
        self.rescore = check_count(rescore, "rescore")

    def _options(self) -> dict[str, Any]:
        return {"n_lists": self.n_lists, "n_probe": self.n_probe, "rescore": self.rescore}

    def _factory(self, n_gallery: int) -> str:
        wanted = int(4 * np.sqrt(n_gallery)) if self.n_lists is None else self.n_lists
        return f"IVF{max(1, min(wanted, n_gallery // _ROWS_PER_LIST))},{self._code}"

    def _set_up(self, engine: Any) -> None:
        engine.cp.min_points_per_centroid = 1  # a tiny gallery is no reason for a warning

    def _find(self, unit: Vectors, k: int) -> Neighbors:
        parameters = self._faiss.SearchParametersIVF(nprobe=self.n_probe)
        n_candidates = min(k * self.rescore, len(self))
        candidates = self._engine.search(unit, n_candidates, params=parameters)[1]
        scores = np.empty((len(unit), k), dtype=np.float32)
        positions = np.empty((len(unit), k), dtype=np.int64)
        step = max(1, _VALUES // (n_candidates * unit.shape[1]))
        for start in range(0, len(unit), step):
            block = slice(start, start + step)
            scores[block], positions[block] = self._choose(unit[block], candidates[block], k)
        return scores, positions

    def _choose(self, unit: Vectors, candidates: Ids, k: int) -> Neighbors:
        """Compare candidates with the vectors themselves, and keep the best."""
        scores = score_pairs(unit, self._rows[np.maximum(candidates, 0)])
        scores[candidates < 0] = -np.inf
        order = np.lexsort((candidates, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(candidates, order, 1)


class FaissIVFRaBitQ(FaissIVF):
    """Lists of near vectors in one bit per value, many of the found ones compared anew."""

    name = "faiss_ivf_rabitq"
    _code = "RaBitQ"

    def __init__(self, n_lists: int | None = None, n_probe: int = 32, rescore: int = 10) -> None:
        super().__init__(n_lists, n_probe, rescore)
