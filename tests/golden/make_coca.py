"""Make the small CoCa snapshots of tests/golden/models/ and their golden outputs.

Needs pip packages: torch, open_clip_torch==2.31.0, transformers==4.49.0, tokenizers, safetensors, numpy, Pillow.
open_clip 2.31.0 is what the goldens pin: later versions decode by other rules (docs: clip-coca-mobileclip 4.7).

    python make_coca.py OUT_DIR            # OUT_DIR = tests/golden/models

coca_small    open_clip's published layout (config, safetensors in bfloat16, tokenizer.json): the tests' and the
              quickstart's captioner. Random weights; a learned bias is imitated so that words are likelier than stray
              bytes and captions end by themselves now and then.
coca_fused    vision width = embedding width, so that the pooler's projections are stored fused; float16; a positional
              table of 129 rows, so a context of 128; no tokenizer.

Golden tensors are beside each model in golden.safetensors; images are formulas (see `pattern`).
"""

import json
import os
import sys

from PIL import Image

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.coca_model import CoCa
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BeamSearchScorer, LogitsProcessorList, MinLengthLogitsProcessor

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

WORDS = """a an the of on in at with and to by near under over beside behind from into
photo picture image painting drawing view close up scene
man woman boy girl child people person group dog cat bird horse cow sheep fish bear lion
car bus truck train boat plane bike street road city house building window door wall roof bridge tower
table chair bed sofa lamp book phone cup plate bowl bottle knife fork spoon
tree flower grass leaf forest mountain hill river lake sea beach sand sky cloud sun moon star snow rain
red blue green yellow white black brown orange pink grey gold silver
big small old new tall short bright dark wooden round empty colourful
standing sitting walking running eating holding playing looking flying lying riding parked
field garden park kitchen room market station shop church
bread apple cake pizza fruit cheese soup tea coffee
hat shirt dress shoe bag glass clock flag ball sign
one two three four many some several his her its is are""".split()


def bytes_to_unicode():
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in kept]
    return [chr(b) for b in kept] + [chr(256 + i) for i in range(len(rest))]


def make_tokenizer():
    """CLIP's layout of ids: bytes, bytes with </w>, merges in rank order, start, end."""
    symbols = bytes_to_unicode()
    vocab = symbols + [s + "</w>" for s in symbols]
    merges = []
    for word in WORDS:
        parts = list(word[:-1]) + [word[-1] + "</w>"]
        left = parts[0]
        for right in parts[1:]:
            if (left, right) not in merges:
                merges.append((left, right))
                vocab.append(left + right)
            left += right
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(vocab)) == len(vocab)
    n = len(vocab)
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": n - 2, "content": "<|startoftext|>", **special},
                         {"id": n - 1, "content": "<|endoftext|>", **special}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": split}, "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", n - 1],
                           "cls": ["<|startoftext|>", n - 2], "trim_offsets": False, "add_prefix_space": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(vocab)}, "merges": [f"{a} {b}" for a, b in merges]},
    }


def pattern(k, height, width):
    """Image k: uint8 [height, width, 3]; the C tests compute the same."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return (((37 + 2 * k) * x + (101 + 6 * k) * y + (7 + k) * x * y + 59 * c + 29 * k) % 256).astype(np.uint8)


def to_tensor(images):
    x = torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2) / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def fill(model, gen, gain):
    """Matrices uniform with variance gain^2 / fan_in, vectors small around their neutral value."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            u = torch.rand(p.shape, generator=gen) * 2 - 1
            if p.dim() == 0:
                continue
            if p.dim() >= 2:
                fan = p.shape[0] if name.endswith("proj") or name.endswith("text_projection") else p[0].numel()
                p.copy_(u * gain * (3 / fan) ** 0.5)
            elif name.endswith(".weight"):
                p.copy_(1 + 0.1 * u)
            else:
                p.copy_(0.1 * u)


def mask_every_row(model):
    """open_clip 3.x hides pad keys from every query, 2.x from the class token only."""
    def build(text, cast_dtype):
        valid = F.pad(text != model.text.pad_id, (1, 0), value=True)
        n = valid.shape[1]
        additive = torch.zeros(valid.shape[0], n, n, dtype=cast_dtype)
        additive.masked_fill_(~valid[:, None, :].expand(-1, n, -1), float("-inf"))
        return torch.repeat_interleave(additive, model.text.heads, 0)
    model.text.build_cls_mask = build


