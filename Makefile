# All of Casework's commands. A fresh machine needs Python 3.11 or later, make, and once a network.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo-data test check bench screenshots soak pins clean

bin := .venv/bin
PORT ?= 8000
ARGS ?=

help: ## Explain these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: demo-data ## Serve a demonstration desk on 127.0.0.1:8000, or elsewhere: make run PORT=8001
	@$(desk) serve --host 127.0.0.1 --port $(PORT)

demo-data: .venv/run.stamp .casework/secret_key ## Fill the demonstration desk if it is empty, and print a way in per role
	@$(desk) demo --url http://127.0.0.1:$(PORT)

test: .venv/dev.stamp ## Run every test, or some: make test ARGS='-k refund'
	@$(bin)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/dev.stamp ## Check format, lint, types, imports, file sizes and pins
	@$(bin)/ruff format --check .
	@$(bin)/ruff check .
	@$(bin)/mypy
	@$(bin)/lint-imports --no-logo
	@large=$$(git ls-files -z | xargs -0 sh -c 'find "$$@" -prune -size +1500000c' find); test -z "$$large" \
	  || { echo "tracked files over 1.5 MB:" $$large >&2; exit 1; }
	@$(bin)/python -m pytest --quiet tests/test_requirements.py

bench: .venv/dev.stamp ## Print the benchmarks
	@$(bin)/python -m bench $(ARGS)

screenshots: .venv/dev.stamp ## Take the pictures in docs/pages anew, from a running demonstration desk
	@$(bin)/python -m tests.pages.screenshots $(ARGS)

soak: .venv/dev.stamp ## Race the service, kill it under load two hundred times on each database, pay, break lines, and alter many bundles and logs
	@TEST_KILLS=200 TEST_MUTATIONS=200000 TEST_PAYOUTS=all TEST_LINES=50 $(bin)/python -m pytest --timeout 7200 --capture no \
	  tests/end_to_end/test_crashes.py tests/end_to_end/test_races.py tests/api/test_casework_verify.py \
	  tests/api/test_whole_log.py tests/api/test_payouts.py tests/api/test_lmtp.py tests/api/test_mailboxes.py $(ARGS)

pins: ## Pin what pyproject.toml asks for (needs uv); newer releases too: make pins ARGS=--upgrade
	@command -v uv >/dev/null || { echo 'make pins needs uv: https://docs.astral.sh/uv/' >&2; exit 1; }
	@$(pin) --group build --output-file requirements/run.txt
	@$(pin) --group dev --constraints requirements/run.txt --output-file requirements/dev.txt

clean: ## Remove what was installed and cached; the desk in .casework stays
	rm -rf .venv .*_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +


# The demonstration desk. Its settings hold for these commands alone, so that no test ever meets them.
desk = export CASEWORK_SECRET_KEY="$${CASEWORK_SECRET_KEY:-$$(cat .casework/secret_key)}" \
  CASEWORK_DATABASE_URL="$${CASEWORK_DATABASE_URL:-sqlite:///.casework/casework.db}"; exec $(bin)/casework

.casework/secret_key: | .venv/run.stamp
	@umask 077 && mkdir -p .casework && $(bin)/python -c 'import secrets; print(secrets.token_hex(32))' > $@


# What is installed. The stamps say for which requirements, so that nothing is installed twice.
.venv/run.stamp: requirements/run.txt pyproject.toml
	@test -n '$(PYTHON)' || { echo 'Casework needs Python 3.11 or later, and none is on the PATH' \
	  '(looked for python3 and python3.11 to python3.14). Install one, or name it: make PYTHON=/path/to/python3 …' >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) cannot make virtual environments.' \
	  'On Debian and Ubuntu the package python3-venv is missing: apt install python3-venv' >&2; exit 1; }
	@$(pip) --version >/dev/null 2>&1 || '$(PYTHON)' -m venv .venv
	@echo 'Installing what casework needs …'
	@$(pip) install --quiet --require-hashes --requirement requirements/run.txt || { $(offline); }
	@$(pip) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp
	@echo 'Installing what its tests and checks need …'
	@$(pip) install --quiet --no-compile --require-hashes --requirement requirements/dev.txt || { $(offline); }
	@touch $@

# The first Python on the PATH that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
pip = $(bin)/python -m pip --disable-pip-version-check
offline = echo 'The packages could not be installed; the lines above say why. They come over the network:' \
  'if that was the trouble, run the same command again once there is one.' >&2; exit 1
pin = UV_CUSTOM_COMPILE_COMMAND='make pins' uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url $(ARGS)
