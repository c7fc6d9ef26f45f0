#!/usr/bin/env bash
# A real Postgres on loopback, and pgbouncer in transaction mode before it.
#
#   postgres.sh up DIR      starts both and writes DIR/env, lines "export NAME=value"
#   postgres.sh down DIR    stops them, by pg_ctl and process id, and removes DIR
#   postgres.sh with COMMAND...   runs COMMAND beside them and takes them down again
#
# POSTGRES_URL and POOLER_URL are what `catalog.url` takes, without a database's name; databases are made with psql or
# createdb (PGHOST, PGPORT and PGUSER are set). It does not wait for the disk; POSTGRES_SETTINGS, more lines of its
# postgresql.conf, may say otherwise. Needs Debian's postgresql and pgbouncer. Any number may run at once.
set -euo pipefail

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
as_server=()
# Postgres refuses to run as root.
[ "$(id -u)" != 0 ] || as_server=(setpriv --reuid=postgres --regid=postgres --clear-groups --)

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_postgres() { # DIR PORT
    "${as_server[@]}" env LC_ALL=C.UTF-8 "$bin/initdb" -D "$1/data" -U test -A trust -E UTF8 --locale=C.UTF-8 \
        --no-sync --no-instructions >"$1/initdb.log"
    cat >>"$1/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $2
unix_socket_directories = '$1'
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 4GB
shared_buffers = 128MB
jit = off
max_connections = 64
${POSTGRES_SETTINGS:-}
CONF
    "${as_server[@]}" "$bin/pg_ctl" -D "$1/data" -w -t 60 -l "$1/log" start >/dev/null
}

start_pooler() { # DIR PORT POSTGRES_PORT
    cat >"$1/pgbouncer.ini" <<CONF
[databases]
* = host=127.0.0.1 port=$3 user=test
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $2
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
logfile = $1/pgbouncer.log
pidfile = $1/pgbouncer.pid
CONF
    "${as_server[@]}" pgbouncer -q -d "$1/pgbouncer.ini"
}

up() { # DIR
    mkdir -p "$1"
    local dir port pooler
    dir=$(realpath "$1")
    if [ ${#as_server[@]} -gt 0 ]; then
        chown postgres: "$dir"
        chmod 711 "$dir"
    fi
    port=$(free_port)
    start_postgres "$dir" "$port"
    pooler=$(free_port)
    start_pooler "$dir" "$pooler" "$port"
    cat >"$dir/env" <<ENV
export PGHOST=127.0.0.1
export PGPORT=$port
export PGUSER=test
export POSTGRES_URL=postgres://test@127.0.0.1:$port
export POOLER_URL=postgres://test@127.0.0.1:$pooler
ENV
}

down() { # DIR
    local dir
    dir=$(realpath "$1")
    [ ! -f "$dir/pgbouncer.pid" ] || kill "$(cat "$dir/pgbouncer.pid")" 2>/dev/null || true
    "${as_server[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null || true
    rm -rf "$dir"
}

case ${1-} in
    up) up "$2" ;;
    down) down "$2" ;;
    with)
        shift
        dir=$(mktemp -d)
        trap 'down "$dir"' EXIT
        up "$dir"
        . "$dir/env"
        "$@"
        ;;
    *) echo "usage: postgres.sh up|down DIR, or with COMMAND..." >&2; exit 2 ;;
esac
