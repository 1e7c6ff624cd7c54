"""How good a ranking of neighbours is: metrics of retrieval, and scorers made of them."""

from skmmg.metrics._ranking import (
    hit_rate_at_k,
    mean_average_precision,
    mean_reciprocal_rank,
    median_rank,
    ndcg,
    precision_at_k,
    recall_at_k,
)
from skmmg.metrics._scorer import make_retrieval_scorer

__all__ = [
    "hit_rate_at_k",
    "make_retrieval_scorer",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "median_rank",
    "ndcg",
    "precision_at_k",
    "recall_at_k",
]
