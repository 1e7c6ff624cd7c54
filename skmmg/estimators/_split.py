"""Set training nodes aside for early stopping."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit


def split_off_validation(
    codes: np.ndarray, weight: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions to watch, among samples with a weight.

    Stratified if every class has two members and the watched part can hold every class.
    """
    positions = np.flatnonzero(weight)
    if len(positions) < 2:
        raise ValueError(
            f"Early stopping needs at least two samples with a weight, got {len(positions)}. Set "
            "early_stopping=False, or pass X_val and y_val."
        )
    counts = np.bincount(codes[positions])
    counts = counts[counts > 0]
    n_watched = int(np.ceil(fraction * len(positions)))
    fits = counts.min() >= 2 and len(counts) <= min(n_watched, len(positions) - n_watched)
    splitter = StratifiedShuffleSplit if fits else ShuffleSplit
    n_watched = min(max(n_watched, 1), len(positions) - 1)
    split = splitter(1, test_size=n_watched, random_state=seed).split(positions, codes[positions])
    train, watched = next(split)
    return positions[train], positions[watched]
