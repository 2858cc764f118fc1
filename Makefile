# `make siamese` runs the tutorial, `make test` the tests. Each sets up all that it needs in .venv.
# `make dev` sets .venv up for work on the code: what is edited is what runs. Without it the tests run against the built wheel.

PYTHON ?= python3
EXTRAS ?= dev  # dev,cuda-dev also tests the kernels for a GPU, without one (about 500 MB)
WORKERS ?= 2  # test processes; each runs kernels on all cores
BIN := .venv/bin
SOURCES := pyproject.toml $(shell find pycaffe_lite -name '*.py' -o -name '*.binpb' -o -name '*.pyi')
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal
# What each room of the house does, in seconds once kernels are compiled.
SMOKE := $(addprefix tests/test_,architecture.py arena.py errors.py filler.py kit_samples.py net_spec.py own_layer.py \
  prototxt.py rules.py summary.py upgrade.py check.py devices.py)

.PHONY: siamese dev test smoke test-slow lint proto docs clean
.DELETE_ON_ERROR:

siamese: .venv/installed
	examples/siamese/demo.sh

dev: | .venv/bin/python
	touch .venv/editable
	$(BIN)/python -m pip install --quiet -e '.[$(strip $(EXTRAS))]'
	touch .venv/installed-dev .venv/installed

test: .venv/installed-dev
	$(BIN)/pycaffe_lite warmup
	$(PYTEST) -m "not slow" --durations=20

smoke: .venv/installed-dev
	$(PYTEST) -q -m "not slow" $(SMOKE)

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
	$(BIN)/python -m pip install --quiet $(if $(wildcard .venv/editable),-e) .
	touch $@

.venv/installed-dev: $(SOURCES) | .venv/bin/python
	$(BIN)/python -m pip install --quiet $(if $(wildcard .venv/editable),-e) '.[$(strip $(EXTRAS))]'
	touch $@ .venv/installed
