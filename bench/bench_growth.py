"""Images per second and memory of `reinforce run` as one thing grows and all else stays: cores, images, samples of a
shard, views, samples in flight.

    python3 bench/bench_growth.py build/release/reinforce [--model deploy/models/clip-a] [--images 2000] [--rounds 3]
                                  [--groups cores,images,shards,views,flight] [--largest 100000]

Needs Pillow in the interpreter that runs it. The corpus is made of JPEGs of noise and gradients, 224 pixels wide, in WebDataset
shards; one teacher embeds two views and the caption of each. Variants of a group take turns, so ratios within one mean most. Each
round runs the first 100 images and then all of them, and the rate is that of the difference: loading the model does not
count. Memory is the most that the process ever held. --largest adds one run of so many images, for memory alone.
"""

import argparse
import io
import json
import os
import pathlib
import random
import shutil
import statistics
import sys
import tarfile
import tempfile
import time

from PIL import Image

DISTINCT = 64  # images; more would only cost time
FIRST = 100  # of the short run that is subtracted


def jpegs():
    rng = random.Random(1)
    for _ in range(DISTINCT):
        small = Image.frombytes("RGB", (14, 14), bytes(rng.randrange(256) for _ in range(14 * 14 * 3)))
        out = io.BytesIO()
        small.resize((224, 224), Image.BICUBIC).save(out, "JPEG", quality=90)
        yield out.getvalue()


def write_corpus(folder, images, n, shard_samples):
    folder.mkdir()
    for first in range(0, n, shard_samples):
        with tarfile.open(folder / f"{first // shard_samples:05d}.tar", "w") as tar:
            for i in range(first, min(first + shard_samples, n)):
                for suffix, body in (("jpg", images[i % DISTINCT]), ("txt", f"pattern {i % DISTINCT}".encode())):
                    info = tarfile.TarInfo(f"{i:09d}.{suffix}")
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))


def seconds_of(binary, job, folder):
    """Of a whole run, and the peak of its memory in MB."""
    path = folder / "job.yaml"
    path.write_text(json.dumps(job))
    shutil.rmtree(job["output"]["url"], ignore_errors=True)
    with open(folder / "log", "w") as log:
        begun = time.monotonic()
        pid = os.posix_spawn(binary, [binary, "run", str(path)], os.environ,
                             file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)])
        _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit((folder / "log").read_text())
    return time.monotonic() - begun, usage.ru_maxrss / 1000


class Variant:
    def __init__(self, name, args, folder, images, n=None, shard_samples=500, views=2, **workers):
        self.name, self.binary, self.folder = name, args.binary, folder / name.replace(" ", "-")
        self.n = n or args.images
        self.folder.mkdir()
        self.job = {"input": {"url": str(self.folder / "in")}, "output": {"url": str(self.folder / "out")},
                    "views": {"count": views}, "workers": workers,
                    "teachers": [{"model": str(pathlib.Path(args.model).resolve())}]}
        write_corpus(self.folder / "in", images, self.n, shard_samples)
        write_corpus(self.folder / "first", images, FIRST, shard_samples)
        self.rates, self.peaks = [], []

    def round(self):
        first = self.job | {"input": {"url": str(self.folder / "first")}}
        begin, _ = seconds_of(self.binary, first, self.folder)
        whole, peak = seconds_of(self.binary, self.job, self.folder)
        self.rates.append((self.n - FIRST) / (whole - begin))
        self.peaks.append(peak)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--model", default="deploy/models/clip-a")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--groups", default="cores,images,shards,views,flight")
    parser.add_argument("--largest", type=int, default=0)
    args = parser.parse_args()
    images = list(jpegs())
    with tempfile.TemporaryDirectory() as temporary:
        def variant(name, **what):
            return Variant(name, args, pathlib.Path(temporary), images, **what)

        groups = {
            "cores": [("1 thread", {"threads": 1}), ("2 threads", {"threads": 2}), ("2 workers", {"count": 2, "threads": 1})],
            "images": [("half of the images", {"n": args.images // 2}), ("all images", {})],
            "shards": [("shards of 100", {"shard_samples": 100}), ("shards of 2000", {"shard_samples": 2000})],
            "views": [("1 view", {"views": 1}), ("5 views", {"views": 5}), ("10 views", {"views": 10})],
            "flight": [("8 in flight", {"queue_items": 8}), ("256 in flight", {"queue_items": 256})],
        }
        chosen = [name for name in args.groups.split(",") if name]
        if not set(chosen) <= set(groups):
            parser.error(f"--groups: {args.groups} is not of {', '.join(groups)}")
        print(f"{os.cpu_count()} cores, {args.images} images, medians of {args.rounds} rounds in turns")
        print(f"{'':28} images/s     to the first       peak")
        for name in chosen:
            group = [variant(label, **what) for label, what in groups[name]]
            for _ in range(args.rounds):
                for v in group:
                    v.round()
            for v in group:
                ratio = statistics.median(a / b for a, b in zip(v.rates, group[0].rates))
                print(f"{v.name:28} {statistics.median(v.rates):8.1f} {ratio:16.2f} {statistics.median(v.peaks):7.0f} MB", flush=True)
        if args.largest > 0:
            v = variant("the largest", n=args.largest)
            v.round()
            print(f"{args.largest:<28} {v.rates[0]:8.1f} {'':16} {v.peaks[0]:7.0f} MB")


if __name__ == "__main__":
    sys.exit(main())
