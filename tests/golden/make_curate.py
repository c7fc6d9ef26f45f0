"""The specification of online selection in plain double precision, and what it selects in 200 random problems.

    python3 make_curate.py tests/golden        # needs numpy; a minute. Writes curate.jsonl and subset.npy, four ids

Full B x B matrices and nothing incremental: every chunk's gains are summed anew over everything selected. Inputs come from
Philox streams that tests/unit/test_selection_golden.c draws as well, so a line of the file is parameters, a digest of the
indices in the order of selection, and sums to say where two implementations part. `gap` is the smallest difference between
neighbouring keys of any decision, as a part of the chunk's largest gain (equal keys of equal rows, where the lower index
goes first, not counted): what float32 may not decide in the same way is known.
"""

import hashlib
import json
import math
import os
import sys

import numpy as np

MASK = np.uint64(0xFFFFFFFF)
STAGE_SELECT = 3
UNIFORM_CHUNK = 65535


def philox(counter, key):
    """Philox 4x32-10 of counters [4, n]; key [2, n] or [2]. Returns [4, n] uint64 below 2^32."""
    c = [np.asarray(x, np.uint64) for x in counter]
    k = [np.asarray(x, np.uint64) for x in key]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & MASK, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + np.uint64(0x9E3779B9)) & MASK, (k[1] + np.uint64(0xBB67AE85)) & MASK]
    return np.stack(c)


def stream(seed, names, stage, index):
    """The upper counter words [3, n] and the key of philox_init() for uids that are rows of bytes."""
    with np.errstate(over="ignore"):
        h = np.full(len(names), 14695981039346656037, np.uint64)
        for byte in np.asarray(names, np.uint64).T:
            h = (h ^ byte) * np.uint64(1099511628211)
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    n = np.ones(len(names), np.uint64)
    block = philox([h & MASK, h >> np.uint64(32), n * np.uint64(stage), n * np.uint64(index)], key)
    return block[:3], key


