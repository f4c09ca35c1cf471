#!/usr/bin/env bash
# Langflow's own clients, unmodified, against a fleet: langflow-sdk from PyPI and @datastax/langflow-client from npm. Then
# /api/v2/workflows beside what Langflow's own server says there.
#
#   tests/langflow-clients.sh [--install]
#
# Installs both into ~/.cache/flowfleet/langflow-clients where they are not, then starts the mock model and
# `flowfleet up` on SQLite with an API key; with --install it stops before that. Needs `flowfleet` built, python3 with venv, node and npm.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/flowfleet
readonly programs=${CARGO_TARGET_DIR:-$cache/target}/debug
readonly sdk=langflow-sdk==0.4.0 client=@datastax/langflow-client@0.4.1
# Named by their versions: another version is another folder.
readonly python=$cache/langflow-clients/${sdk//==/-} node=$cache/langflow-clients/${client##*/}
work=$(mktemp -d)
readonly work
servers=()
clean_up() {
    ((${#servers[@]} == 0)) || kill "${servers[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap clean_up EXIT

if [[ ! -e $python/installed ]]; then
    python3 -m venv --clear "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check "$sdk"
    touch "$python/installed"
fi
if [[ ! -e $node/installed ]]; then
    mkdir -p "$node"
    npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$node" "$client"
    touch "$node/installed"
fi
if [[ ${1:-} == --install ]]; then
    exit 0
fi

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
OPENAI_BASE_URL=$(said model base_url) OPENAI_API_KEY=mock start up up --data "$work/data"
LANGFLOW_URL=$(said up url)
LANGFLOW_API_KEY=$(python3 -c 'import json, sys, urllib.request as u
body = json.dumps({"name": "clients", "role": "admin"}).encode()
request = u.Request(sys.argv[1] + "/v1/keys", body, {"content-type": "application/json"})
print(json.load(u.urlopen(request, timeout=10))["key"])' "$LANGFLOW_URL")
export LANGFLOW_URL LANGFLOW_API_KEY
LANGFLOW_CLIENT=$node/node_modules/@datastax/langflow-client/dist/index.js
export LANGFLOW_CLIENT

starter="${FLOWFLEET_TEST_WHEELS:-$cache/wheels}/langflow_base-1.13.0/langflow/initial_setup/starter_projects/Basic Prompting.json"

status=0
{
    "$python/bin/python" tests/langflow-clients/sdk.py &&
        node tests/langflow-clients/client.mjs &&
        python3 tests/langflow-clients/workflows.py "$starter"
} || status=$?
if ((status)); then
    printf -- '--- what the server said\n' >&2
    tail -40 "$work/up.log" >&2
fi
exit "$status"
