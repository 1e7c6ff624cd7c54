"""The loader of the IMDB network, on a tiny folder of the same format, and on the real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import FunctionTransformer

from skmmg.datasets import load_imdb

EVERYTHING = ("keywords", "overview", "poster", "trailer", "tabular", "poster_emotion")
N_MOVIES, N_DIRECTORS, N_ACTORS, N_WORDS = 12, 4, 6, 9
OVERVIEWS = [
    "A hunter and a whale fight at sea",
    "A wedding goes wrong, and a wedding goes right",
    "A lawyer defends a hunter",
    None,
    "   ",
    "A whale falls in love",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a network of twelve movies as the files of the real one are written."""
    rng = np.random.default_rng(0)
    director = N_MOVIES + rng.integers(N_DIRECTORS, size=N_MOVIES)
    cast = N_MOVIES + N_DIRECTORS + np.argsort(rng.random((N_MOVIES, N_ACTORS)))[:, :3]
    movie = np.arange(N_MOVIES)
    _write_links(tmp_path, movie, director, cast)
    for i, n_nodes in enumerate((N_MOVIES, N_DIRECTORS, N_ACTORS)):
        words = rng.integers(3, size=(n_nodes, N_WORDS)).astype(np.float64)
        words[0] = i  # the first movie has no keyword
        sparse.save_npz(tmp_path / f"features_{i}.npz", sparse.csr_matrix(words))
    _write_tables(tmp_path, rng)
    return tmp_path


def _write_links(folder: Path, movie: Any, director: Any, cast: Any) -> None:
    """Write the links in both directions, and the type of every node."""
    stars, actor = np.repeat(movie, 3), cast.ravel()
    relations = [(movie, director), (director, movie), (stars, actor), (actor, stars)]
    rows = [np.stack([a, b, np.full(len(a), i)], axis=1) for i, (a, b) in enumerate(relations)]
    np.save(folder / "rdf.npy", np.concatenate(rows).astype(np.int32))
    types = np.repeat([0, 1, 2], [N_MOVIES, N_DIRECTORS, N_ACTORS])
    np.save(folder / "node_types.npy", types.astype(np.int32))


def _write_tables(folder: Path, rng: np.random.Generator) -> None:
    """Write labels, split, texts and dense modalities."""
    y = np.arange(N_MOVIES) % 3
    np.save(folder / "labels.npy", y.astype(np.int32))
    np.savez(
        folder / "split.npz",
        train_idx=np.arange(3, dtype=np.int32),
        val_idx=np.arange(3, 6, dtype=np.int32),
        test_idx=np.arange(6, N_MOVIES, dtype=np.int32),
    )
    dense = {
        name: rng.random((N_MOVIES, width)).astype(np.float32)
        for name, width in {"poster": 5, "trailer": 3, "tabular": 2, "poster_emotion": 4}.items()
    }
    dense["poster"][1] = np.nan
    dense["trailer"][::2] = np.nan
    dense["tabular"][2, 1] = np.nan
    tt = np.array([f"{i:07d}" for i in range(N_MOVIES)])
    group = np.arange(N_MOVIES)
    group[-1] = 0
    names = np.array(["budget", "title_year"])
    np.savez(folder / "imdb_modalities.npz", tt=tt, y=y, group=group, tabular_names=names, **dense)
    texts = {"tt": tt, "title": ["NA"] * N_MOVIES, "overview": OVERVIEWS * 2}
    pd.DataFrame(texts).to_csv(folder / "imdb_text.csv", index=False)


def test_the_network_has_movies_directors_and_actors_and_both_directions(folder: Path) -> None:
    graph = load_imdb(folder).graph

    assert dict(graph.n_nodes) == {"movie": 12, "director": 4, "actor": 6}
    assert set(graph.edge_types) == {
        ("movie", "directed_by", "director"),
        ("movie", "stars", "actor"),
        ("director", "rev_directed_by", "movie"),
        ("actor", "rev_stars", "movie"),
    }


def test_links_are_those_of_the_file_with_ids_counted_within_each_type(folder: Path) -> None:
    graph = load_imdb(folder).graph
    rdf = np.load(folder / "rdf.npy")
    directed, stars = rdf[rdf[:, 2] == 0], rdf[rdf[:, 2] == 2]

    np.testing.assert_array_equal(
        graph.edge_index["movie", "directed_by", "director"],
        [directed[:, 0], directed[:, 1] - N_MOVIES],
    )
    np.testing.assert_array_equal(
        graph.edge_index["movie", "stars", "actor"],
        [stars[:, 0], stars[:, 1] - N_MOVIES - N_DIRECTORS],
    )


