# Every target sets itself up: it needs Python 3.10 or newer, make, and a package index.
# PYTHON chooses the interpreter that the virtual environment is made with.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
PACKAGES := tokenization training benchmarks model_cards

# Idle OpenMP threads sleep: spinning ones starve the data loaders and the second pytest worker.
export OMP_WAIT_POLICY = PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-all conformance fuzz lint typecheck docs-test models-page deployment-page links clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(INSTALLED)  ## make .venv and install the package into it, editable, at the pinned versions

quickstart: $(INSTALLED)  ## simulate splice sites, train with and without memory, save, reload, predict
	$(VENV)/bin/gengram quickstart --overwrite

# Two worker processes of one thread each; --dist loadfile keeps the fixtures of a module in one worker, and the files
# come in the order of tests/conftest.py: the longest first, not those of most tests.
test: $(INSTALLED)  ## run the tests, with coverage
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

test-all: $(INSTALLED)  ## run every test, the slow ones too
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder

# make conformance ARGUMENTS="--suite models --family 'rmt-*' --transformers 5.17.0" runs less.
conformance: $(INSTALLED)  ## transformers' and PEFT's own tests on every family, for both supported transformers
	$(VENV)/bin/python tests/conformance/program.py --page docs/conformance.md $(ARGUMENTS)

# make fuzz ARGUMENTS="csv fasta --inputs 100000" reads more of less.
fuzz: $(INSTALLED)  ## every reader on 10,000 changed copies of sound files: read or refused, nothing else
	OMP_NUM_THREADS=1 $(VENV)/bin/python tests/fuzz/program.py $(ARGUMENTS)

lint: $(INSTALLED)  ## ruff: rules and format
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

typecheck: $(INSTALLED) links  ## mypy
	$(VENV)/bin/mypy

docs-test: $(INSTALLED)  ## run every example of README.md and docs/
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest tests/docs

models-page: $(INSTALLED)  ## write the tables of docs/models.md anew, from the catalogue
	$(VENV)/bin/python -m gengram.catalogue.page docs/models.md

# For the other version of transformers: make deployment-page PYTHONPATH=/folder/with/it
deployment-page: $(INSTALLED)  ## try every family as a graph, as ONNX and on two processes, and write docs/deployment.md
	$(VENV)/bin/python tests/deployment/program.py $(ARGUMENTS)
	$(VENV)/bin/python tests/deployment/page.py

# A type checker cannot see through the import hook of an editable install, so it gets the tree that a wheel has.
links:
	@rm -rf .typing && mkdir -p .typing/gengram
	@ln -s "$(CURDIR)"/modeling_gengram/* .typing/gengram/
	@for package in $(PACKAGES); do ln -s "$(CURDIR)"/$$package .typing/gengram/$$package; done

clean:  ## remove the virtual environment and everything that tools leave behind
	rm -rf $(VENV) .typing .conformance build dist runs *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "gengram needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": run make PYTHON=/path/to/python3.12 ...")'
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --constraint constraints.txt --editable ".[dev,plots]"
	@touch $@
