#!/usr/bin/env bash
# One command from a fresh Debian 12 (or newer, or Ubuntu LTS) machine to a reinforced dataset.
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/install_packages.sh build images sqlite3
cmake --preset release >build-release.log 2>&1 && cmake --build --preset release >>build-release.log 2>&1 ||
    { tail -n 30 build-release.log >&2; exit 1; }
rm -f build-release.log
deploy/sample_images.sh build/quickstart/images

status=0
build/release/reinforce run configs/quickstart.yaml || status=$?
# 3: finished, with some samples quarantined. The sample folder has six broken ones on purpose.
[ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"

echo
echo "Six images, what the captioner says of them, and the teachers' similarity; those that they agree with most:"
sqlite3 -separator ' | ' build/quickstart/dataset/catalog.sqlite "
    select uid, caption, round(max(mean_cosine), 2) from captions_by_sample where column_name = 'syn_text'
    group by uid order by max(mean_cosine) desc limit 6"
