# Each target sets up what it needs in .venv; nothing is installed elsewhere, and root is not needed.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
# Test processes: half of what a test waits for is servers that start, so a few more than cores do.
PROCESSES ?= 3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)
PACKAGES := tickover async_tick shadow reports digital_being legacy migrations examples cli.py
.PHONY: help demo test bench lint chaos clean setup requirements

help: ## Show this help.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /: /'

setup: $(STAMP)

# Two makes at once: one installs, the other waits for it and finds it done.
$(STAMP):
	@test -n "$(PYTHON)" || { echo "Tickover needs Python 3.11 or later, with venv; set PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) tools/install.py "$(VENV)" "$(STAMP)"

demo: setup ## Show the whole way: a planted defect named, repaired, switched over, a worker killed, and back (3 minutes).
	@$(BIN)/python -m examples.demo

lint: setup ## Check style, types and who imports whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports

test: setup lint ## Run all tests.
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

bench: setup ## Measure against peers, interleaved in one run.
	$(BIN)/python -m pytest tests/benchmarks --override-ini addopts= --benchmark-only

chaos: setup ## Kill, pause and cut off everything at random, and check that nothing was lost (half an hour).
	$(BIN)/python -m pytest tests/chaos -m chaos -s

requirements: setup ## Make requirements.txt anew from pyproject.toml.
	$(BIN)/python tools/pin.py

clean: ## Remove the virtual environment, caches and the data directory.
	rm -rf $(VENV) .tickover .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache *.egg-info
