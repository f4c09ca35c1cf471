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
