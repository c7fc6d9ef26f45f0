#!/usr/bin/env bash
# A real S3 server on loopback: Ceph's RADOS Gateway over one monitor and one OSD that keeps its data in memory.
#
#   ceph.sh up DIR      starts it and writes DIR/env, lines "export NAME=value" for the standard AWS variables
#   ceph.sh down DIR    ends the processes it started, by their ids, and removes DIR
#   ceph.sh with COMMAND...   runs COMMAND with such a server and its variables, and takes the server down again
#
# Needs Debian's radosgw, ceph-mon and ceph-osd; `with` ends with 77 where they are not. Any number may run at once; nothing outside of DIR is touched.
set -euo pipefail

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

write_config() { # DIR FSID MONITOR_PORT GATEWAY_PORT
    cat >"$1/ceph.conf" <<CONF
[global]
fsid = $2
mon initial members = a
mon host = [v2:127.0.0.1:$3/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
# Without this the gateway never gets an answer from a monitor that asks for no authentication.
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
run dir = $1/run
admin socket = $1/run/\$name.\$pid.asok
pid file = $1/run/\$name.pid
log file = $1/log/\$name.log
mon cluster log file = $1/log/cluster.log
# One monitor has nobody to wait for; each pool would cost a second.
paxos propose interval = 0.02
paxos min wait = 0.01
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon max pg per osd = 1000
mon data avail warn = 2
mon data avail crit = 1
[mon]
mon data = $1/mon
[osd]
osd data = $1/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd class load list = *
osd class default list = *
[client.gateway]
rgw frontends = beast endpoint=127.0.0.1:$4
rgw thread pool size = 64
# Virtual-host style: bucket.s3.localhost is this machine too.
rgw dns name = s3.localhost
CONF
}

# Its own output goes to a log: a server that kept ours would hold up whoever reads it.
start() { # DIR NAME COMMAND...
    local dir=$1 name=$2
    shift 2
    "$@" >"$dir/log/$name.out" 2>&1 </dev/null &
    echo $! >"$dir/run/$name.process"
    disown
}

up() { # DIR
    local dir monitor gateway fsid osd
    dir=$(realpath -m "$1")
    mkdir -p "$dir"/{mon,osd,run,log}
    monitor=$(free_port) gateway=$(free_port)
    fsid=$(python3 -c 'import uuid; print(uuid.uuid4())') osd=$(python3 -c 'import uuid; print(uuid.uuid4())')
    write_config "$dir" "$fsid" "$monitor" "$gateway"
    local conf=(-c "$dir/ceph.conf")
    monmaptool --create --addv a "[v2:127.0.0.1:$monitor]" --fsid "$fsid" "$dir/monmap" >/dev/null
    ceph-mon "${conf[@]}" -i a --mkfs --monmap "$dir/monmap"
    start "$dir" monitor ceph-mon "${conf[@]}" -i a -f
    timeout 60 ceph "${conf[@]}" osd new "$osd" >/dev/null
    ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$osd" >"$dir/log/mkfs.out" 2>&1
    timeout 60 ceph "${conf[@]}" osd crush add osd.0 1.0 root=default host=localhost >"$dir/log/crush.out" 2>&1
    start "$dir" osd ceph-osd "${conf[@]}" -i 0 -f
    start "$dir" gateway radosgw "${conf[@]}" -n client.gateway -f
    for _ in $(seq 600); do
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $gateway), 1)" 2>/dev/null && break
        sleep 0.1
    done
    timeout 60 radosgw-admin "${conf[@]}" -n client.gateway user create --uid=test --display-name=test \
        --access-key=testkey --secret-key=testsecret >"$dir/log/user.out" 2>&1
    cat >"$dir/env" <<ENV
export AWS_ENDPOINT_URL_S3=http://127.0.0.1:$gateway
export AWS_ACCESS_KEY_ID=testkey
export AWS_SECRET_ACCESS_KEY=testsecret
export AWS_REGION=us-east-1
export AWS_EC2_METADATA_DISABLED=true
export AWS_CONFIG_FILE=/dev/null
export AWS_SHARED_CREDENTIALS_FILE=/dev/null
ENV
}

down() { # DIR
    local file
    for file in "$1"/run/*.process; do
        [ -e "$file" ] || continue
        kill -9 "$(cat "$file")" 2>/dev/null || true # an OSD's clean end waits for its monitor
    done
    rm -rf "$1"
}

with() {
    local dir status=0
    command -v radosgw >/dev/null || { echo "skipped: no radosgw (Debian's radosgw, ceph-mon, ceph-osd)" >&2; exit 77; }
    dir=$(mktemp -d)
    trap 'down "'"$dir"'"' EXIT
    up "$dir" || { tail -n 20 "$dir"/log/*.out >&2; exit 1; }
    # shellcheck disable=SC1091
    . "$dir/env"
    "$@" || status=$?
    exit "$status"
}

case ${1:-} in
    up | down | with) "$@" ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
