"""The methods of MultiModalGraph that lead in from other packages and out to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from torch_geometric.data import HeteroData

    from skmmg.graph._convert import Modalities
    from skmmg.graph._graph import MultiModalGraph
    from skmmg.graph._modalities import Columns


class Exchange:
    """Conversions. What they need of other packages is imported when one is called."""

    __slots__ = ()

    @classmethod
    def from_hetero_data(
        cls, data: HeteroData, modalities: Modalities | None = None, *, add_reverse: bool = True
    ) -> MultiModalGraph:
        """Read the nodes, features and edges of a PyTorch Geometric ``HeteroData``.

        Parameters
        ----------
        data : torch_geometric.data.HeteroData
            Dense features are not copied.
        modalities : sequence of str or mapping of str to sequence of str, default=None
            The attributes that are modalities, for all node types or for each. With None: every
            two-dimensional tensor of bool, integers or floats with one row per node, dense or
            sparse, under its own name, but for what PyG keeps beside features (``y``, ``batch``,
            ``..._mask`` and the like). A boolean vector ``<modality>_present`` is its mask.
        add_reverse : bool, default=True
            See :class:`MultiModalGraph`.

        Returns
        -------
        MultiModalGraph
            ``edge_weight``, or else an ``edge_attr`` with one column, gives the weights; an edge of
            weight 0 is no edge. Labels stay in `data`.

        Raises
        ------
        TypeError
            If `data` is no ``HeteroData``.
        ValueError
            If the number of nodes of a type cannot be told, an edge type has no ``edge_index`` or
            an ``edge_attr`` with several columns and no ``edge_weight``, or a modality that is
            asked for is not there.

        Examples
        --------
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from skmmg.graph import MultiModalGraph
        >>> data = HeteroData()
        >>> data["movie"].poster = torch.rand(3, 8)
        >>> data["actor"].num_nodes = 2
        >>> data["movie", "stars", "actor"].edge_index = torch.tensor([[0, 1, 2], [0, 0, 1]])
        >>> MultiModalGraph.from_hetero_data(data)
        MultiModalGraph(
          movie: 3 nodes, poster (8)
          actor: 2 nodes
          movie -stars-> actor: 3 edges
          actor -rev_stars-> movie: 3 edges
        )
        """
        from skmmg.graph._convert import from_hetero_data

        return from_hetero_data(data, modalities, add_reverse=add_reverse)

    def to_hetero_data(self) -> HeteroData:
        """Copy the graph into a PyTorch Geometric ``HeteroData``.

        Returns
        -------
        torch_geometric.data.HeteroData
            Each modality is an attribute of its node type, a sparse one as a tensor of layout
            ``torch.sparse_csr``; ``num_nodes`` is always set, ``edge_weight`` where there are
            weights, and ``<modality>_present`` where there is a mask.
            :meth:`from_hetero_data` reads all of it.
        """
        from skmmg.graph._convert import to_hetero_data

        return to_hetero_data(cast("MultiModalGraph", self))

    @classmethod
    def from_pandas(
        cls,
        nodes: Mapping[str, pd.DataFrame],
        edges: Mapping[Any, pd.DataFrame] | None = None,
        *,
        id_column: str | Mapping[str, str] = "id",
        modalities: Mapping[str, Mapping[str, Columns]] | None = None,
        weight_column: str | Mapping[Any, str] | None = None,
        add_reverse: bool = True,
    ) -> MultiModalGraph:
        """Build a graph from one table per node type and one per relation.

        Parameters
        ----------
        nodes : mapping of str to DataFrame
            For each node type a table with one row per node. The nodes keep the order of the rows,
            so ``table["id"].iloc[5]`` is the id of node 5.
        edges : mapping of (str, str, str) to DataFrame, default=None
            For each relation ``(source type, relation, destination type)`` a table with a column
            of source ids and one of destination ids: the columns named like the two node types, or
            else the first two other than `weight_column`.
        id_column : str or mapping of str to str, default="id"
            The column, or named index, with the ids (strings, numbers, ...), for all node types or
            for each.
        modalities : mapping of str to mapping of str to columns, default=None
            For each node type the columns of its modalities, as in :func:`split_modalities`:
            positions and masks count the id column, a prefix leaves it out. In a type that is not
            named here all numeric columns other than the id are one modality ``"x"``, the column
            that you want to predict too: drop it, or name the columns. Without numeric columns the
            type has no features.
        weight_column : str or mapping of relations to str, default=None
            The column with edge weights, of all edge tables or of those named, by the keys of
            `edges`; an edge of weight 0 is no edge.
        add_reverse : bool, default=True
            See :class:`MultiModalGraph`.

        Returns
        -------
        MultiModalGraph

        Raises
        ------
        ValueError
            If ids are missing or repeated in a table of nodes, or an edge refers to an unknown one.

        Examples
        --------
        >>> import pandas as pd
        >>> from skmmg.graph import MultiModalGraph
        >>> movies = pd.DataFrame({"id": ["tt2", "tt1"], "year": [1979, 1982]})
        >>> actors = pd.DataFrame({"id": ["nm9", "nm5"]})
        >>> stars = pd.DataFrame({"movie": ["tt1", "tt2"], "actor": ["nm9", "nm9"]})
        >>> graph = MultiModalGraph.from_pandas(
        ...     {"movie": movies, "actor": actors}, {("movie", "stars", "actor"): stars})
        >>> graph.edge_index["movie", "stars", "actor"]
        array([[1, 0],
               [0, 0]])
        """
        from skmmg.graph._convert import from_pandas

        return from_pandas(
            nodes,
            edges,
            id_column=id_column,
            modalities=modalities,
            weight_column=weight_column,
            add_reverse=add_reverse,
        )

    @classmethod
    def from_networkx(
        cls,
        g: nx.Graph,
        node_type: str | None = "type",
        edge_type: str | None = "type",
        features: Mapping[str, str] | Sequence[str] | str | None = None,
        *,
        weight: str | None = "weight",
        add_reverse: bool = True,
    ) -> MultiModalGraph:
        """Read a networkx graph whose nodes carry types and features as attributes.

        Parameters
        ----------
        g : networkx.Graph, DiGraph, MultiGraph or MultiDiGraph
            The nodes of each type keep their order. The edges of an undirected graph go both ways
            within a type, and from the type that comes first to the other between types.
        node_type : str or None, default="type"
            The node attribute with the node type. With None all nodes are of the type ``"node"``.
        edge_type : str or None, default="type"
            The edge attribute with the relation. With None all relations are called ``"to"``.
        features : mapping of str to str, sequence of str, or str, default=None
            For each modality the node attribute with the row: a number, a vector, or a sparse
            matrix with one row. A sequence names attributes and modalities at once. A node without
            the attribute lacks the modality; with None no features are read.
        weight : str or None, default="weight"
            The edge attribute with the weight, 1 where an edge has none; an edge of weight 0 is no
            edge.
        add_reverse : bool, default=True
            See :class:`MultiModalGraph`.

        Returns
        -------
        MultiModalGraph

        Raises
        ------
        ValueError
            If a node or an edge has no type, no node has an attribute of `features`, the rows of a
            modality differ in length, or a weight is no number.

        Examples
        --------
        >>> import networkx as nx
        >>> from skmmg.graph import MultiModalGraph
        >>> g = nx.path_graph(3)
        >>> nx.set_node_attributes(g, {0: [0.5, 1.0], 2: [2.0, 3.0]}, "poster")
        >>> graph = MultiModalGraph.from_networkx(g, None, None, features=["poster"])
        >>> graph.present("node", "poster")
        array([ True, False,  True])
        """
        from skmmg.graph._convert import from_networkx

        return from_networkx(
            g, node_type, edge_type, features, weight=weight, add_reverse=add_reverse
        )

    def to_networkx(self) -> nx.MultiDiGraph:
        """Copy the graph into a networkx ``MultiDiGraph``.

        Returns
        -------
        networkx.MultiDiGraph
            Nodes are called ``(node type, id)`` and have the attribute ``type`` and one attribute
            per modality that they have: a vector, or a csr_array with one row. Edges, the reverse
            ones included, have the attributes ``type`` (the relation) and, in relations with
            weights, ``weight``. ``from_networkx(g, features=[...])`` reads all of it, but for node
            types without nodes, modalities that no node has and relations without edges.

        Raises
        ------
        ValueError
            If a modality is called ``"type"``.
        """
        from skmmg.graph._convert import to_networkx

        return to_networkx(cast("MultiModalGraph", self))