def test_ids_of_the_types_may_be_mixed_in_the_file(folder: Path) -> None:
    before = load_imdb(folder).graph
    types = np.load(folder / "node_types.npy")
    new_id = np.random.default_rng(1).permutation(len(types))
    for i in range(3):  # within a type, ids keep their order
        new_id[types == i] = np.sort(new_id[types == i])
    rdf = np.load(folder / "rdf.npy")
    np.save(folder / "rdf.npy", np.column_stack([new_id[rdf[:, :2]], rdf[:, 2]]))
    np.save(folder / "node_types.npy", types[np.argsort(new_id)])
    after = load_imdb(folder).graph

    for edge_type, edges in before.edge_index.items():
        np.testing.assert_array_equal(after.edge_index[edge_type], edges)


def test_keywords_stay_sparse_and_belong_to_all_node_types(folder: Path) -> None:
    graph = load_imdb(folder, ["keywords"]).graph

    for i, node_type in enumerate(("movie", "director", "actor")):
        words = graph.x[node_type]["keywords"]
        assert isinstance(words, sparse.csr_array)
        assert list(graph.x[node_type]) == ["keywords"]
        stored = sparse.load_npz(folder / f"features_{i}.npz").toarray()
        np.testing.assert_array_equal(words.toarray(), stored)


def test_a_node_without_any_keyword_lacks_them(folder: Path) -> None:
    graph = load_imdb(folder).graph

    assert np.flatnonzero(~graph.present("movie", "keywords")).tolist() == [0]
    assert graph.present("actor", "keywords").all()


def test_directors_and_actors_are_counts_where_keywords_are_not_selected(folder: Path) -> None:
    graph = load_imdb(folder, ["poster"]).graph

    assert {node_type: list(x) for node_type, x in graph.x.items()} == {
        "movie": ["poster"],
        "director": [],
        "actor": [],
    }


def test_an_overview_that_is_absent_or_blank_is_missing(folder: Path) -> None:
    imdb = load_imdb(folder)
    overview = imdb.graph.x["movie"]["overview"]

    assert isinstance(overview, sparse.csr_array)
    assert np.flatnonzero(~imdb.graph.present("movie", "overview")).tolist() == [3, 4, 9, 10]
    assert set(imdb.overview_vectorizer.get_feature_names_out()) >= {"hunter", "whale", "wedding"}
    assert overview.shape[1] == len(imdb.overview_vectorizer.vocabulary_)


def test_another_vectorizer_is_copied_and_fitted(folder: Path) -> None:
    given = CountVectorizer(binary=True)
    imdb = load_imdb(folder, ["overview"], overview_vectorizer=given)

    assert not hasattr(given, "vocabulary_")
    assert "and" in imdb.overview_vectorizer.vocabulary_
    assert set(imdb.graph.x["movie"]["overview"].data) == {1}


def test_a_vectorizer_may_give_dense_rows(folder: Path) -> None:
    lengths = FunctionTransformer(lambda texts: np.array([[len(text)] for text in texts]))
    graph = load_imdb(folder, ["overview"], overview_vectorizer=lengths).graph

    assert graph.x["movie"]["overview"][0] == len(str(OVERVIEWS[0]))
    assert np.flatnonzero(~graph.present("movie", "overview")).tolist() == [3, 4, 9, 10]


def test_nothing_is_vectorised_where_the_overview_is_not_selected(folder: Path) -> None:
    imdb = load_imdb(folder, ["poster"], overview_vectorizer=object())

    assert imdb.overview_vectorizer is None


def test_gaps_of_dense_modalities_are_kept_as_nan(folder: Path) -> None:
    graph = load_imdb(folder, EVERYTHING).graph

    assert list(graph.x["movie"]) == list(EVERYTHING)
    assert np.flatnonzero(~graph.present("movie", "poster")).tolist() == [1]
    assert np.flatnonzero(graph.present("movie", "trailer")).tolist() == [1, 3, 5, 7, 9, 11]
    assert np.argwhere(np.isnan(graph.x["movie"]["tabular"])).tolist() == [[2, 1]]
    assert graph.present("movie", "tabular").all()
    assert graph.feature_names["movie"]["tabular"] == ("budget", "title_year")


