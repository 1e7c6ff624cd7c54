"""Configuration of the documentation: `make docs` builds it."""

from __future__ import annotations

import os
import warnings
from importlib.metadata import version as installed_version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

project = "skmmg"
author = "the skmmg developers"
copyright = "2026, the skmmg developers"
release = version = installed_version("skmmg")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
# The decisions are notes for those who change skmmg; they are read where they lie.
exclude_patterns = ["_build", "decisions", "auto_examples/*.ipynb"]

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says the types, with their shapes and ranges
numpydoc_show_class_members = False  # the template of a class lists them
default_role = "py:obj"  # what stands in single backticks in a docstring has a name

html_theme = "pydata_sphinx_theme"
html_title = "skmmg"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"api": []}
html_static_path = ["_static"]
html_css_files = ["wide.css"]  # tables of results and code of 100 columns

sphinx_gallery_conf = {
    "examples_dirs": str(Path("..", "examples")),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(__init__|demo)\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 10,
    "write_computation_times": False,
}

# An example that warns shows a warning to its reader: mend the example.
warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
