"""Untrusted nodes, features, masks and ids: a clean payload comes out, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from scipy import sparse

from skmmg.graph._payload import Features, Masks, Matrix, Names, freeze


def check_nodes(nodes: Any) -> tuple[Features, dict[str, int], Names]:
    """Check node types and their matrices; a bare dict of matrices is one type called 'node'."""
    if not is_mapping(nodes):
        raise TypeError(
            f"nodes must be a dict, got {type(nodes).__name__}. "
            f"Write {{'x': matrix}} for one matrix of node features."
        )
    if not nodes:
        raise ValueError(
            "A graph must have at least one node type, got an empty dict. Give "
            "{type: {modality: matrix}}, or {type: count} for nodes without features."
        )
    x, n_nodes, names = check_node_types(by_type(nodes))
    if not sum(n_nodes.values()):
        raise ValueError(f"A graph must have at least one node, got {n_nodes}.")
    return x, n_nodes, names


def check_node_types(nodes: Mapping[Any, Any]) -> tuple[Features, dict[str, int], Names]:
    """Check the nodes of each type: a count, or a dict of matrices."""
    x: Features = {}
    n_nodes: dict[str, int] = {}
    names: Names = {}
    for node_type, given in nodes.items():
        check_name(node_type, "A node type")
        x[node_type], n_nodes[node_type], names[node_type] = _check_node_type(node_type, given)
    return x, n_nodes, names


def by_type(nodes: Mapping[Any, Any], only_type: str = "node") -> Mapping[Any, Any]:
    """Put a bare dict of modalities under its one node type; leave a dict of types as it is."""
    has_types = any(is_mapping(given) or _is_count(given) for given in nodes.values())
    return nodes if has_types or not nodes else {only_type: nodes}


def check_name(name: Any, what: str) -> str:
    """Let non-empty strings pass."""
    if not isinstance(name, str):
        raise TypeError(
            f"{what} must be named by a string, got {name!r} ({type(name).__name__}). "
            f"Choose a name, for instance {str(name)!r}."
        )
    if not name:
        raise ValueError(f"{what} must have a name, got an empty string. Choose one.")
    return name


def is_mapping(value: Any) -> bool:
    """Tell whether a value is a mapping, and not a DOK matrix, which scipy derives from dict."""
    return isinstance(value, Mapping) and not sparse.issparse(value)


def _is_count(value: Any) -> bool:
    """Tell whether a value is a whole number, and not a truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_node_type(
    node_type: str, given: Any
) -> tuple[dict[str, Matrix], int, dict[str, tuple[str, ...]]]:
    """Check one node type: a count, or a dict of matrices with one row per node."""
    if _is_count(given):
        if given < 0:
            raise ValueError(f"Node type {node_type!r} must have 0 nodes or more, got {given}.")
        return {}, int(given), {}
    if not is_mapping(given):
        raise TypeError(
            f"Node type {node_type!r} must be a dict of matrices or a count (int), got "
            f"{type(given).__name__}. Write {{{node_type!r}: {{'x': matrix}}}} for one matrix."
        )
    if not given:
        raise ValueError(
            f"Node type {node_type!r} must have a modality or a count, got an empty dict. "
            f"Give the number of nodes instead: {{{node_type!r}: 5257}}."
        )
    matrices, names = check_matrices(node_type, given)
    n_rows = {modality: int(matrix.shape[0]) for modality, matrix in matrices.items()}
    if len(set(n_rows.values())) > 1:
        raise ValueError(
            f"All modalities of node type {node_type!r} must have one row per node, got {n_rows} "
            f"rows. Reindex them to the same nodes; a missing row is a row of NaN."
        )
    return matrices, next(iter(n_rows.values())), names


def check_matrices(
    node_type: str, given: Mapping[Any, Any]
) -> tuple[dict[str, Matrix], dict[str, tuple[str, ...]]]:
    """Check the matrices of one node type, and keep the column names of data frames."""
    matrices: dict[str, Matrix] = {}
    names: dict[str, tuple[str, ...]] = {}
    for modality, matrix in given.items():
        check_name(modality, f"A modality of node type {node_type!r}")
        matrices[modality] = check_matrix(matrix, describe_modality(node_type, modality))
        columns = list(matrix.columns) if is_frame(matrix) else []
        if columns and all(isinstance(column, str) for column in columns):
            names[modality] = tuple(columns)
    check_same_index(f"All data frames of node type {node_type!r}", given)
    return matrices, names


