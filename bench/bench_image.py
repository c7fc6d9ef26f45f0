"""Decode, 10 augmented views and preprocessing on one core: this library against others, taking turns.

    python3 bench/bench_image.py build/release/bench/bench_image [FILES...] [--rounds 7] [--size 500x400] [--tasks ...]

Needs pip packages pillow, numpy, torch and torchvision in the interpreter that runs it; opencv-python-headless, pyvips and
pyvips-binary take part where they are. Without FILES it makes eight photograph-like JPEGs (quality 90, 4:2:0, about 0.37
bytes a pixel as photographs have). Machines are noisy: the median ratio of neighbouring rounds means something, and the
best round of each.

chain   decode, 10 views by RandomResizedCrop and RandAugment, the plain view; each to a normalised float32 tensor
crops   the same without RandAugment, which only torchvision has
tensor  decode and the plain view: shorter side to 224, centre, normalised
fast    the same from JPEGs decoded at a half or quarter of their sides (`image.fast_decode`), where a library can
decode  to RGB
"""

import argparse
import hashlib
import io
import math
import os
import random
import statistics
import subprocess
import tempfile
import time

import numpy as np
import torch
from PIL import Image, features
from torchvision import transforms as T

import machine

MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
SIZE, VIEWS = 224, 10


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
    name = "ours"
    tasks = ("chain", "crops", "tensor", "fast", "decode", "resize", "operators", "normalise")

    def __init__(self, binary, files):
        self.process = subprocess.Popen([binary, *files], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, task):
        self.process.stdin.write(f"{task} 1\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def seconds(self, task):
        return float(self.ask(task))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    """The usual way of a library: `decode` gives RGB pixels, `crop` one random view and `plain` the evaluation view as
    normalised float32 [3, 224, 224], `augment` one random view with RandAugment; `fast` is `plain` of a file, decoded at a
    fraction of its sides that leaves two pixels for one."""

    tasks = ("crops", "tensor", "decode")

    def __init__(self, files):
        self.data = [open(name, "rb").read() for name in files]
        self.random = random.Random(0)

    def seconds(self, task):
        start = time.perf_counter()
        for data in self.data:
            if task in ("tensor", "fast"):
                getattr(self, task)(data)
                continue
            image = self.decode(data)
            for _ in range(VIEWS if task in ("crops", "chain") else 0):
                self.crop(image) if task == "crops" else self.augment(image)
            if task != "decode":
                self.plain(image)
        return time.perf_counter() - start

    def tensor(self, data):
        return self.plain(self.decode(data))

    def box(self, width, height):
        """torchvision's RandomResizedCrop."""
        for _ in range(10):
            area = width * height * self.random.uniform(0.08, 1)
            ratio = math.exp(self.random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if w <= width and h <= height:
                return self.random.randint(0, width - w), self.random.randint(0, height - h), w, h
        return 0, 0, width, height


def resized(width, height):
    """Shorter side to SIZE, and where its centre begins."""
    w, h = SIZE * width // min(width, height), SIZE * height // min(width, height)
    return w, h, round((w - SIZE) / 2), round((h - SIZE) / 2)


def normalised(pixels):
    """Turned first: numpy is several times slower along a last axis of three."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32, order="C")
    planes /= 255
    planes -= MEAN[:, None, None]
    planes /= STD[:, None, None]
    return planes


class PillowNumpy(Peer):
    name = "Pillow, numpy"
    tasks = ("fast", *Peer.tasks)

    def decode(self, data):
        return Image.open(io.BytesIO(data)).convert("RGB")

    def fast(self, data):
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (2 * SIZE, 2 * SIZE))
        return self.plain(image.convert("RGB"))

    def crop(self, image):
        left, top, w, h = self.box(*image.size)
        return normalised(np.asarray(image.crop((left, top, left + w, top + h)).resize((SIZE, SIZE), Image.BICUBIC)))

    def plain(self, image):
        w, h, left, top = resized(*image.size)
        return normalised(np.asarray(image.resize((w, h), Image.BICUBIC).crop((left, top, left + SIZE, top + SIZE))))


class PillowTorchvision(Peer):
    name = "Pillow, torchvision"
    tasks = ("chain", *Peer.tasks)

    def __init__(self, files):
        super().__init__(files)
        bicubic = T.InterpolationMode.BICUBIC
        crop, finish = T.RandomResizedCrop(SIZE, interpolation=bicubic), [T.ToTensor(), T.Normalize(MEAN, STD)]
        self.augment = T.Compose([crop, T.RandAugment(2, 9), *finish])
        self.crop = T.Compose([crop, *finish])
        self.plain = T.Compose([T.Resize(SIZE, interpolation=bicubic), T.CenterCrop(SIZE), *finish])

    def decode(self, data):
        return Image.open(io.BytesIO(data)).convert("RGB")


class OpenCV(Peer):
    """Shrinks by area, which is its way without aliasing, and enlarges by bicubic."""

    name = "OpenCV"
    tasks = ("fast", *Peer.tasks)

    def __init__(self, files):
        super().__init__(files)
        import cv2
        cv2.setNumThreads(1)
        self.cv2 = cv2

    def decode(self, data):
        return self.cv2.imdecode(np.frombuffer(data, np.uint8), self.cv2.IMREAD_COLOR_RGB)

    def fast(self, data):
        shorter = min(Image.open(io.BytesIO(data)).size)  # of the header
        how = (0 if shorter < 4 * SIZE else
               self.cv2.IMREAD_REDUCED_COLOR_4 if shorter >= 8 * SIZE else self.cv2.IMREAD_REDUCED_COLOR_2)
        how = how & ~self.cv2.IMREAD_COLOR | self.cv2.IMREAD_COLOR_RGB
        return self.plain(self.cv2.imdecode(np.frombuffer(data, np.uint8), how))

    def resize(self, image, w, h):
        shrinks = image.shape[0] >= h and image.shape[1] >= w
        return self.cv2.resize(image, (w, h), interpolation=self.cv2.INTER_AREA if shrinks else self.cv2.INTER_CUBIC)

    def normalised(self, image):
        blob = self.cv2.dnn.blobFromImage(image, 1 / 255, mean=(MEAN * 255).tolist())[0]
        blob /= STD[:, None, None]
        return blob

    def crop(self, image):
        left, top, w, h = self.box(image.shape[1], image.shape[0])
        return self.normalised(self.resize(image[top:top + h, left:left + w], SIZE, SIZE))

    def plain(self, image):
        w, h, left, top = resized(image.shape[1], image.shape[0])
        return self.normalised(self.resize(image, w, h)[top:top + SIZE, left:left + SIZE])


class Vips(Peer):
    """Resizes by convolution with its own bicubic kernel after whole-number steps of averaging (`resize`)."""

    name = "libvips"

    def __init__(self, files):
        super().__init__(files)
        os.environ["VIPS_CONCURRENCY"] = "1"
        import pyvips
        pyvips.cache_set_max(0)  # a result is not to be remembered from the round before
        self.vips = pyvips

    def decode(self, data):
        return self.vips.Image.new_from_buffer(data, "").copy_memory()

    def resize(self, image, w, h):
        return image.resize(w / image.width, vscale=h / image.height, kernel="cubic")

    def crop(self, image):
        return normalised(self.resize(image.crop(*self.box(image.width, image.height)), SIZE, SIZE).numpy())

    def plain(self, image):
        w, h, left, top = resized(image.width, image.height)
        return normalised(self.resize(image, w, h).crop(left, top, SIZE, SIZE).numpy())

    def tensor(self, data):  # decodes row by row while it resizes
        return self.plain(self.vips.Image.new_from_buffer(data, "", access="sequential"))


class VipsThumbnail(Vips):
    """What libvips recommends: a JPEG is decoded at a fraction of its size, as near above the target as there is."""

    name = "libvips, thumbnail"
    tasks = ("tensor", "fast")

    def fast(self, data):
        return self.tensor(data)

    def tensor(self, data):
        return normalised(self.vips.Image.thumbnail_buffer(data, SIZE, height=SIZE, crop="centre").numpy())


def open_peers(files):
    for kind in (PillowTorchvision, PillowNumpy, OpenCV, Vips, VipsThumbnail):
        try:
            yield kind(files)
        except Exception as e:
            print(f"{kind.name} is left out: {type(e).__name__}: {e}")


def levels(a, b):
    difference = np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32))
    return "the same" if not difference.any() else f"mean {difference.mean():.2f}, at most {difference.max():.0f} levels"


def pixels_of(tensor):
    return np.rint((np.asarray(tensor).transpose(1, 2, 0) * STD + MEAN) * 255)


def compare_results(ours, peers):
    """Ours with Pillow's and numpy's byte for byte; other peers' with Pillow's in levels of 255, first image."""
    pillow = next(peer for peer in peers if isinstance(peer, PillowNumpy))
    pixels, tensors = hashlib.sha256(), hashlib.sha256()
    for data in pillow.data:
        pixels.update(np.asarray(pillow.decode(data)).tobytes())
        tensors.update(pillow.tensor(data).tobytes())
    for what, got, want in zip(("pixels", "tensors"), ours.ask("digest").split(), (pixels, tensors)):
        print(f"ours: {what} of all files are " + ("byte-identical to" if got == want.hexdigest() else "NOT those of") +
              " Pillow and numpy")
    print("ours, fast: plain views are {} levels of 255 away in the mean, at most {}".format(*ours.ask("levels").split()))
    data = pillow.data[0]
    for peer in peers:
        if peer is pillow:
            continue
        tensor = levels(pixels_of(peer.tensor(data)), pixels_of(pillow.tensor(data)))
        decoded = levels(peer.decode(data), pillow.decode(data)) if "decode" in peer.tasks else "at a fraction"
        print(f"{peer.name}: against Pillow and numpy, decoded {decoded}; the tensor {tensor}")


def measure(task, ours, peers, n_files, n_rounds):
    sides = [ours, *(peer for peer in peers if task in peer.tasks)]
    for side in sides:
        side.seconds(task)  # caches warm, memory mapped
    rounds = [[side.seconds(task) for side in sides] for _ in range(n_rounds)]
    for i, side in enumerate(sides):
        seconds = [r[i] for r in rounds]
        line = f"{task}: {side.name} {n_files / statistics.median(seconds):.1f} images/s, best {n_files / min(seconds):.1f}"
        if i > 0:
            line += f"; ours to it {statistics.median(r[i] / r[0] for r in rounds):.2f}"
            line += f", best to best {min(seconds) / min(r[0] for r in rounds):.2f}"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", default="500x400")
    parser.add_argument("--tasks", default="chain,crops,tensor,fast,decode")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core for all, whatever threads they have
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine.processor())
    print(machine.versions("pillow", "numpy", "torch", "torchvision", "opencv-python-headless", "pyvips",
                           "pyvips-binary") + f", libjpeg-turbo of Pillow {features.version('libjpeg_turbo')}")
    with tempfile.TemporaryDirectory() as folder:
        files = args.files
        if not files:
            width, height = map(int, args.size.split("x"))
            for seed in range(8):
                files.append(os.path.join(folder, f"{seed}.jpg"))
                photograph(width, height, seed).save(files[-1], "JPEG", quality=90)
            n_bytes = sum(map(os.path.getsize, files)) // len(files)
            print(f"{len(files)} images of {args.size}, {n_bytes} bytes each")
        ours, peers = Ours(args.binary, files), list(open_peers(files))
        compare_results(ours, peers)
        for task in args.tasks.split(","):
            measure(task, ours, peers, len(files), args.rounds)
        for task in ("decode", "resize", "operators", "normalise"):
            ms = statistics.median(ours.seconds(task) for _ in range(args.rounds)) / len(files) * 1e3
            print(f"  ours, {task}: {ms:.3f} ms an image" + ("" if task == "decode" else f" ({VIEWS} views)"))
        ours.close()


if __name__ == "__main__":
    main()
