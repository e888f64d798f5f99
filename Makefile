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
demo: setup ## Train a small zoo of real digits and its sparse twins, and write its report, on an embedded S3 server
	VENV=$(VENV) sh requirements/demo

store: setup ## Start the embedded S3 server (SeaweedFS) on loopback, data under .zooforge/
	$(EMBEDDED) up

store-down: ## Stop the embedded S3 server; its data stay
	@if [ -x $(BIN)/python ]; then set -x; $(EMBEDDED) down; fi

report: setup ## Write the report of ZOO from STORE (default: the embedded server) into report/ZOO
	$(EMBEDDED) run -- $(BIN)/zoo report $(ZOO) $(if $(STORE),--store $(STORE)) --out report/$(ZOO)

##### check

.PHONY: test test-quick test-zoos lint fuzz chaos month soak docs docs-site notebooks chaos-alerts check-native check-arm check-gpu bench bench-quick
test: setup ## Run all tests except the slow ones, on all cores (11 minutes on two)
	$(BIN)/python -m pytest -n $$((2 * $$(nproc)))

test-quick: setup ## Run the pure and unit tests (90 seconds on two cores)
	$(BIN)/python -m pytest -q -n $$(nproc) -m 'not slow and not slower and not s3 and not ray'

test-zoos: setup ## Run the slow tests: 64 models x 6 epochs with every engine, 1,000 models from training to reading, and two zoos of ResNets (2 hours)
	$(BIN)/python -m pytest -m slow

lint: setup ## Check format, style, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p build/typecheck/zooforge
	@for room in storage zoo_jobs cluster; do ln -sfn ../../../$$room build/typecheck/zooforge/$$room; done
	@ln -sf ../../../zooforge.py build/typecheck/zooforge/__init__.py
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

chaos-alerts: setup ## Cause four alerts in a real run and check that a real Prometheus fires them (15 minutes)
	$(BIN)/python -m tests.chaos.alerts $$(mktemp -d)

fuzz: setup ## Give damaged and hostile bytes to every reader; build/fuzz keeps the findings (30 minutes)
	$(BIN)/python -m tests.fuzz --minutes 30 $(ARGS)

chaos: setup ## Kill, freeze and duplicate runs at random, and simulate the store protocol; the published bytes must not change (20 minutes)
	$(BIN)/python -m tests.chaos --minutes 20 $(ARGS)

month: setup ## Run the catalogue without training through a simulated month of losses: each part once, constant memory, exact cost (5 minutes)
	$(BIN)/python -m tests.chaos.month $(ARGS)

mutants: setup ## Put ten faults into a copy of the code, one at a time, and check that the tests notice each (2 minutes)
	$(BIN)/python -m tests.mutants $(ARGS)

soak: setup ## Train for two hours and check that memory, open files and folders do not grow (2 hours)
	$(BIN)/python -m tests.chaos.soak --minutes 120 $(ARGS)

docs: setup ## Write the generated documents again and check all documents (3 minutes)
	$(BIN)/python -m zooforge.cluster.values_schema
	$(BIN)/python -m zooforge.zoo_jobs.spec.schema > docs/zoo-spec.schema.json
	$(BIN)/python -m zooforge.zoo_jobs.spec.names docs/zoo-spec.md
	$(BIN)/python -m tests.support.house
	$(BIN)/python -m zooforge.zoo_jobs.metrics.registry docs/metrics.md
	$(BIN)/python -m zooforge.storage.commands.exports
	$(BIN)/python -m tests.support.reference_pages
	$(BIN)/python -m pytest -q tests/docs tests/storage/formats/test_format.py

build/notebooks/%.ipynb: notebooks/%.ipynb
	$(BIN)/python -m tests.support.notebooks build/notebooks $*

notebooks: setup ## Execute the notebooks that changed, into build/notebooks (up to two minutes for each)
	$(MAKE) --no-print-directory $(patsubst %,build/%,$(sort $(wildcard notebooks/*.ipynb)))

docs-site: notebooks ## Build the documentation as a site in build/docs-site, with tools in build/docs-venv (1 minute, and the notebooks)
	@[ -x build/docs-venv/bin/mkdocs ] || $(PYTHON) -m venv build/docs-venv
	@build/docs-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/docs.lock
	NO_MKDOCS_2_WARNING=1 build/docs-venv/bin/mkdocs build --strict --quiet

check-native: setup ## Test the CPU engine with address, undefined-behaviour and thread sanitizers (15 minutes)
	sh tests/zoo_jobs/engines/lanes/native/check $(VENV)

check-arm: ## Compare the CPU engine's kernels on ARM (qemu) with those of this machine bit for bit (15 minutes)
	sh tests/zoo_jobs/engines/lanes/native/check-arm

check-gpu: ## Check and measure the engines on this machine's GPU; needs only numpy and torch (7 minutes; SECONDS=200: only the first steps)
	PYTHONPATH=. $(PYTHON) -u -m tests.gpu.check --seconds $(SECONDS)

bench: setup ## Run every benchmark that this machine can run; most figures are ratios to plain PyTorch (12 minutes)
	for script in lanes_training lanes_twins lanes_inr lanes_small_cnn lanes_lists lanes_packing lanes_evaluation lanes_scaling driver_units scale storage_formats ledger; do PYTHONPATH=. $(BIN)/python benchmarks/$$script.py; done

bench-quick: setup ## Run the first three benchmarks in a small form (10 minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/lanes_training.py --quick
	PYTHONPATH=. $(BIN)/python benchmarks/lanes_twins.py
	PYTHONPATH=. $(BIN)/python benchmarks/lanes_evaluation.py

##### ship

.PHONY: release check-packages audit publish-sandbox
release: setup ## Build wheels, source archives, image, chart, bill of materials, checksums and signature into dist/ (10 minutes)
	VENV=$(VENV) IMAGE_TOOL=$(IMAGE_TOOL) IMAGE=$(IMAGE) sh requirements/release

check-packages: setup ## Build the packages, install them in empty environments, read a zoo over HTTP and grow one there (15 minutes)
	sh requirements/packages $(VENV) build/packages
	$(BIN)/python -m tests.release.check_packages build/packages

audit: ## Look for known weaknesses of the locked packages; asks PyPI about each (2 minutes)
	@[ -x build/release-audit/bin/python ] || $(PYTHON) -m venv build/release-audit
	@build/release-audit/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/release.lock
	found=0; for lock in base torch torch-cuda docs release; do echo "$$lock.lock"; build/release-audit/bin/pip-audit --strict --progress-spinner off --disable-pip --no-deps -r requirements/$$lock.lock || found=1; done; exit $$found

publish-sandbox: setup ## Upload ZOO of STORE as a draft by AUTHOR to Zenodo's sandbox; needs ZENODO_SANDBOX_TOKEN
	$(BIN)/zoo publish $(ZOO) $(if $(STORE),--store $(STORE)) --to zenodo-sandbox --author "$(AUTHOR)"

-include cluster/cluster.mk
