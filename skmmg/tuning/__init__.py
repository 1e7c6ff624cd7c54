"""Tuning: where to search for the parameters of a model."""

from skmmg.tuning._search_space import search_space, suggest

__all__ = ["search_space", "suggest"]
