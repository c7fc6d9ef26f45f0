"""The whole DFNDR job: `reinforce run` against the same steps written the usual way in Python, taking turns.

    python3 bench/bench_job.py build/release [--forms float32,int8] [--peers float32,bf16] [--images 16] [--peer-images 8]
                               [--rounds 3] [--threads 2] [--keep DIR] [--json FILE]

2 views, 5 captions, 2 ViT-L/14 teachers and a CoCa ViT-L/14 captioner with random full-size weights, which go to a temporary
folder (--keep DIR: to DIR, and are taken from there the next time). Both read the same tar shards of photograph-like JPEGs
with captions and write tar shards of images, captions, augmentation parameters and embeddings.

The peer: a DataLoader with 2 workers that decode by Pillow and augment by torchvision; open_clip's encode_image() and
encode_text() for both teachers in batches; generate() once per caption, nucleus 0.9, as open_clip has it; bf16 has the
models converted. Its models stay loaded, and loading is not counted on either side: `reinforce run` says how long it took.
Times are per image, so --peer-images may be fewer. Texts' embeddings of both are compared, as a check of the weights.

Needs pip packages torch, torchvision, open_clip_torch and transformers 4.49.0 (generate() does not
know newer ones) in the interpreter that runs it.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torchvision import transforms as T

import bench_coca
import machine
from bench_image import MEAN, STD, photograph

VIEWS, CAPTIONS, SHARDS, TEACHERS = 2, 5, 2, ("teacher-a", "teacher-b")
JOB = """name: bench
input: {{url: {input}}}
output: {{url: {output}}}
views: {{count: {views}}}
captioners:
  - {{model: {models}/captioner, count: {captions}, strategy: top_p, top_p: 0.9, max_tokens: 30, min_tokens: 5, dtype: {form}}}
teachers:
  - {{model: {models}/teacher-a, dtype: {form}}}
  - {{model: {models}/teacher-b, dtype: {form}}}
