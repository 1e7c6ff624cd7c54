"""What a user touches: estimators with scikit-learn's interface."""

from skmmg.estimators._auto import AutoModel
from skmmg.estimators._classifier import MultiModalGraphClassifier
from skmmg.estimators._embedder import NodeEmbedder
from skmmg.estimators._retriever import CrossModalRetriever

__all__ = ["AutoModel", "CrossModalRetriever", "MultiModalGraphClassifier", "NodeEmbedder"]