def log_softmax_beam(model, image, n_beams, seq_len, min_len, sot, eos, pad, length_penalty, n_best):
    """transformers' beam search (4.49): log-softmax scores, one group, prompt of one token not counted."""
    scorer = BeamSearchScorer(batch_size=1, num_beams=n_beams, device="cpu", length_penalty=length_penalty,
                              num_beam_hyps_to_keep=n_best)
    rules = LogitsProcessorList([MinLengthLogitsProcessor(min_len, eos)])
    latent, embs = model._encode_image(image)
    latent, embs = latent.expand(n_beams, -1), embs.expand(n_beams, -1, -1)
    ids = torch.full((n_beams, 1), sot)
    scores = torch.full((n_beams,), -1e9)
    scores[0] = 0
    while True:
        logits = model(image.expand(n_beams, -1, -1, -1), ids, image_latent=latent, image_embs=embs,
                       output_labels=False)["logits"][:, -1]
        processed = rules(ids, F.log_softmax(logits, -1))
        flat = (processed + scores[:, None]).view(1, -1)
        top, index = torch.topk(flat, 2 * n_beams, dim=1)
        out = scorer.process(ids, top, index % logits.shape[1], index // logits.shape[1], pad_token_id=pad,
                             eos_token_id=eos, decoder_prompt_len=1)
        scores = out["next_beam_scores"]
        ids = torch.cat([ids[out["next_beam_indices"]], out["next_beam_tokens"][:, None]], -1)
        if scorer.is_done or ids.shape[1] >= seq_len:
            break
    out = scorer.finalize(ids, scores, None, None, max_length=seq_len, pad_token_id=pad, eos_token_id=eos,
                          decoder_prompt_len=1)
    return out["sequences"], out["sequence_scores"]


def pad_rows(rows, length):
    """Rows of ids to int32 [n, length], -1 behind each."""
    out = np.full((len(rows), length), -1, dtype=np.int32)
    for i, row in enumerate(rows):
        out[i, :len(row)] = row
    return torch.from_numpy(out)


def trim(row, eos):
    row = [int(i) for i in row]
    return row[:row.index(eos) + 1] if eos in row else row


class Philox:
    """The project's stream of (seed, uid, stage, index): reinforce/base/philox.h."""

    def __init__(self, seed, uid, stage, index):
        h = 14695981039346656037
        for b in uid.encode():
            h = ((h ^ b) * 1099511628211) % 2**64
        self.key = [seed % 2**32, seed >> 32]
        self.counter = [0] + self.block([h % 2**32, h >> 32, stage, index])[:3]
        self.words = []

    def block(self, c):
        k0, k1 = self.key
        for _ in range(10):
            p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(p1 >> 32) ^ c[1] ^ k0, p1 % 2**32, (p0 >> 32) ^ c[3] ^ k1, p0 % 2**32]
            k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
        return c

    def word(self):
        if not self.words:
            self.words = self.block(self.counter)
            self.counter[0] += 1
        return self.words.pop(0)

    def uniform(self):
        high, low = self.word() >> 5, self.word() >> 6
        return (high * 2**26 + low) / 2**53


def with_variates(rng):
    """A torch.multinomial for one row that inverts the cumulative distribution at our variates."""
    def draw(probs, n):
        assert probs.shape[0] == 1 and n == 1
        total = probs[0].double().cumsum(0)
        return torch.searchsorted(total, rng.uniform() * total[-1], right=True).clamp(max=len(total) - 1).view(1, 1)
    return draw


def greedy_gap(model, image, row, eos):
    """Smallest distance between the drawn token's logit and the next, over a greedy row (end masked below 5)."""
    logits = model(image, torch.tensor([row[:-1]]), output_labels=False)["logits"][0].clone()
    logits[:4, eos] = -float("inf")
    top = logits.topk(2, -1).values
    return float((top[:, 0] - top[:, 1])[:28].min())


