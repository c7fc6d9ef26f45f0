"""The catalog is away for longer than leases last: workers go on, and nothing is done twice.

    test_outage.py [SECONDS]      8 of them, which is four leases

Run beside tests/support/postgres.sh. Checklist: DR 38, 40.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from fleet import WORKERS, Fleet, compare, said, wait_for
from harness import digest_objects, dump_catalog, dump_postgres, make_images, reinforce, require, write_job

OUTAGE_S = int(sys.argv[1]) if len(sys.argv) > 1 else 8


def sql(text):
    return subprocess.run(["psql", "-Atqc", text, "postgres"], check=True, capture_output=True, text=True).stdout


def away(seconds):
    sql("alter database outage allow_connections false")
    sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'outage'")
    time.sleep(seconds)
    sql("alter database outage allow_connections true")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 800)
    reinforce("keys", "new", tmp / "keys")
    settings = {"input": {"url": str(tmp / "images"), "shard_samples": 200}, "workers": WORKERS}
    reinforce("run", write_job(tmp / "alone.yaml", tmp / "images", tmp / "alone", **settings))
    subprocess.run(["createdb", "outage"], check=True)
    catalog = f"{os.environ['POSTGRES_URL']}/outage"
    reinforce("db", "migrate", "--catalog", catalog)
    job = write_job(tmp / "job.yaml", tmp / "images", tmp / "out", catalog={"url": catalog}, **settings)
    with Fleet(tmp / "logs", catalog, tmp / "keys") as fleet:
        coordinator = fleet.coordinator()
        wait_for("the coordinator serves", lambda: said(coordinator, "serving at"))
        workers = [fleet.worker() for _ in range(2)]
        reinforce("submit", job)
        wait_for("work begins", lambda: fleet.has_samples("e2e", 12))
        away(OUTAGE_S)
        watched = reinforce("status", "--catalog", catalog, "--watch", "e2e").stdout
        require("e2e: running" in watched and "e2e: done" in watched, f"status watches until the end:\n{watched}")
        logs = [worker.log.read_text() for worker in workers]
        kept = [int(n) for log in logs for n in re.findall(r"catalog_back .*kept=(\d+)", log)]
        require(kept and max(kept) > 10, f"finished parts were kept meanwhile: {kept}")
        require(not any("lease_failed" in log for log in logs), "no lease has failed")
        epochs = {n for log in logs for n in re.findall(r"shard_done .*epoch=(\d+)", log)}
        require(epochs == {"1"}, f"who had a shard before the outage has it behind it: epochs {epochs}")
        require("samples_suspected" not in coordinator.log.read_text(), "nobody is thought to have died")
        fleet.stop()
    compare((digest_objects(tmp / "alone"), dump_catalog(tmp / "alone")),
            (digest_objects(tmp / "out"), dump_postgres("outage", tmp / "alone")), "outage")
    print(f"{OUTAGE_S} s without a catalog, {max(kept)} parts kept: the same bytes and rows")
