# Two commands do everything:  make run  and  make test.  Values on the command line reach the
# platform too:  make run PORT=8001 VAR_DIR=/srv/second

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PYTEST_ARGS ?=
hash = $(shell cksum < $(1) | cut -d' ' -f1)
INSTALLED := $(VENV)/.stamp-run-$(call hash,requirements.txt)
INSTALLED_DEV := $(VENV)/.stamp-dev-$(call hash,requirements-dev.txt)
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.DEFAULT_GOAL := help
.PHONY: help run test check fmt lint types imports migrations deploy templates openapi lock install browser peers clean

help:
	@echo "make run      install, migrate and start everything; Ctrl-C ends it"
	@echo "make test     install what tests need and run the whole suite"
	@echo "make check    formatting, lint, types, import contracts, migrations, deployment, templates"
	@echo "make fmt      put the code into its format"
	@echo "make openapi  write docs/openapi.yaml from the views and serializers"
	@echo "make lock     compile the requirements from pyproject.toml"
	@echo "make peers    install what benchmarks compare with, into an environment of its own"
	@echo "make install  only install;  make clean  removes what was installed and cached"

run: $(INSTALLED)
	@exec $(BIN)/python -m asynccoder.launcher $(RUN_ARGS)

install: $(INSTALLED)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing: install it, or name it: make PYTHON=…" >&2; exit 1; }
	@command -v git >/dev/null || { echo "git is missing: install the package git." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: python3-venv)." >&2; exit 1; }

$(INSTALLED): | $(BIN)/python
	@echo "Installing into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements.txt
	@rm -f $(VENV)/.stamp-run-*; touch $@

$(INSTALLED_DEV): | $(BIN)/python
	@echo "Installing what tests and checks need into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@rm -f $(VENV)/.stamp-dev-*; touch $@

# The browser comes from the system's packages; without one its tests are skipped and say so.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "Installing Chromium for the browser tests …" && \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; } >/dev/null 2>&1; } || \
		echo "No Chromium: the browser tests will be skipped."

# First on the embedded default, then the tests marked "services" on the servers that
# TEST_DATABASE_URL and TEST_REDIS_URL name. No other server is ever used.
# Many tests watch real processes beside others on few cores: what fails there is tried alone.
test: $(INSTALLED_DEV) browser
	@echo "== The whole suite on SQLite and an embedded Redis"
	@rm -f .coverage .coverage.*
	unset TEST_DATABASE_URL TEST_REDIS_URL; \
	$(BIN)/pytest -n $(JOBS) --cov --cov-report= $(PYTEST_ARGS) || \
		.ci/again $$? $(BIN)/pytest --cov --cov-append --cov-report=
	@if [ -n "$$TEST_DATABASE_URL$$TEST_REDIS_URL" ]; then \
		[ -n "$$TEST_DATABASE_URL" ] && database=TEST_DATABASE_URL || database="SQLite"; \
		[ -n "$$TEST_REDIS_URL" ] && redis=TEST_REDIS_URL || redis="an embedded server"; \
		echo "== The tests of database and broker again; database: $$database, Redis: $$redis"; \
		$(BIN)/pytest -n $(JOBS) -m services --cov --cov-append --cov-report= $(PYTEST_ARGS) || \
			.ci/again $$? $(BIN)/pytest -m services --cov --cov-append --cov-report= ; \
	else \
		echo "== Not run on other servers: neither TEST_DATABASE_URL nor TEST_REDIS_URL is set"; \
	fi
	@rm -f .coverage.*
	@$(BIN)/coverage report

check: $(INSTALLED_DEV)
	@$(MAKE) --no-print-directory -k lint types imports migrations deploy templates

# Written after every change of a route or serializer; a test holds it equal to the code.
openapi:
	@$(SCRATCH) $(BIN)/python manage.py openapi

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy .

imports:
	$(BIN)/lint-imports

# The two below start Django, which makes its secrets: in a folder of their own.
SCRATCH = dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && env ENV_FILE=/dev/null VAR_DIR="$$dir"

migrations:
	@echo "makemigrations --check"
	@$(SCRATCH) $(BIN)/python manage.py makemigrations --check --dry-run

deploy:
	@echo "check --deploy"
	@$(SCRATCH) ENVIRONMENT=production PUBLIC_URL=https://coder.example.org ALLOWED_HOSTS=coder.example.org BEHIND_TLS_PROXY=true \
		$(BIN)/python manage.py check --deploy --fail-level WARNING

templates:
	$(BIN)/djade --check $$(git ls-files 'templates/*.html')
	$(BIN)/djlint --lint --quiet templates

fmt: $(INSTALLED_DEV)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(BIN)/djade $$(git ls-files 'templates/*.html')

COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml

lock: $(INSTALLED_DEV)
	$(COMPILE) -o requirements.txt
	$(COMPILE) --extra dev -o requirements-dev.txt

peers:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check -qq install -r benchmarks/requirements-peers.txt

clean:
	rm -rf $(VENV) .venv-peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