def save(out, name, cfg, model, golden, dtype, tokenizer=None):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    config = {"model_cfg": {**cfg, "custom_text": True},
              "preprocess_cfg": {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic",
                                 "resize_mode": "shortest"}}
    with open(os.path.join(folder, "open_clip_config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    weights = os.path.join(folder, "open_clip_model.safetensors")
    save_file({k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}, weights, metadata={"format": "pt"})
    again = load_file(weights)
    assert all(torch.equal(v.float(), model.state_dict()[k]) for k, v in again.items())
    if tokenizer is not None:
        with open(os.path.join(folder, "tokenizer.json"), "w") as f:
            json.dump(tokenizer, f, ensure_ascii=False, indent=0)
            f.write("\n")
    save_file(golden, os.path.join(folder, "golden.safetensors"))
    for file in sorted(os.listdir(folder)):
        print(f"{name}/{file}: {os.path.getsize(os.path.join(folder, file))} bytes")


def text_goldens(model, rows):
    """Normalised latents of texts under both mask modes; rows of unequal length one by one."""
    v2 = torch.cat([model.encode_text(torch.tensor([row])) for row in rows])
    original = model.text.build_cls_mask
    mask_every_row(model)
    v3 = torch.cat([model.encode_text(torch.tensor([row])) for row in rows])
    model.text.build_cls_mask = original
    return {"text_ids": pad_rows(rows, max(map(len, rows))), "text_latent_2x": v2, "text_latent_3x": v3}


def make_small(out):
    tokenizer = make_tokenizer()
    ids_of = tokenizer["model"]["vocab"]
    vocab = len(ids_of)
    cfg = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 96, "head_width": 32, "patch_size": 16,
                       "attentional_pool": True, "attn_pooler_heads": 8, "output_tokens": True},
        "text_cfg": {"context_length": 76, "vocab_size": vocab, "width": 64, "heads": 4, "layers": 2,
                     "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 76, "vocab_size": vocab, "width": 64, "heads": 4, "layers": 2,
                           "attn_pooler_heads": 4},
    }
    sot, eos = vocab - 2, vocab - 1
    model = CoCa(**json.loads(json.dumps(cfg)))
    gen = torch.Generator().manual_seed(5)
    fill(model, gen, 1.6)
    # Position, word and image must each speak up, or greedy rows fall into loops.
    model.text.positional_embedding.mul_(3.0)
    model.text.token_embedding.weight.mul_(1.5)
    for block in model.text_decoder.cross_attn:
        block.attn.out_proj.weight.mul_(2.0)
    # A constant direction in front of the output projection acts as a bias on the logits.
    v = torch.randn(64, generator=gen)
    model.text_decoder.ln_final.bias.copy_(v)
    bias = torch.full((vocab,), -9.0)
    for token, i in ids_of.items():
        if i >= 512 and token.endswith("</w>"):
            bias[i] = 0
    bias[eos] = 3.8
    projection = model.text_decoder.text_projection
    projection.sub_(torch.outer(v / v.dot(v), v @ projection))
    projection.add_(torch.outer(v / v.dot(v), bias))
    for p in model.parameters():
        p.copy_(p.bfloat16().float())
    model.eval()

    special = dict(sot_token_id=sot, eos_token_id=eos, pad_token_id=0)
    images = to_tensor([pattern(k, 48, 48) for k in range(50)])
    latent, tokens = model._encode_image(images)

    greedy = [trim(model.generate(images[k:k + 1], generation_type="top_k", top_k=1, **special)[0], eos)
              for k in range(50)]
    gaps = [greedy_gap(model, images[k:k + 1], greedy[k], eos) for k in range(50)]
    words = Tokenizer.from_str(json.dumps(tokenizer))
    texts = [words.decode(row, skip_special_tokens=True).replace("</w>", " ") for row in greedy]

    sampled = []
    original = torch.multinomial
    for k in range(20):
        torch.multinomial = with_variates(Philox(7, f"image{k}", 2, 3 << 16 | 1))
        sampled.append(trim(model.generate(images[k:k + 1], generation_type="top_p", top_p=0.9, **special)[0], eos))
    torch.multinomial = original

    # A frequent word as the end makes rows and hypotheses finish early.
    frequent = int(np.bincount([i for row in greedy for i in row[1:-1]]).argmax())
    ten = range(10)
    other_end = dict(special, eos_token_id=frequent)
    penalty = [trim(model.generate(images[k:k + 1], generation_type="top_k", top_k=1, repetition_penalty=1.5,
                                   **special)[0], eos) for k in ten]
    fixed = [model.generate(images[k:k + 1], generation_type="top_k", top_k=1, fixed_output_length=True,
                            **other_end)[0].tolist() for k in ten]
    beam = [model.generate(images[k:k + 1], **special)[0].tolist() for k in ten]
    beam_other = [model.generate(images[k:k + 1], **other_end)[0].tolist() for k in ten]
    beam_one = [model.generate(images[k:k + 1], num_beam_groups=1, **other_end)[0].tolist() for k in ten]
    proper = [log_softmax_beam(model, images[k:k + 1], 5, 30, 5, sot, eos, 0, 1.5, 3) for k in ten]
    proper_ids = [trim(row, eos) for ids, _ in proper for row in ids]

    sizes = [(70, 53), (48, 91), (33, 61), (200, 48)]
    transform = image_transform_v2(PreprocessCfg(size=48, mean=MEAN, std=STD), is_train=False)
    resized = [transform(Image.fromarray(pattern(k, h, w)))[None] for k, (h, w) in enumerate(sizes)]

    cat = [sot, ids_of["a</w>"], ids_of["photo</w>"], ids_of["of</w>"], ids_of["a</w>"], ids_of["cat</w>"], eos]
    full = [sot] + [512 + 5 * i % (vocab - 514) for i in range(74)] + [eos]
    zero = [sot, ids_of["red</w>"], 0, ids_of["dog</w>"], eos]
    pad = lambda row: row + [0] * (76 - len(row))
    forced = greedy[0][:12]
    golden = {
        "image_latent": latent,
        "image_tokens_0": tokens[0],
        "resized_sizes": torch.tensor(sizes, dtype=torch.int32),
        "resized_latent": torch.cat([model.encode_image(x) for x in resized]),
        "resized_greedy": pad_rows([trim(model.generate(x, generation_type="top_k", top_k=1, **special)[0], eos)
                                    for x in resized], 30),
        "logits_ids": torch.tensor(forced, dtype=torch.int32),
        "logits": model(images[:1], torch.tensor([forced]), output_labels=False)["logits"][0],
        "greedy": pad_rows(greedy, 30),
        "greedy_texts": torch.tensor(list("\n".join(texts).encode()), dtype=torch.uint8),
        "top_p": pad_rows(sampled, 30),
        "other_end": torch.tensor([frequent], dtype=torch.int32),
        "penalty": pad_rows(penalty, 30),
        "fixed_other_end": pad_rows(fixed, 30),
        "beam": pad_rows(beam, 30),
        "beam_other_end": pad_rows(beam_other, 30),
        "beam_one_group_other_end": pad_rows(beam_one, 30),
        "log_beam": pad_rows(proper_ids, 30),
        "log_beam_scores": torch.cat([scores for _, scores in proper]),
        **text_goldens(model, [cat, pad(cat), full, zero, pad(zero), zero + [0]]),
    }
    print(f"{vocab} tokens; greedy lengths {sorted(map(len, greedy))}, {len(set(map(tuple, greedy)))} distinct, "
          f"smallest gap {min(gaps):.4f}; sampled lengths {sorted(map(len, sampled))}")
    for name in ("beam", "beam_other_end", "beam_one_group_other_end", "fixed_other_end"):
        print(name, [int((golden[name][k] >= 0).sum()) for k in ten])
    assert min(gaps) > 1e-3
    for text in texts[:4]:
        print("   ", text)
    save(out, "coca_small", cfg, model, {k: v.contiguous() for k, v in golden.items()}, torch.bfloat16, tokenizer)


