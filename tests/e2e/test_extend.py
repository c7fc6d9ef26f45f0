"""Adding a captioner or a teacher to a finished job computes only what is missing, and gives the bytes of a fresh run.

Checklist: DR 28.
"""
import json
import pathlib
import sqlite3
import tempfile

from harness import MODELS, digest_objects, dump_catalog, make_images, reinforce, require, write_job

SECOND = {"name": "greedy", "model": str(MODELS / "coca_small"), "column": "syn_text_greedy", "count": 1,
          "strategy": "greedy"}
FIRST = {"name": "coca", "model": str(MODELS / "coca_small"), "count": 2}
TEACHERS = [{"name": "gelu", "model": str(MODELS / "clip_gelu")},
            {"name": "quick", "model": str(MODELS / "clip_quickgelu")}]

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 30)
    fresh = write_job(tmp / "fresh.yaml", tmp / "images", tmp / "fresh", captioners=[FIRST, SECOND],
                      teachers=TEACHERS)
    reinforce("run", fresh)

    grown = tmp / "grown"
    reinforce("run", write_job(tmp / "a.yaml", tmp / "images", grown, captioners=[FIRST], teachers=TEACHERS[:1]))
    before = dump_catalog(grown)
    done = reinforce("run", write_job(tmp / "b.yaml", tmp / "images", grown, captioners=[FIRST],
                                      teachers=TEACHERS))
    require("captions 0" in done.stdout, f"no caption is made again: {done.stdout}")
    reinforce("run", write_job(tmp / "c.yaml", tmp / "images", grown, captioners=[FIRST, SECOND],
                               teachers=TEACHERS))

    # a job begun by a build that knew fewer keys: what it did not know has its default now
    db = sqlite3.connect(grown / "catalog.sqlite")
    config = json.loads(db.execute("select config from jobs").fetchone()[0])
    for captioner in config["captioners"]:
        del captioner["image_quality"]
    db.execute("update jobs set config = ?, config_digest = ?", (json.dumps(config), "0" * 64))
    db.commit()
    db.close()
    again = reinforce("run", tmp / "c.yaml", check=(0, 3))
    require("nothing to do" in again.stdout, f"the same job under an older build: {again.stdout}")
    reinforce("verify", grown)

    a, b = digest_objects(tmp / "fresh"), digest_objects(grown)
    for name in sorted(set(a) | set(b)):
        require(a.get(name) == b.get(name), f"{name} differs from a fresh run's")
    require(dump_catalog(tmp / "fresh") == dump_catalog(grown), "the catalog differs from a fresh run's")
    require(len(before["samples"]) == 30, "every sample is accounted for before it grows")

    changed = reinforce("run", write_job(tmp / "d.yaml", tmp / "images", grown, seed=12, captioners=[FIRST, SECOND],
                                         teachers=TEACHERS), check=None)
    require(changed.returncode == 2 and "seed: 11 -> 12" in changed.stderr,
            f"a change of results is refused and named: {changed.returncode} {changed.stderr}")
    for file in grown.glob("catalog.sqlite*"):
        file.unlink()
    lost = reinforce("run", write_job(tmp / "e.yaml", tmp / "images", grown, captioners=[FIRST, SECOND],
                                      teachers=TEACHERS), check=None)
    require(lost.returncode == 1 and "does not know" in lost.stderr,
            f"an output whose catalog is lost is not written over: {lost.returncode} {lost.stderr}")
    print("extended = fresh")
