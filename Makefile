# The same commands for people and for CI. `make test` needs only make, git and Python 3.10 or later.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UI_STAMP := $(VENV)/.installed-ui
# The versions to install: constraints-forge.txt, -neo.txt and -a1111.txt have those of a WebUI,
# which are too old for making layers without one.
CONSTRAINTS := constraints-dev.txt
REQUIREMENTS := requirements-dev.txt \
	$(if $(filter constraints-dev.txt,$(CONSTRAINTS)),requirements-standalone.txt)
# A WebUI's gradio goes first and alone: Forge Neo has a newer Pillow than its gradio allows.
FIRST := $(if $(filter constraints-dev.txt,$(CONSTRAINTS)),,requirements-webui.txt)

# The first Python that runs, is new enough and can make virtual environments. Version managers
# leave commands on the path that do not run, so a name alone proves nothing.
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))
PYTHON ?= $(shell for p in python3.11 python3.10 python3.12 python3 python; do \
	if $$p -c '$(USABLE)' >/dev/null 2>&1; then echo $$p; break; fi; done)

# Extra arguments for pytest: make test PYTEST_ARGS="-k images"
PYTEST_ARGS ?=
# How many tests run at a time: one for each processor. WORKERS=0 runs all in one process.
WORKERS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# What `make fuzz` tries of each area, how long at most, and which inputs: the same for a seed.
INPUTS ?= 300
MINUTES ?= 2
SEED ?= $(shell date +%j%H%M)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Checks must not depend on what happens to be installed elsewhere.
unexport PYTHONPATH
# The tests start many interpreters, which would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv test slow e2e-batch fuzz check lint format types imports demo comfy comfy-ui e2e e2e-ui weights bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make .venv and install what the tests and checks need

$(STAMP): $(FIRST) $(REQUIREMENTS) $(CONSTRAINTS)
	@if [ -z "$(PYTHON)" ] && [ ! -x $(BIN)/python ]; then \
		echo "Expected Python 3.10 or later with the venv module, found none." \
			"Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; fi
	@if [ ! -x $(BIN)/python ]; then echo "Making $(VENV) with $(PYTHON)"; \
		$(PYTHON) -m venv $(VENV); fi
	$(if $(FIRST),grep -v ^pillow= $(CONSTRAINTS) > $(VENV)/first.txt && $(BIN)/python -m pip \
		install --quiet --requirement $(FIRST) --constraint $(VENV)/first.txt)
	$(BIN)/python -m pip install --quiet $(addprefix --requirement ,$(REQUIREMENTS)) \
		--constraint $(CONSTRAINTS)
	@touch $@

test: $(STAMP) ## Run the tests that need no WebUI: three minutes on two processors
	$(PYTEST) -m "not comfy and not comfy_ui and not e2e and not e2e_ui and not weights and not slow" $(PYTEST_ARGS)

slow: $(STAMP) ## Run the tests that take longer: how well the tiny family draws
	$(PYTEST) -m slow $(PYTEST_ARGS)

e2e-batch: $(STAMP) ## Kill a run of 2,000 rows fifty times, on Ray where it is: hours (ROWS=2000 KILLS=50)
	LAYERDIFFUSE_BATCH_ROWS=$(or $(ROWS),2000) LAYERDIFFUSE_BATCH_KILLS=$(or $(KILLS),50) \
		$(BIN)/python -m pytest tests/unit/test_batch_kills.py $(PYTEST_ARGS)

fuzz: $(STAMP) ## Try malformed inputs of every kind: make fuzz INPUTS=300 MINUTES=2 SEED=1
	$(PYTEST) tests/fuzz -q --inputs $(INPUTS) --minutes $(MINUTES) --seed $(SEED) $(PYTEST_ARGS)

check: lint types imports test slow ## Run everything that CI runs

lint: $(STAMP) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## Fix style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## Check types
	$(BIN)/mypy

imports: $(STAMP) ## Check that imports go down the layers only
	$(BIN)/lint-imports

demo: $(STAMP) ## Draw layers with the tiny family: out/demo, with a page and a contact sheet
	$(BIN)/python -m lib_layerdiffuse demo --out out/demo

