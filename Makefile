# One container, the same on this machine and on Azure ML. `make help` lists the verbs.
#   ENV=pytorch-aml      another environment: environments/pytorch-aml.yml
#   PROJECT=FOLDER       another project: examples/scikit-learn
#   ARGS="--epochs 1"    put behind the command (run-local, run-remote, rehearse, parity) or given to the verb
#   NODES=2 PROCESSES=2  that many machines, and processes on each (run-local, run-remote, rehearse, parity)
#   RESUME=last          run-local begins with what that run left in outputs/, such as its checkpoints
#   DETACH=1             run-remote and rehearse only submit
#   V=1                  show the equal commands

MAKEFLAGS += --no-print-directory
IN_PROJECT = $(if $(PROJECT),cd '$(PROJECT)' && )
# of another project, which may have a folder tools/ itself, the installed name
PARITY = $(if $(PROJECT),$(IN_PROJECT)'$(CURDIR)'/.venv/bin/parity,.venv/bin/python -m tools) $(if $(V),-v)
WITH_ENV = $(if $(ENV),--env $(ENV))
SIZED = $(if $(NODES),--nodes $(NODES)) $(if $(PROCESSES),--processes $(PROCESSES))
DETACHED = $(if $(DETACH),--detach)

ifneq ($(PROJECT),)
# The tools would look for a parity.toml above the folder too, and find this one
ifeq ($(shell test -f '$(PROJECT)/parity.toml' && echo found),)
$(error PROJECT=$(PROJECT): no parity.toml in it; expected: the folder of a project; next: touch $(PROJECT)/parity.toml)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-azure engine lock image push data snapshot run-local rehearse run-remote data-push clean-remote \
        register compare report parity doctor lint test clean clean-cache

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r verb text; \
	do printf '  make %-13s %s\n' "$$verb" "$$text"; done

setup: .venv/run.done ## the toolkit's own .venv, pinned and hashed

setup-azure: .venv/azure.done ## and azureml-core, for the verbs that need it; each of them does this itself

engine: setup ## find a container engine, or install and start Docker
	@$(PARITY) engine

lock: setup ## environments/NAME.yml -> its lock: every package by address and sha256
	@$(PARITY) lock $(WITH_ENV) $(ARGS)

image: setup ## lock -> one image; prints its reference
	@$(PARITY) image $(WITH_ENV) $(ARGS)

push: setup ## the image -> [image] registry of parity.toml; prints registry/name@sha256:...
	@$(PARITY) push $(WITH_ENV) $(ARGS)

data: setup ## the data set, into data/
	@$(PARITY) data $(ARGS)

snapshot: setup ## what would be uploaded, against the limits, and what does not belong in it
	@$(PARITY) snapshot $(ARGS)

run-local: setup ## image + snapshot + command, on this machine; the record lands in runs/
	@$(PARITY) run-local $(WITH_ENV) $(SIZED) $(if $(RESUME),--resume $(RESUME)) -- $(ARGS)

rehearse: .venv/azure.done ## run-remote, against an Azure ML workspace on this machine: no account
	@$(PARITY) rehearse $(WITH_ENV) $(SIZED) $(DETACHED) -- $(ARGS)

run-remote: .venv/azure.done ## image + snapshot + command, on Azure ML; the record lands in runs/
	@$(PARITY) run-remote $(WITH_ENV) $(SIZED) $(DETACHED) -- $(ARGS)

data-push: .venv/azure.done ## data/ -> the workspace, once
	@$(PARITY) data-push $(ARGS)

clean-remote: .venv/azure.done ## what this project made in the workspace: listed, and ended after a yes
	@$(PARITY) clean-remote $(ARGS)

register: .venv/azure.done ## the image, by digest, as a version of an Azure ML Environment; prints name:version
	@$(PARITY) register $(WITH_ENV) $(ARGS)

compare: setup ## what two runs had in common, and the verdict: A=run B=run; default: the last local and remote one
	@$(PARITY) compare $(or $(A),last-local) $(or $(B),last-remote) $(ARGS)

report: setup ## runs on one page, with their curves: RUNS="id id"; default: the last local and remote one
	@$(PARITY) report $(RUNS) $(ARGS)

parity: .venv/azure.done ## run-local, rehearse, compare and report: is it the same there as here?
	@$(PARITY) parity $(WITH_ENV) $(SIZED) -- $(ARGS)

doctor: setup ## what is missing on this machine, and what to type
	@$(PARITY) doctor $(ARGS)

lint: .venv/dev.done ## ruff and mypy
	@.venv/bin/ruff check --quiet . && .venv/bin/ruff format --quiet --check . && .venv/bin/mypy

test: .venv/dev.done ## all tests; a real engine runs some of them
	@.venv/bin/python -m pytest $(ARGS)

clean: ## remove what was made here, but not your runs and data
	@$(IN_PROJECT)rm -rf .parity $(if $(PROJECT),,.venv .pytest_cache .mypy_cache .ruff_cache .hypothesis)

clean-cache: ## remove cached packages and layers
	@$(IN_PROJECT)rm -rf .parity/cache

.venv/run.done: requirements/run.txt requirements/install.sh
	@requirements/install.sh run

.venv/azure.done: requirements/azure.txt .venv/run.done
	@requirements/install.sh azure

.venv/dev.done: requirements/dev.txt .venv/run.done
	@requirements/install.sh dev
