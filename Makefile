# make demo: fit the paper's own points and answer with intervals.   make test: lint, types, tests, the wheel.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.13 python3.12 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint types unit wheel bench-fit bench-held-out clean

demo: $(VENV)/modelling
	$(BIN)/qidbayes demo --output demo

test: lint types unit wheel

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

unit: $(VENV)/dev
	$(BIN)/pytest

# The wheel, in an empty environment and from another folder.
wheel: $(VENV)/dev
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/python tests/check_wheel.py dist/*.whl

bench-fit: $(VENV)/dev
	$(BIN)/python benchmarks/fit.py

bench-held-out: $(VENV)/dev
	$(BIN)/python benchmarks/held_out.py

clean:
	rm -rf $(VENV) demo dist

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "qidbayes needs Python 3.12 or newer: install python3.12 with its venv module, then run make again"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/modelling: pyproject.toml $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/dev: pyproject.toml $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/modelling
