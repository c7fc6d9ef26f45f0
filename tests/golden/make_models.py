"""Make the small CLIP snapshots of tests/golden/models/ and their golden outputs.

Needs pip packages: torch, open_clip_torch==2.31.0, transformers==4.49.0, tokenizers, ftfy, safetensors, numpy, Pillow
(through make_coca.py, whose tokenizer and image formula these share).

    python make_models.py OUT_DIR            # OUT_DIR = tests/golden/models

clip_gelu         open_clip's layout (nested config, bfloat16, tokenizer.json), GELU, embedding narrower than the towers
                  (a transposed projection cannot load); a teacher of the tests and of the quickstart.
clip_quickgelu    the same in float32 with QuickGELU, other sizes and square projections; the other teacher.
clip_hf           the weights of clip_gelu under transformers' names in shards with an index, vocab.json and
                  merges.txt instead of tokenizer.json.
clip_hf_single    transformers' layout in one file with preprocessor_config.json, QuickGELU, an end token by its id.
clip_custom_text  open_clip's CustomTextCLIP: flat config, "text." prefix, float16, head width 24, a patch that does not
                  divide the image.

Beside each model golden.safetensors: unit-norm embeddings of ten images (`pattern` 0..7, black, white; no resizing),
of token rows (`text_ids`, -1 behind each) and of TEXTS after open_clip's cleaning.
"""

import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from make_coca import fill, make_tokenizer, pad_rows, pattern, to_tensor
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
TEXTS = ["a photo of a cat", "two dogs running on the beach", "", "red  bus\tnear a CHURCH", "it's 42!",
         "a small wooden table with one yellow cup, some bread and three apples " * 9]

TOKENIZER = make_tokenizer()
IDS = TOKENIZER["model"]["vocab"]
VOCAB = len(IDS)
SOT, EOT = VOCAB - 2, VOCAB - 1


def images(size):
    return [pattern(k, size, size) for k in range(8)] + [np.full((size, size, 3), v, np.uint8) for v in (0, 255)]


def text_rows(context):
    tokenizer = Tokenizer.from_str(json.dumps(TOKENIZER))
    rows = []
    for text in TEXTS:
        row = tokenizer.encode(" ".join(text.lower().split())).ids
        rows.append(row if len(row) <= context else row[:context - 1] + [EOT])
    rows.append([SOT, EOT])
    rows.append([SOT] + [(37 * i + 11) % (VOCAB - 2) for i in range(context - 2)] + [EOT])
    return rows


def padded(rows, context, pad):
    return torch.tensor([row + [pad] * (context - len(row)) for row in rows])


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        if isinstance(value, str):
            f.write(value)
        else:
            json.dump(value, f, ensure_ascii=False, indent=0 if name == "tokenizer.json" else 2)
            f.write("\n")


def save_golden(folder, size, context, image_features, text_features):
    rows = text_rows(context)
    golden = {"image": F.normalize(image_features(to_tensor(images(size))), dim=-1),
              "text": F.normalize(text_features(rows), dim=-1),
              "text_ids": pad_rows(rows, context)}
    save_file({k: v.contiguous() for k, v in golden.items()}, os.path.join(folder, "golden.safetensors"))
    for file in sorted(os.listdir(folder)):
        os.chmod(os.path.join(folder, file), 0o644)
        print(f"{os.path.basename(folder)}/{file}: {os.path.getsize(os.path.join(folder, file))} bytes")


def start(out, name):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    return folder


def make_open_clip(out, name, cfg, dtype, seed, kind=CLIP, flat=False):
    folder = start(out, name)
    model = kind(**json.loads(json.dumps(cfg))).eval()
    fill(model, torch.Generator().manual_seed(seed), 1.3)
    for p in model.parameters():
        p.copy_(p.to(dtype).float())
    if kind is CustomTextCLIP:
        cfg = {**cfg, "custom_text": True}
    if flat:
        write(folder, "open_clip_config.json", cfg)
    else:
        write(folder, "open_clip_config.json", {
            "model_cfg": cfg,
            "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}})
    state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items() if not k.endswith("attn_mask")}
    save_file(state, os.path.join(folder, "open_clip_model.safetensors"), metadata={"format": "pt"})
    write(folder, "tokenizer.json", TOKENIZER)
    context = cfg["text_cfg"]["context_length"]
    save_golden(folder, cfg["vision_cfg"]["image_size"], context, model.encode_image,
                lambda rows: model.encode_text(padded(rows, context, 0)))
    return model


def hf_features(model, context):
    return (lambda pixels: model.get_image_features(pixel_values=pixels),
            lambda rows: model.get_text_features(input_ids=padded(rows, context, EOT)))


def hf_tower(width, layers, heads, **more):
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, **more}


