"""The scores that a job stores find wrong captions: of the images of a design that no model has seen, a fifth carries
another's name, and those score low."""
import pathlib
import shutil
import sqlite3
import subprocess
import tempfile

import numpy as np

from harness import ROOT, reinforce, require, write_job

SAMPLES = ROOT / "build" / "sample-images"
EVERY = 5

subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    (tmp / "in").mkdir()
    names = {path.stem: path.with_suffix(".txt").read_text() for path in images}
    swapped = [path.stem for path in images][::EVERY]
    given = {**names, **{key: names[other] for key, other in zip(swapped, swapped[1:] + swapped[:1])}}
    for path in images:
        shutil.copy(path, tmp / "in")
        (tmp / "in" / f"{path.stem}.txt").write_text(given[path.stem])
    reinforce("run", write_job(tmp / "job.yaml", tmp / "in", tmp / "out", captioners=[],
                               teachers=[{"name": "clip-a", "model": str(ROOT / "deploy" / "models" / "clip-a")}],
                               workers={"part_samples": 50}), check=(0,))
    db = sqlite3.connect(f"file:{tmp}/out/catalog.sqlite?mode=ro", uri=True)
    rows = db.execute("select uid, cosine from scores join samples using (job, shard, sample_index) "
                      "where column_name = 'text' and teacher = 'clip-a'").fetchall()
    require(len(rows) == len(images), f"{len(rows)} scores for {len(images)} captions")
    wrong = np.array([given[key] != names[key] for key, _ in rows])
    score = np.array([cosine for _, cosine in rows])
    above = float((score[~wrong][:, None] > score[wrong][None]).mean())  # area under the ROC curve
    dropped = wrong[np.argsort(score)[:wrong.sum()]].mean()
    print(f"{wrong.sum()} of {len(rows)} captions are wrong; a right one scores above a wrong one in {above:.3f} of all pairs; "
          f"of as many with the lowest scores, {dropped:.3f} are wrong")
    require(above > 0.92, f"a right caption scores above a wrong one in {above:.3f} of all pairs")
    require(dropped > 0.7, f"{dropped:.3f} of the lowest scores are wrong captions")
