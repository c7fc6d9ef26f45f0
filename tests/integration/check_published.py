#!/usr/bin/env python3
"""CLIP 27, SIGLIP 24 and 26, PALI 22: published weights, by this engine and by the reference libraries.

    check_published.py REINFORCE_BINARY SNAPSHOT_DIR... [--images DIR]

Each SNAPSHOT_DIR is as `reinforce model pull` leaves it; what it says of itself chooses the check:

    open_clip_config.json       CLIP 27: embeddings of 16 images and 16 captions against open_clip (OpenAI's ViT-B/32, DataComp's
                                B/16, DFN2B's L/14 and L/14-39B, DFN5B's H/14-378, ...); SigLIP in this layout too
    config.json, siglip*        the same against transformers; SIGLIP 26: scale 109.9 and bias -15.9 of SigLIP 2 So400m/16 256;
                                SIGLIP 24: transformers' published table of logits for SigLIP 2 base NaFlex
    config.json, paligemma      PALI 22: greedy captions of 4 images against transformers in float32, token by token: another one
                                is wrong unless the reference's two best are closer than 2e-3

Run by hand: the weights are too large for a test run and have licences of their own. Needs pip packages torch, safetensors, and
open_clip_torch 2.31.0 (with timm for SigLIP) and transformers 4.51.3. Images: DIR, by default build/sample-images. Tokens and pixels are this engine's
for both sides (tests/unit and tests/integration hold those to their references): this checks the towers.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from PIL import Image, ImageDraw

TOLERANCE, MIN_COSINE = 1e-4, 0.999999
CAPTIONS = [f"a photo of a {thing}, {how}" for thing in ("cat", "red bus", "bowl of soup", "mountain lake")
            for how in ("at night", "seen from above", "Café “Größe” &amp; co", "x" * 200)]
PROMPT, N_CAPTIONED, N_TOKENS, TIE = "caption en", 4, 30, 2e-3

# transformers, tests/models/siglip2/test_modeling_siglip2.py: logits_per_text of google/siglip2-base-patch16-naflex
NAFLEX_SIZES = [(224, 224), (1024, 1024), (224, 1024)]  # height, width
NAFLEX_LOGITS = {
    "circle": [1.0195, -0.0280, -1.4468],
    "ellipsoid": [-4.5395, -6.2269, -1.5667],
    "blue circle on red background": [4.1757, 5.0358, 3.5159],
    "blue circle with green border on red background": [9.4264, 10.1879, 6.3353],
    "green circle on red background": [2.4409, 3.1058, 4.5491],
    "a dog": [-12.3230, -13.7355, -13.4632],
    "a blue dog with a green border on a red background": [1.1520, 1.1687, -1.9647],
}
NAFLEX_TOLERANCE = 1e-3 + 2e-3  # theirs, and for the resize


class Engine:
    """The program under test, on one snapshot."""

    def __init__(self, binary, folder, tmp):
        self.binary, self.folder, self.tmp = binary, folder, tmp

    def run(self, *args):
        return subprocess.run([self.binary, *map(str, args)], check=True, stdout=subprocess.PIPE, text=True).stdout

    def embed(self, images, texts):
        lines = self.lines(texts)
        self.run("embed", "--model", self.folder, "--images", *images, "--texts-file", lines, "--out", self.tmp / "ours.npz")
        return np.load(self.tmp / "ours.npz")

    def lines(self, texts):
        (self.tmp / "texts").write_text("\n".join(texts) + "\n")
        return self.tmp / "texts"

    def tokens(self, texts):
        return json.loads(self.run("tokenize", "--model", self.folder, "--texts-file", self.lines(texts), "--json"))

    def pixels(self, image):
        """float32 [3, H, W]"""
        self.run("preprocess", "--model", self.folder, image, "--out", self.tmp / "pixels.npz")
        flat = np.load(self.tmp / "pixels.npz")["pixels"]
        return torch.from_numpy(flat.reshape(3, -1, flat.shape[1]))

    def self_test(self):
        return json.loads(self.run("model", "check", self.folder, "--json"))


def unit(rows):
    return torch.nn.functional.normalize(rows.float(), dim=-1).numpy()


def compare(folder, ours, image, text):
    worst = {}
    for name, got, want in (("image", ours["image_emb"], image), ("text", ours["text_emb"], text)):
        worst[name] = float(abs(got - want).max())
        cosine = float((got * want).sum(1).min())
        if worst[name] > TOLERANCE or cosine < MIN_COSINE:
            sys.exit(f"FAILED: {folder.name}: {name} embeddings differ by {worst[name]:.2e}, cosine {cosine:.8f}")
    return f"images within {worst['image']:.1e}, texts within {worst['text']:.1e}"


def load_open_clip(folder):
    import open_clip
    from safetensors.torch import load_file

    model_cfg = dict(json.loads((folder / "open_clip_config.json").read_text())["model_cfg"])
    custom = model_cfg.pop("custom_text", False)
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**model_cfg).eval()
    safetensors = folder / "open_clip_model.safetensors"
    state = load_file(safetensors) if safetensors.exists() else torch.load(
        next(folder.glob("*.bin")), map_location="cpu", weights_only=True)
    model.load_state_dict(state, strict=False)
    return model.float()


def check_clip(engine, images):
    """CLIP 27. Rows are padded with 0, which nothing reads behind the end."""
    model = load_open_clip(engine.folder)
    rows = torch.tensor([row + [0] * (model.context_length - len(row)) for row in engine.tokens(CAPTIONS)])
    image = unit(model.encode_image(torch.stack([engine.pixels(path) for path in images])))
    return compare(engine.folder, engine.embed(images, CAPTIONS), image, unit(model.encode_text(rows)))


def as_patches(pixels, size):
    """[3, h P, w P] -> [h w, P P 3], and (h, w): SIGLIP 22's order."""
    h, w = pixels.shape[1] // size, pixels.shape[2] // size
    return pixels.reshape(3, h, size, w, size).permute(1, 3, 2, 4, 0).reshape(h * w, -1), (h, w)


