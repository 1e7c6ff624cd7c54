"""The bundled data: handwritten numerals, described by six modalities."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from skmmg.graph import stack_modalities

_MODALITIES = ("fac", "fou", "kar", "mor", "pix", "zer")


def load_mfeat(*, return_X_y: bool = False, as_frame: bool = False) -> Bunch | tuple[Any, Any]:
    """Load the handwritten numerals of UCI's Multiple Features, in six modalities.

    2000 numerals from Dutch utility maps, 200 of each digit, without edges: a graph specification
    such as ``graph="knn"`` links rows that look alike.

    ======== ======== ========================================
    modality features what
    ======== ======== ========================================
    fac      216      profile correlations
    fou      76       Fourier coefficients of the shapes
    kar      64       Karhunen-Loève coefficients
    mor      6        morphological features
    pix      240      pixel averages in 2 x 3 windows
    zer      47       Zernike moments
    ======== ======== ========================================

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return data frames and a series instead of arrays. Columns are called ``"fac_0"`` and so on,
        so that the estimators take ``modalities={"fac": "fac_", ...}`` too.

    Returns
    -------
    Bunch or tuple of (data, target)
        data : ndarray of float32, or DataFrame, of shape (2000, 649)
            The six modalities side by side. Their scales differ by orders of magnitude.
        columns : dict of str to slice
            Which columns of `data` are whose: what the parameter ``modalities`` of the estimators
            takes.
        modalities : dict of str to ndarray or DataFrame of shape (2000, n_features_m)
            The same numbers, one matrix for each modality.
        target : ndarray of int64, or Series, of shape (2000,)
            The digit. The rows are sorted by it.
        feature_names : list of str
            Names of the columns of `data`.
        DESCR : str
            Description, source and licence.

    Notes
    -----
    The data are under CC BY 4.0: whoever passes them on names the creator. `DESCR` tells how.

    References
    ----------
    Duin, R. (1998). Multiple Features [Dataset]. UCI Machine Learning Repository.
    https://doi.org/10.24432/C5HC70

    Examples
    --------
    >>> from skmmg.datasets import load_mfeat
    >>> digits = load_mfeat()
    >>> digits.data.shape
    (2000, 649)
    >>> digits.columns["mor"]
    slice(356, 362, None)
    >>> {modality: matrix.shape[1] for modality, matrix in digits.modalities.items()}
    {'fac': 216, 'fou': 76, 'kar': 64, 'mor': 6, 'pix': 240, 'zer': 47}
    """
    with (files("skmmg.datasets") / "data" / "mfeat.npz").open("rb") as file:
        arrays = dict(np.load(file))
    target: Any = arrays["target"].astype(np.int64)
    modalities: dict[str, Any] = {name: arrays[name].astype(np.float32) for name in _MODALITIES}
    data: Any
    data, columns = stack_modalities(modalities)
    feature_names = [
        f"{name}_{column}" for name in _MODALITIES for column in range(modalities[name].shape[1])
    ]
    if as_frame:
        data = pd.DataFrame(data, columns=feature_names)
        modalities = {name: data.iloc[:, columns[name]] for name in _MODALITIES}
        target = pd.Series(target, name="target")
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        columns=columns,
        modalities=modalities,
        target=target,
        feature_names=feature_names,
        DESCR=(files("skmmg.datasets") / "data" / "LICENSE-mfeat.txt").read_text(encoding="utf-8"),
    )
