# `make siamese` runs the tutorial, `make test` the tests. Each sets up all that it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml $(shell find pycaffe_lite -name '*.py' -o -name '*.binpb' -o -name '*.pyi')

.PHONY: siamese test test-slow lint proto docs clean
.DELETE_ON_ERROR:

siamese: .venv/installed
	examples/siamese/demo.sh

test: .venv/installed-dev
	$(BIN)/pytest -m "not slow"

test-slow: .venv/installed-dev
	$(BIN)/pytest -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

proto: .venv/installed-dev
	$(BIN)/python tools/generate_proto.py

docs: .venv/installed-dev
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --quiet .
	touch $@

.venv/installed-dev: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --quiet '.[dev]'
	touch $@ .venv/installed
