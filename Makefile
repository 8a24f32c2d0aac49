# The one entry to everything. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST ?= .venv-lowest
DIRECT ?= .venv-direct-lowest
CANARY ?= .venv-canary
OPENLIT ?= .venv-openlit
PROVIDERS ?= .venv-providers
SITE ?= .venv-site
# Faster than pip; the first environment gets it first.
UV := .venv/bin/uv
PORT ?= 8000
N ?= 1000
CELLS ?= *
# --stop: with OTEL_COACH_STOP_ABANDONED.
STOP ?=
MINUTES ?= 20
# Five for two processors: most tests wait, for servers and for time to pass.
SIDE_BY_SIDE ?= --numprocesses $(shell expr 5 \* $$(getconf _NPROCESSORS_ONLN) / 2) --dist loadfile
# .ci/run sets it: what fails beside other tests is run once more, alone, and named at the end if it then passes.
ONCE_MORE ?=
UPGRADE ?=
SEED ?= $(shell date +%s)
COLLECTOR := v0.145.0
JAEGER := v1.76.0
# The further versions of Python that it is tested on; one is found as python3.12, or where pyenv has it.
VERSIONS ?= 3.12.1 3.13.0

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(UPGRADE) \
	--no-header --no-annotate --no-strip-extras --no-emit-index-url --no-emit-find-links
LOCK = $(COMPILE) --extra otlp pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help install run demo test test-long test-fast test-lowest test-direct-lowest test-canary test-providers docs-providers test-versions test-on-debian test-install walk oracle stopping-table abandoned soak flood cardinality-attack up e2e pictures e2e-tools bench bench-throughput bench-start bench-cold bench-micro bench-sockets bench-crowd bench-preload bench-profiles bench-growth bench-workers bench-weighed bench-scale bench-backends fuzz lint format types docs docs-site dashboards rules docs-check lock prices prices-equivalence sbom licences audit rooms clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## make .venv with everything that development needs

$(VENV)/.installed: requirements-dev.txt pyproject.toml
	$(call install_into,$(VENV),requirements-dev.txt)

$(LOWEST)/.installed: requirements-lowest.txt pyproject.toml
	$(call install_into,$(LOWEST),requirements-lowest.txt)

$(DIRECT)/.installed: requirements-direct-lowest.txt pyproject.toml
	$(call install_into,$(DIRECT),requirements-direct-lowest.txt)

$(CANARY)/.installed: requirements-canary.txt pyproject.toml
	$(call install_into,$(CANARY),requirements-canary.txt)

$(OPENLIT)/.installed: requirements-openlit.txt pyproject.toml
	$(call install_into,$(OPENLIT),requirements-openlit.txt)

$(PROVIDERS)/.installed: requirements-providers.txt pyproject.toml
	$(call install_into,$(PROVIDERS),requirements-providers.txt)

$(SITE)/.installed: requirements-site.txt
	$(call packages_into,$(SITE),requirements-site.txt)
	@touch $@

# The interpreter of that version.
python = $(firstword $(wildcard $(addsuffix /versions/$(1)/bin/python,$(shell pyenv root 2>/dev/null) $(HOME)/.pyenv)) python$(call minor,$(1)))
minor = $(word 1,$(subst ., ,$(1))).$(word 2,$(subst ., ,$(1)))

# A line for each 20 packages that pip finds, and one when it installs them.
PROGRESS = /^(Collecting|Requirement already)/ && ++n % 20 == 0 {print "  " n " of at most " all " packages"; fflush()} \
	/^Installing collected/ {print "  installing them"; fflush()}
PIP_INSTALL = pip install --disable-pip-version-check --require-hashes --requirement

# uv shows its progress on a terminal. It does not read pip's configuration: where it finds no index, pip does it.
define packages_into
@echo "installing into $(1)"
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "otel-coach needs Python 3.11 or newer; set PYTHON=python3.11")'
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@uv=$(UV); test -x $$uv || uv=$(1)/bin/uv; test -x $$uv \
	|| $(1)/bin/$(PIP_INSTALL) <(awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements-dev.txt) --quiet; \
	test -t 1 || quiet=--quiet; \
	$$uv pip install $$quiet --compile-bytecode --python $(1)/bin/python --require-hashes --requirement $(2) \
	|| $(1)/bin/$(PIP_INSTALL) $(2) | awk -v all=$$(grep -c == $(2)) '$(PROGRESS)'
