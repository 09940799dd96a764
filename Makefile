# Everything a checkout needs: `make demo` and `make test` do their own set-up with Python 3.11, a C compiler and make.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test check format test-slow test-data test-gpu test-slurm notebooks bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it with PYTHON=..., such as make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.package: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.notebooks: $(VENV)/.dev
	$(PIP) install --quiet --constraint constraints.txt --editable '.[notebooks]'
	@touch $@

setup: $(VENV)/.package ## install the package into .venv (again only when pyproject or constraints change)
setup-dev: $(VENV)/.dev ## the same with what tests and checks need

demo: $(VENV)/.package ## train the small systems on built-in data, then open runs/demo/report.html
	$(BIN)/lightning-cv demo

test: $(VENV)/.dev ## all fast tests
	$(PYTEST) $(PARALLEL) -m "not slow and not data and not gpu and not slurm and not notebook"

check: $(VENV)/.dev ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) tests/test_layers.py

format: $(VENV)/.dev ## put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-slow: $(VENV)/.dev ## tests of training quality
	$(PYTEST) -m "slow and not gpu and not slurm" --timeout 3600

test-data: $(VENV)/.dev ## fast tests on the real samples, skipped where there are none
	$(PYTEST) -m "data and not slow and not gpu"

test-gpu: $(VENV)/.dev ## tests that need an accelerator
	$(PYTEST) -m gpu

test-slurm: $(VENV)/.dev ## tests on a private SLURM of two nodes; skipped where its packages or root are missing
	$(PYTEST) -m slurm -rs --timeout 1800 tests/slurm

notebooks: $(VENV)/.notebooks ## run every notebook from its text form
	$(PYTEST) -m notebook --timeout 600

bench: $(VENV)/.dev ## measurements beside others, in one run; not equal_budget.py, which trains for hours
	for file in $(filter-out %/equal_budget.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$file || exit 1; done

clean: ## remove what can be made again; runs and data are kept
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
	find lightning_cv tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
