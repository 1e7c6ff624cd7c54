"""ModalityTransformer: scikit-learn transformers, one per modality, on both forms of X."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags, check_consistent_length, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skmmg._sklearn import HasMethods, StrOptions, check_none_masked, validate_params
from skmmg.graph import MultiModalGraph, NodeView, Schema, split_modalities, stack_modalities
from skmmg.graph._form import check_form, check_no_columns
from skmmg.graph._inductive import there_before
from skmmg.graph._modalities import resolve_columns, take_columns
from skmmg.graph._payload import Matrix
from skmmg.graph._schema import diff_names
from skmmg.graph._validation import check_matrix, is_frame
from skmmg.preprocessing._fitting import (
    FittedTransformer,
    choose,
    fill_missing,
    fit_rows,
    make_plans,
    take_rows,
    transform_graph,
)
from skmmg.preprocessing._keys import Pair, check_transformers, list_pairs, spell_key
from skmmg.preprocessing._tables import find_missing, find_text, read_blocks

# The node type that the rows of a 2-D X are.
_ROW = "row"

# The last graph that each transformer was given, and the graph that came out. Kept outside of the
# transformers, so that it is in no pickle, no clone and no comparison of their attributes.
_LAST_GRAPH: WeakKeyDictionary[Any, WeakKeyDictionary[MultiModalGraph, MultiModalGraph]]
_LAST_GRAPH = WeakKeyDictionary()


def _is_for_columns(transformer: ModalityTransformer) -> bool:
    """Tell whether the output has columns: not once the transformer is fitted on a view."""
    return not hasattr(transformer, "schema_")


class ModalityTransformer(TransformerMixin, BaseEstimator):
    """Apply scikit-learn transformers to each modality by itself.

    Takes both forms of ``X``. A 2-D matrix with `modalities` gives a 2-D matrix, grouped by
    modality again. A :class:`~skmmg.graph.NodeView` gives a view of the same nodes in a new graph,
    where the modalities of *all* node types are transformed.

    Parameters
    ----------
    transformers : dict, transformer or "passthrough"
        ``{key: transformer}``, where the key is a modality (``"text"``) or a modality of one node
        type (``("director", "text")``); the second beats the first. A value is a transformer,
        ``"passthrough"`` or ``"drop"``. A single transformer is used for every modality. Nothing
        given here is ever fitted: copies are.
    modalities : dict or None, default=None
        For a 2-D ``X``: the columns of each modality, as a slice, indices, a boolean mask, column
        names or a prefix of column names. Columns that no modality names are left out. With None,
        all columns are one modality called ``"x"``. For a view, which has modalities of its own, it
        has to be None.
    remainder : {"passthrough", "drop"}, default="passthrough"
        What becomes of modalities without a transformer.
    setting : {"transductive", "inductive"}, default="transductive"
        What ``fit`` may look at when ``X`` is a view: all nodes of the graph, or all but the nodes
        of the view's type that are not in the view, and those of other types that only these
        connect with it. A transformer that is fitted with ``y`` sees the nodes of the view alone
        in both. The estimator behind it has a `setting` of its own: an inductive pipeline has to
        set both.
    fit_on : {"target", "all", "each"}, default="target"
        What a modality is fitted on when several node types have it with the same columns (the
        same width, and the same names where there are names). ``"target"``: on the view's node
        type, and the fitted copy serves the others too; among types that do not share the target's
        columns, on all that share columns. ``"all"``: on all types that share columns, one copy
        serves them. ``"each"``: one copy per type. A key ``(node type, modality)`` always has its
        own copy.

    Attributes
    ----------
    transformers_ : dict
        The fitted transformer (or ``"passthrough"``, ``"drop"``) of each ``(node type, modality)``,
        or of each modality when ``X`` was 2-D. Node types that share a copy have the same object.
    modalities_ : dict of str to slice
        The columns of each modality in the output. Only for a 2-D ``X``.
    schema_ : Schema
        Schema of the view given to ``fit``. Only for a view.
    feature_names_ : dict of dict of tuple of str
        Column names by node type and modality, where data frames gave them. Only for a view.
    n_features_in_ : int
        Number of columns of ``X``. Only for a 2-D ``X``.
    feature_names_in_ : ndarray of str
        Column names, if all of them are strings. Only for a 2-D ``X``.

    Raises
    ------
    TypeError
        If a key or value of `transformers` is none, or ``transform`` gets another form of ``X``
        than ``fit``.
    NotImplementedError
        If metadata routing is switched on and a transformer requests metadata, such as
        `sample_weight`: it would not get any.
    ValueError
        If a key names no modality, columns of text have no transformer, no row that ``fit`` may see
        has a modality, or the graph given to ``transform`` has other modalities or columns. Errors
        of a transformer pass through, with a note that names its modality.

    See Also
    --------
    sklearn.compose.ColumnTransformer : Transformers on columns of a table.
    skmmg.graph.stack_modalities : Make the 2-D form from one matrix per modality.

    Notes
    -----
    **Why one copy for all node types.** Where movies, directors and actors carry keywords from one
    vocabulary, a ``TruncatedSVD`` fitted on each would give three spaces whose axes have nothing to
    do with each other, and a message from a director to a movie would have to be translated. Fitted
    on the target alone, it is also right for transformers that need ``y``, follows `setting`, and
    does not depend on how many nodes the other types have. Where two types use one name and one
    width for different things, use ``fit_on="each"`` or a key ``(node type, modality)``.

    **Missing rows.** A row that lacks the modality (nothing but NaN or None, or masked) takes no
    part in ``fit`` and still lacks it afterwards, as a row of NaN and in a view's mask. What to do
    about it is the model's business. A row with some NaN is given to the transformer, so imputers
    are transformers like others.

    **Text and categories.** A modality of a data frame with columns that are no numbers is given to
    its transformer as a data frame, and has to come out as numbers. So a ``ColumnTransformer`` or a
    ``Pipeline`` can encode it, by names of columns. A vectorizer, such as ``TfidfVectorizer``,
    alone or first in a ``Pipeline``, is given the one column of the modality; several columns of
    text take a ``ColumnTransformer`` with a vectorizer for each. All other modalities are given as
    matrices.

    **Parameters inside.** ``get_params`` and ``set_params`` reach the transformers by their key,
    ``text__n_components``; a key ``("director", "text")`` is spelled ``director/text``, as in
    ``director/text__with_mean``. A single transformer is reached by ``transformers__with_mean``.

    **Transformers that need y** are found by their tags, by a ``fit`` that insists on ``y``, and by
    the estimators that a pipeline or a selector hands ``y`` on to. ``fit_transform`` is ``fit``
    followed by ``transform``: the cross fitting of ``TargetEncoder`` does not take place.

    The last graph that was transformed is remembered as long as it is alive, so that several views
    of it cost one transformation.

    Examples
    --------
    The columns of a matrix:

    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skmmg.preprocessing import ModalityTransformer
    >>> X = np.random.default_rng(0).normal(size=(20, 9))
    >>> transformer = ModalityTransformer(
    ...     {"text": PCA(2)}, modalities={"image": slice(0, 3), "text": slice(3, 9)}
    ... )
    >>> transformer.fit_transform(X).shape
    (20, 5)
    >>> transformer.modalities_
    {'image': slice(0, 3, None), 'text': slice(3, 5, None)}
    >>> transformer.get_feature_names_out()
    array(['image__x0', 'image__x1', 'image__x2', 'text__pca0', 'text__pca1'],
          dtype=object)

    A table with text, of which the second row is missing:

    >>> import pandas as pd
    >>> from sklearn.preprocessing import OrdinalEncoder
    >>> table = pd.DataFrame({"t_sex": ["f", None, "m"], "t_age": [31, None, 50], "i_0": [4, 5, 6]})
    >>> ModalityTransformer(
    ...     {"t": OrdinalEncoder()}, modalities={"t": "t_", "i": "i_"}
    ... ).fit_transform(table)
    array([[ 0.,  0.,  4.],
           [nan, nan,  5.],
           [ 1.,  1.,  6.]])

    The nodes of a graph; directors are encoded by what was learned from movies:

    >>> from skmmg.graph import MultiModalGraph
    >>> graph = MultiModalGraph(
    ...     {"movie": {"text": X[:, 3:]}, "director": {"text": X[:5, 3:]}},
    ...     {("movie", "directed_by", "director"): [range(20), [i % 5 for i in range(20)]]},
    ... )
    >>> transformer = ModalityTransformer({"text": PCA(2)})
    >>> view = transformer.fit_transform(graph.nodes("movie")[:10])
    >>> view
    NodeView(10 of 20 'movie' nodes: text (2))
    >>> view.graph.x["director"]["text"].shape
    (5, 2)
    >>> fitted = transformer.transformers_
    >>> fitted["director", "text"] is fitted["movie", "text"]
    True

    Parameters inside, for one node type too:

    >>> ModalityTransformer({"text": PCA(), ("director", "text"): StandardScaler()}).set_params(
    ...     **{"text__n_components": 3, "director/text": "passthrough"}
    ... )
    ModalityTransformer(transformers={'text': PCA(n_components=3),
                                      ('director', 'text'): 'passthrough'})
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "transformers": [dict, HasMethods(["fit", "transform"]), StrOptions({"passthrough"})],
        "modalities": [dict, None],
        "remainder": [StrOptions({"passthrough", "drop"})],
        "setting": [StrOptions({"transductive", "inductive"})],
        "fit_on": [StrOptions({"target", "all", "each"})],
    }

    def __init__(
        self,
        transformers: Any,
        *,
        modalities: dict[str, Any] | None = None,
        remainder: str = "passthrough",
        setting: str = "transductive",
        fit_on: str = "target",
    ) -> None:
        self.transformers = transformers
        self.modalities = modalities
        self.remainder = remainder
        self.setting = setting
        self.fit_on = fit_on

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a copy of each transformer.

        Parameters
        ----------
        X : NodeView or matrix of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Given to the transformers of a 2-D ``X``; of a view, to those that are fitted on the
            nodes of the view alone.

        Returns
        -------
        self : ModalityTransformer
        """
        validate_params(self)
        check_none_masked(y, "y")
        self._forget()
        if isinstance(X, NodeView):
            check_no_columns(self.modalities)
            self._fit_view(X, y)
            self.transformers_: dict[Any, Any] = {
                pair: done.transformer for pair, done in self._fitted.items()
            }
            self.schema_ = X.schema
            self.feature_names_ = {t: dict(named) for t, named in X.graph.feature_names.items()}
            return self
        check_form(X)
        self._fit_columns(X, y)
        self.transformers_ = {m: done.transformer for (_, m), done in self._fitted.items()}
        kept = {m: done.template for (_, m), done in self._fitted.items() if done.is_kept}
        if not kept:
            raise ValueError(
                f"At least one modality must be kept, but {list(self.transformers_)} are all "
                f"dropped. Give one of them a transformer or 'passthrough'."
            )
        self.modalities_ = stack_modalities(kept)[1]
        return self

    def transform(self, X: Any) -> Any:
        """Transform each modality.

        Parameters
        ----------
        X : NodeView or matrix of shape (n_samples, n_features)
            Samples in the form that was given to ``fit``. A view may be of another graph with the
            same node types and modalities.

        Returns
        -------
        NodeView or matrix of shape (n_samples, n_features_out)
            A view of the same nodes in a new graph with the same edges, or a matrix, sparse if the
            output of one of the transformers is.
        """
        check_is_fitted(self)
        self._check_form(X)
        if isinstance(X, NodeView):
            self._check_modalities(X)
            return self._transform_once(X.graph).nodes(X.node_type, X.ids)
        return self._transform_columns(X)

    @available_if(_is_for_columns)
    def get_feature_names_out(
        self, input_features: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.object_]:
        """Name the columns of the output: ``image__`` and the name that the transformer gives.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of ``X``; those seen in ``fit``, or ``x0, x1, ...``, when None.

        Returns
        -------
        ndarray of str of shape (n_features_out,)
        """
        check_is_fitted(self)
        # Only for its check of input_features against what fit saw.
        names_in = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        names = [
            f"{modality}__{name.removeprefix(f'{modality}__')}"
            for (_, modality), done in self._fitted.items()
            if done.is_kept
            for name in done.names_out(names_in[self._columns[modality]])
        ]
        return np.asarray(names, dtype=object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with those of the transformers when `deep`.

        Parameters
        ----------
        deep : bool, default=True
            Also return the transformers and their parameters, by their keys.

        Returns
        -------
        dict
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        for name, transformer in self._by_name().items() if deep else ():
            params[name] = transformer
            if hasattr(transformer, "get_params") and not isinstance(transformer, type):
                inside = transformer.get_params(deep=True)
                params |= {f"{name}__{key}": value for key, value in inside.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, exchange transformers, or set the parameters of transformers.

        Parameters
        ----------
        **params : dict
            ``text__n_components=64``, ``text=PCA()``, or parameters of the constructor. Keys that
            are no Python names are given by ``set_params(**{"director/text": PCA()})``.

        Returns
        -------
        self : ModalityTransformer
        """
        if "transformers" in params:
            self.transformers = params.pop("transformers")
        exchanged = {name: params.pop(name) for name in self._by_name() if name in params}
        if exchanged:
            self.transformers = {
                key: exchanged.get(spell_key(key), transformer)
                for key, transformer in self.transformers.items()
            }
        super().set_params(**params)
        return self

    def __sklearn_tags__(self) -> Tags:
        """Say what all transformers can take, and whether one of them needs y."""
        tags = super().__sklearn_tags__()
        given = self.transformers
        values = given.values() if isinstance(given, dict) else [given]
        inner = [get_tags(value) for value in values if isinstance(value, BaseEstimator)]
        tags.input_tags.sparse = all(t.input_tags.sparse for t in inner)
        tags.input_tags.allow_nan = all(t.input_tags.allow_nan for t in inner)
        tags.target_tags.required = any(t.target_tags.required for t in inner)
        return tags

    def _by_name(self) -> dict[str, Any]:
        """Return the transformers of a dict by the names that get_params gives them."""
        given = self.transformers
        return {spell_key(k): t for k, t in given.items()} if isinstance(given, dict) else {}

    def _forget(self) -> None:
        """Remove what an earlier fit left, perhaps on the other form of X."""
        _LAST_GRAPH.pop(self, None)
        for name in [name for name in vars(self) if name.endswith("_") and name[0] != "_"]:
            delattr(self, name)

    def _fit_columns(self, X: Any, y: Any) -> None:
        """Fit a copy of the transformer of every modality of a 2-D X."""
        blocks, present = self._read_columns(X, reset=True)
        labels = None if y is None else np.asarray(y)
        check_consistent_length(X, labels)
        self._fitted: dict[Pair, FittedTransformer] = {}
        for name, block in blocks.items():
            pair, rows = (_ROW, name), np.flatnonzero(present[name])
            self._fitted[pair] = fit_rows(
                choose(self.transformers, pair, self.remainder),
                take_rows(block, rows),
                None if labels is None else labels[rows],
                [pair],
            )

    def _transform_columns(self, X: Any) -> Matrix:
        """Transform the modalities of a 2-D X, and put them side by side again."""
        x, present = self._read_columns(X, reset=False)
        for (row, name), done in self._fitted.items():
            if not done.is_kept:
                del x[name], present[name]
            elif done.changes_rows:
                x[name] = done.transform_rows(x[name], present[name], (row, name))
        # With masks, also where all rows lack a modality: in a batch of one, say.
        graph = MultiModalGraph({_ROW: x}, masks={_ROW: present})
        return stack_modalities(
            {m: fill_missing(out, graph.present(_ROW, m)) for m, out in graph.x[_ROW].items()}
        )[0]

    def _read_columns(self, X: Any, *, reset: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a matrix or table for each modality, and which of its rows are there."""
        was_mixed = not reset and bool(self._tables)
        is_mixed = was_mixed or (is_frame(X) and bool(find_text(X)))
        X = validate_data(
            self,
            X,
            reset=reset,
            skip_check_array=is_mixed,
            accept_sparse="csr",
            ensure_all_finite="allow-nan",
        )
        if reset:
            self._columns = self._resolve_modalities()
            self._tables: list[str] = self._find_tables(X) if is_mixed else []
        if is_mixed:
            blocks = read_blocks(X, self._columns, self._tables, is_fit=reset)
        else:
            parts = split_modalities(X, self._columns)
            blocks = {m: check_matrix(part, f"Modality {m!r}") for m, part in parts.items()}
        return blocks, {m: ~find_missing(block) for m, block in blocks.items()}

    def _find_tables(self, X: Any) -> list[str]:
        """Name the modalities of a data frame that hold text, and need not stay as they are."""
        return [
            name
            for name, columns in self._columns.items()
            if find_text(take_columns(X, columns))
            and choose(self.transformers, (_ROW, name), self.remainder) != "passthrough"
        ]

    def _resolve_modalities(self) -> Mapping[str, slice | npt.NDArray[np.intp]]:
        """Return the columns of each modality, and check that the transformers are for them."""
        columns: Mapping[str, slice | npt.NDArray[np.intp]] = {"x": slice(None)}
        if self.modalities is not None:
            names = getattr(self, "feature_names_in_", None)
            columns = resolve_columns(self.modalities, self.n_features_in_, names)
        schema = Schema({_ROW: dict.fromkeys(columns, 0)}, target=_ROW)
        check_transformers(self.transformers, schema, super().get_params(deep=False))
        return columns

    def _fit_view(self, X: NodeView, y: Any) -> None:
        """Fit every plan, and keep the result by node type and modality."""
        labels = None if y is None else np.asarray(y)
        check_consistent_length(X, labels)
        check_transformers(self.transformers, X.schema, super().get_params(deep=False))
        fitted: dict[Pair, FittedTransformer] = {}
        seen = there_before(X.graph, X.node_type, X.ids) if self.setting == "inductive" else None
        for plan in make_plans(X.graph, self.transformers, self.remainder, self.fit_on):
            done = plan.fit(X, labels, fit_on=self.fit_on, seen=seen)
            fitted |= dict.fromkeys(plan.pairs, done)
        self._fitted = {pair: fitted[pair] for pair in list_pairs(X.schema)}

    def _check_form(self, X: Any) -> None:
        """Let the form of X pass that fit was given."""
        check_form(X)
        is_view, was_view = isinstance(X, NodeView), hasattr(self, "schema_")
        if is_view == was_view:
            return
        form, hint = "a 2-D X", "Pass a matrix with the same columns."
        if was_view:
            form, hint = "a NodeView", f"Pass graph.nodes({self.schema_.target!r})."
        raise TypeError(
            f"{type(self).__name__} was fitted on {form}, and must be given one again, got "
            f"{type(X).__name__}. {hint}"
        )

    def _check_modalities(self, X: NodeView) -> None:
        """Let a view pass with the modalities and columns of fit; the edges do not matter here."""
        lines = Schema(self.schema_.node_types).diff(Schema(X.schema.node_types))
        lines += diff_names(self.feature_names_, X.graph.feature_names)
        if lines:
            raise ValueError(
                "\n".join(["Modalities passed to fit and to transform differ:", *lines])
            )

    def _transform_once(self, graph: MultiModalGraph) -> MultiModalGraph:
        """Transform a graph, unless it is the one that was transformed last."""
        last = _LAST_GRAPH.get(self)
        if last is None or graph not in last:
            last = WeakKeyDictionary({graph: transform_graph(graph, self._fitted)})
            _LAST_GRAPH[self] = last
        return last[graph]
