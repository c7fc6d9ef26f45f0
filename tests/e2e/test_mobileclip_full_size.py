"""MobileCLIP2-S4 at full size on random weights, from a torch checkpoint as Apple publishes it: loads, embeds, and stays
within a tenth of the memory that `model info` says.

Numbers are right by test_mobileclip.c. Needs python3-torch.
"""
import gzip
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image

from harness import BINARY, MODELS, ROOT, reinforce, require

CONFIG = {"model_cfg": {
    "embed_dim": 768,
    "vision_cfg": {"timm_model_name": "fastvit_mci4", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": None,
                   "timm_drop": 0.0, "timm_drop_path": 0.0, "image_size": 256},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12, "no_causal_mask": True},
    "custom_text": True}}


def random_weights():
    shapes = json.loads(gzip.decompress((ROOT / "tests/golden/mobileclip/MobileCLIP2-S4.json.gz").read_bytes()))
    torch.manual_seed(4)
    state = {}
    for name, shape in shapes.items():
        value = torch.rand(shape) * 2 - 1
        if name.endswith("gamma"):
            value = 0.1 + 0.02 * value
        elif len(shape) >= 2:
            fan = shape[0] if name.endswith("text_projection") else int(np.prod(shape[1:]))
            value *= (3 / fan) ** 0.5
        else:
            value = 0.1 * value + (1 if name.endswith(("weight", "running_var")) else 0)
        state[name] = value
        if name.endswith("running_var"):
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    state["logit_scale"] = torch.tensor(4.6)
    return state


def write_checkpoint(path):
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in random_weights().items()}}, path)


def embed(folder, out):
    """Rows of a picture and a text, and the peak of the program's own resident memory."""
    process = subprocess.Popen([BINARY, "embed", "--model", folder, "--images", out.parent / "image.png", "--texts-file",
                                out.parent / "text", "--out", out])
    _, status, usage = os.wait4(process.pid, 0)
    require(status == 0, f"reinforce embed ended with {status}")
    return np.load(out), usage.ru_maxrss * 1024


if len(sys.argv) > 1:  # in a process of its own: a child's peak begins with its parent's size
    write_checkpoint(sys.argv[1])
    sys.exit()

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    folder = tmp / "MobileCLIP2-S4"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    shutil.copy(MODELS / "clip_gelu/tokenizer.json", folder / "tokenizer.json")
    subprocess.run([sys.executable, __file__, folder / "mobileclip2_s4.pt"], check=True)
    pixels = np.random.default_rng(9).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp / "image.png")
    (tmp / "text").write_text("a photo of a cat\n")

    done, used = embed(folder, tmp / "e.npz")
    info = json.loads(reinforce("model", "info", "--json", folder).stdout)
    require(info["family"] == "mobileclip" and "fastvit_mci4" in info["variant"], str(info))
    said = info["memory_bytes"]["float32"]
    require(used < 1.1 * said, f"memory: {used / 1e9:.2f} GB resident, {said / 1e9:.2f} GB said")
    for name in ("image_emb", "text_emb"):
        require(done[name].shape == (1, 768) and abs(np.linalg.norm(done[name]) - 1) < 1e-5, f"{name}: a unit row")
    print(f"{info['parameters'] / 1e6:.1f} M parameters; {used / 1e9:.2f} GB resident, {said / 1e9:.2f} GB said")
