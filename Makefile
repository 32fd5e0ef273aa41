# Every target works from a clean clone: the environment is made first, from pyproject.toml and constraints.txt.
PYTHON ?= python3
VENV := .venv/bin/python
READY := .venv/.ready
# What Python compiles is kept for the next run, tests that pytest rewrites included.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all lint bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hf-finetune needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	test -x $(VENV) || $(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	.venv/bin/hf-finetune demo

# In several processes, each file of tests in one of them, in the order of tests/conftest.py. Five to seven minutes on two cores;
# test-all takes what is marked slow as well.
PYTEST := $(VENV) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: lint
	$(PYTEST)

test-all: lint
	$(PYTEST) --run-slow

lint: $(READY)
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

bench: $(READY)
	for script in benchmarks/*.py; do $(VENV) "$$script" || exit 1; done

clean:
	rm -rf .venv .ruff_cache .mypy_cache .pytest_cache .hypothesis .coverage* runs dist build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
