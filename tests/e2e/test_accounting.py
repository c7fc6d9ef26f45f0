"""Every sample ends in one state: retries, repairs, budgets and what `status` says of them, on SQLite and on Postgres.

Run by tests/support/postgres.sh, which starts the servers.
"""
import json
import os
import pathlib
import subprocess
import tempfile

from harness import digest_objects, make_images, psql, reinforce, require, write_job


class Sqlite:
    """The catalog beside the output."""

    def __init__(self, output):
        self.settings = {}
        self.path = output / "catalog.sqlite"

    def rows(self, sql):
        import sqlite3
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        rows = db.execute(sql.replace("reinforce.", "")).fetchall()
        db.close()
        return rows


class Postgres:
    """A database of its own."""

    def __init__(self, database):
        subprocess.run(["createdb", database], check=True)
        self.database = database
        url = f"{os.environ['POSTGRES_URL']}/{database}"
        self.settings = {"catalog": {"url": url}}
        reinforce("db", "migrate", "--catalog", url)

    def rows(self, sql):
        text = psql(self.database, f"select row_to_json(t) from ({sql}) t")
        return [tuple(json.loads(line).values()) for line in text.splitlines()]


def ask(*args):
    return json.loads(reinforce(*args, check=(0, 1)).stdout)


def manifest(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def check_books(job, output, catalog, done, quarantined):
    """status, the views, the manifest, the trainer's sizes and verify all say the same."""
    status = ask("status", "--json", job)
    require(status["samples"] == {"done": done, "quarantined": quarantined}, f"status says {status['samples']}")
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


def retry(tmp, whole, catalog, output):
    """Broken files are mended one half at a time; what was good is not touched."""
    images = tmp / f"{output.name}-images"
    make_images(images, 61)
    good = tmp / "whole-images"
    broken = sorted(p.stem for p in images.iterdir() if p.suffix != ".txt" and
                    p.read_bytes() != (good / p.name).read_bytes())
    job = write_job(tmp / f"{output.name}.yaml", images, output, **catalog.settings)
    require(reinforce("run", job).returncode == 3, "broken samples are quarantined")
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
        planned = ask("retry", "--reason", reason, "--json", job)
        left = len(broken) - round * (len(broken) // 2)
        require((planned["samples"], planned["shards"]) == (left, 1), f"planned {planned}, expected {left} samples")
        require(ask("retry", "--json", job)["samples"] == 0, "what waits to be tried again is not planned twice")
        done = reinforce("run", job)
        require(done.returncode == (3 if round == 0 else 0), f"round {round} exits {done.returncode}: {done.stdout}")
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
    require([row[:2] for row in costs] == [("captioner", "coca"), ("teacher", "gelu"), ("teacher", "quick")],
            f"costs of {costs}")
    require(all(row[2] > 0 for row in costs) and costs[0][3:5] == (61, 122) and costs[0][5] > 0, f"costs are {costs}")
    require(costs[1][3:5] == (122, 183), f"a teacher sees two views and three captions of each: {costs}")
    return job


def repair(tmp, job, catalog, output):
    """A missing and two damaged shards, one of them a retry's, come back with the same bytes."""
    before, rows = digest_objects(output), catalog.rows("select uid, state from reinforce.samples order by 1, 2")
    tars = sorted(output.glob("*.tar"))
    tars[0].unlink()
    for tar in (tars[1], tars[-1]):
        body = bytearray(tar.read_bytes())
        body[len(body) // 2] ^= 1
        tar.write_bytes(body)
    require(reinforce("verify", output, check=None).returncode == 1, "verify sees it")
    found = ask("repair", "--json", job)
    require(found["shards"] == 3 and len(found["problems"]) >= 3, f"repair plans {found}")
    require(ask("status", "--json", job)["state"] == "running", "the job runs again")
    reinforce("run", job, check=(0,))
    require(digest_objects(output) == before, "the bytes are the same")
    require(catalog.rows("select uid, state from reinforce.samples order by 1, 2") == rows, "and so are the rows")
    check_books(job, output, catalog, 61, 0)
    require("nothing to repair" in reinforce("repair", job).stdout, "all is well")
    (output / "manifest.jsonl").unlink()
    reinforce("repair", job)
    reinforce("run", job, check=(0,))
    require(digest_objects(output) == before, "the manifest is written again")


def wrong_books(tmp, job, catalog, output):
    """A sample without a state is found, by shard."""
    if isinstance(catalog, Sqlite):
        import sqlite3
        db = sqlite3.connect(catalog.path)
        db.execute("delete from samples where shard = 1 and sample_index = 3")
        db.commit()
        db.close()
    else:
        psql(catalog.database, "delete from reinforce.samples where shard = 1 and sample_index = 3")
    verdict = reinforce("verify", output, check=None)
    require(verdict.returncode == 1 and "accounts of shard 1" in verdict.stdout, f"verify says {verdict.stdout}")


def budget(tmp, catalog, output):
    """A job that fails too much pauses, says why, and goes on when told."""
    images = tmp / f"{output.name}-images"
    make_images(images, 61)
    job = write_job(tmp / f"{output.name}.yaml", images, output, name="budget",
                    budget={"failure_fraction": 0.05, "failure_window": 10}, **catalog.settings)
    require(reinforce("run", job, check=None).returncode == 1, "stopped early")
    status = ask("status", "--json", job)
    require(status["state"] == "paused" and "undecodable" in status["note"], f"status says {status}")
    reinforce("run", job, check=(1, 3))


def steer(tmp, catalog, output):
    """What the commands do to a job, and that they agree about it."""
    images = tmp / "whole-images"
    job = write_job(tmp / f"{output.name}.yaml", images, output, name="steered", **catalog.settings)
    reinforce("submit", "--max-leases", 1, "--priority", 7, job)
    status = ask("status", "--json", job)
    require((status["state"], status["priority"], status["max_leases"]) == ("planning", 7, 1), f"status {status}")
    for command, state in [("pause", "paused"), ("pause", "paused"), ("resume", "planning"), ("cancel", "cancelled"),
                           ("resume", "planning")]:
        require(ask(command, "--json", job)["state"] == state, f"{command} leads to {state}")
    reinforce("run", job, check=(0,))
    require(reinforce("pause", job, check=None).returncode == 1, "a done job cannot be paused")
    require(ask("status", "--json", job)["state"] == "done", "the job is done")
    require(ask("workers", "--json", job) == [], "nobody works")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "whole-images", 61, broken=False)
    reinforce("run", write_job(tmp / "whole.yaml", tmp / "whole-images", tmp / "whole"), check=(0,))
    for kind, make in [("sqlite", Sqlite), ("postgres", lambda output: Postgres(output.name))]:
        output = tmp / f"{kind}_retry"
        catalog = make(output)
        job = retry(tmp, tmp / "whole", catalog, output)
        repair(tmp, job, catalog, output)
        wrong_books(tmp, job, catalog, output)
        for test in (budget, steer):
            output = tmp / f"{kind}_{test.__name__}"
            test(tmp, make(output), output)
        print(f"{kind}: each of 61 samples in one state through retry, repair, budget and steering")
