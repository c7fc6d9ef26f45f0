"""Write a trained model as its published kind of snapshot: bfloat16 safetensors, config, tokenizer.json."""

import json
import os
import re
import struct

import torch

from data import CLIP_MEAN, CLIP_STD


def save_safetensors(tensors, path):
    header, bodies, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, tensor in sorted(tensors.items()):
        body = tensor.detach().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [at, at + len(body)]}
        at += len(body)
        bodies.append(body)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(bodies))


def load_safetensors(path):
    """What save_safetensors() wrote, in float32."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        body = f.read()
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = torch.frombuffer(bytearray(body[begin:end]), dtype=torch.bfloat16)
            tensors[name] = values.float().reshape(entry["shape"])
    return tensors


def preprocessor(size, **more):
    return {"do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
            "image_processor_type": "SiglipImageProcessor", "image_std": [0.5] * 3, "resample": 3,
            "rescale_factor": 1 / 255, "size": {"height": size, "width": size}, **more}


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=0 if name == "tokenizer.json" else 2)
        f.write("\n")


def save_open_clip(recipe, folder):
    cfg = dict(recipe.cfg)
    if "multimodal_cfg" in cfg:
        cfg["custom_text"] = True
    write(folder, "open_clip_config.json", {
        "model_cfg": cfg,
        "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic", "resize_mode": "shortest"}})
    save_safetensors(recipe.model.state_dict(), os.path.join(folder, "open_clip_model.safetensors"))


def save_siglip(recipe, folder):
    vision, text = recipe.cfg["vision_config"], recipe.cfg["text_config"]
    more = {"attention_dropout": 0.0, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-06}
    write(folder, "config.json", {
        "architectures": ["SiglipModel"], "initializer_factor": 1.0, "model_type": "siglip", "torch_dtype": "bfloat16",
        "text_config": {**more, "model_type": "siglip_text_model", **text},
        "vision_config": {**more, "model_type": "siglip_vision_model", "num_channels": 3, **vision}})
    write(folder, "preprocessor_config.json", preprocessor(recipe.size))
    write(folder, "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer", "model_max_length": recipe.context})
    save_safetensors(recipe.model.state_dict(), os.path.join(folder, "model.safetensors"))


def save_paligemma(recipe, folder):
    vision, text = recipe.cfg["vision_config"], recipe.cfg["text_config"]
    n_image = (vision["image_size"] // vision["patch_size"]) ** 2
    write(folder, "config.json", {
        "architectures": ["PaliGemmaForConditionalGeneration"], "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
        "hidden_size": text["hidden_size"], "ignore_index": -100, "image_token_index": recipe.cfg["image_token_index"],
        "model_type": "paligemma", "projection_dim": text["hidden_size"], "torch_dtype": "bfloat16",
        "vocab_size": recipe.cfg["vocab_size"],
        "text_config": {"model_type": "gemma2", "num_image_tokens": n_image, "torch_dtype": "bfloat16",
                        "hidden_activation": "gelu_pytorch_tanh", **text},
        "vision_config": {"model_type": "siglip_vision_model", "num_image_tokens": n_image, "vision_use_head": False,
                          "projection_dim": text["hidden_size"], "projector_hidden_act": "gelu_fast", **vision}})
    write(folder, "preprocessor_config.json",
          preprocessor(recipe.size, image_seq_length=n_image, processor_class="PaliGemmaProcessor"))
    save_safetensors(recipe.model.state_dict(), os.path.join(folder, "model.safetensors"))


def save(name, recipe, folder):
    write(folder, "tokenizer.json", recipe.tokens.json())
    {"siglip2": save_siglip, "paligemma2": save_paligemma}.get(name, save_open_clip)(recipe, folder)


def save_card(name, recipe, folder, notice, lines):
    """README.md: what the model is, what it has seen, what it scores. `lines`: those of curve.jsonl."""
    last = lines[-1]
    size = sum(p.numel() for p in recipe.model.parameters())
    rows = [f"| {line['samples']:,} | {line['minutes']:.0f} | " + " | ".join(
        f"{100 * line[k]:.1f} %" for k in ("top1", "things_top1", "named") if k in line) + " |" for line in lines]
    heads = [h for k, h in (("top1", f"top-1 of {last.get('classes')} names"),
                            ("things_top1", f"top-1 of {last.get('things')} things"), ("named", "captions that name it"))
             if k in last]
    others = [f"{k.split('_')[1]} {100 * v:.1f} %" for k, v in last.items() if re.fullmatch("(top1|named)_..", k)]
    others = f"\nThe same in other languages, at the end: {', '.join(others)}.\n" if others else ""
    how = ("Zero-shot: which of all names is nearest to the image. Things are animals, plants, food, places, activities and "
           "objects." if "top1" in last else "Greedy captions; one that holds the name counts. At the end over all images, "
           "before that and in other languages over every fourth.")
    kept = "\n".join(f"- {line}" for line in notice if not line.endswith("held-out"))
    text = f"""# {name}

A sample model of Reinforce: {size:,} parameters, bfloat16, in the published layout. It knows what an emoji shows, and
nothing else: results do not carry over to photographs.

## What it was trained on

Emoji of eight designs, 96 x 96 pixels on white, with their Unicode names and CLDR keywords. Noto is a ninth design,
which it has not seen.

{kept}

Trained by `bench/train/train.py {name}` (see bench/train/README.md), {last['samples']:,} samples, on two CPU cores.
{recipe.origin}
## What it scores on the held-out design

{how}

| samples seen | minutes | {" | ".join(heads)} |
|---|---|{"---|" * len(heads)}
""" + "\n".join(rows) + f"""
{others}
## Licences

The drawings keep their own licences, above; none of them is in this repository.
"""
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as f:
        f.write(text)
