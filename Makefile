# Two commands matter: `make run` shows a pairing, `make test` proves the rest.
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BENCH_PIP := $(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test lint openapi bench chaos simulate mutants lock clean

run: $(VENV)/.run
	$(BIN)/sitepair demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

openapi: $(VENV)/.dev
	$(BIN)/openapi-spec-validator openapi.yaml

# Against the bare calls and against others, who are installed for this alone, in a place of their own.
# BENCH="idle calls --rounds 2" for a part of it.
bench: $(BENCH_VENV)/.bench
	$(BENCH_VENV)/bin/python -m bench $(BENCH)

# Real processes, killed and cut off at random; a run that failed is repeated with its --seed.
chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos --seconds 300 $(CHAOS)

# Virtual time: SIMULATE="--runs 20000 --seed 5000" for more, "--trace --seed S" for all of one.
simulate: $(VENV)/.dev
	$(BIN)/python -m tests.simulation $(SIMULATE)

# Bugs planted one at a time: which seed sees each, after how many schedules.
mutants: $(VENV)/.dev
	$(BIN)/python -m tests.simulation.mutants $(MUTANTS)

# What is installed is what the lock files name, hash by hash; the package itself needs no index.
$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(PIP) --require-hashes -r requirements-dev.lock
	touch $@

$(BENCH_VENV)/.bench: requirements-bench.lock pyproject.toml | $(BENCH_VENV)/bin/python
	$(BENCH_PIP) --require-hashes -r requirements-bench.lock
	$(BENCH_PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/bin/python $(BENCH_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sitepair needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(patsubst %/bin/python,%,$@)

# Needs uv, which nothing else here does.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate pyproject.toml --group build -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate pyproject.toml --group dev \
		--constraint requirements.lock -o requirements-dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate pyproject.toml --group bench \
		--constraint requirements.lock -o requirements-bench.lock

clean:
	rm -rf $(VENV) $(BENCH_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
