"""What every index can do, and the gallery that most of them keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from skmmg.retrieval._files import write_parts
from skmmg.retrieval._nearest import nearest
from skmmg.retrieval._vectors import Ids, Vectors, check_ids, check_k, check_unit

Neighbors = tuple[Vectors, Ids]


class VectorIndex(ABC):
    """A gallery of vectors in which the nearest ones to a query are found.

    What :func:`make_index` and :func:`load_index` return. The distance is the cosine distance, one
    minus the cosine. Vectors of length one are made inside. A vector of zeros has no direction: its
    distance is 1 to everything, another vector of zeros included.

    See Also
    --------
    make_index : Makes one by name.
    index_recall : How much an approximate one misses.

    Examples
    --------
    >>> from skmmg.retrieval import VectorIndex, make_index
    >>> isinstance(make_index("exact"), VectorIndex)
    True
    """

    name: ClassVar[str]
    #: whether the vectors are in a store outside of this process, where others may search them
    is_stored: ClassVar[bool] = False

    @abstractmethod
    def fit(self, vectors: Any, ids: Any = None, queries: Any = None) -> Self:
        """Take a gallery, in place of the one before.

        Parameters
        ----------
        vectors : array-like of shape (n_gallery, d)
            Finite numbers, at least one row; kept as float32.
        ids : array-like of int of shape (n_gallery,), default=None
            Different numbers of at least 0 to be returned by `search`; None: the row numbers.
        queries : array-like of shape (n_queries, d), default=None
            Queries as they will come, not in the gallery, by which ``"auto"`` measures its recall;
            the others do without.

        Returns
        -------
        VectorIndex
            The index itself.

        Raises
        ------
        ValueError
            If the gallery is empty, a row is not finite, or ids are repeated.
        """

    @abstractmethod
    def add(self, vectors: Any, ids: Any = None) -> Self:
        """Add vectors to the gallery.

        Parameters
        ----------
        vectors : array-like of shape (n_new, d)
            As in `fit`, of the same width; may be empty.
        ids : array-like of int of shape (n_new,), default=None
            New ids. None: row numbers go on, where those of `fit` were row numbers.

        Returns
        -------
        VectorIndex
            The index itself.
        """

    @abstractmethod
    def search(self, queries: Any, k: int) -> Neighbors:
        """Find the nearest vectors.

        Parameters
        ----------
        queries : array-like of shape (n_queries, d)
            Finite numbers; no row is needed.
        k : int
            Number of neighbours, at most the size of the gallery.

        Returns
        -------
        distances : ndarray of float32 of shape (n_queries, k)
            Cosine distances in [0, 2], ascending.
        ids : ndarray of int64 of shape (n_queries, k)
            Where an approximate index found fewer than k, the id is -1 and the distance infinite.
        """

    @abstractmethod
    def search_exact(self, queries: Any, k: int) -> Neighbors:
        """Find the nearest vectors for certain, at the price of a comparison with all of them.

        Parameters
        ----------
        queries : array-like of shape (n_queries, n_features)
            Vectors.
        k : int
            How many neighbours.

        Returns
        -------
        distances, ids : as from `search`
            Equal distances are in the order of the gallery.
        """

    @abstractmethod
    def save(self, folder: Any) -> None:
        """Write the index into a folder, to be opened by :func:`load_index`.

        A folder that holds an index gets the new one in one step: whoever opens it meanwhile, or
        after a crash, finds the one or the other.

        Parameters
        ----------
        folder : path-like
            Made where it does not exist.
        """

    @abstractmethod
    def __len__(self) -> int: ...


class LocalIndex(VectorIndex):
    """An index in this process: its ids are one array, and so are its unit vectors."""

    _ids: Ids = np.empty(0, dtype=np.int64)
    _width: int  # number of columns

    def fit(self, vectors: Any, ids: Any = None, queries: Any = None) -> Self:
        unit = check_unit(vectors, "vectors")
        if not len(unit):
            raise ValueError("The gallery must have at least one vector, got none.")
        new_ids = check_ids(ids, len(unit))
        self._build(unit)
        self._ids, self._width = new_ids, unit.shape[1]
        return self

    def add(self, vectors: Any, ids: Any = None) -> Self:
        self._check_fitted()
        unit = check_unit(vectors, "vectors", self._width)
        new_ids = check_ids(ids, len(unit), self._ids)
        if len(unit):
            self._extend(unit)
            self._ids = np.concatenate([self._ids, new_ids])
        return self

    def search(self, queries: Any, k: int) -> Neighbors:
        k, unit = self._check_search(queries, k)
        return self._as_neighbors(*self._find(unit, k))

    def search_exact(self, queries: Any, k: int) -> Neighbors:
        k, unit = self._check_search(queries, k)
        return self._as_neighbors(*nearest(unit, self._rows, k))

    def save(self, folder: Any) -> None:
        self._save(folder, {})

    def __len__(self) -> int:
        return len(self._ids)

    def __sklearn_is_fitted__(self) -> bool:
        return len(self) > 0

    def _check_search(self, queries: Any, k: int) -> tuple[int, Vectors]:
        """Give k and the queries as unit vectors."""
        self._check_fitted()
        return check_k(k, len(self)), check_unit(queries, "queries", self._width)

    def _as_neighbors(self, scores: Vectors, positions: Ids) -> Neighbors:
        """Turn cosines into distances and positions into ids."""
        distances, ids = 1 - scores, self._ids[positions]
        np.maximum(distances, 0, out=distances)
        if -1 in positions[:, -1].tolist():  # those that were not found are the last of a row
            distances[positions < 0], ids[positions < 0] = np.inf, -1
        return distances, ids

    def _check_fitted(self) -> None:
        if not len(self):
            raise ValueError(
                "This index has an empty gallery. Call fit with at least one vector first."
            )

    @property
    @abstractmethod
    def _rows(self) -> Vectors:
        """The gallery, one unit vector per row; a view that lives until vectors are added."""

    @abstractmethod
    def _build(self, unit: Vectors) -> None:
        """Take the gallery."""

    @abstractmethod
    def _extend(self, unit: Vectors) -> None:
        """Take more of it."""

    @abstractmethod
    def _find(self, unit: Vectors, k: int) -> Neighbors:
        """Return cosines and positions in the gallery, (n_queries, k); -1 where none was found."""

    def _options(self) -> dict[str, Any]:
        """Options of the constructor, as JSON knows them."""
        return {}

    @abstractmethod
    def _parts(self) -> dict[str, Any]:
        """What is saved beside the ids: arrays, or functions that write a file."""

    def _save(self, folder: Any, extra: Mapping[str, Any]) -> None:
        about = {"index": self.name, "options": self._options(), "n_gallery": len(self), **extra}
        if not len(self):
            raise ValueError("An empty index cannot be saved. Call fit first.")
        write_parts(Path(folder), about, {"ids": self._ids, **self._parts()})

    @abstractmethod
    def _open(self, files: Mapping[str, Path], mmap: bool) -> None:
        """Take what was saved."""