workers: {{threads: {threads}}}
"""


def make_models(folder, architectures):
    """Snapshots that both sides read; each is made once."""
    for seed, (name, architecture) in enumerate(architectures.items()):
        path = os.path.join(folder, name)
        if not os.path.exists(os.path.join(path, "open_clip_model.safetensors")):
            os.makedirs(path, exist_ok=True)
            torch.manual_seed(seed)
            bench_coca.write_snapshot(open_clip.create_model(architecture), architecture, path)


def make_shards(folder, n_images, size):
    """WebDataset shards of n_images in all; returns their paths."""
    os.makedirs(folder)
    width, height = map(int, size.split("x"))
    paths = [os.path.join(folder, f"{shard:05d}.tar") for shard in range(SHARDS)]
    with contextlib.ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(path, "w")) for path in paths]
        for i in range(n_images):
            jpeg = io.BytesIO()
            photograph(width, height, i).save(jpeg, "JPEG", quality=90)
            tar = tars[i * SHARDS // n_images]
            add_member(tar, f"{i:06d}.jpg", jpeg.getvalue())
            add_member(tar, f"{i:06d}.txt", f"photograph number {i} of hills and a lake behind a wooden fence".encode())
    return paths


def add_member(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


class Shards(IterableDataset):
    """Samples of tar shards, decoded and augmented; each DataLoader worker has its own shards."""

    def __init__(self, paths):
        self.paths = paths
        self.finish = T.Compose([T.ToTensor(), T.Normalize(MEAN, STD)])
        self.plain = T.Compose([T.Resize(224, interpolation=T.InterpolationMode.BICUBIC), T.CenterCrop(224), self.finish])
        self.rand_augment = T.RandAugment(2, 9)

    def view(self, image):
        """A view, and the parameters it can be made again from."""
        seed = int(torch.randint(2 ** 31, ()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            top, left, height, width = T.RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3))
            crop = T.functional.resized_crop(image, top, left, height, width, [224, 224], T.InterpolationMode.BICUBIC)
            return self.finish(self.rand_augment(crop)), [[top, left, height, width], seed]

    def __iter__(self):
        worker = get_worker_info()
        for path in self.paths[worker.id::worker.num_workers]:
            with tarfile.open(path) as tar:
                members = {m.name: tar.extractfile(m).read() for m in tar}
            for name in sorted(name for name in members if name.endswith(".jpg")):
                key = name.removesuffix(".jpg")
                image = Image.open(io.BytesIO(members[name])).convert("RGB")
                views, parameters = zip(*(self.view(image) for _ in range(VIEWS)))
                yield {"key": key, "jpg": members[name], "txt": members[key + ".txt"].decode(), "plain": self.plain(image),
                       "views": torch.stack(views), "param_aug": parameters}


def collate(samples):
    batch = {key: [s[key] for s in samples] for key in samples[0]}
    return {**batch, "plain": torch.stack(batch["plain"]), "views": torch.stack(batch["views"])}


class Python:
    """The job as a script would do it, with all models in one type."""

    def __init__(self, form, models, architectures, args):
        self.dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[form]
        self.args = args
        loaded = {name: self.load(models, name, architecture) for name, architecture in architectures.items()}
        self.captioner, self.teachers = loaded["captioner"], [loaded[name] for name in TEACHERS]
        self.tokenizer = open_clip.get_tokenizer("ViT-L-14")

    def load(self, models, name, architecture):
        model = open_clip.create_model(architecture)
        model.load_state_dict(load_file(os.path.join(models, name, "open_clip_model.safetensors")))
        return model.eval().to(self.dtype)

    def caption(self, plain):
        """[B] lists of captions."""
        columns = []
        for _ in range(CAPTIONS):
            rows = self.captioner.generate(plain.to(self.dtype), generation_type="top_p", top_p=0.9, seq_len=30, min_seq_len=5)
            texts = (open_clip.decode(row).split("<end_of_text>")[0].replace("<start_of_text>", "") for row in rows)
            columns.append([text.strip() for text in texts])
        return list(zip(*columns))

    def embed(self, batch, captions):
        """Unit rows of both teachers one behind the other: views [B, VIEWS, D], texts [B, 1 + CAPTIONS, D]."""
        B = len(captions)
        tokens = self.tokenizer([text for real, synthetic in zip(batch["txt"], captions) for text in (real, *synthetic)])
        views = batch["views"].flatten(0, 1).to(self.dtype)
        images = [t.encode_image(views, normalize=True) for t in self.teachers]
        texts = [t.encode_text(tokens, normalize=True) for t in self.teachers]
        return (torch.cat(images, 1).float().view(B, VIEWS, -1).numpy(),
                torch.cat(texts, 1).float().view(B, 1 + CAPTIONS, -1).numpy())

    @staticmethod
    def write(tar, batch, captions, image_emb, text_emb):
        for i, key in enumerate(batch["key"]):
            arrays = io.BytesIO()
            np.savez(arrays, image_emb=image_emb[i], text_emb=text_emb[i, :1], syn_text_emb=text_emb[i, 1:])
            add_member(tar, key + ".jpg", batch["jpg"][i])
            add_member(tar, key + ".txt", batch["txt"][i].encode())
            add_member(tar, key + ".syn.json", json.dumps({"syn_text": captions[i]}).encode())
            add_member(tar, key + ".paug.json", json.dumps({"param_aug": batch["param_aug"][i]}).encode())
            add_member(tar, key + ".npz", arrays.getvalue())

    def run(self, shards, output):
        """Seconds, and that none of them went into loading."""
        os.makedirs(output)
        start = time.perf_counter()
        loader = DataLoader(Shards(shards), batch_size=self.args.batch, num_workers=2, collate_fn=collate)
        with tarfile.open(os.path.join(output, "00000000.tar"), "w") as tar, torch.inference_mode():
            for batch in loader:
                captions = self.caption(batch["plain"])
                self.write(tar, batch, captions, *self.embed(batch, captions))
        return time.perf_counter() - start, 0


class Reinforce:
    def __init__(self, form, models, args):
        self.form, self.models, self.args = form, models, args
        self.binary = os.path.join(args.build, "reinforce")

    def run(self, shards, output):
        """Seconds without those in which models were loaded, and these."""
        job = output + ".yaml"
        with open(job, "w") as f:
            f.write(JOB.format(input=os.path.dirname(shards[0]), output=output, views=VIEWS, models=self.models,
                               captions=CAPTIONS, form=self.form, threads=self.args.threads))
        start = time.perf_counter()
        done = subprocess.run([self.binary, "run", job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            sys.exit(f"reinforce run: {done.returncode}\n{done.stdout}{done.stderr}")
        loading = float(re.search(r"models loaded in ([0-9.]+) s", done.stdout)[1])
        return seconds - loading, loading


def real_text_embeddings(output):
    """Of all samples in the output's tars, by key."""
    found = {}
    for name in sorted(os.listdir(output)):
        if name.endswith(".tar"):
            with tarfile.open(os.path.join(output, name)) as tar:
                for member in tar:
                    if member.name.endswith(".npz"):
                        arrays = np.load(io.BytesIO(tar.extractfile(member).read()))
                        found[member.name] = arrays["text_emb"][0].astype(np.float64)
    return found


