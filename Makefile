# make demo    see it at work: a whole local world, nothing to install beforehand but Python 3.11
# make test    everything a change must pass (real Kafka and registry: Java 17 and Maven, or Docker)
# make lint    the fast part of it: style, format, types, architecture
# make format  put the code in order
# make bench   what an event costs
# make simulate  10,000 schedules of faults, played to the engine under a simulated clock
# make faults  every fault there is, on the real thing: about an hour, goes on where it was stopped

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench simulate faults format

help:
	@sed -n 's/^# make /make /p' Makefile

demo: $(VENV)/.ready-to-run
	@$(BIN)/tiktok-events demo

test: lint
	$(BIN)/pytest --numprocesses 2 --dist loadfile tests/unit
	$(BIN)/pytest --numprocesses 4 --dist loadfile tests/contract
	$(BIN)/pytest tests/integration tests/system

lint: $(VENV)/.ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready-to-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-to-test
	$(BIN)/python -m tests.bench

simulate: $(VENV)/.ready-to-test
	$(BIN)/python -m tests.simulation
	$(BIN)/python -m tests.simulation --bugs

faults: $(VENV)/.ready-to-test
	$(BIN)/python -m tests.faults --resume .cache/faults.jsonl

# Exact versions with their hashes; the project itself as a link to this checkout, so that a change
# is there at once whichever of the two came last.
$(VENV)/.ready-to-run: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(VENV): the locked requirements, once" >&2
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.ready-to-test: requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@echo "Setting up $(VENV): the locked requirements for development, once" >&2
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --editable .
	@touch $@ $(VENV)/.ready-to-run

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments (Debian, Ubuntu: apt-get install python3-venv)" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV)
