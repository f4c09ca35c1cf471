#!/bin/sh
# Installs the lfx that tests of the Python host run, from PyPI, into an environment of its own.
# Idempotent: does nothing when it is there. Needs python3 with venv; no network once done.
#
#   tests/lfx.sh    into ~/.cache/flowfleet/bench/lfx-1.13.0, which the benchmarks use as well
#
# FLOWFLEET_TEST_LFX names another environment, or its interpreter: then nothing is installed.
set -eu

[ -z "${FLOWFLEET_TEST_LFX:-}" ] || exit 0
folder=${XDG_CACHE_HOME:-$HOME/.cache}/flowfleet/bench/lfx-1.13.0
# What components of the starter flows and knowledge bases import besides, and the clients of the model providers that lfx
# leaves to bundles. The benchmarks have no use for it.
extras='lxml==6.1.3 tabulate==0.9.0 trustcall langchain-core==1.7.2 langchain-anthropic==1.4.8 langchain-ollama==0.3.10'
extras="$extras apsw==3.54.1.0 sqlite-vec==0.1.9"
if [ -e "$folder/complete" ] && [ "$(cat "$folder/extras" 2>/dev/null)" = "$extras" ]; then
    exit 0
fi
if [ ! -e "$folder/complete" ]; then
    python3 -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check uv
    # uv, because pip tries pre-releases for minutes before it finds the same set.
    "$folder/bin/uv" pip install --quiet --compile-bytecode --python "$folder/bin/python" lfx==1.13.0 lfx-openai==0.2.0
    printf 'lfx==1.13.0\nlfx-openai==0.2.0' >"$folder/complete"
fi
# shellcheck disable=SC2086 # words of their own
"$folder/bin/uv" pip install --quiet --compile-bytecode --python "$folder/bin/python" $extras
printf '%s' "$extras" >"$folder/extras"
