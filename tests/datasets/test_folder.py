"""A network from a folder: the files are read as they are, and wrong ones are named."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

from skmmg import MultiModalGraphClassifier
from skmmg.datasets import load_folder, make_multimodal_graph

Array = np.ndarray[Any, Any]


def save(file: Path, array: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if sparse.issparse(array):
        sparse.save_npz(file, array)
    else:
        np.save(file, array)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four movies with two modalities and labels, three actors without features."""
    poster = np.arange(8.0).reshape(4, 2)
    poster[1] = np.nan
    save(tmp_path / "nodes/movie/poster.npy", poster)
    save(tmp_path / "nodes/movie/words.npz", sparse.csr_array(np.eye(4, 6)))
    save(tmp_path / "edges/movie/stars/actor.npy", np.array([[0, 1, 3], [2, 0, 1]]))
    save(tmp_path / "labels/movie.npy", np.array(["a", "b", "a", "b"]))
    np.savez(tmp_path / "split.npz", train_idx=[0, 1], val_idx=[2], test_idx=[3])
    return tmp_path


def test_all_of_a_folder_is_read(folder: Path) -> None:
    data = load_folder(folder)

    graph = data.graph
    assert dict(graph.n_nodes) == {"movie": 4, "actor": 3}
    assert_array_equal(graph.present("movie", "poster"), [True, False, True, True])
    assert sparse.issparse(graph.x["movie"]["words"])
    assert isinstance(graph.x["movie"]["poster"].base, np.memmap)
    assert_array_equal(graph.edge_index["actor", "rev_stars", "movie"], [[2, 0, 1], [0, 1, 3]])
    assert data.node_type == "movie"
    assert_array_equal(data.target, ["a", "b", "a", "b"])
    for part, ids in (("train_idx", [0, 1]), ("val_idx", [2]), ("test_idx", [3])):
        assert_array_equal(data[part], ids)


def test_edges_may_be_a_sparse_matrix_that_tells_the_number_of_nodes(folder: Path) -> None:
    (folder / "edges/movie/stars/actor.npy").unlink()
    save(folder / "edges/movie/stars/actor.npz", sparse.csr_array(([1.0], ([0], [1])), (4, 9)))

    assert load_folder(folder).graph.n_nodes["actor"] == 9


def test_a_type_to_classify_needs_no_features_of_its_own(folder: Path) -> None:
    (folder / "labels/movie.npy").rename(folder / "labels/studio.npy")
    save(folder / "edges/movie/made_by/studio.npy", np.array([[0], [1]]))

    data = load_folder(folder)

    assert data.node_type == "studio"
    assert data.graph.n_nodes["studio"] == 4


def test_labels_and_split_are_optional(folder: Path) -> None:
    (folder / "labels/movie.npy").unlink()
    (folder / "split.npz").unlink()

    data = load_folder(folder)

    assert data.node_type is data.target is None
    assert "train_idx" not in data