endef

define install_into
$(call packages_into,$(1),$(2))
@$(1)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
@touch $(1)/.installed
endef

# Three tests at most, as more are no accident of a busy machine. $(1): the environment, $(2): what pytest is told.
define once_more
|| { test $$? = 1 && failed=.pytest_cache/v/cache/lastfailed && test $$(grep -c true $$failed) -le 3 \
	&& sed -n 's/^  "\(.*\)": true,*$$/unsteady on $(notdir $(1)): \1/p' $$failed >> .pytest_cache/unsteady \
	&& echo "What failed is run once more, alone." && $(1)/bin/python -m pytest $(2) --last-failed $(if $(findstring --numprocesses,$(2)),--numprocesses 0); }
endef

define pytest
@$(1)/bin/python -m pytest $(2) $(PYTEST) $(if $(ONCE_MORE),--cache-clear $(once_more))
endef

run: install ## start the reference service, measured, send one round of users, go on serving
	@$(BIN)/python -m examples.coaching.demo --port $(PORT)

demo: install ## the same, then exit: 0 only if every figure is right
	@$(BIN)/python -m examples.coaching.demo --once

test: install ## the ordinary suite, some four minutes
	$(call pytest,$(VENV),$(SIDE_BY_SIDE) -m "not long")

test-long: install ## the tests that take longer: kills, floods and junk in short, the oracle's grid, planted secrets
	$(call pytest,$(VENV),$(SIDE_BY_SIDE) -m long)

