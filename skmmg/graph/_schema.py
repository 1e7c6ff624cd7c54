"""What a graph is made of: node types, their modalities and widths, and edge types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

EdgeType: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Schema:
    """Node types, modalities and edge types of a graph, without its data.

    A model is built from a schema, and a fitted estimator keeps one, so that the graph of a
    later ``predict`` can be compared with the graph of ``fit``.

    Parameters
    ----------
    node_types : mapping of str to mapping of str to int
        For each node type the width of each of its modalities, in the order given. A node type
        without features has an empty mapping.
    edge_types : sequence of (str, str, str), default=()
        ``(source type, relation, destination type)``, reverse relations included.
    target : str or None, default=None
        The node type in focus. Set by :attr:`NodeView.schema`.

    Raises
    ------
    ValueError
        If `target` or an edge type names a node type that is not in `node_types`.

    Examples
    --------
    >>> from skmmg.graph import Schema
    >>> schema = Schema({"movie": {"text": 5, "poster": 8}, "actor": {}},
    ...                 (("movie", "stars", "actor"),), target="movie")
    >>> schema.modalities
    ('text', 'poster')
    >>> later = Schema({"movie": {"text": 7, "poster": 8}, "actor": {}},
    ...                (("movie", "stars", "actor"),), target="movie")
    >>> schema.diff(later)
    ['~ movie / text: 5 features -> 7 features']
    """

    node_types: Mapping[str, Mapping[str, int]]
    edge_types: tuple[EdgeType, ...] = ()
    target: str | None = None

    def __post_init__(self) -> None:
        """Copy the mappings into read-only ones and check that the names agree."""
        widths = {
            str(node_type): MappingProxyType({str(m): int(w) for m, w in modalities.items()})
            for node_type, modalities in self.node_types.items()
        }
        object.__setattr__(self, "node_types", MappingProxyType(widths))
        object.__setattr__(self, "edge_types", tuple((s, r, d) for s, r, d in self.edge_types))
        named = [end for source, _, target in self.edge_types for end in (source, target)]
        named += [] if self.target is None else [self.target]
        unknown = [name for name in named if name not in widths]
        if unknown:
            raise ValueError(
                f"Every node type that a schema names must be one of its node types "
                f"{list(widths)}, got {unknown[0]!r}. Add it, with {{}} if it has no features."
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all modalities: the target's first, the others in order of appearance."""
        in_focus = {} if self.target is None else self.node_types[self.target]
        others = (name for widths in self.node_types.values() for name in widths)
        return tuple(dict.fromkeys([*in_focus, *others]))

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as values that JSON can hold.

        Returns
        -------
        dict
            ``{"node_types": {type: {modality: width}}, "edge_types": [[src, rel, dst], ...],
            "target": str or None}``.
        """
        return {
            "node_types": {name: dict(widths) for name, widths in self.node_types.items()},
            "edge_types": [list(edge_type) for edge_type in self.edge_types],
            "target": self.target,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schema:
        """Build a schema from what :meth:`to_dict` returned.

        Parameters
        ----------
        values : mapping
            With the keys ``"node_types"``, ``"edge_types"`` and ``"target"``.

        Returns
        -------
        Schema
        """
        edge_types = tuple((s, r, d) for s, r, d in values["edge_types"])
        return cls(values["node_types"], edge_types, values["target"])

    def diff(self, other: Schema) -> list[str]:
        """Tell where another schema differs, one line per difference.

        The order of node types, modalities and edge types does not count.

        Parameters
        ----------
        other : Schema
            The schema to compare with, for instance that of the graph given to ``predict``.

        Returns
        -------
        list of str
            Lines that begin with ``-`` (only in this schema), ``+`` (only in the other) or ``~``
            (in both, with different widths). Empty when the two are compatible.
        """
        return [
            *_diff_target(self, other),
            *_diff_node_types(self.node_types, other.node_types),
            *(f"- edge type {e}" for e in self.edge_types if e not in other.edge_types),
            *(f"+ edge type {e}" for e in other.edge_types if e not in self.edge_types),
        ]

    def __hash__(self) -> int:
        """Hash of what ``==`` compares; the order of node types and modalities is no part of it."""
        widths = frozenset((t, frozenset(ms.items())) for t, ms in self.node_types.items())
        return hash((widths, self.edge_types, self.target))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle plain dictionaries, because read-only mappings cannot be pickled."""
        return Schema.from_dict, (self.to_dict(),)


def diff_names(
    ours: Mapping[str, Mapping[str, Sequence[str]]],
    theirs: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[str]:
    """Tell where columns have other names or another order, one line per modality.

    Only modalities are compared that have column names on both sides; other widths are differences
    of schemas.
    """
    lines = []
    for node_type, named in ours.items():
        for modality, names in named.items():
            others = theirs.get(node_type, {}).get(modality, names)
            if len(others) != len(names) or tuple(others) == tuple(names):
                continue
            i = next(i for i, name in enumerate(names) if name != others[i])
            how = (
                "columns in another order; reorder them"
                if sorted(names) == sorted(others)
                else "other columns; select those, or rename them"
            )
            lines.append(
                f"~ {node_type} / {modality}: column {i} {names[i]!r} -> {others[i]!r}, {how}"
            )
    return lines


def _diff_target(ours: Schema, theirs: Schema) -> Iterator[str]:
    """Compare the node types in focus, where both schemas have one."""
    if None not in (ours.target, theirs.target) and ours.target != theirs.target:
        yield f"~ node type in focus: {ours.target} -> {theirs.target}"


def _diff_node_types(
    ours: Mapping[str, Mapping[str, int]], theirs: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    """Compare node types, and the modalities of those that are in both."""
    several = len({*ours, *theirs}) > 1
    for name in ours:
        if name not in theirs:
            yield f"- node type {name!r}"
            continue
        yield from _diff_widths(ours[name], theirs[name], f"{name} / " if several else "")
    yield from (f"+ node type {name!r}" for name in theirs if name not in ours)


def _diff_widths(ours: Mapping[str, int], theirs: Mapping[str, int], prefix: str) -> Iterator[str]:
    """Compare the modalities of one node type."""
    for name, width in ours.items():
        if name not in theirs:
            yield f"- {prefix}{name}: {_features(width)}"
        elif width != theirs[name]:
            yield f"~ {prefix}{name}: {_features(width)} -> {_features(theirs[name])}"
    for name, width in theirs.items():
        if name not in ours:
            yield f"+ {prefix}{name}: {_features(width)}"


def _features(width: int) -> str:
    """Spell out a number of features."""
    return "1 feature" if width == 1 else f"{width} features"
