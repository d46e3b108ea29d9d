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

# LiteLLM pins other versions than the platform does, and is tested against from an environment of its own.
.PHONY: install-litellm install-node-sdk
LITELLM := .venv-litellm

install-litellm: $(LITELLM)/.installed ## Create .venv-litellm from its lock file (750 MB)

$(LITELLM)/.installed: tests/litellm/requirements.lock
	@test -x $(LITELLM)/bin/python || $(PYTHON) -m venv $(LITELLM)
	@echo "Installing the locked LiteLLM proxy into $(LITELLM) ..."
	@$(LITELLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# LangChain, which make bench-ingest measures beside the platform, likewise.
.PHONY: install-langchain
LANGCHAIN := .venv-langchain

install-langchain: $(LANGCHAIN)/.installed ## Create .venv-langchain from its lock file (340 MB)

$(LANGCHAIN)/.installed: tests/langchain/requirements.lock
	@test -x $(LANGCHAIN)/bin/python || $(PYTHON) -m venv $(LANGCHAIN)
	@echo "Installing the locked LangChain into $(LANGCHAIN) ..."
	@$(LANGCHAIN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

NODE_SDK := tests/sdk/node

install-node-sdk: $(NODE_SDK)/node_modules/.installed ## The official Node client of the OpenAI API, for the tests; needs Node 20+

$(NODE_SDK)/node_modules/.installed: $(NODE_SDK)/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "Installing the locked Node client into $(NODE_SDK) ..." && cd $(NODE_SDK) \
	    && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null && touch node_modules/.installed; \
	else echo "npm is not on PATH: tests with the Node client are skipped" >&2; fi

# Variables of the command line (DOCS, ASK, SERVICE, PORT_...) reach the recipes through the environment by themselves.
LOCAL := $(RUN) -m infra.local

.PHONY: demo test test-litellm test-vllm test-pgbouncer chaos chaos-ingest check dev dev-status dev-stop dev-reset dev-logs dev-logs-api dev-env dev-token dev-shell ingest

ingest: install ## Upload a folder and wait until it is indexed: DIR=path (COLLECTION=name; URL=... TOKEN=... for another platform than make dev's)
	@exec $(LOCAL) ingest

demo: install ## Ingest documents and ask questions on a throw-away platform (DOCS=path, ASK="...")
	@exec $(LOCAL) demo

# What starts whole platforms has the machine to itself; the rest goes side by side, each process with servers of its own.
test: install install-node-sdk ## The whole test suite, but for what make test-litellm and test-vllm run
	@status=0; \
	$(BIN)/pytest -m "not stack" -n logical --maxprocesses 4 --dist loadfile || status=$$?; \
	test $$status -le 1 || exit $$status; \
	$(BIN)/pytest -m stack || exit $$?; \
	exit $$status

test-litellm: install install-litellm ## The platform with a real LiteLLM proxy as its model endpoint, and as its client
	@exec $(BIN)/pytest tests/litellm

test-vllm: install ## The platform on models that a real vLLM serves: VLLM=program, which is not installed here
	@test -x "$(VLLM)" || { echo "VLLM=/path/to/vllm: the program of an installation of vLLM; none is made here." >&2; exit 2; }
	@VLLM="$(VLLM)" exec $(BIN)/pytest tests/vllm

test-pgbouncer: install install-node-sdk ## The stack's tests through PgBouncer in transaction mode; skipped where it is not installed
	@exec env PGBOUNCER=1 $(BIN)/pytest tests/stack --ignore=tests/stack/test_failover.py $(ARGS)

test-image: install install-containers ## The image really built and run, each function in a container; needs root on Debian (five minutes)
	@exec $(BIN)/pytest tests/image

# The image: infra/image/__main__.py says which variables it hears.
.PHONY: image test-image install-containers

image: ## Build the image with docker, podman or buildah (IMAGE= TAG= BASE= SBOM=file WHEELS=folder PIP_CONF=file SOURCE=url)
	@$(PYTHON) -m infra.image

CONTAINER_TOOLS := debootstrap buildah runc

install-containers:
	@lacking=; for tool in $(CONTAINER_TOOLS); do command -v $$tool >/dev/null || lacking="$$lacking $$tool"; done; \
	test -z "$$lacking" || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { \
	  echo "make test-image needs root on Debian, and its packages$$lacking." >&2; exit 1; }; \
	  echo "Installing$$lacking ..." && apt-get update -qq \
	    && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$lacking >/dev/null; }

chaos: install ## kill -9 of each part at random moments of streaming turns, and deliveries that go astray (ROUNDS=20 SEED=... ARGS="-k redis")
	@exec $(BIN)/pytest tests/chaos --ignore=tests/chaos/test_ingestion.py $(ARGS)

chaos-ingest: install ## kill -9 of each part that takes documents in, at random moments of thousands of them (DOCUMENTS=2000 KILLS=10 SEED=...)
	@exec $(BIN)/pytest -o faulthandler_timeout=0 tests/chaos/test_ingestion.py $(ARGS)

check: install ## Lint, types and SQL lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy functions shared migrations infra tests
	@$(BIN)/sqlfluff lint --processes 1 --disable-progress-bar sql migrations

dev: install ## Start the platform on this machine; Ctrl-C stops it (PORT_CHAT=..., PORT_OFFSET=... move ports)
	@exec $(LOCAL) dev

dev-status: install ## Show what of the local platform runs
	@$(LOCAL) status

dev-stop: install ## Stop a local platform that was started in another terminal
	@$(LOCAL) stop

dev-reset: install ## Stop it and delete all its state
	@$(LOCAL) reset

dev-logs: install ## Follow the logs of every part, or of one (SERVICE=chat)
	@exec $(LOCAL) logs $(SERVICE)

dev-logs-api: install ## Follow the logs of the chat function
	@exec $(LOCAL) logs chat

dev-env: install ## Print the local platform's URLs as shell variables: eval "$$(make -s dev-env)"
	@$(LOCAL) env

dev-token: install ## Print a token of the local platform's demo tenant: export TOKEN=$$(make -s dev-token)
	@$(LOCAL) token

dev-shell: install ## A shell with the local platform's variables and tools
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(TARGET) "$${SHELL:-sh}"

# A deployment: that of DATABASE_URL, REDIS_URL, ..., or else the local platform that runs.
.PHONY: doctor smoke

doctor: install ## What is wrong with a deployment's settings and parts, and what to do about it; status 1 with a failure (JSON=1)
	@exec $(RUN) -m infra.doctor

smoke: install ## Health, an answer, a document, seen from outside: URL=https://{function}.agents.example.com TOKEN=... (default: the local platform)
	@exec $(RUN) -m infra.smoke

.PHONY: api-docs release promote rollback release-status

api-docs: install ## Write docs/asyncapi.json, openapi.json and events.md from the models, sql/ and the manifests
	@$(RUN) -m infra.api_docs

# The cluster of kubectl's current context (NAMESPACE=enterprise-agents). DRY_RUN=1 tells what would be done.
release: install ## Bring a release into the cluster: VERSION=1.1.0 OVERLAY=eu-west-1 (CANARY=10 IMAGE=name:tag DRY_RUN=1)
	@$(RUN) -m infra.release release

promote: install ## Give the release a share of all traffic: PERCENT=50, 100 at last (DRY_RUN=1)
	@$(RUN) -m infra.release promote

rollback: install ## Give all traffic back to the release before, at once (DRY_RUN=1)
	@$(RUN) -m infra.release rollback

release-status: install ## Which revisions of each function get how much traffic
	@$(RUN) -m infra.release status

# The database of MIGRATION_DATABASE_URL (or DATABASE_URL), or else that of the local platform that runs.
TARGET := $(RUN) -m infra.target
.PHONY: db-shell db-health db-backup db-restore migrate migrate-create db-rollback db-drift reembed seed bench-cold bench-turn bench-streams bench-auth bench-budget bench-ledger bench-gateway bench-chunking bench-ingest bench-search db-maintenance bench-events eval-retrieval

migrate: install ## Migrate to the newest revision and apply sql/
	@$(TARGET) $(BIN)/alembic upgrade head

migrate-create: install ## Start a revision: message="add a table" (rev=016_table: its id, otherwise made of the message)
	@$(RUN) -m migrations.create "$(message)" "$(rev)"

db-rollback: install ## Undo the newest revision, or STEPS=n of them
	@$(TARGET) $(BIN)/alembic downgrade -$(or $(STEPS),1)

db-drift: install ## Name every function of the database that differs from sql/
	@$(TARGET) $(RUN) -m migrations.drift

db-shell: install ## psql, as the login that migrates
	@exec $(RUN) -m infra.shell

db-health: install ## The database's state as JSON; status 1 when it is not healthy
	@$(RUN) -m infra.database_health

db-backup: install ## Back up into a file: BACKUP_MODE=full|schema|data BACKUP_DIR=./backups
	@$(RUN) -m infra.backup

db-restore: install ## Restore BACKUP_FILE=path (CREATE_DB=1 makes the database, FORCE=1 replaces what it holds)
	@$(RUN) -m infra.restore

reembed: install ## New vectors by another embedding model, while the old ones answer (MODEL= DIMENSIONS= SEND_DIMENSIONS=1; CANCEL=1 undoes what is not finished)
	@exec $(RUN) -m infra.reembed

seed: install ## A first tenant, users, sample data; prints tokens and keys once (TENANT=slug NAME="..." FRESH_TOKENS=1)
	@$(RUN) -m infra.seed

bench-auth: install ## Verifying a token with a cached key, beside the bare signature; an API key beside a bare SELECT
	@exec $(RUN) -m tests.benchmarks.auth

bench-budget: install ## Reserving and settling beside a bare UPDATE, one busy tenant beside eight; fails beyond the limits
	@exec $(RUN) -m tests.benchmarks.budget

bench-ledger: install ## A turn's budget on ten million ledger entries of ten thousand tenants, beside an empty ledger (ROWS=n)
	@exec $(RUN) -m tests.benchmarks.ledger

bench-gateway: install install-litellm ## The OpenAI API beside a LiteLLM proxy and a pass-through; fails beyond the limits (ARGS="--seconds 1")
	@exec $(RUN) -m tests.benchmarks.gateway $(ARGS)

bench-chunking: install ## Splitting documents beside the bare tokenizer and a library's splitter; fails beyond the limits
	@exec $(RUN) -m tests.benchmarks.chunking

bench-search: install ## rag.search on a million chunks of a thousand tenants, beside bare SQL; fails beyond the limits (CHUNKS=n KEEP=folder)
	@exec $(RUN) -m tests.benchmarks.search

bench-ingest: install install-langchain ## Ingestion beside the embedding endpoint alone and LangChain's pipeline; fails beyond the limits (ARGS="--files 30 --rounds 2")
	@exec $(RUN) -m tests.benchmarks.ingest $(ARGS)

bench-events: install ## An event's way through the database beside other queues, its delivery beside a bare POST; fails beyond the limits
	@exec $(RUN) -m tests.benchmarks.events

db-maintenance: install ## Partitions of the ledger ahead, vacuum and analyze (KEEP_MONTHS=n detaches older months)
	@$(RUN) -m infra.maintenance

bench-cold: install ## Cold start and memory of every function beside a bare Starlette + uvicorn; fails above the limits
	@exec $(RUN) -m tests.benchmarks.cold_start --check

bench-turn: install ## A warm turn from request to first token, by step
	@exec $(RUN) -m tests.benchmarks.turn

bench-streams: install ## 300 turns streamed at once: added latency of tokens, CPU and memory; fails when a stream does (STREAMS=n DURATION=seconds)
	@exec $(RUN) -m tests.benchmarks.streams --streams $(or $(STREAMS),300) --seconds $(or $(DURATION),60)

eval-retrieval: install ## How well the search finds, beside BM25, vectors and plain fusion (DIR=folder in BEIR's layout SPLIT=test SWEEP=1 JSON=file CHECK=1)
	@exec $(RUN) -m infra.evaluation $(if $(DIR),"$(DIR)") $(if $(SPLIT),--split "$(SPLIT)") \
	  $(if $(SWEEP),--sweep) $(if $(JSON),--json "$(JSON)") $(if $(CHECK),--check)
