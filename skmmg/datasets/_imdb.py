"""A real multi-modal network: movies, their directors and their actors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils import Bunch

from skmmg.graph import MultiModalGraph

_Nodes: TypeAlias = dict[str, dict[str, Any]]
_Masks: TypeAlias = dict[str, dict[str, npt.NDArray[np.bool_]]]

_NODE_TYPES = ("movie", "director", "actor")
_RELATIONS = {0: ("movie", "directed_by", "director"), 2: ("movie", "stars", "actor")}
_TARGET_NAMES = ("action", "comedy", "drama")
_PARTS = ("train_idx", "val_idx", "test_idx")
_DENSE = ("poster", "trailer", "tabular", "poster_emotion")
_KNOWN = ("keywords", "overview", *_DENSE)
_FILES = (
    "features_0.npz",
    "features_1.npz",
    "features_2.npz",
    "labels.npy",
    "rdf.npy",
    "node_types.npy",
    "split.npz",
    "imdb_modalities.npz",
    "imdb_text.csv",
)


def load_imdb(
    folder: str | PathLike[str],
    modalities: Sequence[str] = ("keywords", "overview", "poster"),
    *,
    overview_vectorizer: Any = None,
) -> Bunch:
    """Load the IMDB network of the multi-modal graph papers from a folder.

    4278 movies, their 2081 directors and 5257 actors. The task is to tell action, comedy and drama
    apart. The data are for research use and not part of skmmg.

    ============== ============================= ===================================================
    modality       columns                       what
    ============== ============================= ===================================================
    keywords       3066, sparse                  words of the plot keywords, for all node types. The
                                                 row of a director or an actor is the mean over all
                                                 of their movies, movies to be tested on included.
    overview       set by the vectorizer, sparse a free text of a few sentences, 1.3 % missing
    poster         1708                          colour histogram and layout, HOG, k-means filters;
                                                 8 % missing
    trailer        7                             visual features of the trailer, 50 % missing
    poster_emotion 10                            emotions of the faces on the poster, 86 % missing
    tabular        16                            numbers such as budget and year; single cells are
                                                 missing (NaN), in 21 % of the rows
    ============== ============================= ===================================================

    Directors and actors have keywords, if these are selected, and else no features. The genres are
    the label and in no feature.

    Parameters
    ----------
    folder : str or path
        Where the files are: features_0.npz, features_1.npz, features_2.npz, labels.npy, rdf.npy,
        node_types.npy and split.npz (the arrays that MHGAT's authors published), and
        imdb_modalities.npz and imdb_text.csv.
    modalities : sequence of str, default=("keywords", "overview", "poster")
        What the movies carry, in this order: names out of the table.
    overview_vectorizer : transformer, default=None
        Turns the overviews, a list of str, into one row of numbers each by ``fit_transform``. None
        is ``TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english")``. A copy is fitted,
        on the texts of all movies and on no label: what a test movie's text says about the
        vocabulary and its frequencies is used (the transductive setting). For the inductive one,
        take the raw texts out of `frame`.

    Returns
    -------
    Bunch
        graph : MultiModalGraph
            Node types movie, director and actor; relations ("movie", "directed_by", "director") and
            ("movie", "stars", "actor"), and their reverses. A movie without overview, and a node
            without any keyword, lacks that modality.
        node_type : str
            ``"movie"``, so that ``graph.nodes(node_type)`` is what an estimator takes.
        target : ndarray of int64 of shape (n_movies,)
            0, 1 or 2: the position in `target_names`.
        target_names : ndarray of str
            ``["action", "comedy", "drama"]``; ``target_names[target]`` are the labels as words.
        train_idx, val_idx, test_idx : ndarray of int64
            The split that MHGAT's authors published: 20, 20 and 60 %. It is not aware of `groups`:
            some movies stand on both sides of it.
        groups : ndarray of int64 of shape (n_movies,)
            Rows with the same number are the same movie: give it to StratifiedGroupKFold.
        frame : DataFrame
            One row per movie: tt (the IMDb id), title, title_year, plot_keywords, overview (the raw
            text), tagline, director_name, actor_1_name to actor_3_name. Missing texts are NaN.
        overview_vectorizer : transformer or None
            The fitted copy; None if "overview" is not among `modalities`.

    Raises
    ------
    FileNotFoundError
        If the folder or a file is not there.
    ValueError
        If a modality is unknown, or the files do not belong together.

    Examples
    --------
    >>> from skmmg.datasets import load_imdb
    >>> load_imdb("somewhere", modalities=["keyword"])
    Traceback (most recent call last):
        ...
    ValueError: modalities=['keyword'] has an unknown name, 'keyword'. Did you mean 'keywords'? ...
    >>> imdb = load_imdb("data/imdb")  # doctest: +SKIP
    >>> X, y = imdb.graph.nodes("movie"), imdb.target  # doctest: +SKIP
    >>> clf.fit(X[imdb.train_idx], y[imdb.train_idx])  # doctest: +SKIP
    """
    names = _check_modalities(modalities)
    path = _check_folder(Path(folder))
    target = np.load(path / "labels.npy").astype(np.int64)
    frame = _read_frame(path / "imdb_text.csv")
    with np.load(path / "imdb_modalities.npz") as arrays:
        tables = {name: arrays[name] for name in ("tt", "y", "group", *names) if name in arrays}
        columns = arrays["tabular_names"].tolist()
    _check_rows(target, frame, tables)
    if "tabular" in names:
        tables["tabular"] = pd.DataFrame(tables["tabular"], columns=columns)

    nodes: _Nodes = {node_type: {} for node_type in _NODE_TYPES}
    masks: _Masks = {"movie": {}}
    vectorizer = None
    for name in names:
        if name == "keywords":
            _add_keywords(path, nodes, masks)
        elif name == "overview":
            vectorizer = _add_overview(frame["overview"], overview_vectorizer, nodes, masks)
        else:
            nodes["movie"][name] = tables[name]
    with np.load(path / "split.npz") as split:
        parts = {part: split[part].astype(np.int64) for part in _PARTS}
    return Bunch(
        graph=_build_graph(path, nodes, masks),
        node_type="movie",
        target=target,
        target_names=np.array(_TARGET_NAMES),
        **parts,
        groups=tables["group"].astype(np.int64),
        frame=frame,
        overview_vectorizer=vectorizer,
    )


def _check_modalities(given: Any) -> tuple[str, ...]:
    """Let distinct known names pass."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(
            f"modalities must be a sequence of names, got {given!r}. "
            f"Write modalities={[given] if isinstance(given, str) else list(_KNOWN)!r}."
        )
    for name in given:
        if name not in _KNOWN:
            close = get_close_matches(str(name), _KNOWN, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"modalities={list(given)} has an unknown name, {name!r}. {hint}"
                f"Known modalities: {', '.join(_KNOWN)}."
            )
    if not given or len(set(given)) < len(given):
        raise ValueError(
            f"modalities must be one or more distinct names, got {list(given)}. "
            f"Choose among {', '.join(_KNOWN)}."
        )
    return tuple(given)


