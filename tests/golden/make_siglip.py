"""Make the small SigLIP snapshots of tests/golden/models/ and their golden outputs.

Needs pip packages: torch, open_clip_torch==2.31.0, timm==1.0.31, transformers==4.51.3 (the first with siglip2; its
siglip is that of 4.49), tokenizers, ftfy, safetensors, numpy, Pillow<13
(whose pass order is ours: reinforce/image/README.md).

    python make_siglip.py OUT_DIR            # OUT_DIR = tests/golden/models

siglip_hf           transformers' SiglipModel, float32; bicubic, as SigLIP 1's processors.
siglip_hf_14        like So400m/14: heads of 72, a patch that does not divide the image, a text tower narrower than the
                    image tower (as g-opt's); bfloat16 in shards with an index, bilinear.
siglip_hf_16        heads of 96, a context of 16, a unigram tokenizer as SigLIP 1's; float16.
siglip2_naflex      Siglip2Model: 16 x 16 positions, up to 256 patches.
siglip2_naflex_8    8 x 8 positions, up to 100 patches of 8 pixels, heads of 72, bfloat16.
siglip2_naflex_4    4 x 4 positions, up to 256 patches of 4 pixels, another text width.
siglip_timm         open_clip's layout like ViT-B-16-SigLIP: GELU with erf in both towers.
siglip_timm_14      like ViT-SO400M-14-SigLIP2: 16 heads, GELU by tanh in the text tower only, a patch that does not divide;
                    bfloat16.
siglip_timm_16      like ViT-gopt-16-SigLIP2 with the multilingual models' missing text projection; float16.

All others have text_gemma.json as their tokenizer. Beside each model golden.safetensors: unit-norm embeddings of ten images at
the model's size (fixed resolution), of images of SIZES through the model's own processor, of TEXTS after the library's
cleaning, the rows of ids, and the logits of all of these.
"""

import json
import os
import re
import string
import sys

import make_text
import numpy as np
import open_clip.timm_model
import open_clip.tokenizer
import torch
import torch.nn.functional as F
from make_coca import fill, pattern
from open_clip.model import CustomTextCLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (Siglip2Config, Siglip2ImageProcessor, Siglip2Model, SiglipConfig, SiglipImageProcessor,
                          SiglipModel)

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "text_gemma.json"), encoding="utf-8") as f:
    TOKENIZER_JSON = f.read()
TOKENIZER = Tokenizer.from_str(TOKENIZER_JSON)
VOCAB = TOKENIZER.get_vocab_size()
TEXTS = ["a photo of a cat", "Two DOGS running on the beach.", "", "red  bus\tnear a CHURCH", "it's 42!", "ÉCOLE d'été_2",
         "&amp;lt;b&gt; curly “quotes”", "a small wooden table with one yellow cup, some bread and three apples " * 9]
# height, width: twelve aspect ratios
SIZES = [(64, 64), (48, 64), (64, 48), (90, 160), (160, 90), (33, 100), (100, 33), (10, 200), (200, 10), (37, 53), (1, 1),
         (130, 111)]
UPPER_TO_LOWER = {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}


def lower_ascii(text):
    """SigLIP 2's own lower-casing: of bytes."""
    return text.translate(UPPER_TO_LOWER)


def make_t5():
    """In the shape of SigLIP 1's: unigram pieces, compiled normalization, one token for end and padding."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator(make_text.PARTS["sentences"] * 3, trainers.UnigramTrainer(
        vocab_size=700, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    made = json.loads(tokenizer.to_str())
    rules = {"\u3000": " ", "\u00a0": " ", "\t": " ", "ﬁ": "fi", "É": "É", "é": "é", "“": "\"", "”": "\""}
    made["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Precompiled", "precompiled_charsmap": make_text.compile_charsmap(rules)},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}
    made["model"]["vocab"] = [[piece, round(score, 4)] for piece, score in made["model"]["vocab"]]
    return json.dumps(made, ensure_ascii=False)


def canonical(text):
    """transformers' SiglipTokenizer before its pieces."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\s+", " ", text).strip()


def canonicalize(text):
    return open_clip.tokenizer.get_clean_fn("canonicalize")(text)


