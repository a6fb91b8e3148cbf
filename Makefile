# Needs Python 3.11 or later and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
# The work of `make model`: processes, tasks, and architectures a task for each labeller.
WORKERS ?= 2
TASKS ?= 75
PLAN ?= training_free=16 standalone=6

.PHONY: demo test app model bench

demo: $(DEMO)
	$(BIN)/metad2a suggest sklearn:digits

test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

app: $(DEV)
	$(BIN)/metad2a app

model: $(DEV)
	@test -d "$(DATA)" || { echo "Say where the datasets are: make model DATA=FOLDER"; exit 2; }
	$(BIN)/metad2a db build --data "$(DATA)" --database build/db.sqlite --tasks $(TASKS) \
		--plan $(PLAN) --workers $(WORKERS)
	$(BIN)/metad2a db export build/db.sqlite build/evaluations.parquet --tasks build/tasks.parquet
	$(BIN)/metad2a meta train build/db.sqlite --data "$(DATA)" --out build/model

bench: $(DEV)
	@for script in benchmarks/[a-z]*.py; do \
		echo "$$script"; $(BIN)/python "$$script" || exit 1; done

$(BIN)/python:
	$(PYTHON) -m venv .venv

# The stamps keep a second run from installing again until the project file changes.
$(DEMO): pyproject.toml | $(BIN)/python
	@echo "Installing (the first time takes minutes) ..."
	@$(PIP) --editable '.[demo]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "Installing (the first time takes minutes) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(DEMO)
