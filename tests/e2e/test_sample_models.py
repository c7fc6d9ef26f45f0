"""The sample models mean something: a design none of them has seen, emoji of Noto Color Emoji, is named rightly.

Zero-shot top-1 of every teacher over all names of the quickstart's images, and true pairs against others. Model cards say
what the models reach on the whole held-out design; here the bar is lower, for the images differ a little.
"""
import pathlib
import subprocess
import tempfile

import numpy as np

from harness import ROOT, reinforce, require

SAMPLES = ROOT / "build" / "sample-images"
TEACHERS = {"clip-a": 0.7, "clip-b": 0.6}

subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))
names = [p.with_suffix(".txt").read_text() for p in images]
require(len(set(names)) >= 500, f"{len(set(names))} names")

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    (tmp / "names").write_text("\n".join(names) + "\n")
    for teacher, least in TEACHERS.items():
        reinforce("embed", "--model", ROOT / "deploy" / "models" / teacher, "--images", *images, "--texts-file", tmp / "names",
                  "--out", tmp / "out.npz")
        rows = np.load(tmp / "out.npz")
        similarity = rows["image_emb"] @ rows["text_emb"].T
        true = similarity.diagonal()
        right = float((similarity.argmax(1) == np.arange(len(images))).mean())
        above = float((similarity < true[:, None]).sum(1).mean()) / (len(images) - 1)
        print(f"{teacher}: top-1 {right:.3f} over {len(names)} names; a true pair is above {above:.4f} of the others")
        require(right > least, f"{teacher} names {right:.3f} of the images rightly")
        require(above > 0.97, f"{teacher}: true pairs are above {above:.4f} of the others")
