"""What a student learns from batches that the curator selects, and from random ones, of a corpus with wrong captions.

    python3 learnability.py CORPUS OUT [--reinforce build/release/reinforce] [--seeds 3] [--only NAME ...]

Out of CORPUS (corpus.py's) it makes OUT/corpus, has `reinforce run` write the embeddings of a teacher, deploy/models/siglip2,
to OUT/dataset, starts `reinforce curator serve` on that, and trains small SigLIPs. OUT gets results.jsonl, a line per run and
seed; what is there already is not made again. docs/learnability.md says what came of it.

A super-batch is B random examples, a batch the b of them that a run trains on; all runs have the same b. At the end it prints
a table and draws OUT/accuracy.svg and OUT/shares.svg.

Needs python3-torch, python3-numpy, python3-pil, python3-zmq, python3-protobuf and protobuf-compiler.
"""

import argparse
import collections
import contextlib
import io
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import report
from corpus import write_shards
from data import HALF, Corpus, augmented, normalised, resized
from muon import optimizers
from tokens import ClipTokens
from towers import Siglip

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "curator-client"))
from reinforce_curator import Curator, CuratedBatches, Embeddings  # noqa: E402

KINDS = {"clean": 0.4, "noisy": 0.4, "trivial": 0.2}  # shares of the corpus
COPIES = 14  # of each trivial pair
SIZE, CONTEXT, BATCH, VOCABULARY = 48, 12, 64, 1536
LOOKS = 10  # at the held-out design in a run
STUDENT = {"vision_config": {"image_size": SIZE, "patch_size": 12, "hidden_size": 96, "intermediate_size": 384,
                             "num_hidden_layers": 3, "num_attention_heads": 3},
           "text_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
                           "max_position_embeddings": CONTEXT, "projection_size": 96, "vocab_size": VOCABULARY}}

# criterion of the selection, and how many times b the super-batch is
RUNS = {"uniform": ("uniform", 1),
        "uniform, without noise": ("uniform", 1),
        "learnability, half": ("learnability", 2),
        "learnability, a fifth": ("learnability", 5),
        "easy reference, half": ("easy_reference", 2),
        "hard learner, half": ("hard_learner", 2)}
SHOWN = "learnability, half"  # whose shares are drawn
DRAWN = {"uniform": "#777777", "uniform, without noise": "#222222", "learnability, half": "#1f77b4",
         "learnability, a fifth": "#b3202c", "easy reference, half": "#2a8c4a", "hard learner, half": "#c27c0e"}


def passes(name):
    """What an example trained on costs, in forward passes: its own three (backward is two), and those of scoring."""
    criterion, times = RUNS[name]
    return 3 + (times if criterion in ("learnability", "hard_learner") else 0)


def things(corpus):
    """Indices of animals, plants and food."""
    return np.array([i for i, m in enumerate(corpus.metas) if m["group"] in (3, 4)])


def write_mixed(folder, corpus, n, rng):
    """Shards of n pairs: clean ones, noisy ones, whose captions belong to others of them, and trivial ones, COPIES of each."""
    pool = rng.permutation(things(corpus))
    n_trivial, n_noisy = round(n * KINDS["trivial"]), round(n * KINDS["noisy"])
    n_heads = n_trivial // COPIES
    trivial, noisy, clean = np.split(pool[:n_heads + n - n_trivial], [n_heads, n_heads + n_noisy])
    label = lambda i: corpus.metas[i]["label"]
    wrong = rng.permutation(noisy)
    while any(same := [k for k in range(n_noisy) if label(wrong[k]) == label(noisy[k])]):
        for k in same:
            other = rng.integers(n_noisy)
            wrong[[k, other]] = wrong[[other, k]]
    pairs = [(i, i, "clean") for i in clean] + [(i, j, "noisy") for i, j in zip(noisy, wrong)]
    pairs += [(i, i, "trivial") for i in np.repeat(trivial, COPIES)]
    samples = []
    for key, (i, j, kind) in enumerate(pairs):
        png = io.BytesIO()
        Image.fromarray(corpus.images[i]).save(png, "PNG")
        meta = {"key": f"{key:06}", "kind": kind, "label": label(j), "hexcode": corpus.metas[i]["hexcode"]}
        samples.append((meta["key"], png.getvalue(), meta))
    os.makedirs(folder)
    write_shards(folder, "train", samples)


