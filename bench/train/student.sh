#!/usr/bin/env bash
# The student experiment, from nothing to the table and the plot of docs/student.md: bench/train/student.sh [OUT]
#
# What is there is not made again, so that a run that was stopped goes on. OUT, or build/student, gets dataset/,
# results.jsonl, table.md and student.svg.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-build/student}
venv=build/test-venv

deploy/install_packages.sh build librsvg2-bin python3-venv python3-torch python3-torchvision python3-numpy python3-pil
command -v npm >/dev/null || deploy/install_packages.sh npm
[ -x $venv/bin/python ] || /usr/bin/python3 -m venv --system-site-packages $venv
$venv/bin/python -c 'import webdataset' 2>/dev/null || $venv/bin/pip install -q 'webdataset==0.2.86'
cmake --preset release >/dev/null
cmake --build --preset release --target reinforce
if [ -z "${OPENBLAS_CORETYPE:-}" ]; then # Debian's OpenBLAS knows no newer CPU
    OPENBLAS_CORETYPE=HASWELL
    grep -qw avx512vl /proc/cpuinfo && OPENBLAS_CORETYPE=SKYLAKEX
    export OPENBLAS_CORETYPE
fi

[ -f build/corpus/NOTICE ] || $venv/bin/python bench/train/corpus.py build/corpus
build/release/reinforce run --set "output.url=$out/dataset" configs/student.yaml
$venv/bin/python bench/train/student.py "$out/dataset" build/corpus "$out"
$venv/bin/python bench/train/report.py "$out/results.jsonl" "$out/student.svg" >"$out/table.md"
cat "$out/table.md"
