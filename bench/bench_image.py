"""Decode, 10 augmented views and preprocessing on one core: this library against Pillow and torchvision, taking turns.

    python3 bench/bench_image.py build/release/bench/bench_image [FILES...] [--rounds 7] [--size 500x400]

Needs pip packages pillow, numpy, torch and torchvision in the interpreter that runs it. Without FILES it makes eight
photograph-like JPEGs (quality 90, 4:2:0, about 0.37 bytes a pixel as photographs have). Machines are noisy: only the
ratio of neighbouring rounds means something, so that is what is printed.
"""

import argparse
import io
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VIEWS = 10


def photograph(width, height, seed):
    """Noise whose power falls with frequency as in natural scenes, and a few hard edges."""
    rng = np.random.RandomState(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    fall = 1 / np.maximum(np.hypot(fx, fy), 1 / max(width, height)) ** 1.35
    planes = []
    for _ in range(3):
        spectrum = fall * np.exp(2j * np.pi * rng.rand(*fall.shape))
        plane = np.fft.irfft2(spectrum, (height, width))
        planes.append(plane / plane.std())
    luma = planes[0]
    rgb = np.stack([luma + 0.35 * planes[1], luma, luma + 0.35 * planes[2]], -1) * 48 + 120
    for _ in range(6):
        top, left = rng.randint(0, height - 40), rng.randint(0, width - 40)
        rgb[top:top + rng.randint(20, height // 2), left:left + rng.randint(20, width // 2)] += rng.randint(-50, 50, 3)
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


class Ours:
    def __init__(self, binary, files):
        self.process = subprocess.Popen([binary, *files], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def seconds(self, task):
        self.process.stdin.write(f"{task} 1\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Theirs:
    def __init__(self, files):
        self.data = [open(name, "rb").read() for name in files]
        finish = [T.ToTensor(), T.Normalize(MEAN, STD)]
        bicubic = T.InterpolationMode.BICUBIC
        self.augment = T.Compose([T.RandomResizedCrop(224, interpolation=bicubic), T.RandAugment(2, 9), *finish])
        self.plain = T.Compose([T.Resize(224, interpolation=bicubic), T.CenterCrop(224), *finish])

    def seconds(self, task):
        start = time.perf_counter()
        for data in self.data:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            for _ in range(VIEWS if task == "chain" else 0):
                self.augment(image)
            if task != "decode":
                self.plain(image)
        return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", default="500x400")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        files = args.files
        if not files:
            width, height = map(int, args.size.split("x"))
            for seed in range(8):
                files.append(os.path.join(folder, f"{seed}.jpg"))
                photograph(width, height, seed).save(files[-1], "JPEG", quality=90)
            n_bytes = sum(map(os.path.getsize, files)) // len(files)
            print(f"{len(files)} images of {args.size}, {n_bytes} bytes each")
        ours, theirs = Ours(args.binary, files), Theirs(files)
        for task in ("chain", "tensor", "decode"):
            ours.seconds(task), theirs.seconds(task)  # caches warm, memory mapped
            rounds = [(ours.seconds(task), theirs.seconds(task)) for _ in range(args.rounds)]
            ratio = statistics.median(t / o for o, t in rounds)
            o, t = (len(files) / statistics.median(r[i] for r in rounds) for i in (0, 1))
            print(f"{task}: ours {o:.1f} images/s, Pillow and torchvision {t:.1f} images/s, ratio {ratio:.2f}")
        for task in ("decode", "resize", "operators", "normalise"):
            ms = statistics.median(ours.seconds(task) for _ in range(args.rounds)) / len(files) * 1e3
            print(f"  ours, {task}: {ms:.3f} ms an image" + ("" if task == "decode" else f" ({VIEWS} views)"))
        ours.close()


if __name__ == "__main__":
    main()
