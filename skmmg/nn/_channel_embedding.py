"""Features propagated along metapaths, as channels of one width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from skmmg.nn._by_type import ByType
from skmmg.nn._checks import check_option
from skmmg.nn._edges import stack_slices
from skmmg.nn._inputs import Features, GraphTensors
from skmmg.nn._linear import constant_linear
from skmmg.nn._metapaths import Metapath
from skmmg.nn._modality_encoder import MISSING
from skmmg.nn._propagation import propagate, source_type
from skmmg.nn._sparse import SparseMatrix

# propagated features that a graph keeps; beyond it, states are propagated at every step
_MAX_STORED = 2 << 30


class ChannelEmbedding(nn.Module):
    r"""Mean features along every metapath, as channels of the target nodes.

    For every group of modalities,

    .. math:: H_{i,P} = \sum_m (A_P X^m)_i\, E_{o(P), m}

    with :math:`A_P` the product of the row-normalised matrices of a metapath P, :math:`o(P)` the
    type that it starts at, and m in the group. :math:`A_P X` is made once per graph where X is
    dense and the products fit in 2 GiB; else, since :math:`(A_P X) E = A_P (X E)`, the narrow
    :math:`X E` is propagated in every step, and a sparse X is never filled in.

    Parameters
    ----------
    node_types : mapping of str to mapping of str to int
        Modalities and their numbers of features, by node type.
    modalities : sequence of str
        The modalities.
    target : str
        Type of the target nodes.
    paths : sequence of metapaths
        To the target type; the empty one stands for the node itself.
    groups : sequence of tuple of str
        Modalities that share channels.
    channels : int
        Width of a channel.
    missing : {"mean_neighbors", "copy", "zero", "learned"}, default="mean_neighbors"
        What a node gives for a modality that it lacks. "mean_neighbors": nothing, the mean is over
        the nodes that have it (the row is scaled by :math:`A_P 1 / A_P p`, p being 1 where a node
        has it), and 0 if none does. "zero": zeros. "copy": the embedding of its first modality.
        "learned": a learned vector per node type and modality.
    precompute : bool, default=True
        Whether :math:`A_P X` may be kept.
    """

    def __init__(
        self,
        node_types: Mapping[str, Mapping[str, int]],
        modalities: Sequence[str],
        target: str,
        paths: Sequence[Metapath],
        groups: Sequence[tuple[str, ...]],
        channels: int,
        *,
        missing: str = "mean_neighbors",
        precompute: bool = True,
    ) -> None:
        super().__init__()
        check_option("missing", missing, MISSING)
        self.modalities, self.target, self.channels = tuple(modalities), target, channels
        self.widths = {t: dict(ms) for t, ms in node_types.items()}
        self.groups, self.missing, self.precompute = tuple(groups), missing, precompute
        self.paths = [tuple(p for p in paths if self._feeds(p, g)) for g in self.groups]
        starts = {source_type(p, target) for ps in self.paths for p in ps}
        self.projections = ByType(
            {
                t: ByType({m: nn.Linear(width, channels, bias=False) for m, width in ms.items()})
                for t, ms in self.widths.items()
                if t in starts
            }
        )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)
        if missing == "learned":
            self.placeholder = nn.Parameter(torch.zeros(len(modalities), len(node_types), channels))
        else:
            self.register_parameter("placeholder", None)

    def _feeds(self, path: Metapath, group: tuple[str, ...]) -> bool:
        """Whether a metapath brings anything to a group."""
        has = self.widths[source_type(path, self.target)]
        if self.missing == "learned":
            return True
        return bool(has) if self.missing == "copy" else any(m in has for m in group)

    def forward(self, graph: GraphTensors, ids: Tensor) -> list[list[Tensor]]:
        """Channels of the target nodes `ids`: for every group and path (n_samples, channels)."""
        return [self._channels(graph, g, ids) for g in range(len(self.groups))]

    def _channels(self, graph: GraphTensors, g: int, ids: Tensor) -> list[Tensor]:
        like = next(self.parameters())
        out = {path: like.new_zeros(len(ids), self.channels) for path in self.paths[g]}
        given = {m: w for m in self.modalities if (w := self._given(graph, g, m)) is not None}
        stored = [m for m in given if self._is_stored(graph, m)]
        narrow = [m for m in given if m not in stored]
        # what is not scaled row by row can be added up before it is propagated
        alone = [m for m in narrow if self._is_scaled(graph, m)]
        together = [m for m in narrow if m not in alone]
        for m in stored:
            _add(out, self._wide_states(graph, g, m, given[m], ids))
        for some in [*([m] for m in alone), *([together] if together else [])]:
            _add(out, self._narrow_states(graph, g, {m: given[m] for m in some}, ids))
        if self.placeholder is not None:
            for m in self.groups[g]:
                _add(out, self._learned_states(graph, g, m, ids))
        return list(out.values())

    def _learned_states(
        self, graph: GraphTensors, g: int, m: str, ids: Tensor
    ) -> dict[Metapath, Tensor]:
        """Means of the learned vectors of the nodes that lack a modality."""
        assert self.placeholder is not None
        vectors, shares = self.placeholder[self.modalities.index(m)], self._shares(graph, m)[1]
        return {p: shares[p][ids] * vectors[self._number(p)] for p in self.paths[g]}

    def _number(self, path: Metapath) -> int:
        return list(self.widths).index(source_type(path, self.target))

    # -------------------------------------------------------------------------- who gives what
    def _given(self, graph: GraphTensors, g: int, m: str) -> float | Tensor | None:
        """How many of the group's modalities a node fills with m: 1, or (n_nodes of all types,)."""
        group = self.groups[g]
        own = float(m in group)
        absent = graph.absent(self.modalities) if self.missing == "copy" else None
        if absent is not None:
            first = absent.to(torch.uint8).argmin(0) == self.modalities.index(m)
            others = [self.modalities.index(k) for k in group if k != m]
            copied = absent[others].sum(0) * first
            if bool(copied.any()):
                return own + copied
        return own if own else None

    def _shares(
        self, graph: GraphTensors, m: str
    ) -> tuple[dict[Metapath, Tensor], dict[Metapath, Tensor]]:
        """Share of a metapath's mean that has modality m and that lacks it, (n_target, 1) each."""
        dtype = next(self.parameters()).dtype
        paths = tuple(dict.fromkeys(p for ps in self.paths for p in ps))

        def make() -> tuple[dict[Metapath, Tensor], dict[Metapath, Tensor]]:
            absent = graph.absent([m])
            slices, total = stack_slices(graph.num_nodes), sum(graph.num_nodes.values())
            lacks = torch.zeros(total, device=graph.device) if absent is None else absent[0]
            lack = {t: lacks[part].to(dtype)[:, None] for t, part in slices.items()}
            has = {t: 1 - x for t, x in lack.items()}
            return (
                propagate(graph, paths, has, self.target),
                propagate(graph, paths, lack, self.target),
            )

        return graph.cached(("shares", m, paths, dtype), make)

    def _is_scaled(self, graph: GraphTensors, m: str) -> bool:
        return self.missing == "mean_neighbors" and graph.absent([m]) is not None

    def _scale(self, graph: GraphTensors, m: str, path: Metapath) -> Tensor | None:
        """What makes a mean one over the nodes that have m, (n_target_nodes, 1)."""
        if not self._is_scaled(graph, m):
            return None
        has, lacks = (share[path] for share in self._shares(graph, m))
        return torch.where(has > 0, (has + lacks) / has.clamp(min=torch.finfo(has.dtype).tiny), 0.0)

    # -------------------------------------------------------------------------- propagation
    def _paths_of(self, g: int, modalities: Iterable[str]) -> list[Metapath]:
        """The metapaths of a group that start at a type with one of these modalities."""
        wanted = set(modalities)
        return [p for p in self.paths[g] if wanted & set(self.widths[source_type(p, self.target)])]

    def _wide_states(
        self, graph: GraphTensors, g: int, m: str, given: float | Tensor, ids: Tensor
    ) -> dict[Metapath, Tensor]:
        """Embedded rows of the propagated features of one modality, (n_samples, channels) each."""
        whole = _is_all(ids, graph.num_nodes[self.target])
        stored = self._stored(graph, self.groups[g], m, given, self._paths_of(g, [m]))
        return {
            p: self._embed(source_type(p, self.target), m, x if whole else x[ids])
            for p, x in stored.items()
        }

    def _narrow_states(
        self, graph: GraphTensors, g: int, given: Mapping[str, float | Tensor], ids: Tensor
    ) -> dict[Metapath, Tensor]:
        """Propagated embeddings (n_samples, channels) of one modality, or of unscaled ones."""
        paths = self._paths_of(g, given)
        h: dict[str, Tensor] = {}
        for m, weight in given.items():
            for t, x in self._features(graph, m, paths).items():
                state = _scaled(self._embed(t, m, x), weight, graph, t)
                h[t] = h[t] + state if t in h else state
        states = propagate(graph, paths, h, self.target)
        scales = {p: self._scale(graph, next(iter(given)), p) for p in paths}
        return {p: x[ids] if (s := scales[p]) is None else (s * x)[ids] for p, x in states.items()}

    def _features(
        self, graph: GraphTensors, m: str, paths: Sequence[Metapath]
    ) -> dict[str, Features]:
        """Features of the node types that metapaths start at, as the graph orders its rows."""
        slices, out = stack_slices(graph.num_nodes), {}
        for t in dict.fromkeys(source_type(p, self.target) for p in paths):
            if m not in self.widths[t]:
                continue
            x = graph.x[t][m]
            if graph.row_order is not None:
                order = graph.row_order[slices[t]] - slices[t].start
                x = x.take(order) if isinstance(x, SparseMatrix) else x[order]
            out[t] = x
        return out

    def _is_stored(self, graph: GraphTensors, m: str) -> bool:
        """Whether the propagated features of a modality are kept with the graph."""
        if not self.precompute:
            return False
        n_target, total = graph.num_nodes[self.target], 0
        for path in {p for ps in self.paths for p in ps if p}:
            for k, x in graph.x.get(source_type(path, self.target), {}).items():
                if isinstance(x, SparseMatrix):
                    if k == m:
                        return False
                else:
                    total += n_target * x.shape[1] * x.element_size()
        return total <= _MAX_STORED

    def _stored(
        self,
        graph: GraphTensors,
        group: tuple[str, ...],
        m: str,
        given: float | Tensor,
        paths: Sequence[Metapath],
    ) -> dict[Metapath, Tensor]:
        """Propagated features of a modality, (n_target_nodes, n_features) each; kept."""
        # one set for a graph: another model's would be as large
        key = ("propagated", self.missing, self.target, *self.paths)
        kept: dict[object, dict[Metapath, Tensor]] = graph.cached(key, dict, keep=1)
        name = (m, tuple(paths), group if isinstance(given, Tensor) else None)

        def make() -> dict[Metapath, Tensor]:
            x = {
                t: _scaled(x, given, graph, t)
                for t, x in self._features(graph, m, paths).items()
                if isinstance(x, Tensor)  # a sparse modality is never stored
            }
            means = propagate(graph, paths, x, self.target)
            scales = {p: self._scale(graph, m, p) for p in paths}
            return {p: h if (s := scales[p]) is None else s * h for p, h in means.items()}

        if name not in kept:
            kept[name] = make()
        return kept[name]

    def _embed(self, node_type: str, m: str, x: Features) -> Tensor:
        weight = self.projections[node_type][m].weight
        if isinstance(x, SparseMatrix):
            return x @ weight.t()
        return constant_linear(x, weight, weight.new_zeros(self.channels))


def _add(total: dict[Metapath, Tensor], more: Mapping[Metapath, Tensor]) -> None:
    for path, h in more.items():
        total[path] = total[path] + h


def _scaled(h: Tensor, given: float | Tensor, graph: GraphTensors, node_type: str) -> Tensor:
    if not isinstance(given, Tensor):
        return h
    return given[stack_slices(graph.num_nodes)[node_type]].to(h.dtype)[:, None] * h


def _is_all(ids: Tensor, n_nodes: int) -> bool:
    """Whether the ids are those of all nodes, in order."""
    return len(ids) == n_nodes and bool((ids[1:] > ids[:-1]).all())
