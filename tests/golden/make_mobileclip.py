"""Make tests/golden/mobileclip/: embeddings of full-size MobileCLIP models whose weights follow from their names.

    python make_mobileclip.py [--apple ML_MOBILECLIP] OUT_DIR [NAME...]      # OUT_DIR = tests/golden/mobileclip

Needs torch, timm 1.0.31, open_clip_torch 2.31.0 and safetensors, and for mobileclip_*, Apple's own form of the first models,
torchvision and a checkout of https://github.com/apple/ml-mobileclip, 4144bb1f081a6bcb9bc9e6552dee3b29a9ef9855.

Weights are filled as tests/support/synthetic_weights.h says, so nothing is downloaded and nothing large is stored. Per
model: <name>.json.gz, the names and shapes of all tensors in the published (training) form under open_clip's or Apple's
names, and <name>.safetensors, the unit-norm embeddings "image" [2, D] of the pattern image and its mirror, "text" [3, D] of
the rows "text_ids" int32 [3, 77], and the norms before normalising. Of *_folded the tensors are those of a model whose
branches reparameterize_model() has folded.
"""
import argparse
import gzip
import json
import pathlib
import sys

import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import synthetic_weights

parser = argparse.ArgumentParser()
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--apple", type=pathlib.Path)
parser.add_argument("names", nargs="*")
ARGS = parser.parse_args()
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


def pattern(side, openai):
    pixels = torch.from_numpy(synthetic_weights.pattern(side)).float() / 255
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


def make(name, model, pixels):
    """Fills the model, runs it, and writes what it is and says."""
    model.eval()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked") and v.dim() > 0}
    filled = {k: torch.from_numpy(synthetic_weights.fill(k, tuple(v.shape))) for k, v in state.items()}
    model.load_state_dict(filled, strict=False)
    with torch.inference_mode():
        image, text_emb = model.encode_image(pixels), model.encode_text(rows().long())
    shapes = json.dumps({k: list(v.shape) for k, v in state.items()}).encode()
    (ARGS.out / f"{name}.json.gz").write_bytes(gzip.compress(shapes, mtime=0))
    unit = torch.nn.functional.normalize
    save_file({"image": unit(image, dim=-1), "image_norm": image.norm(dim=-1), "text": unit(text_emb, dim=-1),
               "text_norm": text_emb.norm(dim=-1), "text_ids": rows()}, ARGS.out / f"{name}.safetensors")
    print(name, len(state), image.norm(dim=-1), unit(image, dim=-1)[0, :4], text_emb.norm(dim=-1)[0], unit(text_emb, dim=-1)[0, :4])


def is_wanted(name):
    return not ARGS.names or name in ARGS.names


ARGS.out.mkdir(exist_ok=True)
for name, (timm_name, side, pool, dim, text, bidirectional, openai) in MODELS.items():
    if is_wanted(name):
        vision = dict(timm_model_name=timm_name, timm_model_pretrained=False, timm_pool=pool, timm_proj=None, timm_drop=0.0,
                      timm_drop_path=0.0, image_size=side)
        text = dict(context_length=77, vocab_size=49408, no_causal_mask=bidirectional, **text)
        make(name, CustomTextCLIP(dim, vision, text), pattern(side, openai))

if ARGS.apple:
    sys.path.insert(0, str(ARGS.apple))
    import mobileclip

    for name in ("mobileclip_s0", "mobileclip_s0_folded", "mobileclip_s1", "mobileclip_s2", "mobileclip_b"):
        if is_wanted(name):
            variant = name.removesuffix("_folded")
            model, _, _ = mobileclip.create_model_and_transforms(variant, reparameterize=name != variant)
            make(name, model, pattern(224 if variant == "mobileclip_b" else 256, False))
