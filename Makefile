# zooforge: grow, sparsify, publish and read model zoos. `make` lists the targets.
VENV ?= .venv
PYTHON ?= python3
STORE ?=
ZOO ?= mnist5k-cnn-s
SECONDS ?= 420
AUTHOR ?=
BIN := $(VENV)/bin
EMBEDDED := $(BIN)/python -m zooforge.storage.stores.seaweedfs

.DEFAULT_GOAL := help
SHELL := /bin/sh
.SHELLFLAGS := -eu -c

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z0-9_ -]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##### set up

.PHONY: setup lock
setup: ## Create the virtual environment, install every locked dependency, build the CPU engine
	@PYTHON=$(PYTHON) sh requirements/install $(VENV)
	@sh requirements/build-native $(VENV)

lock: setup ## Resolve the dependencies again and write requirements/*.lock
	$(BIN)/python requirements/compile

##### use

.PHONY: demo store store-down report
demo: setup ## Grow a small zoo of real digits, its sparse twins and its report, on an embedded S3 server
	VENV=$(VENV) sh requirements/demo

store: setup ## Start the embedded S3 server (SeaweedFS) on loopback, data under .zooforge/
	$(EMBEDDED) up

store-down: ## Stop the embedded S3 server; its data stay
	@if [ -x $(BIN)/python ]; then set -x; $(EMBEDDED) down; fi

report: setup ## Write the report of ZOO from STORE (default: the embedded server) into report/ZOO
	$(EMBEDDED) run -- $(BIN)/zoo report $(ZOO) $(if $(STORE),--store $(STORE)) --out report/$(ZOO)

##### check

.PHONY: test test-quick test-zoos lint fuzz chaos month soak docs docs-site chaos-alerts check-native check-arm check-gpu bench bench-quick
test: setup ## Run the tests, on all cores (11 minutes on two)
	$(BIN)/python -m pytest -n $$((2 * $$(nproc)))

test-quick: setup ## The pure and unit tests, for the inner loop (95 seconds on two cores)
	$(BIN)/python -m pytest -q -n $$((2 * $$(nproc))) -m 'not slow and not slower and not s3 and not ray'

test-zoos: setup ## The slow tests: 64 models x 6 epochs with every engine, a zoo of 1,000 models through every door (15 minutes)
	$(BIN)/python -m pytest -m slow

lint: setup ## Check format, style, types and the rules of who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p build/typecheck/zooforge
	@for room in storage zoo_jobs cluster; do ln -sfn ../../../$$room build/typecheck/zooforge/$$room; done
	@ln -sf ../../../zooforge.py build/typecheck/zooforge/__init__.py
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

chaos-alerts: setup ## Make four alerts happen to a real run and watch them fire in a real Prometheus (15 minutes)
	$(BIN)/python -m tests.chaos.alerts $$(mktemp -d)

fuzz: setup ## Damaged and sly bytes for every reader, findings kept in build/fuzz (30 minutes)
	$(BIN)/python -m tests.fuzz --minutes 30 $(ARGS)

chaos: setup ## Kill, freeze and double runs at random, and order requests at random; what is published stays the same (20 minutes)
	$(BIN)/python -m tests.chaos --minutes 20 $(ARGS)

month: setup ## Grow the whole catalogue as empty units in a simulated month of losses: all parts once, memory flat, cost exact (15 minutes)
	$(BIN)/python -m tests.chaos.month $(ARGS)

mutants: setup ## Plant ten faults, one at a time, in a copy of the code, and see that the tests catch each (1 minute)
	$(BIN)/python -m tests.mutants $(ARGS)

soak: setup ## Train for two hours and see that neither memory, files nor folders grow (2 hours)
	$(BIN)/python -m tests.chaos.soak --minutes 120 $(ARGS)

docs: setup ## Write the generated documents again and check that all of them say what is (3 minutes)
	$(BIN)/python -m zooforge.cluster.values_schema
	$(BIN)/python -m zooforge.zoo_jobs.spec.schema > docs/zoo-spec.schema.json
	$(BIN)/python -m zooforge.zoo_jobs.spec.names docs/zoo-spec.md
	$(BIN)/python -m tests.support.house
	$(BIN)/python -m zooforge.zoo_jobs.metrics.registry docs/metrics.md
	$(BIN)/python -m pytest -q tests/docs tests/storage/formats/test_format.py

docs-site: ## The documentation as a site in build/docs-site; its tools go into build/docs-venv (1 minute)
	@[ -x build/docs-venv/bin/mkdocs ] || $(PYTHON) -m venv build/docs-venv
	@build/docs-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/docs.lock
	NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict --quiet

check-native: setup ## The CPU engine under address, undefined-behaviour and thread sanitizers (15 minutes)
	sh tests/zoo_jobs/engines/lanes/native/check $(VENV)

check-arm: ## The CPU engine's kernels on ARM (qemu), bit for bit against this machine's (15 minutes)
	sh tests/zoo_jobs/engines/lanes/native/check-arm

check-gpu: ## Check and measure the engines on this machine's GPU with numpy and torch alone (7 minutes; SECONDS=200: the first steps)
	PYTHONPATH=. $(PYTHON) -u -m tests.gpu.check --seconds $(SECONDS)

bench: setup ## Every benchmark that this machine can run, as ratios against plain PyTorch (12 minutes)
	for script in lanes_training lanes_twins lanes_evaluation lanes_scaling driver_units scale storage_formats ledger; do PYTHONPATH=. $(BIN)/python benchmarks/$$script.py; done

bench-quick: setup ## The first three benchmarks, small (10 minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/lanes_training.py --quick
	PYTHONPATH=. $(BIN)/python benchmarks/lanes_twins.py
	PYTHONPATH=. $(BIN)/python benchmarks/lanes_evaluation.py

##### ship

.PHONY: release publish-sandbox
release: setup ## Build the readers' wheel and the source archive into dist/
	$(BIN)/python -m hatchling build

publish-sandbox: setup ## Leave ZOO of STORE as a draft of AUTHOR in Zenodo's sandbox; needs ZENODO_SANDBOX_TOKEN
	$(BIN)/zoo publish $(ZOO) $(if $(STORE),--store $(STORE)) --to zenodo-sandbox --author "$(AUTHOR)"

-include cluster/cluster.mk