def test_a_planted_network_written_and_read_is_the_same_and_can_be_fitted(tmp_path: Path) -> None:
    planted = make_multimodal_graph(60, random_state=0)
    for node_type, matrices in planted.graph.x.items():
        for modality, matrix in matrices.items():
            save(tmp_path / f"nodes/{node_type}/{modality}.npy", matrix)
    edge_type = planted.graph.edge_types[0]
    save(tmp_path / f"edges/{'/'.join(edge_type)}.npy", planted.graph.edge_index[edge_type])
    save(tmp_path / "labels/item.npy", planted.target)

    data = load_folder(tmp_path)

    for edges, ids in planted.graph.edge_index.items():
        assert_array_equal(data.graph.edge_index[edges], ids)
    for node_type, matrices in planted.graph.x.items():
        for modality, matrix in matrices.items():
            assert_array_equal(data.graph.x[node_type][modality], matrix)
    X = data.graph.nodes(data.node_type)
    clf = MultiModalGraphClassifier("hgt", max_epochs=30, random_state=0).fit(X, data.target)
    assert clf.score(X, data.target) > 0.7


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("nodes/movie/poster.npz", sparse.eye_array(4), "one matrix; remove one of them"),
        ("nodes/movie/objects.npy", np.array([None, 1]), "numpy.save writes, without Python obj"),
        ("edges/movie/likes/movie.npy", np.zeros((3, 2), int), r"shape \(2, n_edges\), got \(3, 2"),
        ("labels/actor.npy", np.zeros(3), r"one file, .* got \['actor', 'movie'\]"),
        ("labels/movie.npy", np.zeros(3), r"one label per 'movie', got shape \(3,\)"),
        ("labels/movie.npy", np.zeros((4, 2)), r"one label per 'movie', got shape \(4, 2\)"),
        ("edges/movie-likes-movie.npy", np.zeros((2, 3), int), "must be called edges/<source>/<re"),
        ("nodes/movie/big/poster.npy", np.zeros((4, 2)), "must be called nodes/<node type>/<mod"),
    ],
)
def test_files_that_do_not_fit_are_an_error(
    folder: Path, file: str, array: Any, message: str
) -> None:
    save(folder / file, array)

    with pytest.raises(ValueError, match=message):
        load_folder(folder)


def test_other_files_and_no_files_are_an_error(folder: Path, tmp_path: Path) -> None:
    (folder / "nodes/movie/notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"<modality>\.npy or \.npz, got .*notes\.txt"):
        load_folder(folder)

    with pytest.raises(FileNotFoundError, match="must hold nodes/<node type>/<modality>"):
        load_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train_idx": [0]}, "must hold train_idx, val_idx, test_idx"),
        ({"train": [0], "val": [1], "test": [2]}, r"must hold train_idx, .* got \['train', 'val'"),
        ({"train_idx": [0], "val_idx": [1], "test_idx": [4]}, "ids from 0 to 3, got 4 to 4"),
        ({"train_idx": [True] * 4, "val_idx": [1], "test_idx": [2]}, "got shape .* of bool"),
        ({"train_idx": [0.5], "val_idx": [1], "test_idx": [2]}, "got shape .* of float64"),
    ],
)
def test_a_wrong_split_is_an_error(folder: Path, parts: dict[str, Any], message: str) -> None:
    np.savez(folder / "split.npz", **parts)

    with pytest.raises(ValueError, match=message):
        load_folder(folder)


def written(write: Any, *args: Any, **parts: Any) -> bytes:
    """What a function writes into a file."""
    stream = BytesIO()
    write(stream, *args, **parts)
    return stream.getvalue()


MATRIX = written(sparse.save_npz, sparse.eye_array(300, format="csr"))
CONTENTS = {
    "nothing": b"",
    "text": b"hello",
    "beginning": MATRIX[:99],
    "damaged": MATRIX[:60] + bytes(100) + MATRIX[160:],
    "array": written(np.save, np.ones(3)),
    "archive": written(np.savez, x=np.ones(3)),
    "other format": written(np.savez, format=1),
}


@pytest.mark.parametrize("content", ["nothing", "text", "beginning", "damaged", "array"])
def test_a_split_that_numpy_did_not_write_is_an_error(folder: Path, content: str) -> None:
    (folder / "split.npz").write_bytes(CONTENTS[content])

    with pytest.raises(ValueError, match=r"split\.npz must be as numpy\.savez writes it"):
        load_folder(folder)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        *[(".npy", content) for content in CONTENTS if content != "array"],
        *[(".npz", content) for content in CONTENTS],
    ],
)
@pytest.mark.parametrize("name", ["nodes/movie/other", "edges/movie/likes/movie"])
def test_a_file_of_another_kind_is_an_error(
    folder: Path, name: str, suffix: str, content: str
) -> None:
    save(folder / "edges/movie/likes/actor.npy", np.zeros((2, 0), int))
    (folder / f"{name}{suffix}").write_bytes(CONTENTS[content])

    with pytest.raises(ValueError, match=r"must be of the form that \S+ writes"):
        load_folder(folder)
