"""Make tests/golden/mobileclip/: embeddings of full-size MobileCLIP models whose weights follow from their names.

    python make_mobileclip.py OUT_DIR            # OUT_DIR = tests/golden/mobileclip

Needs torch, timm 1.0.31, open_clip_torch 2.31.0 and safetensors. Weights are filled as tests/support/synthetic_weights.h
says, so nothing is downloaded and nothing large is stored. Per model: <name>.json.gz, the names and shapes of all tensors in
the published (training) form under open_clip's names, and <name>.safetensors, the unit-norm embeddings "image" [2, D] of
the pattern image and its mirror, "text" [3, D] of the rows "text_ids" int32 [3, 77], and the norms before normalising.
"""
import gzip
import json
import pathlib
import sys

import numpy as np
import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

OUT = pathlib.Path(sys.argv[1])
S0_TEXT, L_TEXT = dict(width=512, heads=8, layers=12), dict(width=768, heads=12, layers=12)
MODELS = {  # timm name, side, pool, D, text, no causal mask, mean and std of OpenAI
    "MobileCLIP2-S0": ("fastvit_mci0", 256, "avg", 512, S0_TEXT, True, False),
    "MobileCLIP-S1": ("fastvit_mci1", 256, "avg", 512, S0_TEXT, True, False),
    "MobileCLIP2-S2": ("fastvit_mci2", 256, "avg", 512, S0_TEXT, True, False),
    "MobileCLIP2-S3": ("fastvit_mci3", 256, "avg", 768, L_TEXT, True, True),
    "MobileCLIP2-S4": ("fastvit_mci4", 256, "avg", 768, L_TEXT, True, True),
    "MobileCLIP-B": ("vit_base_mci_224", 224, "token", 512, S0_TEXT, False, False),
    "MobileCLIP2-L-14": ("vit_large_patch14_clip_224", 224, "token", 768, L_TEXT, True, True),
}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def fill(name, shape):
    h = np.uint32(2166136261)
    with np.errstate(over="ignore"):
        for byte in name.encode():
            h = np.uint32(h ^ np.uint32(byte)) * np.uint32(16777619)
    n = int(np.prod(shape))
    # s[j + 1] = a s[j] + c, as a closed form over powers so that it runs in numpy: blocks of 4096
    a, c = np.uint64(1664525), np.uint64(1013904223)
    mask = np.uint64(0xFFFFFFFF)
    block = 4096
    mul, add = np.empty(block, np.uint64), np.empty(block, np.uint64)
    m, k = np.uint64(1), np.uint64(0)
    for i in range(block):
        m, k = (m * a) & mask, (k * a + c) & mask
        mul[i], add[i] = m, k
    out = np.empty(-(-n // block) * block, np.uint32)
    s = np.uint64(h)
    for i in range(0, n, block):
        values = (mul * s + add) & mask
        out[i:i + block] = values
        s = values[-1]
    u = ((out[:n] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)).astype(np.float32)
    if name.endswith("gamma"):
        v = np.float32(0.1) + np.float32(0.02) * u
    elif len(shape) >= 2:
        fan = shape[0] if name.endswith(("proj", "text_projection")) else int(np.prod(shape[1:]))
        v = np.float32(np.sqrt(3.0 / fan)) * u
    elif name.endswith("running_var"):
        v = np.float32(1) + np.float32(0.5) * u
    elif name.endswith(".weight"):
        v = np.float32(1) + np.float32(0.1) * u
    else:
        v = np.float32(0.1) * u
    return torch.from_numpy(v.astype(np.float32).reshape(shape))


def pattern(side, openai):
    y, x, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    pixels = torch.from_numpy(((37 * x + 101 * y + 7 * x * y + 59 * c) % 256).astype(np.float32)) / 255
    if openai:
        pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    pixels = pixels.permute(2, 0, 1)
    return torch.stack([pixels, pixels.flip(2)])


def rows():
    ids = torch.zeros(3, 77, dtype=torch.int32)
    ids[0, :7] = torch.tensor([49406, 320, 1125, 539, 320, 2368, 49407])
    ids[1, :2] = torch.tensor([49406, 49407])
    ids[2] = torch.arange(77) * 631 % 49000
    ids[2, 0], ids[2, 76] = 49406, 49407
    return ids


OUT.mkdir(exist_ok=True)
for name, (timm_name, side, pool, dim, text, bidirectional, openai) in MODELS.items():
    if len(sys.argv) > 2 and name not in sys.argv[2:]:
        continue
    vision = dict(timm_model_name=timm_name, timm_model_pretrained=False, timm_pool=pool, timm_proj=None, timm_drop=0.0,
                  timm_drop_path=0.0, image_size=side)
    model = CustomTextCLIP(dim, vision, dict(context_length=77, vocab_size=49408, no_causal_mask=bidirectional, **text)).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked") and v.dim() > 0}
    model.load_state_dict({k: fill(k, tuple(v.shape)) for k, v in state.items()}, strict=False)
    with torch.inference_mode():
        image, text_emb = model.encode_image(pattern(side, openai)), model.encode_text(rows().long())
    shapes = json.dumps({k: list(v.shape) for k, v in state.items()}).encode()
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(shapes, mtime=0))
    unit = torch.nn.functional.normalize
    save_file({"image": unit(image, dim=-1), "image_norm": image.norm(dim=-1), "text": unit(text_emb, dim=-1),
               "text_norm": text_emb.norm(dim=-1), "text_ids": rows()}, OUT / f"{name}.safetensors")
    print(name, len(state), image.norm(dim=-1), unit(image, dim=-1)[0, :4], text_emb.norm(dim=-1)[0], unit(text_emb, dim=-1)[0, :4])
