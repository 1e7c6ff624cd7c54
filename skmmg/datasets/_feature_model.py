"""How the nodes of a planted network show a class in their features, and how to read it back.

Sampling and its exact inverse stand side by side, because the Bayes-optimal accuracy of a planted
network is true only as long as they describe one model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeatureModel:
    """How the nodes of one type show a class in their modalities.

    A node of class c follows one of `n_patterns` patterns, drawn with `pattern_prob[c]`. A pattern
    says which modalities are informative: an informative row is the prototype of the class plus
    standard Gaussian noise, any other row is the noise alone. A misaligned node holds in each
    modality the row of another node, whose class (uniform) and pattern are drawn afresh.
    """

    prototypes: tuple[Array, ...]  # one per modality, (n_classes, n_features_m)
    patterns: npt.NDArray[np.bool_]  # (n_patterns, n_modalities), True: informative
    pattern_prob: Array  # (n_classes, n_patterns), rows sum to 1
    misaligned: float  # share of the nodes


@dataclass(frozen=True)
class FeatureSample:
    """The features of the nodes of one type, and what only the generator knows about them."""

    x: tuple[Array, ...]  # one per modality, (n_nodes, n_features_m)
    pattern: Ids  # (n_nodes,)
    misaligned: npt.NDArray[np.bool_]  # (n_nodes,)


def sample_features(model: FeatureModel, classes: Ids, rng: np.random.RandomState) -> FeatureSample:
    """Draw the features of nodes of the given classes."""
    n_nodes = len(classes)
    pattern = _draw_patterns(model, classes, rng)
    misaligned = rng.uniform(size=n_nodes) < model.misaligned
    x = []
    for m, prototypes in enumerate(model.prototypes):
        donors = rng.randint(len(model.pattern_prob), size=n_nodes)
        donor_pattern = _draw_patterns(model, donors, rng)
        shown = np.where(misaligned, donors, classes)
        informative = model.patterns[np.where(misaligned, donor_pattern, pattern), m]
        noise = rng.standard_normal((n_nodes, prototypes.shape[1]))
        x.append(prototypes[shown] * informative[:, None] + noise)
    return FeatureSample(tuple(x), pattern, misaligned)


def _draw_patterns(model: FeatureModel, classes: Ids, rng: np.random.RandomState) -> Ids:
    """Draw the pattern of every node from the distribution of its class."""
    below = model.pattern_prob.cumsum(axis=1)[classes, :-1]
    return (rng.uniform(size=(len(classes), 1)) > below).sum(axis=1)


def log_likelihood(model: FeatureModel, x: tuple[Array, ...], n_nodes: int) -> Array:
    """Return log p(features | class) for every node and class, up to a constant per node.

    The constant is the density of pure noise. Which pattern a node follows and whether it is
    misaligned are summed out. A row of NaN is missing and says nothing.
    """
    n_classes = len(model.pattern_prob)
    shown = np.zeros((n_nodes, len(x), n_classes))  # log p(row | class) - log p(row | noise)
    for m, (rows, prototypes) in enumerate(zip(x, model.prototypes, strict=True)):
        log_ratio = rows @ prototypes.T - (prototypes**2).sum(axis=1) / 2
        shown[:, m] = np.where(np.isnan(log_ratio), 0.0, log_ratio)
    by_pattern = np.einsum("km,nmc->nkc", model.patterns.astype(np.float64), shown)
    aligned = logsumexp(by_pattern + log(model.pattern_prob.T), axis=1)
    informative = (model.pattern_prob @ model.patterns).T / n_classes  # (n_modalities, n_classes)
    of_others = np.logaddexp(
        logsumexp(shown + log(informative), axis=2), log(1 - informative.sum(axis=1))
    )
    misaligned = of_others.sum(axis=1, keepdims=True)
    return np.logaddexp(aligned + log(1 - model.misaligned), misaligned + log(model.misaligned))


def log(value: npt.ArrayLike) -> Array:
    """Take the logarithm of probabilities; log 0 is -inf, and rounding below 0 counts as 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.maximum(value, 0.0)))
