"""Train a sample model on the corpus and write it in the published layout.

    python3 train.py RECIPE CORPUS OUT [--steps N]

A run that was stopped goes on from its last saved state (OUT/state.pt, gone when it is done).

RECIPE: clip-a, clip-b (open_clip), coca (open_clip), siglip2 (transformers), paligemma2 (transformers). CORPUS: what
corpus.py made. OUT gets the snapshot, README.md (the model card) and curve.jsonl (held-out scores against steps).

Needs python3-torch, python3-numpy and python3-pil; nothing else. On CPUs newer than Debian's OpenBLAS, set
OPENBLAS_CORETYPE=SKYLAKEX (with AVX-512) or Haswell, or its kernels are several times slower.
"""

import argparse
import json
import math
import os
import pathlib
import re
import time

import numpy as np
import torch
import torch.nn.functional as F

from data import CLIP_MEAN, CLIP_STD, HALF, Corpus, augmented, batches, normalised, resized, text_of, wordy
from export import load_safetensors, save, save_card
from muon import optimizers
from tokens import ClipTokens, GemmaTokens
from towers import Clip, Coca, PaliGemma2, Siglip

EVERY = 200  # steps from one look at the held-out design, and one saved state, to the next
LANGUAGES = ["en", "de", "fr", "es", "it", "pt"]


def clip_tokens(corpus):
    return ClipTokens([t for m in corpus.metas for t in [m["label"], *m["tags"]]], 3072)


def gemma_tokens(corpus, places):
    texts = [t for m in corpus.metas for l in LANGUAGES for t in [m["labels"].get(l, ""), *m["keywords"].get(l, [])]]
    texts += [p for l in LANGUAGES for p in [f"caption {l}"] * 2000] + ["describe en", "detect"] * 2000
    # words stand at the start of a text and behind a space
    return GemmaTokens([t.lower() if not places else t for t in texts for t in (t, "x " + t)], 6144, places)


class ClipRecipe:
    mean, std = CLIP_MEAN, CLIP_STD

    def __init__(self, corpus, cfg):
        self.tokens = clip_tokens(corpus)
        cfg["text_cfg"]["vocab_size"] = len(self.tokens.ids)
        self.cfg, self.size, self.context = cfg, cfg["vision_cfg"]["image_size"], cfg["text_cfg"]["context_length"]
        self.model = Clip(cfg)

    def ids(self, texts):
        return torch.tensor([self.tokens.encode(t, self.context) for t in texts])

    def vision(self):
        return self.model.visual

    def loss(self, images, metas, rng):
        return contrastive(self.model.encode_image(images), self.model.encode_text(self.ids([text_of(m, rng) for m in metas])),
                           self.model.logit_scale)


class CocaRecipe(ClipRecipe):
    def __init__(self, corpus, cfg):
        self.tokens = clip_tokens(corpus)
        cfg["text_cfg"]["vocab_size"] = cfg["multimodal_cfg"]["vocab_size"] = len(self.tokens.ids)
        self.cfg, self.size, self.context = cfg, cfg["vision_cfg"]["image_size"], cfg["text_cfg"]["context_length"]
        self.model = Coca(cfg)

    def loss(self, images, metas, rng):
        ids = self.ids([m["label"] if rng.uniform() < 0.5 else wordy(m["label"], m["tags"], rng) for m in metas])
        image, text, logits = self.model(images, ids)
        captioning = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), ignore_index=0)
        return contrastive(image, text, self.model.logit_scale) + 2 * captioning

    def captions(self, images):
        """Greedy, without a cache: enough for a curve."""
        _, tokens = self.model.visual(images)
        ids = torch.full((len(images), 1), self.tokens.start)
        while ids.shape[1] < self.context:
            logits = self.model.text_decoder(tokens, self.model.text(ids)[1])[:, -1]
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        return [self.tokens.decode(until(row, self.tokens.end)) for row in ids[:, 1:].tolist()]


