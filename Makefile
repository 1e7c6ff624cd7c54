# Every target sets up what it needs: a virtual environment in .venv, with the versions in
# constraints/constraints.txt. Only Python 3.11 or later, its pip, and make have to be there.
#
#   make demo              the main job on the bundled data; DATA=<folder> for the real IMDB network
#   make test              the test suite; ARGS="-k graph" goes to pytest
#   make check             ruff, mypy, import-linter, doctests
#   make docs              the documentation, in docs/_build/html
#   make bench             the benchmarks; DATA=<folder> as above, BENCH=<file> for one of them
#   make setup|format|clean

PYTHON ?= python3
WORKERS ?= 2
DATA ?=
ARGS ?=
# All benchmarks but the one that needs a GPU, and, without the folder of the IMDB network, those that need
# research data.
NEED_GPU := benchmarks/bench_gpu.py
NEED_DATA := benchmarks/bench_imdb.py benchmarks/bench_retrieval.py
BENCH ?= $(filter-out $(NEED_GPU) $(if $(DATA),,$(NEED_DATA)),$(sort $(wildcard benchmarks/bench_*.py)))

VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/constraints.txt
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --no-input --constraint $(CONSTRAINTS)
SOURCES := skmmg tests examples benchmarks docs/conf.py
WITH_DATA = $(if $(DATA),--data "$(DATA)")

# Threads that wait by spinning take the cores from those that work: tiny graphs become many times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := test
.PHONY: setup demo test check docs bench format clean
.DELETE_ON_ERROR:

setup: $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "skmmg needs Python 3.11 or later, and $(PYTHON) is not that. Say which: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) --editable ".[test,check]"
	@touch $@

$(VENV)/.installed-docs: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) --editable ".[docs]"
	@touch $@

demo: setup
	$(BIN)/python examples/demo.py $(WITH_DATA)

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: setup
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_docstrings.py

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

bench: setup
	set -e; for bench in $(BENCH); do echo "== $$bench"; $(BIN)/python $$bench $(WITH_DATA) $(ARGS); done

format: setup
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))
	$(BIN)/ruff format $(wildcard $(SOURCES))

clean:
	rm -rf $(VENV) build dist docs/_build docs/auto_examples docs/generated .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
