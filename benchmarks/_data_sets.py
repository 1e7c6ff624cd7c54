"""The data sets of a report: X and y, the splits by seed, and what the estimator has to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench_imdb import make_splits, reduce_features
from bench_planted import SETTINGS
from sklearn.model_selection import train_test_split

from skmmg.datasets import (
    load_folder,
    load_imdb,
    load_mfeat,
    load_wikipedia,
    make_multimodal_graph,
)

PLANTED = {
    "planted, differs by node": "one modality tells, another for each node",
    "planted, half missing": "the same, 50% of the rows missing",
    "planted, two hops": "the same, seen two hops away",
}
Split = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class DataSet:
    """Samples with a split for one seed."""

    X: Any
    y: np.ndarray
    split: Split
    params: dict[str, Any] = field(default_factory=dict)


Maker = Callable[[int], DataSet]


def stratified(y: np.ndarray, seed: int, among: np.ndarray | None = None) -> Split:
    """Stratified 20/10/70, or 2/1 of `among`, the rest being the test samples."""
    ids = np.arange(len(y)) if among is None else among
    test = np.setdiff1d(np.arange(len(y)), ids)
    if among is None:
        ids, test = train_test_split(ids, test_size=0.7, stratify=y, random_state=seed)
    train, val = train_test_split(ids, test_size=1 / 3, stratify=y[ids], random_state=seed)
    return train, val, test


def make_data_sets(
    imdb: str | None, wikipedia: str | None, folders: list[str], n_seeds: int
) -> dict[str, Maker]:
    """By name what gives a data set for a seed; those that need a folder, if there is one.

    A network of `folders`, as `load_folder` reads them, is called by the folder's name.
    """
    makers: dict[str, Maker] = {}
    if imdb is not None:
        makers |= _imdb(imdb, n_seeds)
    makers |= {name: partial(_planted, setting) for name, setting in PLANTED.items()}
    makers["mfeat"] = _mfeat
    if wikipedia is not None:
        makers["wikipedia"] = partial(_wikipedia, load_wikipedia(Path(wikipedia)))
    return makers | {Path(name).resolve().name: partial(_network, name) for name in folders}


def _imdb(folder: str, n_seeds: int) -> dict[str, Maker]:
    data = load_imdb(folder)
    X = reduce_features(data)
    splits = {(name, seed): split for name, seed, split in make_splits(data, n_seeds)}

    def make(name: str, seed: int) -> DataSet:
        return DataSet(X, data.target, splits[name, seed])

    return {"IMDB": partial(make, "shipped"), "IMDB, grouped": partial(make, "grouped 20/10/70")}


def _planted(setting: str, seed: int) -> DataSet:
    planted = make_multimodal_graph(1000, random_state=seed, **SETTINGS[setting])
    y = planted.target
    return DataSet(planted.graph.nodes(planted.node_type), y, stratified(y, seed))


def _network(folder: str, seed: int) -> DataSet:
    """The split that the folder holds, or else 20/10/70."""
    data = load_folder(folder)
    given = "train_idx" in data
    split = (data.train_idx, data.val_idx, data.test_idx) if given else None
    return DataSet(
        data.graph.nodes(data.node_type), data.target, split or stratified(data.target, seed)
    )


def _mfeat(seed: int) -> DataSet:
    data = load_mfeat()
    split = stratified(data.target, seed)
    return DataSet(data.data, data.target, split, {"modalities": data.columns})


def _wikipedia(data: Any, seed: int) -> DataSet:
    split = stratified(data.target, seed, data.train_idx)
    return DataSet(data.data, data.target, split, {"modalities": data.columns})
