# The front door. `make help` lists the targets; the first use makes .venv from the pinned lock files.
#
#   make gpt2-medium EXTRACT_BATCH_SIZE=12 TRAIN_BATCH_SIZE=96 ARGS="--set model.layers=0-5"

MODELS := demo smollm2-135m gpt2-small gpt2-medium
MODEL  ?= demo
ARGS   ?=
# Where and how stages run: EXECUTOR=local|slurm CONTAINER=apptainer|none CLUSTER=<profile of config/clusters>.
EXECUTOR  ?=
CONTAINER ?=
CLUSTER   ?=
WHERE     := $(if $(CLUSTER),--cluster $(CLUSTER))
HOW       := $(WHERE) $(if $(EXECUTOR),--executor $(EXECUTOR)) $(if $(CONTAINER),--container $(CONTAINER))
VENV   ?= .venv
# The first Python that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
LOCKS  := containers/requirements.lock containers/requirements-nodeps.lock containers/torch.lock
HASHED := --no-deps --require-hashes

export EXTRACT_BATCH_SIZE TRAIN_BATCH_SIZE PYTHON

.DEFAULT_GOAL := help
.PHONY: help $(MODELS) plan status test lint types tests docs images faults clean lock sbom

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z$$][^=]*:.*## / { sub(/\$$\(MODELS\)/, "demo, …", $$1); printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "  Models: $(MODELS). Each takes EXTRACT_BATCH_SIZE=… TRAIN_BATCH_SIZE=… ARGS=\"--set key=value\","
	@echo "  and on a cluster EXECUTOR=local|slurm CONTAINER=apptainer|none CLUSTER=<profile>."

$(MODELS): $(VENV)/.installed ## Run the pipeline on a model, as far as it is stale
	@$(VENV)/bin/ghosttrack run $@ $(HOW) $(ARGS)

plan: $(VENV)/.installed ## Show what would run and why (MODEL=demo)
	@$(VENV)/bin/ghosttrack plan $(MODEL) $(WHERE) $(ARGS)

status: $(VENV)/.installed ## Show what is done, stale, failed and running (MODEL=demo)
	@$(VENV)/bin/ghosttrack status $(MODEL) $(WHERE) $(ARGS)

test: lint types tests ## Format check, lint, types and tests (with -j2 types beside tests)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: $(VENV)/.installed-dev lint
	$(VENV)/bin/mypy

tests: $(VENV)/.installed-dev lint
	$(VENV)/bin/pytest -n logical --dist loadfile --no-loadscope-reorder $(ARGS)

docs: $(VENV)/.installed-docs ## Build the documentation as a site, build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

faults: $(VENV)/.installed-dev ## The whole campaign of faults and attacks; ends in a table (hours)
	GHOSTTRACK_FAULTS=whole $(VENV)/bin/pytest -n logical --dist load tests/faults $(ARGS)

clean: $(VENV)/.installed ## Remove a model's results (MODEL=demo)
	@$(VENV)/bin/ghosttrack clean $(MODEL) $(ARGS)

images: $(VENV)/.installed-dev ## Build stages/*.sif with Apptainer (STAGES="track detect" for some)
	@$(VENV)/bin/python apptainer/build.py $(STAGES)

sbom: $(VENV)/.installed-dev ## Write what the package and the images are made of, build/sbom/*.cdx.json (CycloneDX)
	@$(VENV)/bin/python apptainer/build.py --sbom build/sbom
	@cat containers/torch.lock containers/requirements.lock | $(VENV)/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml -o build/sbom/ghosttrack.cdx.json -

lock: ## Resolve the pinned lock files anew from pyproject.toml
	containers/lock.sh

$(VENV)/.installed: pyproject.toml $(LOCKS)
	@test -n "$(PYTHON)" || { echo "GhostTrack needs Python 3.10 or newer; name it with PYTHON=…" >&2; exit 1; }
	@echo "installing into $(VENV): once, a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install -q --no-compile $(HASHED) -r containers/requirements.lock -r containers/requirements-nodeps.lock
	@$(VENV)/bin/pip install -q --no-compile -r containers/torch.lock
	@$(VENV)/bin/pip install -q --no-compile --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed containers/requirements-dev.lock
	@$(VENV)/bin/pip install -q --no-compile $(HASHED) -r containers/requirements-dev.lock
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(VENV)/bin/pip install -q --no-compile --no-build-isolation -e ".[docs]"
	@touch $@
