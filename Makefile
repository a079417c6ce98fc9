.PHONY: setup test fix docs tables

PYTHON ?= python
BIN := .venv/bin

setup:  ## a virtual environment with everything for development
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable ".[test]" --group dev

test:  ## the tests, without those that take long
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadscope

fix:  ## format, and repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs:  ## the documentation, in docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -n -b html docs docs/_build/html

tables:  ## what follows from variants, results and logs: tables and pictures of README.md and docs, the pinned keys and costs
	$(BIN)/python docs/make_tables.py
	$(BIN)/python tests/pin_state_dict_keys.py
	$(BIN)/python tests/pin_costs.py
