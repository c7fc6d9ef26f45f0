"""The curator's learnability keeps wrong captions out of training: bench/train/learnability.py in small.

Images of a design that the teacher has not seen; 40 % of the captions are wrong. Which pairs are selected is asserted, what is
learned from them is not: these are ten batches.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from harness import BINARY, ROOT, require, train

sys.path.append(str(ROOT / "bench" / "train"))
from corpus import on_white, write_shards  # noqa: E402

SAMPLES = ROOT / "build" / "sample-images"
PAIRS, STEPS = 160, 10

subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))[::3]
with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    (tmp / "emoji").mkdir()
    samples = [(p.stem, on_white(p.read_bytes(), 64),
                {"label": p.with_suffix(".txt").read_text(), "hexcode": p.stem, "group": 3}) for p in images]
    for part in ("train", "held-out"):
        write_shards(tmp / "emoji", part, samples)
    train("learnability.py", tmp / "emoji", tmp / "out", "--reinforce", BINARY, "--pairs", PAIRS, "--steps", STEPS, "--seeds", 1,
          "--only", "uniform", "learnability, half")
    lines = map(json.loads, (tmp / "out" / "results.jsonl").read_text().splitlines())
    runs = {line["run"]: line["curve"] for line in lines}
    noisy = [look["shares"]["noisy"] for look in runs["learnability, half"]]
    print(f"of the selected pairs these are noisy, over time, where 0.4 of all are: {noisy}")
    require(max(noisy) < 0.3 and sum(noisy) / len(noisy) < 0.2, f"noisy pairs selected: {noisy}")
