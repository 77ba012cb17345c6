# Everything a contributor or CI does is a target here. `make demo` and
# `make test` set up what they need on Debian 12, as root.
SHELL := /bin/bash
GO    ?= go
BUILD := build

# Knobs of the demo.
SUITE ?= cbc
ENCAP ?= raw
ICV   ?= 96
PLANE ?= user

# Knobs of the soak: how many rekeys, and of 100 frames how many the wire drops.
REKEYS ?= 10000
LOSS   ?= 0

# Of the comparison in the bench: offloads that our planes do without.
WITHOUT ?=

# For each fuzz target: runs (Nx) or time (Ns, which the go command may end with an
# error of its own when the machine is busy).
FUZZTIME ?= 5000x

SOURCES := $(shell find cmd esp ike policy xfrm -name '*.go' -not -name '*_test.go' 2>/dev/null) go.mod go.sum
PURE    := $(shell $(GO) list ./... 2>/dev/null | grep -v -E '^yumen/test/(failover|interop|netns|site|soak|vm)|^yumen/esp/tunnel')

.PHONY: help setup-demo setup-test build demo test check unit cpus netns interop vm vm-avx fuzz soak failover golden bench dkms dkms-check clean

help:
	@sed -n 's/^## //p' Makefile

setup-demo:
	@test/setup.sh demo
setup-test:
	@test/setup.sh test

## make build    the binary, in build/yumen
build: $(BUILD)/yumen
$(BUILD)/yumen: $(SOURCES)
	@mkdir -p $(BUILD)
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./cmd/yumen

## make demo     two sites in namespaces; SUITE=cbc|gcm ENCAP=raw|udp ICV=96|128|256 PLANE=user|kernel
demo: setup-demo build
	@CGO_ENABLED=0 $(GO) build -o $(BUILD)/demo.bin ./test/demo
	@SUITE=$(SUITE) ENCAP=$(ENCAP) ICV=$(ICV) PLANE=$(PLANE) test/demo.sh

## make test     everything below but golden and bench
test: setup-test check unit cpus netns interop vm fuzz
	@echo "make test: all passed"

## make check    formatting, vet, tidy modules
check:
	@out=$$(gofmt -l cmd esp ike policy test xfrm); test -z "$$out" || { echo "gofmt -w these: $$out"; exit 1; }
	$(GO) vet ./...
	@out=$$($(GO) mod tidy -diff 2>/dev/null); test -z "$$out" || { echo "go.mod is not tidy: run 'go mod tidy'"; exit 1; }

## make unit     vectors, properties, transcripts, storms: no root needed
unit:
	$(GO) test -timeout 15m $(PURE)

## make cpus     esp's tests on other processors, under qemu-user: arm64, x86 with AES-NI, x86 without
cpus:
	@GO=$(GO) test/cpus.sh $(BUILD)

## make netns    real daemons and data planes in network namespaces (root)
netns: build
	@GO=$(GO) test/again.sh -timeout 15m -p 2 -count 1 ./esp/tunnel/... ./test/netns/... ./test/site/...
	@GO=$(GO) test/again.sh -timeout 15m -count 1 ./test/soak/...
	@GO=$(GO) test/again.sh -timeout 10m -count 1 ./test/failover

## make interop  against strongSwan, ike-scan and scapy, in network namespaces (root)
interop: build
	@GO=$(GO) test/again.sh -timeout 10m -count 1 ./test/interop/...

## make vm       the kernel data plane on a real kernel in a virtual machine (root), AVX too
vm: build
	@mkdir -p $(BUILD)
	@CGO_ENABLED=0 $(GO) test -c -o $(BUILD)/vm.test ./test/vm
	@test/vm/vm.sh $(BUILD)/vm.test -test.skip AVX
	@AVX=1 test/vm/vm.sh $(BUILD)/vm.test -test.run AVX

## make vm-avx   the same ESP by the kernel's AVX drivers, once for correctness
vm-avx: build
	@mkdir -p $(BUILD)
	@CGO_ENABLED=0 $(GO) test -c -o $(BUILD)/vm.test ./test/vm
	@AVX=1 test/vm/vm.sh $(BUILD)/vm.test -test.run 'Suite|AVX'

## make fuzz     every fuzz target for FUZZTIME (5000x)
fuzz:
	@GO="$(GO)" FUZZTIME=$(FUZZTIME) test/fuzz.sh

## make soak     two daemons renew keys under numbered traffic; REKEYS=10000 LOSS=0|2
soak: setup-demo build
	@$(GO) build -o $(BUILD)/soak.bin ./test/soak
	@$(BUILD)/soak.bin -rekeys $(REKEYS) -loss $(LOSS)

## make failover   two sites lose paths in every way, under numbered traffic; ONLY=name of a case (root)
failover: setup-demo build
	@$(GO) build -o $(BUILD)/failover.bin ./test/failover
	@$(BUILD)/failover.bin -only "$(ONLY)"

## make dkms     build/yumen-sm-dkms_*.deb: SM3 and SM4 for Debian's kernels; OFFLINE=1 KERNEL=6.1|6.12
dkms:
	@OFFLINE=$(OFFLINE) KERNEL=$(KERNEL) configs/dkms/package.sh $(BUILD)

## make dkms-check   that package looked at; compiled where dkms, headers and source are installed
dkms-check:
	@configs/dkms/check.sh

## make golden   write golden files and transcripts anew; review the diff
golden:
	$(GO) test ./test/lab -run Transcripts -update
	$(GO) test $$(grep -rl '"yumen/test/golden"' --include=*_test.go cmd | xargs -n1 dirname | sort -u | sed 's|^|./|') -update

## make bench    benchmarks of the data plane and of negotiation, and tunnels against others; WITHOUT="udp-segment ..."
bench:
	$(GO) test -run '^$$' -bench . -skip 'Ratios|Handshake' -benchmem ./esp/... ./policy/... ./test/lab/...
	@mkdir -p $(BUILD)
	set -o pipefail; $(GO) test -run '^$$' -bench Ratios -benchtime 1x ./esp ./esp/internal/lanes | tee $(BUILD)/ratios.txt
	set -o pipefail; $(GO) test -run '^$$' -bench Handshake -benchtime 100x -count 1 ./test/lab | tee -a $(BUILD)/ratios.txt
	$(GO) test -run '^$$' -bench Flood -benchtime 1x -count 1 ./test/soak
	FULL=1 $(GO) test -run NoLockIsMet -count 1 -v ./esp/tunnel ./test/netns
	@test/bench/setup.sh
	@$(GO) build -o $(BUILD)/bench.bin ./test/bench
	@$(BUILD)/bench.bin -wireguard $(BUILD)/wireguard -ratios $(BUILD)/ratios.txt -without "$(WITHOUT)"

clean:
	rm -rf $(BUILD)
