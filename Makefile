# What can be done here; `make` alone lists it. A fresh machine needs Python 3.11 and make: every
# target sets up what it uses by itself, in .venv, and does nothing where nothing changed.

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell grep '^torch==' constraints.txt)
PIP   := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

# Pyright would ask the network for a newer version of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint gen bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Install everything into .venv; the other targets do it when it is needed

demo: $(READY) ## Run one image task from submit to signed webhook and show each step
	@$(BIN)/callsheetd demo

up: $(READY) ## Start the whole plane on this machine; its state stays in .callsheet
	@$(BIN)/callsheetd up

test: $(READY) ## Run the tests; ARGS="tests/ledger -x" goes to pytest
	@$(BIN)/pytest $(ARGS)

lint: $(READY) ## Check style, types, the direction of imports, and the contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/python protos/breaking.py

gen: $(READY) ## Generate protos/gen from the contract
	$(BIN)/python protos/generate.py

bench: $(READY) ## Measure, print, and write build/bench.json
	@PYTHONPATH=. $(BIN)/python tests/bench/run.py

clean: ## Remove build outputs and caches; keep .venv and the state in .callsheet
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find clients services actors protos tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The two environments a package is built in are this one, so no version is left to chance; torch
# goes first and alone, which finds the CPU build where one is offered.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV); the first time takes some minutes."
	@test -x $(BIN)/pip || for python in python3.11 python3; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        "$$python" -m venv $(VENV) && break; \
	    fi; \
	done
	@test -x $(BIN)/pip || { echo "Python 3.11 or newer, with venv, is needed." >&2; exit 1; }
	@$(PIP) $(TORCH)
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
