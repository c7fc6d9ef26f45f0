"""Make the small PaliGemma snapshots of tests/golden/models/ and their golden outputs.

Needs pip packages: torch, transformers==4.49.0, tokenizers, safetensors, numpy, Pillow.

    python make_paligemma.py OUT_DIR       # OUT_DIR = tests/golden/models

paligemma_small   Gemma: one key and value for all heads, float32, the published names.
paligemma2_small  Gemma 2: grouped queries, both soft caps, a window shorter than the sequence; bfloat16, the head
                  stored a second time.
paligemma2_odd    Gemma 2: other proportions, a query scale that is not the head's, patches of 14; float32, the names
                  of transformers 4.52 and later, in two files.

Each folder has golden.safetensors and golden.json; images are formulas (see `pattern`). The reference runs in float32
with eager attention, which alone applies the soft cap, and without a cache: the whole sequence under an explicit mask,
prefix in both directions, at every step. `logits` and `captions` are without the window (as the models were trained),
`logits_window` and `captions_window` with it.
"""

import hashlib
import json
import os
import sys

from PIL import Image

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

N_IMAGES, N_TOKENS = 20, 40
PROMPTS = ["caption en", "detect dog ; cat", "answer en what is on the table?\n"]

WORDS = """caption describe ocr answer detect segment en de fr what where is the on in of and with
a an man woman child dog cat bird horse car bus train boat street road house table chair tree flower grass
river lake sea beach sand sky cloud sun red blue green white black big small old sitting standing walking
running eating looking near under over beside photo picture view""".split()