def write_references(reinforce, folder):
    """The dataset whose teacher is the reference: OUT/dataset of OUT/corpus."""
    job = {"name": "learnability", "input": {"url": str(folder / "corpus")}, "output": {"url": str(folder / "dataset")},
           "views": {"count": 1, "scale_min": 0.8, "rand_augment": False},
           "teachers": [{"name": "siglip2", "model": str(ROOT / "deploy" / "models" / "siglip2")}]}
    (folder / "job.yaml").write_text(json.dumps(job, indent=1))  # JSON is YAML
    subprocess.run([reinforce, "run", folder / "job.yaml"], check=True)


@contextlib.contextmanager
def served(reinforce, folder):
    """Address of a curator with these references."""
    process = subprocess.Popen([reinforce, "curator", "serve", "--bind", "tcp://127.0.0.1:*", "--threads", "1", "--dataset",
                                folder / "dataset", "--cache", folder / "cache"], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


class SuperBatches:
    """What a loader gives, for ever: `size` pairs of these kinds, epoch by epoch in random order; images are views."""

    def __init__(self, metas, images, ids, size, kinds, rng):
        self.metas, self.images, self.ids, self.size, self.rng = metas, images, ids, size, rng
        self.own = np.array([i for i, m in enumerate(metas) if m["kind"] in kinds])

    def __iter__(self):
        waiting = np.array([], int)
        while True:
            while len(waiting) < self.size:
                waiting = np.append(waiting, self.rng.permutation(self.own))
            rows, waiting = waiting[:self.size], waiting[self.size:]
            pixels, _ = augmented(self.images[rows], SIZE, self.rng)
            yield {**{what: [self.metas[i][what] for i in rows] for what in ("key", "kind")},
                   "image": normalised(pixels, HALF, HALF), "text": self.ids[rows]}


def rows_of(model, batch):
    image, text = model.encode_image(batch["image"]), model.encode_text(batch["text"])
    return F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)


def sigmoid_loss(image, text, scale, bias):
    logits = scale * image @ text.T + bias
    return -F.logsigmoid(logits * (2 * torch.eye(len(image)) - 1)).sum(-1).mean()


class Judge:
    """Zero-shot top-1 on the held-out design, among the names of its things."""

    def __init__(self, held, encode):
        which = things(held)
        self.images = normalised(resized(held.images[which], SIZE), HALF, HALF)
        self.ids = encode([held.metas[i]["label"] for i in which])

    @torch.no_grad()
    def __call__(self, model):
        image, text = rows_of(model, {"image": self.images, "text": self.ids})
        return round(float(((image @ text.T).argmax(1) == torch.arange(len(image))).float().mean()), 4)