def to_hf(model, config):
    """open_clip's tensors under transformers' names."""
    hf = CLIPModel(config).eval()
    own = model.state_dict()
    state = {"logit_scale": own["logit_scale"],
             "vision_model.embeddings.class_embedding": own["visual.class_embedding"],
             "vision_model.embeddings.patch_embedding.weight": own["visual.conv1.weight"],
             "vision_model.embeddings.position_embedding.weight": own["visual.positional_embedding"],
             "visual_projection.weight": own["visual.proj"].T,
             "text_model.embeddings.token_embedding.weight": own["token_embedding.weight"],
             "text_model.embeddings.position_embedding.weight": own["positional_embedding"],
             "text_projection.weight": own["text_projection"].T}
    for part in ("weight", "bias"):
        state[f"vision_model.pre_layrnorm.{part}"] = own[f"visual.ln_pre.{part}"]
        state[f"vision_model.post_layernorm.{part}"] = own[f"visual.ln_post.{part}"]
        state[f"text_model.final_layer_norm.{part}"] = own[f"ln_final.{part}"]
        for a, b in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
            for i in range(config.vision_config.num_hidden_layers if a == "vision_model"
                           else config.text_config.num_hidden_layers):
                to, of = f"{a}.encoder.layers.{i}.", f"{b}.resblocks.{i}."
                for q, rows in zip("qkv", own[of + f"attn.in_proj_{part}"].chunk(3)):
                    state[f"{to}self_attn.{q}_proj.{part}"] = rows
                for x, y in (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("self_attn.out_proj", "attn.out_proj"),
                             ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                    state[f"{to}{x}.{part}"] = own[of + f"{y}.{part}"]
    missing, unexpected = hf.load_state_dict(state, strict=False)
    assert not unexpected and all(k.endswith("position_ids") for k in missing), (missing, unexpected)
    return hf


def make_hf_twin(out, name, model, cfg):
    folder = start(out, name)
    v, t = cfg["vision_cfg"], cfg["text_cfg"]
    config = CLIPConfig(
        projection_dim=cfg["embed_dim"],
        vision_config=hf_tower(v["width"], v["layers"], v["width"] // v["head_width"], hidden_act="gelu",
                               image_size=v["image_size"], patch_size=v["patch_size"]),
        text_config=hf_tower(t["width"], t["layers"], t["heads"], hidden_act="gelu", vocab_size=VOCAB,
                             max_position_embeddings=t["context_length"], eos_token_id=2, bos_token_id=0))
    hf = to_hf(model, config)
    hf.to(torch.bfloat16).save_pretrained(folder, max_shard_size="400KB")
    write(folder, "vocab.json", IDS)
    write(folder, "merges.txt", "#version: 0.2\n" + "\n".join(TOKENIZER["model"]["merges"]) + "\n")
    save_golden(folder, v["image_size"], t["context_length"], *hf_features(hf.float(), t["context_length"]))


def make_hf_single(out, name):
    folder = start(out, name)
    torch.manual_seed(3)
    config = CLIPConfig(projection_dim=40,
                        vision_config=hf_tower(64, 2, 4, image_size=32, patch_size=8),
                        text_config=hf_tower(48, 2, 3, vocab_size=VOCAB, eos_token_id=EOT, bos_token_id=SOT))
    model = CLIPModel(config).eval()
    fill(model, torch.Generator().manual_seed(23), 1.3)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    write(folder, "tokenizer.json", TOKENIZER)
    save_golden(folder, 32, 77, *hf_features(model, 77))


def main(out):
    gelu = {"embed_dim": 48,
            "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": VOCAB, "width": 64, "heads": 2, "layers": 2}}
    quick = {"embed_dim": 64, "quick_gelu": True,
             "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
             "text_cfg": {"context_length": 77, "vocab_size": VOCAB, "width": 64, "heads": 4, "layers": 2}}
    custom = {"embed_dim": 32,
              "vision_cfg": {"image_size": 50, "layers": 2, "width": 72, "head_width": 24, "patch_size": 14,
                             "mlp_ratio": 3.5},
              "text_cfg": {"context_length": 32, "vocab_size": VOCAB, "width": 40, "heads": 2, "layers": 3}}
    with torch.no_grad():
        model = make_open_clip(out, "clip_gelu", gelu, torch.bfloat16, 11)
        make_open_clip(out, "clip_quickgelu", quick, torch.float32, 12)
        make_hf_twin(out, "clip_hf", model, gelu)
        make_hf_single(out, "clip_hf_single")
        make_open_clip(out, "clip_custom_text", custom, torch.float16, 13, CustomTextCLIP, flat=True)


if __name__ == "__main__":
    main(sys.argv[1])
