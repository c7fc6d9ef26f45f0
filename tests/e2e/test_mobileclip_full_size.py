"""MobileCLIP at full size from torch checkpoints as Apple publishes them.

MobileCLIP2-S4, on random weights: loads, embeds, and stays within a tenth of the memory that `model info` says; numbers are
right by test_mobileclip.c. MobileCLIP S0, S1, S2 and B under the names of apple/ml-mobileclip, with its config and without,
S0 also with its branches folded: `embed` says of the test image and of two texts what ml-mobileclip says
(tests/golden/make_mobileclip.py). Needs python3-torch.
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

sys.path.insert(0, str(ROOT / "tests/support"))
import synthetic_weights

GOLDEN = ROOT / "tests/golden/mobileclip"
CONFIG = {"model_cfg": {
    "embed_dim": 768,
    "vision_cfg": {"timm_model_name": "fastvit_mci4", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": None,
                   "timm_drop": 0.0, "timm_drop_path": 0.0, "image_size": 256},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12, "no_causal_mask": True},
    "custom_text": True}}
APPLE = {  # image tower and side, layers of the text tower; whether there is a config.json
    "mobileclip_s0": ("mci0", 256, 4, True),
    "mobileclip_s0_folded": ("mci0", 256, 4, False),
    "mobileclip_s1": ("mci1", 256, 12, True),
    "mobileclip_s2": ("mci2", 256, 12, False),
    "mobileclip_b": ("vit_b16", 224, 12, True),
}
TOLERANCE = 1e-5
TEXTS = {"a photo of a cat": 0, "": 1}  # and their rows in the goldens
IDS = {"<|startoftext|>": 49406, "a": 320, "photo": 1125, "of": 539, "cat": 2368, "<|endoftext|>": 49407}


def shapes_of(name):
    return json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))


def golden(name):
    """The float32 arrays of a small safetensors file."""
    data = (GOLDEN / f"{name}.safetensors").read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    return {key: np.frombuffer(data[8 + n:], np.float32, (end - begin) // 4, begin).reshape(entry["shape"])
            for key, entry in header.items() if entry.get("dtype") == "F32" for begin, end in [entry["data_offsets"]]}


def random_weights():
    torch.manual_seed(4)
    state = {}
    for name, shape in shapes_of("MobileCLIP2-S4").items():
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


def write_checkpoint(name, path):
    """Bare, as ml-mobileclip's are, or what a trainer leaves."""
    if name == "MobileCLIP2-S4":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in random_weights().items()}}, path)
        return
    state = {}
    for key, shape in shapes_of(name).items():
        state[key] = torch.from_numpy(synthetic_weights.fill(key, shape))
        if key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    state["logit_scale"] = torch.tensor(4.7)
    torch.save(state, path)


def apple_config(trunk, side, layers):
    return {"embed_dim": 512, "image_cfg": {"image_size": side, "model_name": trunk},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "dim": 512, "ffn_multiplier_per_layer": 4.0,
                         "n_heads_per_layer": 8, "n_transformer_layers": layers, "norm_layer": "layer_norm_fp32",
                         "causal_masking": trunk == "vit_b16", "model_name": "mct" if trunk == "mci0" else "base"}}


def tokenizer():
    """The small test vocabulary with CLIP's own ids for the words of the test texts, which are tokens as they are."""
    t = json.loads((MODELS / "clip_gelu/tokenizer.json").read_text())
    t["model"]["ignore_merges"] = True
    vocab = t["model"]["vocab"]
    for word, number in IDS.items():
        for other in [other for other in vocab if vocab[other] == number]:
            vocab[other] = vocab.get(word, max(vocab.values()) + 1)
        vocab[word] = number
    taken = set(vocab.values())
    vocab.update({f"unused {number}": number for number in range(49408) if number not in taken})
    for added in t["added_tokens"]:
        added["id"] = IDS[added["content"]]
    t["post_processor"].update(cls=["<|startoftext|>", 49406], sep=["<|endoftext|>", 49407])
    return json.dumps(t)


def embed(folder, image, out):
    """Rows of a picture and of the texts, and the peak of the program's own resident memory."""
    process = subprocess.Popen([BINARY, "embed", "--model", folder, "--images", image, "--texts-file",
                                out.parent / "texts", "--out", out])
    _, status, usage = os.wait4(process.pid, 0)
    require(status == 0, f"reinforce embed ended with {status}")
    return np.load(out), usage.ru_maxrss * 1024


def check_mobileclip2_s4(tmp, folder):
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    shutil.copy(MODELS / "clip_gelu/tokenizer.json", folder / "tokenizer.json")
    pixels = np.random.default_rng(9).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp / "image.png")
    done, used = embed(folder, tmp / "image.png", tmp / "e.npz")
    info = json.loads(reinforce("model", "info", "--json", folder).stdout)
    require(info["family"] == "mobileclip" and "fastvit_mci4" in info["variant"], str(info))
    for key, n in (("image_emb", 1), ("text_emb", len(TEXTS))):
        norms = np.linalg.norm(done[key], axis=1)
        require(done[key].shape == (n, 768) and np.abs(norms - 1).max() < 1e-5, f"{key}: unit rows")
    said = info["memory_bytes"]["float32"]
    require(used < 1.1 * said, f"memory: {used / 1e9:.2f} GB resident, {said / 1e9:.2f} GB said")
    print(f"{info['parameters'] / 1e6:.1f} M parameters; {used / 1e9:.2f} GB resident, {said / 1e9:.2f} GB said")


def check_apple(tmp, folder, name):
    trunk, side, layers, has_config = APPLE[name]
    if has_config:
        (folder / "config.json").write_text(json.dumps(apple_config(trunk, side, layers)))
    missing = reinforce("model", "check", folder, check=(1,))
    require("add tokenizer.json" in missing.stderr, missing.stderr)
    (folder / "tokenizer.json").write_text(tokenizer())
    Image.fromarray(synthetic_weights.pattern(side)).save(tmp / "image.png")
    done, _ = embed(folder, tmp / "image.png", tmp / "e.npz")
    want = golden(name)
    worst = np.abs(done["image_emb"] - want["image"][:1]).max()
    require(worst < TOLERANCE, f"{name}: the image differs by {worst}")
    worst = max(worst, np.abs(done["text_emb"] - want["text"][list(TEXTS.values())]).max())
    require(worst < TOLERANCE, f"{name}: a text differs by {worst}")
    info = json.loads(reinforce("model", "info", "--json", folder).stdout)
    require(info["family"] == "mobileclip" and info["context_length"] == 77 and info["image_size"] == side, str(info))
    require(("2 mixers" in info["variant"]) == (trunk == "mci0"), info["variant"])
    check = json.loads(reinforce("model", "check", "--json", folder).stdout)
    require(check["logit_scale"] == 100, str(check))
    print(f"{name}: {info['variant']}; {info['parameters'] / 1e6:.1f} M parameters; differs by {worst:.1e}")


if len(sys.argv) > 1:  # in a process of its own: a child's peak begins with its parent's size
    write_checkpoint(*sys.argv[1:])
    sys.exit()

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    (tmp / "texts").write_text("".join(f"{text}\n" for text in TEXTS))
    for name in ("MobileCLIP2-S4", *APPLE):
        folder = tmp / name
        folder.mkdir()
        subprocess.run([sys.executable, __file__, name, folder / f"{name.lower()}.pt"], check=True)
        if name in APPLE:
            check_apple(tmp, folder, name)
        else:
            check_mobileclip2_s4(tmp, folder)
        shutil.rmtree(folder)
