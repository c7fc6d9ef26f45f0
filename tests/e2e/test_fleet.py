"""A coordinator, a standby and four workers give what one process gives, byte for byte, whoever is killed on the way.

On SQLite; run by tests/support/postgres.sh, on Postgres too. Checklist: DR 36, 37, 40.
"""
import os
import pathlib
import signal
import subprocess
import tempfile
import time

from fleet import DEADLINE_S, WORKERS, Fleet, compare, occupy, said, wait_for
from harness import RULES, digest_objects, dump_catalog, dump_postgres, make_images, reinforce, require, write_job


def exercise(tmp, kind, url_of, dump, want):
    """One job under kills, then a second one by the same processes; `url_of(folder)` is a catalog that is there."""
    catalog = url_of(tmp / kind)
    out = tmp / kind / "out"
    job = write_job(tmp / kind / "job.yaml", tmp / "images", out, catalog={"url": catalog}, workers=WORKERS,
                    curate=RULES)
    with Fleet(tmp / kind / "logs", catalog, tmp / "keys") as fleet:
        first = fleet.coordinator()
        wait_for("the coordinator serves", lambda: said(first, "serving at"))
        taken = occupy(fleet.addresses[1])
        second = fleet.coordinator(at=1)
        wait_for("the second stands by", lambda: said(second, "standing by"))
        workers = [fleet.worker() for _ in range(3)]
        stranger, lost = fleet.worker("stranger"), fleet.worker("lost")
        require("submitted" in reinforce("submit", job).stdout, "the job is submitted")

        wait_for("work begins", lambda: fleet.has_samples("e2e", 6))
        workers[0].kill()
        workers.append(fleet.worker())  # comes late
        wait_for("work goes on", lambda: fleet.has_samples("e2e", 18))
        first.kill()
        wait_for("the standby cannot serve there", lambda: said(second, "not_serving"))
        begun = time.monotonic()
        taken.close()
        wait_for("the standby takes over", lambda: said(second, "serving at"))
        taken_s = time.monotonic() - begun
        require(taken_s < 10, f"the standby took over after {taken_s:.1f} s")
        third = fleet.coordinator()
        wait_for("work goes on", lambda: fleet.has_samples("e2e", 36))
        workers[1].send_signal(signal.SIGTERM)
        require(workers[1].wait(timeout=DEADLINE_S) == 0, "a worker that is told to leaves")
        wait_for("the job is done", lambda: fleet.status("e2e")["state"] == "done")
        require(said(third, "standing by"), "the third stands by")
        require(any(said(c, "its key is not in the allow-list") for c in (first, second)), "it is said who is refused")
        wait_for("the stranger says why it does not work", lambda: said(stranger, "which is not in its allow-list"))
        wait_for("one of another fleet, too", lambda: said(lost, "is not the one that our key file names"))
        if kind == "sqlite":
            alone = reinforce("run", job, check=(1,))
            require("another run" in alone.stderr, f"run and coordinator exclude each other: {alone.stderr}")
        compare(want, (digest_objects(out), dump(catalog, out)), kind)
        require(not list((out / "_reinforce/parts").glob("*")), f"{kind}: parts are left over")
        require(reinforce("verify", out).returncode == 0, "verify agrees")

        other = write_job(tmp / kind / "other.yaml", tmp / "images", tmp / kind / "other", name="other",
                          catalog={"url": catalog}, workers=WORKERS, curate=RULES)
        reinforce("submit", other)
        wait_for("the second job is done", lambda: fleet.status("other")["state"] == "done")
        shards = sorted(name for name in want[0] if name.endswith(".tar"))
        objects = digest_objects(tmp / kind / "other")
        require(all(objects.get(name) == want[0][name] for name in shards), "the second job's shards are the same")
        fleet.stop()
    return taken_s


def make_postgres(folder):
    folder.mkdir()
    subprocess.run(["createdb", "fleet"], check=True)
    url = f"{os.environ['POSTGRES_URL']}/fleet"
    reinforce("db", "migrate", "--catalog", url)
    return url


def make_sqlite(folder):
    folder.mkdir()
    return f"sqlite:{folder}/catalog.sqlite"


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 61)
    reinforce("keys", "new", tmp / "keys")
    reinforce("keys", "add", tmp / "keys", "stranger")
    reinforce("keys", "new", tmp / "other")
    (tmp / "other/worker.key").rename(tmp / "keys/lost.key")
    allow = tmp / "keys/allow"
    allow.write_text("".join(line for line in allow.read_text().splitlines(True) if "stranger" not in line))
    reinforce("run", write_job(tmp / "alone.yaml", tmp / "images", tmp / "alone", workers=WORKERS, curate=RULES))
    want = digest_objects(tmp / "alone"), dump_catalog(tmp / "alone")
    taken_s = exercise(tmp, "sqlite", make_sqlite, lambda url, out: dump_catalog(out.parent), want)
    print(f"SQLite: the same bytes; the standby took over after {taken_s:.1f} s")
    if "POSTGRES_URL" in os.environ:
        taken_s = exercise(tmp, "postgres", make_postgres, lambda url, out: dump_postgres("fleet", tmp / "alone"), want)
        print(f"Postgres: the same bytes; the standby took over after {taken_s:.1f} s")
