"""Who is linked to whom in a planted network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skmmg.datasets._design import Design
from skmmg.datasets._feature_model import Ids


class Neighborhood(NamedTuple):
    """The links of the target nodes to one attribute type."""

    classes: Ids  # (n_attributes,) class of every attribute node
    has: Ids  # (n_samples, n_neighbors) neighbours chosen by the label
    shows: Ids  # (n_samples, n_neighbors or 0) neighbours chosen by the class of the features


def draw_links(design: Design, target: Ids, shown: Ids, rng: np.random.RandomState) -> Neighborhood:
    """Draw the classes of one attribute type, and let every target node choose its neighbours."""
    wanted = _draw_votes(design, target, rng)
    if design.private:
        own = np.arange(design.n_attributes).reshape(wanted.shape)
        return Neighborhood(wanted.ravel(), own, own[:, :0])
    classes = rng.permutation(np.arange(design.n_attributes) % design.n_classes)
    has = _choose_members(classes, wanted, rng)
    if design.hops < 2:
        return Neighborhood(classes, has, has[:, :0])
    return Neighborhood(
        classes, has, _choose_members(classes, _draw_votes(design, shown, rng), rng)
    )


def _draw_votes(design: Design, classes: Ids, rng: np.random.RandomState) -> Ids:
    """Draw the class of each neighbour: the node's own with probability `homophily`."""
    shape = (len(classes), design.n_neighbors)
    other = classes[:, None] + rng.randint(1, design.n_classes, size=shape)
    agrees = rng.uniform(size=shape) < design.homophily
    return np.where(agrees, classes[:, None], other % design.n_classes)


def _choose_members(classes: Ids, wanted: Ids, rng: np.random.RandomState) -> Ids:
    """Choose one node of each wanted class, all nodes of a class with the same probability."""
    by_class = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes)
    first = np.cumsum(sizes) - sizes
    rank = (rng.uniform(size=wanted.shape) * sizes[wanted]).astype(np.int64)
    return by_class[first[wanted] + rank]


def to_edge_index(neighbors: Ids) -> Ids:
    """Write a table with the neighbours of every node as pairs of ids."""
    n_nodes, n_neighbors = neighbors.shape
    return np.stack([np.repeat(np.arange(n_nodes), n_neighbors), neighbors.ravel()])
