#!/usr/bin/env bash
# A fleet on this machine: the quickstart's job on Postgres, an S3 server (Ceph's gateway), a coordinator, its standby and
# four workers, one of which is killed half-way. What follows on the command line goes to `reinforce submit`.
#
#   deploy/cluster-demo.sh [--set PATH=VALUE]...
#
# REINFORCE is the program to run; without it a release is built. All that is started listens on loopback alone, is stopped by
# its process id, and keeps what it writes in a folder that is removed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

deploy/install_packages.sh build images postgresql pgbouncer radosgw ceph-mon ceph-osd ceph-common python3 curl
if [ -z "${REINFORCE:-}" ]; then
    REINFORCE=build/release/reinforce
    cmake --preset release >build-release.log 2>&1 && cmake --build --preset release >>build-release.log 2>&1 ||
        { tail -n 30 build-release.log >&2; exit 1; }
    rm -f build-release.log
    deploy/sample_images.sh build/quickstart/images
fi
reinforce() { "$REINFORCE" "$@"; }

folder=$(mktemp -d)
processes=()
clean_up() {
    local pid
    for pid in "${processes[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${processes[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ ! -d "$folder/postgres" ] || tests/support/postgres.sh down "$folder/postgres"
    [ ! -d "$folder/s3" ] || tests/support/ceph.sh down "$folder/s3"
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 1' INT TERM
chmod 711 "$folder"

start() { # NAME COMMAND...
    local name=$1
    shift
    "$REINFORCE" "$@" >"$folder/$name.log" 2>&1 &
    processes+=($!)
    echo "$name: process $!"
}
ask() { psql -X -A -t -d reinforce -c "$1"; }
wait_until() { # SECONDS QUESTION ANSWER
    local end=$((SECONDS + $1))
    until [ "$(ask "$2")" = "$3" ]; do
        [ $SECONDS -lt $end ] || { echo "not within $1 s: $2" >&2; tail -n 5 "$folder"/*.log >&2; exit 1; }
        sleep 0.2
    done
}

say "Postgres, with the catalog's tables, and a bucket"
tests/support/postgres.sh up "$folder/postgres"
tests/support/ceph.sh up "$folder/s3"
. "$folder/postgres/env"
. "$folder/s3/env"
createdb reinforce
catalog=$POSTGRES_URL/reinforce
reinforce db migrate --catalog "$catalog"
curl -fsS -X PUT -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' --aws-sigv4 aws:amz:us-east-1:s3 \
    --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$AWS_ENDPOINT_URL_S3/demo"
echo "$catalog, s3://demo at $AWS_ENDPOINT_URL_S3"

say "a coordinator, a second one that stands by, and four workers with a key"
reinforce keys new "$folder/keys"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
address=tcp://127.0.0.1:$port
for name in coordinator standby; do
    start $name coordinator --catalog "$catalog" --bind "$address" --keys "$folder/keys/coordinator.key" \
        --allow "$folder/keys/allow"
    until [ -s "$folder/$name.log" ]; do sleep 0.1; done
    cat "$folder/$name.log"
done
for i in 1 2 3 4; do
    start worker-$i worker --coordinator "$address" --keys "$folder/keys/worker.key" --count 1 --threads 1
done

say "the quickstart's job, with another catalog and another output (and short leases, for the impatient)"
reinforce submit configs/quickstart.yaml --set "catalog.url=$catalog" --set output.url=s3://demo/dataset \
    --set workers.lease=5s "$@"
wait_until 120 "select state from reinforce.jobs" 2 # planned
# A shard that is done counts twice, one that has begun once.
half="select coalesce(sum(case when state = 3 then 2 when n_parts > 0 then 1 else 0 end), 0) >= count(*)
    from reinforce.shards having count(*) filter (where state = 2) > 0 or bool_and(state = 3)"
wait_until 600 "$half" t
reinforce status --catalog "$catalog"
victim=$(ask "select split_part(owner, ':', 2) from reinforce.shards where state = 2 order by n_parts, shard limit 1")
victim=${victim:-${processes[-1]}}
{ kill -9 "$victim" && wait "$victim"; } 2>/dev/null || true

say "half of the work is done: worker process $victim was killed with kill -9, and held"
psql -X -d reinforce -c "select shard, n_parts as parts_committed, lease_expires - now() as lease_left
    from reinforce.shards where state = 2 and owner like '%:$victim:%'"
echo "when the lease runs out, another worker goes on behind the last part that was committed"
wait_until 1200 "select state from reinforce.jobs" 4

say "done: what became of every image"
reinforce status --catalog "$catalog" quickstart
reinforce workers --catalog "$catalog"
psql -X -d reinforce -c "select sum(samples_read) as read, sum(done) as done, sum(quarantined) as quarantined,
    sum(samples_read) - sum(done) - sum(quarantined) - sum(filtered) as lost, count(*) as shards from reinforce.accounts"
psql -X -d reinforce -c "select reason, samples, example from reinforce.failures"
reinforce verify s3://demo/dataset
