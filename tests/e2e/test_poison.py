"""Images that kill the process are found and quarantined, and all else is as if they were not there: in one process that is
begun again whenever it has died, and in a fleet. Checklist: DR 39.

CRASH_LIBRARY is tests/support/crash_on_image.c, built.
"""
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

from PIL import Image

from harness import BINARY, digest_objects, dump_catalog, make_images, reinforce, require, write_job

WIDTH = 233  # others are narrower
POISON = ("image-0012", "image-0033", "image-0036")  # the last two have no other JPEG between them
WORKERS = {"count": 2, "threads": 1, "part_samples": 4, "queue_items": 8, "lease": "1s"}
DEATHS_OF_ONE = 6  # 1 unaware, then 4, 2, 1 samples at a time, and twice alone
DEADLINE_S = 240
CRASHING = {**os.environ, "LD_PRELOAD": os.environ["CRASH_LIBRARY"], "CRASH_WIDTH": str(WIDTH)}


def check(want, out, deaths, where):
    got = digest_objects(out), dump_catalog(out.parent if (out.parent / "catalog.sqlite").exists() else out)
    for name in sorted(n for n in want[0] if n.endswith(".tar")):
        require(want[0][name] == got[0].get(name), f"{where}: {name} differs")
    for table in ("captions", "scores"):
        require(want[1][table] == got[1][table], f"{where}: table {table} differs")
    reasons = [row for row in got[1]["samples"] if "crashed_worker" in row]
    require(sorted(uid for row in reasons for uid in row if uid in POISON) == sorted(POISON),
            f"{where}: these are named, and no others: {reasons}")
    require(deaths <= DEATHS_OF_ONE * len(POISON), f"{where}: {deaths} deaths")
    require(reinforce("verify", out).returncode == 0, f"{where}: verify agrees")
    print(f"{where}: {len(POISON)} images found after {deaths} deaths")


def in_one_process(tmp, want):
    job = write_job(tmp / "one.yaml", tmp / "images", tmp / "one", workers=WORKERS)
    deaths = 0
    while (code := reinforce("run", job, check=None, env=CRASHING).returncode) < 0:
        deaths += 1
        require(deaths < 100, "one process: it dies for ever")
    require(code == 3, f"one process: exit code {code}")
    check(want, tmp / "one", deaths, "one process")


def in_a_fleet(tmp, want):
    folder = tmp / "fleet"
    folder.mkdir()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{s.getsockname()[1]}"
    catalog = f"sqlite:{folder}/catalog.sqlite"
    job = write_job(folder / "job.yaml", tmp / "images", folder / "out", catalog={"url": catalog}, workers=WORKERS)
    reinforce("submit", job)
    logs = open(folder / "log", "wb")

    def start(*args, env=None):
        return subprocess.Popen([BINARY, *args], stdout=logs, stderr=subprocess.STDOUT, env=env)

    def worker():
        return start("worker", "--coordinator", address, "--count", "1", env=CRASHING)

    coordinator = start("coordinator", "--catalog", catalog, "--bind", address)
    workers = [worker(), worker()]
    deaths, deadline = 0, time.monotonic() + DEADLINE_S
    try:
        while json.loads(reinforce("status", "--catalog", catalog, "--json", "e2e").stdout)["state"] != "done":
            for i, process in enumerate(workers):
                if process.poll() is not None:
                    deaths += 1
                    workers[i] = worker()
            if time.monotonic() > deadline:
                require(False, f"fleet: not done after {deaths} deaths\n{(folder / 'log').read_text()[-4000:]}")
            time.sleep(0.1)
    finally:
        for process in [coordinator, *workers]:
            process.kill()
            process.wait()
    check(want, folder / "out", deaths, "fleet")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 50)
    bodies = {}
    for name in POISON:
        path = tmp / f"images/{name}.jpg"
        Image.open(path).resize((WIDTH, 90)).save(path)
        bodies[path] = path.read_bytes()
        path.write_bytes(bodies[path][:60])
    reinforce("run", write_job(tmp / "whole.yaml", tmp / "images", tmp / "whole", workers=WORKERS))
    want = digest_objects(tmp / "whole"), dump_catalog(tmp / "whole")
    for path, body in bodies.items():
        path.write_bytes(body)
    in_one_process(tmp, want)
    in_a_fleet(tmp, want)
