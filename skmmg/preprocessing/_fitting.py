"""One transformer on one modality: which rows it is fitted on, and where its output goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, SelectPercentile
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags

from skmmg.graph import MultiModalGraph, NodeView
from skmmg.graph._modalities import to_csr
from skmmg.graph._payload import Matrix
from skmmg.graph._validation import describe_modality, is_frame
from skmmg.preprocessing._keys import Pair, list_pairs

# An imputer with a regressor inside is none of these: its regressor predicts features, not y.
_HAND_Y_ON = (ColumnTransformer, FeatureUnion, MetaEstimatorMixin, Pipeline)
# Their tags leave room for a score function without y; the functions there are all take it.
_SCORE_WITH_Y = (SelectKBest, SelectPercentile)


@dataclass(frozen=True)
class FittedTransformer:
    """A fitted transformer, ``"passthrough"`` or ``"drop"``, and what comes out of it."""

    transformer: Any
    #: No rows; the width, dtype and sparsity of the output.
    template: Matrix

    @property
    def is_kept(self) -> bool:
        """Whether anything comes out."""
        return self.changes_rows or self.transformer != "drop"

    @property
    def changes_rows(self) -> bool:
        """Whether there is a transformer, and not one of the two words."""
        return not isinstance(self.transformer, str)

    def transform(self, graph: MultiModalGraph, pair: Pair) -> Matrix | pd.DataFrame:
        """Transform a modality, and name the columns where they had names."""
        node_type, modality = pair
        out = graph.x[node_type][modality]
        if self.changes_rows:
            out = self.transform_rows(out, graph.present(*pair), pair)
        names = graph.feature_names.get(node_type, {}).get(modality)
        if names is None or isinstance(out, sparse.csr_array):
            return out
        return pd.DataFrame(out, columns=self.names_out(names), copy=False)

    def transform_rows(self, rows: Any, present: npt.NDArray[np.bool_], pair: Pair) -> Matrix:
        """Transform the rows that are present, and put them where they were."""
        if not present.any():
            return spread_rows(self.template, present)
        with _at_work(self.transformer, pair):
            out = _transform(self.transformer, take_rows(rows, np.flatnonzero(present)))
        return out if present.all() else spread_rows(out, present)

    def names_out(self, names_in: Sequence[str]) -> list[str]:
        """Name the columns of the output."""
        if not self.changes_rows:
            return list(names_in)
        try:
            names = self.transformer.get_feature_names_out(np.asarray(names_in, dtype=object))
        except AttributeError:
            prefix = type(self.transformer).__name__.lower()
            names = [f"{prefix}{column}" for column in range(self.template.shape[1])]
        return [str(name) for name in names]


@dataclass(frozen=True)
class FitPlan:
    """One transformer, and the modalities of node types that share its fitted copy."""

    transformer: Any
    pairs: tuple[Pair, ...]

    def fit(
        self,
        X: NodeView,
        y: npt.NDArray[Any] | None,
        *,
        fit_on: str,
        seen: Mapping[str, npt.NDArray[np.bool_]] | None,
    ) -> FittedTransformer:
        """Fit a copy of the transformer on the rows that it may see: of the nodes `seen`, or all.

        One that is fitted with y sees the nodes of the view alone.
        """
        if isinstance(self.transformer, str):
            node_type, modality = self.pairs[0]
            return fit_rows(self.transformer, X.graph.x[node_type][modality], None, self.pairs)
        needs_y = is_supervised(self.transformer)
        reference = self._reference(X.node_type, fit_on, needs_y)
        only_view = needs_y or seen is not None
        rows = {pair: _visible_rows(X, pair, seen, only_view) for pair in reference}
        matrix = _stack([take_rows(X.graph.x[t][m], rows[t, m]) for t, m in reference])
        if y is not None:
            gets_y = only_view and all(t == X.node_type for t, _ in reference)
            y = y[X.present(reference[0][1])] if gets_y else None
        return fit_rows(self.transformer, matrix, y, reference)

    def _reference(self, target: str, fit_on: str, needs_y: bool) -> tuple[Pair, ...]:
        """Return the modalities whose rows are fitted: the target's, or those of all who share."""
        in_focus = tuple(pair for pair in self.pairs if pair[0] == target)
        if needs_y and not in_focus:
            node_type, modality = self.pairs[0]
            raise ValueError(
                f"{describe_modality(node_type, modality)} is to be transformed by "
                f"{self.transformer!r}, which is fitted with y, but y belongs to {target!r} nodes. "
                f"Give ({node_type!r}, {modality!r}) a transformer that needs no y, or "
                f"'passthrough'."
            )
        return in_focus if in_focus and (needs_y or fit_on == "target") else self.pairs


