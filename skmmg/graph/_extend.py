"""A graph with new nodes behind those that it has, and new edges behind theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from skmmg.graph._modalities import to_csr
from skmmg.graph._payload import (
    EdgeIndex,
    EdgeWeight,
    Features,
    Masks,
    Matrix,
    Names,
    Pairs,
    Payload,
    freeze,
    lock,
)
from skmmg.graph._relations import check_edges, is_reverse
from skmmg.graph._schema import EdgeType
from skmmg.graph._validation import (
    by_type,
    check_mapping,
    check_masks,
    check_modality,
    check_node_type,
    check_node_types,
    describe_modality,
)


def extend(payload: Payload, nodes: Any, edges: Any, masks: Any, *, add_reverse: bool) -> Payload:
    """Append nodes and edges, see `MultiModalGraph.extend`."""
    x, n_new = _check_new_nodes(payload, nodes)
    n_nodes = {t: n + n_new.get(t, 0) for t, n in payload.n_nodes.items()}
    new_masks = _check_new_masks(payload, x, n_new, masks)
    index, weight = check_edges(edges, n_nodes)
    unknown = [edge_type for edge_type in index if edge_type not in payload.edge_index]
    if unknown:
        raise ValueError(
            f"edges must name relations of the graph, {list(payload.edge_index)}, got "
            f"{unknown[0]}. Make a new graph for other relations."
        )
    if add_reverse:
        _add_reverses(payload, index, weight)
    all_index, all_weight = _append_edges(payload, index, weight)
    return replace(
        payload,
        x=payload.x | {t: _append_rows(payload.x[t], x[t], n) for t, n in n_new.items()},
        n_nodes=n_nodes,
        masks=_append_masks(payload, x, n_new, new_masks),
        edge_index=all_index,
        edge_weight=all_weight,
    )


def _check_new_nodes(payload: Payload, nodes: Any) -> tuple[Features, dict[str, int]]:
    """Check new nodes by themselves, then that they are like those of the graph."""
    check_mapping(nodes, "nodes must be a dict {type: {modality: matrix}} or {type: count}")
    only_type = next(iter(payload.n_nodes)) if len(payload.n_nodes) == 1 else "node"
    given = by_type(nodes, only_type)
    for node_type in given:
        check_node_type(node_type, payload.n_nodes)
    x, n_new, names = check_node_types(given)
    for node_type, matrices in x.items():
        for modality, matrix in matrices.items():
            check_modality(node_type, modality, payload.x[node_type])
            where = describe_modality(node_type, modality)
            width = payload.x[node_type][modality].shape[1]
            if matrix.shape[1] != width:
                raise ValueError(
                    f"{where} must have {width} columns, as in the graph, got {matrix.shape[1]}."
                )
            _check_names(where, payload.feature_names, names, node_type, modality)
    return x, n_new


def _check_names(where: str, known: Names, given: Names, node_type: str, modality: str) -> None:
    """Refuse columns of other names, or in another order, where both sides name theirs."""
    ours = known.get(node_type, {}).get(modality)
    theirs = given.get(node_type, {}).get(modality)
    if ours is None or theirs is None or ours == theirs:
        return
    first = next(i for i, names in enumerate(zip(ours, theirs, strict=True)) if len(set(names)) > 1)
    raise ValueError(
        f"{where} must have the columns that it has in the graph, in their order, got "
        f"{theirs[first]!r} where {ours[first]!r} is. Select them: frame[list(graph.feature_names"
        f"[{node_type!r}][{modality!r}])]."
    )


def _check_new_masks(payload: Payload, x: Features, n_new: Mapping[str, int], masks: Any) -> Masks:
    """Check masks of the modalities that new nodes are given."""
    if masks is None:
        return {}
    check_mapping(masks, "masks must be a dict {type: {modality: mask}}")
    given = by_type(masks, next(iter(payload.n_nodes))) if len(payload.n_nodes) == 1 else masks
    for node_type, by_modality in given.items():
        known = list(x.get(node_type, {}))
        check_mapping(by_modality, f"The masks of node type {node_type!r} must be a dict")
        unknown = [modality for modality in by_modality if modality not in known]
        if unknown:
            raise ValueError(
                f"masks must be of modalities that nodes gives, {known} for node type "
                f"{node_type!r}, got {unknown[0]!r}. New nodes lack what is left out."
            )
    return check_masks(given, x, n_new)


def _append_rows(
    old: Mapping[str, Matrix], new: Mapping[str, Matrix], n_new: int
) -> dict[str, Matrix]:
    """Rows of every modality; of one that is left out, zeros, which a mask hides."""
    return {
        modality: freeze(_stack(matrix, new[modality]))
        if modality in new
        else freeze(_stack(matrix, sparse.csr_array((n_new, matrix.shape[1]), dtype=matrix.dtype)))
        for modality, matrix in old.items()
    }


def _stack(old: Matrix, new: Matrix) -> Matrix:
    dtype = _joint_dtype(old, new)
    if isinstance(old, sparse.csr_array):
        return sparse.csr_array(sparse.vstack([old, to_csr(new)], format="csr", dtype=dtype))
    dense = new.toarray() if isinstance(new, sparse.csr_array) else new
    return np.concatenate([old, dense], dtype=dtype, casting="unsafe")


def _joint_dtype(old: Matrix, new: Matrix) -> np.dtype[Any]:
    """The dtype of the old rows, unless the new ones are of another kind and would change in it."""
    if old.dtype.kind == new.dtype.kind == "f":
        return old.dtype
    values = new.data if isinstance(new, sparse.csr_array) else new
    with np.errstate(invalid="ignore"):
        stays = np.array_equal(values.astype(old.dtype), values)
    return old.dtype if stays else np.result_type(old.dtype, new.dtype)


def _append_masks(payload: Payload, x: Features, n_new: Mapping[str, int], given: Masks) -> Masks:
    """Masks of what has one, and of modalities that new nodes lack altogether."""
    masks: Masks = {t: dict(by_modality) for t, by_modality in payload.masks.items()}
    for node_type, n in n_new.items():
        for modality in payload.x[node_type]:
            old = payload.masks.get(node_type, {}).get(modality)
            new = given.get(node_type, {}).get(modality)
            if modality not in x[node_type]:
                new = np.zeros(n, dtype=bool)
            if n and (old is not None or new is not None):
                old = np.ones(payload.n_nodes[node_type], dtype=bool) if old is None else old
                new = np.ones(n, dtype=bool) if new is None else new
                masks.setdefault(node_type, {})[modality] = lock(np.concatenate([old, new]))
    return masks


def _add_reverses(payload: Payload, index: EdgeIndex, weight: EdgeWeight) -> None:
    """Reverse the new edges into the relations that are their relations' reverses, if not given."""
    for edge_type in list(index):
        reverse = _reverse_of(payload, edge_type)
        if reverse == edge_type:
            missing = _without_reverse(index[edge_type])
            pairs = index[edge_type][:, missing]
            index[edge_type] = np.concatenate([index[edge_type], pairs[::-1]], axis=1)
            if edge_type in weight:
                values = weight[edge_type]
                weight[edge_type] = np.concatenate([values, values[missing]])
        elif reverse is not None and reverse not in index:
            index[reverse] = index[edge_type][::-1]
            if edge_type in weight:
                weight[reverse] = weight[edge_type]


