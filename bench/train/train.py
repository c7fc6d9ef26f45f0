"""Train a sample model on the corpus and write it in the published layout.

    python3 train.py RECIPE CORPUS OUT [--steps N] [--tower SNAPSHOT] [--go-on SNAPSHOT]

A run that was stopped goes on from its last saved state (OUT/state.pt, gone when it is done).

RECIPE: clip-a, clip-b (open_clip), coca (open_clip), siglip2 (transformers), paligemma2 (transformers). CORPUS: what
corpus.py made. OUT gets the snapshot, README.md (the model card) and curve.jsonl (held-out scores against steps).

Needs python3-torch, python3-numpy and python3-pil; nothing else. On CPUs newer than Debian's OpenBLAS, set
OPENBLAS_CORETYPE=SKYLAKEX (with AVX-512) or Haswell, or its kernels are several times slower.
"""

import argparse
import copy
import glob
import json
import math
import os
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F

from data import CLIP_MEAN, CLIP_STD, HALF, Corpus, augmented, batches, normalised, resized, text_of, wordy
from export import load_safetensors, save, save_card
from muon import optimizers
from tokens import ClipTokens, GemmaTokens
from towers import Clip, Coca, PaliGemma2, Siglip, SiglipVision, some

VIEWS = 4  # of every image, for a captioner whose image tower stays as it is
TEXT_STEPS = 1500  # of texts alone, behind siglip2's last step
DISTILLED = 10  # weight of clip-a's embeddings in siglip2's loss; in coca's half of it
NAMES = 0.6  # share of coca's texts that are the name alone; others add keywords
LANGUAGES = ["en", "de", "fr", "es", "it", "pt"]


def clip_tokens(corpus):
    return ClipTokens([t for m in corpus.metas for t in [m["label"], *m["tags"]]], 3072)


def gemma_tokens(corpus, languages, size, places):
    texts = [t for m in corpus.metas for l in languages for t in [m["labels"].get(l, ""), *m["keywords"].get(l, [])]]
    texts += [p for l in languages for p in [f"caption {l}"] * 2000] + ["describe en", "detect"] * 2000
    # words stand at the start of a text and behind a space
    return GemmaTokens([t.lower() if not places else t for t in texts for t in (t, "x " + t)], size, places)


class Recipe:
    languages = ["en"]
    origin = ""  # what the card says of the snapshot that training began with
    halved = 0.85  # part of the steps in which a half of the patches is seen
    seed = 0  # of views that are stored
    begun = ()  # beginnings of the names of parameters that begin() trains on more slowly

    def begin(self, corpus, snapshot):
        """Copies what `snapshot` has of the image tower with the model's names and shapes."""
        stored = load_safetensors(f"{snapshot}/open_clip_model.safetensors")
        for name, value in self.model.state_dict().items():
            if name.startswith("visual.") and name in stored and stored[name].shape == value.shape:
                value.copy_(stored[name])

    def batch(self, corpus, chosen, rng):
        """What loss() takes: views of the chosen images."""
        return normalised(augmented(corpus.images[chosen], self.size, rng)[0], self.mean, self.std)

    def going_on(self):
        """Called when an earlier run's weights are there."""

    def finish(self, rng):
        """What is left to learn when the images are done."""


class ClipRecipe(Recipe):
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


def clip_teacher(corpus, snapshot):
    """clip-a as a teacher: its recipe, and {name: its embedding of the English name, unit}."""
    teacher = ClipRecipe(corpus, copy.deepcopy(RECIPES["clip-a"][1]))
    teacher.tokens.read(f"{snapshot}/tokenizer.json")
    model = teacher.model.eval().requires_grad_(False)
    model.visual.share = 0.5
    model.load_state_dict(load_safetensors(f"{snapshot}/open_clip_model.safetensors"))
    labels = list({m["label"] for m in corpus.metas})
    rows = torch.cat([model.encode_text(teacher.ids(labels[i:i + 256])) for i in range(0, len(labels), 256)])
    return teacher, dict(zip(labels, F.normalize(rows.float(), dim=-1)))


