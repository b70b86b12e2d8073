# The two commands of a newcomer are `make demo` and `make test`. Both need Python 3.11 or later with pip, nothing else:
# what is installed stands in pyproject.toml, and which releases in constraints.txt.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
WORKERS ?= 2

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-long lint types wheel unit clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/installed-demo ## tune the bundled model on a small set of reviews, and show what it cost
	$(VENV)/bin/lmaas demo --out lmaas-demo

test: lint types wheel unit ## all that CI checks: lint, types, the built wheel, tests and examples

lint: $(VENV)/installed-test ## style and layout of the code
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(VENV)/installed-test ## static types
	$(PY) -m mypy
	$(PY) -m mypy examples benchmarks tests/check_wheel.py

wheel: $(VENV)/installed-test ## build the wheel and try it in an environment of its own
	$(PY) tests/check_wheel.py

# One compute thread a worker: more of them would only fight over the cores. No result depends on it.
unit: $(VENV)/installed-test ## the tests; they run the examples too
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) -m "not long"

test-long: $(VENV)/installed-test ## the tests that take minutes: many schedules, many kills (up to an hour)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) -m long

clean: ## remove what the other targets made
	rm -rf $(VENV) lmaas-demo dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last, so that an installation which was interrupted is done again.
$(VENV)/installed-demo: $(VENV)/created pyproject.toml constraints.txt
	@echo "installing into $(VENV) (a few minutes the first time, most of it PyTorch) ..."
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[local,report]'
	@touch $@

$(VENV)/installed-test: $(VENV)/installed-demo
	$(PIP_INSTALL) --constraint constraints.txt --group dev
	@touch $@

$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed, and $(PYTHON) is not that: say make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade 'pip>=25.1'
	@touch $@
