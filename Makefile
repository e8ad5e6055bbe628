# The two commands of the README, and what developers use. Each sets up what it needs in .venv.
# Variables: PYTHON (3.11 or newer), TORCH (a requirement to install instead of the one chosen), VENV, LOCKED (1: what tests
# and linters need comes from requirements/ci.lock, checked by hash).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export TORCH LOCKED

.PHONY: demo test test-fast lint docs format organism bench-step lock audit sbom package clean help

help:            ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ -/'

demo: $(VENV)/.ready         ## the main job on the embedded model, no network; ends with a table and a report
	$(BIN)/logitrail demo --out logitrail-demo

test: $(VENV)/.ready-dev     ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(VENV)/.ready-dev ## tests that train nothing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/losses tests/stats tests/config tests/tokens tests/report

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

lock: $(VENV)/.ready-release ## requirements/ci.lock anew: versions and hashes of what tests and linters need
	UV=$(BIN)/uv sh tools/lock.sh

audit: $(VENV)/.ready-release ## known faults of what the lock names; red where the database cannot be reached
	$(BIN)/pip-audit --strict --no-deps --disable-pip --desc off -r requirements/ci.lock -r requirements/torch.txt

sbom: $(VENV)/.ready-release ## what is installed here as a CycloneDX bill of materials, into dist/
	mkdir -p dist
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.cdx.json $(BIN)/python

package: $(VENV)/.ready-dev  ## wheel and sdist, into dist/
	$(BIN)/python -m build --no-isolation --outdir dist

clean:           ## remove the environment and what the demo wrote
	rm -rf $(VENV) logitrail-demo organism site dist

$(VENV)/.ready: pyproject.toml tools/setup.sh requirements/torch.txt requirements/ci.lock
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh
	@touch $@

$(VENV)/.ready-release: $(VENV)/.ready
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh release
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup.sh dev
	@touch $@