def check_same_index(what: str, given: Mapping[str, Any]) -> None:
    """Refuse data frames of which the index says that their rows are different nodes."""
    indexes = {m: f.index for m, f in given.items() if isinstance(f, pd.DataFrame)}
    (first, ours), *others = indexes.items() or [("", pd.RangeIndex(0))]
    for modality, theirs in others:
        if len(ours) != len(theirs) or ours.equals(theirs):
            continue
        # A default index beside other labels says nothing; the same labels in another order do.
        is_default = isinstance(ours, pd.RangeIndex) or isinstance(theirs, pd.RangeIndex)
        if not is_default or ours.isin(theirs).all():
            raise ValueError(
                f"{what} must have the same index, got another one for {modality!r} than for "
                f"{first!r}. Use {modality}.reindex({first}.index), or reset_index(drop=True) on "
                f"both if their rows do agree."
            )


def check_mapping(values: Any, what: str) -> Mapping[Any, Any]:
    """Let a dict pass; `what` is the name of a parameter, with the form that is expected."""
    if not is_mapping(values):
        raise TypeError(f"{what}, got {type(values).__name__}.")
    return values


def describe_modality(node_type: str, modality: str) -> str:
    """Begin an error message about one modality."""
    return f"Modality {modality!r} of node type {node_type!r}"


def check_matrix(matrix: Any, where: str) -> Matrix:
    """Return a read-only ndarray, memory map or csr_array on the given numbers, without a copy."""
    if is_frame(matrix):
        matrix = frame_values(matrix, where)
    if not sparse.issparse(matrix):
        matrix = _as_array(matrix, where)
    _check_dtype(matrix.dtype, where)
    if matrix.ndim != 2:
        raise ValueError(
            f"{where} must be 2-D, one row per node, got shape {matrix.shape}. "
            f"Use x.reshape({'-1, 1' if matrix.ndim < 2 else 'len(x), -1'})."
        )
    if not matrix.shape[1]:
        raise ValueError(f"{where} must have at least one column, got none. Leave it out.")
    is_sparse = sparse.issparse(matrix)
    return freeze(_as_canonical_csr(matrix, where) if is_sparse else matrix)


def is_frame(matrix: Any) -> bool:
    """Tell whether a matrix is a data frame (pandas or polars)."""
    return hasattr(matrix, "columns") and hasattr(matrix, "to_numpy")


def frame_values(frame: Any, where: str) -> Any:
    """Return the values of a data frame; sparse columns stay sparse, missing ones become NaN."""
    if not isinstance(frame, pd.DataFrame):
        return frame.to_numpy()
    # Without a zero that is left out, as with pandas' default of NaN, nothing is sparse for scipy.
    if len(frame.columns) and all(
        isinstance(t, pd.SparseDtype) and t.fill_value == 0 for t in frame.dtypes
    ):
        accessor: Any = frame.sparse
        return accessor.to_coo()
    wrong = {c: dtype for c, dtype in frame.dtypes.items() if not is_numeric_dtype(dtype)}
    if wrong:
        column, dtype = next(iter(wrong.items()))
        raise TypeError(
            f"{where} must have numeric columns only, got {column!r} of dtype {dtype}. "
            f"Encode them first, for instance by OneHotEncoder, or drop them: {list(wrong)}. "
            f"A ModalityTransformer encodes columns of a data frame that is X; a graph has to be "
            f"made of numbers."
        )
    values = frame.to_numpy()
    if values.dtype != object:
        return values
    # Nullable columns, or truth values beside numbers.
    if all(map(is_integer_dtype, frame.dtypes)) and not frame.isna().to_numpy().any():
        return frame.to_numpy(np.int64)
    return frame.to_numpy(np.float64, na_value=np.nan)


def _as_array(matrix: Any, where: str) -> npt.NDArray[Any]:
    """Turn an array-like into an array; a memory map stays one."""
    if isinstance(matrix, np.memmap):
        return matrix
    check_unmasked(matrix, where)
    what = "be a 2-D ndarray, scipy sparse matrix or DataFrame of numbers"
    return read_array(matrix, f"{where} must {what}")


def check_unmasked(matrix: Any, where: str) -> None:
    """Raise for a masked array, whose hidden values would be taken as given."""
    if isinstance(matrix, np.ma.MaskedArray):
        raise TypeError(f"{where} must not be a masked array. Use x.astype(float).filled(np.nan).")


def read_array(values: Any, expected: str) -> npt.NDArray[Any]:
    """Turn an array-like into an array, or raise an error that begins with what was expected."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch raises RuntimeError
        raise TypeError(f"{expected}, got {type(values).__name__}: {error}.") from error


def _check_dtype(dtype: np.dtype[Any], where: str) -> None:
    """Let bool, integers and floats of up to 64 bits pass."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(
            f"{where} must hold numbers (bool, integers, or floats of up to 64 bits), got dtype "
            f"{dtype}. Encode text and categories first, for instance with TfidfVectorizer or "
            f"OneHotEncoder; cast other numbers with .astype('float32')."
        )