def fit_rows(
    transformer: Any, rows: Any, y: npt.NDArray[Any] | None, pairs: Sequence[Pair]
) -> FittedTransformer:
    """Fit a copy of a transformer on the rows of a matrix or table; words stay words."""
    if isinstance(transformer, str):
        return FittedTransformer(transformer, _no_rows(rows))
    fitted = clone(transformer)
    with _at_work(fitted, *pairs):
        _check_some_rows(rows, pairs[0])
        given = _as_taken(fitted, rows)
        fitted.fit(given) if y is None else fitted.fit(given, y)
        return FittedTransformer(fitted, _no_rows(_transform(fitted, rows[:1])))


def make_plans(
    graph: MultiModalGraph, transformers: Any, remainder: str, fit_on: str
) -> list[FitPlan]:
    """Find the transformer of each modality, and which modalities share its fitted copy."""
    sharing: dict[Any, list[Pair]] = {}
    chosen: dict[Any, Any] = {}
    for pair in list_pairs(graph.schema):
        node_type, modality = pair
        has_own_copy = fit_on == "each" or (isinstance(transformers, dict) and pair in transformers)
        names = graph.feature_names.get(node_type, {}).get(modality)
        columns = modality, graph.schema.node_types[node_type][modality], names
        copy = pair if has_own_copy else columns
        sharing.setdefault(copy, []).append(pair)
        chosen[copy] = choose(transformers, pair, remainder)
    return [FitPlan(chosen[copy], tuple(pairs)) for copy, pairs in sharing.items()]


def choose(transformers: Any, pair: Pair, remainder: str) -> Any:
    """Return the transformer of a modality: the pair's own beats the modality's."""
    if not isinstance(transformers, dict):
        return transformers
    return transformers.get(pair, transformers.get(pair[1], remainder))


def transform_graph(
    graph: MultiModalGraph, fitted: Mapping[Pair, FittedTransformer]
) -> MultiModalGraph:
    """Return the graph with transformed modalities, and masks for the rows that lack them."""
    x: dict[str, dict[str, Any]] = {node_type: {} for node_type, _ in fitted}
    masks: dict[str, dict[str, Any]] = {node_type: {} for node_type, _ in fitted}
    for (node_type, modality), done in fitted.items():
        if not done.is_kept:
            continue
        x[node_type][modality] = done.transform(graph, (node_type, modality))
        if done.changes_rows and not graph.present(node_type, modality).all():
            masks[node_type][modality] = graph.present(node_type, modality)
    return graph.with_features(x, masks)


def is_supervised(transformer: Any) -> bool:
    """Tell whether a transformer is fitted with y, or hands y on to an estimator that is."""
    if not isinstance(transformer, BaseEstimator):
        return False
    if get_tags(transformer).target_tags.required or _insists_on_y(transformer):
        return True
    if not isinstance(transformer, _HAND_Y_ON):
        return False
    params = transformer.get_params(deep=True)
    return any(is_supervised(value) for name, value in params.items() if "__" not in name)


def takes_texts(transformer: Any) -> bool:
    """Tell whether a transformer takes texts, one per row, and no columns: a vectorizer."""
    if isinstance(transformer, Pipeline):
        steps = [step for _, step in transformer.steps if isinstance(step, BaseEstimator)]
        return bool(steps) and takes_texts(steps[0])
    if isinstance(transformer, FeatureUnion):
        return any(takes_texts(inner) for _, inner in transformer.transformer_list)
    if not isinstance(transformer, BaseEstimator):
        return False
    tags = get_tags(transformer).input_tags
    return bool(tags.string and not tags.two_d_array)


def _insists_on_y(transformer: BaseEstimator) -> bool:
    """Find those that need y although their tags do not say so, such as PLS and SelectKBest."""
    if isinstance(transformer, _SCORE_WITH_Y):
        return True
    given = signature(transformer.fit).parameters if hasattr(transformer, "fit") else {}
    return "y" in given and given["y"].default is Parameter.empty


def take_rows(matrix: Any, rows: npt.NDArray[np.integer[Any]]) -> Any:
    """Take rows of a matrix or table, without a copy where they are all rows in order."""
    if np.array_equal(rows, np.arange(matrix.shape[0])):
        return matrix
    return matrix.iloc[rows] if isinstance(matrix, pd.DataFrame) else matrix[rows]


