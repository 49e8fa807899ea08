# Two commands do everything on a fresh machine: `make run` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8000
CYBERIMAGE_DATA_DIR ?= data
VENV := .venv
BIN := $(VENV)/bin
# Two processes with a thread each: with more threads they would wait for each other. Files in the given order: those of
# few tests, the longest, would come last, with nothing beside them.
SIDE_BY_SIDE = OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.ready-to-run ## install what is missing and serve on http://127.0.0.1:$(PORT), data in ./data
	@CYBERIMAGE_DATA_DIR="$(CYBERIMAGE_DATA_DIR)" scripts/run-in-foreground $(BIN)/cyberimage serve --port $(PORT)

test: $(VENV)/.ready-to-test ## install what is missing and run every test
ifeq ($(ARGS),)
	@failed=0; $(SIDE_BY_SIDE) tests/browser tests/unit || failed=1; \
	    $(BIN)/pytest tests/clients tests/cluster tests/chaos || failed=1; exit $$failed
else
	@$(BIN)/pytest $(ARGS)
endif

test-unit: $(VENV)/.ready-to-test ## run the fast tests only
	@$(SIDE_BY_SIDE) tests/unit $(ARGS)

fuzz: $(VENV)/.ready-to-test ## decode 10,000 broken pictures, and send 10,000 requests made from the OpenAPI document
	@$(BIN)/python -m benchmarks.fuzz_pictures && $(BIN)/python -m benchmarks.fuzz_pictures --api --cases 1000 --seed 1
	@$(BIN)/pip install --quiet --constraint constraints.txt schemathesis && $(BIN)/python -m benchmarks.fuzz_api $(ARGS)

audit: $(VENV)/.ready-to-test ## look for risky calls, and for known vulnerabilities of the pinned packages
	@$(BIN)/python scripts/audit $(BIN)

gpu-check: $(VENV)/.ready-to-test ## check and measure the GPU of this machine in five minutes, without downloads; report in ./gpu-check
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.gpu_check $(ARGS)

chaos: $(VENV)/.ready-to-test ## kill everything under a load of 200 jobs, and report (a quarter of an hour)
	@CHAOS_JOBS=200 $(BIN)/pytest tests/cluster/test_killed_processes.py tests/chaos -s $(ARGS)

conformance: $(VENV)/.ready-to-test ## hold every pipeline class of diffusers against its stock run, on the CPU and a pretended GPU
	@HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.conformance --write docs/conformance.md $(ARGS)

lint: $(VENV)/.ready-to-test ## check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/oxlint && $(BIN)/hadolint k8s/Dockerfile \
	    && $(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.ready-to-test ## put the code into the project's form
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

setup: $(VENV)/.ready-to-test ## install everything a contributor needs

model: $(VENV)/.ready-to-test ## train the built-in model anew (hours; goes on where it stopped)
	@$(BIN)/python -m models.training.train

screenshots: $(VENV)/.ready-to-test ## take the pictures of the page for the documentation (needs Chromium)
	@$(BIN)/python -m tests.browser.screenshots

adherence: $(VENV)/.ready-to-test ## measure how well the built-in model does what prompts say
	@$(BIN)/python -m models.training.adherence

clean: ## remove the virtual environment and caches; data and models stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build *.egg-info

$(VENV)/.ready-to-run: pyproject.toml constraints.txt scripts/setup
	@scripts/setup "$(PYTHON)" "$(VENV)" run

$(VENV)/.ready-to-test: pyproject.toml constraints.txt scripts/setup
	@scripts/setup "$(PYTHON)" "$(VENV)" test

.PHONY: help run test test-unit gpu-check chaos fuzz audit conformance lint format setup model screenshots adherence clean
