"""MultiModalGraph: nodes with several matrices of features, and the relations between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, NoReturn, Self, TypeVar

import numpy as np
import numpy.typing as npt

from skmmg.graph._describe import (
    GraphDescription,
    describe_graph,
    describe_graph_html,
    describe_in_full,
)
from skmmg.graph._exchange import Exchange
from skmmg.graph._extend import extend
from skmmg.graph._payload import (
    Features,
    Matrix,
    Names,
    Payload,
    find_missing_rows,
    freeze,
    restrict,
)
from skmmg.graph._relations import add_reverse_relations, check_edges
from skmmg.graph._schema import EdgeType, Schema
from skmmg.graph._validation import (
    by_type,
    check_ids,
    check_mapping,
    check_masks,
    check_matrices,
    check_modality,
    check_node_type,
    check_nodes,
    describe_modality,
)
from skmmg.graph._view import NodeView

V = TypeVar("V")


class MultiModalGraph(Exchange):
    """A heterogeneous graph whose nodes carry any number of matrices. Immutable; holds no labels.

    Parameters
    ----------
    nodes : dict
        ``{node type: {modality: matrix}}``, or ``{modality: matrix}`` for a graph with one node
        type, which is then called ``"node"``. A matrix has shape (n_nodes, n_features_m) and is an
        ndarray, a memory map, a scipy sparse matrix, a DataFrame or an array-like of bool, integers
        or floats of up to 64 bits. It is kept as given: no copy, no other dtype, and sparse stays
        sparse; so it must not be changed in place afterwards, see the notes. A node type without
        features is given as a count instead of a dict. A row of NaN in a dense matrix means that
        the node lacks the modality.
    edges : dict or None, default=None
        ``{(source type, relation, destination type): edges}``; with one node type the name of the
        relation is enough. Edges are a scipy sparse matrix of shape (n_sources, n_destinations),
        ids of shape (2, n_edges), or a DataFrame with two columns of ids. Values of a sparse matrix
        other than 1 become edge weights, stored zeros are dropped. Repeated edges and self-loops
        are kept.
    masks : dict or None, default=None
        ``{node type: {modality: mask}}`` with boolean masks of shape (n_nodes,), True where the
        node has the modality. A sparse matrix needs one where nodes lack it; for a dense one the
        mask and the rows of NaN are combined.
    add_reverse : bool, default=True
        Add ``(destination type, "rev_" + relation, source type)`` for every relation whose exact
        reverse is not among the relations.

    Attributes
    ----------
    node_types : tuple of str
    edge_types : tuple of (str, str, str)
        Reverse relations come last.
    n_nodes : mapping of str to int
    x : mapping of str to mapping of str to ndarray or csr_array
        The matrices, as read-only views. Nodes without features have an empty mapping.
    masks : mapping of str to mapping of str to ndarray of bool
        Only what was given as a mask; see :meth:`present`.
    edge_index : mapping of (str, str, str) to ndarray of int64, shape (2, n_edges)
        Ids of sources and destinations, read-only.
    edge_weight : mapping of (str, str, str) to ndarray of float32, shape (n_edges,)
        Only relations that have weights.
    feature_names : mapping of str to mapping of str to tuple of str
        Column names of the matrices that were data frames with named columns.
    schema : Schema
        Names and widths, without the data.

    Raises
    ------
    TypeError, ValueError
        If names, shapes, dtypes or ids do not fit together; the message tells what to do.

    Notes
    -----
    The graph shares the memory of the matrices that it was given, and what is computed from them
    (tensors, statistics, missing rows) is kept as long as the graph. If you change such a matrix
    in place, some calls will see the old numbers and others the new ones. Change a copy instead,
    and make a graph of it by :meth:`with_features`, which costs nothing else. Edges and masks are
    copied.

    Whether a relation of a type onto itself needs a reverse depends on its edges: one with
    symmetric edges, or with none, is its own reverse. Where a graph has to match the schema of
    another one, give the reverse relation too, under the name it has there.

    Infinite values, and modalities that no node has, are found by :meth:`present`, not here:
    a memory-mapped matrix is not read before it is needed.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from skmmg.graph import MultiModalGraph
    >>> overview = sparse.random_array((3, 50), density=0.1, rng=0)
    >>> poster = np.array([[0.1, 0.9], [np.nan, np.nan], [0.5, 0.5]])
    >>> graph = MultiModalGraph(
    ...     nodes={"movie": {"overview": overview, "poster": poster}, "actor": 4},
    ...     edges={("movie", "stars", "actor"): [[0, 0, 1, 2], [0, 1, 1, 3]]},
    ... )
    >>> graph
    MultiModalGraph(
      movie: 3 nodes, overview (50, sparse), poster (2)
      actor: 4 nodes
      movie -stars-> actor: 4 edges
      actor -rev_stars-> movie: 4 edges
    )
    >>> graph.present("movie", "poster")
    array([ True, False,  True])
    >>> X = graph.nodes("movie")
    >>> X[:2]
    NodeView(2 of 3 'movie' nodes: overview (50, sparse), poster (2))
    """

    __slots__ = (
        "__weakref__",
        "_feature_names",
        "_masks",
        "_missing",
        "_payload",
        "_schema",
        "_x",
    )
    _payload: Payload
    _x: Mapping[str, Mapping[str, Matrix]]
    _masks: Mapping[str, Mapping[str, npt.NDArray[np.bool_]]]
    _feature_names: Mapping[str, Mapping[str, tuple[str, ...]]]
    _schema: Schema
    _missing: dict[tuple[str, str], tuple[npt.NDArray[np.bool_], int]]

    def __init__(
        self,
        nodes: Mapping[str, Any],
        edges: Mapping[Any, Any] | None = None,
        *,
        masks: Mapping[str, Any] | None = None,
        add_reverse: bool = True,
    ) -> None:
        x, n_nodes, names = check_nodes(nodes)
        index, weight = check_edges(edges, n_nodes)
        if add_reverse:
            add_reverse_relations(index, weight)
        self._fill(Payload(x, n_nodes, names, check_masks(masks, x, n_nodes), index, weight))

    def _fill(self, payload: Payload) -> None:
        """Set everything, once."""
        widths = {t: {m: int(a.shape[1]) for m, a in ms.items()} for t, ms in payload.x.items()}
        values = {
            "_payload": payload,
            "_x": _read_only(payload.x),
            "_masks": _read_only(payload.masks),
            "_feature_names": _read_only(payload.feature_names),
            "_schema": Schema(widths, tuple(payload.edge_index)),
            "_missing": {},
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _from_payload(cls, payload: Payload) -> Self:
        """Build a graph from checked parts."""
        graph = cls.__new__(cls)
        graph._fill(payload)
        return graph

    @property
    def node_types(self) -> tuple[str, ...]:
        """Names of the node types, in the order given."""
        return tuple(self._payload.n_nodes)

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """Edge types in the order given, then the reverse ones that were added."""
        return tuple(self._payload.edge_index)

    @property
    def n_nodes(self) -> Mapping[str, int]:
        """Number of nodes of each type."""
        return MappingProxyType(self._payload.n_nodes)

    @property
    def x(self) -> Mapping[str, Mapping[str, Matrix]]:
        """Matrices of each node type and modality."""
        return self._x

    @property
    def masks(self) -> Mapping[str, Mapping[str, npt.NDArray[np.bool_]]]:
        """Presence masks as given."""
        return self._masks

    @property
    def edge_index(self) -> Mapping[EdgeType, npt.NDArray[np.int64]]:
        """Source and destination ids of each edge type."""
        return MappingProxyType(self._payload.edge_index)

    @property
    def edge_weight(self) -> Mapping[EdgeType, npt.NDArray[np.float32]]:
        """Weights of the edge types that have them."""
        return MappingProxyType(self._payload.edge_weight)

    @property
    def feature_names(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """Column names of the modalities that were data frames."""
        return self._feature_names

    @property
    def schema(self) -> Schema:
        """Names and widths of the graph."""
        return self._schema

    def present(self, node_type: str, modality: str) -> npt.NDArray[np.bool_]:
        """Tell which nodes of a type have a modality.

        Parameters
        ----------
        node_type : str
            A node type of the graph.
        modality : str
            A modality of that node type.

        Returns
        -------
        ndarray of bool, shape (n_nodes,)
            False where the row is nothing but NaN, or the mask is False. Read-only.

        Raises
        ------
        ValueError
            If a value is infinite, or if no node has the modality although no mask says so. A part
            of a graph (:meth:`induced`, :meth:`subgraph`) may lack a modality altogether.
        """
        missing, infinite_row = self._find_missing(node_type, modality)
        where = describe_modality(node_type, modality)
        if infinite_row >= 0:
            raise ValueError(
                f"{where} must hold finite numbers or NaN, got an infinite value in row "
                f"{infinite_row}. Replace it by a number, or by NaN if it is not known."
            )
        mask = self._payload.masks.get(node_type, {}).get(modality)
        if missing.size and missing.all() and mask is None and not self._payload.is_part:
            raise ValueError(
                f"{where} must have a row for some node, got NaN in all {missing.size} rows. "
                f"Check how the rows were joined, or leave the modality out; if new nodes all lack "
                f"it, say so with masks={{{node_type!r}: {{{modality!r}: np.zeros({missing.size}, "
                f"dtype=bool)}}}}."
            )
        present = ~missing if mask is None else mask & ~missing
        present.setflags(write=False)
        return present

    def _find_missing(self, node_type: str, modality: str) -> tuple[npt.NDArray[np.bool_], int]:
        """Find rows of NaN and the first infinite row, once per matrix."""
        check_node_type(node_type, self._x)
        check_modality(node_type, modality, self._x[node_type])
        key = node_type, modality
        if key not in self._missing:
            self._missing[key] = find_missing_rows(self._x[node_type][modality])
        return self._missing[key]

    def nodes(
        self, node_type: str | None = None, ids: npt.ArrayLike | slice | None = None
    ) -> NodeView:
        """Return a view of some nodes of one type, for use as ``X``.

        Parameters
        ----------
        node_type : str or None, default=None
            The type of the nodes; may be left out where there is one.
        ids : array-like of int or bool, slice or None, default=None
            Node ids, a mask over all nodes of the type, a slice, or None for all.

        Returns
        -------
        NodeView
        """
        return NodeView(self, self._only_type(node_type), ids)

    def _only_type(self, node_type: str | None) -> str:
        """Return the node type, or the only one there is."""
        if node_type is None and len(self.node_types) > 1:
            raise ValueError(
                f"node_type must be one of {list(self.node_types)}, got None. Say which nodes are "
                f"meant: graph.nodes({self.node_types[0]!r})."
            )
        name = self.node_types[0] if node_type is None else node_type
        return check_node_type(name, self.node_types)

    def with_features(self, x: Mapping[str, Any], masks: Mapping[str, Any] | None = None) -> Self:
        """Return a graph with the same nodes and edges and other matrices.

        Parameters
        ----------
        x : dict
            ``{node type: {modality: matrix}}``, or ``{modality: matrix}`` where there is one node
            type. A type that is named gets these modalities and no others; types that are not named
            keep theirs.
        masks : dict or None, default=None
            Presence masks as in the constructor. A modality that has a mask in this graph and is
            not named here keeps it.

        Returns
        -------
        MultiModalGraph
            The arrays of ids are shared with this graph.

        Examples
        --------
        Permute a column of one modality, and keep the others:

        >>> import numpy as np
        >>> from skmmg.graph import MultiModalGraph
        >>> graph = MultiModalGraph({"movie": {"poster": np.eye(3), "year": np.ones((3, 1))}})
        >>> poster = graph.x["movie"]["poster"].copy()
        >>> poster[:, 0] = poster[[2, 0, 1], 0]
        >>> other = graph.with_features({"movie": {**graph.x["movie"], "poster": poster}})
        >>> other.x["movie"]["poster"][:, 0], graph.x["movie"]["poster"][:, 0]
        (array([0., 1., 0.]), array([1., 0., 0.]))
        """
        check_mapping(x, "x must be a dict {type: {modality: matrix}}")
        payload = self._payload
        features: Features = dict(payload.x)
        names: Names = dict(payload.feature_names)
        given_by_type = by_type(x, self.node_types[0]) if len(self.node_types) == 1 else x
        for node_type, given in given_by_type.items():
            check_node_type(node_type, self.node_types)
            check_mapping(given, f"The features of node type {node_type!r} must be a dict")
            features[node_type], names[node_type] = check_matrices(node_type, given)
            self._check_rows(node_type, features[node_type])
        kept = {
            t: {m: mask for m, mask in ms.items() if m in features[t]}
            for t, ms in payload.masks.items()
        }
        for node_type, given in check_masks(masks, features, payload.n_nodes).items():
            kept[node_type] = {**kept.get(node_type, {}), **given}
        return self._from_payload(replace(payload, x=features, feature_names=names, masks=kept))

    def _check_rows(self, node_type: str, matrices: Mapping[str, Matrix]) -> None:
        """Let matrices with one row per node of the graph pass."""
        n_nodes = self.n_nodes[node_type]
        wrong = {m: a.shape[0] for m, a in matrices.items() if a.shape[0] != n_nodes}
        if wrong:
            raise ValueError(
                f"All modalities of node type {node_type!r} must have one row per node, {n_nodes}, "
                f"got {wrong} rows. Reindex them to the nodes of the graph; a missing row is a row "
                f"of NaN."
            )

    def induced(self, node_type: str, ids: npt.ArrayLike) -> tuple[Self, npt.NDArray[np.int64]]:
        """Keep some nodes of one type, all nodes of the others, and the edges between them.

        Parameters
        ----------
        node_type : str
            The type that is cut.
        ids : array-like of int or bool
            The nodes to keep, in any order, or a mask over all nodes of the type.

        Returns
        -------
        graph : MultiModalGraph
            The kept nodes are in the order of their ids. Node types and edge types are those of
            this graph, whatever is left of them.
        new_ids : ndarray of int64, shape (len(ids),)
            Where each of `ids` is in the new graph.
        """
        check_node_type(node_type, self.node_types)
        selected = check_ids(ids, self.n_nodes[node_type], node_type)
        kept = np.unique(selected)
        return self.subgraph({node_type: kept}), np.searchsorted(kept, selected)

    def subgraph(self, ids: Mapping[str, npt.ArrayLike]) -> Self:
        """Keep some nodes of some types, and the edges between kept nodes.

        Parameters
        ----------
        ids : dict
            ``{node type: ids or mask}``. Types that are not named keep all of their nodes.

        Returns
        -------
        MultiModalGraph
            The kept nodes are in the order of their ids, each once.
        """
        kept: dict[str, npt.NDArray[np.int64]] = {}
        for node_type, selected in check_mapping(ids, "ids must be a dict {type: ids}").items():
            check_node_type(node_type, self.node_types)
            kept[node_type] = np.unique(check_ids(selected, self.n_nodes[node_type], node_type))
        part = self._from_payload(restrict(self._payload, kept))
        for (node_type, modality), (missing, infinite_row) in self._missing.items():
            if infinite_row < 0:
                rows = missing[kept[node_type]] if node_type in kept else missing
                part._missing[node_type, modality] = rows, -1
        return part

    def extend(
        self,
        nodes: Mapping[str, Any],
        edges: Mapping[Any, Any] | None = None,
        *,
        masks: Mapping[str, Any] | None = None,
        add_reverse: bool = True,
    ) -> Self:
        """Return a graph with new nodes behind those of this one, and new edges.

        The nodes of this graph keep their ids, and the first new node of a type has the id
        ``graph.n_nodes[type]``.

        Parameters
        ----------
        nodes : dict
            ``{node type: {modality: matrix}}`` with the rows of the new nodes, or ``{node type:
            count}``; ``{modality: matrix}`` where there is one node type. New nodes lack a modality
            that is left out. An empty dict adds edges alone.
        edges : dict or None, default=None
            ``{(source type, relation, destination type): edges}``, in any form that the constructor
            takes, between nodes of the new graph. Relations are those of this graph. Edges from a
            sparse matrix have its values as weights; others have weight 1 where there are weights.
        masks : dict or None, default=None
            Presence masks of the new nodes.
        add_reverse : bool, default=True
            Add the reverse of every new edge to the relation that is the exact reverse of its own
            and is not in `edges`. A relation that is its own reverse gets those reverses that are
            not among its new edges.

        Returns
        -------
        MultiModalGraph
            With the schema of this graph. Matrices of the types that get new nodes are copied,
            memory maps into memory; they keep their dtype where it can hold the new rows.

        Raises
        ------
        TypeError, ValueError
            If there are node types, modalities, columns or relations that this graph does not have,
            or as in the constructor.

        Notes
        -----
        Tables with ids of their own (:meth:`from_pandas`) are easier to put together in pandas:
        ``pd.concat([old, new])`` for the nodes of each type and the edges of each relation.

        Examples
        --------
        A film that is new, with an actor who is known and one who is not:

        >>> import numpy as np
        >>> from skmmg.graph import MultiModalGraph
        >>> stars = ("movie", "stars", "actor")
        >>> graph = MultiModalGraph(
        ...     {"movie": {"poster": np.eye(3), "year": np.ones((3, 1))}, "actor": 2},
        ...     {stars: [[0, 1, 2], [0, 0, 1]]},
        ... )
        >>> grown = graph.extend(
        ...     {"movie": {"poster": [[0.2, 0.3, 0.5]]}, "actor": 1}, {stars: [[3, 3], [1, 2]]}
        ... )
        >>> grown
        MultiModalGraph(
          movie: 4 nodes, poster (3), year (1)
          actor: 3 nodes
          movie -stars-> actor: 5 edges
          actor -rev_stars-> movie: 5 edges
        )
        >>> grown.nodes("movie", slice(3, None))  # the new film, as X of predict
        NodeView(1 of 4 'movie' nodes: poster (3), year (1))
        """
        payload = extend(self._payload, nodes, edges, masks, add_reverse=add_reverse)
        return self._from_payload(payload)

    def describe(self) -> GraphDescription:
        """Count nodes, widths, missing rows, edges, duplicates, self-loops and degrees.

        Returns
        -------
        GraphDescription
            Two data frames, ``nodes`` and ``relations``, that print as tables.
        """
        return describe_in_full(self)

    def __repr__(self) -> str:
        return describe_graph(self)

    def _repr_html_(self) -> str:
        return describe_graph_html(self)

    def __sklearn_clone__(self) -> Self:
        return self

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(
            f"A MultiModalGraph cannot be changed, so {name!r} cannot be set. Use with_features, "
            f"extend, subgraph, or make another graph."
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"A MultiModalGraph cannot be changed, so {name!r} cannot be deleted.")

    def __getstate__(self) -> dict[str, Any]:
        # What was found out about missing rows is left out: the state of a graph never changes.
        return {field.name: getattr(self._payload, field.name) for field in fields(Payload)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        payload = Payload(**state)
        for name in ("x", "masks"):
            state[name] = {
                t: {m: freeze(a) for m, a in arrays.items()}
                for t, arrays in getattr(payload, name).items()
            }
        for name in ("edge_index", "edge_weight"):
            state[name] = {e: freeze(array) for e, array in getattr(payload, name).items()}
        self._fill(Payload(**state))


def _read_only(values: Mapping[str, Mapping[str, V]]) -> Mapping[str, Mapping[str, V]]:
    """Wrap a dict of dicts in read-only mappings."""
    return MappingProxyType({name: MappingProxyType(dict(v)) for name, v in values.items()})
