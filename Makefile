# Everything a person or CI runs. It needs Python 3.11 to 3.13, make and a package index, and sets the rest up itself.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo serve test e2e bench lint format tools chart generate verify clean

UV_VERSION := 0.13.9
UV := .uv/bin/uv
# The first interpreter on the PATH that the packages support; PYTHON=… picks another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
export UV_PYTHON_DOWNLOADS := never
# The machine's own certificates, as pip and curl use: a company's proxy is signed by one of them.
export UV_SYSTEM_CERTS ?= true
export UV_PROJECT_ENVIRONMENT := .venv
unexport VIRTUAL_ENV

WEIGHTS ?= yolo://shapes
MODEL ?= $(if $(filter yolo://shapes,$(WEIGHTS)),shapes,model)
# What the end-to-end suite's cluster has beside KServe; its tests of the rest are left out without.
ADDONS ?= knative keda netpol
RUN := $(UV) run --no-sync

help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/dev ## the environment, with what tests and checks need

demo: .venv/run ## both servers on this machine, sample pictures through them, annotated pictures in out/ [WEIGHTS= IMAGES=]
	@$(RUN) yolo-kserve demo --weights '$(WEIGHTS)' $(if $(IMAGES),--images '$(IMAGES)')

serve: .venv/run ## both servers in the foreground until Ctrl-C [WEIGHTS= MODEL=]
	@$(RUN) yolo-kserve up --weights '$(WEIGHTS)' --model '$(MODEL)' || test $$? -eq 130

test: .venv/dev ## every test that needs no root and no cluster [TESTS=path]
	$(RUN) pytest $(TESTS)

e2e: .venv/dev ## the suite on a real cluster, up before and gone after: kind where Docker is, else root on Debian [TESTS=path ADDONS=]
	@ADDONS='$(ADDONS)' e2e/cluster/suite $(TESTS)

bench: .venv/dev ## what the serving itself costs, stage by stage
	$(RUN) python bench/plumbing.py

lint: .venv/dev ## style, types and import contracts
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) shellcheck --external-sources $$(git grep -lE '^#!.*bash|^# shellcheck shell=bash' -- ':!*.md')

format: .venv/dev ## put the style right
	$(RUN) ruff check --fix
	$(RUN) ruff format

tools: ## the tools that check the chart, built from Go modules (some minutes, once)
	.ci/tools/run --build

chart: .venv/dev ## the chart: lint with both Helms, unit tests, schemas, alerts and their tests; the manifests beside it
	.ci/chart

generate: .venv/dev ## everything generated, anew
	cd servekit/src/servekit/rpc && $(abspath $(UV)) run --no-sync python -m grpc_tools.protoc -I. \
		--descriptor_set_out=open_inference.binpb open_inference.proto
	$(RUN) python docs/reference/contract/generate.py
	$(RUN) python charts/yolo-kserve/dashboards/generate.py
	.ci/tools/run helm-docs --chart-search-root charts --log-level warning
	$(RUN) python manifests/generate.py

verify: generate lint ## regenerate, lint, and show what differs
	git diff --exit-code

clean: ## remove the environment and what the tools left
	rm -rf .venv .uv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache out

.venv/run: $(UV) pyproject.toml uv.lock */pyproject.toml
	@$(UV) sync --quiet --locked --inexact --no-default-groups --python '$(PYTHON)'
	@touch $@

.venv/dev: $(UV) pyproject.toml uv.lock */pyproject.toml
	@$(UV) sync --quiet --locked --python '$(PYTHON)'
	@touch $@ .venv/run

# An environment of its own: systems that manage their Python's packages (PEP 668) refuse a plain pip install.
$(UV):
	@test -n '$(PYTHON)' || { echo 'error: Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH' >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: this Python can not make environments: install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo 'Setting up (once, about a minute) …'
	@'$(PYTHON)' -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
