"""Every sample ends in one state: retries, repairs, budgets and what `status` says of them, on SQLite and on Postgres.

Run by tests/support/postgres.sh, which starts the servers.
"""
import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time

from harness import BINARY, MODELS, ROOT, digest_objects, make_images, psql, reinforce, require, write_job

DEADLINE_S = 120
TEACHERS = [{"name": "gelu", "model": str(MODELS / "clip_gelu")},
            {"name": "quick", "model": str(MODELS / "clip_quickgelu")}]
WORKERS = {"lease": "1s", "max_attempts": 50}  # a kill costs an attempt
LOADER = ROOT / "tests/integration/load_with_trainer.py"


class Sqlite:
    """The catalog beside the output."""

    def __init__(self, output):
        self.path = output.parent / f"{output.name}.sqlite"
        self.url = f"sqlite:{self.path}"

    def rows(self, sql):
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        rows = db.execute(sql.replace("reinforce.", "")).fetchall()
        db.close()
        return rows

    def execute(self, sql):
        db = sqlite3.connect(self.path)
        db.execute(sql)
        db.commit()
        db.close()


class Postgres:
    """A database of its own."""

    def __init__(self, database):
        subprocess.run(["createdb", database], check=True)
        self.database = database
        self.url = f"{os.environ['POSTGRES_URL']}/{database}"
        reinforce("db", "migrate", "--catalog", self.url)

    def rows(self, sql):
        text = psql(self.database, f"select row_to_json(t) from ({sql}) t")
        return [tuple(json.loads(line).values()) for line in text.splitlines()]

    def execute(self, sql):
        psql(self.database, sql.replace("samples", "reinforce.samples"))


class ByRun:
    """Jobs are worked on by `reinforce run`."""

    def __init__(self, catalog):
        pass

    def finish(self, job):
        return reinforce("run", job).returncode