class CocaRecipe(ClipRecipe):
    origin = """
Its image tower began as clip-a's first layers, and it was distilled from clip-a: images and texts are to come near to what
clip-a says of the image and of the name, beside CoCa's own losses.
"""

    def __init__(self, corpus, cfg):
        self.tokens = clip_tokens(corpus)
        cfg["text_cfg"]["vocab_size"] = cfg["multimodal_cfg"]["vocab_size"] = len(self.tokens.ids)
        self.cfg, self.size, self.context = cfg, cfg["vision_cfg"]["image_size"], cfg["text_cfg"]["context_length"]
        self.model = Coca(cfg)

    @torch.no_grad()
    def begin(self, corpus, snapshot):
        super().begin(corpus, snapshot)
        self.teacher, self.named = clip_teacher(corpus, snapshot)
        self.turn = torch.eye(self.cfg["embed_dim"])

    @torch.no_grad()
    def going_on(self):
        """Turns clip-a's space to the one that the model has already: the best rotation for the names."""
        labels = list(self.named)
        own = torch.cat([self.model.encode_text(self.ids(labels[i:i + 256])) for i in range(0, len(labels), 256)])
        told = torch.stack([self.named[l] for l in labels])
        u, _, v = torch.linalg.svd(told.T @ F.normalize(own.float(), dim=-1))
        self.turn = u @ v
        self.named = dict(zip(labels, told @ self.turn))

    def loss(self, images, metas, rng):
        """CoCa's, and how far images and texts are from what clip-a says."""
        ids = self.ids([m["label"] if rng.uniform() < NAMES else wordy(m["label"], m["tags"], rng) for m in metas])
        image, text, logits = self.model(images, ids)
        captioning = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), ignore_index=0)
        with torch.no_grad():
            told = self.teacher.model.encode_image(images).float() @ self.turn
        named = torch.stack([self.named[m["label"]] for m in metas])
        distance = 2 - F.cosine_similarity(image.float(), told).mean() - F.cosine_similarity(text.float(), named).mean()
        return contrastive(image, text, self.model.logit_scale) + 2 * captioning + DISTILLED / 2 * distance

    def captions(self, images, language="en"):
        """Greedy, without a cache: enough for a curve."""
        _, tokens = self.model.visual(images)
        ids = torch.full((len(images), 1), self.tokens.start)
        while ids.shape[1] < self.context and not (ids == self.tokens.end).any(1).all():
            logits = self.model.text_decoder(tokens, self.model.text(ids)[1])[:, -1]
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        return [self.tokens.decode(until(row, self.tokens.end)) for row in ids[:, 1:].tolist()]


