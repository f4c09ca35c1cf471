# shellcheck shell=bash disable=SC2154  # tests/run defines logs, tools, say, die
# PostgreSQL, Redis and RabbitMQ for the tests: installed if missing, started
# if not running, left running afterwards. Sourced by tests/run.
#
# A server named by FLOWFLEET_TEST_POSTGRES, FLOWFLEET_TEST_REDIS or
# FLOWFLEET_TEST_RABBITMQ is taken as it is and neither installed nor started.

# What the tests assume when nobody says otherwise; the same three are the
# defaults in the tests' own code.
readonly default_postgres='postgres://postgres@127.0.0.1:5432/postgres'
readonly default_redis='redis://127.0.0.1:6379'
readonly default_rabbitmq='amqp://guest:guest@127.0.0.1:5672/%2f'

# A role of our own, for servers that do not trust connections from loopback.
readonly test_role='flowfleet_test'

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

as_postgres() {
    if ((EUID == 0)); then (cd / && runuser -u postgres -- "$@"); else (cd / && sudo -u postgres "$@"); fi
}

# Debian keeps servers' programs out of an ordinary user's PATH.
has() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1
}

install_missing_packages() {
    local -a missing=()
    has cc || missing+=(build-essential)
    has git || missing+=(git)
    has psql || missing+=(postgresql-client)
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
    # The fault suite starts servers of its own, and gives processes wrong
    # clocks: it needs the programs even where other servers were named.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || has initdb || missing+=(postgresql)
    if ! has redis-cli || ! has redis-server; then
        missing+=(redis-server)
    fi
    has rabbitmqctl || missing+=(rabbitmq-server)
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(faketime)
    # For Langflow's client in JavaScript.
    if ! has node || ! has npm; then
        missing+=(nodejs npm)
    fi
    ((${#missing[@]})) || return 0

    if ! has apt-get; then
        die "these Debian packages are missing and there is no apt-get here: ${missing[*]}." \
            "Install the same programs your way and run this again."
    fi
    if ((EUID != 0)) && ! has sudo; then
        die "installing ${missing[*]} needs root: run this as root, or install sudo."
    fi
    say "installing ${missing[*]}"
    # Without a UTF-8 locale Debian makes PostgreSQL's first cluster SQL_ASCII.
    local -a apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -q -o Dpkg::Use-Pty=0)
    quietly "$logs/apt.log" as_root "${apt[@]}" update
    quietly "$logs/apt.log" as_root "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

# Runs a command whose output matters only if it fails.
quietly() {
    local log=$1
    shift
    "$@" >>"$log" 2>&1 </dev/null || {
        local status=$?
        tail -n 40 "$log" >&2
        die "'$*' failed (exit $status); its output is in $log."
    }
}

answers_postgres() {
    PGCONNECT_TIMEOUT=3 psql "$1" -XAtqwc 'select 1' >/dev/null 2>&1
}

# Through the local socket, before anybody knows how loopback is let in.
cluster_answers() {
    as_postgres psql -p "$1" -XAtqc 'select 1' >/dev/null 2>&1
}

answers_redis() {
    [[ $(timeout 3 redis-cli -u "$1" ping 2>/dev/null) == PONG ]]
}

# A broker that is still starting accepts connections before it speaks AMQP,
# so this sends the protocol header and waits for Connection.Start.
answers_rabbitmq() {
    python3 - "$1" <<'PYTHON' 2>/dev/null
import socket, ssl, sys
from urllib.parse import urlsplit

url = urlsplit(sys.argv[1])
tls = url.scheme == "amqps"
with socket.create_connection((url.hostname, url.port or (5671 if tls else 5672)), 3) as raw:
    raw.settimeout(3)
    stream = ssl.create_default_context().wrap_socket(raw, server_hostname=url.hostname) if tls else raw
    stream.sendall(b"AMQP\x00\x00\x09\x01")
    sys.exit(0 if stream.recv(1) == b"\x01" else 1)
PYTHON
}

# wait_for SECONDS WHAT LOG-GLOB COMMAND...: waits for the command to succeed.
wait_for() {
    local limit=$1 what=$2 log=$3 started=$SECONDS
    shift 3
    until "$@"; do
        if ((SECONDS - started > limit)); then
            local file
            # shellcheck disable=SC2012,SC2086
            file=$(as_root sh -c "ls -t $log 2>/dev/null | head -n 1")
            if [[ -n $file ]]; then
                printf '%s\n' "--- the last lines of $file" >&2
                as_root tail -n 30 "$file" >&2
            fi
            die "$what does not answer after $limit s. Look at $log, or name a server that runs (see tests/run --help)."
        fi
        sleep 0.3
    done
}

# A server was named: use it or say that it is not there.
require() {
    local what=$1 variable=$2 probe=$3
    "$probe" "${!variable}" || die "$variable names a $what that does not answer. Start it, or unset $variable to have one started here."
    say "$what: the one $variable names"
}

# Not every archive has it. Without it searches of knowledge are tested as they are for operators without it.
install_pgvector() {
    local version
    # shellcheck disable=SC2012
    version=$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -n 1)
    [[ -n $version && ! -e /usr/share/postgresql/$version/extension/vector.control ]] || return 0
    if has apt-cache && apt-cache show "postgresql-$version-pgvector" >/dev/null 2>&1; then
        say "installing pgvector"
        local -a apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -q -o Dpkg::Use-Pty=0)
        quietly "$logs/apt.log" as_root "${apt[@]}" install -y --no-install-recommends "postgresql-$version-pgvector"
    else
        say "pgvector: not to be had for PostgreSQL $version; searches of knowledge are tested without it"
    fi
}

start_postgres() {
    if [[ -n ${FLOWFLEET_TEST_POSTGRES:-} ]]; then
        require PostgreSQL FLOWFLEET_TEST_POSTGRES answers_postgres
        return
    fi
    install_pgvector
    if answers_postgres "$default_postgres"; then
        export FLOWFLEET_TEST_POSTGRES=$default_postgres
        say "PostgreSQL: running"
        return
    fi
    local version='' name='' port=''
    read -r version name port _ < <(pg_lsclusters -h 2>/dev/null) || true
    if [[ -z $version ]]; then
        # shellcheck disable=SC2012
        version=$(ls /usr/lib/postgresql | sort -n | tail -n 1)
        name=main
        quietly "$logs/postgresql.log" as_root pg_createcluster --encoding UTF8 --locale C.UTF-8 "$version" "$name"
        read -r _ _ port _ < <(pg_lsclusters -h)
    fi
    if ! cluster_answers "$port"; then
        say "PostgreSQL: starting cluster $version/$name on port $port"
        start_daemon postgresql "pg_ctlcluster --skip-systemctl-redirect $version $name start"
        wait_for 60 PostgreSQL "/var/log/postgresql/postgresql-$version-$name.log" \
            cluster_answers "$port"
    fi
    local url="postgres://postgres@127.0.0.1:$port/postgres"
    if ! answers_postgres "$url"; then
        # Debian's default: loopback wants a password.
        url="postgres://$test_role:$test_role@127.0.0.1:$port/postgres"
        as_postgres psql -p "$port" -XAtq -v ON_ERROR_STOP=1 >/dev/null <<SQL
DO \$\$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$test_role') THEN
        CREATE ROLE $test_role LOGIN CREATEDB PASSWORD '$test_role';
    END IF;
END \$\$;
SQL
        answers_postgres "$url" || die "PostgreSQL on port $port runs but refuses role $test_role: set FLOWFLEET_TEST_POSTGRES to a URL that may create databases."
    fi
    export FLOWFLEET_TEST_POSTGRES=$url
    say "PostgreSQL: running on port $port"
}

start_redis() {
    if [[ -n ${FLOWFLEET_TEST_REDIS:-} ]]; then
        require Redis FLOWFLEET_TEST_REDIS answers_redis
        return
    fi
    export FLOWFLEET_TEST_REDIS=$default_redis
    if answers_redis "$default_redis"; then
        say "Redis: running"
        return
    fi
    say "Redis: starting on port 6379 (keeps nothing on disk)"
    quietly "$logs/redis-start.log" redis-server --daemonize yes --bind 127.0.0.1 --port 6379 \
        --save '' --appendonly no --dir "$logs" --logfile "$logs/redis.log"
    wait_for 30 Redis "$logs/redis.log" answers_redis "$default_redis"
}

start_rabbitmq() {
    if [[ -n ${FLOWFLEET_TEST_RABBITMQ:-} ]]; then
        require RabbitMQ FLOWFLEET_TEST_RABBITMQ answers_rabbitmq
        return
    fi
    export FLOWFLEET_TEST_RABBITMQ=$default_rabbitmq
    if answers_rabbitmq "$default_rabbitmq"; then
        say "RabbitMQ: running"
        return
    fi
    say "RabbitMQ: starting on port 5672"
    start_daemon rabbitmq-server "rabbitmq-server -detached"
    wait_for 120 RabbitMQ '/var/log/rabbitmq/*' answers_rabbitmq "$default_rabbitmq"
}

# start_daemon UNIT COMMAND: through systemd where it runs, else by hand.
# Standard streams are closed so that a daemon never keeps a pipe of the
# caller open.
start_daemon() {
    local unit=$1 command=$2
    if [[ -d /run/systemd/system ]]; then
        quietly "$logs/$unit-start.log" as_root systemctl start "$unit"
    else
        # The probe that follows decides; a start script's own exit code may
        # complain about a server that is already on its way.
        as_root sh -c "PATH=\$PATH:/usr/sbin $command" >>"$logs/$unit-start.log" 2>&1 </dev/null || true
    fi
}

# rabbitmqctl wants root or the broker's own user. The fault tests call it by
# name, so an ordinary user gets wrappers in front of the real ones.
wrap_rabbitmq_commands() {
    ((EUID == 0)) && return
    local program real
    for program in rabbitmqctl rabbitmq-server; do
        real=$(PATH="$PATH:/usr/sbin" command -v "$program") || continue
        [[ $real == "$tools/"* ]] && continue
        printf '#!/bin/sh\nexec sudo -n %s "$@"\n' "$real" >"$tools/$program"
        chmod +x "$tools/$program"
    done
}

start_services() {
    start_rabbitmq
    start_postgres
    start_redis
    wrap_rabbitmq_commands
}