def train(data, judge, curator, name, seed, steps):
    """One student; returns its curve: a dict per look, shares being those of the batches since the last one."""
    criterion, times = RUNS[name]
    torch.manual_seed(seed)
    model = Siglip(STUDENT)
    with torch.no_grad():
        model.logit_bias.fill_(-math.log(BATCH))  # one text of the batch is right
    steppers = optimizers(model)
    rates = [(group, group["lr"]) for o in steppers for group in o.param_groups]
    kinds = KINDS.keys() - ({"noisy"} if name == "uniform, without noise" else set())
    batches = SuperBatches(*data, BATCH * times, kinds, np.random.default_rng(seed))

    @torch.no_grad()
    def embed(super_batch):
        if criterion == "easy_reference":
            return None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image, text = rows_of(model, super_batch)
        return Embeddings(image, text, model.logit_scale.exp().item(), model.logit_bias.item())

    if criterion != "uniform":
        curator.job = f"{name}, {seed}"
        batches = CuratedBatches(batches, curator, BATCH, lambda s: s["key"], embed, seed=seed, criterion=criterion)
    curve, seen, seconds, start = [], collections.Counter(), 0, time.process_time()
    for step, batch in enumerate(batches, 1):
        for group, rate in rates:
            group["lr"] = rate * min(1, step / 50) * (1 + math.cos(math.pi * step / steps)) / 2
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image, text = rows_of(model, batch)
        loss = sigmoid_loss(image, text, model.logit_scale.exp(), model.logit_bias)
        for o in steppers:
            o.zero_grad(set_to_none=True)
        loss.backward()
        for o in steppers:
            o.step()
        seen.update(batch["kind"])
        if step % (steps // LOOKS) == 0:
            seconds += time.process_time() - start
            curve.append({"examples": step * BATCH, "top1": judge(model), "seconds": round(seconds, 1),
                          "shares": {k: round(seen[k] / seen.total(), 4) for k in KINDS}})
            print(name, seed, curve[-1], flush=True)
            seen.clear()
            start = time.process_time()
        if step == steps:
            return curve


def table(runs):
    """A row per run: shares of all its batches, top-1 at the end and for what a uniform run costs, and when it is as good."""
    curves = {run: report.mean_curve([[(p["examples"], p["top1"]) for p in c] for c in own]) for run, own in runs.items()}
    n_examples, level = curves["uniform"][-1]
    yield ("| batches | seeds | noisy, % | trivial, % | top-1, % | lowest to highest | examples to uniform's top-1 | "
           "cost of an example | top-1 at uniform's cost, % |")
    yield "|---|---|---|---|---|---|---|---|---|"
    for run, own in runs.items():
        last = [100 * c[-1]["top1"] for c in own]
        noisy, trivial = (100 * np.mean([p["shares"][kind] for c in own for p in c]) for kind in ("noisy", "trivial"))
        cost, reached = passes(run) / passes("uniform"), report.reached(curves[run], level)
        yield (f"| {run} | {len(own)} | {noisy:.1f} | {trivial:.1f} | "
               f"{np.mean(last):.1f} | {min(last):.1f} to {max(last):.1f} | "
               f"{format(reached, ',.0f') if reached else 'not reached'} | {cost:.2f} | "
               f"{100 * np.interp(n_examples / cost, *zip((0, 0), *curves[run])):.1f} |")


def draw(runs, folder):
    accuracy = {run: [[(p["examples"], p["top1"]) for p in c] for c in own] for run, own in runs.items()}
    shares = {kind + of: [[(p["examples"], p["shares"][kind]) for p in c] for c in runs[run]]
              for run, of in ((SHOWN, ""), ("uniform", ", uniform")) for kind in KINDS}
    labels = {"xlabel": "examples trained on"}
    kinds = dict(zip(shares, ("#2a8c4a", "#b3202c", "#c27c0e", "#9dc9ab", "#dd9aa0", "#e3c48f")))  # paler: uniform
    for name, svg in (("accuracy", report.plot(accuracy, DRAWN, right=150, **labels)),
                      ("shares", report.plot(shares, kinds, f"shares of the batches: {SHOWN}", begin=(), **labels))):
        (folder / f"{name}.svg").write_text("\n".join(svg) + "\n")


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("corpus")
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--reinforce", default=str(ROOT / "build" / "release" / "reinforce"), metavar="PROGRAM")
    args.add_argument("--pairs", type=int, default=2250)
    args.add_argument("--seeds", type=int, default=3)
    args.add_argument("--steps", type=int, default=400)
    args.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS), metavar="NAME")
    args = args.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    if not (args.out / "corpus").exists():
        write_mixed(args.out / "corpus", Corpus(args.corpus, "train"), args.pairs, np.random.default_rng(0))
    write_references(args.reinforce, args.out)
    mixed = Corpus(args.out / "corpus", "train")
    tokens = ClipTokens([m["label"] for m in mixed.metas], VOCABULARY)
    encode = lambda texts: torch.tensor([tokens.encode(t, CONTEXT) for t in texts])
    judge = Judge(Corpus(args.corpus, "held-out"), encode)
    small = np.stack([np.asarray(Image.fromarray(i).resize((SIZE, SIZE), Image.BICUBIC)) for i in mixed.images])
    data = mixed.metas, small, encode([m["label"] for m in mixed.metas])
    results = args.out / "results.jsonl"
    done = {(r["run"], r["seed"]) for r in map(json.loads, results.open() if results.exists() else [])}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with served(args.reinforce, args.out) as address, Curator(address) as curator, results.open("a") as lines:
        for seed in range(args.seeds):
            for name in args.only:
                if (name, seed) in done:
                    continue
                curve = train(data, judge, curator, name, seed, args.steps)
                lines.write(json.dumps({"run": name, "seed": seed, "curve": curve}) + "\n")
                lines.flush()
    print(f"the curator took {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before:.1f} s of processor time")
    runs = collections.defaultdict(list)
    for line in map(json.loads, results.open()):
        runs[line["run"]].append(line["curve"])
    if {"uniform", SHOWN} <= runs.keys():
        print("\n".join(table(runs)))
        draw(runs, args.out)


if __name__ == "__main__":
    main()