def spread_rows(matrix: Matrix, present: npt.NDArray[np.bool_]) -> Matrix:
    """Put rows where `present` is true: between rows of NaN, or empty ones if sparse."""
    if isinstance(matrix, sparse.csr_array):
        lengths = np.zeros(len(present), dtype=matrix.indptr.dtype)
        lengths[present] = np.diff(matrix.indptr)
        indptr = np.concatenate([matrix.indptr[:1], np.cumsum(lengths)])
        shape = len(present), matrix.shape[1]
        return sparse.csr_array((matrix.data, matrix.indices, indptr), shape=shape)
    spread = np.full((len(present), matrix.shape[1]), np.nan, dtype=_dtype_with_nan(matrix.dtype))
    spread[present] = matrix
    return spread


def fill_missing(matrix: Matrix, present: npt.NDArray[np.bool_]) -> Matrix:
    """Store NaN in the missing rows of a sparse matrix, where there is no mask to say so."""
    if not isinstance(matrix, sparse.csr_array) or present.all():
        return matrix
    dtype = _dtype_with_nan(matrix.dtype)
    gaps = np.full((int((~present).sum()), matrix.shape[1]), np.nan, dtype=dtype)
    return sparse.csr_array(matrix.astype(dtype) + spread_rows(sparse.csr_array(gaps), ~present))


def _transform(transformer: Any, rows: Any) -> Matrix:
    """Return what a transformer gives, a DataFrame too, as an ndarray or csr_array."""
    out: Any = transformer.transform(_as_taken(transformer, rows))
    is_sparse = hasattr(out, "tocsr")
    if not is_sparse:
        out = out.to_numpy() if hasattr(out, "to_numpy") else np.asarray(out)
    if out.ndim != 2 or out.shape[0] != rows.shape[0]:
        raise ValueError(
            f"A transformer must give a 2-D matrix with one row per row that it gets, got shape "
            f"{out.shape} for {rows.shape[0]} rows. Drop rows, and reshape columns, elsewhere."
        )
    return sparse.csr_array(out) if is_sparse else out


def _dtype_with_nan(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype itself, or a float that can hold its values and NaN."""
    return dtype if dtype.kind == "f" else np.result_type(dtype, np.float32)


def _visible_rows(
    X: NodeView, pair: Pair, seen: Mapping[str, npt.NDArray[np.bool_]] | None, only_view: bool
) -> npt.NDArray[np.integer[Any]]:
    """Return the rows that have the modality, and that fit may see."""
    node_type, modality = pair
    if only_view and node_type == X.node_type:
        return X.ids[X.present(modality)]
    present = X.graph.present(node_type, modality)
    return np.flatnonzero(present if seen is None else present & seen[node_type])


def _no_rows(matrix: Any) -> Matrix:
    """Return a matrix of the same width, dtype and sparsity that keeps no other matrix alive."""
    if isinstance(matrix, sparse.csr_array):
        return sparse.csr_array((0, matrix.shape[1]), dtype=matrix.dtype)
    # A table has no dtype of its own, and is given here to be dropped.
    return np.empty((0, matrix.shape[1]), dtype=getattr(matrix, "dtype", None))


def _stack(blocks: Sequence[Matrix]) -> Matrix:
    """Put rows of several node types below each other."""
    if len(blocks) == 1:
        return blocks[0]
    if any(isinstance(block, sparse.csr_array) for block in blocks):
        return sparse.csr_array(sparse.vstack([to_csr(block) for block in blocks]))
    return np.vstack([np.asarray(block) for block in blocks])


def _check_some_rows(matrix: Any, pair: Pair) -> None:
    """Let a matrix with rows pass."""
    if not matrix.shape[0]:
        raise ValueError(
            f"{describe_modality(*pair)} must have at least one row to fit a transformer on, but "
            f"all rows that fit may see lack it. Fit on samples that have it, or give it "
            f"'passthrough' or 'drop'."
        )


def _as_taken(transformer: Any, rows: Any) -> Any:
    """Return rows in the form that a transformer takes: of a table, a vectorizer takes a column."""
    if not is_frame(rows) or not takes_texts(transformer):
        return rows
    columns = list(rows.columns)
    if len(columns) > 1:
        raise ValueError(
            f"{type(transformer).__name__} takes one column of text, got {columns}. Give each "
            f"column its own: ColumnTransformer([({columns[0]!r}, TfidfVectorizer(), "
            f"{columns[0]!r}), ...])."
        )
    return rows.to_numpy()[:, 0]


@contextmanager
def _at_work(transformer: Any, *pairs: Pair) -> Iterator[None]:
    """Let a transformer give arrays, and add to its errors which modality they are about."""
    try:
        with config_context(transform_output="default"):
            yield
    except Exception as error:
        where = ", ".join(f"{modality!r} of {node_type!r}" for node_type, modality in pairs)
        error.add_note(f"This came from {transformer!r} on modality {where}.")
        raise
