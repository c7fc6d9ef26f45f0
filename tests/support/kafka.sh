#!/usr/bin/env bash
# A real Apache Kafka broker on loopback, in KRaft mode: broker and controller in one process.
#
#   kafka.sh up DIR         starts it and writes DIR/env, lines "export NAME=value"
#   kafka.sh stop DIR       ends it as an operator would (SIGTERM); what it holds stays in DIR
#   kafka.sh kill DIR       ends it as a power cut would (SIGKILL)
#   kafka.sh start DIR      starts it again on the same ports, after stop or kill
#   kafka.sh down DIR       ends it and removes DIR
#   kafka.sh with COMMAND...   runs COMMAND beside a broker and takes it down again
#
# KAFKA_BROKERS is a plain listener. KAFKA_SECURE is one with TLS and SASL: KAFKA_CA is the CA to trust, users
# are alice (PLAIN) and bob (SCRAM-SHA-256), both with the password KAFKA_PASSWORD; OAUTHBEARER takes unsecured tokens.
# KAFKA_PORT, which may be set before, is the plain listener's port; else it is any.
# KAFKA_DIR and KAFKA_SH are for tests that end the broker themselves. KAFKA_VERSION, which may be set before, is one of
# those that tests/integration/fetch_kafka.sh puts into build/test-data. Needs Java, kcat and openssl. Any number may
# run at once.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
version=${KAFKA_VERSION:-4.1.1}
jars=${REINFORCE_TEST_DATA:-$here/build/test-data}/kafka-$version
password=kafka-test-password

free_ports() { # N: all held until all are known, so that none comes twice
    python3 -c '
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))' "$1"
}

java=(java -Xms64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData
      -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$jars/*")

make_certificates() { # DIR
    local tls=$1/tls
    mkdir -p "$tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tests-ca \
        -keyout "$tls/ca.key" -out "$tls/ca.pem" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout "$tls/broker.key" -out "$tls/broker.csr" 2>/dev/null
    openssl x509 -req -in "$tls/broker.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 2 \
        -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1') -out "$tls/broker.pem" 2>/dev/null
    cat "$tls/broker.key" "$tls/broker.pem" "$tls/ca.pem" >"$tls/keystore.pem"
}

write_config() { # DIR PLAIN_PORT SECURE_PORT CONTROLLER_PORT
    local module=org.apache.kafka.common.security
    cat >"$1/server.properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$4
listeners=PLAINTEXT://127.0.0.1:$2,SECURE://127.0.0.1:$3,CONTROLLER://127.0.0.1:$4
advertised.listeners=PLAINTEXT://127.0.0.1:$2,SECURE://127.0.0.1:$3
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$1/tls/keystore.pem
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER
listener.name.secure.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_alice="$password";
listener.name.secure.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.secure.oauthbearer.sasl.jaas.config=$module.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
log.dirs=$1/data
num.partitions=4
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=16777216
log.segment.bytes=16777216
log.cleaner.dedupe.buffer.size=16777216
# After a SIGKILL the controller refuses the new process until the old one's session has ended.
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
CONF
}

start() { # DIR
    local dir brokers
    dir=$(realpath "$1")
    # Its own output goes to a log: a server that kept ours would hold up whoever reads it.
    "${java[@]}" -Xmx640m kafka.Kafka "$dir/server.properties" >>"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/process"
    disown
    brokers=$(sed -n 's/^export KAFKA_BROKERS=//p' "$dir/env")
    for _ in $(seq 600); do
        kcat -b "$brokers" -L -m 2 >/dev/null 2>&1 && return
        kill -0 "$(cat "$dir/process")" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$dir/log" >&2
    echo "kafka.sh: the broker did not start" >&2
    return 1
}

finish() { # DIR SIGNAL: by the id that start() wrote, and waits until it has gone
    local pid
    [ -f "$1/process" ] || return 0
    pid=$(cat "$1/process")
    kill "-$2" "$pid" 2>/dev/null || true
    for _ in $(seq 600); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    rm -f "$1/process"
}

up() { # DIR
    local dir plain secure controller id
    [ -e "$jars/complete" ] || { echo "kafka.sh: no jars in $jars; run tests/integration/fetch_kafka.sh" >&2; return 1; }
    mkdir -p "$1"
    dir=$(realpath "$1")
    read -r plain secure controller <<<"$(free_ports 3)"
    plain=${KAFKA_PORT:-$plain}
    make_certificates "$dir"
    write_config "$dir" "$plain" "$secure" "$controller"
    cat >"$dir/env" <<ENV
export KAFKA_BROKERS=127.0.0.1:$plain
export KAFKA_SECURE=127.0.0.1:$secure
export KAFKA_CA=$dir/tls/ca.pem
export KAFKA_PASSWORD=$password
export KAFKA_VERSION=$version
export KAFKA_DIR=$dir
export KAFKA_SH=$here/tests/support/kafka.sh
ENV
    # an identifier of the form Kafka asks for: 16 bytes in URL-safe base64
    id=$(python3 -c 'import base64, os; print(base64.urlsafe_b64encode(b"T" + os.urandom(15)).decode().rstrip("="))')
    "${java[@]}" -Xmx128m kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" \
        --add-scram "SCRAM-SHA-256=[name=bob,password=$password]" >>"$dir/log" 2>&1 </dev/null ||
        { tail -n 20 "$dir/log" >&2; return 1; }
    start "$dir"
}

with() {
    local dir status=0
    dir=$(mktemp -d)
    trap 'finish "'"$dir"'" KILL; rm -rf "'"$dir"'"' EXIT
    up "$dir"
    # shellcheck disable=SC1091
    . "$dir/env"
    "$@" || status=$?
    exit "$status"
}

case ${1:-} in
    up | start) "$1" "$2" ;;
    stop) finish "$2" TERM ;;
    kill) finish "$2" KILL ;;
    down)
        finish "$2" KILL
        rm -rf "$2"
        ;;
    with)
        shift
        with "$@"
        ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
