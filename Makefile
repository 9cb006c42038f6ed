# `make demo` and `make test` do all their own set-up: Python 3.10+ is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test coverage lint nets clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[fcn,draw,export,dev]'
	touch $@

demo: setup
	cd shapes-fcn && ../$(BIN)/python demo.py

test: setup lint
	$(BIN)/python -m pytest

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

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
