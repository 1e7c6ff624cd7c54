"""Indexes by name, and from a folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from skmmg.retrieval._auto import AutoIndex
from skmmg.retrieval._base import VectorIndex
from skmmg.retrieval._files import read_manifest

# name: module and class
_INDEXES = {
    "exact": ("_exact", "ExactIndex"),
    "auto": ("_auto", "AutoIndex"),
    "faiss_hnsw": ("_faiss", "FaissHNSW"),
    "faiss_ivf": ("_faiss", "FaissIVF"),
    "faiss_ivf_rabitq": ("_faiss", "FaissIVFRaBitQ"),
    "qdrant": ("_qdrant", "QdrantIndex"),
}


def make_index(name: str = "exact", *, metric: str = "cosine", **options: Any) -> VectorIndex:
    """Make an index, still empty, by its name.

    Parameters
    ----------
    name : str, default="exact"
        - ``"exact"``: compares with every vector, in blocks; neighbours of equal distance come in
          the order of the gallery. No options.
        - ``"auto"``: decides at `fit`. Exact for at most `threshold=250_000` vectors, or without
          faiss; else ``"faiss_hnsw"`` with the smallest `ef_search` (64 to 512) that reaches
          `min_recall=0.98` of the `k=10` nearest for `n_sample=500` of the queries that `fit` was
          given; exact with a warning if none does. Without queries rows of the gallery stand in,
          which flatters the index. ``measured_`` keeps what was found, ``chosen_`` is the index.
        - ``"faiss_hnsw"``: a graph that is walked greedily, the best recall of the approximate
          ones and the slowest to build. `m=32` links per vector; `ef_construction=80` and
          `ef_search=64` candidates are kept while the graph is built and searched.
        - ``"faiss_ivf"``: vectors in lists, one byte per value, of which the nearest lists are
          searched. `n_lists=None` (4·√n), `n_probe=16` lists are searched, `rescore=2` times k
          candidates are compared by the vectors themselves.
        - ``"faiss_ivf_rabitq"``: the same with one bit per value, `n_probe=32`, `rescore=10`.
        - ``"qdrant"``: a collection of the vector database Qdrant, for galleries past this machine:
          one of `url`, `path` (a folder, searched in this process; for tests) and `client`;
          `collection="skmmg"`, `batch_size=512` vectors per request, `ef_search=None` (the
          server's), `timeout=60` seconds. Either all of what `fit` or `add` was given is written or
          nothing. A name is one gallery: give each gallery its own.

        The names with faiss need ``pip install "skmmg[faiss]"``, qdrant
        ``pip install "skmmg[qdrant]"``. Measure what they miss by
        :func:`index_recall`.
    metric : {"cosine"}, default="cosine"
        The distance is one minus the cosine.
    **options
        See above.

    Returns
    -------
    VectorIndex
        With ``fit``, ``add``, ``search``, ``save`` and ``len``.

    Raises
    ------
    ValueError
        If the name or the metric is not known.
    TypeError
        If the index has no such option.
    ImportError
        If the index needs an engine that is not installed.

    Examples
    --------
    >>> from skmmg.retrieval import make_index
    >>> index = make_index("exact").fit([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    >>> distances, ids = index.search([[1.0, 0.1]], k=2)
    >>> ids
    array([[0, 2]])
    """
    if name not in _INDEXES:
        raise ValueError(f"index must be one of {sorted(_INDEXES)}, got {name!r}.")
    if metric != "cosine":
        raise ValueError(f"metric must be 'cosine', got {metric!r}.")
    module, attribute = _INDEXES[name]
    cls: Callable[..., VectorIndex] = getattr(import_module(f"skmmg.retrieval.{module}"), attribute)
    known = list(inspect.signature(cls).parameters)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"Options of index {name!r} are {known}, got {unknown[0]!r}.")
    return cls(**options)


def load_index(folder: Any, mmap: bool = True, verify: bool = True) -> VectorIndex:
    """Open an index that was saved.

    Parameters
    ----------
    folder : path-like
        Where :meth:`VectorIndex.save` wrote it.
    mmap : bool, default=True
        Whether the vectors stay in the file and are read as they are needed. They are never
        written to; `add` copies them into memory.
    verify : bool, default=True
        Whether to read everything once and compare checksums, at about 1 GB per second. Without it
        only missing files and changed sizes are noticed.

    Returns
    -------
    VectorIndex
        The index, fitted.

    Raises
    ------
    FileNotFoundError
        If the folder holds no index.
    ValueError
        If a file or the store has changed since, is missing, or is of another version.
    ConnectionError
        If the store cannot be reached.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skmmg.retrieval import load_index, make_index
    >>> with TemporaryDirectory() as folder:
    ...     make_index().fit([[1.0, 0.0], [0.0, 2.0]]).save(folder)
    ...     len(load_index(folder, mmap=False))
    2
    """
    manifest, files = read_manifest(Path(folder), verify)
    index: Any = make_index(manifest["index"], **manifest["options"])
    if "store" in manifest:
        index._attach(manifest)
        return index
    index._open(files, mmap)
    if "auto" not in manifest:
        return index
    auto = AutoIndex(**manifest["auto"]["options"])
    auto.chosen_, auto.measured_ = index, manifest["auto"]["measured"]
    return auto
