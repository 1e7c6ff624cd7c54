"""Models: one file per system, with its spec and its module."""

from __future__ import annotations

import difflib
from typing import Any

import pandas as pd

from skmmg.models._base import ModelOutput, ModelSpec
from skmmg.models.dual_mlp import DualMLP
from skmmg.models.gat import GAT
from skmmg.models.gcn import GCN
from skmmg.models.han import HAN
from skmmg.models.hero import HERO
from skmmg.models.hetgnn import HetGNN
from skmmg.models.hgnn_ima import HGNNIMA
from skmmg.models.hgt import HGT
from skmmg.models.idkg import IDKG
from skmmg.models.mamsa import MAMSA
from skmmg.models.mhgat import MHGAT
from skmmg.models.mlp import MLP
from skmmg.models.mm_gcn import MMGCN
from skmmg.models.mm_gcn_pool import MMGCNPool
from skmmg.models.sage import SAGE
from skmmg.models.sehgnn import SeHGNN
from skmmg.models.shgp import SHGP
from skmmg.models.strucgcn import StrucGCN
from skmmg.models.xgea import XGEA

MODELS: dict[str, type[ModelSpec]] = {
    "hgnn_ima": HGNNIMA,
    "hgt": HGT,
    "han": HAN,
    "sehgnn": SeHGNN,
    "mhgat": MHGAT,
    "xgea": XGEA,
    "idkg": IDKG,
    "hetgnn": HetGNN,
    "shgp": SHGP,
    "hero": HERO,
    "mm_gcn": MMGCN,
    "mm_gcn_pool": MMGCNPool,
    "gcn": GCN,
    "gat": GAT,
    "sage": SAGE,
    "strucgcn": StrucGCN,
    "mamsa": MAMSA,
    "mlp": MLP,
}

__all__ = [
    "GAT",
    "GCN",
    "HAN",
    "HERO",
    "HGNNIMA",
    "HGT",
    "IDKG",
    "MAMSA",
    "MHGAT",
    "MLP",
    "MMGCN",
    "MODELS",
    "SAGE",
    "SHGP",
    "XGEA",
    "DualMLP",
    "HetGNN",
    "MMGCNPool",
    "ModelOutput",
    "ModelSpec",
    "SeHGNN",
    "StrucGCN",
    "get_model",
    "list_models",
]


def get_model(model: str | ModelSpec) -> ModelSpec:
    """Spec of a model, from its name or as it is.

    Parameters
    ----------
    model : str or ModelSpec
        A name that `list_models` shows, or a spec.

    Returns
    -------
    ModelSpec
        A new spec with default parameters, or `model`.

    Raises
    ------
    ValueError
        If the name is not known.
    TypeError
        If `num_hops` of the spec is no method.

    Examples
    --------
    >>> from skmmg.models import get_model
    >>> get_model("hgt")
    HGT()
    """
    if isinstance(model, ModelSpec):
        model._check_hops()
        return model
    if isinstance(model, str) and model in MODELS:
        return MODELS[model]()
    close = difflib.get_close_matches(str(model), MODELS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"model={model!r} is not known.{hint} Known models: {', '.join(MODELS)}; or pass a spec "
        "such as skmmg.models.HGNNIMA()."
    )


def list_models() -> pd.DataFrame:
    """Table of the models: name, class, tasks, fusion modes, paper.

    Returns
    -------
    pandas.DataFrame
        One row per model, indexed by name.

    Examples
    --------
    >>> from skmmg import list_models
    >>> list_models().loc["hgt", "spec"]
    'HGT'
    """
    rows: dict[str, dict[str, Any]] = {
        name: {
            "spec": spec.__name__,
            "tasks": ", ".join(spec.tasks),
            "fusion": ", ".join(spec.fusion_modes) or "native",
            "paper": spec.paper,
        }
        for name, spec in MODELS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
