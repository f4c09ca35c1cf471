# Shortcuts; everything here also works typed in full.

# List the recipes.
default:
    @just --list --unsorted

# Exactly what CI runs.
verify:
    ./.ci/run

# Tests without lints; arguments go to nextest: just test -p flowfleet-store claim
test *ARGS:
    ./tests/run --fast -- {{ARGS}}

# Install and start what the tests need.
services:
    ./tests/run --services

# An hour of faults under load, from a seed that is printed: just faults --seed 7 --minutes 10 (see --help)
faults *ARGS:
    cargo build --workspace --bins
    cargo run --quiet -p flowfleet-tests --bin flowfleet-faults -- {{ARGS}}

# One fuzz target under libFuzzer: just fuzz flow 600, or an input that broke it: just fuzz flow FILE
fuzz TARGET='' *ARGS:
    ./fuzz/run {{TARGET}} {{ARGS}}

# The API against its OpenAPI document, for longer than ./tests/run: seconds for each of two servers.
schemathesis SECONDS='300':
    #!/usr/bin/env bash
    set -euo pipefail
    eval "$(./tests/run --services | grep '^export ')"
    cargo build --workspace --bins
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} PATH="${XDG_CACHE_HOME:-$HOME/.cache}/flowfleet/tools/bin:$PATH" \
        ./tests/schemathesis.sh {{SECONDS}}

# Langflow's released clients, unmodified, against an embedded fleet.
langflow-clients:
    cargo build -p flowfleet
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} ./tests/langflow-clients.sh

# Histories of the protocol under faults, on a virtual clock: just simulate-protocol --minutes 5 (see --help)
simulate-protocol *ARGS:
    cargo run --release --quiet -p flowfleet-simulation -- {{ARGS}}

# Format and lint what is there.
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets -- -D warnings
    python3 tests/tidy.py

# The embedded fleet with a mock model and example flows.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Everything on real services, in containers.
compose:
    docker compose up --build
