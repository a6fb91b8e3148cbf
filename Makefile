# Needs Python 3.11 or later and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
# Processes of `make model`.
WORKERS ?= 2

.PHONY: demo test app model bench

demo: $(DEMO)
	$(BIN)/metad2a suggest sklearn:digits

test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

app: $(DEV)
	$(BIN)/metad2a app

# The packaged model, from a folder of datasets. Hours on two cores; stopped and started again, it
# goes on where it was. CIFAR-10 only ever judges. The first build measures every task, the next two
# score the whole space, the last trains supernets.
BUILD = $(BIN)/metad2a db build --data "$(DATA)" --database build/db.sqlite --exclude cifar10 \
	--workers $(WORKERS)
model: $(DEV)
	@test -d "$(DATA)" || { echo "Say where the datasets are: make model DATA=FOLDER"; exit 2; }
	@mkdir -p build metad2a/assets/database
	$(BUILD) --tasks 60 --plan training_free=16 standalone=6
	$(BUILD) --tasks 1 --only tiny_imagenet --plan training_free=7000
	$(BUILD) --tasks 1 --only intel_scenes6 --plan training_free=1600
	$(BUILD) --tasks 6 --plan supernet=16
	$(BIN)/metad2a db export build/db.sqlite metad2a/assets/database/evaluations.parquet \
		--tasks metad2a/assets/database/tasks.parquet
	$(BIN)/metad2a meta train metad2a/assets/database/evaluations.parquet \
		metad2a/assets/database/tasks.parquet --data "$(DATA)" --out metad2a/assets/model

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
