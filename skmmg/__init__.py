"""Multi-modal graph learning with scikit-learn's interface."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from skmmg.graph import (
    KNNGraph,
    MultiModalGraph,
    NodeView,
    RadiusGraph,
    Schema,
    split_modalities,
    stack_graphs,
    stack_modalities,
)
from skmmg.preprocessing import ModalityTransformer

if TYPE_CHECKING:
    from skmmg.estimators import (
        AutoModel,
        CrossModalRetriever,
        MultiModalGraphClassifier,
        NodeEmbedder,
    )
    from skmmg.models import list_models

__version__ = "0.1.0"

__all__ = [
    "AutoModel",
    "CrossModalRetriever",
    "KNNGraph",
    "ModalityTransformer",
    "MultiModalGraph",
    "MultiModalGraphClassifier",
    "NodeEmbedder",
    "NodeView",
    "RadiusGraph",
    "Schema",
    "list_models",
    "split_modalities",
    "stack_graphs",
    "stack_modalities",
]

# importing torch takes seconds, so what needs it is imported when it is asked for
_NEEDS_TORCH = {
    "AutoModel": "skmmg.estimators",
    "CrossModalRetriever": "skmmg.estimators",
    "MultiModalGraphClassifier": "skmmg.estimators",
    "NodeEmbedder": "skmmg.estimators",
    "list_models": "skmmg.models",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
