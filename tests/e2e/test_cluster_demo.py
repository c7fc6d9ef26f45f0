"""deploy/cluster-demo.sh on a small corpus: a worker is killed, and every image is accounted for.

Starts Postgres and Ceph's gateway itself; skipped where Debian's radosgw is not.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from harness import BINARY, ROOT, make_images, require

N_IMAGES = 61  # every ninth is broken

if shutil.which("radosgw") is None:
    print("skipped: no radosgw", file=sys.stderr)
    sys.exit(77)
with tempfile.TemporaryDirectory() as tmp:
    images = pathlib.Path(tmp) / "images"
    make_images(images, N_IMAGES)
    demo = subprocess.run([ROOT / "deploy/cluster-demo.sh", "--set", f"input.url={images}", "--set",
                           "input.shard_samples=10", "--set", "workers.part_samples=2", "--set",
                           "budget.failure_fraction=1"],
                          env={**os.environ, "REINFORCE": BINARY}, capture_output=True, text=True)
    require(demo.returncode == 0, f"the demo exited {demo.returncode}:\n{demo.stdout}\n{demo.stderr}")
    rows = [[cell.strip() for cell in line.split("|")] for line in demo.stdout.splitlines()]
    bad = N_IMAGES // 9
    require([str(N_IMAGES), str(N_IMAGES - bad), str(bad), "0", "7"] in rows, f"an image is missing:\n{demo.stdout}")
    for text in ("standing by", "was killed with kill -9", "objects, manifest and catalog agree"):
        require(text in demo.stdout, f"the demo does not say \"{text}\":\n{demo.stdout}")
print("nothing was lost")
