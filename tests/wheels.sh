#!/bin/sh
# Fetches the released Langflow wheels that tests take real components and flows from, and unpacks them.
# Idempotent: does nothing for a wheel that is there. Needs python3 with pip; no network once done.
#
#   tests/wheels.sh [FOLDER]    default: $FLOWFLEET_TEST_WHEELS or ~/.cache/flowfleet/wheels
set -eu

folder=${1:-${FLOWFLEET_TEST_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/flowfleet/wheels}}
mkdir -p "$folder"

# The starter flows of earlier releases are run as well: Langflow 1.8, 1.9, 1.10, 1.11 and 1.12.
for wheel in lfx==1.13.0 langflow-base==1.13.0 lfx-openai==0.2.1 langflow-base==0.8.4 langflow-base==0.9.6 \
    langflow-base==0.10.3 langflow-base==0.11.6 langflow-base==1.12.8; do
    name=$(printf '%s' "${wheel%%==*}" | tr - _)-${wheel##*==}
    [ -d "$folder/$name" ] && continue
    # Unpacked beside its place and renamed: a run that was cut off leaves nothing half done behind.
    work=$(mktemp -d "$folder/.$name.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$work/wheel" "$wheel"
    python3 -m zipfile -e "$work"/wheel/*.whl "$work/unpacked"
    # Python renames or fails; mv would put one folder into the other if somebody else was faster.
    python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$work/unpacked" "$folder/$name" 2>/dev/null ||
        [ -d "$folder/$name" ]
    rm -rf "$work"
done