class SiglipRecipe(Recipe):
    mean, std, languages, begun = HALF, HALF, LANGUAGES, ["vision_model."]
    origin = """
Its image tower began as clip-a's, and it was distilled from clip-a: what clip-a says of an image and of an English name is
what the image and the name in every language are to come near to, beside SigLIP's own loss. Behind the last images, texts
went on alone: the last line.
"""

    def __init__(self, corpus, cfg):
        self.tokens = gemma_tokens(corpus, LANGUAGES, 6144, False)
        cfg["text_config"]["vocab_size"] = self.tokens.size
        self.cfg, self.size = cfg, cfg["vision_config"]["image_size"]
        self.context = cfg["text_config"]["max_position_embeddings"]
        self.model = Siglip(cfg)

    def ids(self, texts):
        rows = [self.tokens.encode(t.lower())[:self.context - 1] + [self.tokens.EOS] for t in texts]
        return torch.tensor([r + [self.tokens.PAD] * (self.context - len(r)) for r in rows])

    def vision(self):
        return self.model.vision_model

    @torch.no_grad()
    def begin(self, corpus, snapshot):
        """From a trained clip-a: its image tower, and what it says of images and names as targets.

        An isometry takes clip-a's 128 columns to the 192 here, the one nearest to the transpose of its last projection, so
        that the head's first outputs are near their targets already.
        """
        self.teacher, named = clip_teacher(corpus, snapshot)
        teacher = self.teacher.model
        images = normalised(resized(corpus.images[:256], self.size), CLIP_MEAN, CLIP_STD)
        siglip_from_clip(self.model.vision_model, teacher.visual, images)
        self.model.logit_scale.fill_(math.log(30))
        self.model.logit_bias.fill_(-17)  # the best for clip-a's own embeddings
        u, _, v = torch.linalg.svd(teacher.visual.proj, full_matrices=False)
        self.isometry = (u @ v).T
        self.concepts = list({m["label"]: m for m in corpus.metas}.values())
        self.named = {label: self.told(row) for label, row in named.items()}

    def told(self, embeddings):
        return F.normalize(embeddings.float(), dim=-1) @ self.isometry

    def loss(self, images, metas, rng):
        """SigLIP's, and how far images and texts are from what clip-a says; a text in any language from the English name.

        Names without images come along: texts cost little.
        """
        more = rng.choice(self.concepts, 2 * len(metas))
        texts = [text_of(m, rng, rng.choice(LANGUAGES)) for m in metas]
        texts += [m["labels"].get(language, m["label"]) for m, language in zip(more, rng.choice(LANGUAGES, len(more)))]
        image, text = (F.normalize(x.float(), dim=-1) for x in (self.model.encode_image(images),
                                                                self.model.encode_text(self.ids(texts))))
        with torch.no_grad():
            told = self.told(self.teacher.model.encode_image(normalised(images / 2 + 0.5, CLIP_MEAN, CLIP_STD)))
        named = torch.stack([self.named[m["label"]] for m in [*metas, *more]])
        distance = 2 - (image * told).sum(-1).mean() - (text * named).sum(-1).mean()
        logits = image @ text[:len(image)].T * self.model.logit_scale.exp() + self.model.logit_bias
        return -F.logsigmoid(logits * (2 * torch.eye(len(image)) - 1)).sum(-1).mean() + DISTILLED * distance

    def finish(self, rng):
        """Texts alone, which take longer to learn than images and cost little."""
        model, rates = self.model.text_model, (0.02, 2e-3)
        steppers = optimizers(model)
        for step in range(TEXT_STEPS):
            metas = rng.choice(self.concepts, 256)
            texts = [text_of(m, rng, language) if i % 4 == 0 else m["labels"].get(language, m["label"])
                     for i, (m, language) in enumerate(zip(metas, rng.choice(LANGUAGES, len(metas))))]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                text = F.normalize(model(self.ids(texts)).float(), dim=-1)
            loss = 1 - (text * torch.stack([self.named[m["label"]] for m in metas])).sum(-1).mean()
            for o, rate in zip(steppers, rates):
                o.zero_grad(set_to_none=True)
                for group in o.param_groups:
                    group["lr"] = rate * min(1, (step + 1) / 50) * (1 - step / TEXT_STEPS)
            loss.backward()
            for o in steppers:
                o.step()


