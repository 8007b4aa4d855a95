# Everything happens in .venv, which the first command makes. PYTHON=python3.12 chooses another Python.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
INSTALL := $(RUN)/python -m pip install --quiet --constraint constraints.txt --editable
PYTEST := OMP_NUM_THREADS=1 $(RUN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: demo test test-all lint format docs pictures clean

demo: $(VENV)/demo.done  ## train a small ViT on generated pictures; say how well it did and where it looked
	$(RUN)/vitrail demo --out demo

test: $(VENV)/dev.done  ## the tests, at most ten minutes on two cores
	$(PYTEST) -m "not slow"

test-all: $(VENV)/dev.done  ## the slow tests too
	$(PYTEST)

lint: $(VENV)/dev.done  ## style and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright

format: $(VENV)/dev.done
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

docs: $(VENV)/docs.done  ## the manual as web pages, the lecture run anew: docs/_build/html
	OMP_NUM_THREADS=1 $(RUN)/sphinx-build --fail-on-warning docs docs/_build/html

pictures: $(VENV)/demo.done  ## the pictures of the README, drawn anew
	$(RUN)/python docs/make_pictures.py

clean:
	rm -rf $(VENV) demo docs/_build .pytest_cache .ruff_cache

$(VENV)/python.done:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vitrail needs Python 3.11 or newer; type: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): a few minutes, once."
	@touch $@

$(VENV)/demo.done: $(VENV)/python.done pyproject.toml constraints.txt
	$(INSTALL) .
	@touch $@

$(VENV)/dev.done: $(VENV)/python.done pyproject.toml constraints.txt
	$(INSTALL) ".[dev]"
	@touch $@

$(VENV)/docs.done: $(VENV)/python.done pyproject.toml constraints.txt
	$(INSTALL) ".[docs]"
	@touch $@