class SiglipRecipe:
    mean = std = HALF

    def __init__(self, corpus, cfg):
        self.tokens = gemma_tokens(corpus, False)
        cfg["text_config"]["vocab_size"] = self.tokens.size
        self.cfg, self.size = cfg, cfg["vision_config"]["image_size"]
        self.context = cfg["text_config"]["max_position_embeddings"]
        self.model = Siglip(cfg)

    def ids(self, texts):
        rows = [self.tokens.encode(t.lower())[:self.context - 1] + [self.tokens.EOS] for t in texts]
        return torch.tensor([r + [self.tokens.PAD] * (self.context - len(r)) for r in rows])

    def vision(self):
        return self.model.vision_model

    def loss(self, images, metas, rng):
        texts = [text_of(m, rng, rng.choice(LANGUAGES)) for m in metas]
        a, b = (F.normalize(x.float(), dim=-1) for x in (self.model.encode_image(images), self.model.encode_text(self.ids(texts))))
        logits = a @ b.T * self.model.logit_scale.exp() + self.model.logit_bias
        return -F.logsigmoid(logits * (2 * torch.eye(len(a)) - 1)).sum(-1).mean()


class PaliGemmaRecipe:
    mean = std = HALF

    def __init__(self, corpus, cfg):
        self.tokens = gemma_tokens(corpus, True)
        cfg["text_config"]["vocab_size"] = -(-self.tokens.size // 64) * 64
        cfg["image_token_index"] = self.tokens.image
        cfg["vocab_size"] = self.tokens.image
        self.cfg, self.size, self.context = cfg, cfg["vision_config"]["image_size"], 24
        self.model = PaliGemma2(cfg)

    def vision(self):
        return self.model.vision_tower.vision_model

    def prompt(self, text):
        return [self.tokens.BOS] + self.tokens.encode(text) + [self.tokens.ids["\n"]]

    def answer(self, meta, box, rng):
        """A prompt's ids and its answer's."""
        kind = rng.uniform()
        if kind < 0.7:
            language = rng.choice(LANGUAGES)
            return self.prompt(f"caption {language}"), self.tokens.encode(meta["labels"].get(language, meta["label"]))
        if kind < 0.85:
            return self.prompt("describe en"), self.tokens.encode(wordy(meta["label"], meta["tags"], rng))
        places = [self.tokens.added_ids[f"<loc{round(float(v) * 1023):04d}>"] for v in box]
        return self.prompt(f"detect {meta['label']}"), places + self.tokens.encode(" " + meta["label"])

    def loss(self, images, metas, rng):
        boxes = drawn_boxes(images)
        rows, prefixes = [], []
        for meta, box in zip(metas, boxes):
            prompt, answer = self.answer(meta, box, rng)
            rows.append((prompt + answer)[:self.context - 1] + [self.tokens.EOS])
            prefixes.append(len(prompt))
        n = max(map(len, rows))
        ids = torch.tensor([r + [self.tokens.PAD] * (n - len(r)) for r in rows])
        prefixes = torch.tensor(prefixes)
        logits = self.model(images, ids, prefixes)
        wanted = ids[:, 1:].masked_fill(torch.arange(1, n)[None] < prefixes[:, None], 0)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), wanted.flatten(), ignore_index=0)

    def captions(self, images, prompt="caption en"):
        ids = torch.tensor([self.prompt(prompt)]).expand(len(images), -1)
        n = torch.full((len(images),), ids.shape[1])
        for _ in range(12):
            ids = torch.cat([ids, self.model(images, ids, n)[:, -1].argmax(-1, keepdim=True)], 1)
        return [self.tokens.decode(until(row, self.tokens.EOS)) for row in ids[:, n[0]:].tolist()]


def drawn_boxes(images):
    """[B, 4] y0, x0, y1, x1 in 0..1 of what is drawn: all that differs from the corner's colour."""
    size = images.shape[-1]
    drawn = ((images - images[:, :, :1, :1]).abs().amax(1) > 0.12)
    drawn |= ~drawn.any(2).any(1)[:, None, None]
    box = []
    for lines in (drawn.any(2), drawn.any(1)):
        first = lines.float().argmax(1)
        last = size - 1 - lines.flip(1).float().argmax(1)
        box.append((first / size, (last + 1) / size))
    return torch.stack([box[0][0], box[1][0], box[0][1], box[1][1]], 1).clamp(0, 1)


