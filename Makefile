SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory --warn-undefined-variables

# What goes into --version and *_build_info. A checkout without git, or an archive, is called "unknown".
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse --verify --quiet HEAD 2>/dev/null || echo unknown)
BRANCH   ?= $(shell git symbolic-ref --short --quiet HEAD 2>/dev/null || echo unknown)
# The date of the commit, not of the build: the same commit gives the same bytes.
DATE     ?= $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d-%H:%M:%S 2>/dev/null || echo unknown)

STAMP   := github.com/prometheus/common/version
LDFLAGS := -s -w -X $(STAMP).Version=$(VERSION) -X $(STAMP).Revision=$(REVISION) -X $(STAMP).Branch=$(BRANCH) \
	-X $(STAMP).BuildDate=$(DATE) -X $(STAMP).BuildUser=make
# Static, without paths of the machine that built it, and also where git distrusts the owner of the checkout.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

PROGRAMS  := relay-server relay-agent
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64

# Those beside the product's, so that what they link stays out of it.
MODULES := scripts/sbom scripts/release scripts/deploytest

# Tools with hundreds of dependencies of their own live in a module of their own.
BUF  := go tool -modfile=internal/tools/go.mod buf
LINT := go tool -modfile=internal/tools/go.mod golangci-lint
ACTIONLINT := go tool -modfile=internal/tools/actionlint/go.mod actionlint

# Options that a caller may set: make test TESTFLAGS='-run TestPush', make fuzz FUZZTIME=1m, make bench BENCH=Push COUNT=6,
# make bench BENCHFLAGS='--only=tunnel', make mutants MUTANTS=C8.
TESTFLAGS ?=
PROCESSORS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Most tests of whole programs wait: twice as many as there are processors at once, and one package more than there are.
PARALLEL  ?= $(shell echo $$(($(PROCESSORS) * 2)))
TOGETHER  ?= $(shell echo $$(($(PROCESSORS) + 1)))
# The first to begin of all packages, since they take longest.
LONGEST   := ./internal/e2e/cluster ./internal/tunnel ./internal/hostile ./internal/keep/replicated
# The tests of a hundred packages are linked each time: without what debuggers read, in two thirds of the time.
TESTLINK  := -ldflags='-s -w'
PACKAGES  ?= ./...
FUZZTIME  ?= 10s
BENCH     ?=
BENCHFLAGS ?=
COUNT     ?= 1
MUTANTS   ?=

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## Show the whole thing on this machine, in four acts: a push, a scrape through the tunnel, a job that dies, an outage
	@go build -o bin/demo ./scripts/demo
	# A group of its own at the terminal: Ctrl-C is for the demo, which ends well, and neither for make nor for go run, which do not.
	set -m
	bin/demo --bin.dir=bin || exit # not the last command, which bash would become itself

.PHONY: demo-cluster
demo-cluster: build ## Show three relays that are one service, two agents and a Prometheus, and kill the relay that decides
	@go build -o bin/demo ./scripts/demo
	set -m
	bin/demo --cluster --bin.dir=bin || exit # as above

.PHONY: build
build: ## Build bin/relay-server and bin/relay-agent
	@for program in $(PROGRAMS); do
		echo "building bin/$$program"
		$(BUILD) -o bin/$$program ./cmd/$$program
	done

.PHONY: man
man: build ## Write man page and completion scripts of each program beside it: bin/*.1, *.bash, *.zsh
	@for program in $(PROGRAMS); do
		bin/$$program --help-man >bin/$$program.1
		bin/$$program --completion-script-bash >bin/$$program.bash
		bin/$$program --completion-script-zsh >bin/$$program.zsh
	done

.PHONY: reference
reference: build ## Write the pages of commands and flags in docs/reference/; after a change of flags or their help
	@for program in $(PROGRAMS); do
		bin/$$program --help-markdown >docs/reference/$$program.md
	done

.PHONY: docs
docs: ## Make a site of the documents in bin/site/ (needs Debian's mkdocs)
	scripts/docs.sh bin/site

.PHONY: build-all
build-all: ## Build both for every platform that is released, into bin/<os>-<arch>/
	@for platform in $(PLATFORMS); do
		os=$${platform%/*} arch=$${platform#*/}
		suffix=; [[ $$os != windows ]] || suffix=.exe
		for program in $(PROGRAMS); do
			echo "building bin/$$os-$$arch/$$program$$suffix"
			GOOS=$$os GOARCH=$$arch $(BUILD) -o bin/$$os-$$arch/$$program$$suffix ./cmd/$$program
		done
		cp LICENSE THIRD_PARTY_NOTICES bin/$$os-$$arch/
	done

