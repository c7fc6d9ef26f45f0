"""Curation prefers what can be learned: true pairs that a weak learner gets wrong, before those it knows and before wrong captions.

The reference is clip-a; the learner is clip-b with noise on its weights, as a model early in its training, which knows some
of the names. A quarter of the captions are another image's. The other two criteria show why it takes both models: what is
easy for the reference alone is what the learner knows too, and what is hard for the learner alone is what is wrong.
"""
import io
import json
import pathlib
import shutil
import struct
import subprocess
import tarfile
import tempfile

import numpy as np

from harness import ROOT, reinforce, require, write_job

SAMPLES = ROOT / "build" / "sample-images"
MODELS = ROOT / "deploy" / "models"
COUNT, EVERY, NOISE = 226, 4, 0.4
SCALE, BIAS = 30, -17  # of the sigmoid's logits; clip-a and clip-b were trained with a softmax
UNUSED = {"easy_reference": "learner", "hard_learner": "reference"}


def weakened(source, target, rng):
    """A snapshot whose matrices have noise of NOISE times their own spread."""
    shutil.copytree(source, target)
    path = target / "open_clip_model.safetensors"
    body = bytearray(path.read_bytes())
    begin = 8 + struct.unpack("<Q", body[:8])[0]
    for name, about in json.loads(body[8:begin]).items():
        if name != "__metadata__" and len(about["shape"]) > 1:
            place = slice(*(begin + offset for offset in about["data_offsets"]))
            weight = (np.frombuffer(body[place], "<u2").astype(np.uint32) << 16).view(np.float32)  # bfloat16
            weight = weight + rng.normal(0, NOISE * weight.std(), weight.shape).astype(np.float32)
            body[place] = (weight.view(np.uint32) >> 16).astype("<u2").tobytes()
    path.write_bytes(body)


def make_input(folder):
    """Images and captions; returns the names of those whose caption is another's."""
    subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
    images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))
    images = images[:: len(images) // COUNT][:COUNT]
    folder.mkdir()
    for path in images:
        shutil.copy(path, folder)
        shutil.copy(path.with_suffix(".txt"), folder)
    swapped = images[::EVERY]
    for path, told in zip(swapped, swapped[1:] + swapped[:1]):
        shutil.copy(told.with_suffix(".txt"), folder / path.with_suffix(".txt").name)
    return {path.stem for path in swapped}


def read_rows(dataset):
    """Keys in the order of the dataset, and the learner's similarity of every image with every caption."""
    keys, image, text = [], [], []
    for shard in sorted(dataset.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".npz"):
                    rows = np.load(io.BytesIO(tar.extractfile(member).read()))
                    keys.append(member.name.split(".")[0])
                    image.append(rows["image_emb"][0, :WIDTH])
                    text.append(rows["text_emb"][0, :WIDTH])
    return keys, np.array(image) @ np.array(text).T


WIDTH = json.loads((MODELS / "clip-b" / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"]

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    swapped = make_input(tmp / "in")
    weakened(MODELS / "clip-b", tmp / "weak", np.random.default_rng(0))
    reinforce("run", write_job(tmp / "job.yaml", tmp / "in", tmp / "out", input={"shard_samples": 120},
                               views={"count": 1, "scale_min": 1.0, "rand_augment": False}, captioners=[],
                               teachers=[{"name": "learner", "model": str(tmp / "weak")},
                                         {"name": "reference", "model": str(MODELS / "clip-a")}],
                               workers={"part_samples": 60}), check=(0,))
    keys, similarity = read_rows(tmp / "out")
    wrong = np.array([key in swapped for key in keys])
    known = ~wrong & (similarity.argmax(1) == np.arange(len(keys)))
    kinds = {"learnable": ~wrong & ~known, "known": known, "wrong": wrong}
    print(", ".join(f"{own.sum()} {kind}" for kind, own in kinds.items()))
    require(all(own.sum() > 40 for own in kinds.values()), "too few of a kind")

    def kept(criterion):
        """{kind: its share of what is kept / its share of the super-batch}"""
        select = {"keep": 0.5, "super_batch": len(keys), "chunks": 8, "top_k": True, "criterion": criterion}
        for role in ("learner", "reference"):
            if role not in UNUSED.get(criterion, ""):
                select.update({role: role, role + "_scale": SCALE, role + "_bias": BIAS})
        job = {"dataset": {"url": str(tmp / "out")}, "output": {"url": str(tmp / criterion)}, "select": select}
        (tmp / "curate.yaml").write_text(json.dumps(job))
        reinforce("curate", tmp / "curate.yaml", check=(0,))
        dropped = {json.loads(line)["uid"] for line in (tmp / criterion / "drops.jsonl").read_text().splitlines()}
        stay = np.array([key not in dropped for key in keys])
        shares = {kind: float(stay[own].mean() / stay.mean()) for kind, own in kinds.items()}
        print(f"{criterion} keeps, against a draw by lot: " + ", ".join(f"{kind} {share:.2f}" for kind, share in shares.items()))
        return shares

    shares = kept("learnability")
    require(shares["learnable"] > 1.4, "pairs that the learner gets wrong and the reference right are not preferred")
    require(shares["known"] < 0.9 and shares["wrong"] < 0.6, "what is known or wrong is not left")
    require(kept("easy_reference")["known"] > 1.4, "what is easy for the reference is not what is known")
    require(kept("hard_learner")["wrong"] > 1.4, "what is hard for the learner is not what is wrong")
