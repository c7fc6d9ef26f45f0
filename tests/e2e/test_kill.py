"""kill -9 at 50 random moments, then go on: same bytes, same catalog, each time. Checklist: DR 36, 37, 38.

The first argument, if given, is the number of kills.
"""
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from harness import BINARY, RULES, digest_objects, dump_catalog, make_images, reinforce, require, write_job

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 50
WORKERS = {"count": 2, "threads": 1, "part_samples": 3, "queue_items": 6}

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 60)
    begun = time.monotonic()
    reinforce("run", write_job(tmp / "whole.yaml", tmp / "images", tmp / "whole", workers=WORKERS, curate=RULES))
    whole_s = time.monotonic() - begun
    want = digest_objects(tmp / "whole"), dump_catalog(tmp / "whole")

    rng = random.Random(5)
    kills, runs = 0, 0
    while kills < KILLS:
        out = tmp / f"out{runs}"
        job = write_job(tmp / f"job{runs}.yaml", tmp / "images", out, workers=WORKERS, curate=RULES)
        runs += 1
        while True:
            process = subprocess.Popen([BINARY, "run", str(job)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                process.wait(timeout=rng.uniform(0, whole_s))
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
        require(process.returncode == 3, f"run {runs} exited {process.returncode}: {process.stderr.read().decode()}")
        got = digest_objects(out), dump_catalog(out)
        differ = sorted(k for k in set(got[0]) | set(want[0]) if got[0].get(k) != want[0].get(k))
        require(not differ, f"run {runs}: {differ} differ after {kills} kills")
        require(got[1] == want[1], f"run {runs}: the catalog differs after {kills} kills")
        require(not list((out / "_reinforce/parts").glob("*")), f"run {runs}: parts are left over")

    again = reinforce("run", job)
    require(again.returncode == 3, "a finished job run again reports its quarantined samples")
    require("nothing to do" in again.stdout + again.stderr, f"a finished job has nothing to do: {again.stdout}")
    print(f"{kills} kills over {runs} jobs, same bytes each time")
