#!/usr/bin/env python3
"""CLIP 27: published weights, by this engine and by open_clip, on 16 images and 16 captions.

    check_published.py REINFORCE_BINARY SNAPSHOT_DIR... [--images DIR]

Each SNAPSHOT_DIR holds a published open_clip repository (OpenAI's ViT-B/32, DataComp's B/16, DFN2B's L/14 and L/14-39B, DFN5B's
H/14-378, ...), as `reinforce model pull` leaves it. Run by hand: the weights are too large for a test run and have licences of
their own. Needs pip packages torch, open_clip_torch 2.31.0 and safetensors. Images: DIR, by default build/sample-images.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file

TOLERANCE, MIN_COSINE = 1e-4, 0.999999
CAPTIONS = [f"a photo of a {thing}, {how}" for thing in ("cat", "red bus", "bowl of soup", "mountain lake")
            for how in ("at night", "seen from above", "Café “Größe” &amp; co", "x" * 200)]


def load_reference(folder):
    config = json.loads((folder / "open_clip_config.json").read_text())
    model_cfg = dict(config["model_cfg"])
    custom = model_cfg.pop("custom_text", False)
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**model_cfg).eval()
    safetensors = folder / "open_clip_model.safetensors"
    state = load_file(safetensors) if safetensors.exists() else torch.load(
        next(folder.glob("*.bin")), map_location="cpu", weights_only=True)
    model.load_state_dict(state, strict=False)
    return model.float(), config.get("preprocess_cfg", {})


def check(binary, folder, images):
    model, _ = load_reference(folder)
    tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=model.context_length)
    with tempfile.TemporaryDirectory() as tmp, torch.inference_mode():
        tmp = pathlib.Path(tmp)
        (tmp / "texts").write_text("\n".join(CAPTIONS) + "\n")
        run = lambda *args: subprocess.run([binary, *map(str, args)], check=True, stdout=subprocess.DEVNULL)
        run("embed", "--model", folder, "--images", *images, "--texts-file", tmp / "texts", "--out", tmp / "ours.npz")
        ours = np.load(tmp / "ours.npz")
        pixels = []
        for i, path in enumerate(images):  # one preprocessing for both: this checks towers, test_preprocess.c the rest
            run("preprocess", "--model", folder, path, "--out", tmp / f"{i}.npz")
            flat = np.load(tmp / f"{i}.npz")["pixels"]
            pixels.append(flat.reshape(3, flat.shape[1], flat.shape[1]))
        image = torch.nn.functional.normalize(model.encode_image(torch.from_numpy(np.stack(pixels))), dim=-1).numpy()
        text = torch.nn.functional.normalize(model.encode_text(tokenizer(CAPTIONS)), dim=-1).numpy()
    worst = {}
    for name, got, want in (("image", ours["image_emb"], image), ("text", ours["text_emb"], text)):
        worst[name] = float(abs(got - want).max())
        cosine = float((got * want).sum(1).min())
        if worst[name] > TOLERANCE or cosine < MIN_COSINE:
            sys.exit(f"FAILED: {folder.name}: {name} embeddings differ by {worst[name]:.2e}, cosine {cosine:.8f}")
    print(f"{folder.name}: images within {worst['image']:.1e}, texts within {worst['text']:.1e}")


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("snapshots", nargs="+", type=pathlib.Path)
    parser.add_argument("--images", type=pathlib.Path, default=root / "build" / "sample-images")
    args = parser.parse_args()
    images = sorted(p for p in args.images.iterdir() if p.suffix in (".jpg", ".png", ".webp") and "broken" not in p.name)[:16]
    for path in images:
        Image.open(path).verify()
    for folder in args.snapshots:
        check(args.binary, folder, images)


if __name__ == "__main__":
    main()
