# `make demo` and `make test` set up everything they need in .venv on a fresh machine
PYTHON ?= python3
BIN := .venv/bin
# byte-compiling all that is installed would take minutes; Python does it for what is imported
INSTALL := $(BIN)/pip install --quiet --no-compile
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard kernels/csrc/*.* kernels/csrc/*/*)

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: demo test test-slow lint format docs bench bench-gpu clean

demo: .venv/installed
	$(BIN)/unianimate demo

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m "slow and not huge" -n auto --dist worksteal

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed-dev
	$(BIN)/mkdocs build --strict --quiet

# what the libraries that are measured beside warn of is no error
BENCH = $(BIN)/python -m pytest benchmarks -q --benchmark-quiet -p no:cacheprovider -W default \
	-o python_files='bench_*.py' -o python_functions='bench_*' --results=benchmarks/results

bench: .venv/installed-dev
	CUDA_VISIBLE_DEVICES= $(BENCH) --deadline=570

bench-gpu: .venv/installed-dev
	$(BENCH) --deadline=570 --require-gpu

clean:
	rm -rf .venv build dist site *.egg-info kernels/unianimate_kernels/*.so

.venv/installed: $(SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(INSTALL) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) 'unianimate[dev]' # it is there: this adds what dev names
	touch $@
