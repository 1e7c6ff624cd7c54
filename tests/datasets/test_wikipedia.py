"""Wikipedia's pairs: the files are read as they are, and wrong ones are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import io

from skmmg.datasets import load_wikipedia

SIZES = {"tr": 4, "te": 2}
NAMES = {"tr": "trainset", "te": "testset"}


def write(folder: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {}
    for part, n in SIZES.items():
        arrays[f"I_{part}"] = np.arange(n * 3.0).reshape(n, 3)
        arrays[f"T_{part}"] = np.arange(n * 2.0).reshape(n, 2) + 100
        lines = [f"text-{i}\timage-{i}\t{i + 1}" for i in range(n)]
        (folder / f"{NAMES[part]}_txt_img_cat.list").write_text("\n".join(lines) + "\n")
    arrays = {k: v for k, v in (arrays | changes).items() if v is not None}
    io.savemat(folder / "raw_features.mat", arrays)
    return folder


def test_items_to_train_on_come_first(tmp_path: Path) -> None:
    data = load_wikipedia(write(tmp_path))

    assert data.data.shape == (6, 5)
    assert_array_equal(data.target, [0, 1, 2, 3, 0, 1])
    assert_array_equal(data.train_idx, range(4))
    assert_array_equal(data.test_idx, [4, 5])
    for name, columns in data.columns.items():
        assert_array_equal(data.data[:, columns], data.modalities[name])
    assert_array_equal(data.modalities["text"][4], [100, 101])
    assert data.target_names[0] == "art"


def test_a_folder_without_the_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"but raw_features\.mat is not in"):
        load_wikipedia(tmp_path)


def test_files_that_do_not_fit_together_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold the arrays"):
        load_wikipedia(write(tmp_path, I_te=None))
    with pytest.raises(ValueError, match="testset must have one category per item, got 2"):
        load_wikipedia(write(tmp_path, I_te=np.zeros((3, 3))))


@pytest.mark.parametrize(
    ("line", "message"),
    [("a\tb\n", "must have a text, an image and a category"), ("a\tb\t11\n", "must be 1 to 10")],
)
def test_a_line_that_is_wrong_is_an_error(line: str, message: str, tmp_path: Path) -> None:
    (write(tmp_path) / "testset_txt_img_cat.list").write_text(line * 2)

    with pytest.raises(ValueError, match=message):
        load_wikipedia(tmp_path)


@pytest.mark.data
def test_the_real_files_have_the_standard_split(data_folder: Callable[[str], Path]) -> None:
    data = load_wikipedia(data_folder("wikipedia"))

    assert (len(data.train_idx), len(data.test_idx)) == (2173, 693)
    assert data.columns == {"image": slice(0, 128), "text": slice(128, 138)}
    np.testing.assert_allclose(data.modalities["image"].sum(axis=1), 1, atol=1e-3)
    assert_array_equal(np.bincount(data.target[data.train_idx])[:3], [138, 272, 244])
