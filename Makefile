# Needs Python 3.11 or later and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev

# Compiled modules are kept whatever the surroundings say: to compile the tests with the reasons for
# which they fail takes each of their processes a quarter of a minute.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all app model bench

demo: $(DEMO)
	$(BIN)/metad2a suggest sklearn:digits

# Each of the two processes takes half of the list, file after file, and then what the other has left:
# what the tests of a file share is made once.
test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

# Clusters, servers and browsers are for one process each: a file is never shared.
test-all: test
	$(BIN)/pytest -n 2 --dist loadfile -m slow

app: $(DEV)
	$(BIN)/metad2a app

# The packaged model, from a folder of datasets. Hours on two cores; stopped and started again, it
# goes on where it was. What is measured is in plans/.
BUILD = $(BIN)/metad2a db build --data "$(DATA)" --database build/db.sqlite
model: $(DEV)
	@test -d "$(DATA)" || { echo "Say where the datasets are: make model DATA=FOLDER"; exit 2; }
	@mkdir -p build metad2a/assets/database
	$(BUILD) plans/tasks.toml
	$(BUILD) plans/scores.toml
	$(BUILD) plans/more_scores.toml
	$(BUILD) plans/supernets.toml
	$(BIN)/metad2a db export build/db.sqlite metad2a/assets/database/evaluations.parquet \
		--tasks metad2a/assets/database/tasks.parquet
	$(BIN)/metad2a meta train metad2a/assets/database/evaluations.parquet \
		metad2a/assets/database/tasks.parquet --data "$(DATA)" --out metad2a/assets/model
	$(BIN)/metad2a meta known metad2a/assets/database/evaluations.parquet \
		metad2a/assets/database/tasks.parquet --data "$(DATA)" --model metad2a/assets/model
	$(BIN)/metad2a models verify metad2a/assets/model

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
