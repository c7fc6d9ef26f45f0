#!/usr/bin/env bash
# One coordinator and a crowd of simulated workers on a Postgres of their own: bench_fleet.sh [OPTIONS OF bench_fleet]
# BUILD is the folder of the build (build/release), FSYNC=off spares the disk.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}

if [ -z "${POSTGRES_URL:-}" ]; then
    POSTGRES_FSYNC=${FSYNC:-on} exec tests/support/postgres.sh with "$0" "$@"
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/in"
"$build/bench/bench_fleet" "$@" "$build/reinforce" "$POSTGRES_URL/postgres" "$folder"
