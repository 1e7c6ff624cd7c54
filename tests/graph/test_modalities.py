from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skmmg.graph import split_modalities, stack_modalities

IMAGE = np.array([[0.0, 1.0], [np.nan, np.nan], [4.0, 5.0]])
TEXT = sparse.csr_array(np.array([[0, 0, 1], [2, 0, 0], [0, 0, 0]]))


def test_dense_modalities_are_stacked_into_an_array() -> None:
    X, modalities = stack_modalities({"image": IMAGE, "table": np.arange(3)[:, None]})
    assert isinstance(X, np.ndarray)
    assert modalities == {"image": slice(0, 2), "table": slice(2, 3)}
    np.testing.assert_array_equal(X, np.column_stack([IMAGE, np.arange(3)]))


def test_one_sparse_modality_makes_the_stack_sparse() -> None:
    X, modalities = stack_modalities({"image": IMAGE, "text": TEXT})
    assert isinstance(X, sparse.csr_array)
    blocks = split_modalities(X, modalities)
    assert all(isinstance(block, sparse.csr_array) for block in blocks.values())
    np.testing.assert_array_equal(blocks["image"].toarray(), IMAGE)
    np.testing.assert_array_equal(blocks["text"].toarray(), TEXT.toarray())


def test_zeros_of_a_sparse_modality_are_not_stored_by_stacking() -> None:
    X, _ = stack_modalities({"text": TEXT, "more": TEXT})
    assert X.nnz == 2 * TEXT.nnz


def test_half_precision_beside_a_sparse_modality_becomes_single_precision() -> None:
    X, _ = stack_modalities(
        {"image": np.ones((3, 2), dtype=np.float16), "text": TEXT.astype(np.float32)}
    )
    assert X.dtype == np.float32


@given(
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    n_samples=st.integers(1, 5),
    is_sparse=st.booleans(),
)
def test_split_undoes_stack(widths: list[int], n_samples: int, is_sparse: bool) -> None:
    rng = np.random.default_rng(0)
    blocks: dict[str, Any] = {
        f"m{i}": rng.integers(0, 3, size=(n_samples, width)) for i, width in enumerate(widths)
    }
    if is_sparse:
        blocks["m0"] = sparse.csr_array(blocks["m0"])
    again = split_modalities(*stack_modalities(blocks))
    assert list(again) == list(blocks)
    for name, block in again.items():
        dense = block.toarray() if sparse.issparse(block) else block
        expected = blocks[name]
        np.testing.assert_array_equal(
            dense, expected.toarray() if sparse.issparse(expected) else expected
        )


X = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        (slice(-2, None), [2, 3]),
        ([3, 0], [3, 0]),
        ([-1], [3]),
        (np.array([1, 2], dtype=np.uint8), [1, 2]),
        (range(2), [0, 1]),
        ([True, False, False, True], [0, 3]),
        (np.array([False, True, False, False]), [1]),
        ("txt_", [1, 2]),
        (["year", "img"], [3, 0]),
    ],
)
@pytest.mark.parametrize("form", ["array", "csr_matrix", "pandas", "polars"])
def test_every_way_to_name_columns_works_on_every_form(
    columns: Any, expected: list[int], form: str
) -> None:
    names = ["img", "txt_a", "txt_b", "year"]
    given = {
        "array": X,
        "csr_matrix": sparse.csr_matrix(X),
        "pandas": pd.DataFrame(X, columns=names),
        "polars": pl.DataFrame(X, schema=names, orient="row"),
    }[form]
    feature_names = names if form in ("array", "csr_matrix") else None
    block = split_modalities(given, {"m": columns}, feature_names)["m"]
    assert sparse.issparse(block) == (form == "csr_matrix")
    dense = block.toarray() if sparse.issparse(block) else block
    np.testing.assert_array_equal(dense, X[:, expected])


def test_without_modalities_all_columns_are_called_x() -> None:
    blocks = split_modalities(X, None)
    assert list(blocks) == ["x"]
    np.testing.assert_array_equal(blocks["x"], X)
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    np.testing.assert_array_equal(split_modalities(frame, None)["x"], X)


def test_a_slice_of_an_array_is_not_copied() -> None:
    assert np.shares_memory(split_modalities(X, {"m": slice(1, 3)})["m"], X)


def test_modalities_may_share_columns() -> None:
    blocks = split_modalities(X, {"a": slice(0, 3), "b": [2, 3]})
    np.testing.assert_array_equal(blocks["a"][:, 2], blocks["b"][:, 0])


def test_blocks_of_a_data_frame_keep_their_own_dtype() -> None:
    frame = pd.DataFrame(
        {"i": [1, 2], "f": np.array([0.5, 1.5], dtype=np.float32), "s": ["a", "b"]}
    )
    blocks = split_modalities(frame, {"int": ["i"], "float": ["f"]})
    assert blocks["int"].dtype == np.int64
    assert blocks["float"].dtype == np.float32