def _reverse_of(payload: Payload, edge_type: EdgeType) -> EdgeType | None:
    """Find the relation with the same edges in the opposite direction, if there is one.

    The relation itself comes first, then what is named as its reverse.
    """
    source, relation, target = edge_type
    index, weight = payload.edge_index, payload.edge_weight
    named = {f"rev_{relation}", relation.removeprefix("rev_")} - {relation}
    others = [e for e in index if (e[0], e[2]) == (target, source)]
    others.sort(key=lambda e: (e != edge_type, e[1] not in named))
    return next((e for e in others if is_reverse(edge_type, e, index, weight)), None)


def _without_reverse(pairs: Pairs) -> npt.NDArray[np.bool_]:
    """Which edges between nodes of one type have their reverse not among them."""
    n = int(pairs.max(initial=-1)) + 1
    return ~np.isin(pairs[1] * n + pairs[0], pairs[0] * n + pairs[1])


def _append_edges(
    payload: Payload, index: EdgeIndex, weight: EdgeWeight
) -> tuple[EdgeIndex, EdgeWeight]:
    """Put the new edges of every relation behind its old ones; an edge without weight has 1."""
    all_index, all_weight = dict(payload.edge_index), dict(payload.edge_weight)
    for edge_type, new in index.items():
        old = payload.edge_index[edge_type]
        all_index[edge_type] = lock(np.concatenate([old, new], axis=1))
        if edge_type in payload.edge_weight or edge_type in weight:
            parts = [
                weights.get(edge_type, np.ones(pairs.shape[1], dtype=np.float32))
                for weights, pairs in ((payload.edge_weight, old), (weight, new))
            ]
            all_weight[edge_type] = lock(np.concatenate(parts))
    return all_index, all_weight
