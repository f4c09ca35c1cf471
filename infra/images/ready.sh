#!/bin/bash
# Exit code 0 when the process on this machine's PORT says it is ready.
# bash alone, so that the image carries no HTTP client.
#
#   flowfleet-ready PORT
set -eu
exec 3<>"/dev/tcp/127.0.0.1/${1:?usage: flowfleet-ready PORT}"
printf 'GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
IFS= read -r -t 3 status <&3
if [[ $status == "HTTP/1.1 200"* ]]; then
    exit 0
fi
# The rest names what is missing; `docker inspect` shows it.
timeout 1 cat <&3 || true
exit 1