def contrastive(a, b, scale):
    a, b = F.normalize(a.float(), dim=-1), F.normalize(b.float(), dim=-1)
    logits = a @ b.T * scale.exp().clamp(max=100)
    target = torch.arange(len(a))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def until(ids, end):
    return ids[:ids.index(end)] if end in ids else ids


def vision_cfg(image_size, patch_size, layers, **more):
    return {"image_size": image_size, "layers": layers, "width": 192, "head_width": 32, "patch_size": patch_size, **more}


def siglip_vision(image_size, patch_size, width, layers, heads):
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "image_size": image_size, "patch_size": patch_size}


RECIPES = {
    "clip-a": (ClipRecipe, {"embed_dim": 128, "vision_cfg": vision_cfg(64, 8, 6),
                            "text_cfg": {"context_length": 24, "width": 128, "heads": 4, "layers": 3}}),
    "clip-b": (ClipRecipe, {"embed_dim": 160, "quick_gelu": True, "vision_cfg": vision_cfg(96, 12, 6),
                            "text_cfg": {"context_length": 24, "width": 128, "heads": 4, "layers": 3}}),
    "coca": (CocaRecipe, {"embed_dim": 128,
                          "vision_cfg": vision_cfg(64, 8, 4, attentional_pool=True, attn_pooler_heads=4,
                                                   attn_pooler_queries=33, output_tokens=True),
                          "text_cfg": {"context_length": 23, "width": 128, "heads": 4, "layers": 2, "embed_cls": True,
                                       "output_tokens": True},
                          "multimodal_cfg": {"context_length": 23, "width": 128, "heads": 4, "layers": 2,
                                             "attn_pooler_heads": 4}}),
    "siglip2": (SiglipRecipe, {"vision_config": siglip_vision(64, 8, 192, 5, 6),
                               "text_config": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
                                               "num_attention_heads": 4, "max_position_embeddings": 24,
                                               "projection_size": 192}}),
    "paligemma2": (PaliGemmaRecipe, {"vision_config": siglip_vision(64, 8, 192, 5, 6),  # siglip2's tower
                                     "text_config": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
                                                     "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
                                                     "query_pre_attn_scalar": 32, "sliding_window": 4096,
                                                     "attn_logit_softcapping": 50.0}}),
}


@torch.no_grad()
def warm_start(model, snapshot):
    """Copies the tensors of `snapshot` that are the image tower's and have the model's names and shapes."""
    stored = load_safetensors(next(str(p) for p in pathlib.Path(snapshot).glob("*.safetensors")))
    n = 0
    for name, own in model.state_dict().items():
        other = stored.get(re.sub(r"^vision_tower\.", "", name))
        if re.match(r"(visual|vision_model|vision_tower)\.", name) and other is not None and other.shape == own.shape:
            own.copy_(other)
            n += 1
    return n