def agreement(a, b):
    """Mean cosine of the samples that are in both."""
    common = sorted(set(a) & set(b))
    assert common, "no sample is in both outputs"
    return np.mean([a[key] @ b[key] / np.linalg.norm(a[key]) / np.linalg.norm(b[key]) for key in common])


def one_run(side, shards, scratch):
    """What run() says, and the texts' embeddings that it wrote."""
    output = os.path.join(scratch, "output")
    took = side.run(shards, output)
    texts = real_text_embeddings(output)
    shutil.rmtree(output)
    for name in os.listdir(scratch):
        if name.startswith("output."):  # the job file
            os.unlink(os.path.join(scratch, name))
    return took, texts


def take_turns(args, scratch):
    """By name of the kind: seconds per image of every round, seconds of loading, texts' embeddings."""
    architectures = {**{name: args.teacher for name in TEACHERS}, "captioner": args.captioner}
    models = os.path.abspath(args.keep or os.path.join(scratch, "models"))
    make_models(models, architectures)
    shards = make_shards(os.path.join(scratch, "images"), args.images, args.size)
    fewer = make_shards(os.path.join(scratch, "fewer"), args.peer_images, args.size)
    kinds = {f"reinforce {form}": (Reinforce(form, models, args), shards) for form in args.forms.split(",")}
    kinds.update({f"python {form}": (Python(form, models, architectures, args), fewer) for form in args.peers.split(",")})
    seconds, loading, texts = {name: [] for name in kinds}, {}, {}
    for i in range(args.rounds):
        for name, (side, paths) in kinds.items():
            (took, loading[name]), texts[name] = one_run(side, paths, scratch)
            seconds[name].append(took / len(texts[name]))
            print(f"  round {i + 1}, {name}: {seconds[name][-1]:.2f} s an image", flush=True)
    return seconds, loading, texts


def report(seconds, loading, texts):
    ours, peers = ([n for n in seconds if n.startswith(word)] for word in ("reinforce", "python"))
    for name, of in seconds.items():
        print(f"{name}: {statistics.median(of):.2f} s an image (best {min(of):.2f})" +
              (f", models loaded in {loading[name]:.1f} s" if name in ours else "") +
              f"; cosine of real captions to {peers[0]}'s {agreement(texts[name], texts[peers[0]]):.6f}")
    for name in ours:
        for peer in peers:
            ratio = statistics.median(b / a for a, b in zip(seconds[name], seconds[peer]))
            print(f"{name} is {ratio:.1f} times as fast as {peer}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", help="build/release")
    parser.add_argument("--forms", default="float32,int8", help="dtype of all models of ours; one run for each a round")
    parser.add_argument("--peers", default="float32,bf16", help="of PyTorch; one run for each a round")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--peer-images", type=int, default=8)
    parser.add_argument("--size", default="500x400")
    parser.add_argument("--batch", type=int, default=4, help="images of a batch of the DataLoader")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--teacher", default="ViT-L-14", help="smaller ones are for trying this script")
    parser.add_argument("--captioner", default="coca_ViT-L-14")
    parser.add_argument("--keep")
    parser.add_argument("--json", help="append a line to this file")
    args = parser.parse_args()
    if not open_clip.coca_model._has_transformers:
        sys.exit("open_clip's generate() finds no transformers that it knows; 4.49.0 is one")
    torch.set_num_threads(args.threads)
    print(machine.processor())
    print(machine.versions("torch", "torchvision", "open_clip_torch", "transformers", "pillow"))
    print(f"{VIEWS} views, {CAPTIONS} captions, 2 teachers; {args.images} JPEGs of {args.size}, PyTorch: {args.peer_images}; "
          f"{args.threads} threads")
    health = machine.Health(os.path.join(args.build, "bench"), args.threads)
    before = health.measure("before")
    with tempfile.TemporaryDirectory() as scratch:
        seconds, loading, texts = take_turns(args, scratch)
    report(seconds, loading, texts)
    after = health.measure("after")
    good = health.verdict()
    if args.json:
        with open(args.json, "a") as f:
            f.write(json.dumps({"seconds_per_image": seconds, "loading": loading, "threads": args.threads,
                                "images": args.images, "peer_images": args.peer_images, "health": [before, after],
                                "good": good, "processor": machine.processor()}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
