"""What a student learns from the plain corpus and from its reinforced form, at equal steps.

    python3 student.py DATASET CORPUS OUT [--seeds 3] [--steps 600] [--jobs 2] [--only NAME ...]

DATASET is a reinforced dataset of CORPUS/train-*.tar. The student is a small CLIP. Each run below is trained with each seed
and judged, ten times on the way, by zero-shot top-1 on the held-out design:

    plain        images and their captions, contrastive loss
    captions     and synthetic captions, contrastive loss
    embeddings   images and their captions, the teachers' embeddings, distillation loss
    full         synthetic captions and embeddings, distillation loss
    ...          full with one teacher, with fewer views, with other logit scales

Data go through the published trainers' rules (tests/integration/load_with_trainer.py): a stored view is replayed by
torchvision, its embedding row and a caption's row are taken as stored, losses are those of apple/ml-mobileclip,
training/open_clip_v2.patch, written anew. The captions of a batch are distinct: a second drawing of the same thing is no
negative. What is judged is a running average of the weights over the last tenth of the steps. OUT gets results.jsonl, a
line per run and seed; what it holds already is not run again.

Needs python3-torch, python3-torchvision, python3-numpy, python3-pil and the pip package webdataset (0.2.86).
"""

import argparse
import io
import json
import multiprocessing
import os
import pathlib
import sys
import time
from concurrent import futures

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from data import CLIP_MEAN, CLIP_STD, Corpus, batches, normalised, resized
from muon import optimizers
from tokens import ClipTokens
from towers import Clip

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "integration"))
from load_with_trainer import Replay, tarfile_to_samples  # noqa: E402

SIZE, CONTEXT, BATCH, LOOKS = 48, 16, 256, 10
STUDENT = {"embed_dim": 96,
           "vision_cfg": {"image_size": SIZE, "patch_size": 12, "width": 96, "layers": 3, "head_width": 32},
           "text_cfg": {"context_length": CONTEXT, "width": 96, "heads": 3, "layers": 1}}

FULL = {"synthetic": True, "weights": (0, 1), "teachers": (0, 1), "views": 10, "scale": 15}
RUNS = {"plain": {**FULL, "synthetic": False, "weights": (1, 0), "teachers": ()},
        "captions": {**FULL, "weights": (1, 0), "teachers": ()},
        "embeddings": {**FULL, "synthetic": False},
        "full": FULL,
        "one teacher (a)": {**FULL, "teachers": (0,)},
        "one teacher (b)": {**FULL, "teachers": (1,)},
        "1 view": {**FULL, "views": 1},
        "2 views": {**FULL, "views": 2},
        "5 views": {**FULL, "views": 5},
        "scale 10": {**FULL, "scale": 10},
        "scale 30": {**FULL, "scale": 30},  # the teachers' own are 32 and 27
        "scale 60": {**FULL, "scale": 60},
        "half contrastive": {**FULL, "weights": (0.5, 0.5)}}