def _check_folder(folder: Path) -> Path:
    """Let a folder pass in which all files are."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"load_imdb reads a folder with the files {', '.join(_FILES)}, but there is no folder "
            f"'{folder}'. Give the path of the folder that holds them."
        )
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"load_imdb reads {len(_FILES)} files of '{folder}', but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there. Put the missing files into the "
            f"folder, or give the path of the folder that holds them all."
        )
    return folder


def _read_frame(path: Path) -> pd.DataFrame:
    """Read the texts; only an empty cell is missing, and an id keeps its leading zeros."""
    return pd.read_csv(path, dtype={"tt": str}, keep_default_na=False, na_values=[""])


def _check_rows(
    target: npt.NDArray[np.int64],
    frame: pd.DataFrame,
    tables: Mapping[str, Any],
) -> None:
    """Check that all files list the same movies in the same order."""
    n_rows = {"labels.npy": len(target), "imdb_text.csv": len(frame)}
    n_rows |= {f"{name} of imdb_modalities.npz": len(table) for name, table in tables.items()}
    if len(set(n_rows.values())) > 1:
        raise ValueError(
            f"The files of load_imdb must have one row per movie, got {n_rows} rows. "
            f"Take all files from one source."
        )
    if not np.array_equal(tables["tt"], frame["tt"]) or not np.array_equal(tables["y"], target):
        raise ValueError(
            "The rows of labels.npy, imdb_text.csv and imdb_modalities.npz must be the same movies "
            "in the same order, got different labels or ids (tt). Take all files from one source."
        )


def _add_keywords(folder: Path, nodes: _Nodes, masks: _Masks) -> None:
    """Add the bags of words of all node types; a node without any word lacks them."""
    for i, node_type in enumerate(_NODE_TYPES):
        counts: Any = sparse.load_npz(folder / f"features_{i}.npz")
        words = sparse.csr_array(counts.astype(np.float32))
        nodes[node_type]["keywords"] = words
        masks.setdefault(node_type, {})["keywords"] = np.diff(words.indptr) > 0


def _add_overview(
    texts: pd.Series[str],
    vectorizer: Any,
    nodes: _Nodes,
    masks: _Masks,
) -> Any:
    """Add the vectorised overviews of the movies, and return the fitted vectorizer."""
    if vectorizer is None:
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, min_df=2, stop_words="english", dtype=np.float32
        )
    fitted = clone(vectorizer, safe=False)
    filled = texts.fillna("")
    nodes["movie"]["overview"] = fitted.fit_transform(filled.tolist())
    masks["movie"]["overview"] = (filled.str.strip() != "").to_numpy(dtype=bool)
    return fitted


def _build_graph(folder: Path, nodes: _Nodes, masks: _Masks) -> MultiModalGraph:
    """Build the container; the stored reverse relations repeat the links, and it adds its own."""
    type_of = np.load(folder / "node_types.npy")
    counts = {name: int((type_of == i).sum()) for i, name in enumerate(_NODE_TYPES)}
    local = np.empty(len(type_of), dtype=np.int64)  # ids run through all types in the files
    for i, count in enumerate(counts.values()):
        local[type_of == i] = np.arange(count)
    links = np.load(folder / "rdf.npy")
    edges = {
        edge_type: local[links[links[:, 2] == relation, :2].T]
        for relation, edge_type in _RELATIONS.items()
    }
    return MultiModalGraph(
        {name: nodes[name] or counts[name] for name in counts}, edges, masks=masks
    )
