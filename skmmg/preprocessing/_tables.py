"""Modalities of a data frame that hold text or categories: tables for their own transformer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import infer_dtype, is_numeric_dtype
from sklearn.utils import check_array

from skmmg.graph._modalities import take_columns
from skmmg.graph._payload import Matrix, find_missing_rows
from skmmg.graph._validation import check_matrix, is_frame

# What pandas calls columns of objects that scikit-learn turns into numbers.
_NUMBERS = {"boolean", "decimal", "empty", "floating", "integer", "mixed-integer-float"}


def find_text(frame: Any) -> list[Any]:
    """Name the columns of a data frame (pandas or polars) that hold no numbers."""
    if isinstance(frame, pd.DataFrame):
        return [name for name, column in frame.items() if not _holds_numbers(column)]
    columns = {name: frame.head(0).get_column(name).to_numpy() for name in frame.columns}
    return [name for name, column in columns.items() if column.dtype.kind not in "biuf"]


def read_blocks(
    X: Any, columns: Mapping[str, Any], tables: Collection[str], *, is_fit: bool
) -> dict[str, Any]:
    """Cut a data frame into the modalities that are tables, as they are, and matrices."""
    if not is_frame(X):
        raise TypeError(
            f"X must be a DataFrame, as it was in fit, where {', '.join(map(repr, tables))} held "
            f"text or categories, got {type(X).__name__}. Pass a DataFrame with the same columns."
        )
    if not len(X):
        raise ValueError("X must have at least one row, got none.")
    parts = {name: take_columns(X, chosen) for name, chosen in columns.items()}
    return {
        name: part if name in tables else _read_numbers(part, name, is_fit)
        for name, part in parts.items()
    }


def find_missing(block: Any) -> npt.NDArray[np.bool_]:
    """Tell which rows of a matrix or table hold nothing: NaN, None or NA in every column."""
    if is_frame(block):
        return np.all(pd.isna(block.to_numpy()), axis=1)
    return find_missing_rows(block)[0]


def _holds_numbers(column: pd.Series[Any]) -> bool:
    """Tell whether a column is one of numbers, or of objects that are numbers or missing."""
    if column.dtype == object:
        return infer_dtype(column, skipna=True) in _NUMBERS
    return is_numeric_dtype(column.dtype)


def _read_numbers(part: Any, name: str, is_fit: bool) -> Matrix:
    """Turn columns of a data frame into a matrix, or name those that hold no numbers."""
    try:
        given = check_array(
            part,
            accept_sparse="csr",
            ensure_all_finite="allow-nan",
            input_name=f"modality {name!r}",
        )
        return check_matrix(given, f"Modality {name!r}")
    except (TypeError, ValueError) as error:
        text = find_text(part)
        if not text:
            raise
        wanted, advice = "as in fit", "Encode these columns"
        if is_fit:
            wanted = "because it has no transformer of its own"
            advice = f"Give it one, for instance {{{name!r}: OneHotEncoder()}}, or 'drop'"
        raise ValueError(
            f"Modality {name!r} must have numeric columns, {wanted}, got text, categories or "
            f"dates in {text}. {advice}."
        ) from error