# Of the same commit: what has a time in it has that of the commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: release
release: man build-all bin/sbom ## Make archives, packages, images, bills and checksums of VERSION=v1.2.3: bin/release/
	@go build -C scripts/release -o $(CURDIR)/bin/make-release .
	for platform in $(PLATFORMS); do
		suffix=; [[ $$platform != windows/* ]] || suffix=.exe
		for program in $(PROGRAMS); do bin/sbom bom --version='$(VERSION)' bin/$${platform/\//-}/$$program$$suffix; done
	done
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) bin/make-release --version='$(VERSION)' --revision='$(REVISION)' --platforms='$(PLATFORMS)'
	ls -l bin/release

.PHONY: packages-test
packages-test: ## Install two releases, as their users do: on a Debian that boots, in containers, and as rpm does (needs root)
	scripts/packages.sh

.PHONY: reproducible
reproducible: ## Make a release twice, in two folders, the second time without network, and fail unless all of it is the same bytes
	scripts/reproducible.sh

.PHONY: sbom
sbom: build bin/sbom ## Write a bill of materials (CycloneDX) of each program beside it, and check licences: bin/*.cdx.json
	bin/sbom bom --version='$(VERSION)' $(PROGRAMS:%=bin/%)

.PHONY: notices
notices: bin/sbom ## Write THIRD_PARTY_NOTICES, the licences of all that is linked; after a change of go.mod
	bin/sbom notices $(PROGRAMS:%=./cmd/%) >bin/notices
	mv bin/notices THIRD_PARTY_NOTICES

.PHONY: notices-check
notices-check: bin/sbom ## Fail when THIRD_PARTY_NOTICES is not what is linked
	@bin/sbom notices $(PROGRAMS:%=./cmd/%) | diff -u THIRD_PARTY_NOTICES - && exit
	echo "THIRD_PARTY_NOTICES differs from what is linked: run 'make notices' and commit the result" >&2
	exit 1

# In a module of its own, so that what it needs stays out of the programs' go.mod.
.PHONY: bin/sbom
bin/sbom:
	@go build -C scripts/sbom -o $(CURDIR)/bin/sbom .

.PHONY: deps
deps: ## Install the Debian packages that the tests use (needs root)
	scripts/install-test-deps.sh

.PHONY: test
test: deps ## Run every test, with the race detector; installs what they need first
	tests() {
		local rc=0
		go test -json -race $(TESTLINK) -shuffle=on -timeout=15m -p=$(TOGETHER) -parallel=$(PARALLEL) $(TESTFLAGS) $(if $(filter ./...,$(PACKAGES)),$(LONGEST)) $(PACKAGES) || rc=1
		[[ '$(PACKAGES)' != ./... ]] || for module in $(MODULES); do go test -C $$module -json -shuffle=on $(TESTFLAGS) ./... || rc=1; done
		return $$rc
	}
	tests | go run ./scripts/testreport

.PHONY: shorttest
shorttest: ## Run the tests that need no other program, in seconds
	go test -short $(TESTLINK) -p=$(TOGETHER) $(TESTFLAGS) $(PACKAGES)

.PHONY: bench
bench: build ## Measure beside a Pushgateway and a direct scrape (minutes); with BENCH=Push the Go benchmarks of that name
	@if [[ -n '$(BENCH)' ]]; then
		go test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) $(PACKAGES) | tee bench.txt
		echo "compare two runs with: go tool benchstat old.txt new.txt"
	else
		go run ./scripts/bench --bin.dir=bin --json=bin/bench.json --markdown=bin/bench.md $(BENCHFLAGS)
	fi

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

.PHONY: mutants
mutants: ## Put faults into how several relays are one service, one after the other, and see that tests notice each (half an hour); MUTANTS=C8,fence chooses
	@go run ./scripts/mutants $(if $(MUTANTS),--only='$(MUTANTS)')

.PHONY: earlier
earlier: ## Run the programs with those of the release before, in both directions, and upgrade three of its relays
	scripts/earlier.sh

.PHONY: generate
generate: ## Generate internal/gen from proto/
	$(BUF) generate

.PHONY: fmt
fmt: ## Format Go and proto files
	$(LINT) fmt
	$(BUF) format -w

.PHONY: lint
lint: ## Lint Go and proto files, and the workflows
	$(LINT) run
	for module in $(MODULES); do (cd $$module && go tool -modfile=../../internal/tools/go.mod golangci-lint run); done
	$(BUF) lint
	$(BUF) format -d --exit-code
	$(ACTIONLINT)

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what is linked
	scripts/vulncheck.sh

.PHONY: deadcode
deadcode: ## Look for functions that nothing reaches
	scripts/deadcode.sh

.PHONY: tidy-check
tidy-check: ## Fail when go.mod or go.sum is not tidy
	go mod tidy -diff
	for module in $(MODULES); do go -C $$module mod tidy -diff; done

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin bench.txt
