# Two commands are enough: `make demo` and `make test`. Both set up what they need in .venv, from a machine that has
# Python 3.11 (or newer) with venv, and nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
MODEL ?= icu_mortality
DATA ?=
SIGN_KEY ?=
DRILL ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check bench drill train lock clean

demo: .venv/run        ## start Bedside with the pocket EHR and show a patient's cards
	$(BIN)/python -m bedside demo $(DEMO)

test: .venv/test       ## the whole test suite
	$(BIN)/python -m pytest $(TEST)

check: .venv/test      ## what a change must pass: format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(TEST)

bench: .venv/test      ## speed, by ratios within one run
	$(BIN)/python -m benchmarks $(BENCH)

drill: .venv/test      ## attack the signed log: make drill DRILL="crash faults"; minutes each, all of them an hour
	$(BIN)/python -m benchmarks.drills $(DRILL)

train: .venv/train     ## make train MODEL=icu_mortality DATA=folder SIGN_KEY=file FRESH=1
	$(BIN)/python -m model_artifacts.$(MODEL).train $(if $(DATA),--data $(DATA)) $(if $(SIGN_KEY),--sign-key $(SIGN_KEY)) $(if $(FRESH),--fresh)

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Bedside needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python requirements/build.lock requirements/run.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/build.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/run.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/test: .venv/run requirements/test.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/test.lock
	touch $@

# torch goes first and alone: what depends on it must find it there.
.venv/train: .venv/test requirements/train.lock
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' requirements/train.lock)"
	$(BIN)/python -m pip install --quiet -r requirements/train.lock
	touch $@

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --no-strip-extras --allow-unsafe --no-header \
  --no-emit-index-url --no-emit-find-links --no-emit-options

lock: .venv/run        ## renew the hashed lock files from pyproject.toml (train.lock is kept by hand: see there)
	$(BIN)/python -m pip install --quiet pip-tools
	$(COMPILE) --output-file requirements/build.lock requirements/build.in
	$(COMPILE) --output-file requirements/run.lock pyproject.toml
	$(COMPILE) --extra test --output-file requirements/test.lock pyproject.toml

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