def text_rows(clean, context, tokenizer_json=TOKENIZER_JSON, pad=0):
    tokenizer = Tokenizer.from_str(tokenizer_json)
    rows = []
    for text in TEXTS:
        ids = tokenizer.encode(clean(text), add_special_tokens=False).ids[:context - 1] + [1]
        rows.append(ids + [pad] * (context - len(ids)))
    return torch.tensor(rows)


def images():
    return [pattern(k, h, w) for k, (h, w) in enumerate(SIZES)]


def square_images(size):
    return [pattern(k, size, size) for k in range(8)] + [np.full((size, size, 3), v, np.uint8) for v in (0, 255)]


def start(out, name):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    for file in os.listdir(folder):
        os.remove(os.path.join(folder, file))
    return folder


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def save_golden(folder, model, golden, tokenizer_json=TOKENIZER_JSON):
    """Embeddings to unit length, and what the scores are made of."""
    golden = {k: F.normalize(v, dim=-1) if v.dtype == torch.float32 else v for k, v in golden.items()}
    golden["logits"] = golden["sizes"] @ golden["text"].T * model.logit_scale.exp() + model.logit_bias
    save_file({k: v.contiguous() for k, v in golden.items()}, os.path.join(folder, "golden.safetensors"))
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        f.write(tokenizer_json)
    for file in sorted(os.listdir(folder)):
        os.chmod(os.path.join(folder, file), 0o644)
        print(f"{os.path.basename(folder)}/{file}: {os.path.getsize(os.path.join(folder, file))} bytes")


def randomize(model, seed, dtype):
    fill(model, torch.Generator().manual_seed(seed), 1.3)
    with torch.no_grad():
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-15.9)
        for p in model.parameters():
            p.copy_(p.to(dtype).float())


def tower(width, mlp, layers, heads, **more):
    return {"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
            **more}


def pixels_of(processor, pictures):
    # said aloud: of a 1 x 1 image the processor guesses wrong
    return processor(images=pictures, return_tensors="pt", input_data_format="channels_last")


def make_fixed(out, name, seed, vision, text, resample, dtype=torch.float32, t5=False, **save):
    folder = start(out, name)
    tokenizer_json = make_t5() if t5 else TOKENIZER_JSON
    context = text.get("max_position_embeddings", 64)
    model = SiglipModel(SiglipConfig(vision_config=vision, text_config={**text, "vocab_size": VOCAB})).eval()
    randomize(model, seed, dtype)
    model.to(dtype).save_pretrained(folder, **save)
    model.float()
    size = vision["image_size"]
    processor = SiglipImageProcessor(size={"height": size, "width": size}, resample=resample)
    processor.save_pretrained(folder)

    def embed(pictures):
        pixels = torch.cat([pixels_of(processor, [Image.fromarray(p)])["pixel_values"] for p in pictures])
        return model.get_image_features(pixel_values=pixels)

    rows = text_rows(canonical if t5 else lower_ascii, context, tokenizer_json, 1 if t5 else 0)
    save_golden(folder, model, {"image": embed(square_images(size)), "sizes": embed(images()),
                                "text": model.get_text_features(input_ids=rows), "text_ids": rows.int()},
                tokenizer_json)


def make_naflex(out, name, seed, vision, text, budget, dtype=torch.float32):
    folder = start(out, name)
    model = Siglip2Model(Siglip2Config(vision_config=vision, text_config={**text, "vocab_size": VOCAB})).eval()
    randomize(model, seed, dtype)
    model.to(dtype).save_pretrained(folder)
    model.float()
    processor = Siglip2ImageProcessor(patch_size=vision["patch_size"], max_num_patches=budget)
    processor.save_pretrained(folder)
    inputs = pixels_of(processor, [Image.fromarray(p) for p in images()])
    rows = text_rows(lower_ascii, 64)
    save_golden(folder, model, {
        "sizes": model.get_image_features(pixel_values=inputs["pixel_values"],
                                          pixel_attention_mask=inputs["pixel_attention_mask"],
                                          spatial_shapes=inputs["spatial_shapes"]),
        "spatial_shapes": inputs["spatial_shapes"].int(),
        "text": model.get_text_features(input_ids=rows), "text_ids": rows.int()})


