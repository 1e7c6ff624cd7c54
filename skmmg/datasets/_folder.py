"""Any network, from a folder of plain arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils import Bunch

from skmmg.graph import MultiModalGraph

_SUFFIXES = (".npy", ".npz")
_PARTS = ("train_idx", "val_idx", "test_idx")


def load_folder(folder: str | PathLike[str]) -> Bunch:
    """Load a network of your own, or one that others published, from a folder of arrays.

    ============================================ ===================================================
    file                                         what
    ============================================ ===================================================
    nodes/<node type>/<modality>.npy or .npz     a row per node: an array as ``numpy.save`` writes
                                                 it, or a sparse matrix as ``scipy.sparse.save_npz``
                                                 does; a row of NaN is a missing one
    edges/<source>/<relation>/<destination>.npy  ids of shape (2, n_edges), or with .npz a sparse
                                                 matrix of shape (n_sources, n_destinations)
    labels/<node type>.npy                       the class of every node of the type to classify;
                                                 optional
    split.npz                                    train_idx, val_idx and test_idx, ids of that type,
                                                 as ``numpy.savez`` writes them; optional
    ============================================ ===================================================

    A node type without features stands in the edges only; it has as many nodes as it has labels, or
    else as its highest id tells. Dense features are mapped into memory, not read.

    Parameters
    ----------
    folder : str or path

    Returns
    -------
    Bunch
        graph : MultiModalGraph
            With the reverse relations that the folder does not hold.
        node_type : str or None
            The type that has labels, so that ``graph.nodes(node_type)`` is what an estimator takes.
        target : ndarray of shape (n_nodes,) or None
            The labels.
        train_idx, val_idx, test_idx : ndarray of int64
            The split, if there is one.

    Raises
    ------
    FileNotFoundError
        If the folder holds no features.
    ValueError
        If a file is of another kind, or the files do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from skmmg.datasets import load_folder
    >>> folder = Path(mkdtemp())
    >>> for part in ("nodes/movie", "edges/movie/stars", "labels"):
    ...     (folder / part).mkdir(parents=True)
    >>> np.save(folder / "nodes/movie/poster.npy", np.ones((3, 8)))
    >>> np.save(folder / "edges/movie/stars/actor.npy", [[0, 1, 2], [1, 0, 1]])
    >>> np.save(folder / "labels/movie.npy", [0, 1, 0])
    >>> load_folder(folder).graph
    MultiModalGraph(
      movie: 3 nodes, poster (8)
      actor: 2 nodes
      movie -stars-> actor: 3 edges
      actor -rev_stars-> movie: 3 edges
    )
    """
    folder = Path(folder)
    features = _arrays(folder, "nodes/<node type>/<modality>")
    if not features:
        raise FileNotFoundError(
            f"The folder must hold nodes/<node type>/<modality>.npy or .npz, but {folder} does not."
        )
    links = _arrays(folder, "edges/<source>/<relation>/<destination>")
    edges = {names: _read_edges(file) for names, file in links.items()}
    labels = {names[0]: _read(file) for names, file in _arrays(folder, "labels/<type>").items()}
    if len(labels) > 1:
        raise ValueError(
            f"labels must hold one file, of the node type to classify, got {sorted(labels)}. Move "
            "the others away."
        )
    nodes: dict[str, Any] = {}
    for (node_type, modality), file in features.items():
        nodes.setdefault(node_type, {})[modality] = _read(file, mapped=True)
    ends = dict.fromkeys(name for names in edges for name in (names[0], names[2]))
    nodes |= {name: _count(name, edges, labels) for name in ends if name not in nodes}
    graph = MultiModalGraph(nodes, edges)
    labelled = next(iter(labels), None)
    target = None if labelled is None else labels[labelled]
    if target is not None and target.shape != (graph.n_nodes.get(str(labelled)),):
        raise ValueError(
            f"labels/{labelled}.npy must hold one label per {labelled!r}, got shape {target.shape} "
            f"for {dict(graph.n_nodes)} nodes."
        )
    return Bunch(graph=graph, node_type=labelled, target=target, **_read_split(folder, target))


def _arrays(folder: Path, pattern: str) -> dict[tuple[str, ...], Path]:
    """The files of one kind, by the names that the pattern leaves open."""
    kind, *open_names = pattern.split("/")
    found: dict[tuple[str, ...], Path] = {}
    for file in sorted(path for path in (folder / kind).rglob("*") if path.is_file()):
        names = file.relative_to(folder / kind).with_suffix("").parts
        if file.suffix not in _SUFFIXES or len(names) != len(open_names):
            raise ValueError(
                f"Files in {kind} must be called {pattern}{' or '.join(_SUFFIXES)}, got {file}."
            )
        if names in found:
            raise ValueError(f"{file} and {found[names].name} are one matrix; remove one of them.")
        found[names] = file
    return found


def _read(file: Path, mapped: bool = False) -> Any:
    """An array, or a sparse matrix."""
    writer = "numpy.save" if file.suffix == ".npy" else "scipy.sparse.save_npz"
    with _told_if_damaged(
        f"{file} must be of the form that {writer} writes, without Python objects"
    ):
        if file.suffix == ".npy":
            array = np.lib.format.open_memmap(file, mode="r")  # np.load would open archives, too
            return array if mapped else np.array(array)
        with file.open("rb") as stream:
            return sparse.load_npz(stream)


@contextmanager
def _told_if_damaged(what: str) -> Iterator[None]:
    """Say what a file must be where reading it fails: a damaged one raises anything."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{what}: {error}") from error