@torch.no_grad()
def scores(recipe, held):
    """What the held-out design gives: zero-shot top-1 over all its names, and captions that name the concept."""
    model, found = recipe.model.eval(), {}
    images = normalised(resized(held.images, recipe.size), recipe.mean, recipe.std)
    if hasattr(model, "encode_text"):
        image = torch.cat([F.normalize(model.encode_image(x).float(), dim=-1) for x in images.split(256)])
        text = torch.cat([F.normalize(model.encode_text(recipe.ids([m["label"] for m in held.metas[i:i + 256]])).float(), dim=-1)
                          for i in range(0, len(held.metas), 256)])
        right = (image @ text.T).argmax(1) == torch.arange(len(image))
        things = torch.tensor([3 <= m["group"] <= 7 for m in held.metas])
        inside = (image[things] @ text[things].T).argmax(1) == torch.arange(int(things.sum()))
        found.update(top1=round(float(right.float().mean()), 4), classes=len(image),
                     things_top1=round(float(inside.float().mean()), 4), things=len(inside))
    if hasattr(recipe, "captions"):
        made = [c for x in images.split(256) for c in recipe.captions(x)]
        named = [m["label"].lower() in c.lower() for m, c in zip(held.metas, made)]
        found.update(named=round(float(np.mean(named)), 4), sample=made[:6])
    model.train()
    return found


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("recipe", choices=RECIPES)
    args.add_argument("corpus")
    args.add_argument("out")
    args.add_argument("--steps", type=int, default=2000)
    args.add_argument("--batch", type=int, default=384)
    args.add_argument("--tower", metavar="SNAPSHOT", help="begin with the image tower of a trained sample model")
    args = args.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    corpus, held = Corpus(args.corpus, "train"), Corpus(args.corpus, "held-out")
    kind, cfg = RECIPES[args.recipe]
    recipe = kind(corpus, json.loads(json.dumps(cfg)))
    model = recipe.model
    if args.tower:
        print(f"{warm_start(model, args.tower)} tensors of the image tower from {args.tower}")
    print(f"{args.recipe}: {sum(p.numel() for p in model.parameters())} parameters, {len(corpus.metas)} images of "
          f"{len(corpus.concepts)} concepts", flush=True)
    steppers = optimizers(model)
    rates = [group["lr"] for o in steppers for group in o.param_groups]
    average = {k: v.clone() for k, v in model.state_dict().items()}
    os.makedirs(args.out, exist_ok=True)
    state, done, minutes = os.path.join(args.out, "state.pt"), 0, 0.
    if os.path.exists(state):
        saved = torch.load(state)
        model.load_state_dict(saved["model"])
        for o, own in zip(steppers, saved["optimizers"]):
            o.load_state_dict(own)
        average, done, minutes = saved["average"], saved["step"], saved["minutes"]
    groups = [group for o in steppers for group in o.param_groups]
    rng = np.random.default_rng(done)
    start, total = time.time() - 60 * minutes, []
    for step, chosen in enumerate(batches(corpus, args.batch, rng), done + 1):
        for rate, group in zip(rates, groups):
            group["lr"] = rate * min(1, step / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / args.steps)) / 2)
        # half of the patches are enough for most of the way
        recipe.vision().share = 0.5 if step < 0.85 * args.steps else 1.0
        images, _ = augmented(corpus.images[chosen], recipe.size, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = recipe.loss(normalised(images, recipe.mean, recipe.std), [corpus.metas[i] for i in chosen], rng)
        for o in steppers:
            o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(groups[1]["params"], 1.0)
        for o in steppers:
            o.step()
        total.append(loss.item())
        for k, v in model.state_dict().items():
            average[k].lerp_(v, 1 - min(0.998, step / (step + 10)))
        if step % EVERY == 0 or step == args.steps:
            own = {k: v.clone() for k, v in model.state_dict().items()}
            minutes = (time.time() - start) / 60
            model.load_state_dict(average)
            recipe.vision().share = 1.0
            line = {"step": step, "samples": step * args.batch, "minutes": round(minutes, 1),
                    "loss": round(float(np.mean(total)), 3), **scores(recipe, held)}
            total = []
            print(json.dumps(line, ensure_ascii=False), flush=True)
            with open(os.path.join(args.out, "curve.jsonl"), "a", encoding="utf-8") as curve:
                curve.write(json.dumps(line, ensure_ascii=False) + "\n")
            save(args.recipe, recipe, args.out)
            if step == args.steps:
                lines = [json.loads(l) for l in open(os.path.join(args.out, "curve.jsonl"), encoding="utf-8")]
                notice = open(os.path.join(args.corpus, "NOTICE"), encoding="utf-8").read().splitlines()
                save_card(args.recipe, recipe, args.out, notice, lines)
                if os.path.exists(state):
                    os.remove(state)
                break
            model.load_state_dict(own)
            torch.save({"model": own, "optimizers": [o.state_dict() for o in steppers], "average": average, "step": step,
                        "minutes": minutes}, state + ".part")
            os.replace(state + ".part", state)


if __name__ == "__main__":
    main()
