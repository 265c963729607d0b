# `make up` runs a three-node cluster, `make test` tests everything; both set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help up test lint types unit clean
help:
	@echo "make up     install what is missing and run a three-node cluster until Ctrl-C"
	@echo "make test   install what is missing, then lint, types, contracts and all tests"
	@echo "make lint types unit    parts of it;   make clean    remove .venv and caches"

$(VENV)/.run: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast]'
	@touch $@

$(VENV)/.test: $(VENV)/.run pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fast,test,conformance]'
	@touch $@

up: $(VENV)/.run
	@exec $(BIN)/quorate up $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.test
	$(BIN)/mypy

unit: $(VENV)/.test
	$(BIN)/pytest -q -m "not process and not conformance" -n 2

test: lint types
	$(BIN)/pytest -q -m "not process and not conformance" -n 2
	$(BIN)/pytest -q -m "process or conformance"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
