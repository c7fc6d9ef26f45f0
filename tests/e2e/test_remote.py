"""Models served by real servers on this machine: llama.cpp (OpenAI's protocol), MLServer and Triton (Open Inference Protocol v2).

They live in build/served-venv and build/triton-venv, which tests/run.sh makes; without the first the test is skipped, without the
other Triton is left out. Captions and embeddings that come
back are compared with what the models must say; what cannot work is refused before any sample.
"""
import contextlib
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np
from PIL import Image

from harness import BINARY, MODELS, ROOT, dump_catalog, reinforce, require, write_job

SERVED = ROOT / "tests/e2e/served"
PYTHON = ROOT / "build/served-venv/bin/python"
TRITON_PYTHON = ROOT / "build/triton-venv/bin/python"
sys.path.insert(0, str(SERVED / "clip"))
import clip_math  # noqa: E402

SKIPPED = 77
TOKEN = "secret of the test"
WAIT_S = 120


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def served(args, ready, log, **kwargs):
    """A server as a process, from when it answers `ready` until the block ends."""
    with open(log, "wb") as out:
        process = subprocess.Popen(list(map(str, args)), stdout=out, stderr=out, **kwargs)
        try:
            deadline = time.monotonic() + WAIT_S
            while True:
                try:
                    urllib.request.urlopen(urllib.request.Request(ready, headers={"Authorization": f"Bearer {TOKEN}"}), timeout=5)
                    break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None or time.monotonic() > deadline:
                        sys.exit(f"{args} does not serve:\n{log.read_text()[-4000:]}")
                    time.sleep(0.1)
            yield process
        finally:
            process.kill()
            process.wait()


def llama(kind, tmp, port):
    return served([PYTHON, SERVED / "llama_server.py", kind, tmp / "gguf", port], f"http://127.0.0.1:{port}/v1/models", tmp / f"{kind}.log")


def mlserver(tmp, port, sleep_s=0):
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 0}
    env = {**os.environ, **{f"MLSERVER_{k.upper()}": str(v) for k, v in settings.items()}, "TINY_CLIP_SLEEP_S": str(sleep_s)}
    return served([PYTHON.parent / "mlserver", "start", SERVED / "clip"], f"http://127.0.0.1:{port}/v2/models/tiny-clip/ready", tmp / "mlserver.log",
                  env=env, cwd=tmp)


def triton(tmp, port):
    return served([TRITON_PYTHON, SERVED / "triton_server.py", port, tmp / "triton"], f"http://127.0.0.1:{port}/v2/models/tiny-clip-text/ready",
                  tmp / "triton.log")