def _as_canonical_csr(matrix: Any, where: str) -> sparse.csr_array[Any, Any]:
    """Return a CSR array with sorted unique indices, because a read-only one cannot be sorted."""
    csr = sparse.csr_array(matrix)
    try:
        csr.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{where} must be a valid sparse matrix, got: {error}.") from error
    if csr.has_canonical_format:
        return csr
    csr = csr.copy()
    csr.sum_duplicates()
    return csr


def check_masks(masks: Any, x: Features, n_nodes: Mapping[str, int]) -> Masks:
    """Check presence masks: for each node type and modality one truth value per node."""
    if masks is None:
        return {}
    check_mapping(masks, "masks must be a dict {type: {modality: mask}}")
    given_by_type = by_type(masks, next(iter(x))) if len(x) == 1 else masks
    checked: Masks = {}
    for node_type, given in given_by_type.items():
        check_node_type(node_type, n_nodes)
        check_mapping(given, f"The masks of node type {node_type!r} must be a dict")
        for modality, mask in given.items():
            check_modality(node_type, modality, x[node_type])
            where = describe_modality(node_type, modality)
            checked.setdefault(node_type, {})[modality] = _check_mask(
                mask, n_nodes[node_type], where
            )
    return checked


def _check_mask(mask: Any, n_rows: int, where: str) -> npt.NDArray[np.bool_]:
    """Check one mask, True where the node has the modality, and take a copy of it."""
    values = read_array(mask, f"{where} must have a mask of booleans, one per node").copy()
    if values.dtype != np.bool_:
        raise TypeError(
            f"{where} must have a mask of booleans (True: the node has it), got dtype "
            f"{values.dtype}. Use mask.astype(bool)."
        )
    if values.shape != (n_rows,):
        raise ValueError(
            f"{where} must have a mask with one value per node, shape ({n_rows},), got shape "
            f"{values.shape}."
        )
    values.setflags(write=False)
    return values


def check_node_type(node_type: Any, known: Iterable[str]) -> str:
    """Let the name of a node type of the graph pass."""
    names = list(known)
    if not isinstance(node_type, str) or node_type not in names:
        raise ValueError(f"Node type {node_type!r} is not in the graph. It has {names}.")
    return node_type


def check_modality(node_type: str, modality: Any, known: Iterable[str]) -> str:
    """Let the name of a modality of one node type pass."""
    names = list(known)
    if not isinstance(modality, str) or modality not in names:
        raise ValueError(f"Node type {node_type!r} has no modality {modality!r}. It has {names}.")
    return modality


def check_ids(ids: Any, n_nodes: int, node_type: str) -> npt.NDArray[np.int64]:
    """Return node ids as a read-only int64 array, from ids, a boolean mask, a slice or None."""
    if ids is None or isinstance(ids, slice):
        selected = np.arange(n_nodes, dtype=np.int64)[ids or slice(None)]
    else:
        given = read_array(ids, f"Ids of node type {node_type!r} must be integers or a mask")
        selected = _read_ids(given, n_nodes, node_type)
    selected.setflags(write=False)
    return selected


def _read_ids(given: npt.NDArray[Any], n_nodes: int, node_type: str) -> npt.NDArray[np.int64]:
    """Check an array of ids or a boolean mask, and copy it."""
    if given.ndim != 1:
        raise ValueError(
            f"Ids of node type {node_type!r} must be 1-D, got shape {given.shape}. "
            f"Write [3] for the node with id 3."
        )
    if given.dtype == np.bool_:
        if len(given) != n_nodes:
            raise ValueError(
                f"A mask of {node_type!r} nodes must have {n_nodes} values, one per node, got "
                f"{len(given)}."
            )
        return np.flatnonzero(given).astype(np.int64)
    if given.size and given.dtype.kind not in "iu":
        raise TypeError(
            f"Ids of node type {node_type!r} must be integers, got dtype {given.dtype}. "
            f"Use ids.astype(int), or a boolean mask."
        )
    check_range(given, n_nodes, f"The selection of {node_type!r} nodes", node_type)
    return np.array(given, dtype=np.int64)


def check_range(ids: npt.NDArray[Any], n_nodes: int, where: str, node_type: str) -> None:
    """Let ids from 0 to n_nodes - 1 pass."""
    if not ids.size or (ids.min() >= 0 and int(ids.max()) < n_nodes):
        return
    wrong = ids[(ids < 0) | (ids >= n_nodes)][0]
    several = node_type if node_type.endswith("s") else f"{node_type}s"
    count = f"is 1 {node_type}" if n_nodes == 1 else f"are {n_nodes} {several}"
    what_to_do = f"so ids run from 0 to {n_nodes - 1}" if n_nodes else "so no id can be used"
    raise ValueError(f"{where} refers to {node_type} {wrong}, but there {count}, {what_to_do}.")