class Reinforced:
    """A dataset in memory: replayed views uint8 [N, A, SIZE, SIZE, 3], texts, and the teachers' rows as stored."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        augmentation = json.loads((folder / "trainer_config.json").read_text())["reinforce"]["image_augmentation"]
        augmentation["random_resized_crop"]["size"] = SIZE
        replay = Replay(augmentation)
        self.views, self.real, self.synthetic, image, real, synthetic = [], [], [], [], [], []
        for sample in tarfile_to_samples({"url": str(shard)} for shard in sorted(folder.glob("*.tar"))):
            picture = Image.open(io.BytesIO(next(sample[e] for e in ("png", "jpg", "webp") if e in sample))).convert("RGB")
            self.views.append(np.stack([np.asarray(replay(picture, v)) for v in json.loads(sample["paug.json"])["param_aug"]]))
            column, texts = sorted(json.loads(sample["syn.json"]).items())[0]
            self.real.append(sample["txt"].decode())
            self.synthetic.append(texts)
            rows = np.load(io.BytesIO(sample["npz"]))
            image.append(rows["image_emb"])
            real.append(rows["text_emb"][0])
            synthetic.append(rows[column + "_emb"])
        self.views = np.stack(self.views)
        self.image_rows, self.real_rows, self.synthetic_rows = map(np.stack, (image, real, synthetic))
        self.concepts = {}  # caption -> indices, for batches()
        for i, text in enumerate(self.real):
            self.concepts.setdefault(text, []).append(i)

    def tokenise(self, tokens):
        """real_ids [N, CONTEXT], synthetic_ids [N, S, CONTEXT]"""
        known = {text: tokens.encode(text, CONTEXT) for text in {*self.real}.union(*self.synthetic)}
        self.real_ids = torch.tensor([known[t] for t in self.real])
        self.synthetic_ids = torch.tensor([[known[t] for t in texts] for texts in self.synthetic])


def contrastive(image, text, scale):
    logits = scale * image @ text.T
    target = torch.arange(len(image))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def distillation(image, text, scale, teacher_image, teacher_text, slices, teacher_scale):
    """Cross-entropy of the student's similarities against the mean of the teachers', in both directions."""
    loss = 0
    for a, b, ta, tb in ((image, text, teacher_image, teacher_text), (text, image, teacher_text, teacher_image)):
        target = sum((teacher_scale * ta[:, s] @ tb[:, s].T).softmax(1) for s in slices) / len(slices)
        loss = loss - (target * (scale * a @ b.T).log_softmax(1)).sum(1).mean()
    return loss / 2


def trimmed(ids):
    """Without the padding that every row ends in."""
    return ids[:, :int((ids != 0).sum(1).max())]


@torch.no_grad()
def top1(model, images, ids):
    """Share of the held-out images, float [N, 3, SIZE, SIZE], whose own name, of all N, is the nearest."""
    image = torch.cat([F.normalize(model.encode_image(x).float(), dim=-1) for x in images.split(256)])
    text = torch.cat([F.normalize(model.encode_text(trimmed(x)).float(), dim=-1) for x in ids.split(256)])
    return round(float(((image @ text.T).argmax(1) == torch.arange(len(image))).float().mean()), 4)


def train(data, dims, n_tokens, held, run, seed, steps):
    """One student; held: what top1() takes. Returns [(samples seen, top-1), ...]."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Clip({**STUDENT, "text_cfg": {**STUDENT["text_cfg"], "vocab_size": n_tokens}})
    average = {k: v.clone() for k, v in model.state_dict().items()}
    steppers = optimizers(model)
    groups = [group for o in steppers for group in o.param_groups]
    rates = [group["lr"] for group in groups]
    ends = np.cumsum(dims)
    slices = [slice(int(ends[k] - dims[k]), int(ends[k])) for k in run["teachers"]]
    curve = []
    for step, rows in zip(range(1, steps + 1), batches(data, BATCH, rng)):
        for rate, group in zip(rates, groups):
            group["lr"] = rate * min(1, 10 * step / steps) * (0.01 + 0.99 * (1 + np.cos(np.pi * step / steps)) / 2)
        view = rng.integers(0, min(run["views"], data.views.shape[1]), BATCH)
        x = torch.from_numpy(data.views[rows, view]).permute(0, 3, 1, 2).float() / 255
        texts = [(data.real_ids[rows], data.real_rows[rows])]
        if run["synthetic"]:
            which = rng.integers(0, data.synthetic_rows.shape[1], BATCH)
            texts.append((data.synthetic_ids[rows, which], data.synthetic_rows[rows, which]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = model.encode_image(normalised(x, CLIP_MEAN, CLIP_STD))
            words = model.encode_text(trimmed(torch.cat([ids for ids, _ in texts])))
        image, words = F.normalize(image.float(), dim=-1), F.normalize(words.float(), dim=-1)
        teacher_image = torch.from_numpy(data.image_rows[rows, view])
        scale = model.logit_scale.exp().clamp(max=100)
        loss = 0
        for (_, teacher_text), text in zip(texts, words.split(BATCH)):
            a, b = run["weights"]
            if a:
                loss = loss + a * contrastive(image, text, scale)
            if b:
                loss = loss + b * distillation(image, text, scale, teacher_image, torch.from_numpy(teacher_text), slices,
                                               run["scale"])
        for o in steppers:
            o.zero_grad(set_to_none=True)
        loss.backward()
        for o in steppers:
            o.step()
        for k, v in model.state_dict().items():
            average[k].lerp_(v, 10 / (step + 10))
        if step % max(1, steps // LOOKS) == 0:
            own = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(average)
            curve.append((step * BATCH, top1(model, *held)))
            model.load_state_dict(own)
    return curve


def share(*what):
    """Makes what every student reads known to a forked process, without a copy."""
    global shared
    shared = what


def student(name, seed, steps):
    start = time.time()
    curve = train(*shared, RUNS[name], seed, steps)
    return {"run": name, "seed": seed, "minutes": round((time.time() - start) / 60, 1), "curve": curve}


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("dataset")
    args.add_argument("corpus")
    args.add_argument("out")
    args.add_argument("--dims", type=int, nargs="+", default=[128, 160], help="columns of each teacher")
    args.add_argument("--seeds", type=int, default=3)
    args.add_argument("--steps", type=int, default=600)
    args.add_argument("--jobs", type=int, default=os.cpu_count(), help="students at a time, a core for each")
    args.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS), metavar="NAME")
    args = args.parse_args()
    torch.set_num_threads(1)
    data, held = Reinforced(args.dataset), Corpus(args.corpus, "held-out")
    assert sum(args.dims) == data.image_rows.shape[2], f"the rows have {data.image_rows.shape[2]} columns: see --dims"
    tokens = ClipTokens(data.real, 2048)
    data.tokenise(tokens)
    held = (normalised(resized(held.images, SIZE), CLIP_MEAN, CLIP_STD),
            torch.tensor([tokens.encode(m["label"], CONTEXT) for m in held.metas]))
    path = pathlib.Path(args.out, "results.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    done = {(line["run"], line["seed"]) for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    waiting = [(name, seed) for seed in range(args.seeds) for name in args.only if (name, seed) not in done]
    with futures.ProcessPoolExecutor(args.jobs, multiprocessing.get_context("fork"), share,
                                     (data, args.dims, len(tokens.ids), held)) as pool:
        for task in futures.as_completed([pool.submit(student, name, seed, args.steps) for name, seed in waiting]):
            line = json.dumps(task.result())
            print(line, flush=True)
            with path.open("a", encoding="utf-8") as f:
                f.write(line + "\n")


if __name__ == "__main__":
    main()
