# Everything a contributor runs. `make` alone prints the targets.
#
# `.venv` is made on first use with a Python 3.11 or later (`make PYTHON=/path/to/python3.12 test` chooses
# one), and its packages are installed again only when pyproject.toml has changed.

VENV := .venv
BIN  := $(VENV)/bin
CORE := $(VENV)/.installed-core
TEST := $(VENV)/.installed-test
ORACLES := $(VENV)/.installed-oracles
BENCH := $(VENV)/.installed-bench

PYTHON  :=
PYTHONS := $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python

# What compares the kernels under test with the interpreter, whatever backend they are for.
ON_A_GPU := $(addprefix tests/test_,gpu.py kernels.py ops_cpu.py places.py loops.py native_random.py cases.py \
    device_arrays.py)

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format bench gpu clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(CORE) ## train a classifier of handwritten digits (programs/digits.tl)
	@$(BIN)/tlang run programs/digits.tl

test: $(TEST) ## run the tests, except the slow sweeps
	@$(BIN)/python -m pytest

test-all: $(ORACLES) ## run all tests: the slow sweeps, JAX, kernels of the GPU
	@$(BIN)/python -m pytest --runslow

check: $(TEST) ## format, lint, types and tests: what a change must pass
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: $(TEST) ## format the Python files and sort their imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

bench: $(BENCH) ## time tlang beside NumPy, numexpr, PyTensor and JAX, in one run
	@$(BIN)/python tests/bench/run.py

gpu: $(ORACLES) ## on an NVIDIA GPU: the tests of kernels, three programs under compute-sanitizer, bandwidth
	TLANG_TEST_BACKEND=cuda $(BIN)/python -m pytest --runslow $(ON_A_GPU)
	for program in layers mlp breast_cancer; do \
	    compute-sanitizer --error-exitcode 1 $(BIN)/python $(BIN)/tlang run --backend cuda programs/$$program.tl || exit 1; \
	done
	$(BIN)/python tests/bench/gpu_run.py

clean: ## remove .venv, caches and build outputs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find programs/out -type f ! -name .gitignore -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A candidate counts only if it runs and is new enough: `python3` may be older than 3.11, and a launcher may
# exist for a version that is not there.
$(BIN)/python:
	@for python in $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "making $(VENV) with $$("$$python" --version)"; \
	        if "$$python" -m venv --clear $(VENV); then exit 0; fi; \
	        rm -rf $(VENV); \
	    fi; \
	done; \
	echo "tlang needs Python 3.11 or later with the venv module, and found none:"; \
	for python in $(PYTHONS); do \
	    version=$$("$$python" --version 2>/dev/null) && echo "  $$python is $$version"; \
	done; \
	echo "Install one (for instance the packages python3.12 and python3.12-venv, or from python.org), or say"; \
	echo "where it is: make PYTHON=/path/to/python3.12 test"; \
	exit 1

$(CORE): pyproject.toml | $(BIN)/python
	@echo "installing tlang into $(VENV)"
	@$(PIP) install --editable .
	@touch $@

$(TEST): pyproject.toml | $(BIN)/python
	@echo "installing tlang and what its tests need into $(VENV)"
	@$(PIP) install --editable '.[test]'
	@touch $(CORE) $@

$(ORACLES): pyproject.toml | $(BIN)/python
	@echo "installing tlang, what its tests need, JAX and numba-cuda into $(VENV)"
	@$(PIP) install --editable '.[test,oracles,cuda]'
	@touch $(CORE) $(TEST) $@

$(BENCH): pyproject.toml | $(BIN)/python
	@echo "installing tlang and its peers into $(VENV)"
	@$(PIP) install --editable '.[bench]'
	@touch $(CORE) $@