class PaliGemmaRecipe(Recipe):
    mean, std, languages, halved = HALF, HALF, LANGUAGES[:3], 0.4
    origin = """
Its image tower is siglip2's, unchanged, with the pooling head as its last layer, so that every token knows what the whole
image is.
"""

    def __init__(self, corpus, cfg):
        self.tokens = gemma_tokens(corpus, self.languages, 4096, True)
        cfg["text_config"]["vocab_size"] = -(-self.tokens.size // 64) * 64
        cfg["image_token_index"] = self.tokens.image
        cfg["vocab_size"] = self.tokens.image
        self.cfg, self.size, self.context = cfg, cfg["vision_config"]["image_size"], 24
        self.model = PaliGemma2(cfg)

    def vision(self):
        return self.model.vision_tower.vision_model

    @torch.no_grad()
    def begin(self, corpus, snapshot):
        """The tower stays as it is, so what it says of VIEWS views of every image is computed once."""
        siglip, stored = SiglipVision(RECIPES["siglip2"][1]["vision_config"]), load_safetensors(f"{snapshot}/model.safetensors")
        siglip.load_state_dict({k[len("vision_model."):]: v for k, v in stored.items() if k.startswith("vision_model.")})
        tower_from_siglip(self.vision(), siglip)
        self.vision().requires_grad_(False)
        n, rng = len(corpus.images), np.random.default_rng(self.seed)
        self.views = torch.empty(VIEWS, n, *self.tower(torch.zeros(1, 3, self.size, self.size))[0].shape, dtype=torch.bfloat16)
        for view in self.views:
            for part in torch.arange(n).split(256):
                images, _ = augmented(corpus.images[part.numpy()], self.size, rng)
                view[part] = self.tower(normalised(images, self.mean, self.std)).bfloat16()

    @torch.no_grad()
    def tower(self, images):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.vision()(images)

    def batch(self, corpus, chosen, rng):
        """The image tower's tokens of a view of each, an eighth of them at first: used to those for longer, the decoder takes
        long to get used to all of them."""
        tokens, share = self.views[rng.integers(VIEWS, size=len(chosen)), chosen], self.vision().share
        return some(tokens, share / 4) if share < 1 else tokens

    def prompt(self, text):
        return [self.tokens.BOS] + self.tokens.encode(text) + [self.tokens.ids["\n"]]

    def loss(self, seen, metas, rng):
        rows, prefixes = [], []
        for meta, language in zip(metas, rng.choice(self.languages, len(metas), p=[0.5, 0.25, 0.25])):
            prompt = self.prompt(f"caption {language}")
            answer = self.tokens.encode(meta["labels"].get(language, meta["label"]))
            rows.append((prompt + answer)[:self.context - 1] + [self.tokens.EOS])
            prefixes.append(len(prompt))
        n = max(map(len, rows))
        ids = torch.tensor([r + [self.tokens.PAD] * (n - len(r)) for r in rows])
        prefixes = torch.tensor(prefixes)
        x = self.model(seen, ids, prefixes)
        wanted = (torch.arange(1, n)[None] >= prefixes[:, None]) & (ids[:, 1:] != self.tokens.PAD)
        return F.cross_entropy(self.model.logits(x[:, :-1][wanted]).float(), ids[:, 1:][wanted])

    def captions(self, images, language="en"):
        """Greedy, without a cache: enough for a curve."""
        tokens = self.tower(images)
        ids = torch.tensor([self.prompt(f"caption {language}")]).expand(len(images), -1)
        n = torch.full((len(images),), ids.shape[1])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            while ids.shape[1] < n[0] + 12 and not (ids == self.tokens.EOS).any(1).all():
                x = self.model(tokens, ids, n)[:, -1]
                ids = torch.cat([ids, self.model.logits(x).argmax(-1, keepdim=True)], 1)
        return [self.tokens.decode(until(row, self.tokens.EOS)) for row in ids[:, n[0]:].tolist()]


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
    "paligemma2": (PaliGemmaRecipe, {"vision_config": siglip_vision(64, 8, 192, 6, 6),  # siglip2's tower and head
                                     "text_config": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3,
                                                     "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
                                                     "query_pre_attn_scalar": 32, "sliding_window": 4096,
                                                     "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}}),
}


@torch.no_grad()
def siglip_from_clip(own, clip, images):
    """A CLIP image tower of one layer more as a SigLIP one: the last block becomes the pooling head.

    SigLIP has no class token and no norm before the blocks. The norm goes into the patch embedding with the scale that
    `images` have on average (and so do CLIP's pixel means), and the head's probe is the class token's mean query.
    """
    blocks, wide = clip.transformer.resblocks, clip.conv1.weight
    patches = clip.conv1(images).flatten(2).transpose(1, 2) + clip.positional_embedding[1:]
    gain = clip.ln_pre.weight / patches.std(-1, unbiased=False).mean()
    middle = lambda x: x - x.mean(0)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
    own.embeddings.patch_embedding.weight.copy_(gain.view(-1, 1, 1, 1) * middle(wide * 0.5 / std))
    own.embeddings.patch_embedding.bias.copy_(gain * middle((wide * (0.5 - mean) / std).sum((1, 2, 3))) + clip.ln_pre.bias)
    own.embeddings.position_embedding.weight.copy_(gain * middle(clip.positional_embedding[1:].T).T)
    for layer, block in zip(own.encoder.layers, blocks):
        for name in ("weight", "bias"):
            for to, part in zip("qkv", getattr(block.attn, f"in_proj_{name}").chunk(3)):
                getattr(getattr(layer.self_attn, f"{to}_proj"), name).copy_(part)
        for to, source in ((layer.layer_norm1, block.ln_1), (layer.layer_norm2, block.ln_2), (layer.mlp.fc1, block.mlp.c_fc),
                           (layer.mlp.fc2, block.mlp.c_proj), (layer.self_attn.out_proj, block.attn.out_proj)):
            to.load_state_dict(source.state_dict())
    last, head = blocks[-1], own.head
    first = (clip.class_embedding + clip.positional_embedding[0]).expand(len(images), 1, -1)
    x = clip.ln_pre(torch.cat([first, patches], 1))
    for block in blocks[:-1]:
        x = block(x)
    for to, source in ((own.post_layernorm, last.ln_1), (head.attention, last.attn), (head.layernorm, last.ln_2),
                       (head.mlp.fc1, last.mlp.c_fc), (head.mlp.fc2, last.mlp.c_proj)):
        to.load_state_dict(source.state_dict())
    head.probe.copy_(last.ln_1(x[:, :1]).mean(0))
    head.attention.out_proj.bias.add_(x[:, 0].mean(0))


@torch.no_grad()
def tower_from_siglip(own, siglip):
    """SigLIP's image tower with its pooling head as one more layer: every token asks what the head's probe asks, and the answer
    is made to outweigh what the token holds."""
    stored, head, weight = siglip.state_dict(), siglip.head, 4
    own.load_state_dict({k: v for k, v in stored.items() if k.startswith(("embeddings.", "encoder."))}, strict=False)
    last, fused = own.encoder.layers[-1], head.attention
    for to, w, b in zip("qkv", fused.in_proj_weight.chunk(3), fused.in_proj_bias.chunk(3)):
        linear = getattr(last.self_attn, f"{to}_proj")
        linear.weight.copy_(0 * w if to == "q" else w)
        linear.bias.copy_(w @ head.probe[0, 0] + b if to == "q" else b)
    for to, source, scale in ((last.layer_norm1, siglip.post_layernorm, 1), (last.self_attn.out_proj, fused.out_proj, weight),
                              (last.layer_norm2, head.layernorm, 1), (last.mlp.fc1, head.mlp.fc1, 1),
                              (last.mlp.fc2, head.mlp.fc2, weight)):
        to.load_state_dict({k: v * scale for k, v in source.state_dict().items()})


def closed(text):
    """Lower case without spaces: CLIP's tokenizer puts some around punctuation ("flag : malta")."""
    return "".join(text.lower().split())


@torch.no_grad()
def scores(recipe, held, last):
    """What the held-out design gives: zero-shot top-1 over all its names, and captions that name the concept: English ones
    of all images at the `last` look, of every fourth before and in other languages."""
    model, found = recipe.model.eval(), {}
    images = normalised(resized(held.images, recipe.size), recipe.mean, recipe.std)
    if hasattr(model, "encode_text"):
        image = torch.cat([F.normalize(model.encode_image(x).float(), dim=-1) for x in images.split(256)])

        def right(which, language="en"):
            """Share of `which` images whose own name, of theirs, is the nearest."""
            ids = recipe.ids([m["labels"].get(language, m["label"]) for m, own in zip(held.metas, which) if own])
            text = torch.cat([F.normalize(model.encode_text(x).float(), dim=-1) for x in ids.split(256)])
            return round(float(((image[which] @ text.T).argmax(1) == torch.arange(len(text))).float().mean()), 4)

        things = torch.tensor([3 <= m["group"] <= 7 for m in held.metas])
        found.update(top1=right(things | True), classes=len(image), things_top1=right(things), things=int(things.sum()))
        for language in recipe.languages[1:]:
            found["top1_" + language] = right(things | True, language)
    if hasattr(recipe, "captions"):
        for language in recipe.languages if last else ["en"]:
            every = 1 if last and language == "en" else 4
            made = [c for x in images[::every].split(256) for c in recipe.captions(x, language)]
            named = [closed(m["labels"].get(language, m["label"])) in closed(c) for m, c in zip(held.metas[::every], made)]
            found["named" if language == "en" else "named_" + language] = round(float(np.mean(named)), 4)
            found.setdefault("sample", made[:6])
    model.train()
    return found


def curve_of(folder):
    """The lines of a run's curve.jsonl."""
    with open(os.path.join(folder, "curve.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("recipe", choices=RECIPES)
    args.add_argument("corpus")
    args.add_argument("out")
    args.add_argument("--steps", type=int, default=2000)
    args.add_argument("--batch", type=int, default=384)
    args.add_argument("--tower", metavar="SNAPSHOT", help="begin with the image tower of a trained sample model")
    args.add_argument("--go-on", metavar="SNAPSHOT", help="begin with all weights of an earlier run of this recipe")
    args.add_argument("--looks", type=int, default=10, help="times that the held-out design is tried and the state saved")
    args.add_argument("--rate", type=float, default=1.0, help="learning rates are the recipe's times this")
    args = args.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    corpus, held = Corpus(args.corpus, "train"), Corpus(args.corpus, "held-out")
    kind, cfg = RECIPES[args.recipe]
    recipe = kind(corpus, json.loads(json.dumps(cfg)))
    model = recipe.model
    recipe.seed = curve_of(args.go_on)[-1]["samples"] if args.go_on else 0  # other views than the earlier run
    if args.tower:
        recipe.begin(corpus, args.tower)
    elif recipe.origin:
        raise SystemExit(f"{args.recipe} begins with the image tower of another sample model: add --tower SNAPSHOT")
    if args.go_on:
        recipe.tokens.read(f"{args.go_on}/tokenizer.json")
        model.load_state_dict(load_safetensors(glob.glob(f"{args.go_on}/*model.safetensors")[0]))
        recipe.going_on()
    print(f"{args.recipe}: {sum(p.numel() for p in model.parameters())} parameters, {len(corpus.metas)} images of "
          f"{len(corpus.concepts)} concepts", flush=True)
    steppers = optimizers(model, recipe.begun if args.tower else ())
    rates = [args.rate * group["lr"] for o in steppers for group in o.param_groups]
    average = {k: v.clone() for k, v in model.state_dict().items()}
    os.makedirs(args.out, exist_ok=True)
    state, done, minutes = os.path.join(args.out, "state.pt"), 0, 0.
    before = curve_of(args.go_on)[-1] if args.go_on else {"samples": 0, "minutes": 0}
    if args.go_on and not os.path.exists(state):
        shutil.copy(os.path.join(args.go_on, "curve.jsonl"), args.out)
    if os.path.exists(state):
        saved = torch.load(state)
        model.load_state_dict(saved["model"])
        for o, own in zip(steppers, saved["optimizers"]):
            o.load_state_dict(own)
        average, done, minutes = saved["average"], saved["step"], saved["minutes"]
    groups = [group for o in steppers for group in o.param_groups]
    rng = np.random.default_rng(done)
    warm = 30 if args.go_on else 100
    start, total = time.time() - 60 * minutes, []
    for step, chosen in enumerate(batches(corpus, args.batch, rng), done + 1):
        for rate, group in zip(rates, groups):
            group["lr"] = rate * min(1, step / warm) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / args.steps)) / 2)
        # half of the patches are enough for most of the way
        recipe.vision().share = 0.5 if step < recipe.halved * args.steps else 1.0
        seen = recipe.batch(corpus, chosen, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = recipe.loss(seen, [corpus.metas[i] for i in chosen], rng)
        for o in steppers:
            o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in steppers[1].param_groups for p in group["params"]], 1.0)
        for o in steppers:
            o.step()
        total.append(loss.item())
        for k, v in model.state_dict().items():
            average[k].lerp_(v, 1 - min(0.998, step / (step + 10)))
        if step % -(-args.steps // args.looks) == 0 or step == args.steps:
            own = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(average)
            if step == args.steps:
                recipe.finish(rng)
            minutes = (time.time() - start) / 60
            recipe.vision().share = 1.0
            line = {"step": step, "samples": before["samples"] + step * args.batch,
                    "minutes": round(before["minutes"] + minutes, 1),
                    "loss": round(float(np.mean(total)), 3), **scores(recipe, held, step == args.steps)}
            total = []
            print(json.dumps(line, ensure_ascii=False), flush=True)
            with open(os.path.join(args.out, "curve.jsonl"), "a", encoding="utf-8") as curve:
                curve.write(json.dumps(line, ensure_ascii=False) + "\n")
            save(args.recipe, recipe, args.out)
            if step == args.steps:
                lines = curve_of(args.out)
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
