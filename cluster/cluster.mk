##### Kubernetes

NAMESPACE ?= zoos
RELEASE ?= zooforge
KUBE_CONTEXT ?=
IMAGE ?= localhost/zooforge:dev
TORCH_INDEX ?= cpu
PLATFORM ?=
VALUES ?=
ARGS ?=
CLUSTER ?= cluster/adapters/kind
IMAGE_TOOL ?= cluster/adapters/docker
CONTEXT := $(if $(KUBE_CONTEXT),--context $(KUBE_CONTEXT))
# `status` and `port-forward` show one zoo only if ZOO was set by the caller, not if it is the default of the Makefile.
ONE = $(if $(filter file,$(origin ZOO)),,$(ZOO))
WHERE = $(CONTEXT) --namespace $(NAMESPACE) --release $(RELEASE)
export CLUSTER IMAGE_TOOL IMAGE

.PHONY: image image-load sbom operator preflight deploy submit status logs dashboard port-forward stop undeploy
.PHONY: kind-up kind-down e2e chaos-cluster
image: ## Build the image IMAGE (TORCH_INDEX=cpu, cu126, cu128 or cu130; PLATFORM=linux/arm64 for another machine)
	$(IMAGE_TOOL) build . $(IMAGE) $(if $(PLATFORM),--platform $(PLATFORM)) --build-arg TORCH_INDEX=$(TORCH_INDEX) --build-arg REVISION=$$(git rev-parse HEAD)

image-load: ## Copy IMAGE to the nodes of a cluster without a registry
	$(IMAGE_TOOL) load $(IMAGE)

sbom: setup ## Write the software bill of materials of the environment to dist/sbom.json (CycloneDX)
	mkdir -p dist
	$(BIN)/python -m zooforge.cluster.sbom > dist/sbom.json

operator: setup ## Install or upgrade the KubeRay operator
	$(BIN)/zoo cluster install-operator $(CONTEXT) $(ARGS)

preflight: setup ## Check whether the cluster can run zoos; every failed check names its remedy
	$(BIN)/zoo cluster preflight $(WHERE) $(ARGS)

deploy: setup ## Install or upgrade RELEASE in NAMESPACE (VALUES=file.yaml, STORE=s3://bucket/prefix)
	$(BIN)/zoo cluster deploy $(WHERE) --image $(IMAGE) $(if $(STORE),--store $(STORE)) $(if $(VALUES),--values $(VALUES)) $(ARGS)

submit: setup ## Run ZOO in the cluster (ARGS="--models 0:32 --yes")
	$(BIN)/zoo cluster submit $(ZOO) $(WHERE) $(ARGS)

status: setup ## Show runs, pods, and why a pod does not start
	$(BIN)/zoo cluster status $(ONE) $(WHERE) $(ARGS)

logs: setup ## Follow the driver of ZOO
	$(BIN)/zoo cluster logs $(ZOO) --follow $(WHERE) $(ARGS)

port-forward dashboard: setup ## Forward Ray's dashboard and the driver's metrics to this machine
	$(BIN)/zoo cluster port-forward $(ONE) $(WHERE) $(ARGS)

stop: setup ## Stop the run of ZOO until it is submitted again
	$(BIN)/zoo cluster stop $(ZOO) $(WHERE) $(ARGS)

undeploy: setup ## Remove RELEASE; zoos stay in their store
	$(BIN)/zoo cluster undeploy $(WHERE) $(ARGS)

kind-up: ## Create a cluster on this machine, with docker and kind
	cluster/adapters/kind up

kind-down: ## Remove the cluster of kind-up
	cluster/adapters/kind down

e2e: setup ## Test install, runs, faults and removal on a real Kubernetes (CLUSTER= and IMAGE_TOOL= are its commands)
	$(BIN)/python -m tests.e2e

chaos-cluster: setup ## Test slow faults: namespace deleted during a run, head without a node for six minutes (30 minutes)
	$(BIN)/python -m tests.e2e chaos