class ByKilledRun:
    """The same, killed again and again."""

    def __init__(self, catalog):
        self.rng = random.Random(3)

    def finish(self, job):
        while True:
            process = subprocess.Popen([BINARY, "run", str(job)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                process.wait(timeout=self.rng.uniform(0.05, 0.8))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                continue
            require(process.returncode in (0, 3), f"run exited {process.returncode}: {process.stderr.read().decode()}")
            return process.returncode


class ByFleet:
    """And by a coordinator and two workers that are always there."""

    def __init__(self, catalog):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{s.getsockname()[1]}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.catalog = catalog
        self.processes = [subprocess.Popen([BINARY, "coordinator", "--catalog", catalog.url, "--bind", address], **quiet)]
        self.processes += [subprocess.Popen([BINARY, "worker", "--coordinator", address], **quiet) for _ in range(2)]

    def finish(self, job):
        reinforce("submit", job)
        wait_for("the job is done", lambda: ask("status", "--json", job)["state"] == "done")
        status = ask("status", "--json", job)
        workers = ask("workers", "--catalog", self.catalog.url, "--json")
        seen = [w for w in workers if w.get("version") and w["address"] == "127.0.0.1" and w["state"] != "gone"]
        require(len(seen) >= 2, f"workers are known: {workers}")
        return 3 if status["samples"]["quarantined"] > 0 else 0

    def close(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=DEADLINE_S)


def ask(*args):
    return json.loads(reinforce(*args, check=(0, 1)).stdout)


def ask_at_once(n, *args):
    """Several of the same command at the same time."""
    asked = [subprocess.Popen([BINARY, *map(str, args)], stdout=subprocess.PIPE, text=True) for _ in range(n)]
    answers = [process.communicate(timeout=DEADLINE_S)[0] for process in asked]
    require(all(process.returncode == 0 for process in asked), f"{args[0]}: {answers}")
    return [json.loads(answer) for answer in answers]


def wait_for(what, condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        require(time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s")
        time.sleep(0.02)


def manifest(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def check_books(job, output, catalog, done, quarantined):
    """status, the views, the manifest, the trainer's sizes and verify all say the same."""
    status = ask("status", "--json", job)
    require(status["samples"] == {"done": done, "quarantined": quarantined, "filtered": 0}, f"status says {status['samples']}")
    require(sum(r["samples"] for r in status["reasons"]) == quarantined, f"reasons say {status['reasons']}")
    require(status["state"] == "done", f"state {status['state']}")
    lines = manifest(output)
    require(sum(line["n_done"] for line in lines) == done, "the manifest counts other samples done")
    require(sum(line["n_quarantined"] for line in lines) == quarantined, "the manifest counts others quarantined")
    require(sum(json.loads((output / "sizes.json").read_text()).values()) == done, "sizes.json counts others")
    rows = catalog.rows("select sum(case when is_retry then 0 else samples_read end) as read, sum(done) as done, "
                        "sum(quarantined) as quarantined, sum(samples - done - quarantined - retried) as rest from reinforce.accounts")
    require([int(n) for n in rows[0]] == [done + quarantined, done, quarantined, 0], f"accounts say {rows}")
    require(catalog.rows("select samples_done, samples_quarantined, state from reinforce.progress") ==
            [(done, quarantined, "done")], "view progress differs")
    verdict = reinforce("verify", "--json", output, check=(0, 1))
    require(verdict.returncode == 0, f"verify: {verdict.stdout}")


def record(output, uid):
    """What is known of a sample, but for where it lies."""
    (found,) = ask("inspect", "--json", "--uid", uid, output)
    for key in ("shard", "index", "object"):
        found.pop(key, None)
    return found


def retry(tmp, whole, catalog, doer, output):
    """Broken files are mended one half at a time; what was good is not touched."""
    images = tmp / f"{output.name}-images"
    make_images(images, 61)
    good = tmp / "whole-images"
    broken = sorted(p.stem for p in images.iterdir() if p.suffix != ".txt" and
                    p.read_bytes() != (good / p.name).read_bytes())
    job = write_job(tmp / f"{output.name}.yaml", images, output, catalog={"url": catalog.url},
                    workers=WORKERS, teachers=TEACHERS[:1])
    require(doer.finish(job) == 3, "broken samples are quarantined")
    check_books(job, output, catalog, 61 - len(broken), len(broken))
    before, shards = digest_objects(output), len(manifest(output))

    reasons = {r["reason"]: r["samples"] for r in ask("status", "--json", job)["reasons"]}
    (reason,) = reasons
    nothing = ask("retry", "--reason", "no_such_reason", "--json", job)
    require(nothing["samples"] == 0, "no sample has that reason")
    for round, mended in enumerate([broken[: len(broken) // 2], broken[len(broken) // 2:]]):
        for stem in mended:
            (path,) = (p for p in good.glob(f"{stem}.*") if p.suffix != ".txt")
            (images / path.name).write_bytes(path.read_bytes())
        left = len(broken) - round * (len(broken) // 2)
        planned = ask_at_once(3, "retry", "--reason", reason, "--json", job)
        require(sorted(p["samples"] for p in planned) == [0, 0, left], f"planned {planned}, expected {left} samples once")
        if not isinstance(doer, ByFleet):
            require(ask("retry", "--json", job)["samples"] == 0, "what waits to be tried again is not planned twice")
        require(doer.finish(job) == (3 if round == 0 else 0), f"round {round}: what was mended is done")
        left -= len(mended)
        check_books(job, output, catalog, 61 - left, left)
    after = digest_objects(output)
    for name, digest in before.items():
        if name.endswith(".tar"):
            require(after[name] == digest, f"{name} was written again")
    require(len(manifest(output)) == shards + 2, "two shards more")
    for stem in broken:
        require(record(output, stem) == record(whole, stem), f"{stem} is not what it is when it was never broken")
    require(catalog.rows("select count(*) from reinforce.samples where state = 3")[0][0] == len(broken) +
            len(broken) - len(broken) // 2, "each earlier try is remembered")
    costs = catalog.rows("select role, model, seconds, images, texts, tokens from reinforce.cost_by_model "
                         "order by role, model")
    require([row[:2] for row in costs] == [("captioner", "coca"), ("teacher", "gelu")], f"costs of {costs}")
    require(all(row[2] > 0 for row in costs) and costs[0][3:5] == (61, 122) and costs[0][5] > 0, f"costs are {costs}")
    require(costs[1][3:5] == (122, 183), f"a teacher sees two views and three captions of each: {costs}")
    return job


def load(output):
    """As the published trainers do."""
    loaded = subprocess.run([sys.executable, LOADER, output, "--reinforce", BINARY, "--samples", "3"],
                            capture_output=True, text=True)
    require(loaded.returncode == 0 and "61 of 61" in loaded.stdout,
            f"the trainer's loader: {loaded.stdout}\n{loaded.stderr}")


def extend(tmp, whole, catalog, doer, output):
    """A teacher is added; samples that were tried again get its embeddings like the others."""
    job = write_job(tmp / f"{output.name}.yaml", tmp / f"{output.name}-images", output,
                    catalog={"url": catalog.url}, workers=WORKERS, teachers=TEACHERS)
    require(doer.finish(job) == 0, "the job is extended")
    check_books(job, output, catalog, 61, 0)
    for path in sorted((tmp / "whole-images").glob("*.txt")):
        require(record(output, path.stem) == record(whole, path.stem), f"{path.stem} is not what one run gives")


def repair(job, catalog, doer, output):
    """A missing and two damaged shards, one of them a retry's, come back with the same bytes."""
    before, rows = digest_objects(output), catalog.rows("select uid, state from reinforce.samples order by 1, 2")
    tars = sorted(output.glob("*.tar"))
    tars[0].unlink()
    for tar in (tars[1], tars[-1]):
        body = bytearray(tar.read_bytes())
        body[len(body) // 2] ^= 1
        tar.write_bytes(body)
    require(reinforce("verify", output, check=None).returncode == 1, "verify sees it")
    found = ask_at_once(3, "repair", "--json", job)
    require(sum(f["shards"] for f in found) == 3 and len(found[0]["problems"]) >= 3, f"repair plans {found}")
    if not isinstance(doer, ByFleet):
        require(ask("status", "--json", job)["state"] == "running", "the job runs again")
    require(doer.finish(job) == 0, "the shards are made again")
    require(digest_objects(output) == before, "the bytes are the same")
    require(catalog.rows("select uid, state from reinforce.samples order by 1, 2") == rows, "and so are the rows")
    check_books(job, output, catalog, 61, 0)
    require("nothing to repair" in reinforce("repair", job).stdout, "all is well")
    (output / "manifest.jsonl").unlink()
    reinforce("repair", job)
    require(doer.finish(job) == 0, "nothing has to be made")
    require(digest_objects(output) == before, "the manifest is written again")


def wrong_books(catalog, output):
    """A sample without a state is found, by shard."""
    catalog.execute("delete from samples where shard = 1 and sample_index = 3")
    verdict = reinforce("verify", output, check=None)
    require(verdict.returncode == 1 and "accounts of shard 1" in verdict.stdout, f"verify says {verdict.stdout}")


def budget(tmp, catalog, output):
    """A job that fails too much pauses, says why, and goes on when told."""
    images = tmp / f"{output.name}-images"
    make_images(images, 61)
    job = write_job(tmp / f"{output.name}.yaml", images, output, name="budget",
                    budget={"failure_fraction": 0.05, "failure_window": 10}, catalog={"url": catalog.url})
    require(reinforce("run", job, check=None).returncode == 1, "stopped early")
    status = ask("status", "--json", job)
    require(status["state"] == "paused" and "undecodable" in status["note"], f"status says {status}")
    reinforce("run", job, check=(1, 3))


def steer(tmp, catalog, output):
    """What the commands do to a job, and that they agree about it."""
    images = tmp / "whole-images"
    job = write_job(tmp / f"{output.name}.yaml", images, output, name="steered", catalog={"url": catalog.url},
                    input={"shard_samples": 4})
    reinforce("submit", "--max-leases", 1, "--priority", 7, job)
    status = ask("status", "--json", job)
    require((status["state"], status["priority"], status["max_leases"]) == ("planning", 7, 1), f"status {status}")
    for command, state in [("pause", "paused"), ("pause", "paused"), ("resume", "planning"), ("cancel", "cancelled"),
                           ("resume", "planning")]:
        require(ask(command, "--json", job)["state"] == state, f"{command} leads to {state}")
    process = subprocess.Popen([BINARY, "run", str(job)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("work begins", lambda: ask("status", "--json", job)["samples"]["done"] > 0)
    require(ask("pause", "--json", job)["state"] == "paused", "a job is paused under a run")
    wait_for("what was begun is finished", lambda: ask("status", "--json", job)["shards"]["leased"] == 0)
    shards = ask("status", "--json", job)["shards"]
    time.sleep(1.5)  # as long as a worker waits before it asks again, and more
    require(ask("status", "--json", job)["shards"] == shards, "nothing is begun while it is paused")
    require(shards["done"] < shards["total"] and process.poll() is None, f"the run waits: {shards}")
    reinforce("resume", job)
    require(process.wait(timeout=DEADLINE_S) == 0, "and ends when it may go on")
    require(reinforce("pause", job, check=None).returncode == 1, "a done job cannot be paused")
    require(ask("status", "--json", job)["state"] == "done", "the job is done")
    require(ask("workers", "--json", job) == [], "nobody works")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "whole-images", 61, broken=False)
    for name, teachers in [("half", TEACHERS[:1]), ("whole", TEACHERS)]:
        reinforce("run", write_job(tmp / f"{name}.yaml", tmp / "whole-images", tmp / name, teachers=teachers), check=(0,))
    for kind, make in [("sqlite", Sqlite), ("postgres", lambda output: Postgres(output.name))]:
        for how, Doer in [("run", ByRun), ("killed", ByKilledRun), ("fleet", ByFleet)]:
            output = tmp / f"{kind}_{how}"
            catalog = make(output)
            with contextlib.ExitStack() as stack:
                doer = Doer(catalog)
                if how == "fleet":
                    stack.callback(doer.close)
                job = retry(tmp, tmp / "half", catalog, doer, output)
                repair(job, catalog, doer, output)
                load(output)
                extend(tmp, tmp / "whole", catalog, doer, output)
                repair(job, catalog, doer, output)
                load(output)
            wrong_books(catalog, output)
            print(f"{kind}, by {how}: each of 61 samples in one state through retry, repair and extension")
        for test in (budget, steer):
            output = tmp / f"{kind}_{test.__name__}"
            test(tmp, make(output), output)
