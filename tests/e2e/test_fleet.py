"""A coordinator, a standby and four workers give what one process gives, byte for byte, whoever is killed on the way.

On SQLite; run by tests/support/postgres.sh, on Postgres too. Checklist: DR 36, 37, 40.
"""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

from harness import (BINARY, digest_objects, dump_catalog, dump_postgres, in_order, make_images, reinforce,
                     require, write_job)

DEADLINE_S = 120
WORKERS = {"count": 1, "threads": 1, "part_samples": 3, "queue_items": 6, "lease": "2s"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        require(time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s")
        time.sleep(0.05)


class Fleet:
    """Processes of one catalog; each writes a log of its own."""

    def __init__(self, folder, catalog, keys):
        self.folder, self.catalog, self.keys = folder, catalog, keys
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        folder.mkdir()

    def start(self, *args):
        log = self.folder / f"{args[0]}-{len(self.processes)}.log"
        with open(log, "wb") as to:
            process = subprocess.Popen([BINARY, *map(str, args)], stdout=to, stderr=subprocess.STDOUT)
        process.log = log
        self.processes.append(process)
        return process

    def coordinator(self):
        return self.start("coordinator", "--catalog", self.catalog, "--bind", self.address, "--keys",
                          self.keys / "coordinator.key", "--allow", self.keys / "allow", "-v")

    def worker(self, key="worker"):
        return self.start("worker", "--coordinator", self.address, "--keys", self.keys / f"{key}.key", "-v")

    def status(self, name):
        return json.loads(reinforce("status", "--catalog", self.catalog, "--json", name).stdout)

    def has_samples(self, name, n):
        samples = self.status(name)["samples"]
        return samples["done"] + samples["quarantined"] >= n

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def stop(self):
        """All by SIGTERM, which each obeys with exit code 0."""
        alive = [p for p in self.processes if p.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        for process in alive:
            require(process.wait(timeout=DEADLINE_S) == 0,
                    f"{process.args[1]} exited {process.returncode}:\n{process.log.read_text()}")


def said(process, text):
    return text in process.log.read_text()


def compare(want, got, where):
    for name in sorted(want[0].keys() | got[0].keys()):
        require(want[0].get(name) == got[0].get(name), f"{where}: {name} differs")
    for table in want[1]:
        require(in_order(want[1][table]) == in_order(got[1][table]), f"{where}: table {table} differs")


def exercise(tmp, kind, url_of, dump, want):
    """One job under kills, then a second one by the same processes; `url_of(folder)` is a catalog that is there."""
    catalog = url_of(tmp / kind)
    out = tmp / kind / "out"
    job = write_job(tmp / kind / "job.yaml", tmp / "images", out, catalog={"url": catalog}, workers=WORKERS)
    with Fleet(tmp / kind / "logs", catalog, tmp / "keys") as fleet:
        first = fleet.coordinator()
        wait_for("the coordinator serves", lambda: said(first, "serving at"))
        second = fleet.coordinator()
        wait_for("the second stands by", lambda: said(second, "standing by"))
        workers = [fleet.worker() for _ in range(3)]
        stranger, lost = fleet.worker("stranger"), fleet.worker("lost")
        require("submitted" in reinforce("submit", job).stdout, "the job is submitted")

        wait_for("work begins", lambda: fleet.has_samples("e2e", 6))
        workers[0].kill()
        workers.append(fleet.worker())  # comes late
        wait_for("work goes on", lambda: fleet.has_samples("e2e", 18))
        begun = time.monotonic()
        first.kill()
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
                          catalog={"url": catalog}, workers=WORKERS)
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
    reinforce("run", write_job(tmp / "alone.yaml", tmp / "images", tmp / "alone", workers=WORKERS))
    want = digest_objects(tmp / "alone"), dump_catalog(tmp / "alone")
    taken_s = exercise(tmp, "sqlite", make_sqlite, lambda url, out: dump_catalog(out.parent), want)
    print(f"SQLite: the same bytes; the standby took over after {taken_s:.1f} s")
    if "POSTGRES_URL" in os.environ:
        taken_s = exercise(tmp, "postgres", make_postgres, lambda url, out: dump_postgres("fleet", tmp / "alone"), want)
        print(f"Postgres: the same bytes; the standby took over after {taken_s:.1f} s")
