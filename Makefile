# Everything runs in .venv, which `make setup` builds and which is rebuilt only when the dependencies change.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-data check format bench clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Install the project and its tools into .venv

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found. Install it, or say: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || $(PYTHON) -m virtualenv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment: its venv or ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere: $(PYTHON) -m pip install virtualenv." >&2; exit 1; }
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

demo: setup ## Find the smallest student for the demo task, from nothing to the report
	$(BIN)/underdog demo

test: setup ## Run the tests; those that need real data run where UNDERDOG_DATA is set
	$(BIN)/python -m pytest

test-data: setup ## Run only the tests that need real data (UNDERDOG_DATA=/folder)
	$(BIN)/python -m pytest -m data

check: setup ## Check format, style, types and the order of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: setup ## Put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-bench ## Run every benchmark against its peer, quickly (UNDERDOG_DATA=/folder with ARC)
	@failed=; for script in $(filter-out benchmarks/common.py,$(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(BIN)/python $$script --quick || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "These did not hold, or could not run:$$failed" >&2; exit 1; }

clean: ## Remove .venv and what tools left behind
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