def _read_edges(file: Path) -> Any:
    """Ids, or a sparse matrix."""
    edges = _read(file)
    if file.suffix == ".npy" and (edges.ndim != 2 or len(edges) != 2):
        raise ValueError(f"{file} must hold ids of shape (2, n_edges), got {edges.shape}.")
    return edges


def _count(
    node_type: str, edges: dict[tuple[str, ...], Any], labels: dict[str, npt.NDArray[Any]]
) -> int:
    """How many nodes a type without features has."""
    if node_type in labels:
        return len(labels[node_type])
    sizes = [0]
    for (source, _, target), links in edges.items():
        for end, name in enumerate((source, target)):
            if name == node_type:
                dense = not sparse.issparse(links)
                sizes.append(int(links[end].max(initial=-1)) + 1 if dense else links.shape[end])
    return max(sizes)


def _read_split(folder: Path, target: npt.NDArray[Any] | None) -> dict[str, npt.NDArray[np.int64]]:
    """The parts of split.npz, if there is one."""
    file = folder / "split.npz"
    if not file.is_file():
        return {}
    with (
        _told_if_damaged("split.npz must be as numpy.savez writes it"),
        file.open("rb") as stream,
        np.lib.npyio.NpzFile(stream) as split,
    ):
        parts = {name: split[name] for name in split.files}
    if not set(_PARTS) <= set(parts) or target is None:
        raise ValueError(
            f"split.npz must hold {', '.join(_PARTS)}, ids of the nodes in labels, got "
            f"{list(parts)} and {'no labels' if target is None else 'labels'}."
        )
    return {part: _check_ids(part, parts[part], len(target)) for part in _PARTS}


def _check_ids(part: str, ids: npt.NDArray[Any], n_nodes: int) -> npt.NDArray[np.int64]:
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"{part} of split.npz must hold ids, integers of shape (n,), got shape {ids.shape} of "
            f"{ids.dtype}. Of a mask, save numpy.flatnonzero(mask)."
        )
    if ids.size and not 0 <= ids.min() <= ids.max() < n_nodes:
        raise ValueError(
            f"{part} of split.npz must hold ids from 0 to {n_nodes - 1}, got {ids.min()} to "
            f"{ids.max()}."
        )
    return ids.astype(np.int64)
