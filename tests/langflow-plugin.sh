#!/usr/bin/env bash
# The executor for Langflow, integrations/langflow, in released lfx against a fleet.
#
#   tests/langflow-plugin.sh [--install]
#
# Installs lfx into ~/.cache/flowfleet/bench/lfx-1.13.0 where it is not, as the benchmarks do, then starts the mock model and
# `flowfleet up` on SQLite; with --install it stops before that. Needs `flowfleet` built, python3 with venv, and Langflow's wheels.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/flowfleet
readonly programs=${CARGO_TARGET_DIR:-$cache/target}/debug
readonly lfx=$cache/bench/lfx-1.13.0
work=$(mktemp -d)
readonly work
servers=()
clean_up() {
    ((${#servers[@]} == 0)) || kill "${servers[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean_up EXIT

if ! "$lfx/bin/python" -c 'import lfx, lfx_openai' 2>/dev/null; then
    python3 -m venv --clear "$lfx"
    "$lfx/bin/pip" install --quiet --disable-pip-version-check uv
    "$lfx/bin/uv" pip install --quiet --python "$lfx/bin/python" lfx==1.13.0 lfx-openai==0.2.0
fi
if [[ ${1:-} == --install ]]; then
    exit 0
fi
# Beside lfx, so that the environment stays what the benchmarks made it.
cp -R integrations/langflow "$work/plugin"
"$lfx/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/site" "$work/plugin"

# start NAME COMMAND...: a server that says in one line of JSON where it is.
start() {
    local name=$1 end=$((SECONDS + 60))
    shift
    FLOWFLEET_LOG=warn "$programs/flowfleet" "$@" --listen 127.0.0.1:0 --json >"$work/$name.json" 2>"$work/$name.log" &
    servers+=($!)
    until [[ -s $work/$name.json ]]; do
        kill -0 "${servers[-1]}" && ((SECONDS < end)) || { cat "$work/$name.log" >&2; exit 1; }
        sleep 0.1
    done
}
# said NAME FIELD
said() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$work/$1.json" "$2"
}

start model mock-model --tokens-per-s 100
# lfx rewrites the usual names of this machine, and its guard refuses the others.
OPENAI_BASE_URL=$(said model base_url | sed 's/127\.0\.0\.1/127.1/')
export OPENAI_BASE_URL OPENAI_API_KEY=mock LANGFLOW_SSRF_PROTECTION_ENABLED=false
OPENAI_BASE_URL=$(said model base_url) start up up --data "$work/data"
FLOWFLEET_URL=$(said up url)
export FLOWFLEET_URL LANGFLOW_EXECUTOR_KIND=flowfleet PYTHONPATH=$work/site

starter="${FLOWFLEET_TEST_WHEELS:-$cache/wheels}/langflow_base-1.13.0/langflow/initial_setup/starter_projects/Basic Prompting.json"
status=0
"$lfx/bin/python" tests/langflow-plugin/check.py "$starter" >"$work/check.log" 2>&1 || status=$?
if ((status)); then
    tail -40 "$work/check.log" >&2
    printf -- '--- what the server said\n' >&2
    tail -40 "$work/up.log" >&2
else
    tail -1 "$work/check.log"
fi
exit "$status"
