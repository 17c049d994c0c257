# Everything a checkout needs. `make run` and `make test` start from nothing but Python >= 3.11.
VENV ?= .venv
JOBS ?= 2
TRACE ?=
TRACES ?=
TRACE_LOAD ?= 0.7
PRESET ?= quick
BIN := $(VENV)/bin
PYTHON ?=
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install format lint type test test-all bench check run docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

# The virtual environment with the tested versions, made again when a dependency changes. It is made
# by the first Python that starts and is new enough, or by PYTHON=….
$(VENV)/.core: pyproject.toml constraints.txt
	@test -x $(BIN)/python || { \
	  for python in $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    echo "making $(VENV) with $$python and the versions of constraints.txt"; \
	    $$python -m venv $(VENV) && exit 0; \
	    echo "$$python cannot make it; on Debian: apt install python3-venv" >&2; exit 1; \
	  done; \
	  echo "sbs_gym needs Python >= 3.11; found none, name one: make PYTHON=…" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,agents]'
	@touch $@

install: $(VENV)/.dev  ## make .venv with everything a developer needs

format: $(VENV)/.dev  ## rewrite the code in the project's layout
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev  ## layout, rules, import contracts, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/codespell

type: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

test: $(VENV)/.dev  ## the tests: about seven minutes on two cores
	$(PYTEST) -n $(JOBS) --benchmark-disable

test-all: $(VENV)/.dev  ## every test but the benchmarks
	$(PYTEST) -n $(JOBS) --benchmark-disable -m 'not bench'

bench: $(VENV)/.dev  ## measure the speed
	$(PYTEST) -m bench -s

check: lint type test  ## what CI runs

run: $(VENV)/.core  ## measure the paper's claims: verdicts and a report (TRACE=file: on it too)
ifneq ($(TRACE),)
	@test -r '$(TRACE)' || { echo "TRACE=$(TRACE): no such file" >&2; exit 2; }
endif
	$(BIN)/sbs-gym reproduce preset=$(PRESET) jobs=$(JOBS) $(if $(TRACE),'trace=$(TRACE)' trace_load=$(or $(TRACE_LOAD),own))
	@echo "for all other commands: . $(BIN)/activate"

docs: $(VENV)/.dev  ## write docs/ and the tables of README.md (TRACES=folder: real traces too)
	$(BIN)/python docs/write_reference.py
	TRACES='$(TRACES)' $(BIN)/python docs/fill_readme.py README.md docs/paper.md docs/results.md docs/clusters.md docs/timing.md
	$(BIN)/python docs/copy_figures.py outputs/reproduce_full

clean:  ## remove the virtual environment, caches and build products (not outputs/)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
