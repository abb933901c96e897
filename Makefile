# Everything here happens inside the clone: .venv, build (caches, Ray's token), runs (results).
# `make help` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.complete
TOKEN := build/ray-token
BENCH ?= overhead
BUNDLE ?= photo-1
IMAGE ?= expertree
SERVE ?=
TESTS ?= tests
MARKS ?= not slow and not gpu

# Ray: under `uv run` it would build an environment for each worker; every cluster has a token, this
# clone's own and not ~/.ray/auth_token; nothing is reported home; nobody else's cluster is joined.
export RAY_ENABLE_UV_RUN_RUNTIME_ENV := 0
export RAY_AUTH_MODE := token
export RAY_USAGE_STATS_ENABLED := 0
export RAY_AUTH_TOKEN_PATH := $(CURDIR)/$(TOKEN)
unexport RAY_AUTH_TOKEN RAY_ADDRESS
unexport PYTHONPATH VIRTUAL_ENV
# Each worker and each test run imports thousands of modules: without their compiled files
# (__pycache__), importing torch takes 7 s instead of 3.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv moved demo test test-unit test-integration check lint types format lock bench serve image clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) $(TOKEN) ## Make the environment in .venv, exactly as requirements.lock says

# An environment's scripts hold its path: one that came here with a moved or copied clone runs nothing.
MOVED := $(shell made="$$(sed -n 's/^command = .* -m venv //p' .venv/pyvenv.cfg 2>/dev/null)"; \
    test -n "$$made" && test "$$made" != "$$(cd .venv && pwd -P)" && echo moved)

moved:
	@echo "This clone was somewhere else before: its environment is made anew"
	rm -rf .venv

# The lock file names uv too, with its hashes: pip installs that one, and uv installs the rest.
$(STAMP): requirements.lock pyproject.toml $(MOVED)
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("expertree needs Python 3.11 or later, this is " + sys.version.split()[0] + "; choose another by make PYTHON=/path/to/python3")'
	@mkdir -p build
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > build/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r build/uv.txt
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(TOKEN):
	@mkdir -p build
	@umask 077 && $(PYTHON) -c 'import secrets; print(secrets.token_hex(32), end="")' > $@

demo: venv ## Build the small tree on bundled photographs; the results table and report.html
	$(BIN)/python jobs/build_tree.py experiment=demo

test: venv ## Run the tests; a part by TESTS=path, the slow or GPU ones by MARKS=slow, MARKS=gpu
	$(BIN)/python -m pytest -m "$(MARKS)" $(TESTS)

# Tests compute on one core each: threads that wait for each other would take the other processes'.
test-unit: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "$(MARKS)" tests/unit

test-integration: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "$(MARKS)" tests/integration

check: lint types test-integration test-unit ## Run everything that a change must pass

lint: venv ## Run ruff (rules and format) and import-linter (layers)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache --no-logo

types: venv ## Run mypy, strict, on the package and the jobs
	$(BIN)/mypy

format: venv ## Rewrite the sources as ruff likes them
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: venv ## Resolve pyproject.toml again into requirements.lock (LOCK_ARGS=--upgrade for newer ones)
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
	    $(LOCK_ARGS) --output-file requirements.lock

bench: venv ## Run one benchmark, BENCH=overhead or another (it names them); its last line is JSON
	$(BIN)/python jobs/bench.py bench=$(BENCH)

serve: venv ## Serve the model that comes with it, or BUNDLE=runs/demo/bundle, on http://127.0.0.1:8000; settings by SERVE="key=value"
	$(BIN)/python jobs/serve.py bundle=$(BUNDLE) $(SERVE)

image: ## Build the images for clusters, IMAGE=expertree, with the tags cpu and gpu; needs Docker
	@command -v docker > /dev/null || { echo "make image needs docker; without it, make test MARKS=slow TESTS=tests/unit/cli/test_wheel.py does the same steps" >&2; exit 2; }
	docker build --file serve/Dockerfile --target cpu --tag $(IMAGE):cpu .
	docker build --file serve/Dockerfile --target gpu --tag $(IMAGE):gpu .

clean: ## Remove the environment and the caches; results in runs stay
	rm -rf .venv build .ruff_cache .mypy_cache .pytest_cache .hypothesis .import_linter_cache platform/*.egg-info
	find platform jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +
