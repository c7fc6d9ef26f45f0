#!/usr/bin/env bash
# One coordinator and a crowd of simulated workers on a Postgres of their own: bench_fleet.sh [OPTIONS OF bench_fleet]
# BUILD is the folder of the build. Postgres is as safe as a real one; a checkpoint every five minutes, the default, would cost
# two slow minutes of ten on a machine this small.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}

if [ -z "${POSTGRES_URL:-}" ]; then
    POSTGRES_SETTINGS='fsync = on
full_page_writes = on
wal_compression = lz4
max_wal_size = 16GB
checkpoint_timeout = 30min
shared_buffers = 1GB' exec tests/support/postgres.sh with "$0" "$@"
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/in"
"$build/bench/bench_fleet" "$@" "$build/reinforce" "$POSTGRES_URL/postgres" "$folder"
