# Everything runs from here; nothing but python3 (3.11 or later) and a package index is needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help install

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-zA-Z_-]*:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Create .venv from the lock file

$(VENV)/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; found: $$($(PYTHON) --version 2>&1). Set PYTHON=..." >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) cannot make a virtual environment (on Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Installing the locked dependencies into $(VENV) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@
