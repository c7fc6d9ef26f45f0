"""Models from a hub: pulled by command and by job, resumed, checked, kept; the token stays with its host.

The server is hub_server.py; Hugging Face's own client, where it is installed, must be content with it too, so that it is the
hub's protocol that is spoken here and not one of our own.
"""
import json
import os
import pathlib
import tempfile

from harness import MODELS, make_images, reinforce, require, write_job
from hub_server import COMMIT, Hub


def check_with_their_client(hub, cache):
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return "not installed"
    folder = snapshot_download("org/clip", endpoint=hub.endpoint, cache_dir=cache, token=False)
    for path in (MODELS / "clip_gelu").iterdir():
        require(pathlib.Path(folder, path.name).read_bytes() == path.read_bytes(), f"huggingface_hub: {path.name}")
    return "agrees"


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    hub = Hub({"org/clip": MODELS / "clip_gelu", "org/coca": MODELS / "coca_small"})
    gated = Hub({"org/gated": MODELS / "clip_quickgelu"}, token="hf_secret")
    env = dict(os.environ, HF_ENDPOINT=hub.endpoint, REINFORCE_MODELS=str(tmp / "models"))
    env.pop("HF_TOKEN", None)
    theirs = check_with_their_client(hub, tmp / "theirs")
    hub.requests.clear()
    hub.break_after = 1000

    # by command: the first try of the weights breaks off, the second goes on behind it
    done = reinforce("model", "pull", "org/clip", "--json", env=env, check=(0,))
    folder = pathlib.Path(json.loads(done.stdout)["folder"])
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"):
        require((folder / name).read_bytes() == (MODELS / "clip_gelu" / name).read_bytes(), f"{name} arrived as it is")
    require(not (folder / "golden.safetensors").exists(), "only what a snapshot is read from")
    require(any(r == "bytes=1000-" for _, _, r, _ in hub.requests), "the weights went on behind byte 1000")
    require(json.loads((folder / "pulled.json").read_text())["commit"] == COMMIT, "pulled.json says which commit")
    ours = json.loads(reinforce("model", "info", folder, "--json").stdout)
    local = json.loads(reinforce("model", "info", MODELS / "clip_gelu", "--json").stdout)
    require(ours["digest"] == local["digest"], "the digest of a model does not depend on where it came from")

    # what was pulled can be checked against what the hub said
    done = reinforce("model", "check", folder, "--json", check=(0,))
    require(json.loads(done.stdout)["files_as_pulled"] == 3, done.stdout)
    body = bytearray((folder / "tokenizer.json").read_bytes())
    (folder / "tokenizer.json").write_bytes(body + b" ")
    done = reinforce("model", "check", folder, check=(1,))
    require("tokenizer.json" in done.stderr and "digest" in done.stderr, done.stderr)
    (folder / "tokenizer.json").write_bytes(body)

    # by job: what is here is not asked for again, what is not is pulled
    before = len(hub.requests)
    make_images(tmp / "images", 9, broken=False)
    job = write_job(tmp / "job.yaml", tmp / "images", tmp / "out",
                    captioners=[{"name": "coca", "model": f"hf://org/coca@{COMMIT}", "count": 1}],
                    teachers=[{"name": "clip", "model": "hf://org/clip"}])
    reinforce("run", job, env=env, check=(0,))
    reinforce("verify", tmp / "out", check=(0,))
    asked = [path for _, path, _, _ in hub.requests[before:]]
    require(asked and all("coca" in path for path in asked), f"only the captioner was pulled: {asked}")

    # refusals say what to do, and nothing secret
    done = reinforce("model", "pull", "org/none", env=env, check=(1,))
    require("404" in done.stderr and "org/none" in done.stderr, done.stderr)
    env["HF_ENDPOINT"] = gated.endpoint
    done = reinforce("model", "pull", "org/gated", env=env, check=(1, 2))
    require("HF_TOKEN" in done.stderr, done.stderr)
    env["HF_TOKEN"] = "hf_secret"
    done = reinforce("model", "pull", "org/gated", env=env, check=(0,))
    require("hf_secret" not in done.stdout + done.stderr, "the token is in no message")
    reinforce("model", "check", "hf://org/gated", env=env, check=(0,))
    hub.close()
    gated.close()
    print(f"pulled, resumed, run; Hugging Face's client: {theirs}")
