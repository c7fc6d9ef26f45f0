"""`dtype: auto` runs int8 where that keeps the fidelity, says so once, and stays with it: extended, resumed, in a fleet.

The job's bytes are those of the job that names the dtype. The record holds the figures.
"""
import json
import pathlib
import signal
import subprocess
import tempfile
import time

from fleet import WORKERS, Fleet, said, wait_for
from harness import BINARY, ROOT, digest_objects, make_images, reinforce, require, write_job

SAMPLE = ROOT / "deploy/models"
N = 45  # images, in shards of 20, every ninth broken


def job_of(path, out, teacher, captioner, **settings):
    """One teacher and one captioner of the sample models; `teacher` and `captioner` are their dtype keys."""
    settings = {"captioners": [{"name": "coca", "model": str(SAMPLE / "coca"), "max_tokens": 12, **captioner}],
                "teachers": [{"name": "clip-a", "model": str(SAMPLE / "clip-a"), **teacher}], **settings}
    return write_job(path, path.parent / "images", out, views={"count": 1}, **settings)


def models(out):
    record = json.loads((out / "_reinforce/models.json").read_text())
    return record["teachers"][0], record["captioners"][0]


def verdicts(out):
    return {path.name: path.read_text() for path in (out / "_reinforce/fidelity").iterdir()}


def same(a, b, what, differs=()):
    a, b = digest_objects(a), digest_objects(b)
    require(any(name.endswith(".tar") for name in a), "there are shards")
    for name in sorted((a.keys() | b.keys()) - set(differs)):
        require(a.get(name) == b.get(name), f"{what}: {name} differs")


