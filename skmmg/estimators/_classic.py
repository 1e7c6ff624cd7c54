"""Retrieval without a network: canonical correlations, and posteriors of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skmmg._sklearn import Interval, validate_params

# modality: its rows and which of them are there
Blocks = Mapping[str, tuple[Any, np.ndarray]]


class ClassicSpec(BaseEstimator):
    """A method that maps each modality by itself, from the features alone."""

    name: ClassVar[str]
    #: whether it learns from classes
    needs_y: ClassVar[bool] = False

    def fit_maps(self, blocks: Blocks, codes: np.ndarray | None) -> dict[str, Pipeline]:
        """Fitted transformers, one for each modality, into one space."""
        raise NotImplementedError


class CanonicalCorrelation(ClassicSpec):
    """Canonical correlation analysis of two modalities, scikit-learn's.

    Parameters
    ----------
    n_components : int, default=6
        Number of pairs of directions; fewer where a modality has fewer dimensions.
    max_features : int, default=100
        A wider modality is first reduced to so many principal components, because correlations of
        more columns than samples are perfect and say nothing.

    Examples
    --------
    >>> from skmmg.estimators import CrossModalRetriever
    >>> retriever = CrossModalRetriever(model="cca").set_params(model__n_components=4)
    """

    name: ClassVar[str] = "cca"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "max_features": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, n_components: int = 6, max_features: int = 100) -> None:
        self.n_components = n_components
        self.max_features = max_features

    def fit_maps(self, blocks: Blocks, codes: np.ndarray | None) -> dict[str, Pipeline]:
        """Directions from the samples that have both modalities."""
        validate_params(self)
        if len(blocks) != 2:
            raise ValueError(
                f"model='cca' correlates two modalities, got {list(blocks)}. Name two different "
                "ones as query and gallery."
            )
        both = np.logical_and.reduce([present for _, present in blocks.values()])
        if both.sum() < 2:
            raise ValueError(
                f"model='cca' needs two samples with both of {list(blocks)}, got {both.sum()}."
            )
        for modality, (x, _) in blocks.items():
            rows = x[both]
            if not abs(rows.max(axis=0) - rows.min(axis=0)).max():
                raise ValueError(
                    f"model='cca' correlates modalities that vary, but {modality!r} is constant "
                    f"in the {both.sum()} samples that have both. Name another one as query or "
                    "gallery."
                )
        reducers = {m: _reducer(x[both], self.max_features) for m, (x, _) in blocks.items()}
        parts = [reducers[m].fit_transform(x[both]) for m, (x, _) in blocks.items()]
        rank = min(np.linalg.matrix_rank(part) for part in parts)
        cca = CCA(n_components=min(self.n_components, rank), max_iter=2000).fit(*parts)
        rotations = cca.x_rotations_, cca.y_rotations_
        scales = cca._x_std, cca._y_std
        return {
            m: make_pipeline(
                *(s for _, s in reducers[m].steps), _Project(rotation / scale[:, None])
            )
            for m, rotation, scale in zip(blocks, rotations, scales, strict=True)
        }


class SemanticMatching(ClassicSpec):
    """Posteriors of the classes, by a logistic regression in each modality.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the regularisation.

    References
    ----------
    Rasiwasia et al., A new approach to cross-modal multimedia retrieval, ACM Multimedia 2010,
    section 4.2.

    Examples
    --------
    >>> from skmmg.estimators import CrossModalRetriever
    >>> retriever = CrossModalRetriever(model="semantic").set_params(model__C=0.1)
    """

    name: ClassVar[str] = "semantic"
    needs_y: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def fit_maps(self, blocks: Blocks, codes: np.ndarray | None) -> dict[str, Pipeline]:
        """One classifier for each modality, from the samples that have it."""
        validate_params(self)
        if codes is None:
            raise ValueError(
                "model='semantic' requires y to be passed, but the target y is None. It learns "
                "from classes: pass them to fit."
            )
        maps = {}
        for modality, (x, present) in blocks.items():
            n_classes = len(np.unique(codes[present]))
            if n_classes < len(np.unique(codes)):
                raise ValueError(
                    f"model='semantic' needs samples of every class in modality {modality!r}, got "
                    f"{n_classes} of {len(np.unique(codes))} classes."
                )
            scaler = StandardScaler(with_mean=not sp.issparse(x))
            classifier = _Posteriors(self.C)
            maps[modality] = make_pipeline(scaler, classifier).fit(x[present], codes[present])
        return maps


class _Posteriors(BaseEstimator):
    """Class probabilities as a step of a pipeline."""

    def __init__(self, C: float) -> None:
        self.C = C

    def fit(self, X: Any, y: Any) -> Self:
        self.classifier_ = LogisticRegression(C=self.C, max_iter=5000).fit(X, y)
        return self

    def transform(self, X: Any) -> np.ndarray:
        return self.classifier_.predict_proba(X)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classifier_")


class _Project(BaseEstimator):
    """A linear map as a step of a pipeline."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix

    def fit(self, X: Any, y: Any = None) -> Self:
        return self

    def transform(self, X: Any) -> np.ndarray:
        return X @ self.matrix

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _reducer(x: Any, max_features: int) -> Pipeline:
    """Centre, and reduce to the directions that vary; a wide modality to `max_features` of them."""
    n_samples, n_features = x.shape
    size = min(max_features, n_features, n_samples - 1)
    if not isinstance(x, np.ndarray):
        svd = TruncatedSVD(max(1, min(size, n_features - 1)), random_state=0)
        return make_pipeline(svd, StandardScaler(with_std=False))
    return make_pipeline(PCA(size, svd_solver="full"), _DropConstant())


class _DropConstant(BaseEstimator):
    """Leave out directions whose spread is rounding noise."""

    def fit(self, X: Any, y: Any = None) -> Self:
        spread = X.std(0)
        self.kept_ = spread > 1e-9 * max(spread.max(), 1e-300)
        return self

    def transform(self, X: Any) -> np.ndarray:
        return X[:, self.kept_]


CLASSIC: dict[str, type[ClassicSpec]] = {
    spec.name: spec for spec in (CanonicalCorrelation, SemanticMatching)
}
