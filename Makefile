# SPDX-FileCopyrightText: The Belay authors
# SPDX-License-Identifier: Apache-2.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO    ?= go
TOOL  := $(GO) tool -modfile=tools/go.mod
COUNT ?= 6
TIMES ?= 5

.PHONY: help check fmt test soak bench microbench conformance demo demo-check deps

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

deps: ## install what build and tests need, or say what is missing
	scripts/deps

# Every step says what it is, and the first that finds something ends it.
check: ## format, vet, staticcheck, go fix, tidy; no tests
	@echo "== gofumpt"; if ! diff=$$($(TOOL) gofumpt -d .) || [ -n "$$diff" ]; then echo "$$diff"; echo "make fmt puts this right"; exit 1; fi
	@echo "== go vet"; $(GO) vet ./...
	@echo "== staticcheck"; $(TOOL) staticcheck ./...
	@echo "== go fix"; $(GO) fix -diff ./...
	@echo "== go mod tidy"; $(GO) mod tidy -diff
	@echo "check: ok"

fmt: ## format all Go files
	$(TOOL) gofumpt -w .

# Two packages at a time: each may start servers of its own.
test: export BELAY_REQUIRE_SERVERS = 1
test: ## all tests with the race detector, short schedules; then the demo checks itself on each store
	$(GO) test -short -race -shuffle=on -p 2 -timeout 8m ./...
	scripts/demo-check

soak: export BELAY_REQUIRE_SERVERS = 1
soak: ## the same with long schedules, TIMES times (default 5)
	$(GO) test -race -shuffle=on -p 2 -timeout 4h -count $(TIMES) ./...
	for i in $$(seq $(TIMES)); do scripts/demo-check; done

bench: ## the benches: programs that start their peers and print a table and name-value lines
	$(GO) run ./bench/session
	$(GO) run ./bench/memory
	$(GO) run ./bench/stores
	$(GO) run ./bench/redisfront
	$(GO) run ./bench/failover
	$(GO) run ./bench/gateway

conformance: ## the gateway against h2spec, over TLS and h2c; writes docs/conformance.md
	$(GO) run ./bench/h2spec

microbench: ## Go benchmarks, COUNT runs each (default 6); REF=file compares with an earlier output
	@out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) -p 1 -timeout 2h ./... | tee "$$out"; \
	$(TOOL) benchstat $(REF) "$$out"

demo: ## the demo cluster, until ctrl-C
	$(GO) run ./cmd/belay demo

demo-check: ## the demo cluster, unattended, on each store; fails if a session was harmed
	scripts/demo-check
