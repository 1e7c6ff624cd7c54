"""Set training nodes aside for early stopping."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit


def split_off_validation(
    codes: np.ndarray, weight: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions to watch, among samples with a weight.

    Stratified if every class has two members and the watched part can hold every class. Else the
    watched part is drawn from all but one sample of every class, which is trained on.
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
    n_watched = min(max(n_watched, 1), len(positions) - 1)
    if counts.min() >= 2 and len(counts) <= min(n_watched, len(positions) - n_watched):
        splitter = StratifiedShuffleSplit(1, test_size=n_watched, random_state=seed)
        train, watched = next(splitter.split(positions, codes[positions]))
        return positions[train], positions[watched]
    shuffled = np.random.RandomState(seed).permutation(positions)
    _, kept = np.unique(codes[shuffled], return_index=True)
    free = np.delete(shuffled, kept)
    if not len(free):
        raise ValueError(
            "Early stopping sets samples aside, and every class has only one. Set "
            "early_stopping=False, or pass X_val and y_val."
        )
    watched = free[:n_watched]
    return np.setdiff1d(positions, watched), watched
