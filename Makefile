# The commands of the README. Everything runs in .venv, made on first use from the pinned versions of constraints.txt.
PYTHON ?= python3
TORCH ?= $(shell grep ^torch== constraints.txt)
BIN := .venv/bin
# A process per core, at most four, each of which takes cases from another that has more left.
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -q -n logical --maxprocesses 4 --dist worksteal

.PHONY: help verify quick test lint format bench matrix nightly clean

help:
	@echo "make verify   install into .venv, then check every claim of the papers"
	@echo "make quick    lint, then run a few cases of each test: an answer within 90 seconds"
	@echo "make test     install into .venv, then lint and run the tests"
	@echo "make format   rewrite the code in the house style"
	@echo "make lint     ruff and mypy"
	@echo "make bench    install the peers where they can be, then time the engines beside them"
	@echo "make matrix   run the tests on every Python from 3.11 to 3.13 that is here, with the newest packages"
	@echo "make nightly  run the longest tests and Pyro's own, build the sdist, then run the matrix from what is in it"
	@echo "make clean    remove .venv, .matrix and caches"

verify: .venv/.installed
	$(BIN)/pgm-rnn verify

quick: lint
	$(PYTEST) --quick --durations 10 --durations-min 1

test: lint
	$(PYTEST)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' \
		|| echo "Some peers cannot be installed here; the tables will say which."
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks

matrix:
	TORCH="$(TORCH)" $(PYTHON) tools/matrix.py

nightly: .venv/.installed
	$(PYTEST) -m nightly
	@if [ -n "$$PYRO_CHECKOUT" ]; then $(BIN)/python -m tools.pyros_tests -n logical --maxprocesses 4 --dist worksteal; \
	else echo "Pyro's own tests are left out: PYRO_CHECKOUT names no checkout of its repository."; fi
	rm -rf .matrix/sdist && mkdir -p .matrix/sdist
	$(BIN)/python -m build --sdist --outdir .matrix/sdist .
	tar -xzf .matrix/sdist/*.tar.gz -C .matrix/sdist --strip-components=1
	TORCH="$(TORCH)" $(PYTHON) tools/matrix.py --tree .matrix/sdist

clean:
	rm -rf .venv .matrix build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# torch first and by itself: a range that another package asks for would take its largest build.
.venv/.installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pgm_rnn needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
