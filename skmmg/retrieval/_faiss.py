"""Approximate indexes of faiss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from skmmg.retrieval._base import LocalIndex, Neighbors
from skmmg.retrieval._files import open_parts
from skmmg.retrieval._vectors import Vectors, check_count

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
    """An engine of faiss on inner products of unit vectors, which it keeps, and their ids."""

    def __init__(self) -> None:
        self._faiss = import_faiss()
        self._engine: Any = None
        self._is_mapped = False

    @abstractmethod
    def _factory(self, n_gallery: int) -> str:
        """Describe the engine in faiss's language."""

    @abstractmethod
    def _set_up(self, engine: Any) -> None:
        """Set what the description cannot say."""

    @abstractmethod
    def _parameters(self, k: int) -> Any:
        """Return parameters of a search."""

    @abstractmethod
    def _flat(self) -> Any:
        """Return the part of the engine that has the vectors as they are."""

    @property
    def _rows(self) -> Vectors:
        self._check_fitted()
        flat = self._faiss.downcast_index(self._flat())
        return self._faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(-1, flat.d)

    def _build(self, unit: Vectors) -> None:
        metric = self._faiss.METRIC_INNER_PRODUCT
        engine = self._faiss.index_factory(unit.shape[1], self._factory(len(unit)), metric)
        self._set_up(engine)
        engine.train(unit)
        engine.add(unit)
        self._engine, self._is_mapped = engine, False

    def _extend(self, unit: Vectors) -> None:
        if self._is_mapped:  # faiss ends the process when it is told to add to a mapped file
            copy = self._faiss.serialize_index(self._engine)
            self._engine, self._is_mapped = self._faiss.deserialize_index(copy), False
        self._engine.add(unit)

    def _find(self, unit: Vectors, k: int) -> Neighbors:
        shape, pointer = (len(unit), k), self._faiss.swig_ptr
        scores, positions = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int64)
        self._engine.search_c(
            len(unit), pointer(unit), k, pointer(scores), pointer(positions), self._parameters(k)
        )
        return scores, positions

    def _parts(self) -> dict[str, Any]:
        def write(path: str) -> None:
            self._faiss.write_index(self._engine, path)

        return {"engine": write}

    def _open(self, files: Mapping[str, Path], mmap: bool) -> None:
        flags = self._faiss.IO_FLAG_MMAP_IFC if mmap else 0
        self._engine, self._is_mapped = self._faiss.read_index(str(files["engine"]), flags), mmap
        self._ids, self._width = open_parts(files, mmap=False)["ids"], self._engine.d

    def __getstate__(self) -> dict[str, Any]:
        engine = None if self._engine is None else self._faiss.serialize_index(self._engine)
        return {**self.__dict__, "_faiss": None, "_engine": engine, "_is_mapped": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _faiss=import_faiss())
        if self._engine is not None:
            self._engine = self._faiss.deserialize_index(self._engine)


class FaissHNSW(FaissIndex):
    """A graph of near vectors that is walked greedily; see :func:`make_index`."""

    name = "faiss_hnsw"

    def __init__(self, m: int = 32, ef_construction: int = 80, ef_search: int = 64) -> None:
        super().__init__()
        self.m = check_count(m, "m", at_least=2)
        self.ef_construction = check_count(ef_construction, "ef_construction")
        self.ef_search = check_count(ef_search, "ef_search")

    def _options(self) -> dict[str, Any]:
        names = ("m", "ef_construction", "ef_search")
        return {name: getattr(self, name) for name in names}

    def _factory(self, n_gallery: int) -> str:
        return f"HNSW{self.m},Flat"

    def _set_up(self, engine: Any) -> None:
        engine.hnsw.efConstruction = self.ef_construction

    def _parameters(self, k: int) -> Any:
        return _hnsw_parameters(max(self.ef_search, k))

    def _flat(self) -> Any:
        return self._engine.storage


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
        n_lists = max(1, min(wanted, n_gallery // _ROWS_PER_LIST))
        return f"IVF{n_lists},{self._code},RFlat"

    def _set_up(self, engine: Any) -> None:
        lists = self._faiss.downcast_index(engine.base_index)
        lists.cp.min_points_per_centroid = 1  # a tiny gallery is no reason for a warning

    def _parameters(self, k: int) -> Any:
        return _ivf_parameters(self.n_probe, self.rescore)

    def _flat(self) -> Any:
        return self._engine.refine_index


class FaissIVFRaBitQ(FaissIVF):
    """Lists of near vectors in one bit per value, many of the found ones compared anew."""

    name = "faiss_ivf_rabitq"
    _code = "RaBitQ"

    def __init__(self, n_lists: int | None = None, n_probe: int = 32, rescore: int = 10) -> None:
        super().__init__(n_lists, n_probe, rescore)


# made once: they cost as much as a tenth of a search
@cache
def _hnsw_parameters(ef_search: int) -> Any:
    return import_faiss().SearchParametersHNSW(efSearch=ef_search)


@cache
def _ivf_parameters(n_probe: int, rescore: int) -> Any:
    faiss = import_faiss()
    lists = faiss.SearchParametersIVF(nprobe=n_probe)
    return faiss.IndexRefineSearchParameters(k_factor=rescore, base_index_params=lists)
