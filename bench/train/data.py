"""The corpus in memory, and batches of it."""

import glob
import io
import json
import math
import os
import tarfile

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


class Corpus:
    """images uint8 [N, S, S, 3]; metas: the samples' JSON; concepts: hexcode -> indices."""

    def __init__(self, folder, part):
        images, self.metas, self.concepts = [], [], {}
        for path in sorted(glob.glob(os.path.join(folder, part + "-*.tar"))):
            with tarfile.open(path) as tar:
                for member in tar:
                    body = tar.extractfile(member).read()
                    if member.name.endswith(".png"):
                        images.append(np.asarray(Image.open(io.BytesIO(body)).convert("RGB")))
                    elif member.name.endswith(".json"):
                        meta = json.loads(body)
                        self.concepts.setdefault(meta["hexcode"], []).append(len(self.metas))
                        self.metas.append(meta)
        if not images:
            raise SystemExit(f"no {part}-*.tar in {folder}: run corpus.py first")
        self.images = np.stack(images)


def batches(corpus, size, rng):
    """For ever: indices of `size` samples of distinct concepts, every concept as often as another."""
    names, waiting = sorted(corpus.concepts), []
    while True:
        if len(waiting) < size:
            waiting = list(rng.permutation(names))
        yield np.array([rng.choice(corpus.concepts[name]) for name in waiting[:size]])
        waiting = waiting[size:]


def augmented(images, size, rng, strength=1.0):
    """uint8 [B, S, S, 3] -> float [B, 3, size, size] in 0..1, and the matrices [B, 2, 3] of the change.

    Scale 0.75 to 1.2, turned by up to 15 degrees, moved, stretched; brightness, contrast and saturation; now and then
    grey or on another background. Never mirrored: arrows and flags would lie.
    """
    n = len(images)
    u = lambda a, b, *shape: torch.from_numpy(rng.uniform(a, b, (n, *shape))).float()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    angle = u(-1, 1) * strength * math.radians(15)
    scale, stretch = torch.exp(u(-0.28, 0.18) * strength), torch.exp(u(-0.12, 0.12) * strength)
    # grid_sample's matrix takes a place in the result to one in the source
    a, b = angle.cos() / scale, angle.sin() / scale
    shift = u(-0.18, 0.18, 2) * strength
    theta = torch.stack([torch.stack([a * stretch, b, shift[:, 0]], 1), torch.stack([-b, a / stretch, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(theta, (n, 3, size, size), align_corners=False)
    x = 1 - F.grid_sample(1 - x, grid, align_corners=False)  # white outside
    white = (x.min(1, keepdim=True)[0] > 0.97) & (u(0, 1) < 0.15 * strength)[:, None, None, None]
    x = torch.where(white, u(0, 1, 3)[:, :, None, None], x)
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    colour = torch.where(u(0, 1) < 0.1 * strength, torch.zeros(n), 1 + u(-0.4, 0.4) * strength)
    x = grey + (x - grey) * colour.view(-1, 1, 1, 1)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + u(-0.3, 0.3, 1, 1, 1) * strength)
    return (x * (1 + u(-0.2, 0.2, 1, 1, 1) * strength)).clamp(0, 1), theta


def resized(images, size):
    """As the models are asked: bicubic by Pillow, in 0..1."""
    rows = [np.asarray(Image.fromarray(i).resize((size, size), Image.BICUBIC)) for i in images]
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 255


def normalised(x, mean, std):
    return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def wordy(label, tags, rng, n_most=3):
    """The label and some keywords."""
    tags = [t for t in tags if t != label]
    chosen = rng.permutation(tags)[:rng.integers(1, n_most + 1)] if tags else []
    return ", ".join([label, *chosen])


def text_of(meta, rng, language="en"):
    """What people write beside pictures: the name, the name and keywords, or keywords."""
    label, tags = meta["labels"].get(language, meta["label"]), meta["keywords"].get(language, [])
    kind = rng.uniform()
    if kind < 0.6 or not tags:
        return label
    if kind < 0.85:
        return wordy(label, tags, rng)
    return ", ".join(rng.permutation(tags)[:rng.integers(1, 5)])