def make_corpus(folder, n):
    """Pictures as large as the views, which are then the pictures themselves; one text that the server refuses."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    for i in range(n):
        picture = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((clip_math.SIZE,) * 2, Image.BICUBIC)
        picture.save(folder / f"p{i:02d}.png")
        (folder / f"p{i:02d}.txt").write_text("unembeddable" if i == 3 else f"a picture, number {i}")


def members(out):
    """{uid: {suffix: bytes}} of all shards."""
    found = {}
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                uid, suffix = member.name.split(".", 1)
                found.setdefault(uid, {})[suffix] = tar.extractfile(member).read()
    return found


def check_rows(got, want, what):
    want = want / np.linalg.norm(want, axis=1, keepdims=True)
    require(got.shape == want.shape and abs(got - want).max() < 1e-5, f"{what}: {got} is not {want}")


def check_output(out, n, captions, first_dim, refused=("p03",)):
    """Rows under tiny-clip are what its maths says of picture, caption and synthetic captions."""
    mean, std = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.3, 0.2, 0.25], np.float32)
    samples = members(out)
    require(len(samples) == n - len(refused) and not samples.keys() & set(refused), f"{len(samples)} samples of {n}, refused: {refused}")
    for uid, files in samples.items():
        arrays = np.load(io.BytesIO(files["npz"]))
        pixels = np.asarray(Image.open(io.BytesIO(files["png"]))).astype(np.float32) / 255
        pixels = ((pixels - mean) / std).transpose(2, 0, 1)[None]
        syn = json.loads(files.get("syn.json", "{}"))
        check_rows(arrays["image_emb"][:, first_dim:], clip_math.image_rows(np.repeat(pixels, 2, 0)), f"{uid} views")
        check_rows(arrays["text_emb"][:, first_dim:], clip_math.text_rows([files["txt"].decode()]), f"{uid} text")
        for column in captions:
            require(len(syn[column]) == 3 and all(syn[column]), f"{uid}: captions of {column}")
            check_rows(arrays[f"{column}_emb"][:, first_dim:], clip_math.text_rows(syn[column]), f"{uid} {column}")
    return samples


def check_outage(tmp, write, elsewhere, want):
    """A server dies in the middle: what is committed stays, and the job goes on with another server of the same model."""
    port = free_port()
    with mlserver(tmp, port, sleep_s=0.05) as server:
        run = subprocess.Popen([BINARY, "run", str(write(f"http://127.0.0.1:{port}"))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + WAIT_S
        while not list((tmp / "four/_reinforce/parts").glob("*")):
            require(run.poll() is None and time.monotonic() < deadline, "a part is committed before the server dies")
            time.sleep(0.01)
        server.kill()
        out, err = run.communicate(timeout=WAIT_S)
    require(run.returncode == 1 and not list((tmp / "four").glob("*.tar")), f"no server, no dataset: {out}\n{err}")
    again = reinforce("run", write(elsewhere), check=(3,))
    this_run = int(re.search(r"this run\s+(\d+) samples", again.stdout).group(1))
    require(0 < this_run <= len(want) - 1, f"what was committed is not asked for again: {again.stdout}")
    require(members(tmp / "four") == want, "the same samples as without an outage")


def check_triton(tmp, job, teacher, n):
    """Pixels go raw behind the JSON, several views to a request; texts have a model of their own."""
    port = free_port()
    with triton(tmp, port):
        url = f"http://127.0.0.1:{port}"
        extensions = json.load(urllib.request.urlopen(f"{url}/v2"))["extensions"]
        require("binary_tensor_data" in extensions, f"Triton takes raw tensors: {extensions}")
        reinforce("run", job("triton", [], [{**teacher, "server": url, "text_model": "tiny-clip-text", "batch": 8}], threads=2), check=(0,))
    check_output(tmp / "triton", n, [], 0, refused=())


def main():
    os.environ["SERVER_TOKEN"] = TOKEN
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        tmp = pathlib.Path(folder)
        n = 12
        make_corpus(tmp / "images", n)
        subprocess.run([PYTHON, SERVED / "make_gguf.py", tmp / "gguf"], check=True)
        chat, embed, oip = free_port(), free_port(), free_port()
        stack.enter_context(llama("chat", tmp, chat))
        stack.enter_context(llama("embed", tmp, embed))
        stack.enter_context(mlserver(tmp, oip))

        captioner = {"name": "llama", "model": "tiny", "protocol": "openai", "server": f"http://127.0.0.1:{chat}/v1", "token_env": "SERVER_TOKEN",
                     "column": "syn_text_llama", "count": 3, "max_tokens": 12, "concurrency": 4, "image_format": "png"}
        local = {"name": "coca", "model": str(MODELS / "coca_small"), "count": 3}
        teacher = {"name": "served", "model": "tiny-clip", "protocol": "oip", "server": f"http://127.0.0.1:{oip}", "dim": clip_math.DIM,
                   "mean": "0.4 0.5 0.6", "std": "0.3 0.2 0.25", "batch": 1}
        clip = {"name": "gelu", "model": str(MODELS / "clip_gelu")}
        views = {"count": 2, "scale_min": 1, "scale_max": 1, "ratio_min": 1, "ratio_max": 1, "rand_augment": False}

        def job(name, captioners, teachers, **workers):
            return write_job(tmp / f"{name}.yaml", tmp / "images", tmp / name, captioners=captioners, teachers=teachers, views=views,
                             workers=workers)

        done = reinforce("run", job("one", [local, captioner], [clip, teacher]), check=(3,))
        reinforce("verify", tmp / "one", check=(0,))
        dim = json.loads((MODELS / "clip_gelu/open_clip_config.json").read_text())["model_cfg"]["embed_dim"]
        one = check_output(tmp / "one", n, ["syn_text", "syn_text_llama"], dim)
        said = {text for files in one.values() for text in json.loads(files["syn.json"])["syn_text_llama"]}
        require(len(said) > 2 * n, f"captions differ by picture and draw: {said}")
        refused = [row for row in dump_catalog(tmp / "one")["samples"] if any("this text is not for me" in str(v) for v in row)]
        require(len(refused) == 1, f"the server's reason is kept: {refused}")
        require(TOKEN not in done.stdout + done.stderr, "the token is said to nobody but the server")
        for path in [tmp / "one/_reinforce/job.json", tmp / "one/catalog.sqlite"]:
            require(TOKEN.encode() not in path.read_bytes(), f"{path.name} holds no token")

        # the teachers' rows and the drawn views are the same bytes whoever works, and so is greedy text
        greedy = {**captioner, "strategy": "greedy", "count": 3}
        runs = []
        for name, workers in [("two", {}), ("three", {"count": 2, "part_samples": 2})]:
            reinforce("run", job(name, [greedy], [teacher], **workers), check=(3,))
            runs.append(check_output(tmp / name, n, ["syn_text_llama"], 0))
        require(runs[0] == runs[1], "two workers and one make the same samples")

        # a finished job asks for nothing that it has
        before = {p: p.stat().st_mtime_ns for p in (tmp / "two").glob("*.tar")}
        reinforce("run", tmp / "two.yaml", check=(0, 3))
        require({p: p.stat().st_mtime_ns for p in (tmp / "two").glob("*.tar")} == before, "nothing is made again")

        models = json.loads((tmp / "one/_reinforce/models.json").read_text())
        require([m["family"] for m in models["captioners"] + models["teachers"]] == ["coca", "openai", "clip", "oip"], f"{models}")
        require(len({m["digest"] for m in models["captioners"] + models["teachers"]}) == 4, f"{models}")

        check_outage(tmp, lambda served_at: job("four", [greedy], [{**teacher, "server": served_at, "max_tries": 1}], max_attempts=1,
                                                part_samples=2), f"http://127.0.0.1:{oip}", runs[0])

        if TRITON_PYTHON.exists():
            check_triton(tmp, job, teacher, n)

        embedder = {"model": "tiny", "protocol": "openai", "server": f"http://127.0.0.1:{embed}/v1", "token_env": "SERVER_TOKEN", "image_size": 32}
        dead = f"http://127.0.0.1:{free_port()}/v1"
        for name, models, reason in [
            ("unknown", ([{**captioner, "model": "other"}], [teacher]), 'no model "other"; it has "tiny"'),
            ("no-token", ([{**captioner, "token_env": "UNSET_TOKEN"}], [teacher]), "UNSET_TOKEN, named by token_env, is not set"),
            ("wrong-token", ([{k: v for k, v in captioner.items() if k != "token_env"}], [teacher]), "status 401"),
            ("dead", ([{**captioner, "server": dead, "max_tries": 2}], [teacher]), "127.0.0.1"),
            ("texts-only", ([captioner], [embedder]), "reads the data URL as a text"),
            ("messages", ([captioner], [{**embedder, "image_form": "messages"}]), "must be provided"),
            ("no-images", ([{**captioner, "server": f"http://127.0.0.1:{embed}/v1", "max_tries": 1}], [teacher]), "image"),
            ("no-model", ([captioner], [{**teacher, "model": "other"}]), "status 404"),
            ("no-tensor", ([captioner], [{**teacher, "image_tensor": "pixels"}]), 'no "pixels" among its inputs'),
            ("dim", ([captioner], [{**teacher, "dim": 13}]), "12 dimensions, the job says dim 13"),
        ]:
            done = reinforce("run", job(name, *models), check=(1, 2))
            require(reason in done.stderr, f"{name}: {done.stderr}")
            require(not list((tmp / name).glob("*.tar")), f"{name}: nothing is written")
        triton_did = f"{n} under Triton" if TRITON_PYTHON.exists() else "Triton is not there"
        print(f"{len(said)} captions by llama.cpp, {n - 1} samples under MLServer, {triton_did}: {sorted(said)[:3]}")


if not PYTHON.exists():
    print("skipped: build/served-venv is not there; tests/run.sh makes it")
    sys.exit(SKIPPED)
main()
