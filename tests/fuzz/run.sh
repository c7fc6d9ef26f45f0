#!/usr/bin/env bash
# Runs every fuzz target of a build, two at a time. Usage: run.sh BUILD_DIR SECONDS
set -euo pipefail
build=$1 seconds=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

one() {
    local target=$1 name found
    name=$(basename "$target")
    found=$3/$name
    mkdir -p "$found"
    if ! "$target" -max_total_time="$2" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$4/build/" "$found" "$4/tests/fuzz/corpus/${name#fuzz_}" >"$found.log" 2>&1; then
        tail -n 40 "$found.log"
        echo "FAILED: $name; the input is in build/" >&2
        return 255
    fi
    echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log") runs"
}
export -f one
find "$build" -name 'fuzz_*' -type f -perm -u+x | sort |
    xargs -P 2 -I TARGET bash -c 'one TARGET "$@"' _ "$seconds" "$work" "$root"