def test_labels_split_groups_and_texts_are_those_of_the_files(folder: Path) -> None:
    imdb = load_imdb(folder)

    assert imdb.target.tolist() == [0, 1, 2] * 4
    assert imdb.target_names[imdb.target[:3]].tolist() == ["action", "comedy", "drama"]
    everyone = np.concatenate([imdb.train_idx, imdb.val_idx, imdb.test_idx])
    assert everyone.tolist() == list(range(N_MOVIES))
    assert imdb.groups[0] == imdb.groups[-1]
    assert imdb.frame["tt"][1] == "0000001"
    assert (imdb.frame["title"] == "NA").all()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*nowhere'. Give the path"):
        load_imdb(tmp_path / "nowhere")


def test_files_that_are_not_there_are_named(folder: Path) -> None:
    (folder / "split.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"but split.npz is not there. Put the missing"):
        load_imdb(folder)
    (folder / "imdb_text.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"split.npz, imdb_text.csv are not there"):
        load_imdb(str(folder))


def test_an_unknown_modality_is_named_with_the_nearest_known_one(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'psoter'. Did you mean 'poster'. Known modalities: key"):
        load_imdb(folder, ["psoter"])
    with pytest.raises(ValueError, match=r"'genres'. Known"):
        load_imdb(folder, ["genres"])


@pytest.mark.parametrize("modalities", [[], ["poster", "poster"]])
def test_modalities_are_distinct_and_at_least_one(folder: Path, modalities: list[str]) -> None:
    with pytest.raises(ValueError, match=r"one or more distinct names"):
        load_imdb(folder, modalities)


def test_one_name_is_not_taken_for_a_sequence_of_letters(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"got 'poster'. Write modalities=\['poster'\]"):
        load_imdb(folder, "poster")


def test_files_of_different_lengths_are_refused(folder: Path) -> None:
    np.save(folder / "labels.npy", np.zeros(5, dtype=np.int32))
    with pytest.raises(ValueError, match=r"one row per movie, got \{'labels.npy': 5"):
        load_imdb(folder)


def test_files_in_different_orders_are_refused(folder: Path) -> None:
    frame = pd.read_csv(folder / "imdb_text.csv", dtype=str)
    frame[::-1].to_csv(folder / "imdb_text.csv", index=False)
    with pytest.raises(ValueError, match=r"the same movies in the same order"):
        load_imdb(folder)


@pytest.mark.data
def test_the_real_network_has_the_counts_of_the_papers(
    data_folder: Callable[[str], Path],
) -> None:
    imdb = load_imdb(data_folder("imdb"), EVERYTHING)
    graph = imdb.graph

    assert dict(graph.n_nodes) == {"movie": 4278, "director": 2081, "actor": 5257}
    assert sum(edges.shape[1] for edges in graph.edge_index.values()) == 34212
    assert np.bincount(imdb.target).tolist() == [1135, 1584, 1559]
    assert [len(imdb[part]) for part in ("train_idx", "val_idx", "test_idx")] == [855, 855, 2568]
    assert len(imdb.groups) - len(np.unique(imdb.groups)) == 98
    assert graph.x["movie"]["keywords"].shape == (4278, 3066)
    assert (~graph.present("movie", "poster")).sum() == 337
    assert not any("genre" in name for name in graph.feature_names["movie"]["tabular"])


@pytest.mark.data
def test_the_reverse_relations_of_the_real_files_repeat_the_links(
    data_folder: Callable[[str], Path],
) -> None:
    rdf = np.load(data_folder("imdb") / "rdf.npy")

    for forward, backward in ((0, 1), (2, 3)):
        there = rdf[rdf[:, 2] == forward, :2]
        back = rdf[rdf[:, 2] == backward, :2][:, ::-1]
        assert {tuple(link) for link in there.tolist()} == {tuple(link) for link in back.tolist()}


@pytest.mark.data
def test_keywords_of_a_director_are_the_mean_over_their_movies(
    data_folder: Callable[[str], Path],
) -> None:
    graph = load_imdb(data_folder("imdb"), ["keywords"]).graph
    movie, director = graph.edge_index["movie", "directed_by", "director"]
    links = sparse.csr_array((np.ones(len(movie)), (director, movie)))
    mean = links @ graph.x["movie"]["keywords"] / links.sum(axis=1)[:, None]

    assert abs(mean - graph.x["director"]["keywords"]).max() < 1e-5
