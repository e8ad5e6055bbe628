# The two commands of the README, and what developers use. Each sets up what it needs in .venv.
# Variables: PYTHON (3.11 or newer), TORCH (a requirement to install instead of the one chosen), VENV.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export TORCH

.PHONY: demo test test-fast lint docs format organism bench-step clean help

help:            ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ -/'

demo: $(VENV)/.ready         ## the main job on the embedded model, no network; ends with a table and a report
	$(BIN)/logitrail demo --out logitrail-demo

test: $(VENV)/.ready-dev     ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-fast: $(VENV)/.ready-dev ## tests that train nothing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/losses tests/stats tests/config tests/tokens tests/report

lint: $(VENV)/.ready-dev     ## ruff, mypy --strict, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.ready-dev     ## the documentation site, into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.ready-dev   ## rewrite the layout of the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

organism: $(VENV)/.ready     ## make the embedded model again, from its grammar and seeds, into ./organism
	$(BIN)/python -m logitrail.demo.making --out organism

bench-step: $(VENV)/.ready   ## cost of a training step, side by side: about 25 minutes on two idle cores, resumable
	$(BIN)/python benchmarks/step/run.py

clean:           ## remove the environment and what the demo wrote
	rm -rf $(VENV) logitrail-demo organism site

$(VENV)/.ready: pyproject.toml tools/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh dev
	@touch $@
