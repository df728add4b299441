# Two commands matter: `make run` serves, `make test` proves.

# The distribution's Python is built with profile-guided optimisation; one built by hand often is not, and the server
# then needs half as much processor time again. It is taken when it is new enough and can make environments.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, ensurepip; assert sys.version_info >= (3, 11); print(sys.executable)' 2>/dev/null || echo python3)
BIN := .venv/bin
STAMP := .venv/.complete
# Crash cycles and fuzzing time of the long runs; the short ones are part of `make test`.
CRASH_CYCLES ?= 300
FUZZ_SECONDS ?= 20

.PHONY: venv run test lint unit packages crash bench fuzz docs clean

venv: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ekiden needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(STAMP)

run: venv
	exec $(BIN)/python -m ekiden.cli.demo var

packages:
	sh tests/install-packages.sh

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: venv
	$(BIN)/pytest -n 2 --dist loadfile tests/unit

test: venv packages lint
	$(BIN)/pytest -n 2 --dist loadfile tests

crash: venv packages
	EKIDEN_CRASH_CYCLES=$(CRASH_CYCLES) $(BIN)/pytest -s --timeout 7200 tests/crash/test_server_crash.py

bench: venv packages
	$(BIN)/python -m bench

fuzz: venv
	$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

docs: venv
	$(BIN)/python -m ekiden.config.reference docs/settings.md

clean:
	rm -rf var .venv
