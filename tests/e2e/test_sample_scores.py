"""Captions and scores mean something, on images of a design that no sample model has seen.

Synthetic captions name what is drawn, the better ones score higher, and wrong captions score low: a fifth of the images carries
another's name.
"""
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
    models = ROOT / "deploy" / "models"
    reinforce("run", write_job(tmp / "job.yaml", tmp / "in", tmp / "out", views={"scale_min": 0.4},
                               captioners=[{"name": "coca", "model": str(models / "coca"), "strategy": "greedy", "max_tokens": 23}],
                               teachers=[{"name": name, "model": str(models / name)} for name in ("clip-a", "clip-b")],
                               workers={"part_samples": 50}), check=(0,))
    db = sqlite3.connect(f"file:{tmp}/out/catalog.sqlite?mode=ro", uri=True)
    rows = db.execute("select uid, column_name, caption, mean_cosine from captions_by_sample").fetchall()

wrong = {row[0]: given[row[0]] != names[row[0]] for row in rows}
real = sorted((cosine, wrong[uid]) for uid, column, _, cosine in rows if column == "text")
require(len(real) == len(images), f"{len(real)} scores for {len(images)} captions")
low, high = (np.array([cosine for cosine, is_wrong in real if is_wrong == which]) for which in (True, False))
above = float((high[:, None] > low[None]).mean())  # area under the ROC curve
dropped = float(np.mean([is_wrong for _, is_wrong in real[:len(low)]]))
print(f"{len(low)} of {len(real)} captions are wrong; a right one scores above a wrong one in {above:.3f} of all pairs; of as many "
      f"with the lowest scores, {dropped:.3f} are wrong")
require(above > 0.95, f"a right caption scores above a wrong one in {above:.3f} of all pairs")
require(dropped > 0.75, f"{dropped:.3f} of the lowest scores are wrong captions")

letters = lambda text: "".join(c for c in text.lower() if c.isalnum())
made = sorted(((cosine, letters(names[uid]) in letters(caption)) for uid, column, caption, cosine in rows if column == "syn_text"),
              reverse=True)
named, best = (float(np.mean([is_right for _, is_right in made[:n]])) for n in (len(made), 100))
print(f"{named:.3f} of {len(made)} synthetic captions name the image; {best:.3f} of the 100 with the highest scores")
require(named > 0.5, f"{named:.3f} of the captions name their image")
require(best > 0.75, f"{best:.3f} of the best captions name their image")