def kill_midway(job, out):
    """A run that is killed after its first part."""
    with subprocess.Popen([BINARY, "run", job], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for("a part is written", lambda: list((out / "_reinforce/parts").glob("*")) or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
    require(process.returncode == -signal.SIGKILL, "the run ended before it was killed")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", N)
    begun = time.monotonic()

    # near enough, and not
    out = tmp / "auto"
    done = reinforce("run", job_of(tmp / "auto.yaml", out, {"dtype": "auto", "fidelity": 0.99},
                                   {"dtype": "auto", "fidelity": 1.0, "strategy": "greedy"}))
    teacher, captioner = models(out)
    require(teacher["weights_type"] == "I8" and teacher["fidelity"]["chosen"] == "int8", f"teacher: {teacher}")
    for of in ("images", "texts"):
        figures = teacher["fidelity"][of]
        require(figures["n"] == 18, f"{of}: the first shard has 18 images that can be decoded: {figures}")
        require(0.99 < figures["cosine_min"] <= figures["cosine_p01"] <= figures["cosine_mean"] < 1, f"{of}: {figures}")
    figures = captioner["fidelity"]["captions"]
    want = "int8" if figures["same"] == 1 else "float32"
    require(figures["n"] == 18 and captioner["fidelity"]["chosen"] == want, f"captioner: {captioner}")
    require("clip-a auto: int8, mean cosine 0.99" in done.stdout and "of 18 images" in done.stdout, f"run: {done.stdout}")
    require(f"coca auto: {want}, " in done.stdout, f"run: {done.stdout}")
    uid = json.loads(reinforce("inspect", out, "--json").stdout)[0]["uid"]
    (found,) = json.loads(reinforce("inspect", out, "--uid", uid, "--json").stdout)
    require(found["models"]["teachers"][0]["fidelity"] == teacher["fidelity"], "inspect shows the record")

    # extended: the teacher that is new is compared on the images of the output, the others stay what they are
    before = verdicts(out)
    first = {"name": "clip-a", "model": str(SAMPLE / "clip-a"), "dtype": "auto", "fidelity": 0.99}
    second = {"name": "clip-b", "model": str(SAMPLE / "clip-b"), "dtype": "auto", "fidelity": 0.99}
    log = reinforce("run", "-v", job_of(tmp / "auto.yaml", out, {}, {"dtype": "auto", "fidelity": 1.0, "strategy": "greedy"},
                                        teachers=[first, second])).stderr
    require(log.count("source=measured") == 1 and log.count("source=output") == 2, f"only one is new: {log}")
    require(before.items() <= verdicts(out).items(), "verdicts are not written again")
    both = json.loads((out / "_reinforce/models.json").read_text())["teachers"]
    require(both[0]["fidelity"] == teacher["fidelity"] and both[1]["fidelity"]["images"]["n"] == 18, f"teachers: {both}")

    strict = tmp / "strict"
    reinforce("run", job_of(tmp / "strict.yaml", strict, {"dtype": "auto", "fidelity": 1.0},
                            {"dtype": "auto", "fidelity": 0.01, "strategy": "greedy"}))
    teacher, captioner = models(strict)
    require(teacher["weights_type"] == "F32" and teacher["fidelity"]["chosen"] == "float32", f"teacher: {teacher}")
    require(captioner["weights_type"] == "I8" and captioner["fidelity"]["chosen"] == "int8", f"captioner: {captioner}")

    # the bytes of the job that names them
    named = tmp / "named"
    reinforce("run", job_of(tmp / "named.yaml", named, {"dtype": "float32"},
                            {"dtype": "int8", "fidelity": 1.0, "strategy": "greedy"}))
    same(strict, named, "named", differs=["manifest.jsonl"])  # which has the digest of the job
    teacher, captioner = models(named)
    require("fidelity" not in teacher, "nothing is compared unasked")
    require(captioner["fidelity"]["chosen"] == "int8", "what is asked beside a dtype is recorded")
    require(captioner["fidelity"]["captions"] == models(strict)[1]["fidelity"]["captions"], "the same figures")

    # resumed: what the output says is run, though the input would say otherwise by now
    cut = tmp / "cut"
    job = job_of(tmp / "cut.yaml", cut, {"dtype": "auto", "fidelity": 1.0},
                 {"dtype": "auto", "fidelity": 0.01, "strategy": "greedy"})
    kill_midway(job, cut)
    before = verdicts(cut)
    require(len(before) == 2, f"a verdict for each model: {before}")
    log = reinforce("run", "-v", job).stderr
    require(log.count("source=output") == 2 and "source=measured" not in log, f"nothing is measured again: {log}")
    require(verdicts(cut) == before, "verdicts are not written again")
    same(strict, cut, "resumed")

    # two workers at once
    fleet_out = tmp / "fleet/out"
    (tmp / "fleet").mkdir()
    reinforce("keys", "new", tmp / "keys")
    catalog = f"sqlite:{tmp}/fleet/catalog.sqlite"
    job = job_of(tmp / "fleet.yaml", fleet_out, {"dtype": "auto", "fidelity": 1.0},
                 {"dtype": "auto", "fidelity": 0.01, "strategy": "greedy"}, catalog={"url": catalog}, workers=WORKERS)
    with Fleet(tmp / "fleet/logs", catalog, tmp / "keys") as fleet:
        coordinator = fleet.coordinator()
        wait_for("the coordinator serves", lambda: said(coordinator, "serving at"))
        workers = [fleet.worker() for _ in range(2)]
        wait_for("both workers are there", lambda: coordinator.log.read_text().count("worker_joined") == 2)
        reinforce("submit", job)
        wait_for("the job is done", lambda: fleet.status("e2e")["state"] == "done")
        for worker in workers:
            require(said(worker, "name=\"clip-a\" dtype=float32"), f"a worker runs another form: {worker.log.read_text()}")
            require(said(worker, "name=\"coca\" dtype=int8"), f"a worker runs another form: {worker.log.read_text()}")
        fleet.stop()
    same(strict, fleet_out, "fleet")
    require(sorted(verdicts(fleet_out).values()) == sorted(verdicts(strict).values()), "the fleet's verdicts are the run's")
    print(f"auto = what it chose, resumed and in a fleet ({time.monotonic() - begun:.1f} s)")
