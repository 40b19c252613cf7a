# Everything a developer does here. `make` alone lists it.
NAME ?= sandbox
PYTHON3 := $(shell command -v python3 || echo missing)

# What Python compiles is kept, apart from the sources: without it, every call of a module compiles boto3 anew.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/python
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up setup down status clean check test soak bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

up: python3 ## Set up the machine, start the sandbox, build the applications, deploy them, draw a picture
	@python3 -m sandbox stack --name $(NAME)

setup: python3 ## Install packages, the virtual environment, Node.js and the test tools
	@python3 -m sandbox setup

down: ## Remove the sandbox; keys, certificates and secrets are kept
	@python3 -m sandbox down --name $(NAME)

status: ## Show what is running and answering
	@python3 -m sandbox status --name $(NAME)

clean: ## Remove all sandboxes, images, caches and keys
	@if [ -x .venv/bin/python ]; then python3 -m sandbox down --all; fi
	@rm -rf .venv .cache .sandbox .artifacts

check: setup ## Run lint, type checks and the quick unit tests
	@tests/run check

test: python3 ## Run all tests, on hosts of their own
	@python3 -m sandbox setup --images
	@tests/run test

soak: python3 ## Repeat kills and losses at every step; the figures of docs/reliability.md
	@python3 -m sandbox setup --images
	@tests/run soak

bench: setup ## Measure the figures of docs/performance.md
	@tests/run bench

.PHONY: python3
python3:
ifeq ($(PYTHON3),missing)
	@apt-get update && apt-get install --yes --no-install-recommends python3 || \
	  { echo "python3 is missing and cannot be installed: run make as root, on Debian 12." >&2; exit 1; }
endif
