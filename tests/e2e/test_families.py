"""One job with four captioners and three teachers of different families over 200 real images, one captioner being a server and
one in int8.

The output must pass `verify` and the trainer's own loader, be the same by other workers, and every image must be fetched by
each captioner once: the server counts what it is asked. Images: those of the quickstart.
"""
import base64
import hashlib
import http.server
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

from PIL import Image

from harness import BINARY, MODELS, ROOT, digest_objects, dump_catalog, reinforce, require, write_job

N_IMAGES = 200
SAMPLES = ROOT / "build" / "sample-images"


class Server:
    """Chat completions that say what an image's bytes hash to: any image that differs gets another caption."""

    def __init__(self):
        self.asked = []
        lock = threading.Lock()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, body):
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.answer({"object": "list", "data": [{"id": "hash-vlm", "object": "model", "owned_by": "test"}]})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                parts = request["messages"][-1]["content"]
                url = next(p["image_url"]["url"] for p in parts if p["type"] == "image_url")
                image = Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))
                image.load()
                name = hashlib.sha256(image.tobytes()).hexdigest()
                with lock:
                    server.asked.append(name)
                choice = {"index": 0, "finish_reason": "stop",
                          "message": {"role": "assistant", "content": f"A picture called {name[:8]}, {image.size[0]} wide."}}
                self.answer({"id": "x", "object": "chat.completion", "model": "hash-vlm",
                             "choices": [dict(choice, index=i) for i in range(request.get("n", 1))]})

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def sample_images(folder):
    subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
    images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))
    folder.mkdir()
    for path in images[:N_IMAGES]:
        shutil.copy(path, folder)
        shutil.copy(path.with_suffix(".txt"), folder)


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    sample_images(tmp / "images")
    server = Server()
    captioners = [
        {"name": "coca", "model": str(MODELS / "coca_small"), "column": "syn_text", "count": 2},
        {"name": "paligemma", "model": str(MODELS / "paligemma2_small"), "column": "syn_text_pali", "count": 2,
         "prompt": "caption en\ncaption de", "max_tokens": 12},
        {"name": "integers", "model": str(MODELS / "paligemma2_odd"), "column": "syn_text_int8", "count": 1,
         "strategy": "greedy", "max_tokens": 12, "dtype": "int8", "kv_cache": "int8"},
        {"name": "served", "model": "hash-vlm", "column": "syn_text_served", "count": 1, "protocol": "openai",
         "server": server.url},
    ]
    teachers = [{"name": n, "model": str(MODELS / n)} for n in ("clip_gelu", "siglip_hf_14", "siglip2_naflex")]

    def run(name, **workers):
        job = write_job(tmp / f"{name}.yaml", tmp / "images", tmp / name, captioners=captioners, teachers=teachers,
                        workers={"part_samples": 32, **workers})
        server.asked.clear()
        reinforce("run", job, check=(0,))
        reinforce("verify", tmp / name, check=(0,))
        require(len(server.asked) == N_IMAGES + 1, f"each image once, and one trial: asked {len(server.asked)} times")
        return digest_objects(tmp / name), dump_catalog(tmp / name)

    require(run("one") == run("two", count=2, threads=1), "same bytes and rows by two workers")
    record = json.loads(reinforce("inspect", tmp / "one", "--uid", "dog-face", "--json").stdout)[0]
    for column, n in (("syn_text", 2), ("syn_text_pali", 2), ("syn_text_int8", 1), ("syn_text_served", 1)):
        texts = [c for c in record["captions"] if c["column"] == column]
        require(len(texts) == n, f"{column}: {texts}")
    # PALI 35: what is known of a caption's making, and nothing that is not
    known = {(c["column"], c["index"]): set(c) - {"column", "index", "text", "scores"} for c in record["captions"]}
    drawn = {"log_probability", "sum_log_probability", "stop", "tokens"}
    require(known == {("text", 0): {"log_probability"},
                      ("syn_text", 0): drawn, ("syn_text", 1): drawn,
                      ("syn_text_pali", 0): drawn | {"prompt"}, ("syn_text_pali", 1): drawn | {"prompt"},
                      ("syn_text_int8", 0): drawn | {"prompt"},
                      ("syn_text_served", 0): {"log_probability", "stop", "prompt"}}, known)
    asked = [c["prompt"] for c in record["captions"] if c["column"] == "syn_text_pali"]
    require(asked == ["caption en", "caption de"], asked)
    require(next(c for c in record["captions"] if c["column"] == "syn_text_served")["log_probability"] is None, record)
    coca, pali, integers, served = record["models"]["captioners"]
    require(coca["weights_type"] == "F32" and "attention_cap" not in coca, coca)
    require([pali[k] for k in ("weights_type", "attention_cap", "final_cap", "sliding_window")] == ["BF16", 3, 0, 0], pali)
    require(integers["weights_type"] == "I8", integers)
    require("weights_type" not in served, served)
    loader = ROOT / "tests" / "integration" / "load_with_trainer.py"
    done = subprocess.run([sys.executable, loader, tmp / "one", "--reinforce", BINARY, "--samples", "2"],
                          capture_output=True, text=True, env=dict(os.environ))
    require(done.returncode == 0, f"the trainer's loader: {done.stdout}{done.stderr}")
    print(f"{N_IMAGES} images, {len(captioners)} captioners, {len(teachers)} teachers; {done.stdout.strip().splitlines()[-1]}")
