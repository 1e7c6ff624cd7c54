"""The items that are searched: their vectors in every modality, and an index for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from skmmg.retrieval import VectorIndex, make_index
from skmmg.retrieval._nearest import without_itself

# by modality: vectors (n_items, d), and which of the items have it
Encoded = dict[str, tuple[np.ndarray, np.ndarray]]


class Gallery:
    """Vectors of the items in every modality, and indexes that are built when they are asked for.

    Parameters
    ----------
    encoded : dict of str to (ndarray of shape (n_items, d), ndarray of bool of shape (n_items,))
        Vectors by modality, and which of the items have it; ids are positions.
    index : str
        Name of the index, see `skmmg.retrieval.make_index`.
    options : mapping
        Its options.
    """

    def __init__(self, encoded: Encoded, index: str, options: Mapping[str, Any]) -> None:
        self.encoded, self.index_name, self.options = encoded, index, dict(options)
        self._indexes: dict[str, VectorIndex] = {}

    def __len__(self) -> int:
        return len(next(iter(self.encoded.values()))[1])

    def index(self, modality: str, asked_by: str) -> VectorIndex:
        """The index of the items that have a modality.

        An index that measures what it misses does so with the items' vectors in the modality that
        it is asked by: those of its own modality would flatter it.
        """
        if modality not in self._indexes:
            vectors, has = self.encoded[modality]
            ids = np.flatnonzero(has)
            if not len(ids):
                raise ValueError(
                    f"The gallery is empty: no item has modality {modality!r}. Add items that "
                    "have it, or search in another modality."
                )
            queries, asking = self.encoded[asked_by]
            made = make_index(self.index_name, **self._options_for(modality))
            given = None if asked_by == modality else queries[asking]
            self._indexes[modality] = made.fit(vectors[ids], ids, given)
        return self._indexes[modality]

    def search(
        self,
        queries: np.ndarray,
        modality: str,
        asked_by: str,
        n_neighbors: int,
        own: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosine distances and ids of the nearest items that have a modality.

        Queries with ids of their `own` are items of the gallery, and do not find themselves.
        """
        index = self.index(modality, asked_by)
        others, most = ("items", len(index)) if own is None else ("other items", len(index) - 1)
        if n_neighbors > most:
            raise ValueError(
                f"n_neighbors has to be at most the number of {others} with modality {modality!r} "
                f"in the gallery, {most}, got {n_neighbors}. Ask for fewer."
            )
        if own is None:
            return index.search(queries, n_neighbors)
        return without_itself(*index.search(queries, n_neighbors + 1), own)

    def _options_for(self, modality: str) -> dict[str, Any]:
        """The options; in a database every modality has a collection of its own."""
        if self.index_name != "qdrant":
            return self.options
        name = self.options.get("collection", "skmmg")
        return self.options | {"collection": f"{name}_{'fused' if modality == '*' else modality}"}

    def extended(self, new: Encoded) -> Self:
        """A gallery with more items at its end; indexes that are built take them in.

        An index grows in place, so from here on it is not this gallery's: a copy of the estimator
        that keeps this gallery, or an index that fails, must not see half of it. What is missing
        is built when it is asked for.
        """
        encoded = {
            modality: tuple(np.concatenate(pair) for pair in zip(old, new[modality], strict=True))
            for modality, old in self.encoded.items()
        }
        out = type(self)(encoded, self.index_name, self.options)  # type: ignore[arg-type]
        indexes, self._indexes = self._indexes, {}
        for modality, index in indexes.items():
            vectors, has = new[modality]
            out._indexes[modality] = index.add(vectors[has], len(self) + np.flatnonzero(has))
        return out

    def __getstate__(self) -> dict[str, Any]:
        # to build an index in a store again would replace the gallery that others search
        stored = {m: index for m, index in self._indexes.items() if index.is_stored}
        return {**self.__dict__, "_indexes": stored}
