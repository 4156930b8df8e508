# Swath: every target sets up what it needs by itself. `make help` lists them.
.DEFAULT_GOAL := help
PYTHON_IN_VENV := .venv/bin/python
LOOPBACK := $(PYTHON_IN_VENV) -m tests.loopback_only
# A file's tests share what is costly to make, so they stay together. Tests of the built-in sandbox archive, whose
# server has a fixed port, run one after the other.
ONE_PORT := tests/flows tests/object_store/test_data_to_model.py
PYTEST := $(LOOPBACK) $(PYTHON_IN_VENV) -m pytest
PYTEST_SIDE_BY_SIDE = $(PYTEST) -n auto --dist loadfile $(addprefix --ignore=,$(ONE_PORT))
export PYTHON
# Threads of torch that wait shall sleep: servers, trainings and tests share the cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup demo test test-all lint bench soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

setup: ## make .venv from requirements.lock (finds Python 3.12 or 3.13)
	@bash deployments/setup.sh

demo: setup ## the whole way on the sandbox archive, offline, on 2 cores
	@.venv/bin/swath demo

test: setup ## the tests (up to 20 min on 2 cores), network blocked but for loopback
	@$(PYTEST_SIDE_BY_SIDE) -m "not long"
	@$(PYTEST) $(ONE_PORT) -m "not long"

test-all: setup ## the long tiers too (up to 90 min)
	@$(PYTEST_SIDE_BY_SIDE)
	@$(PYTEST) $(ONE_PORT)

lint: setup ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

soak: setup ## 5,000 refreshes killed at random moments (hours); ends with a table
	@$(LOOPBACK) $(PYTHON_IN_VENV) -m tests.faults.kills --trials 5000 --seed 1

bench: setup ## the benchmarks, one table each
	@$(PYTHON_IN_VENV) -m tests.benchmarks

clean: ## remove what runs made (./var); the environment stays
	rm -rf var
