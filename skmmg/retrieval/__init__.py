"""Nearest neighbours in large galleries: exact, approximate, and outside of the process."""

from skmmg.retrieval._base import VectorIndex
from skmmg.retrieval._make import load_index, make_index
from skmmg.retrieval._recall import index_recall

__all__ = ["VectorIndex", "index_recall", "load_index", "make_index"]