def make_tokenizer():
    """Gemma's kind: byte fallback, spaces as pieces, newlines and places as added tokens."""
    vocab = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\u2581\u2581"]
    n_added = len(vocab)
    vocab += [f"<0x{b:02X}>" for b in range(256)]
    vocab += ["\u2581"] + [chr(c) for c in range(33, 127)]
    merges = []
    for word in WORDS:
        for start in ("\u2581", ""):
            left = (start or word[0])
            for right in (word if start else word[1:]):
                if (left, right) not in merges:
                    merges.append((left, right))
                    vocab.append(left + right)
                left += right
    vocab = list(dict.fromkeys(vocab))
    merges = list(dict.fromkeys(merges))
    n = len(vocab)
    places = [f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)] + ["<image>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": i, "content": vocab[i], **flags, "special": i < 7} for i in range(n_added)]
    added += [{"id": n + i, "content": p, **flags, "special": p == "<image>"} for i, p in enumerate(places)]
    return n, {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [
            {"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<bos>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(vocab)}, "merges": [f"{a} {b}" for a, b in merges]},
    }


def pattern(k, height, width):
    """Image k: uint8 [height, width, 3]; the C tests compute the same."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return (((37 + 2 * k) * x + (101 + 6 * k) * y + (7 + k) * x * y + 59 * c + 29 * k) % 256).astype(np.uint8)


def picture(k):
    return pattern(k, 20 + 3 * k, 64 - k)


def resize(image, size):
    """Horizontally first, as Pillow did up to 12; 13 begins vertically when that saves work."""
    return np.array(Image.fromarray(image).resize((size, len(image)), Image.BICUBIC).resize((size, size), Image.BICUBIC))


def to_pixels(image, size):
    return (torch.from_numpy(resize(image, size)).float().permute(2, 0, 1) / 255 - 0.5) / 0.5


def resized_digests(size):
    """[height, width, SHA-256 of the bytes] of 200 pictures, thin, tiny and large ones among them."""
    rng = np.random.default_rng(1)
    sides = [(1, 1), (1, 300), (300, 1), (2, 500), (size, size), (size, 99), (99, size), (31, 33), (640, 480)]
    sides += [tuple(int(v) for v in rng.integers(1, 400, 2)) for _ in range(200 - len(sides))]
    return [[h, w, hashlib.sha256(resize(pattern(k % 20, h, w), size).tobytes()).hexdigest()[:16]]
            for k, (h, w) in enumerate(sides)]


def text_ids(tokenizer, prompt):
    return [2] + tokenizer.encode(prompt.rstrip("\n"), add_special_tokens=False).ids + tokenizer.encode(
        "\n", add_special_tokens=False).ids


class Reference:
    """Whole sequences under an explicit mask."""

    def __init__(self, model, n_image, image_id):
        self.model, self.n_image, self.image_id = model, n_image, image_id

    @torch.no_grad()
    def logits(self, pixels, text, said):
        ids = torch.tensor([[self.image_id] * self.n_image + text + said])
        n, prefix = ids.shape[1], self.n_image + len(text)
        hidden = torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1)
        hidden[:, :prefix] = False
        mask = torch.zeros(n, n).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]
        return self.model(input_ids=ids, pixel_values=pixels[None], attention_mask=mask, use_cache=False).logits[0]

    def greedy(self, pixels, text, end):
        said, gap = [], np.inf
        while len(said) < N_TOKENS and (not said or said[-1] != end):
            row = self.logits(pixels, text, said)[-1, :self.image_id]
            top = torch.topk(row, 2)
            gap = min(gap, (top.values[0] - top.values[1]).item())
            said.append(int(top.indices[0]))
        return said, gap


def set_window(model, window):
    for layer in model.language_model.model.layers:
        if hasattr(layer, "sliding_window"):
            layer.sliding_window = window


def fill(model, gen, gain, end_gain):
    """Matrices uniform with variance gain^2 / fan_in; norms near their neutral value; what is said must not repeat itself."""
    four_norms = any("feedforward" in name for name, _ in model.named_parameters())
    with torch.no_grad():
        for name, p in model.named_parameters():
            u = torch.rand(p.shape, generator=gen) * 2 - 1
            if "embed_tokens" in name:
                p.copy_(u * (3 / p.shape[1]) ** 0.5)
                p[1] *= end_gain  # ends now and then
            elif four_norms and "post_" in name and "language" in name:
                p.copy_(gain + 0.1 * u)  # Gemma 2's halves weigh more than the token they are about
            elif "language" in name and ("q_proj" in name or "k_proj" in name):
                p.copy_(u * 1.6 * (3 / p[0].numel()) ** 0.5)
            elif "position_embedding" in name:
                p.copy_(u)
            elif p.dim() >= 2:
                p.copy_(u * (1 if four_norms else gain) * (3 / p[0].numel()) ** 0.5)
            elif "vision" in name and name.endswith(".weight"):
                p.copy_(1 + 0.1 * u)
            else:
                p.copy_(0.1 * u)


def new_names(tensors):
    """transformers 4.52 and later."""
    out = {}
    for name, value in tensors.items():
        name = name.replace("language_model.model.", "language_model.")
        out[name if name.startswith("lm_head") else "model." + name] = value
    return out


def build(out, name, seed, vision, text, dtype, head_twice, renamed, gain, end_gain):
    n_pieces, tokenizer_json = make_tokenizer()
    image_id = n_pieces + 1152
    rows = (image_id + 1 + 63) // 64 * 64
    kind = text["model_type"]
    config = PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **vision},
        text_config={"vocab_size": rows, **text}, image_token_index=image_id, projection_dim=text["hidden_size"],
        vocab_size=image_id, bos_token_id=2, eos_token_id=1, pad_token_id=0)
    config._attn_implementation = "eager"
    model = PaliGemmaForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    model.tie_weights()
    fill(model, torch.Generator().manual_seed(seed), gain, end_gain)
    for p in model.parameters():
        p.data = p.data.to(dtype).float()
    n_image = (vision["image_size"] // vision["patch_size"]) ** 2
    assert model.language_model.lm_head.weight.data_ptr() == model.language_model.model.embed_tokens.weight.data_ptr()

    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        os.remove(os.path.join(folder, old))
    json.dump(tokenizer_json, open(os.path.join(folder, "tokenizer.json"), "w"), ensure_ascii=False)
    published = {"architectures": ["PaliGemmaForConditionalGeneration"], "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
            "hidden_size": text["hidden_size"], "ignore_index": -100, "image_token_index": image_id,
            "model_type": "paligemma", "projection_dim": text["hidden_size"], "torch_dtype": str(dtype)[6:],
            "transformers_version": "4.49.0", "vocab_size": image_id,
            "text_config": {"torch_dtype": str(dtype)[6:], "vocab_size": rows, "num_image_tokens": n_image, **text},
            "vision_config": {"model_type": "siglip_vision_model", "num_image_tokens": n_image,
                              "projection_dim": text["hidden_size"], "projector_hidden_act": "gelu_fast",
                              "vision_use_head": False, **vision}}
    json.dump(published, open(os.path.join(folder, "config.json"), "w"), indent=1)
    json.dump({"do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True,
               "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "SiglipImageProcessor", "image_seq_length": n_image,
               "image_std": [0.5, 0.5, 0.5], "processor_class": "PaliGemmaProcessor", "resample": 3,
               "rescale_factor": 1 / 255, "size": {"height": vision["image_size"], "width": vision["image_size"]}},
              open(os.path.join(folder, "preprocessor_config.json"), "w"), indent=1)

    tensors = {k: v.to(dtype).clone().contiguous() for k, v in model.state_dict().items() if not k.endswith("position_ids")}
    if not head_twice:
        tensors.pop("language_model.lm_head.weight")
    if renamed:
        tensors = new_names(tensors)
        names = sorted(tensors)
        files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for file, part in files.items():
            save_file({k: tensors[k] for k in part}, os.path.join(folder, file), metadata={"format": "pt"})
        json.dump({"metadata": {"total_size": sum(t.numel() * t.element_size() for t in tensors.values())},
                   "weight_map": {k: file for file, part in files.items() for k in part}},
                  open(os.path.join(folder, "model.safetensors.index.json"), "w"), indent=1)
    else:
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})

    reference = Reference(model, n_image, image_id)
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    size = vision["image_size"]
    window = text.get("sliding_window")
    pixels = [to_pixels(picture(k), size) for k in range(N_IMAGES)]
    texts = [text_ids(tokenizer, p) for p in PROMPTS]
    golden, words = {}, {"prompts": PROMPTS, "prompt_ids": texts, "image_id": image_id, "window": window or 0,
                     "resized": resized_digests(size)}
    with torch.no_grad():
        golden["tower"] = model.vision_tower(pixels[0][None]).last_hidden_state[0]
        golden["projected"] = model.multi_modal_projector(golden["tower"][None])[0]
    smallest = np.inf
    for suffix, w in (("", None), ("_window", window)):
        if suffix and not window:
            continue
        set_window(model, w if w else 1 << 20)
        ids, spoken = [], []
        for k in range(N_IMAGES):
            said, gap = reference.greedy(pixels[k], texts[0], 1)
            smallest = min(smallest, gap)
            ids.append(said + [-1] * (N_TOKENS - len(said)))
            kept = [i for i in said if i > 3]
            spoken.append(tokenizer.decode(kept, skip_special_tokens=False))
        golden["captions" + suffix] = torch.tensor(ids, dtype=torch.int32)
        words["captions" + suffix] = spoken
        for p in range(len(PROMPTS)):
            said = [i for i in ids[p] if i >= 0][:6]
            all_logits = reference.logits(pixels[p], texts[p], said)
            golden[f"said_{p}{suffix}"] = torch.tensor(said, dtype=torch.int32)
            golden[f"logits_{p}{suffix}"] = all_logits[n_image + len(texts[p]) - 1:, :image_id].contiguous()
    assert smallest > 1e-4, "a near tie: another seed"
    if window is None:  # the reference's own generation, where its cache does what the mask says
        for k in range(3):
            ids = torch.tensor([[image_id] * n_image + texts[0]])
            made = model.generate(input_ids=ids, pixel_values=pixels[k][None], attention_mask=torch.ones_like(ids),
                                  max_new_tokens=N_TOKENS, do_sample=False,
                                  suppress_tokens=list(range(image_id, rows)))[0, ids.shape[1]:].tolist()
            assert made == [i for i in golden["captions"][k].tolist() if i >= 0], (made, golden["captions"][k])
    save_file({k: v.contiguous() for k, v in golden.items()}, os.path.join(folder, "golden.safetensors"))
    json.dump(words, open(os.path.join(folder, "golden.json"), "w"))
    lengths = [int((golden["captions"][k] >= 0).sum()) for k in range(N_IMAGES)]
    print(name, kind, "parameters", sum(p.numel() for p in model.parameters()), "smallest gap", smallest, "lengths", lengths,
          "distinct", len({tuple(r) for r in golden["captions"].tolist()}),
          "logit std", golden["logits_0"].std().item())
    print("   ", words["captions"][:3])


def main():
    out = sys.argv[1]
    torch.set_num_threads(1)
    build(out, "paligemma_small", 11,
          {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
           "patch_size": 8},
          {"model_type": "gemma", "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
           "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16},
          torch.float32, False, False, 3.0, 1.6)
    build(out, "paligemma2_small", 12,
          {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 6, "image_size": 32,
           "patch_size": 8},
          {"model_type": "gemma2", "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 4,
           "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24, "query_pre_attn_scalar": 24,
           "sliding_window": 11, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 30.0,
           "hidden_activation": "gelu_pytorch_tanh"},
          torch.bfloat16, True, False, 3.5, 1.5)
    build(out, "paligemma2_odd", 16,
          {"hidden_size": 40, "intermediate_size": 60, "num_hidden_layers": 3, "num_attention_heads": 5, "image_size": 42,
           "patch_size": 14},
          {"model_type": "gemma2", "hidden_size": 36, "intermediate_size": 100, "num_hidden_layers": 3,
           "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8, "query_pre_attn_scalar": 6,
           "sliding_window": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 10.0},
          torch.float32, False, True, 1.5, 1.2)


if __name__ == "__main__":
    main()
