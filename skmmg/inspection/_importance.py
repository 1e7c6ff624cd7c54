"""Permutation importance of whole modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import check_scoring
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, check_scalar

from skmmg.graph import MultiModalGraph, NodeView
from skmmg.graph._modalities import Columns, column_names, resolve_columns
from skmmg.graph._payload import freeze, lock
from skmmg.graph._validation import check_unmasked, is_frame

Shuffle = Callable[[np.random.RandomState], Any]


def modality_importance(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    modalities: Mapping[str, Columns] | None = None,
    scoring: Any = None,
    n_repeats: int = 5,
    random_state: Any = None,
) -> pd.DataFrame:
    """How much worse a fitted estimator scores when a modality belongs to the wrong samples.

    As scikit-learn's ``permutation_importance``, which shuffles single columns; here all columns of
    a modality are shuffled together, and with them which samples lack it.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted. A retriever too: its `score` is what is asked for.
    X : NodeView, or array-like of shape (n_samples, n_features)
        Held-out nodes or rows. Of a view, the modalities of all node types are shuffled, each among
        all nodes of its type.
    y : array-like of shape (n_samples,), default=None
        What the scorer needs.
    modalities : dict or None, default=None
        Columns of every modality of a 2-D X, as in the estimator; None takes the estimator's. For
        views it has to be None.
    scoring : str, callable or None, default=None
        As in scikit-learn; None is the estimator's `score`.
    n_repeats : int, default=5
        How often each modality is shuffled.
    random_state : int, RandomState or None, default=None
        Seed of the shuffles.

    Returns
    -------
    pandas.DataFrame of shape (n_repeats, n_modalities)
        Score on X as it is minus score on X with the modality shuffled. For views the columns are
        pairs (node type, modality). ``.mean()`` and ``.std()`` sum it up.

    Raises
    ------
    TypeError, ValueError
        If parameters do not fit together, or the scorer gives more than a number.

    Notes
    -----
    Where two modalities tell the same, the score may survive the loss of either: both then look
    unimportant, and together they are not. The matrices of a view are read into memory as they are
    shuffled, memory maps too.

    References
    ----------
    Breiman, Random forests, Machine Learning 45, 2001, section 10; changed as said above.

    Examples
    --------
    The label follows the text; the image is noise:

    >>> import numpy as np
    >>> from skmmg import MultiModalGraph, MultiModalGraphClassifier
    >>> from skmmg.inspection import modality_importance
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(100) % 2
    >>> text, image = rng.normal(size=(2, 100, 4))
    >>> text += 2 * y[:, None]
    >>> X = MultiModalGraph({"text": text, "image": image}).nodes()
    >>> clf = MultiModalGraphClassifier("mlp", max_epochs=30, random_state=0).fit(X[:60], y[:60])
    >>> modality_importance(clf, X[60:], y[60:], random_state=0).mean().idxmax()
    ('node', 'text')
    """
    check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
    scorer = check_scoring(estimator, scoring)
    random = check_random_state(random_state)
    given = () if y is None else (y,)

    def score(values: Any) -> float:
        value = scorer(estimator, values, *given)
        if not isinstance(value, Real):
            raise TypeError(
                f"scoring must give one number, got {type(value).__name__}. Ask for one metric at "
                "a time."
            )
        return float(value)

    shuffles = dict(_shuffles(estimator, X, modalities))
    as_it_is = score(X)
    drops = {
        key: [as_it_is - score(shuffle(random)) for _ in range(n_repeats)]
        for key, shuffle in shuffles.items()
    }
    names = ["node_type", "modality"] if isinstance(X, NodeView) else ["modality"]
    return pd.DataFrame(drops).rename_axis(index="repeat").rename_axis(columns=names)


def _shuffles(
    estimator: Any, X: Any, modalities: Mapping[str, Columns] | None
) -> Iterator[tuple[Any, Shuffle]]:
    """For every modality its name, and what gives X with the modality shuffled."""
    if not isinstance(X, NodeView):
        return _shuffle_rows(X, _columns_of(estimator, modalities))
    if modalities is not None:
        raise ValueError(
            "modalities are columns of a 2-D X; a view has modalities of its own, so modalities "
            f"must be None, got {modalities!r}."
        )
    return _shuffle_graph(X)


def _columns_of(estimator: Any, modalities: Mapping[str, Columns] | None) -> Mapping[str, Columns]:
    """The given columns, or those of the estimator, or of the last step of a pipeline."""
    if modalities is not None:
        return modalities
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    columns = getattr(last, "modalities", None)
    if columns is None or (last is not estimator and len(estimator) > 1):
        raise ValueError(
            "modalities must name the columns of every modality of X, got None, and the estimator "
            "does not say them: write modalities={'text': slice(0, 300), 'image': slice(300, 812)}."
        )
    return columns


def _shuffle_graph(X: NodeView) -> Iterator[tuple[tuple[str, str], Shuffle]]:
    """For every node type and modality, what gives the view with its rows in another order."""
    for node_type, matrices in X.graph.x.items():
        for modality in matrices:

            def shuffle(
                random: np.random.RandomState, node_type: str = node_type, modality: str = modality
            ) -> NodeView:
                order = random.permutation(X.graph.n_nodes[node_type])
                return NodeView(_reorder(X.graph, node_type, modality, order), X.node_type, X.ids)

            yield (node_type, modality), shuffle


def _reorder(
    graph: MultiModalGraph, node_type: str, modality: str, order: np.ndarray
) -> MultiModalGraph:
    """The graph with the rows of one matrix in another order; names of columns stay."""
    payload = graph._payload
    rows = freeze(payload.x[node_type][modality][order])
    x = {**payload.x, node_type: {**payload.x[node_type], modality: rows}}
    masks = payload.masks
    if modality in masks.get(node_type, {}):
        mask = lock(masks[node_type][modality][order])
        masks = {**masks, node_type: {**masks[node_type], modality: mask}}
    return graph._from_payload(replace(payload, x=x, masks=masks))


def _shuffle_rows(X: Any, modalities: Mapping[str, Columns]) -> Iterator[tuple[str, Shuffle]]:
    """For every modality, what gives X with the rows of its columns in another order."""
    check_unmasked(X, "X")
    if not is_frame(X) and not sparse.issparse(X):
        X = np.asarray(X)
    if len(X.shape) != 2:
        raise ValueError(f"X must be a NodeView or 2-D, got shape {X.shape}.")
    n_features = X.shape[1]
    names = column_names(X) if is_frame(X) else None
    for modality, columns in resolve_columns(modalities, n_features, names).items():
        taken = np.zeros(n_features, dtype=bool)
        taken[columns] = True

        def shuffle(random: np.random.RandomState, taken: np.ndarray = taken) -> Any:
            return _reorder_columns(X, taken, random.permutation(X.shape[0]))

        yield modality, shuffle


def _reorder_columns(X: Any, taken: np.ndarray, order: np.ndarray) -> Any:
    """A copy of X with the rows of some columns in another order; its form stays."""
    if isinstance(X, pd.DataFrame):
        shuffled: Any = X.iloc[order].set_axis(X.index)
        copy = X.copy()
        for column in np.flatnonzero(taken).tolist():
            copy.isetitem(column, shuffled.iloc[:, column])
        return copy
    if is_frame(X):  # of polars
        return X.with_columns(X[:, np.flatnonzero(taken).tolist()][order.tolist()].get_columns())
    if isinstance(X, np.ndarray):
        return np.where(taken, X[order], X)
    rows = sparse.csr_array(X)
    both: Any = sparse.hstack([rows, rows[order]], format="csc")
    positions = np.arange(len(taken))
    return both[:, np.where(taken, len(taken) + positions, positions)].tocsr()
