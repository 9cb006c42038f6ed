# `make demo` and `make test` do all their own set-up: Python 3.10+ is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo reproduce test quick coverage lint nets image image-test clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[fcn,draw,export,dev]'
	touch $@

demo: setup
	cd shapes-fcn && ../$(BIN)/python demo.py

# Everything that a table of the papers takes, or a row: `make reproduce TABLE=pami3/8s GPU=0 DATA=/big/disk`. Stopped,
# the same command goes on. `python paper.py reproduce pami3 --dry-run` prints the steps.
reproduce: setup
	@test -n "$(TABLE)" || { echo "Which table? make reproduce TABLE=pami3; python paper.py lists them."; exit 2; }
	$(BIN)/python paper.py reproduce $(TABLE) $(if $(GPU),--gpu $(GPU)) $(if $(DATA),--data "$(DATA)")
	$(BIN)/python paper.py --write

test: setup lint
	$(BIN)/python -m pytest

# What to run while working: all but the slow tests, a worker a core, each with a thread of its own.
quick: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

# The share of the engine's lines that the tests run; below 95 % it fails.
coverage: setup
	$(BIN)/python -m pytest --cov=caffe --cov-report=term:skip-covered --cov-fail-under=95

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Write every experiment's prototxts again; a test holds the committed ones equal to this.
nets: setup
	$(BIN)/python -m nets

# The container image. BUILD_FLAGS="--build-arg UID=$(id -u)" makes what it writes yours, and
# BUILD_FLAGS="--build-arg BASE=python:3.12-slim" is one without CUDA.
image:
	docker build --tag fcn --build-arg VERSION="$$(git describe --always --abbrev=12 --dirty=+changes 2>/dev/null || echo unknown)" \
		$(BUILD_FLAGS) .

# Builds it and runs the tests inside, with Docker, or without its engine with buildah and debootstrap.
image-test:
	docker/image-test.sh

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