def test_sparse_columns_of_a_data_frame_stay_sparse() -> None:
    frame = pd.DataFrame.sparse.from_spmatrix(TEXT, columns=["t0", "t1", "t2"])
    frame["year"] = [1.0, 2.0, 3.0]
    blocks = split_modalities(frame, {"text": "t", "table": "year"})
    assert isinstance(blocks["text"], sparse.csr_array)
    assert isinstance(blocks["table"], np.ndarray)


def test_missing_values_of_a_data_frame_become_nan() -> None:
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64")})
    np.testing.assert_array_equal(split_modalities(frame, {"m": "a"})["m"], [[1.0], [np.nan]])


def test_a_read_only_memory_map_is_split_without_a_copy(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    block = split_modalities(mapped, {"m": slice(0, 2)})["m"]
    assert np.shares_memory(block, mapped)


@pytest.mark.parametrize(
    ("modalities", "error", "message"),
    [
        ({"image": slice(0, 9)}, ValueError, "'image' has the columns .* X has 4 columns"),
        ({"image": slice(2, 2)}, ValueError, "'image' has the columns"),
        ({"image": slice("a", "b")}, TypeError, "slice of modality 'image'"),
        ({"image": [0, 4]}, ValueError, "'image' refers to column 4, but X has 4 columns"),
        ({"image": [-5]}, ValueError, "'image' refers to column -5"),
        ({"image": []}, ValueError, "'image' must have at least one column"),
        ({"image": [False] * 4}, ValueError, "'image' must have at least one column"),
        ({"image": [True, False]}, ValueError, "mask of modality 'image' .* got 2"),
        ({"image": [0.5]}, TypeError, "columns of modality 'image' must be a slice"),
        ({"image": 3}, TypeError, "columns of modality 'image' must be a slice"),
        (
            {"image": (0, 2)},
            TypeError,
            r"'image' .*, got the tuple \(0, 2\)\. Write \[0, 2\] .* slice",
        ),
        ({"image": "img_"}, ValueError, "'image' names its columns .* no column names"),
        ({"image": ["img_0"]}, ValueError, "'image' names its columns .* no column names"),
        ({}, ValueError, "at least one modality"),
        ({0: slice(0, 2)}, TypeError, "A modality must be named by a string"),
        ([slice(0, 2)], TypeError, "modalities must map the name"),
    ],
)
def test_columns_that_cannot_be_resolved_raise_and_name_the_modality(
    modalities: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        split_modalities(X, modalities)


def test_a_prefix_or_name_that_no_column_has_raises_and_shows_the_columns() -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    with pytest.raises(
        ValueError, match=r"'image' must have at least one column.*'img_'.*'a', 'b'"
    ):
        split_modalities(frame, {"image": "img_"})
    with pytest.raises(
        ValueError, match=r"'image' names columns .*\['e'\] \('a', 'b', 'c', \.\.\."
    ):
        split_modalities(frame, {"image": ["a", "e"]})


@pytest.mark.parametrize("columns", ["img_", ["e"]])
def test_unknown_names_raise_where_names_are_an_array(columns: Any) -> None:
    with pytest.raises(ValueError, match=r"'image' .* \('a', 'b', 'c', \.\.\."):
        split_modalities(X, {"image": columns}, np.array(["a", "b", "c", "d"], dtype=object))


def test_a_name_that_several_columns_have_raises() -> None:
    frame = pd.DataFrame(X, columns=["y", "z", "y", "y"])
    with pytest.raises(ValueError, match="'p' names the column 'y', which X has 3 times"):
        split_modalities(frame, {"p": ["z", "y"]})
    np.testing.assert_array_equal(split_modalities(frame, {"p": ["z"], "q": [2]})["q"], X[:, [2]])


def test_a_prefix_on_a_data_frame_with_numbered_columns_raises() -> None:
    with pytest.raises(ValueError, match="no column names"):
        split_modalities(pd.DataFrame(X), {"image": "img_"})


def test_feature_names_of_another_length_raise() -> None:
    with pytest.raises(ValueError, match="got 2 names for 4 columns"):
        split_modalities(X, {"image": "a"}, ["a", "b"])


def test_a_column_of_text_raises_and_names_the_modality() -> None:
    with pytest.raises(TypeError, match="'table' must have numeric columns only, got 'title'"):
        split_modalities(pd.DataFrame({"title": ["x"]}), {"table": ["title"]})


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ({}, ValueError, "At least one modality"),
        (X, TypeError, "must map the name of each modality"),
        ({"a": X, "b": X[:2]}, ValueError, r"one row per sample, got \{'a': 3, 'b': 2\}"),
        ({"a": X[0]}, ValueError, "'a' must be 2-D"),
        ({"a": [["x"]]}, TypeError, "'a' must hold numbers"),
        ({1: X}, TypeError, "A modality must be named by a string"),
        (sparse.dok_array(X), TypeError, "must map the name of each modality .*dok"),
        (
            {"a": pd.DataFrame(X), "b": pd.DataFrame(X)[::-1]},
            ValueError,
            "All data frames must have the same index, got another one for 'b' than for 'a'",
        ),
    ],
)
def test_blocks_that_cannot_be_stacked_raise(
    blocks: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        stack_modalities(blocks)
