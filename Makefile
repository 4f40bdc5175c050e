.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-fast lint format generate generate-architectures bench bench-pruning bench-quantization bench-distillation coverage upgrade clean

PYTHON ?= python3.11
BIN := .venv/bin

##@ Use it

demo: install ## Train a small network, compress it over HTTP, show what came out (./demo-output/)
	@$(BIN)/python examples/digits.py

serve: install ## The whole service in the foreground, on http://127.0.0.1:8000
	@$(BIN)/modelpress up

##@ Work on it

install: ## Make .venv and install the pinned dependencies
	@PYTHON=$(PYTHON) scripts/install.sh .venv

test: install ## The whole test-suite
	@$(BIN)/python -m pytest -n 2

test-fast: install ## Unit and architecture tests only
	@$(BIN)/python -m pytest -n 2 tests/unit tests/architecture

lint: install ## ruff, mypy --strict, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install ## Sort imports and lay out code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

generate: install ## Write openapi/openapi.json and docs/methods.md from the code
	@$(BIN)/python -m service.describe

generate-architectures: install ## Write contract/architectures.json from the installed libraries (half an hour)
	@$(BIN)/python -m compressor.models.catalogue

bench: install ## Measure the service and write benchmarks/RESULTS.md (about half an hour)
	@$(BIN)/python -m benchmarks

bench-pruning: install ## Prune trained networks beside the references and write benchmarks/PRUNING.md (needs ../shared)
	@$(BIN)/python -m benchmarks.pruning $(ROWS)

bench-quantization: install ## Quantize trained networks beside the reference and write benchmarks/QUANTIZATION.md (needs ../shared)
	@$(BIN)/python -m benchmarks.quantization $(ROWS)

bench-distillation: install ## Teach a small network beside the reference and write benchmarks/DISTILLATION.md (needs ../shared)
	@$(BIN)/python -m benchmarks.distillation $(ROWS)

coverage: install ## Prune and quantize every torchvision architecture and write docs/coverage.md (hours)
	@$(BIN)/python -m benchmarks.coverage

upgrade: ## Renew constraints.txt with the newest versions that fit
	@PYTHON=$(PYTHON) scripts/upgrade.sh

clean: ## Remove what make has made
	@rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
