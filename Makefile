# Each target does all its own set-up, on a machine that has git, make and Python 3.11 or newer.
VENV ?= .venv
PEERS ?= .venv-peers
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN = $(VENV)/bin

.PHONY: demo test test-all check bench bench-layer bench-scaling bench-durability bench-data bench-convolution clean

demo: $(VENV)/.installed  ## Search the digits grid (54 fits) and write results/digits/report.html
	$(BIN)/python -m experiments.digits

test: $(VENV)/.installed-test  ## Run the tests, or those named in TESTS
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(TESTS)

test-all: $(VENV)/.installed-test  ## Run the slow tests, too
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 XLA_FLAGS= $(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(VENV)/.installed-test  ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed $(PEERS)/.installed  ## Compare a grid with Flax, PyTorch and Keras (hours)
	$(BIN)/python -m benchmarks.grid --peers $(PEERS)/bin/python $(ARGS)

bench-layer: $(VENV)/.installed $(PEERS)/.installed  ## Compare LSTM layers with Flax, Keras and PyTorch
	$(BIN)/python -m benchmarks.layer --peers $(PEERS)/bin/python $(ARGS)

bench-scaling: $(VENV)/.installed  ## Time searches of 1 to 512 lanes on 1 and 2 cores, or a GPU
	$(BIN)/python -m benchmarks.scaling $(ARGS)

bench-durability: $(VENV)/.installed  ## Measure what checkpoints and the progress bar cost
	$(BIN)/python -m benchmarks.durability $(ARGS)

bench-convolution: $(VENV)/.installed  ## Time a CNN's steps in a loop, with our gradients and JAX's
	$(BIN)/python -m benchmarks.convolution $(ARGS)

bench-data: $(VENV)/.installed-test  ## Time the loaders on the raw files in the folder DATA
	$(BIN)/python -m benchmarks.data --data $(DATA) $(ARGS)

clean:  ## Remove the environments
	rm -rf $(VENV) $(PEERS)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(PEERS)/.installed: benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@