def floats(seed, index, n):
    """n values of philox_f32() - 0.5 from the stream ("curate", index)."""
    upper, key = stream(seed, [list(b"curate")], STAGE_SELECT, index)
    blocks = np.arange((n + 3) // 4, dtype=np.uint64)
    words = philox([blocks, *(np.full_like(blocks, u[0]) for u in upper)], key)
    return (words.T.reshape(-1)[:n] >> np.uint64(8)).astype(np.float64) * 2.0**-24 - 0.5


def gumbel(seed, step, chunk, ids):
    """ids uint64 [n, 2]: low half, high half."""
    names = np.stack([(ids[:, byte // 8] >> np.uint64(8 * (byte % 8))) & np.uint64(255) for byte in range(16)], -1)
    upper, key = stream(seed, names, STAGE_SELECT, step)
    words = philox([np.full(len(ids), chunk, np.uint64), *upper], key)
    k = ((words[0] << np.uint64(32)) | words[1]) >> np.uint64(11)
    u = np.minimum((k.astype(np.float64) + 0.5) * 2.0**-53, 1 - 2.0**-53)
    return -np.log(-np.log(u))


def unit(x):
    return (x / np.sqrt((x * x).sum(-1, keepdims=True))).astype(np.float32)


def embeddings(p, model):
    """Unit rows of images and texts that mostly match, float32 as they would be sent."""
    base = 8 if model == "R" else 4
    B, D = p["B"], p["D_" + model]
    image = floats(p["seed"], base, B * D).reshape(B, D)
    text = image + p["noise"] * floats(p["seed"], base + 1, B * D).reshape(B, D)
    copied = np.arange(B) % p["copies"] if p["copies"] else np.arange(B)  # equal rows tie
    return unit(image)[copied], unit(text)[copied]


def logits(image, text, scale, bias):
    """[B, B] in double; each a sum of its own, so that equal rows have equal bits."""
    u, v = image.astype(np.float64), text.astype(np.float64)
    u, v = (x / np.sqrt((x * x).sum(-1, keepdims=True)) for x in (u, v))
    rows = [(u[i : i + 64, None, :] * v[None]).sum(-1) for i in range(0, len(u), 64)]
    return scale * np.concatenate(rows) + bias


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def log_sum(x):
    most = x.max(-1, keepdims=True)
    return (most + np.log(np.exp(x - most).sum(-1, keepdims=True)))[:, 0]


def losses(p, model, rows):
    x = logits(*rows(p, model), np.float32(p["scale_" + model]).astype(np.float64),
               np.float32(p["bias_" + model]).astype(np.float64) if p["loss"] == "sigmoid" else 0.0)
    if p["loss"] == "softmax":
        return x
    loss = softplus(x)
    np.fill_diagonal(loss, softplus(-np.diag(x)))
    return loss


def example_ids(p):
    low = np.arange(p["B"], dtype=np.uint64) * np.uint64(p["id_step"]) + np.uint64(17)
    return np.stack([low, np.zeros_like(low)], -1)


def select(p, rows=embeddings, ids=None):
    """Indices in order of selection, their chunks and gains, and the smallest gap. rows(p, "L" or "R"): images, texts."""
    B, b, N = p["B"], p["b"], p["N"]
    sign = {"learnability": (1, -1), "easy_reference": (0, -1), "hard_learner": (1, 0)}[p["criterion"]]
    tables = [(s, losses(p, m, rows)) for s, m in zip(sign, "LR") if s]
    tables = [(s, t, np.ascontiguousarray(t.T)) for s, t in tables]
    soft = p["loss"] == "softmax"
    own = sum(s * (-1 if soft else 1) * np.diag(t) for s, t, _ in tables)
    ids = example_ids(p) if ids is None else ids
    room = list(p["quotas"])
    n_uniform = int(b * p["uniform"])
    rest = b - n_uniform
    sizes = ([(UNIFORM_CHUNK, n_uniform)] if n_uniform else []) + [
        (k, rest // N + (rest % N if k == N - 1 else 0)) for k in range(N)]
    chosen, chunks, gains, gap = [], [], [], math.inf
    for chunk, m in sizes:
        gain = own.copy()
        if chosen:
            S = np.array(chosen)
            for s, t, tt in tables:
                if soft:
                    gain += s * (log_sum(t[:, S]) + log_sum(tt[:, S])) / 2
                else:
                    gain += s * (np.ascontiguousarray(t[:, S] + tt[:, S])).sum(-1)
        scale = 1 / (2 * len(chosen) + 1) if p["normalise"] else 1
        if chunk == UNIFORM_CHUNK:
            key = gumbel(p["seed"], p["step"], chunk, ids)
        elif p["top_k"]:
            key = gain
        else:
            key = p["gain"] * (gain * scale) + gumbel(p["seed"], p["step"], chunk, ids)
        taken = set(chosen)
        order = [i for i in np.lexsort((np.arange(B), -key)) if i not in taken]
        kept = []
        for i in order:
            if len(kept) == m:
                break
            if room and room[i % len(room)] == 0:
                continue
            if room:
                room[i % len(room)] -= 1
            kept.append(int(i))
        ranked = key[order]
        steps = (ranked[:-1] - ranked[1:])[: None if room else m]
        steps = steps[steps > 0]
        if len(steps) and chunk != UNIFORM_CHUNK:
            gap = min(gap, float(steps.min()) / (1 + float(np.abs(gain[order]).max())))
        chosen += kept
        chunks += [chunk] * m
        gains += gain[kept].tolist()
    return chosen, chunks, gains, gap


def problems():
    rng = np.random.default_rng(20261125)
    sizes = [2, 3, 5, 8, 13, 32, 33, 64, 100, 129, 200, 256, 300, 512]
    for n in range(200):
        B = {50: 4096, 100: 4096, 150: 2048, 199: 4096}.get(n) or (1024 if n % 25 == 24 else int(rng.choice(sizes)))
        b = B if n % 40 == 7 else max(1, int(B * rng.choice([0.125, 0.2, 0.25, 0.5])))
        loss = "softmax" if n % 4 == 3 else "sigmoid"
        n_strata = int(rng.integers(2, 5)) if n % 9 == 4 and B > 8 else 0
        quotas = []
        if n_strata:
            quotas = [b // n_strata] * n_strata
            quotas[0] += b - sum(quotas)
            if min(B // n_strata, 10**9) < max(quotas):
                quotas = []
        yield {
            "B": B, "b": b, "N": int(min(b, rng.choice([1, 2, 3, 4, 8, 16]))),
            "D_L": int(rng.choice([2, 3, 16, 24, 40, 64])), "D_R": int(rng.choice([2, 7, 16, 33, 64])),
            "loss": loss, "criterion": ["learnability", "learnability", "easy_reference", "hard_learner"][int(rng.integers(4))],
            "gain": float(rng.choice([0.0, 0.25, 1.0, 1.0, 1.0, 4.0])), "top_k": bool(n % 5 == 2),
            "normalise": bool(n % 7 == 3 and loss == "sigmoid"), "uniform": 0.25 if n % 11 == 5 else 0.0,
            "seed": int(rng.integers(2**63)), "step": int(rng.integers(2**32)), "id_step": int(rng.integers(1, 2**40)),
            "scale_L": float(rng.choice([1, 10, 30, 110])), "bias_L": float(rng.choice([-8, -16.5, 0])),
            "scale_R": float(rng.choice([1, 20, 110])), "bias_R": float(rng.choice([-10, -16.6])),
            "noise": float(rng.choice([0.5, 1.0, 3.0])), "copies": max(1, B // 3) if n % 10 == 2 else 0, "quotas": quotas,
        }


def micro_example():
    """Section 4.6 of the specification, from float64 embeddings."""
    i = np.arange(6)
    rows = lambda a: np.stack([np.cos(a), np.sin(a)], -1)
    def loss(image, text, scale, bias):
        x = scale * rows(image) @ rows(text).T + bias
        out = softplus(x)
        np.fill_diagonal(out, softplus(-np.diag(x)))
        return out
    s = loss(0.3 * i, 0.3 * i + 0.1 * (i % 3), 10, -8) - loss(0.5 * i, 0.5 * i + 0.02 * (i % 2), 20, -16)
    S = [2, 5]
    gains = [s[k, k] + (s[k, S] + s[S, k]).sum() for k in (0, 1, 3, 4)]
    want = [1.230820, -0.389980, 1.728263, 1.886586]
    assert np.allclose(np.diag(s), [0.108778, 0.114794, 0.134733, 0.108706, 0.114866, 0.134661], atol=1e-6)
    assert np.allclose(gains, want, atol=1e-6) and abs(s[np.ix_(S, S)].sum() - 0.832947) < 1e-6


def main(folder):
    micro_example()
    ids = [(0, 2**64 - 1), (3, 0), (3, 1), (0x0123456789ABCDEF, 2)]
    np.save(os.path.join(folder, "subset.npy"), np.array(ids, "u8,u8"))
    with open(os.path.join(folder, "curate.jsonl"), "w") as out:
        for p in problems():
            index, chunks, gains, gap = select(p)
            assert len(set(index)) == p["b"]
            digest = hashlib.sha256(np.array(index, "<u4").tobytes() + np.array(chunks, "<u2").tobytes()).hexdigest()
            print(json.dumps({**p, "gap": gap if math.isfinite(gap) else 1.0, "sum_gains": math.fsum(gains),
                              "first": index[0], "digest": digest}), file=out)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
