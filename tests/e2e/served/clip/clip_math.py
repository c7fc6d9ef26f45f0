"""A model of two towers small enough to be checked by hand: a random projection of block means, and one of letter counts."""
import numpy as np

SIZE, BLOCK, DIM = 32, 8, 12


def project(features, seed):
    """[n, F] -> [n, DIM], not of unit length."""
    return (features @ np.random.default_rng(seed).normal(size=(features.shape[1], DIM))).astype(np.float32)


def image_rows(pixels):
    """float32 [n, 3, SIZE, SIZE]"""
    side = SIZE // BLOCK
    means = pixels.astype(np.float64).reshape(-1, 3, side, BLOCK, side, BLOCK).mean(axis=(3, 5))
    return project(means.reshape(len(pixels), -1), 1)


def text_rows(texts):
    counts = np.array([np.bincount(np.frombuffer(t.encode() or b"\0", np.uint8), minlength=256) for t in texts])
    return project(counts.astype(np.float64), 2)
