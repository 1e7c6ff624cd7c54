"""The networks of `bench_speed.py`: IMDB, or a random one of its size, and two sizes of AMAZON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from skmmg import MultiModalGraph, NodeView
from skmmg.datasets import load_imdb, make_multimodal_graph
from skmmg.nn import GraphTensors
from skmmg.training import column_statistics, graph_tensors

GRAPHS = ("IMDB", "AMAZON", "AMAZON-1")
PLANTED = "planted"

# target nodes, classes of all of them, ids to train on, ids to watch
Split = tuple[NodeView, np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Task:
    """A network with its training and validation nodes and their classes."""

    view: NodeView
    y: np.ndarray
    validation: NodeView
    y_validation: np.ndarray
    tensors: GraphTensors

    @property
    def n_edges(self) -> int:
        """Number of edges, the reversed ones too."""
        return sum(index.shape[1] for index in self.tensors.edge_index.values())

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1


def make_task(name: str, folder: str | None, device: str = "cpu") -> Task:
    """The network of that name, or a random one of its size, with its tensors on the device."""
    X, y, train, val = make_split(name, folder)
    statistics = column_statistics(X.graph, "auto")
    tensors = graph_tensors(X.graph, statistics, device=torch.device(device))
    return Task(X[train], y[train], X[val], y[val], tensors)


def make_split(name: str, folder: str | None) -> Split:
    """Target nodes, their classes, and the ids to train on and to watch."""
    if name == "IMDB":
        return make_imdb(folder)
    rng = np.random.default_rng(0)
    if name == PLANTED:
        planted = make_multimodal_graph(2000, random_state=0)
        X, y = planted.graph.nodes("item"), planted.target
        order = rng.permutation(len(X))
    else:
        X = (make_amazon(rng) if name == "AMAZON" else make_amazon_one(rng)).nodes("item")
        order, y = rng.permutation(len(X)), rng.integers(3, size=len(X))
    n = len(X) // 5
    return X, y, np.sort(order[:n]), np.sort(order[n : 2 * n])


def make_imdb(folder: str | None) -> Split:
    """Films with keywords and poster, their classes, the shipped training and validation ids."""
    if folder is not None:
        imdb = load_imdb(folder, ("keywords", "poster"))
        return imdb.graph.nodes("movie"), imdb.target, imdb.train_idx, imdb.val_idx
    graph, y = make_imdb_sized()
    ids = np.arange(len(y))
    return graph.nodes("movie"), y, ids[:855], ids[855:1282]


def make_imdb_sized() -> tuple[MultiModalGraph, np.ndarray]:
    """Nodes, edges, widths and stored values in about the numbers of IMDB; all of it random."""
    rng = np.random.default_rng(0)
    counts = {"movie": 4278, "director": 2081, "actor": 5257}
    stored = {"movie": 7, "director": 13, "actor": 15}  # values per row

    def words(n_nodes: int, width: int, per_row: int) -> sparse.csr_array:
        matrix = sparse.random_array((n_nodes, width), density=per_row / width, rng=rng)
        return sparse.csr_array(matrix, dtype=np.float32)

    nodes: dict[str, dict[str, Any]] = {
        name: {"keywords": words(count, 3066, stored[name])} for name, count in counts.items()
    }
    nodes["movie"]["overview"] = words(counts["movie"], 9000, 25)
    poster = rng.standard_normal((counts["movie"], 1708), dtype=np.float32)
    poster[rng.random(len(poster)) < 0.08] = np.nan
    nodes["movie"]["poster"] = poster
    movies = np.arange(counts["movie"])
    edges = {
        ("movie", "directed_by", "director"): np.stack(
            [movies, rng.integers(counts["director"], size=len(movies))]
        ),
        ("movie", "stars", "actor"): np.stack(
            [np.tile(movies, 3), rng.integers(counts["actor"], size=3 * len(movies))]
        ),
    }
    return MultiModalGraph(nodes, edges), rng.integers(3, size=len(movies))


def make_amazon(rng: np.random.Generator) -> MultiModalGraph:
    """Items and reviews, 13,189 nodes, 174,154 edges, 1156 columns."""
    counts = {"item": 6158, "review": 7031}
    nodes = {t: draw_features(rng, n, 1156) for t, n in counts.items()}
    edges = {
        ("item", "also_bought", "item"): draw_edges(rng, 6158, 6158, 56_259),
        ("item", "has", "review"): draw_edges(rng, 6158, 7031, 30_818),
    }
    return MultiModalGraph(nodes, edges)


def make_amazon_one(rng: np.random.Generator) -> MultiModalGraph:
    """One node type with four relations, 58,088 nodes, 632,238 edges, 512 columns."""
    n_nodes, shares = 58_088, (0.45, 0.30, 0.10, 0.15)
    edges = {
        ("item", f"relation_{i}", "item"): draw_edges(rng, n_nodes, n_nodes, int(share * 316_119))
        for i, share in enumerate(shares)
    }
    return MultiModalGraph({"item": draw_features(rng, n_nodes, 512)}, edges)


def draw_features(rng: np.random.Generator, n_nodes: int, width: int) -> dict[str, np.ndarray]:
    """Two modalities."""
    return {m: rng.standard_normal((n_nodes, width), dtype=np.float32) for m in ("text", "image")}


def draw_edges(rng: np.random.Generator, n_src: int, n_dst: int, n_edges: int) -> np.ndarray:
    """Random sources, destinations of heavy-tailed popularity."""
    popularity = rng.pareto(1.6, n_dst) + 0.3
    dst = rng.choice(n_dst, n_edges, p=popularity / popularity.sum())
    return np.stack([rng.integers(n_src, size=n_edges), dst])
