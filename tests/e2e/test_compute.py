"""`reinforce curator serve --compute`: references that no dataset has are computed on the spot.

Without a dataset the same batch is selected as with it, index by index, whatever is late, killed or broken on the way.
Needs what test_curator.py needs. Numbers are those of the specification's checklist.
"""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import numpy as np

from harness import BINARY, make_images, reinforce, require, write_job
from test_curator import Served, curator, make_curate, problem
from reinforce_curator import Curator, Embeddings, example_ids

N = 40
SLOW = ["--set", "views.count=40"]  # some 30 ms an example


class Corpus:
    """Images, a job of them that has been run, and what is selected with its dataset."""

    def __init__(self, folder):
        self.folder = folder
        make_images(folder / "in", N, broken=False)
        self.job = write_job(folder / "job.yaml", folder / "in", folder / "out", captioners=[])
        reinforce("run", self.job)
        self.uids = [f"image-{i:04d}" for i in range(N)]
        p = {**problem(0), "B": N, "b": N // 2, "D_L": 16, "copies": 0}
        self.learner = Embeddings(*make_curate.embeddings(p, "L"), p["scale_L"], p["bias_L"])
        self.dataset = ["--dataset", folder / "out", "--teacher", "quick", "--cache", folder / "cache"]
        with curator(*self.dataset, job="d") as client:
            self.want = self.ask(client, 1)

    def ask(self, client, super_batch, uids=None, n_selected=N // 2, **options):
        return client.select(uids or self.uids, n_selected, super_batch,
                             **{"learner": self.learner, "step": 3, "chunks": 4, "seed": 5, **options})

    def compute(self, cache, *more):
        return ["--compute", self.job, "--teacher", "quick", "--cache", cache, *more]

    def require_same(self, got, what):
        require(got.status == "ok" and got.index.tolist() == self.want.index.tolist()
                and np.array_equal(got.conditional, self.want.conditional), f"{what}: another batch, {got.status} {got.reason}")


def worker_of(served):
    """The pid of a curator's teacher, or None."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it is gone
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == served.process.pid and state != "Z":
                return int(stat.parent.name)
    return None


def until(condition, what):
    end = time.monotonic() + 60
    while not condition():
        require(time.monotonic() < end, f"not within a minute: {what}")
        time.sleep(0.02)


def the_batch_is_the_datasets(corpus, cache):
    """CURATE 26: cached or computed."""
    with curator(*corpus.compute(cache), "--log", cache / "log", "--log-inputs", job="d") as client:
        corpus.require_same(corpus.ask(client, 1), "computed")
        status = client.status()
        require((status.n_examples, status.n_rows_computed, status.n_rows_found) == (N, N, 0), f"{status}")
        corpus.require_same(corpus.ask(client, 2), "the next epoch")
        require(client.status().n_rows_found == N, "the next epoch was not found")
        printed = reinforce("curator", "status", client.served.address).stdout
        require(re.search(rf"^computed +{N}$", printed, re.M) and "computed a second" in printed, printed)
        own = client.probe(corpus.uids, corpus.learner, corpus.learner, 3, 3, 4)
        require(own.sigma == 0 and own.overlap == 1, "a probe")
    with curator(*corpus.compute(cache), job="d") as client:  # nothing is computed again
        corpus.require_same(corpus.ask(client, 1), "another day")
        require(client.status().n_rows_computed == 0, "what was there was computed again")
    replayed = reinforce("curator", "replay", *corpus.compute(cache), cache / "log")
    require(replayed.stdout.startswith("2 the same, 0 different"), replayed.stdout)


def tars_are_read_by_offset(corpus, cache):
    """The dataset's own shards as the input: another input, and another job's size of shards."""
    tars = ["--set", f"input.url={corpus.folder / 'out'}", "--set", "output.url=nowhere"]
    with curator(*corpus.compute(cache, *tars), job="d") as client:
        corpus.require_same(corpus.ask(client, 1), "from tars")


def a_dataset_is_completed(corpus, cache):
    """Half of the examples from a dataset, the others computed."""
    shutil.copytree(corpus.folder / "in", cache / "half", ignore=lambda _, names: [n for n in names if n >= "image-0020"])
    job = write_job(cache / "half.yaml", cache / "half", cache / "half-out", captioners=[])
    reinforce("run", job)
    args = corpus.compute(cache, "--dataset", cache / "half-out")
    with curator(*args, job="d") as client:
        got = corpus.ask(client, 1)
        corpus.require_same(got, "completed")
        require(re.fullmatch(r"quick@[0-9a-f]{16}\+[0-9a-f]{16}", got.message.reference_version), "the version")
        status = client.status()
        require((status.n_references, status.n_rows_computed, status.n_rows_found) == (N // 2, N // 2, N // 2), f"{status}")


def what_is_late_is_there_next_time(corpus, cache):
    """CURATE 22: half of a request's time is waited; training goes on, and so does the work."""
    with curator(*corpus.compute(cache, *SLOW), job="d") as client:
        began = time.monotonic()
        got = corpus.ask(client, 1, deadline_ms=200)
        took = time.monotonic() - began
        require(got.status == "fallback" and "have no reference" in got.reason, f"{got.status} {got.reason}")
        require(0.1 <= took < 1.2, f"it took {took:.2f} s")
        until(lambda: client.status().n_rows_computed == N, "the rest is computed")
        status = client.status()
        require(status.n_fallback_reference == 1 and 4 < status.n_rows_missing <= N and status.n_rows_wanted == 0, f"{status}")
        first = corpus.ask(client, 2, deadline_ms=60000)
        require(first.status == "ok", first.reason)
    return first


def trainers_beside_do_not_wait(corpus, cache):
    with curator(*corpus.compute(cache, *SLOW), job="d") as client:
        got = []
        thread = threading.Thread(target=lambda: got.append(corpus.ask(Curator(client.served.address, job="slow"), 1)))
        thread.start()
        until(lambda: client.status().n_waiting == 1, "a request that waits")
        beside = corpus.ask(client, 1, criterion="hard_learner")
        require(beside.status == "ok" and not got, "somebody with nothing to wait for waited")
        thread.join()
        require(got[0].status == "ok", got[0].reason)


def deaths_harm_nobody(corpus, cache, want):
    """The worker, and then the curator, die by SIGKILL in the middle; what was computed stays."""
    served = Served(*corpus.compute(cache, *SLOW))
    with Curator(served.address, job="d") as client:
        corpus.ask(client, 1, deadline_ms=100)
        until(lambda: client.status().n_rows_computed >= 4, "a few")
        os.kill(worker_of(served), signal.SIGKILL)
        got = corpus.ask(client, 2)  # with no deadline: it would wait for ever
        require(got.status in ("fallback", "partial"), got.status)
        until(lambda: client.status().n_teacher_deaths == 1, "the death is counted")
        until(lambda: worker_of(served) is not None, "another worker")
        corpus.ask(client, 3, deadline_ms=100)
        until(lambda: client.status().n_rows_computed >= 8, "some more")
        worker = worker_of(served)
        served.process.kill()
        served.process.wait()
        until(lambda: not pathlib.Path(f"/proc/{worker}").exists(), "the worker ends with its curator")
    with curator(*corpus.compute(cache, *SLOW), job="d") as client:
        got = corpus.ask(client, 1)
        require(got.status == "ok" and got.index.tolist() == want.index.tolist()
                and np.array_equal(got.conditional, want.conditional), "another batch after the deaths")
        status = client.status()
        require(status.n_rows_found >= 8 and status.n_rows_found + status.n_rows_computed == N, f"{status}")


def bad_images_cost_themselves(corpus, cache):
    """One in ten at most is left out; the same ones the next day, when nobody tries them again."""
    shutil.copytree(corpus.folder / "in", cache / "in")
    for i in (3, 30):
        path = next((cache / "in").glob(f"image-{i:04d}.[!t]*"))
        path.write_bytes(path.read_bytes()[:60])
    args = corpus.compute(cache, "--set", f"input.url={cache / 'in'}")
    seen = []
    for day, (bad, unknown) in enumerate(((2, 1), (0, 3))):
        with curator(*args, job="d") as client:
            got = corpus.ask(client, 1, uids=[*corpus.uids[:-1], "nobody"])
            require(got.status == "partial" and got.reason.startswith(f"3 of {N} examples have no reference"), got.reason)
            require(not {3, 30, N - 1} & set(got.index.tolist()), "what has no reference was selected")
            status = client.status()
            require((status.n_rows_bad, status.n_rows_unknown) == (bad, unknown), f"day {day}: {status}")
            seen.append(got.index.tolist())
    require(seen[0] == seen[1], "the same examples, another batch")


def errors_say_what_to_do(corpus, cache):
    for code, args, word in ((2, [], "say which of gelu, quick"),
                             (2, ["--teacher", "nobody"], 'no teacher "nobody", but gelu, quick'),
                             (2, ["--teacher", "quick", "--column", "syn_text"], "goes without --column"),
                             (1, ["--teacher", "quick", "--set", "input.url=nowhere"], "nowhere")):
        done = subprocess.run([BINARY, "curator", "serve", "--compute", str(corpus.job), "--cache", str(cache), *args],
                              capture_output=True, text=True)
        require(done.returncode == code and word in done.stderr, f"{args}: {done.returncode} {done.stderr}")
    done = subprocess.run([BINARY, "curator", "serve", "--set", "seed=1"], capture_output=True, text=True)
    require(done.returncode == 2 and "--compute" in done.stderr, done.stderr)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        corpus = Corpus(folder)
        slow = None
        for check in (the_batch_is_the_datasets, tars_are_read_by_offset, a_dataset_is_completed,
                      what_is_late_is_there_next_time, trainers_beside_do_not_wait, deaths_harm_nobody,
                      bad_images_cost_themselves, errors_say_what_to_do):
            began = time.monotonic()
            cache = folder / check.__name__
            cache.mkdir()
            result = check(corpus, cache, *([slow] if check is deaths_harm_nobody else []))
            slow = slow or result
            print(f"{check.__name__}: ok, {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
