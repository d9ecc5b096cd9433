# make demo   sets up .venv, renders the embedded videos, runs one ablation, prints its table
# make test   the same set-up, then every test
# make bench  the same set-up, then every benchmark; ARGS='--published DIR' puts the authors' code beside ours
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: install demo test lint bench clean
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

demo: install
	$(BIN)/fima-ablate run studies/table3d_beta.yaml

test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-columns=median,iqr $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