comfy: ## Test in a real ComfyUI's code: LAYERDIFFUSE_COMFY_DIR=<folder> make comfy
	@if [ -z "$(LAYERDIFFUSE_COMFY_DIR)" ]; then \
		echo "SKIPPED: every test in tests/comfy (methods and nodes in ComfyUI's own code)."; \
		echo "Set LAYERDIFFUSE_COMFY_DIR to the folder of an installed ComfyUI to run them."; \
	else $(MAKE) --no-print-directory venv \
		&& $(BIN)/python -m pytest -m comfy tests/comfy $(PYTEST_ARGS); fi

comfy-ui: ## Test its server's page in Chromium: LAYERDIFFUSE_COMFY_DIR=<folder> make comfy-ui
	@if [ -z "$(LAYERDIFFUSE_COMFY_DIR)" ]; then \
		echo "SKIPPED: every test in tests/comfy_ui (the nodes in ComfyUI's page, in a browser)."; \
		echo "Set LAYERDIFFUSE_COMFY_DIR to the folder of an installed ComfyUI to run them."; \
	else $(MAKE) --no-print-directory $(UI_STAMP) \
		&& $(BIN)/python -m pytest -m comfy_ui tests/comfy_ui $(PYTEST_ARGS); fi

# The folders of the real WebUIs to test in, by the variables that tests/e2e/webuis.py reads.
NAMED := $(strip $(foreach webui,FORGE NEO REFORGE CLASSIC A1111,$(LAYERDIFFUSE_$(webui)_DIR)))
HOW_TO_NAME = echo "Set LAYERDIFFUSE_FORGE_DIR to the folder of an installed WebUI Forge to run them,"; \
	echo "or likewise LAYERDIFFUSE_NEO_DIR, _REFORGE_DIR, _CLASSIC_DIR or _A1111_DIR."

e2e: ## Test inside a real WebUI: LAYERDIFFUSE_FORGE_DIR=<folder> make e2e
	@if [ -z "$(NAMED)" ]; then \
		echo "SKIPPED: every test in tests/e2e (pictures made by a real WebUI: hooks, panel, API)."; \
		$(HOW_TO_NAME); \
	else $(MAKE) --no-print-directory venv \
		&& $(BIN)/python -m pytest -m e2e tests/e2e $(PYTEST_ARGS); fi

e2e-ui: ## Test a real WebUI's page in Chromium: LAYERDIFFUSE_FORGE_DIR=<folder> make e2e-ui
	@if [ -z "$(NAMED)" ]; then \
		echo "SKIPPED: every test in tests/ui (the page of a real WebUI, in a browser)."; \
		$(HOW_TO_NAME); \
	else $(MAKE) --no-print-directory $(UI_STAMP) \
		&& $(BIN)/python -m pytest -m e2e_ui tests/ui $(PYTEST_ARGS); fi

$(UI_STAMP): $(STAMP) requirements-ui.txt
	$(BIN)/python -m pip install --quiet --requirement requirements-ui.txt \
		--constraint $(CONSTRAINTS)
	@touch $@

weights: ## Measure released weights: LAYERDIFFUSE_WEIGHTS_DIR=<folder> make weights
	@if [ -z "$${LAYERDIFFUSE_WEIGHTS_DIR:-}" ]; then \
		echo "SKIPPED: every test in tests/weights (transparency and layers of real weight files)."; \
		echo "Set LAYERDIFFUSE_WEIGHTS_DIR to the folder of the layer files, and" \
			"LAYERDIFFUSE_SD15_CHECKPOINT or LAYERDIFFUSE_SDXL_CHECKPOINT, to run them."; \
	else $(MAKE) --no-print-directory venv \
		&& $(BIN)/python -m pytest -m weights tests/weights $(PYTEST_ARGS); fi

bench: $(STAMP) ## Measure time and memory; prints one table for each program in bench/
	@set -e; found=; for f in bench/bench_*.py; do if [ -e "$$f" ]; then found=1; \
		echo "== $$f"; PYTHONPATH=. $(BIN)/python "$$f"; fi; done; \
		[ -n "$$found" ] || echo "SKIPPED: no bench/bench_*.py here."

clean: ## Remove everything that the targets made
	rm -rf .venv .venv-* .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache build dist \
		out/demo
	rm -rf *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
