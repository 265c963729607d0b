# `make up` runs a three-node cluster, `make test` tests everything. Both first set up what they
# need in .venv; when that is done, both start at once. Needed: Python 3.11 or newer with venv, pip.
#
#   PYTHON=python3.12    which Python to make .venv from (default: the first one new enough)
#   ARGS='--nodes 5'     further arguments for `quorate up`
#   TESTS='-k lock'      further arguments for pytest

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PURE := not process and not conformance

.PHONY: help up test lint types unit process conformance acceptance clean
.DELETE_ON_ERROR:

help:
	@echo "make up            a three-node cluster on this machine, until Ctrl-C"
	@echo "make test          lint, types, import contracts and all tests"
	@echo "make lint          ruff and the import contracts"
	@echo "make types         mypy"
	@echo "make unit          tests without processes, two at a time"
	@echo "make process       tests that start real nodes"
	@echo "make conformance   other people's clients against real nodes"
	@echo "make acceptance    write docs/acceptance.md again from the tests"
	@echo "make clean         remove .venv and caches"

# ---- setting up ---------------------------------------------------------------------------------

$(BIN)/python:
	@for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  $$candidate -c 'import venv, ensurepip' 2>/dev/null || { no_venv=$$candidate; continue; }; \
	  echo "making $(VENV) with $$($$candidate --version)"; \
	  $$candidate -m venv $(VENV); exit $$?; \
	done; \
	if [ -n "$$no_venv" ]; then \
	  echo "error: $$no_venv has no venv module; on Debian and Ubuntu: apt install python3-venv"; \
	else \
	  echo "error: quorate needs Python 3.11 or newer; found: $$($(or $(PYTHON),python3) --version 2>&1)"; \
	  echo "       install one, or name it: make PYTHON=/path/to/python3.11"; \
	fi >&2; exit 1

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "installing what a node needs"
	@$(PIP) -e '.[fast]' || { \
	  echo "uvloop cannot be installed here: nodes will use plain asyncio, which is slower" >&2; \
	  $(PIP) -e .; }
	@# Each node is a process, and compiling takes longer than all else that it does at its start.
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.run
	@echo "installing what the tests need"
	@$(PIP) -e '.[test,conformance]' || { \
	  echo "the extra 'conformance' cannot be installed here: kazoo's suite will be skipped" >&2; \
	  $(PIP) -e '.[test]'; }
	@touch $@

# ---- running ------------------------------------------------------------------------------------

up: $(VENV)/.run
	@exec $(BIN)/quorate up $(ARGS)

# ---- testing ------------------------------------------------------------------------------------

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test
	$(BIN)/pytest -q -n 2 -m "$(PURE)" $(TESTS)

process: $(VENV)/.test
	$(BIN)/pytest -q -m process $(TESTS)

conformance: $(VENV)/.test
	$(BIN)/pytest -q -m conformance $(TESTS)

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 -m "$(PURE)" $(TESTS)
	$(BIN)/pytest -q -m "process or conformance" $(TESTS)

acceptance: $(VENV)/.test
	$(BIN)/python tests/tidy/acceptance.py --write

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