test-fast: install ## the tests without servers, under a minute
	@HYPOTHESIS_PROFILE=fast $(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not server" $(PYTEST)

# What is deployed, and what a release is made of, depend on no version of a library or of Python.
OF_VERSIONS := --ignore-glob '*/test_deploy*' --ignore-glob '*/test_release*'

test-lowest: $(LOWEST)/.installed ## the suite on the lowest versions that pyproject.toml allows
	$(call pytest,$(LOWEST),$(SIDE_BY_SIDE) -m "not long" --disable-warnings $(OF_VERSIONS))

test-direct-lowest: $(DIRECT)/.installed ## calls by the oldest openai and anthropic packages, without LangChain
	$(call pytest,$(DIRECT),$(SIDE_BY_SIDE) --disable-warnings tests/unit/instrumentors/direct/test_direct_figures.py tests/unit/instrumentors/direct/test_direct_endings.py tests/unit/instrumentors/direct/test_direct_work.py)

test-versions: $(VERSIONS:%=test-on-%) ## on further versions of Python: all tests but those of fleets and of deployment, the demo, 300 requests

test-on-%:
	@$(MAKE) --no-print-directory install demo oracle VENV=.venv-$* PYTHON="$(call python,$*)" N=300 SEED=1
	$(call pytest,.venv-$*,$(SIDE_BY_SIDE) -m "not fleet and not long" $(OF_VERSIONS))

test-on-debian: ## the same on Python 3.14, in a Debian brought into .debian; as root, with debootstrap
	@verification/installs/in_debian.sh forky python3.14,python3.14-venv,ca-certificates,make,git make test-on-3.14

test-install: install ## build it, install it by several pips and uv, beside other services' locks, and serve with it
	@$(BIN)/python -m verification.installs

walk: install ## README's walk from nothing to the first figure, each step with its seconds; writes docs/index.md
	@$(BIN)/python -m verification.walk --write docs/index.md

test-canary: $(CANARY)/.installed $(OPENLIT)/.installed ## beside other people's instrumentations: whether anything leaves that should not
	$(call pytest,$(CANARY),verification/canary tests/integration/test_logs.py tests/unit/sdk/test_log_export.py --deselect verification/canary/test_canary_packages.py::test_openlit)
	$(call pytest,$(OPENLIT),verification/canary/test_canary_packages.py::test_openlit)

test-providers: $(PROVIDERS)/.installed ## LangChain's integration packages, each against its provider's protocol on this machine
	$(call pytest,$(PROVIDERS),tests/providers)

docs-providers: $(PROVIDERS)/.installed ## the same, then write the table of docs/providers.md, and what was handed over for the ordinary suite
	@$(PROVIDERS)/bin/python -m pytest tests/providers --write-table docs/providers.md --write-shapes $(PYTEST)

oracle: install ## N random requests from SEED: each figure against the provider's ledger
	@$(BIN)/python -m verification.oracle --n $(N) --seed $(SEED) --cells '$(CELLS)' $(STOP)

stopping-table: install ## what is made for clients who have left, without and with OTEL_COACH_STOP_ABANDONED; writes docs/abandoned.md
	@$(BIN)/python -m verification.stopping --write docs/abandoned.md

abandoned: install ## 100,000 runs that nobody ends: what is left of them in memory
	@$(BIN)/python -m verification.oracle.abandoned

soak: install ## kill, stop and reload the workers of real servers for MINUTES: no counter may fall
	@$(BIN)/python -m verification.soak --minutes $(MINUTES) --seed $(SEED) $(SOAK)

flood: install ## strangers by 100 connections who want the page: how long a scrape, and others, wait
	@$(BIN)/python -m verification.soak.flood $(FLOOD)

cardinality-attack: install ## a million junk values of every kind against a real server: series, bytes, memory
	@$(BIN)/python -m verification.cardinality_attack $(ATTACK)

up: install ## the whole stack on this machine (Collector, Jaeger, Prometheus, 4 workers), with users
	@$(BIN)/python -m verification.end_to_end.up $(UP)

e2e: install ## send known requests through the whole stack, then ask Prometheus and Jaeger
	@$(BIN)/python -m verification.end_to_end $(E2E)

pictures: install ## take docs/pictures from a run of the whole stack; needs chromium and chromium-driver
	@$(BIN)/python -m verification.end_to_end.pictures docs/pictures

e2e-tools: ## build the Collector and Jaeger into .e2e-tools, some 15 minutes
	@mkdir -p .e2e-tools/bin
	GOBIN=$(CURDIR)/.e2e-tools go install go.opentelemetry.io/collector/cmd/builder@$(COLLECTOR)
	CGO_ENABLED=0 .e2e-tools/builder --config verification/end_to_end/ocb.yaml
	cp .e2e-tools/otelcol/otelcol .e2e-tools/bin/
	rm -rf .e2e-tools/jaeger
	cp -r "$$(go mod download -json github.com/jaegertracing/jaeger@$(JAEGER) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" .e2e-tools/jaeger
	chmod -R u+w .e2e-tools/jaeger
	cd .e2e-tools/jaeger && CGO_ENABLED=0 go build -o ../bin/jaeger ./cmd/jaeger

bench: install ## all goals of speed, beside the bare service, in some eight minutes; writes docs/benchmarks.md
	@$(BIN)/python -m verification.bench --write docs/benchmarks.md $(BENCH)

bench-throughput: install ## of it, streams and /health alone
	@$(BIN)/python -m verification.bench.throughput $(BENCH)

bench-start: install ## of it, start-up and memory alone
	@$(BIN)/python -m verification.bench.start --write docs/benchmarks.md $(BENCH)

bench-cold: install ## of it, a service that is rarely busy: the CPU time of single requests, beside bare
	@$(BIN)/python -m verification.bench.cold $(BENCH)

bench-micro: install ## a chunk, a call and an agent in one process, by pyperf
	@$(BIN)/python -m verification.bench.micro $(BENCH)

bench-growth: install ## whether anything grows over a million requests
	@$(BIN)/python -m verification.bench.growth $(BENCH)

bench-workers: install ## what workers cost each other, by label sets and workers
	@$(BIN)/python -m verification.bench.workers --write docs/benchmarks.md $(BENCH)

bench-weighed: install ## optimisations that cost readability: with and without, in pairs
	@$(BIN)/python -m verification.bench.weighed --write docs/architecture.md $(BENCH)

bench-sockets: install ## messages a second through a WebSocket, beside bare
	@$(BIN)/python -m verification.bench.sockets --write docs/benchmarks.md $(BENCH)

bench-crowd: install ## many label sets, 5,000 open streams and their leaving at once, beside bare
	@$(BIN)/python -m verification.bench.crowd --write docs/benchmarks.md $(BENCH)

bench-preload: install ## the private memory of a worker of gunicorn --preload, with and without gc.freeze
	@$(BIN)/python -m verification.bench.preload --write docs/benchmarks.md $(BENCH)

bench-profiles: install ## where the memory and the CPU time go that the service takes more, in rows that add up
	@$(BIN)/python -m verification.bench.profiles --write docs/benchmarks.md $(BENCH)

bench-scale: install ## streams and /health with 1, 2 and 4 workers
	@$(BIN)/python -m verification.bench.throughput --scale --rounds 40 --write docs/benchmarks.md $(BENCH)

bench-backends: install ## latency with dead OTLP back ends, beside a healthy one
	@$(BIN)/python -m verification.bench.backends

fuzz: install ## random bytes for all that reads foreign ones, for as long as it takes to find nothing
	@HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/unit/*/test_fuzz_*.py tests/unit/sdk/test_sql.py --timeout 0

lint: install docs-check ## ruff, bandit, and that all that is generated is up to date
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive otel_coach deploy verification/installs tools

format: install ## let ruff mend what it can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

types: install ## pyright, strict
	@$(BIN)/pyright --pythonpath $(BIN)/python

docs: install ## write the generated pages
	@$(BIN)/otel-coach metrics --write docs/metrics.md
	@$(BIN)/otel-coach settings --write docs/configuration.md
	@$(BIN)/otel-coach traps --write docs/doctor.md
	@$(BIN)/python -m tools.cli_page --write docs/cli.md
	@$(BIN)/python -m tools.api_page --write docs/api.md
	@$(BIN)/python -m verification.oracle.truth --write docs/truth.md

docs-site: $(SITE)/.installed ## build the documentation as a site into site/; fails if a link is broken
	@$(SITE)/bin/zensical build --strict --clean --config-file mkdocs.yml
	@$(SITE)/bin/python -m tools.site site

dashboards: install ## write the Grafana dashboard from the catalogue
	@$(BIN)/python -m tools.monitoring dashboards --write

rules: install ## write the recording rules and alerts from the catalogue
	@$(BIN)/python -m tools.monitoring rules --write

prices: install ## write the price list from the newest genai-prices, if it gives the same prices
	@$(MAKE) --no-print-directory lock UPGRADE='--upgrade-package genai-prices'
	@$(MAKE) --no-print-directory install
	@$(BIN)/python -m tools.prices --write

prices-equivalence: install ## compare the price list with genai-prices itself: all providers, models and names
	@ALL_PRICES=1 $(BIN)/python -m pytest tests/unit/pricing/test_price_equivalence.py --timeout 0 -s $(PYTEST)

docs-check: install
	@$(BIN)/python -m tools.monitoring dashboards --check
	@$(BIN)/python -m tools.monitoring rules --check
	@$(BIN)/otel-coach metrics --check docs/metrics.md
	@$(BIN)/otel-coach settings --check docs/configuration.md
	@$(BIN)/otel-coach traps --check docs/doctor.md
	@$(BIN)/python -m tools.cli_page --check docs/cli.md
	@$(BIN)/python -m tools.api_page --check docs/api.md
	@$(BIN)/python -m tools.prices --check
	@$(BIN)/python -m verification.oracle.truth --check docs/truth.md

lock: install ## resolve the environments for development, tests and the site; UPGRADE=--upgrade: all anew
	@$(LOCK) --group dev --output-file requirements-dev.txt
	@$(LOCK) --resolution lowest-direct --group test --group example \
		--output-file requirements-lowest.txt
	@$(LOCK) --resolution lowest-direct --group direct \
		--output-file requirements-direct-lowest.txt
	@$(LOCK) --group canary --output-file requirements-canary.txt
	@$(LOCK) --group openlit --output-file requirements-openlit.txt
	@$(LOCK) --group providers --output-file requirements-providers.txt
	@$(COMPILE) --group site --output-file requirements-site.txt

sbom: install ## write dist/otel-coach.cdx.json: what a release brings along, as CycloneDX
	@$(BIN)/python -m verification.installs.sbom dist/otel-coach.cdx.json

licences: install ## list the licences of what a release brings along; each must be permissive
	@$(BIN)/python -m tools.licences

audit: install ## look for known vulnerabilities in what a release brings along, by pip-audit where it is installed
	@$(BIN)/python -m tools.audit

rooms: install ## rooms, arrows and circles of the package, from its imports
	@$(BIN)/python -m tools.rooms

clean: ## remove .venv and what was built
	@rm -rf $(VENV) .venv-* .debian dist site .pytest_cache .ruff_cache
