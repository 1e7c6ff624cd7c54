"""Several matrices in one: columns of a 2-D ``X`` grouped by modality, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skmmg.graph._payload import Matrix
from skmmg.graph._validation import (
    check_matrix,
    check_name,
    check_same_index,
    is_frame,
    is_mapping,
)

Columns: TypeAlias = "slice | str | Sequence[int] | Sequence[bool] | Sequence[str] | NDArray[Any]"

_HOW_TO_NAME = "a slice, column indices, a boolean mask, column names or a prefix of column names"


def stack_modalities(blocks: Mapping[str, Any]) -> tuple[Matrix, dict[str, slice]]:
    """Put the matrices of several modalities side by side.

    Parameters
    ----------
    blocks : mapping of str to matrix of shape (n_samples, n_features_m)
        One array, sparse matrix or DataFrame per modality, all with the same rows. A row of NaN
        says that the sample lacks the modality.

    Returns
    -------
    X : ndarray or csr_array of shape (n_samples, n_features)
        The columns of all modalities, in the order of `blocks`. Sparse if one of them is.
    modalities : dict of str to slice
        Which columns of `X` are whose: what the parameter ``modalities`` of the estimators takes.

    Raises
    ------
    ValueError
        If there is no block, a block is not a 2-D numeric matrix, or the numbers of rows or the
        indexes of DataFrames differ.

    See Also
    --------
    split_modalities : The inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from skmmg.graph import stack_modalities
    >>> X, modalities = stack_modalities({"image": np.zeros((3, 2)), "text": np.ones((3, 4))})
    >>> X.shape
    (3, 6)
    >>> modalities
    {'image': slice(0, 2, None), 'text': slice(2, 6, None)}
    """
    matrices = check_blocks(blocks)
    stops = np.cumsum([matrix.shape[1] for matrix in matrices.values()]).tolist()
    starts = [0, *stops[:-1]]
    modalities = {
        name: slice(start, stop) for name, start, stop in zip(matrices, starts, stops, strict=True)
    }
    if not any(sparse.issparse(matrix) for matrix in matrices.values()):
        return np.concatenate(list(matrices.values()), axis=1), modalities
    parts = [to_csr(matrix) for matrix in matrices.values()]
    return sparse.csr_array(sparse.hstack(parts, format="csr")), modalities


def split_modalities(
    X: Any,
    modalities: Mapping[str, Columns] | None,
    feature_names: Sequence[str] | None = None,
) -> dict[str, Matrix]:
    """Cut a 2-D `X` into one matrix per modality.

    Parameters
    ----------
    X : array, sparse matrix or DataFrame of shape (n_samples, n_features)
        The columns of all modalities.
    modalities : mapping of str to columns, or None
        The columns of each modality: a slice, column indices, a boolean mask, a list of column
        names, or a prefix of column names. Modalities may share columns, and columns that no
        modality names are left out. With None, all columns are one modality called ``"x"``.
    feature_names : sequence of str of length n_features, default=None
        The column names of `X`, where `X` is not a DataFrame.

    Returns
    -------
    blocks : dict of str to (ndarray or csr_array) of shape (n_samples, n_features_m)
        One matrix per modality, in the order of `modalities`. A slice of an array is a view.

    Raises
    ------
    TypeError
        If `modalities` is not a mapping with names as keys.
    ValueError
        If a modality names no column, a column that `X` does not have or has twice, or names
        columns by name while `X` has no column names.

    See Also
    --------
    stack_modalities : The inverse.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmmg.graph import split_modalities
    >>> X = pd.DataFrame({"img_0": [0.0, 1.0], "img_1": [2.0, 3.0], "year": [1999, 2004]})
    >>> blocks = split_modalities(X, {"image": "img_", "table": [2]})
    >>> blocks["image"]
    array([[0., 2.],
           [1., 3.]])
    >>> blocks["table"].shape
    (2, 1)
    """
    if modalities is None:
        return {"x": check_matrix(X, "X")}
    matrix: Any = X if is_frame(X) else check_matrix(X, "X")
    names = column_names(X) if is_frame(X) and feature_names is None else feature_names
    resolved = resolve_columns(modalities, matrix.shape[1], names)
    if not is_frame(X):
        return {name: matrix[:, columns] for name, columns in resolved.items()}
    # Block by block, because each block of a data frame has its own dtype.
    return {
        name: check_matrix(take_columns(X, columns), f"Modality {name!r}")
        for name, columns in resolved.items()
    }


def resolve_columns(
    modalities: Mapping[str, Columns], n_features: int, feature_names: Sequence[str] | None = None
) -> dict[str, slice | NDArray[np.intp]]:
    """Turn the ways of naming columns into slices and non-negative indices, or raise."""
    if not is_mapping(modalities):
        raise TypeError(
            f"modalities must map the name of each modality to its columns ({_HOW_TO_NAME}), "
            f"got {type(modalities).__name__}."
        )
    if not modalities:
        raise ValueError("modalities must name at least one modality, got an empty mapping.")
    if feature_names is not None and len(feature_names) != n_features:
        raise ValueError(
            f"feature_names must have one name per column of X, got {len(feature_names)} names "
            f"for {n_features} columns."
        )
    return {
        check_name(name, "A modality"): _resolve(name, columns, n_features, feature_names)
        for name, columns in modalities.items()
    }


def check_blocks(blocks: Mapping[str, Any]) -> dict[str, Matrix]:
    """Return one 2-D numeric matrix per modality, all with the same number of rows, or raise."""
    if not is_mapping(blocks):
        raise TypeError(
            f"Blocks must map the name of each modality to its matrix, got "
            f"{type(blocks).__name__}. Name a single matrix: {{'x': X}}."
        )
    if not blocks:
        raise ValueError("At least one modality is needed, got an empty mapping.")
    matrices = {
        check_name(name, "A modality"): check_matrix(block, f"Modality {name!r}")
        for name, block in blocks.items()
    }
    rows = {name: matrix.shape[0] for name, matrix in matrices.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(
            f"All modalities must have one row per sample, got {rows} rows. Reindex them to the "
            f"same samples; a missing row is a row of NaN."
        )
    check_same_index("All data frames", blocks)
    return matrices


def column_names(frame: Any) -> list[str] | None:
    """Return the column names of a DataFrame if all of them are strings."""
    names = list(frame.columns)
    return names if names and all(isinstance(name, str) for name in names) else None


def take_columns(frame: Any, columns: slice | NDArray[np.intp]) -> Any:
    """Select columns of a pandas or polars DataFrame by position."""
    if hasattr(frame, "iloc"):
        return frame.iloc[:, columns]
    return frame[:, columns if isinstance(columns, slice) else columns.tolist()]


def to_csr(part: Matrix) -> sparse.csr_array[Any, Any]:
    """Return the part as csr_array; scipy has no sparse float16."""
    if part.dtype == np.float16:
        part = part.astype(np.float32)
    return sparse.csr_array(part)


def _resolve(
    name: str, columns: Columns, n_features: int, feature_names: Sequence[str] | None
) -> slice | NDArray[np.intp]:
    """Resolve the columns of one modality."""
    if isinstance(columns, slice):
        return _resolve_slice(name, columns, n_features)
    if isinstance(columns, tuple):
        raise TypeError(
            f"The columns of modality {name!r} must be {_HOW_TO_NAME}, got the tuple {columns}. "
            f"Write {list(columns)} for these columns, or slice(start, stop) for a range."
        )
    if isinstance(columns, str):
        known = _known_names(name, feature_names)
        found = [i for i, known_name in enumerate(known) if known_name.startswith(columns)]
        given = np.asarray(found, dtype=np.intp)
    else:
        given = _resolve_list(name, columns, n_features, feature_names)
    if not len(given):
        raise ValueError(
            f"Modality {name!r} must have at least one column, but {columns!r} selects none of "
            f"the {n_features} columns of X{_first_names(feature_names)}."
        )
    return given


def _resolve_slice(name: str, columns: slice, n_features: int) -> slice:
    """Check that a slice stays inside `X` and is not empty."""
    try:
        start, stop, step = columns.indices(n_features)
    except TypeError as error:
        raise TypeError(
            f"The slice of modality {name!r} must have integer ends, got {columns!r}."
        ) from error
    beyond = [end for end in (columns.start, columns.stop) if end is not None and end > n_features]
    if beyond or not len(range(start, stop, step)):
        raise ValueError(
            f"Modality {name!r} has the columns {columns!r}, but X has {n_features} columns, "
            f"numbered from 0 to {n_features - 1}. Name columns that X has, at least one."
        )
    return columns


def _resolve_list(
    name: str, columns: Any, n_features: int, feature_names: Sequence[str] | None
) -> NDArray[np.intp]:
    """Resolve indices, a boolean mask or column names."""
    given = np.asarray(columns)
    if given.ndim == 1 and given.dtype.kind in "UTO" and all(isinstance(c, str) for c in given):
        return _positions_of_names(name, given.tolist(), _known_names(name, feature_names))
    if given.ndim != 1 or (given.size and given.dtype.kind not in "biu"):
        raise TypeError(
            f"The columns of modality {name!r} must be {_HOW_TO_NAME}, got {columns!r}."
        )
    if given.dtype.kind == "b":
        if len(given) != n_features:
            raise ValueError(
                f"The boolean mask of modality {name!r} must have one value per column of X "
                f"({n_features}), got {len(given)}."
            )
        return np.flatnonzero(given)
    outside = given[(given < -n_features) | (given >= n_features)]
    if len(outside):
        raise ValueError(
            f"Modality {name!r} refers to column {outside[0]}, but X has {n_features} columns, "
            f"numbered from 0 to {n_features - 1}."
        )
    return np.where(given < 0, given + n_features, given).astype(np.intp)


def _known_names(name: str, feature_names: Sequence[str] | None) -> Sequence[str]:
    """Return the column names, or raise for the modality that needs them."""
    if feature_names is None:
        raise ValueError(
            f"Modality {name!r} names its columns by name or prefix, but X has no column names. "
            f"Pass a DataFrame whose column names are strings, or use a slice or indices."
        )
    return feature_names


def _positions_of_names(
    name: str, wanted: list[str], feature_names: Sequence[str]
) -> NDArray[np.intp]:
    """Return the positions of column names, or raise for those that `X` does not have."""
    positions = {known: position for position, known in enumerate(feature_names)}
    unknown = [column for column in wanted if column not in positions]
    if unknown:
        raise ValueError(
            f"Modality {name!r} names columns that X does not have: {unknown[:3]}"
            f"{_first_names(feature_names)}."
        )
    counts = Counter(feature_names)
    repeated = [column for column in wanted if counts[column] > 1]
    if repeated:
        raise ValueError(
            f"Modality {name!r} names the column {repeated[0]!r}, which X has "
            f"{counts[repeated[0]]} times. Rename these columns, or use their indices."
        )
    return np.array([positions[column] for column in wanted], dtype=np.intp)


def _first_names(feature_names: Sequence[str] | None) -> str:
    """Show the first column names, for an error message."""
    if feature_names is None or not len(feature_names):
        return ""
    dots = ", ..." if len(feature_names) > 3 else ""
    return f" ({', '.join(map(repr, feature_names[:3]))}{dots})"
