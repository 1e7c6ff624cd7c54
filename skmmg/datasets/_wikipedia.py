"""A benchmark of cross-modal retrieval: articles of Wikipedia, an image and a text each."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import io
from sklearn.utils import Bunch

from skmmg.graph import stack_modalities

_FILES = ("raw_features.mat", "trainset_txt_img_cat.list", "testset_txt_img_cat.list")
_PARTS = {"tr": "trainset", "te": "testset"}
_TARGET_NAMES = (
    "art",
    "biology",
    "geography",
    "history",
    "literature",
    "media",
    "music",
    "royalty",
    "sport",
    "warfare",
)


def load_wikipedia(folder: str | PathLike[str]) -> Bunch:
    """Load the image and text pairs of Wikipedia's featured articles from a folder.

    2866 sections of articles in ten categories, each with one image. The task is to find images by
    text and text by images; an item of the query's category is right. The data are for research use
    and not part of skmmg.

    ========= ======== ========================================
    modality  features what
    ========= ======== ========================================
    image     128      histogram of SIFT descriptors
    text      10       topics of a latent Dirichlet allocation
    ========= ======== ========================================

    Parameters
    ----------
    folder : str or path
        Where raw_features.mat, trainset_txt_img_cat.list and testset_txt_img_cat.list are, as the
        authors published them.

    Returns
    -------
    Bunch
        data : ndarray of shape (2866, 138)
            Image and text side by side; the 2173 items to train on come first.
        columns : dict of str to slice
            Which columns of `data` are whose: what the parameter ``modalities`` of the estimators
            takes.
        modalities : dict of str to ndarray of shape (2866, n_features_m)
            The same numbers, one matrix for each modality.
        target : ndarray of int64 of shape (2866,)
            Category, a position in `target_names`.
        target_names : list of str
            The categories.
        train_idx, test_idx : ndarray of int64
            The standard split: 2173 and 693 items.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If the files do not fit together.

    References
    ----------
    Rasiwasia, Costa Pereira, Coviello, Doyle, Lanckriet, Levy, Vasconcelos, A new approach to
    cross-modal multimedia retrieval, ACM Multimedia 2010.

    Examples
    --------
    >>> from skmmg.datasets import load_wikipedia
    >>> data = load_wikipedia("wikipedia_dataset")  # doctest: +SKIP
    >>> data.data[data.train_idx].shape  # doctest: +SKIP
    (2173, 138)
    """
    folder = Path(folder)
    absent = [name for name in _FILES if not (folder / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"The folder must hold {', '.join(_FILES)}, but {absent[0]} is not in {folder}. The "
            "authors' archive has these names."
        )
    arrays = io.loadmat(folder / _FILES[0])
    wanted = [f"{kind}_{part}" for kind in "IT" for part in _PARTS]
    if any(name not in arrays for name in wanted):
        found = [name for name in arrays if not name.startswith("__")]
        raise ValueError(f"{_FILES[0]} must hold the arrays {wanted}, got {found}.")
    modalities = {
        name: np.vstack([arrays[f"{letter}_{part}"] for part in _PARTS]).astype(np.float64)
        for name, letter in (("image", "I"), ("text", "T"))
    }
    targets = [_read_categories(folder / f"{name}_txt_img_cat.list") for name in _PARTS.values()]
    for part, target in zip(_PARTS, targets, strict=True):
        sizes = {name: len(arrays[name]) for name in (f"I_{part}", f"T_{part}")}
        if set(sizes.values()) != {len(target)}:
            raise ValueError(
                f"{_PARTS[part]} must have one category per item, got {len(target)} categories "
                f"for {sizes} rows."
            )
    data, columns = stack_modalities(modalities)
    n_train = len(targets[0])
    return Bunch(
        data=data,
        columns=columns,
        modalities=modalities,
        target=np.concatenate(targets),
        target_names=list(_TARGET_NAMES),
        train_idx=np.arange(n_train),
        test_idx=np.arange(n_train, len(data)),
    )


def _read_categories(file: Path) -> npt.NDArray[Any]:
    """Read the category of every line, counted from 0."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    try:
        categories = np.array([int(line.split("\t")[2]) for line in lines])
    except (IndexError, ValueError) as error:
        raise ValueError(
            f"Every line of {file.name} must have a text, an image and a category, separated by "
            "tabs."
        ) from error
    if categories.min() < 1 or categories.max() > len(_TARGET_NAMES):
        raise ValueError(
            f"Categories of {file.name} must be 1 to {len(_TARGET_NAMES)}, got "
            f"{categories.min()} to {categories.max()}."
        )
    return categories.astype(np.int64) - 1
