"""NodeView: some nodes of one type of a graph, usable as X."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np
import numpy.typing as npt
from scipy import sparse

from skmmg.graph._describe import describe_view, describe_view_html
from skmmg.graph._validation import check_ids, check_node_type

if TYPE_CHECKING:
    from skmmg.graph._graph import MultiModalGraph
    from skmmg.graph._schema import Schema

_NOT_A_MATRIX = (
    "This step needs a 2-D X, one column per feature, got a NodeView, whose rows are nodes of a "
    "graph. If it scales, imputes or reduces features, write ModalityTransformer(step), which does "
    "so in each modality and gives a view again. If it learns from rows of numbers, put "
    "NodeEmbedder() before it, which makes the nodes such rows: "
    "make_pipeline(NodeEmbedder(), step). If it hands columns to an estimator of "
    "skmmg, as BaggingClassifier, OneVsOneClassifier and permutation_importance do, take a tool "
    "that selects samples alone, such as VotingClassifier or OneVsRestClassifier; columns are "
    "permuted by graph.with_features. Views of one graph are joined by graph.nodes(type, ids)."
)
_NOT_A_KEY = (
    "A NodeView is indexed by positions (integers), a boolean mask or a slice, got {}. Nodes of "
    "another type are graph.nodes(type), the features of a modality graph.x[type][modality]."
)


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False, weakref_slot=True)
class NodeView:
    """Some nodes of one type of one graph: the ``X`` of an estimator.

    ``len`` and slicing act on the nodes, the graph stays whole: a slice is a focus, not a cut.
    Get one from :meth:`MultiModalGraph.nodes`.

    Parameters
    ----------
    graph : MultiModalGraph
        The graph, shared by all of its views.
    node_type : str
        The type of the nodes.
    ids : array-like of int or bool, slice or None, default=None
        The nodes, in the order given and repeated as given; None stands for all.

    Attributes
    ----------
    graph : MultiModalGraph
        The whole graph.
    node_type : str
        The type of the nodes.
    ids : ndarray of int64, shape (n_samples,)
        Ids of the nodes, read-only.

    Raises
    ------
    ValueError
        If the graph has no such node type, or no node with one of the ids.

    Notes
    -----
    scikit-learn's splitters, searches, pipelines and meta-estimators take a view as they take an
    array. Tools that need columns raise a TypeError that says to put them into a
    ModalityTransformer or behind a NodeEmbedder, or what to take instead where they hold an
    estimator of skmmg (Bagging, OneVsOne, permutation_importance, ...). So does all of scikit-learn
    with ``SCIPY_ARRAY_API`` dispatch switched on.

    Examples
    --------
    >>> import numpy as np
    >>> from skmmg.graph import MultiModalGraph
    >>> graph = MultiModalGraph({"movie": {"text": np.eye(4)}, "actor": 2})
    >>> X = graph.nodes("movie")
    >>> X.shape
    (4,)
    >>> X[[3, 1]].ids
    array([3, 1])
    >>> X[X.ids > 1]
    NodeView(2 of 4 'movie' nodes: text (4))
    >>> X[0]
    {'text': array([1., 0., 0., 0.])}
    """

    graph: MultiModalGraph
    node_type: str
    ids: npt.NDArray[np.int64]

    def __init__(
        self, graph: MultiModalGraph, node_type: str, ids: npt.ArrayLike | slice | None = None
    ) -> None:
        check_node_type(node_type, graph.node_types)
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "node_type", node_type)
        object.__setattr__(self, "ids", check_ids(ids, graph.n_nodes[node_type], node_type))

    @property
    def shape(self) -> tuple[int]:
        """Number of nodes, as a tuple of one number."""
        return (len(self.ids),)

    @property
    def schema(self) -> Schema:
        """Schema of the graph, with this view's node type as its target."""
        return replace(self.graph.schema, target=self.node_type)

    def present(self, modality: str) -> npt.NDArray[np.bool_]:
        """Tell which nodes of the view have a modality.

        Parameters
        ----------
        modality : str
            A modality of the view's node type.

        Returns
        -------
        ndarray of bool, shape (n_samples,)
            False where the node's row is nothing but NaN, or its mask is False.
        """
        return self.graph.present(self.node_type, modality)[self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, key: Any) -> NodeView: ...

    def __getitem__(self, key: Any) -> NodeView | dict[str, Any]:
        # scikit-learn writes X[key, ...]
        key = _drop_whole_axes(key)
        if isinstance(key, slice):
            return NodeView(self.graph, self.node_type, self.ids[key])
        positions = np.asarray(key)
        if positions.ndim == 0:
            return self._record(key)
        return NodeView(self.graph, self.node_type, self.ids[self._check_positions(positions)])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._record, range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise TypeError(_NOT_A_MATRIX)

    def __reduce__(self) -> tuple[Any, ...]:
        return NodeView, (self.graph, self.node_type, self.ids)

    def __repr__(self) -> str:
        return describe_view(self)

    def _repr_html_(self) -> str:
        return describe_view_html(self)

    def _record(self, key: Any) -> dict[str, Any]:
        """Return one node's rows: 1-D arrays, or CSR arrays with one row."""
        if isinstance(key, (bool, np.bool_)):
            raise TypeError(_NOT_A_KEY.format(repr(key)))
        try:
            position = operator.index(key)
        except TypeError:
            raise TypeError(_NOT_A_KEY.format(repr(key))) from None
        if not -len(self) <= position < len(self):
            raise IndexError(
                f"Position {position} is out of range: the view has {len(self)} nodes."
            )
        row = int(self.ids[position])
        matrices = self.graph.x[self.node_type]
        return {m: x[[row]] if sparse.issparse(x) else x[row] for m, x in matrices.items()}

    def _check_positions(self, positions: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Check an array of positions in the view, or a mask over it."""
        if positions.ndim > 1 or (positions.size and positions.dtype.kind not in "biu"):
            what = f"an array of shape {positions.shape} and dtype {positions.dtype}"
            raise TypeError(_NOT_A_KEY.format(what))
        if positions.dtype == np.bool_ and len(positions) != len(self):
            raise IndexError(
                f"A mask must have one value per node of the view, {len(self)}, got "
                f"{len(positions)}."
            )
        if not positions.size:
            return positions.astype(np.intp)
        if positions.dtype != np.bool_ and not (
            -len(self) <= positions.min() and int(positions.max()) < len(self)
        ):
            raise IndexError(
                f"Positions must be below the number of nodes of the view, {len(self)}, got "
                f"{positions.min()} to {positions.max()}."
            )
        return positions


def _drop_whole_axes(key: Any) -> Any:
    """Reduce a key to its only axis, the nodes; anything said about columns is an error."""
    if isinstance(key, EllipsisType):
        return slice(None)
    if not isinstance(key, tuple):
        return key
    if len(key) > 1 and all(isinstance(part, (int, np.integer)) for part in key):
        raise TypeError(_NOT_A_KEY.format(key) + f" Several positions are a list: X[{[*key]}].")
    whole = [part is Ellipsis or (isinstance(part, slice) and part == slice(None)) for part in key]
    if not key or not all(whole[1:]):
        raise TypeError(_NOT_A_MATRIX)
    return slice(None) if key[0] is Ellipsis else key[0]
