#!/usr/bin/env bash
# Checks the running API against its own OpenAPI document: no 5xx, no answer that the document does not describe.
#
#   tests/schemathesis.sh [SECONDS]     for each of two servers; default 35
#
# `flowfleet up` on SQLite without keys, its worker running what is submitted; and the dispatcher on PostgreSQL with
# keys. Needs both programs built, schemathesis in PATH, and FLOWFLEET_TEST_POSTGRES. FLOWFLEET_SCHEMATHESIS_SEED
# starts another sequence of requests than the usual one.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly seconds=${1:-35} seed=${FLOWFLEET_SCHEMATHESIS_SEED:-1}
readonly programs=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/flowfleet/target}/debug
work=$(mktemp -d)
readonly work database=schemathesis_$$
servers=()
clean_up() {
    ((${#servers[@]} == 0)) || kill "${servers[@]}" 2>/dev/null || true
    wait
    psql -q "$FLOWFLEET_TEST_POSTGRES" -c "DROP DATABASE IF EXISTS $database" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

# ask METHOD URL [KEY]: sends standard input; fails unless the answer is a good one.
ask() {
    python3 -c 'import sys, urllib.request as u
method, url, *key = sys.argv[1:]
headers = {"Authorization": f"Bearer {key[0]}"} if key else {}
u.urlopen(u.Request(url, sys.stdin.buffer.read() or None, headers, method=method), timeout=10)' "$@"
}

# answers URL LOG: waits until a server is ready.
answers() {
    local end=$((SECONDS + 30))
    until ask GET "$1/health/ready" </dev/null 2>/dev/null; do
        ((SECONDS < end)) || { cat "$2" >&2; printf 'tests/schemathesis.sh: %s is not ready\n' "$1" >&2; exit 1; }
        sleep 0.1
    done
}

# check NAME URL ARGS...: one server for the given time.
check() {
    local name=$1 url=$2 status=0
    shift 2
    printf '    %s: %s s from seed %s\n' "$name" "$seconds" "$seed"
    (cd "$work" && schemathesis --config-file "$OLDPWD/tests/schemathesis.toml" run "$url/openapi.json" --seed "$seed" \
        --max-time "$seconds" --request-timeout 10 --continue-on-failure --no-color "$@") >"$work/$name.log" 2>&1 || status=$?
    if ((status)); then
        cat "$work/$name.log"
        printf -- '--- what the server said\n'
        tail -40 "$work/$name.server"
        exit "$status"
    fi
    grep -E '^ +[0-9]+ generated' "$work/$name.log" || true
}

push() {
    ask PUT "$1/v1/flows/hello-prompt" "${@:2}" <examples/flows/hello-prompt.json
}

"$programs/flowfleet" up --data "$work/data" --listen 127.0.0.1:0 --json >"$work/up.json" 2>"$work/sqlite.server" &
servers+=($!)
until [[ -s $work/up.json ]]; do
    kill -0 "${servers[0]}" 2>/dev/null || { cat "$work/sqlite.server" >&2; exit 1; }
    sleep 0.1
done
url=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["url"])' <"$work/up.json")
answers "$url" "$work/sqlite.server"
push "$url"
# The first key would close the server to callers without one; until then it ignores what they present.
check sqlite "$url" --exclude-operation-id create_key --exclude-checks ignored_auth,positive_data_acceptance

base=${FLOWFLEET_TEST_POSTGRES:?see ./tests/run --services}
psql -q "$base" -c "CREATE DATABASE $database"
store=$(python3 -c 'import sys, urllib.parse as u
print(u.urlsplit(sys.argv[1])._replace(path="/" + sys.argv[2]).geturl())' "$base" "$database")
"$programs/flowfleet" migrate --store-url "$store" >/dev/null
key=$("$programs/flowfleet" keys create --name schemathesis --role admin --store "$store" --json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])')
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
FLOWFLEET_STORE_URL=$store FLOWFLEET_QUEUE_URL=memory: FLOWFLEET_BUS_URL=memory: FLOWFLEET_BLOB_URL=file:$work/blobs \
    FLOWFLEET_LOG=warn "$programs/flowfleet-dispatcher" --listen "127.0.0.1:$port" >"$work/postgres.server" 2>&1 &
servers+=($!)
answers "http://127.0.0.1:$port" "$work/postgres.server"
push "http://127.0.0.1:$port" "$key"
# The key in use is among those that it would revoke.
# And nothing runs what a call of Langflow's waits for.
check postgres "http://127.0.0.1:$port" --exclude-operation-id revoke_key --exclude-operation-id run_langflow \
    --exclude-operation-id execute_workflow -H "Authorization: Bearer $key"