def load(kind, folder, **options):
    """From transformers, which only warns of weights that it does not find."""
    model, info = kind.from_pretrained(folder, torch_dtype=torch.float32, output_loading_info=True, **options)
    if info["missing_keys"] or info["mismatched_keys"]:
        sys.exit(f"{folder}: this transformers finds no {sorted(info['missing_keys'])[:3]}")
    return model.eval()


def siglip_image(model, pixels):
    if model.config.model_type == "siglip":
        return model.get_image_features(pixel_values=pixels[None])
    patches, shape = as_patches(pixels, model.config.vision_config.patch_size)
    return model.get_image_features(pixel_values=patches[None], pixel_attention_mask=torch.ones(1, len(patches), dtype=torch.int32),
                                    spatial_shapes=torch.tensor([shape]))


def draw_circle(height, width):
    """The picture of transformers' test."""
    image = Image.new("RGB", (width, height), "red")
    x, y = width // 2, height // 2
    radius = min(x, y) // 8 * 7
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill="blue", outline="green", width=width // 20)
    return image


def check_naflex_table(engine, scale, bias):
    """SIGLIP 24"""
    paths = []
    for i, size in enumerate(NAFLEX_SIZES):
        paths.append(engine.tmp / f"circle-{i}.png")
        draw_circle(*size).save(paths[-1])
    ours = engine.embed(paths, list(NAFLEX_LOGITS))
    logits = ours["text_emb"] @ ours["image_emb"].T * scale + bias
    worst = float(abs(logits - np.array(list(NAFLEX_LOGITS.values()))).max())
    return worst, f"the published table within {worst:.1e} (SIGLIP 24)"


