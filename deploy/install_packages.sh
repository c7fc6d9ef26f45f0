#!/usr/bin/env bash
# Installs Debian or Ubuntu packages that are not there yet. Usage: install_packages.sh build|images|PACKAGE...
set -euo pipefail

build=(gcc g++ cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev libzmq3-dev
       libsqlite3-dev libpq-dev libssl-dev libjansson-dev libyaml-dev libicu-dev libpcre2-dev libcld2-dev libzstd-dev
       zlib1g-dev libjpeg-dev libpng-dev libwebp-dev libgif-dev libcurl4-openssl-dev libexpat1-dev librdkafka-dev
       libnuma-dev libopenblas0-openmp)
images=(graphicsmagick)

wanted=()
for word in "$@"; do
    case $word in
        build) wanted+=("${build[@]}") ;;
        images) wanted+=("${images[@]}") ;;
        *) wanted+=("$word") ;;
    esac
done

missing=()
for package in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "install these as root, then run again: ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
fi
echo "installing ${missing[*]}" >&2
# Servers are for tests to start, on ports of their own: none is to run because its package came.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '"${as_root[@]}" rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    "${as_root[@]}" chmod 755 $policy
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