def make_timm(out, name, seed, cfg, trunk, dtype=torch.float32):
    """timm has no small SigLIP: its factory is replaced while the model is made, under a name of the same form."""
    folder = start(out, name)
    factory = open_clip.timm_model.timm.create_model

    def create_model(model_name, num_classes, global_pool, pretrained):
        return VisionTransformer(img_size=cfg["vision_cfg"]["image_size"], num_classes=num_classes,
                                 global_pool=global_pool, class_token=False, **trunk)

    open_clip.timm_model.timm.create_model = create_model
    text = {"vocab_size": VOCAB, "hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}, **cfg["text_cfg"]}
    vision = {"timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none", **cfg["vision_cfg"]}
    cfg = {"embed_dim": cfg["embed_dim"], "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision,
           "text_cfg": text}
    model = CustomTextCLIP(**{k: v for k, v in json.loads(json.dumps(cfg)).items() if k != "custom_text"}).eval()
    open_clip.timm_model.timm.create_model = factory
    randomize(model, seed, dtype)
    preprocess = {"size": vision["image_size"], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic",
                  "resize_mode": "squash"}
    write_json(folder, "open_clip_config.json", {
        "model_cfg": cfg, "preprocess_cfg": {k: v for k, v in preprocess.items() if k != "size"}})
    save_file({k: v.to(dtype).contiguous() for k, v in model.state_dict().items()},
              os.path.join(folder, "open_clip_model.safetensors"), metadata={"format": "pt"})
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)

    def embed(pictures):
        return model.encode_image(torch.stack([transform(Image.fromarray(p)) for p in pictures]))

    rows = text_rows(canonicalize, text["context_length"])
    save_golden(folder, model, {"image": embed(square_images(vision["image_size"])), "sizes": embed(images()),
                                "text": model.encode_text(rows), "text_ids": rows.int()})


def text_cfg(width, heads, layers, **more):
    return {"context_length": 64, "width": width, "heads": heads, "layers": layers, **more}


def main(out):
    tanh = {"act_kwargs": {"approximate": "tanh"}}
    with torch.no_grad():
        make_fixed(out, "siglip_hf", 31, tower(48, 96, 2, 3, image_size=64, patch_size=16), tower(48, 96, 2, 3), 3)
        make_fixed(out, "siglip_hf_14", 32, tower(144, 269, 2, 2, image_size=62, patch_size=14),
                   tower(64, 112, 3, 2, projection_size=144), 2, torch.bfloat16, max_shard_size="400KB")
        make_fixed(out, "siglip_hf_16", 33, tower(96, 100, 2, 1, image_size=40, patch_size=8),
                   tower(96, 128, 1, 1, max_position_embeddings=16), 2, torch.float16, t5=True)
        make_naflex(out, "siglip2_naflex", 34, tower(64, 128, 2, 4, patch_size=16, num_patches=256), tower(64, 96, 2, 4),
                    256)
        make_naflex(out, "siglip2_naflex_8", 35, tower(72, 90, 3, 1, patch_size=8, num_patches=64),
                    tower(72, 80, 2, 2), 100, torch.bfloat16)
        make_naflex(out, "siglip2_naflex_4", 36, tower(48, 64, 2, 2, patch_size=4, num_patches=16),
                    tower(32, 64, 2, 1, projection_size=48), 256)
        make_timm(out, "siglip_timm", 37, {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 48, "timm_model_name": "vit_base_patch16_siglip_48"},
            "text_cfg": text_cfg(64, 2, 2, proj_bias=True)},
            {"patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 1, "mlp_ratio": 2})
        make_timm(out, "siglip_timm_14", 38, {
            "embed_dim": 128,
            "vision_cfg": {"image_size": 60, "timm_model_name": "vit_so400m_patch14_siglip_60"},
            "text_cfg": text_cfg(96, 3, 2, mlp_ratio=1.7362, proj_bias=True, **tanh)},
            {"patch_size": 14, "embed_dim": 128, "depth": 2, "num_heads": 16, "mlp_ratio": 1.7362},
            torch.bfloat16)
        make_timm(out, "siglip_timm_16", 39, {
            "embed_dim": 96,
            "vision_cfg": {"image_size": 64, "timm_model_name": "vit_giantopt_patch16_siglip_64"},
            "text_cfg": text_cfg(96, 4, 2, mlp_ratio=2, proj_type="none", **tanh)},
            {"patch_size": 16, "embed_dim": 96, "depth": 3, "num_heads": 16, "mlp_ratio": 2, "act_layer": "gelu_tanh"},
            torch.float16)


if __name__ == "__main__":
    main(sys.argv[1])
