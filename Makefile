# The one entry to everything. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000
N ?= 1000
CELLS ?= *
SEED ?= $(shell date +%s)

.DEFAULT_GOAL := help
.PHONY: help install run demo test oracle abandoned lint format types docs docs-check lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with everything that development needs

$(VENV)/.installed: requirements-dev.txt pyproject.toml
	@echo "installing into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "otel-coach needs Python 3.11 or newer; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## start the reference service, measured, send one round of users, go on serving
	@$(BIN)/python -m demo --port $(PORT)

demo: install ## the same, then exit: 0 only if every figure is right
	@$(BIN)/python -m demo --once

test: install ## the whole ordinary suite
	@$(BIN)/python -m pytest $(PYTEST)

oracle: install ## N random requests from SEED: each figure against the provider's ledger
	@$(BIN)/python -m oracle --n $(N) --seed $(SEED) --cells '$(CELLS)'

abandoned: install ## 100,000 runs that nobody ends: what is left of them in memory
	@$(BIN)/python -m oracle.abandoned

lint: install docs-check ## ruff, and that the generated pages are up to date
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

format: install ## let ruff mend what it can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: install ## pyright, strict
	@$(BIN)/pyright --pythonpath $(BIN)/python

docs: install ## write the generated pages
	@$(BIN)/otel-coach metrics --write docs/metrics.md
	@$(BIN)/python -m oracle.truth --write docs/truth.md

docs-check: install
	@$(BIN)/otel-coach metrics --check docs/metrics.md
	@$(BIN)/python -m oracle.truth --check docs/truth.md

lock: install ## resolve the development environment anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--extra otlp --group dev --group example \
		--output-file requirements-dev.txt pyproject.toml

clean: ## remove .venv and what was built
	@rm -rf $(VENV) dist .pytest_cache .ruff_cache
