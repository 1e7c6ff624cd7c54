"""The bundled numerals."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmmg.datasets import load_mfeat
from skmmg.graph import split_modalities

WIDTHS = {"fac": 216, "fou": 76, "kar": 64, "mor": 6, "pix": 240, "zer": 47}


def test_there_are_two_hundred_numerals_of_each_digit_in_six_modalities() -> None:
    digits = load_mfeat()

    assert digits.data.shape == (2000, sum(WIDTHS.values()))
    assert digits.data.dtype == np.float32
    assert np.isfinite(digits.data).all()
    assert {name: matrix.shape for name, matrix in digits.modalities.items()} == {
        name: (2000, width) for name, width in WIDTHS.items()
    }
    assert np.bincount(digits.target).tolist() == [200] * 10


def test_the_columns_select_the_modalities_out_of_the_data() -> None:
    digits = load_mfeat()
    blocks = split_modalities(digits.data, digits.columns)

    assert list(blocks) == list(WIDTHS)
    for name, block in blocks.items():
        np.testing.assert_array_equal(block, digits.modalities[name])


def test_frames_hold_the_same_numbers_under_names_with_the_modality_as_prefix() -> None:
    arrays, frames = load_mfeat(), load_mfeat(as_frame=True)

    np.testing.assert_array_equal(frames.data.to_numpy(), arrays.data)
    assert isinstance(frames.target, pd.Series)
    assert frames.data.columns.tolist() == frames.feature_names == arrays.feature_names
    for name, columns in frames.columns.items():
        assert frames.data.columns[columns].str.startswith(f"{name}_").all()
        pd.testing.assert_frame_equal(frames.modalities[name], frames.data.iloc[:, columns])


def test_return_x_y_gives_data_and_target() -> None:
    digits = load_mfeat()
    X, y = load_mfeat(return_X_y=True)

    np.testing.assert_array_equal(X, digits.data)
    np.testing.assert_array_equal(y, digits.target)


def test_the_description_attributes_the_data_as_the_licence_asks() -> None:
    text = load_mfeat().DESCR

    for expected in ("Duin", "CC BY 4.0", "10.24432/C5HC70", "Changes"):
        assert expected in text


def test_the_bundled_file_is_small() -> None:
    assert len((files("skmmg.datasets") / "data" / "mfeat.npz").read_bytes()) < 2.5e6


def test_a_linear_model_recognises_the_numerals() -> None:
    X, y = load_mfeat(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=400, test_size=600, stratify=y, random_state=0
    )
    clf = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))

    assert clf.fit(X_train, y_train).score(X_test, y_test) > 0.95
