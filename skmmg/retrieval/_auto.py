"""Exact where that is quick enough, and approximate where the recall was measured to be high."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from time import perf_counter
from typing import Any, Self

from skmmg.retrieval._base import LocalIndex, Neighbors, VectorIndex
from skmmg.retrieval._exact import ExactIndex
from skmmg.retrieval._recall import index_recall
from skmmg.retrieval._vectors import check_count, check_rows

_EF_SEARCH = (64, 128, 256, 512)


class AutoIndex(VectorIndex):
    """Chooses at `fit`; see :func:`make_index`."""

    name = "auto"

    def __init__(
        self, threshold: int = 250_000, min_recall: float = 0.98, k: int = 10, n_sample: int = 500
    ) -> None:
        if not 0 < min_recall <= 1:
            raise ValueError(f"min_recall must be in (0, 1], got {min_recall!r}.")
        self.threshold = check_count(threshold, "threshold", at_least=0)
        self.min_recall = min_recall
        self.k = check_count(k, "k")
        self.n_sample = check_count(n_sample, "n_sample")
        self.chosen_: LocalIndex | None = None
        self.measured_: dict[str, Any] = {}

    def fit(self, vectors: Any, ids: Any = None, queries: Any = None) -> Self:
        vectors = check_rows(vectors, "vectors")
        reason = ""
        if len(vectors) <= self.threshold:
            reason = f"at most {self.threshold} vectors"
        elif find_spec("faiss") is None:
            reason = "faiss is not installed"
        if reason:
            self._set(ExactIndex().fit(vectors, ids), {"reason": reason})
        else:
            self._choose(vectors, ids, queries)
        return self

    def add(self, vectors: Any, ids: Any = None) -> Self:
        self._fitted.add(vectors, ids)
        return self

    def search(self, queries: Any, k: int) -> Neighbors:
        return self._fitted.search(queries, k)

    def search_exact(self, queries: Any, k: int) -> Neighbors:
        return self._fitted.search_exact(queries, k)

    def save(self, folder: Any) -> None:
        auto = {"options": self._options(), "measured": self.measured_}
        self._fitted._save(folder, {"auto": auto})

    def __len__(self) -> int:
        return 0 if self.chosen_ is None else len(self.chosen_)

    @property
    def _fitted(self) -> LocalIndex:
        return ExactIndex() if self.chosen_ is None else self.chosen_

    def _options(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "min_recall": self.min_recall,
            "k": self.k,
            "n_sample": self.n_sample,
        }

    def _set(self, chosen: LocalIndex, measured: Mapping[str, Any]) -> None:
        self.chosen_ = chosen
        self.measured_ = {"index": chosen.name, "n_gallery": len(chosen), **measured}

    def _choose(self, vectors: Any, ids: Any, queries: Any) -> None:
        """Widen the search until the recall is reached; take the exact index if it never is."""
        from skmmg.retrieval._faiss import FaissHNSW

        start = perf_counter()
        index = FaissHNSW().fit(vectors, ids)
        build_seconds = perf_counter() - start
        own = queries is None or not len(queries)
        recalls: dict[str, float] = {}
        for ef_search in _EF_SEARCH:
            index.ef_search = ef_search
            sample = vectors if own else queries
            recall = index_recall(index, sample, min(self.k, len(index)), n_sample=self.n_sample)
            recalls[str(ef_search)] = recall
            if recall >= self.min_recall:
                break
        measured = {
            "queries": "rows of the gallery" if own else "given",
            "recall": recalls,
            "build_seconds": round(build_seconds, 3),
        }
        if recall >= self.min_recall:
            self._set(index, {"reason": "recall is reached", **measured})
            return
        warnings.warn(
            f"The approximate index reaches recall {recall:.3f} of the {self.min_recall} that "
            f"min_recall asks for, so the exact index is used.",
            UserWarning,
            stacklevel=3,
        )
        del index
        self._set(ExactIndex().fit(vectors, ids), {"reason": "recall is not reached", **measured})
