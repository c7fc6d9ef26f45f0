"""A whole job in every output format, and inputs of every kind: tar, JSONL plain and compressed, a pattern, a manifest.

A folder of images is reinforced into each format. Each output is the next job's input, whose samples must be the same:
images, captions, augmentation parameters and embeddings, whatever the format on the way. Checklist: DR 8, 11, 12; IN-3, IN-5.
"""
import base64
import gzip
import json
import pathlib
import pickle
import subprocess
import tempfile

import numpy as np
from harness import make_images, reinforce, require, write_job

FORMATS = {"webdataset": ".tar", "jsonl": ".jsonl", "jsonl.gz": ".jsonl.gz", "jsonl.zst": ".jsonl.zst"}


def lines(path):
    if path.suffix == ".gz":
        body = gzip.decompress(path.read_bytes())
    elif path.suffix == ".zst":
        body = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
    else:
        body = path.read_bytes()
    return [json.loads(line) for line in body.decode().splitlines()]


def embedding(text):
    return pickle.loads(gzip.decompress(base64.b64decode(text)))


def check_lines(out, extension, images):
    """Every record holds what the input had and what was added, in the form that Python reads."""
    records = [r for path in sorted(out.glob(f"0*{extension}")) for r in lines(path)]
    require(len(records) == 27, f"{out}: {len(records)} records of 30 images, 3 of them broken")
    for r in records:
        stored = next(images.glob(f"{r['uid']}.[jpw]*")).read_bytes()
        require(base64.b64decode(r["image"]) == stored, f"{r['uid']}: the image's own bytes")
        require(r["text"].startswith("picture number"), f"{r['uid']}: its caption")
        require(len(r["syn_text"]) == 2 and all(r["syn_text"]), f"{r['uid']}: two captions")
        require(len(r["param_aug"]) == 2, f"{r['uid']}: two views")
        for name, rows in (("image_emb", 2), ("text_emb", 1), ("syn_text_emb", 2)):
            array = embedding(r[name])
            require(array.dtype == np.float32 and array.shape[0] == rows, f"{r['uid']}: {name} {array.shape}")
    return {r["uid"]: r for r in records}


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 30)
    made = {}
    for name, extension in FORMATS.items():
        out = tmp / name
        done = reinforce("run", write_job(tmp / f"{name}.yaml", tmp / "images", out, output={"url": str(out), "format": name}))
        require(done.returncode == 3, "broken images are quarantined")
        reinforce("verify", out)
        shards = sorted(p.name for p in out.glob(f"0*{extension}"))
        require(shards == sorted(json.loads((out / "info.json").read_text())["lengths"]), f"{name}: info.json lists {shards}")
        uid = json.loads(reinforce("inspect", out, "--json").stdout)[0]["uid"]
        require(json.loads(reinforce("inspect", out, "--uid", uid, "--json").stdout)[0]["uid"] == uid, f"{name}: inspect {uid}")
        if name != "webdataset":
            made[name] = check_lines(out, extension, tmp / "images")
    require(made["jsonl"] == made["jsonl.gz"] == made["jsonl.zst"], "compression changes no record")

    # each of them as input: the same samples, so the same output, byte for byte
    inputs = {name: tmp / name for name in FORMATS}
    inputs["pattern"] = f"{tmp}/jsonl/{{00000000..00000001}}.jsonl"
    inputs["list"] = f"{tmp}/jsonl.gz/00000001.jsonl.gz::{tmp}/jsonl.gz/00000000.jsonl.gz"
    inputs["manifest"] = tmp / "webdataset" / "manifest.jsonl"
    bodies = {}
    for name, url in inputs.items():
        out = tmp / f"again-{name}"
        reinforce("run", write_job(tmp / f"again-{name}.yaml", url, out), check=(0,))
        bodies[name] = b"".join(p.read_bytes() for p in sorted(out.glob("0*.tar")))
        require(bodies[name] == bodies["webdataset"], f"{name}: the same samples, other bytes")

    done = reinforce("plan", write_job(tmp / "plan.yaml", inputs["pattern"], tmp / "planned"))
    for word in ("27 samples", "captioner coca", "teacher   gelu", "teacher   quick"):
        require(word in done.stdout, f"plan does not say \"{word}\":\n{done.stdout}")
    require(not (tmp / "planned").exists(), "plan writes nothing")
    print(f"{len(FORMATS)} output formats, {len(inputs)} inputs, the same samples")
