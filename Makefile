# `make demo` and `make test` do everything on a machine with Python 3.11+, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= demo
SITE ?= build/site
INPUTS ?= 20000
EPOCH = $(shell git log -1 --format=%ct)
DATA ?= $(if $(VOCDEVKIT),$(VOCDEVKIT)/VOC2007)

.PHONY: demo test test-slow torture torture-fuzz fuzz docs bench bench-growth audit wheel sbom lint \
	install clean

demo: $(STAMP)
	$(BIN)/frostbox demo --out $(OUT) $(DEMO_FLAGS)

# One process a core, each computing in one thread: small operations gain nothing from two.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() or 1))')
# A process that dies ends the run, by name: given another one, --dist loadfile waits for ever.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile \
	--max-worker-restart 0

test: $(STAMP) lint
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)
	$(PYTEST) -m slow

# kill -9 at random moments, 30 times each command, into docs/faults.md; then a million changed
# files. Takes about two hours.
torture: $(STAMP)
	$(BIN)/python -m tests.torture --kills 30 --write
	$(MAKE) torture-fuzz

# The site: guide, API, and the course, whose pages are run. A warning is an error.
docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -b html docs $(SITE)
	@echo "open $(SITE)/index.html"

# Every stage beside its rivals, on DATA or on drawn scenes; into docs/results.md.
bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py $(DATA) --write

# 500, 5 000 and 50 000 photos: time and memory must stay flat. Takes 7 GB of disk for a while.
bench-growth: $(STAMP)
	$(BIN)/python benchmarks/growth.py $(DATA) --write

# Twenty thousand changed files for the readers (docs/security.md), with the branches they reach.
fuzz: $(STAMP)
	mkdir -p build
	rm -f build/fuzz.coverage
	$(BIN)/python -m coverage run --branch --source=src/frostbox --data-file=build/fuzz.coverage \
		-m tests.fuzz.run --inputs $(INPUTS)
	$(BIN)/python -m tests.fuzz.branches build/fuzz.coverage

# A million of them, half an hour of one core; what finds something is left in build/fuzz.
torture-fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run --inputs 1000000 --seed 1

# Known faults of the pinned packages; without their database, that each version was looked at.
audit: $(STAMP)
	$(BIN)/python .ci/audit.py

# The wheel, the same to the byte from the same commit.
wheel: $(STAMP)
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m build --wheel --no-isolation --outdir build/wheel

# What an installation consists of, as CycloneDX.
sbom: $(STAMP)
	mkdir -p build
	$(BIN)/python -m cyclonedx_py environment --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file build/sbom.json $(BIN)/python
	@echo "written build/sbom.json"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(STAMP)

# Installed once: again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"frostbox needs Python 3.11 or newer; this is {v.major}.{v.minor}. Try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(OUT) build docs/lessons .pytest_cache .mypy_cache .ruff_cache .hypothesis
