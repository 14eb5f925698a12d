# The commands of the README. Everything runs in .venv, made on first use from the pinned versions of constraints.txt.
PYTHON ?= python3
TORCH ?= $(shell grep ^torch== constraints.txt)
BIN := .venv/bin
# A process per core, at most four, each of which takes cases from another that has more left.
PYTEST := OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -q -n logical --maxprocesses 4 --dist worksteal

.PHONY: help verify quick test lint format bench bench-compare lessons docs linkcheck release-check matrix nightly clean

help:
	@echo "make verify          install into .venv, then check every claim of the papers"
	@echo "make quick           lint, then run two cases of each test: an answer within a few minutes"
	@echo "make test            install into .venv, then lint and run the tests of the day: a quarter of an hour on two cores"
	@echo "make format          rewrite the code in the house style"
	@echo "make lint            ruff, codespell and mypy"
	@echo "make bench           install the peers where they can be, then time the engines beside them"
	@echo "make bench-compare   time what users wait for in this tree beside a revision, BASE=REV"
	@echo "make lessons         execute the lessons of tutorials/, or those that LESSON=03 names, in clean kernels"
	@echo "make docs            build the site in build/site; a warning or a broken internal link is an error"
	@echo "make linkcheck       check the site's links to other sites"
	@echo "make release-check   build the wheel, the sdist and the site, and check them"
	@echo "make matrix          run the tests on every Python from 3.11 to 3.13 that is here, with the newest packages"
	@echo "make nightly         run what make test leaves out, the lessons and Pyro's own tests, build the sdist, then run the matrix from it"
	@echo "make clean           remove .venv, .matrix and caches"

verify: .venv/.installed
	$(BIN)/pgm-rnn verify

quick: lint
	$(PYTEST) --quick --durations 10 --durations-min 1

test: lint
	$(PYTEST)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: .venv/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' \
		|| echo "Some peers cannot be installed here; the tables will say which."
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks

bench-compare: .venv/.installed
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.compare "$(BASE)"

# `make docs` shows what this computed.
lessons: .venv/.installed
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m tools.lessons run $(LESSON)

# The pages of docs/ and those that are derived are gathered in build/site-source.
docs: .venv/.docs
	$(BIN)/python -m tools.site_pages build/site-source
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html -c docs build/site-source build/site
	@echo "The site is build/site/index.html."

linkcheck: .venv/.docs
	$(BIN)/python -m tools.site_pages build/site-source
	rm -rf build/linkcheck
	$(BIN)/python -m sphinx --quiet -b linkcheck -c docs build/site-source build/linkcheck >build/linkcheck.log 2>&1 \
		|| test -s build/linkcheck/output.json || { cat build/linkcheck.log; false; }
	$(BIN)/python -m tools.links build/linkcheck/output.json

release-check: docs
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m tools.release_check dist

matrix:
	TORCH="$(TORCH)" $(PYTHON) tools/matrix.py

nightly: .venv/.installed
	$(PYTEST) -m nightly
	$(MAKE) lessons
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

.venv/.docs: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@
