"""A fleet in trouble: a seeded schedule kills, stops (for longer than a lease) and restarts four workers, a coordinator and a
standby, and cuts their connections to Postgres. Each time the objects and the rows are those of an undisturbed run, the sums
match, and nothing is left over. Checklist: DR 36, 37, 40.

    test_chaos.py [SEEDS [FIRST]]      20 seeds from 1 on

Run beside tests/support/postgres.sh; beside tests/support/ceph.sh too, the output is in a bucket.
"""
import functools
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from fleet import WORKERS, Fleet, compare, wait_for
from harness import (RULES, digest_bodies, digest_objects, dump_catalog, dump_postgres, make_images, psql, reinforce, require,
                     write_job)

SEEDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
FIRST = int(sys.argv[2]) if len(sys.argv) > 2 else 1
N_WORKERS, N_COORDINATORS, N_SAMPLES = 4, 2, 160
QUIET_S = 12  # of trouble, then the fleet is left alone
STOPPED_S = (2.5, 4)  # a lease is 2 s
bucket = None
if "AWS_ENDPOINT_URL_S3" in os.environ:
    try:
        import boto3
        import botocore.config
    except ImportError:
        print("skipped: no boto3", file=sys.stderr)
        sys.exit(77)

    bucket = "chaos"
    s3 = boto3.client("s3", config=botocore.config.Config(s3={"addressing_style": "path"}))
    s3.create_bucket(Bucket=bucket)


def list_keys(prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def digest_output(folder, prefix):
    if bucket is None:
        return digest_objects(folder)
    read = lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return digest_bodies((key[len(prefix):], functools.partial(read, key)) for key in list_keys(prefix))


def left_over(folder, prefix):
    if bucket is None:
        return list((folder / "_reinforce/parts").glob("*")) + list(folder.rglob("*.tmp*"))
    return list_keys(f"{prefix}_reinforce/parts/")


class Trouble:
    """What happens to a fleet; all of it drawn from one seed."""

    def __init__(self, fleet, database, rng):
        self.fleet, self.database, self.rng = fleet, database, rng
        self.workers = [fleet.worker() for _ in range(N_WORKERS)]
        self.coordinators = [fleet.coordinator(at=i) for i in range(N_COORDINATORS)]
        self.stopped = {}  # process: when it goes on
        self.counts = {}

    def kill(self):
        group = self.rng.choice([self.workers, self.workers, self.coordinators])
        i = self.rng.randrange(len(group))
        self.stopped.pop(group[i], None)
        group[i].kill()
        group[i].wait()
        group[i] = self.fleet.worker() if group is self.workers else self.fleet.coordinator(at=i)

    def leave(self):
        i = self.rng.randrange(N_WORKERS)
        if self.workers[i] not in self.stopped:
            self.fleet.leave(self.workers[i])
            self.workers[i] = self.fleet.worker()

    def stop(self):
        process = self.rng.choice(self.workers * 2 + self.coordinators)
        if process not in self.stopped:
            process.send_signal(signal.SIGSTOP)
            self.stopped[process] = time.monotonic() + self.rng.uniform(*STOPPED_S)

    def cut(self):
        psql(self.database, "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and "
             f"datname = '{self.database}' and hashint4(pid) % 3 = {self.rng.randrange(3)}")

    def go_on(self, everybody=False):
        for process, until in list(self.stopped.items()):
            if everybody or time.monotonic() >= until:
                process.send_signal(signal.SIGCONT)
                del self.stopped[process]

    def happen(self):
        act = self.rng.choice([self.kill, self.kill, self.stop, self.cut, self.leave])
        self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
        act()


def survive(tmp, seed, want):
    rng = random.Random(seed)
    database = f"chaos{seed}"
    subprocess.run(["createdb", database], check=True)
    url = f"{os.environ['POSTGRES_URL']}/{database}"
    reinforce("db", "migrate", "--catalog", url)
    folder, prefix = tmp / str(seed), f"{seed}/"
    folder.mkdir()
    out = folder / "out" if bucket is None else f"s3://{bucket}/{seed}"
    job = write_job(folder / "job.yaml", tmp / "images", out, catalog={"url": url}, workers=WORKERS, curate=RULES)
    begun = time.monotonic()
    with Fleet(folder / "logs", url, tmp / "keys") as fleet:
        trouble = Trouble(fleet, database, rng)
        reinforce("submit", job)
        is_done = lambda: fleet.status("e2e")["state"] == "done"
        while time.monotonic() - begun < QUIET_S and not is_done():
            trouble.happen()
            until = time.monotonic() + rng.uniform(0.1, 0.8)
            while time.monotonic() < until:
                trouble.go_on()
                time.sleep(0.02)
        trouble.go_on(everybody=True)
        wait_for(f"seed {seed}: the job is done", is_done)
        status = fleet.status("e2e")
        fleet.stop()
    compare(want, (digest_output(folder / "out", prefix), dump_postgres(database, tmp / "alone")), f"seed {seed}")
    samples = status["samples"]
    require(sum(samples.values()) == N_SAMPLES and min(samples.values()) > 0, f"seed {seed}: the sums match: {samples}")
    require(status["shards"]["failed"] == 0, f"seed {seed}: no shard failed")
    require(not left_over(folder / "out", prefix), f"seed {seed}: {left_over(folder / 'out', prefix)} is left over")
    require(reinforce("verify", out).returncode == 0, "verify agrees")
    again = psql(database, "select sum(epoch) - count(*) from reinforce.shards").strip()
    subprocess.run(["dropdb", "--force", database], check=True)
    print(f"seed {seed}: {trouble.counts}, {again} leases given out again, {time.monotonic() - begun:.1f} s", flush=True)


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", N_SAMPLES)
    reinforce("keys", "new", tmp / "keys")
    reinforce("run", write_job(tmp / "alone.yaml", tmp / "images", tmp / "alone", workers=WORKERS, curate=RULES))
    want = digest_objects(tmp / "alone"), dump_catalog(tmp / "alone")
    for seed in range(FIRST, FIRST + SEEDS):
        survive(tmp, seed, want)
    print(f"{SEEDS} seeds, the same bytes and rows each time")
