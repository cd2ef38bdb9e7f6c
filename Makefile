# `make demo` and `make test` need Python 3.10 or newer and nothing else: they make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint bench bench-gpu clean help

help:
	@echo "make demo   the whole way on drawn faces, report in out/demo/report.html (10 minutes on 2 cores)"
	@echo "make test   the tests (test-slow: the long ones)"
	@echo "make lint   ruff and mypy"
	@echo "make bench  those benchmarks that need no GPU and no network"
	@echo "make bench-gpu  the tests and benchmarks that need a CUDA GPU"
	@echo "make clean  remove .venv, caches and out/"

# The stamp is touched last: an interrupted installation starts over.
$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python demo/run.py --out out/demo

# A process a core, and a thread a process.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n auto --maxprocesses 8 --dist worksteal

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	set -e; for name in train_step generate data freezed traffic; do $(BIN)/python benchmarks/$$name.py; done

# What the kernels, the phases (batch by resolution, with and without graphs) and the generator take; a test that fails doesn't end it.
bench-gpu: $(VENV)/.installed
	-$(BIN)/python -m pytest -q -m gpu tests/torch_utils/test_gpu.py
	for dtype in float16 bfloat16 float32; do $(BIN)/python benchmarks/kernels.py --dtype $$dtype; done
	for size in 256:16 256:64 1024:4 64:32; do for graphs in 0 1; do \
		$(BIN)/python benchmarks/train_step.py --resolution $${size%:*} --batch $${size#*:} --graphs $$graphs; done; done
	$(BIN)/python benchmarks/train_step.py --resolution 256 --batch 16 --graphs 1 --baseline eager
	$(BIN)/python benchmarks/generate.py --resolution 256 --batch 1 --batch 64 --baseline eager

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis out build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
