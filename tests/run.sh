#!/usr/bin/env bash
# Installs what tests need, builds, and runs every test. Ends with ctest's summary line.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step "packages"
deploy/install_packages.sh build images libcmocka-dev clang-14 clang-tidy-14 clang-format-14 libclang-rt-14-dev \
    python3 python3-venv libpython3.11 python3-numpy python3-pil python3-torch python3-torchvision python3-zmq python3-protobuf protobuf-compiler zstd \
    radosgw ceph-mon ceph-osd ceph-common postgresql pgbouncer openjdk-17-jre-headless maven kcat openssl
# Some machines have npm from elsewhere, which Debian's package would clash with.
command -v npm >/dev/null || deploy/install_packages.sh npm
data=$PWD/build/test-data
mkdir -p "$data"
tests/integration/fetch_clip_vocab.sh "$data"
tests/integration/fetch_gemma_tokenizers.sh "$data"
tests/integration/fetch_kafka.sh "$data"
venv=build/test-venv
[ -x $venv/bin/python ] || /usr/bin/python3 -m venv --system-site-packages $venv
$venv/bin/python -c 'import webdataset, huggingface_hub, boto3, confluent_kafka' 2>/dev/null ||
    $venv/bin/pip install -q 'webdataset==0.2.86' 'huggingface_hub==0.28.1' 'boto3==1.44.8' 'confluent-kafka==2.16.1'
served=build/served-venv # servers of models; not beside Debian's numpy and torch, which theirs would break
[ -x $served/bin/python ] || /usr/bin/python3 -m venv $served
$served/bin/python -c 'import mlserver, xllamacpp, gguf' 2>/dev/null ||
    $served/bin/pip install -q 'mlserver==1.7.1' 'xllamacpp==2026.10.11549' 'gguf==0.19.0'
triton=build/triton-venv # Debian's Python, whose library the server links; no GPU is needed
[ -x $triton/bin/python ] || /usr/bin/python3 -m venv $triton
$triton/bin/python -c 'import pytriton' 2>/dev/null || $triton/bin/pip install -q 'nvidia-pytriton==0.7.0'
export REINFORCE_TEST_DATA=$data

step "format"
git ls-files -z '*.c' '*.h' '*.cc' | xargs -0 clang-format-14 --dry-run -Werror

step "build: dev, release"
cmake --preset dev >/dev/null
cmake --build --preset dev
cmake --preset release >/dev/null
cmake --build --preset release

step "asan and undefined"
cmake --preset asan >/dev/null
cmake --build --preset asan
# Three at a time, of which some wait for brokers and clocks.
ctest --test-dir build/asan -R '^(unit|fuzz)\.|^integration\.(postgres|kafka)' --output-on-failure -j 3

step "tsan"
threaded=(agent base catalog catalog_crowd coordinator curator_service dispatcher keys local_run memory_budget pipeline read_ahead remote
          s3_config s3_faults selection_golden teacher_process teacher_worker tokenizer wire)
cmake --preset tsan >/dev/null
cmake --build --preset tsan --target reinforce "${threaded[@]/#/test_}"
export TSAN_OPTIONS=suppressions=$PWD/tests/tsan.supp
ctest --test-dir build/tsan --output-on-failure -j 2 -R "^unit\.($(IFS='|' && echo "${threaded[*]}"))\$"
REINFORCE_BINARY=$PWD/build/tsan/reinforce $venv/bin/python tests/e2e/test_same_bytes.py
REINFORCE_BINARY=$PWD/build/tsan/reinforce $venv/bin/python tests/e2e/test_fleet.py
unset TSAN_OPTIONS

step "fuzz, 5 s each"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
tests/fuzz/run.sh build/fuzz 5

step "tests, and clang-tidy beside them"
# Every file once, while tests wait for each other; the tests' own files are held to the compiler's warnings alone.
git ls-files '*.c' | grep -vE '^(tests|bench)/' | nice -n 19 xargs -P 2 -n 4 clang-tidy-14 --quiet -p build/dev \
    --extra-arg=-Wno-unknown-warning-option >build/clang-tidy.log 2>/dev/null &
tidy=$!
ctest --test-dir build/dev --output-on-failure -j 3
wait $tidy || { cat build/clang-tidy.log; exit 1; }
