#!/bin/sh
# Puts Apache Kafka's jars into DIR/kafka-VERSION, from the Maven registry; nothing of it is kept in the repository.
# Two versions: the newest protocol, and the last that takes SCRAM from librdkafka before 2.6.1. Needs Maven and Java 17.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch() { # VERSION DIR
    [ ! -e "$2/complete" ] || return 0
    mkdir -p "$2"
    cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka-run</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$1</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-api</artifactId><version>2.0.20</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>2.0.20</version></dependency>
  </dependencies></project>
POM
    if ! mvn -q -B -f "$work/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.11.0:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$(realpath "$2")" >"$work/log" 2>&1; then
        tail -n 20 "$work/log" >&2
        echo "$0: cannot fetch Apache Kafka $1 from the Maven registry: the Kafka tests need it." >&2
        echo "$0: check the network or Maven's mirror settings, or put the jars of kafka_2.13 $1 and what it depends" \
            "on into $2 and touch $2/complete" >&2
        exit 1
    fi
    touch "$2/complete"
}

fetch 4.1.1 "$1/kafka-4.1.1"
fetch 3.9.1 "$1/kafka-3.9.1"
