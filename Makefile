# Everything runs from a virtual environment in .venv, made from hash-pinned requirements with pip alone.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup system demo test check bench fuzz docs-reference requirements clean

# The first Python of 3.11 or later; `make PYTHON=/usr/bin/python3.12 ...` takes another.
PYTHON ?= $(shell bash scripts/bootstrap.sh which)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
STAMP := .venv/.leanpacs-installed

PYTEST_ARGS ?=
TESTS ?= tests

# Some environments set it. Each of the many processes that tests start would then compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make demo    start an archive, send real studies into it, show what it saved; Ctrl-C ends it"
	@echo "make test    all tests (PYTEST_ARGS='-k pack -x' and TESTS=tests/unit narrow them)"
	@echo "make check   format, lint, types, imports, spelling"
	@echo "make fuzz    20,000 spoilt code streams and 3,000 spoilt files (FUZZ_ARGS='--seed 7')"
	@echo "make bench   benchmarks: ingest against gzip and Orthanc, memory"
	@echo "make setup   the virtual environment only"
	@echo "make system  the Debian packages that some tests want (as root)"
	@echo "make docs-reference   regenerate docs/reference/{cli,settings,errors}.md"
	@echo "make requirements     pin the dependencies anew (needs uv)"
	@echo "make clean   remove what was made here"

setup: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml scripts/bootstrap.sh
	bash scripts/bootstrap.sh python
	"$$(bash scripts/bootstrap.sh which $(PYTHON))" -m venv .venv
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	touch $@

system:
	bash scripts/bootstrap.sh

demo: setup
	$(BIN)/python scripts/demo.py $(DEMO_ARGS)

# Two workers: neighbours stay together, so that servers of a module start once, and who has nothing left takes from
# the other's end. PYTEST_ARGS='-n 0' runs all in one process.
test: setup system
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS) $(TESTS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell src tests scripts docs benchmarks restore *.md *.toml Makefile

bench: setup system
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

fuzz: setup
	$(BIN)/python -m tests.fuzz streams --count 20000 $(FUZZ_ARGS)
	$(BIN)/python -m tests.fuzz files --count 3000 $(FUZZ_ARGS)

docs-reference: setup
	$(BIN)/python scripts/generate_reference.py

COMPILE := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
	--universal --python-version 3.11 --custom-compile-command "make requirements"

requirements:
	$(COMPILE) pyproject.toml --output-file requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra example --extra progressive --extra postgres --extra s3 --extra dask --extra video requirements/dev.in --constraint requirements/runtime.txt \
	  --output-file requirements/dev.txt

clean:
	rm -rf .venv build dist demo-data bench-data .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .benchmarks .import_linter_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
