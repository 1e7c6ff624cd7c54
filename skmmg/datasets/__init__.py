"""Where a graph comes from: planted networks (`make_*`) and real data (`load_*`)."""

from skmmg.datasets._folder import load_folder
from skmmg.datasets._imdb import load_imdb
from skmmg.datasets._mfeat import load_mfeat
from skmmg.datasets._planted import make_multimodal_graph
from skmmg.datasets._wikipedia import load_wikipedia

__all__ = ["load_folder", "load_imdb", "load_mfeat", "load_wikipedia", "make_multimodal_graph"]
