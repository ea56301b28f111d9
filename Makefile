# Everything a developer does here. The environment is made when it is first needed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKPOINT := examples/checkpoints/matmulfree-shakespeare
ARTIFACT := build/matmulfree-shakespeare.sterna
# The default wheel of torch for Linux brings gigabytes of CUDA; nothing here needs it.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 2
BUDGET ?= 600
# What tests need and pip does not have, as program:package.
DEBIAN := bochs:bochs bochs:bochsbios bochs:bochs-term chromium:chromium chromedriver:chromium-driver
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

help: ## what can be done here
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(VENV)/run.stamp ## compile the trained checkpoint and let it write
	@mkdir -p build
	$(BIN)/sterna compile $(CHECKPOINT) --target cpu -o $(ARTIFACT)
	$(BIN)/sterna run $(ARTIFACT) --prompt "ROMEO:" --seed 1

test: lint types tools ## everything that CI does: lint, types, all tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: lint types ## what pre-commit runs: lint, types and the quick tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" tests/unit tests/test_filecheck.py

lint: $(VENV)/dev.stamp ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/dev.stamp ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/dev.stamp link-tree ## pyright, strict
	$(BIN)/pyright --project pyproject.toml

tools: ## Debian packages that the tests need: an emulator for AVX-512, a browser
	@missing=""; for tool in $(DEBIAN); do command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	if [ -n "$$missing" ]; then $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -qq -y $$missing >/dev/null; fi

explore: $(VENV)/dev.stamp ## the property tests on other examples than those of `make test`, and three times as many
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --hypothesis-profile=explore tests/property tests/unit

fuzz: $(VENV)/fuzz.stamp ## fuzz the readers of files and the compiler for BUDGET seconds
	$(BIN)/python -m tests.fuzz --seconds $(BUDGET)

mutants: $(VENV)/dev.stamp ## plant bugs, one at a time, in a copy of the tree, and see which the tests catch (an hour)
	$(BIN)/python -m tests.mutation --write

mnist: $(VENV)/dev.stamp ## accuracy of the trained digit classifiers on 10,000 digits, which are downloaded
	$(BIN)/python examples/classify_digits.py --all --digits 10000

bench: $(VENV)/dev.stamp ## the benchmarks, each of which prints a table
	for benchmark in benchmarks/*.py; do $(BIN)/python "$$benchmark"; done

fpga: $(VENV)/dev.stamp ## the small model for ECP5: Verilog, synthesis, placing, a report (an hour); then costs of arrays (half an hour)
	$(BIN)/sterna compile examples/checkpoints/matmulfree-shakespeare-small --target verilog --synthesis nextpnr -o build/fpga
	cat build/fpga/report.md
	$(BIN)/python benchmarks/array_costs.py --write
	$(BIN)/python benchmarks/fpga_large_models.py --write

inspector-js: ## build the inspector's viewer from its sources (needs npm)
	cd compiler/inspector/web && npm ci --no-fund --no-audit && npm run check && npm run build

onnx-table: $(VENV)/torch.stamp ## run ONNX's own tests and write what they say into docs/onnx.md
	$(BIN)/python -m tests.onnx_conformance

docs: $(VENV)/dev.stamp ## run every code block of README and docs/
	$(BIN)/python -m pytest tests/test_documents.py

clean: ## remove what was built; the environment stays
	rm -rf build .pytest_cache .ruff_cache .hypothesis

# A type checker does not see the package-directory map of pyproject.toml, so it is given the tree that the map describes.
link-tree:
	@rm -rf build/typecheck && mkdir -p build/typecheck
	@cp -rs $(CURDIR)/compiler build/typecheck/sterna
	@cp -rs $(CURDIR)/{dialects,passes,targets,frontends} build/typecheck/sterna/
	@find build/typecheck -name __pycache__ -prune -exec rm -r {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/torch.stamp: constraints.txt | $(BIN)/python
	@echo "setting up $(VENV) ..."
	$(PIP) install --retries 1 --no-deps -c constraints.txt --extra-index-url $(TORCH_INDEX) torch 2> >(grep -v Retrying >&2)
	@touch $@

$(VENV)/run.stamp: pyproject.toml constraints.txt $(VENV)/torch.stamp
	$(PIP) install -c constraints.txt -e '.[torch]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt $(VENV)/torch.stamp
	$(PIP) install -c constraints.txt -e '.[torch,onnx,triton,fpga,test,dev]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/fuzz.stamp: pyproject.toml constraints.txt $(VENV)/dev.stamp
	$(PIP) install -c constraints.txt -e '.[fuzz]'
	@touch $@

.PHONY: help demo tools test check explore fuzz mutants lint format types bench mnist fpga inspector-js docs clean link-tree