def make_fused(out):
    cfg = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 24, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8,
                       "attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 16,
                       "output_tokens": True},
        "text_cfg": {"context_length": 128, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1,
                     "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 128, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }
    sot, eos = 62, 63
    model = CoCa(**json.loads(json.dumps(cfg)))
    fill(model, torch.Generator().manual_seed(11), 1.6)
    for p in model.parameters():
        p.copy_(p.half().float())
    model.eval()
    assert "visual.attn_pool.attn.in_proj_weight" in model.state_dict()
    images = to_tensor([pattern(k, 24, 24) for k in range(6)])
    latent, tokens = model._encode_image(images)
    greedy = [trim(model.generate(images[k:k + 1], generation_type="top_k", top_k=1, seq_len=128, max_seq_len=128,
                                  min_seq_len=127, sot_token_id=sot, eos_token_id=eos, pad_token_id=61)[0], eos)
              for k in range(6)]
    forced = [sot] + [(7 * i + 3) % 60 + 1 for i in range(127)]
    golden = {
        "image_latent": latent,
        "image_tokens_0": tokens[0],
        "logits_ids": torch.tensor(forced, dtype=torch.int32),
        "logits": model(images[:1], torch.tensor([forced]), output_labels=False)["logits"][0],
        "greedy": pad_rows(greedy, 128),
        **text_goldens(model, [[sot, 5, 9, 11, eos], [sot, 5, 0, 9, eos] + [0] * 123]),
    }
    print(f"greedy lengths {list(map(len, greedy))}")
    save(out, "coca_fused", cfg, model, {k: v.contiguous() for k, v in golden.items()}, torch.float16)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        make_small(sys.argv[1])
        make_fused(sys.argv[1])
