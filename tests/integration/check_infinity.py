#!/usr/bin/env python3
"""OpenAI's /embeddings with images, against a real server: Infinity, serving a tiny CLIP on the CPU.

    python3 -m venv VENV
    VENV/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu
    VENV/bin/pip install infinity-emb==0.0.77 transformers==4.49.0 'sentence-transformers<4' numpy pillow typer==0.12.5 \\
        click==8.1.8 fastapi uvicorn orjson prometheus-fastapi-instrumentator rich httptools posthog diskcache aiohttp soundfile
    VENV/bin/python tests/integration/check_infinity.py

A job with two teachers, the served model and the same snapshot in this engine, must store the same rows twice: views go to the
server as PNG of the model's size, so nothing but the towers is between them. Run by hand: the server wants torch 2, which is too
much for a test run (Debian 12 has 1.13). Seen with these versions: rows within 1e-6.
"""
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import MODELS, make_images, reinforce, require, write_job  # noqa: E402

PORT, WAIT_S, TOLERANCE = 18380, 180, 1e-5
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def make_snapshot(folder):
    """clip_hf with the two files that transformers wants besides."""
    shutil.copytree(MODELS / "clip_hf", folder)
    config = json.loads((folder / "config.json").read_text())
    size = config["vision_config"]["image_size"]
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size},
        "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": MEAN, "image_std": STD, "resample": 3, "rescale_factor": 1 / 255}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}))
    return size, config["projection_dim"]


def wait_for(process, url, log):
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"infinity does not serve:\n{log.read_text()[-4000:]}")
            time.sleep(0.2)


def compare(out, dim):
    worst = {}
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.name.endswith(".npz"):
                    continue
                for name, rows in np.load(io.BytesIO(tar.extractfile(member).read())).items():
                    require(rows.shape[1] == 2 * dim, f"{member.name}: {name} is {rows.shape}")
                    worst[name] = max(worst.get(name, 0), float(abs(rows[:, :dim] - rows[:, dim:]).max()))
    require(worst and max(worst.values()) < TOLERANCE, f"served and local rows differ: {worst}")
    return worst


def main():
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        size, dim = make_snapshot(tmp / "clip")
        make_images(tmp / "images", 40, broken=False)
        log = tmp / "log"
        command = [pathlib.Path(sys.executable).parent / "infinity_emb", "v2", "--model-id", tmp / "clip", "--served-model-name", "tiny",
                   "--engine", "torch", "--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", PORT, "--no-model-warmup",
                   "--no-bettertransformer"]
        quiet = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        with open(log, "wb") as out:
            server = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, env={**os.environ, **quiet})
        try:
            wait_for(server, f"http://127.0.0.1:{PORT}/models", log)
            served = {"name": "served", "model": "tiny", "protocol": "openai", "server": f"http://127.0.0.1:{PORT}", "dim": dim, "image_size": size}
            job = write_job(tmp / "job.yaml", tmp / "images", tmp / "out", captioners=[],
                            teachers=[served, {"name": "local", "model": str(tmp / "clip")}], views={"count": 3})
            reinforce("run", job, check=(0,))
            worst = compare(tmp / "out", dim)
        finally:
            server.kill()
            server.wait()
    print("; ".join(f"{name} within {difference:.1e}" for name, difference in sorted(worst.items())))


main()
