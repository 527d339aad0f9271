# Everything a developer does here, from nothing but python3 and make. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
SEED ?= 7
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)

# uv and its tools are private to the checkout: nothing is installed for the user or the machine.
BOOT := .boot
UV := $(BOOT)/bin/uv
PY := .venv/bin/python
READY := .venv/.ready

export UV_PROJECT_ENVIRONMENT := .venv
export UV_LINK_MODE ?= copy
export PYTHONUTF8 := 1
# A user without a writable home (a service account, nobody) still gets a cache: inside the checkout.
ifneq ($(shell test -n "$$HOME" && test -d "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/build/home
export UV_CACHE_DIR := $(CURDIR)/build/uv-cache
endif

.PHONY: help demo test browser postgres kafka check format bench bench-quick mutants soak clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@mkdir -p build
	@echo "first run: installing uv into $(BOOT)/"
	@python3 -m venv $(BOOT) || { rm -rf $(BOOT); echo "python3 cannot make virtual environments: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@$(BOOT)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9' || { rm -rf $(BOOT); exit 1; }

# Made again only when the list of packages changes; otherwise a target starts at once and needs no network.
$(READY): pyproject.toml uv.lock | $(UV)
	@echo "installing the packages of uv.lock into .venv/"
	@$(UV) sync --frozen --quiet
	@touch $(READY)

demo: $(READY) ## simulate 10 weeks of mail and logins, find what was planted, compare with the truth (SEED=7)
	@.venv/bin/tocsin demo --seed $(SEED)

test: $(READY) browser postgres kafka ## run all tests, as many files side by side as there are cores (WORKERS=2); names what this machine could not run (CI=1: that fails)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile

# Charts are drawn in a real browser. Where it is absent and we may install it (root on Debian), we do; else its tests say so.
browser: ## install chromium for the chart tests (root on Debian; `make test` does it)
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
	  echo "installing chromium"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }

# The alert log is tested in both databases. The package's own cluster is not wanted: tests start one of theirs.
postgres: ## install a PostgreSQL server for the tests of the alert log (root on Debian; `make test` does it)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
	  echo "installing postgresql"; \
	  mkdir -p /etc/postgresql-common; echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }

# Java and Maven are Debian's; the broker's jars (35 MB) come from Maven Central, once.
kafka: $(READY) ## fetch a Kafka broker for the tests of the live sources (`make test` does it)
	@command -v java >/dev/null && command -v mvn >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
	  echo "installing java and maven"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless maven openssl >/dev/null; }
	@! command -v mvn >/dev/null || $(PY) -m tools.kafka fetch

check: $(READY) ## lint, types, layers, lock file
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(UV) lock --check --offline --quiet || $(UV) lock --check --quiet

format: $(READY) ## let ruff format the code and mend what it can
	@.venv/bin/ruff check --fix-only --quiet .
	@.venv/bin/ruff format .

bench: $(READY) ## measure on 10 M and 30 M events (about an hour; TOCSIN_BENCH_DIR= keeps the data) -> docs/benchmarks.md
	@$(PY) -m benchmarks all

bench-quick: $(READY) ## the same on 200,000 events, in about two minutes; writes build/bench only
	@$(PY) -m benchmarks quick

mutants: $(READY) ## break the code in named ways; each break must fail its named test
	@$(PY) -m tools.mutants

soak: $(READY) postgres kafka ## property tests with 50 times the examples (hours), and engines killed 100 times over a million events (15 minutes)
	@HYPOTHESIS_PROFILE=soak $(PY) -m pytest -q --timeout 0 -o faulthandler_timeout=0 tests/test_parity.py
	@TOCSIN_SOAK=1 $(PY) -m pytest -q -rP --timeout 0 -o faulthandler_timeout=0 tests/test_live_faults*.py

clean: ## remove what was built, installed and cached here
	@rm -rf .venv $(BOOT) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