def check_siglip(engine, images):
    from transformers import AutoModel

    model = load(AutoModel, engine.folder)
    vision, said = model.config.vision_config, engine.self_test()
    image = unit(torch.cat([siglip_image(model, engine.pixels(path)) for path in images]))
    text = unit(model.get_text_features(input_ids=torch.tensor(engine.tokens(CAPTIONS))))
    report = [compare(engine.folder, engine.embed(images, CAPTIONS), image, text)]
    scale, bias = said["logit_scale"], said["logit_bias"]
    if abs(scale / model.logit_scale.exp().item() - 1) > 1e-6 or abs(bias - model.logit_bias.item()) > 1e-5:
        sys.exit(f"FAILED: {engine.folder.name}: scale {scale} and bias {bias} are not the reference's")
    naflex = model.config.model_type == "siglip2"
    if vision.hidden_size == 1152 and vision.patch_size == 16 and not naflex and vision.image_size == 256:
        if abs(scale - 109.9) > 0.1 or abs(bias + 15.9) > 0.1:
            sys.exit(f"FAILED: {engine.folder.name}: scale {scale:.2f} and bias {bias:.2f} are not 109.9 and -15.9 (SIGLIP 26)")
        report.append("scale and bias as published (SIGLIP 26)")
    if naflex and vision.hidden_size == 768:
        worst, said = check_naflex_table(engine, scale, bias)
        if worst > NAFLEX_TOLERANCE:
            sys.exit(f"FAILED: {engine.folder.name}: {said}")
        report.append(said)
    return ", ".join(report)


def logits_of(model, pixels, prompt, said):
    """[len(said), V]: what the reference thinks where each of our tokens was said. The prompt sees all of itself."""
    ids = torch.tensor([prompt + said])
    n = ids.shape[1]
    hidden = torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1)
    hidden[:, :len(prompt)] = False
    mask = torch.zeros(n, n).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]
    logits = model(input_ids=ids, pixel_values=pixels[None], attention_mask=mask, use_cache=False).logits[0]
    return logits[len(prompt) - 1:n - 1, :model.config.image_token_index]


def check_paligemma(engine, images):
    """PALI 22. Eager attention alone applies the soft cap; the window is left out, as the models were trained."""
    from transformers import PaliGemmaForConditionalGeneration

    model = load(PaliGemmaForConditionalGeneration, engine.folder, attn_implementation="eager")
    for layer in model.language_model.model.layers:
        if hasattr(layer, "sliding_window"):
            layer.sliding_window = 1 << 20
    row = engine.tokens([PROMPT])[0]
    prompt = [model.config.image_token_index] * row["image_tokens"] + row["ids"]
    images = images[:N_CAPTIONED]
    captions = json.loads(engine.run("caption", "--model", engine.folder, "--strategy", "greedy", "--prompt", PROMPT, "--max-tokens",
                                     N_TOKENS + 2, "--json", *images))
    n_tokens = n_ties = 0
    for path, caption in zip(images, captions):
        said = caption["captions"][0]["tokens"]
        logits = logits_of(model, engine.pixels(path), prompt, said)
        gaps = logits.max(dim=1).values - logits[range(len(said)), said]
        if gaps.max() > TIE:
            sys.exit(f"FAILED: {engine.folder.name}: {path.name}: the reference would not say token {int(gaps.argmax())} of {said}")
        n_tokens += len(said)
        n_ties += int((gaps > 0).sum())
    return f"{n_tokens} tokens of {len(images)} captions are the reference's, {n_ties} of them ties (PALI 22)"


def checker(folder):
    if (folder / "open_clip_config.json").exists():
        return check_clip
    kind = json.loads((folder / "config.json").read_text()).get("model_type", "")
    for name, check in (("siglip", check_siglip), ("paligemma", check_paligemma)):
        if kind.startswith(name):
            return check
    sys.exit(f"{folder}: no check for model_type \"{kind}\"")


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
        with tempfile.TemporaryDirectory() as tmp, torch.inference_mode():
            print(f"{folder.name}: {checker(folder)(Engine(args.binary, folder, pathlib.Path(tmp)), images)}", flush=True)


if __name__ == "__main__":
    main()
