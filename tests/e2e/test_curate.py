"""Filters over a small reinforced dataset: what they keep equals NumPy on the catalog's scores, and wrong captions go.

A fifth of the images carries another's name; some come twice, byte for byte or made smaller. CURATE 29.
"""
import collections
import hashlib
import io
import json
import pathlib
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import xml.etree.ElementTree

import numpy as np
from PIL import Image

from harness import BINARY, ROOT, reinforce, require, write_job

SAMPLES = ROOT / "build" / "sample-images"
MODELS = ROOT / "deploy" / "models"
COUNT, EVERY = 260, 5
LEARNER, REFERENCE = (10.0, -8.0), (20.0, -16.0)  # scale, bias


def uid_of(name):
    return hashlib.md5(name.encode()).hexdigest()  # 32 hex digits, as DataComp's


def make_input(folder):
    """Images under hex names; returns {uid: name}, the uids with a wrong caption, and {copy: original} of both kinds."""
    subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
    images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))
    images = images[:: len(images) // COUNT][:COUNT]
    folder.mkdir()
    names = {path.stem: path.with_suffix(".txt").read_text() for path in images}
    swapped = [path.stem for path in images][::EVERY]
    given = {**names, **{key: names[other] for key, other in zip(swapped, swapped[1:] + swapped[:1])}}
    exact, smaller = {}, {}
    for i, path in enumerate(images):
        uid = uid_of(path.stem)
        shutil.copy(path, folder / (uid + path.suffix))
        (folder / f"{uid}.txt").write_text(given[path.stem])
        if i % 20 == 7:
            copy = uid_of(path.stem + " again")
            exact[copy] = uid
            shutil.copy(path, folder / (copy + path.suffix))
        elif i % 20 == 13:
            copy = uid_of(path.stem + " smaller")
            smaller[copy] = uid
            image = Image.open(path).convert("RGB")
            image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.BICUBIC).save(folder / f"{copy}.png")
        else:
            continue
        (folder / f"{copy}.txt").write_text(given[path.stem])
    wrong = {uid_of(key) for key in names if given[key] != names[key]}
    return wrong, exact, smaller


def read_catalog(dataset):
    """{uid: facts} in the order of the dataset."""
    db = sqlite3.connect(f"file:{dataset}/catalog.sqlite?mode=ro", uri=True)
    samples = {}
    places = {}
    for shard, index, uid, width, height in db.execute(
            "select shard, sample_index, uid, width, height from samples where state = 1 order by shard, sample_index"):
        samples[uid] = {"size": (width, height), "captions": collections.defaultdict(dict), "cosines": collections.defaultdict(dict)}
        places[shard, index] = uid
    for shard, index, column, i, text, log in db.execute(
            "select shard, sample_index, column_name, caption_index, caption, log_probability from captions"):
        if (shard, index) in places:
            samples[places[shard, index]]["captions"][column][i] = (text, log)
    for shard, index, column, i, teacher, cosine in db.execute(
            "select shard, sample_index, column_name, caption_index, teacher, cosine from scores"):
        if (shard, index) in places:
            samples[places[shard, index]]["cosines"][column].setdefault(i, {})[teacher] = cosine
    return samples


def read_shards(dataset):
    """{uid: {extension: bytes}} in the order of the shards."""
    records = {}
    for shard in sorted(dataset.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                uid, ext = member.name.split(".", 1)
                records.setdefault(uid, {})[ext] = tar.extractfile(member).read()
    return records


def curate(tmp, rules, *options, check=(0,)):
    """Runs a file of filters; returns the report, the kept uids and the drops by uid."""
    path, out = tmp / "curate.yaml", tmp / "view"
    path.write_text(json.dumps({"dataset": {"url": str(tmp / "out")}, "output": {"url": str(out)}, **rules}))
    done = reinforce("curate", "--json", *options, path, check=check)
    if done.returncode != 0:
        return done.stderr
    report = json.loads(done.stdout)
    if "--dry-run" in options:
        return report
    drops = {line["uid"]: line for line in map(json.loads, (out / "drops.jsonl").read_text().splitlines())}
    ids = np.load(out / "kept.npy")
    return report, {f"{a:016x}{b:016x}" for a, b in ids.tolist()}, drops


def keeps(tmp, rules, want, message):
    report, kept, drops = curate(tmp, rules)
    require(kept == want, f"{message}: kept {len(kept)}, want {len(want)}; {len(kept ^ want)} differ")
    require(report["kept"] == len(kept), f"{message}: the report says {report['kept']}")
    return report, kept, drops


def phash(body):
    """imagehash.phash() of an image's bytes, in plain NumPy."""
    small = Image.open(io.BytesIO(body)).convert("RGB").convert("L").resize((32, 32), Image.LANCZOS)
    basis = np.cos(np.pi * np.arange(32)[:, None] * (2 * np.arange(32)[None] + 1) / 64)
    low = (2 * basis @ np.asarray(small, float) @ (2 * basis).T)[:8, :8]
    low[np.abs(low) < 1e-6] = 0
    return (low > np.median(low)).ravel()


def greedily(order, distance, most):
    """The first kept sample that each of `order` is like: what duplicates are, by brute force."""
    kept, twins = [], {}
    for uid in order:
        twin = next((k for k in kept if distance(uid, k) <= most), None)
        if twin is None:
            kept.append(uid)
        else:
            twins[uid] = twin
    return twins


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    wrong, exact, smaller = make_input(tmp / "in")
    reinforce("run", write_job(tmp / "job.yaml", tmp / "in", tmp / "out", views={"scale_min": 0.4}, input={"shard_samples": 60},
                               captioners=[{"name": "coca", "model": str(MODELS / "coca"), "count": 2, "top_p": 0.5,
                                            "max_tokens": 23}],
                               teachers=[{"name": name, "model": str(MODELS / name)} for name in ("clip-a", "clip-b")],
                               workers={"part_samples": 50}), check=(0,))
    samples = read_catalog(tmp / "out")
    everybody = set(samples)
    order = list(samples)
    mean_cosine = {uid: np.float32(np.mean(list(s["cosines"]["text"][0].values()))) for uid, s in samples.items()}

    # A fraction of the pool: DataComp's rule. CURATE 29
    for fraction in (0, 0.3, 0.77, 1):
        down = np.sort(np.array(list(mean_cosine.values())))[::-1]
        at = int(len(down) * fraction)
        threshold = down[at] if at < len(down) else -np.inf
        report, kept, drops = keeps(tmp, {"keep": [{"score": "similarity", "top": fraction}]},
                                    {uid for uid, cosine in mean_cosine.items() if cosine >= threshold}, f"top {fraction}")
        for uid, drop in drops.items():
            require(drop["rule"] == "keep[0]" and drop["verdict"] == "below", f"{uid} was dropped by {drop}")
            require(np.float32(drop["score"]) == mean_cosine[uid] and np.float32(drop["threshold"]) == threshold, f"{drop}")
        require(kept | set(drops) == everybody and not kept & set(drops), "a sample is kept and dropped, or neither")

    # The file of ids is what NumPy writes of DataComp's pairs. CURATE 29
    pairs = np.array([(int(uid[:16], 16), int(uid[16:], 16)) for uid in kept], np.dtype("u8,u8"))
    pairs.sort()
    want = io.BytesIO()
    np.save(want, pairs)
    require((tmp / "view/kept.npy").read_bytes() == want.getvalue(), "kept.npy is not numpy.save()'s")

    # Wrong captions have the lowest scores.
    report, kept, drops = curate(tmp, {"keep": [{"not": {"score": "similarity", "bottom": len(wrong) / len(samples)}}]})
    found = len(wrong & set(drops)) / len(drops)
    print(f"{len(wrong)} of {len(samples)} captions are wrong; of {len(drops)} dropped ones {found:.3f} are")
    require(found > 0.75, f"{found:.3f} of the dropped captions are wrong")

    # And, or, not, and every score that is told by the catalog alone.
    words = {uid: len(s["captions"]["text"][0][0].split()) for uid, s in samples.items()}
    best_a = {uid: max(c["clip-a"] for c in s["cosines"]["syn_text"].values()) for uid, s in samples.items()}
    logs = {uid: min(c[1] for c in s["captions"]["syn_text"].values()) for uid, s in samples.items()}
    log_cut, best_cut = float(np.median(list(logs.values()))), float(np.quantile(list(best_a.values()), 0.4))
    rules = {"keep": [{"any": [{"score": "words", "min": 3}, {"name": "seen", "score": "similarity", "caption": "syn_text",
                                                              "teacher": "clip-a", "take": "max", "min": best_cut}]},
                      {"not": {"all": [{"score": "log_probability", "caption": "syn_text", "take": "min", "max": log_cut},
                                       {"score": "max_side", "min": 130}]}}]}
    f32 = np.float32
    report, kept, drops = keeps(tmp, rules, {
        uid for uid, s in samples.items() if (words[uid] >= 3 or f32(best_a[uid]) >= f32(best_cut)) and
        not (f32(logs[uid]) <= f32(log_cut) and max(s["size"]) >= 130)}, "and, or, not")
    require(0.1 < len(kept) / len(samples) < 0.9, f"the rules keep {len(kept)} of {len(samples)}: they show nothing")
    names = {reason["rule"] for drop in drops.values() for reason in drop["because"]}
    require(names == {"keep[0].any[0]", "seen", "keep[1].not.all[0]", "keep[1].not.all[1]"}, f"reasons are {names}")

    softplus = lambda x: np.logaddexp(0, x)
    learnable = {uid: f32(softplus(-(LEARNER[0] * s["cosines"]["text"][0]["clip-a"] + LEARNER[1])) -
                          softplus(-(REFERENCE[0] * s["cosines"]["text"][0]["clip-b"] + REFERENCE[1]))) for uid, s in samples.items()}
    cut = float(np.median(list(learnable.values())))
    spec = {"score": "learnability", "learner": "clip-a", "reference": "clip-b", "learner_scale": LEARNER[0],
            "learner_bias": LEARNER[1], "reference_scale": REFERENCE[0], "reference_bias": REFERENCE[1]}
    keeps(tmp, {"keep": [{**spec, "min": cut}]}, {u for u, x in learnable.items() if x >= f32(cut)}, "learnability")
    # what is not given is the model's own: its scale, but no bias, which a softmax does not have
    del spec["reference_scale"]
    models = json.loads((tmp / "out/_reinforce/models.json").read_text())["teachers"]
    scale = f32(models[1]["logit_scale"])
    learnable = {uid: f32(softplus(-(LEARNER[0] * s["cosines"]["text"][0]["clip-a"] + LEARNER[1])) -
                          softplus(-(scale * s["cosines"]["text"][0]["clip-b"] + REFERENCE[1]))) for uid, s in samples.items()}
    cut = float(np.median(list(learnable.values())))
    keeps(tmp, {"keep": [{**spec, "min": cut}]}, {u for u, x in learnable.items() if x >= f32(cut)}, "learnability")
    del spec["learner_bias"]
    require("learner_bias must be given" in curate(tmp, {"keep": [{**spec, "min": cut}]}, check=(2,)), "a bias was made up")
    letters = {uid: [c for c in s["captions"]["text"][0][0] if c.isalpha()] for uid, s in samples.items()}
    keeps(tmp, {"keep": [{"score": "script", "script": "Latin", "min": 1}, {"score": "aspect_ratio", "max": 1.2},
                         {"score": "characters", "max": 12}]},
          {u for u, s in samples.items() if letters[u] and max(s["size"]) / min(s["size"]) <= 1.2 and
           len(s["captions"]["text"][0][0]) <= 12}, "script, size and length")
    report, kept, _ = curate(tmp, {"keep": [{"score": "tokens", "tokenizer": str(MODELS / "clip-a"), "min": 4}]})
    require(0 < len(kept) < len(samples), f"{len(kept)} captions have four tokens or more")

    # A list of ids, and its negation.
    some = set(order[::3])
    pairs = np.array(sorted((int(uid[:16], 16), int(uid[16:], 16)) for uid in some), np.dtype("u8,u8"))
    np.save(tmp / "some.npy", pairs)
    keeps(tmp, {"keep": [{"ids": str(tmp / "some.npy")}]}, some, "ids")
    keeps(tmp, {"keep": [{"not": {"ids": str(tmp / "some.npy")}}]}, everybody - some, "not ids")

    # Duplicates: bytes, looks, embeddings. The best stays.
    records = read_shards(tmp / "out")
    require(list(records) == order, "the shards are not in the catalog's order")
    image = {uid: next(r[e] for e in ("png", "jpg", "webp") if e in r) for uid, r in records.items()}
    by_score = sorted(order, key=lambda uid: -mean_cosine[uid])
    _, kept, drops = curate(tmp, {"duplicates": [{"by": "content", "best": {"score": "similarity"}}]})
    twins = greedily(by_score, lambda a, b: 0 if image[a] == image[b] else 1, 0)
    require({u: d["kept"] for u, d in drops.items()} == twins, "equal bytes are not what is dropped")
    require({frozenset(pair) for pair in exact.items()} <= {frozenset(pair) for pair in twins.items()}, "a copy was kept")
    hashes = {uid: phash(body) for uid, body in image.items()}
    for bits in (0, 5):
        _, kept, drops = curate(tmp, {"duplicates": [{"by": "perceptual", "bits": bits, "best": {"score": "similarity"}}]})
        distance = lambda a, b: int((hashes[a] != hashes[b]).sum())
        twins = greedily(by_score, distance, bits)
        require({u: d["kept"] for u, d in drops.items()} == twins, f"within {bits} bits: {len(drops)} dropped, want {len(twins)}")
        require(all(d["score"] == distance(u, d["kept"]) for u, d in drops.items()), "a distance is wrong")
    alike = sum((copy in twins) != (original in twins) for copy, original in smaller.items())
    require(alike >= len(smaller) * 0.8, f"{alike} of {len(smaller)} smaller copies were found")
    first = models[0]["dim"]
    rows = {}
    for uid, record in records.items():
        views = np.load(io.BytesIO(record["npz"]))["image_emb"].astype(float)
        require(views.shape[1] == sum(m["dim"] for m in models), "models.json has other widths than the rows")
        mean = views[:, first:].mean(0)
        rows[uid] = mean / np.linalg.norm(mean)
    matrix = np.array([rows[u] for u in by_score])
    apart = 1 - matrix @ matrix.T
    pairs = np.sort(apart[np.triu_indices(len(apart), 1)])
    wide = next(i for i in range(len(pairs) // 300, len(pairs)) if pairs[i + 1] - pairs[i] > 1e-5)  # no pair is at the radius
    radius = float(pairs[wide:wide + 2].mean())
    at = {uid: i for i, uid in enumerate(by_score)}
    twins = greedily(by_score, lambda a, b: apart[at[a], at[b]], radius)
    _, kept, drops = curate(tmp, {"threads": 2, "duplicates": [{"by": "embedding", "radius": radius, "teacher": "clip-b",
                                                                 "best": {"score": "similarity"}}]})
    require({u: d["kept"] for u, d in drops.items()} == twins and len(twins) > 10,
            f"within {radius:.4f}: {len(drops)} dropped, want {len(twins)}")
    require(all(abs(d["score"] - apart[at[u], at[d["kept"]]]) < 1e-5 for u, d in drops.items()), "a cosine distance is wrong")
    # one after the other, over what is left
    report, kept, drops = curate(tmp, {"keep": [{"score": "similarity", "top": 0.5}], "duplicates": [
        {"by": "content"}, {"by": "embedding", "radius": radius, "teacher": "clip-b"}]})
    left = [u for u in order if u not in drops or drops[u]["rule"].startswith("dup")]
    content = greedily(left, lambda a, b: 0 if image[a] == image[b] else 1, 0)
    near = greedily([u for u in left if u not in content], lambda a, b: apart[at[a], at[b]], radius)
    require({u: d["kept"] for u, d in drops.items() if "kept" in d} == {**content, **near}, "steps do not follow each other")

    # Joint selection, super-batch by super-batch, as JEST has it: greedily, by brute force on all pairs.
    def unit(array, at, width):
        rows = np.array([np.load(io.BytesIO(records[u]["npz"]))[array].astype(float)[:, at:at + width].mean(0) for u in order])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def pair_losses(at, width, scale, bias):
        x = scale * unit("image_emb", at, width) @ unit("text_emb", at, width).T + bias
        return np.where(np.eye(len(x), dtype=bool), softplus(-x), softplus(x))

    score = pair_losses(0, first, *LEARNER) - pair_losses(first, models[1]["dim"], *REFERENCE)
    want, batch, chunks = set(), 100, 4
    for begin in range(0, len(order), batch):
        s = score[begin:begin + batch, begin:begin + batch]
        gains, chosen = s.diagonal().copy(), []
        for chunk in range(chunks):
            left = [i for i in np.argsort(-gains, kind="stable") if i not in chosen]
            n = len(s) // 2 // chunks if chunk < chunks - 1 else len(s) // 2 - len(chosen)
            gains += (s[:, left[:n]] + s[left[:n], :].T).sum(1)
            chosen += left[:n]
        want |= {order[begin + i] for i in chosen}
    select = {"keep": 0.5, "super_batch": batch, "chunks": chunks, "top_k": True, "learner": "clip-a", "learner_scale": LEARNER[0],
              "learner_bias": LEARNER[1], "reference": "clip-b", "reference_scale": REFERENCE[0], "reference_bias": REFERENCE[1]}
    _, _, drops = keeps(tmp, {"select": select}, want, "joint selection")
    require(all(abs(d["score"] - score[order.index(u), order.index(u)]) < 1e-3 for u, d in drops.items()), "a score is wrong")

    # A share: nine in ten of those kept have one word.
    _, kept, drops = curate(tmp, {"seed": 3, "mix": [{"share": 0.9, "which": {"score": "words", "max": 1}}]})
    one = {u for u in everybody if words[u] == 1}
    require(len(kept & one) == len(one) and len(kept - one) == len(one) // 9, f"{len(kept & one)} and {len(kept - one)} were kept")
    again = curate(tmp, {"seed": 3, "mix": [{"share": 0.9, "which": {"score": "words", "max": 1}}]})[1]
    other = curate(tmp, {"seed": 4, "mix": [{"share": 0.9, "which": {"score": "words", "max": 1}}]})[1]
    require(again == kept and other != kept, "the lot does not depend on the seed alone")
    _, kept, _ = curate(tmp, {"mix": [{"share": 0.9, "which": {"score": "words", "max": 1}, "best": {"score": "similarity"}}]})
    require(min(mean_cosine[u] for u in kept - one) >= max(mean_cosine[u] for u in everybody - one - kept), "not the best were kept")

    # A balance: who is too many is thinned by lot, with the probability that the bound leaves.
    p, target, bound = len(one) / len(samples), 0.2, 0.01
    require(p > target + 0.1, f"{p:.2f} of the captions have one word: the balance has nothing to do")
    rules = {"balance": [{"representation": bound, "attributes": [{"target": target, "which": {"score": "words", "max": 1}}]}]}
    report, kept, drops = curate(tmp, {"seed": 5, **rules})
    probability = ((1 - p) * target + bound) / (p * (1 - target))
    require(not set(drops) - one and all(abs(d["score"] - probability) < 1e-6 for d in drops.values()), "others are thinned")
    sigma = (len(one) * probability * (1 - probability)) ** 0.5
    require(abs(len(kept & one) - len(one) * probability) < 4 * sigma, f"{len(kept & one)} of {len(one)} were kept")
    require(curate(tmp, {"seed": 5, **rules})[1] == kept != curate(tmp, {"seed": 6, **rules})[1], "the lot is not the seed's")
    require(report["steps"][0]["violation"] == 0, "the bound was not met")

    # A view: its shards are streams of the dataset's own bytes.
    report, kept, drops = curate(tmp, {"keep": [{"score": "similarity", "top": 0.6}]})
    seen = {}
    manifest = [json.loads(line) for line in (tmp / "view/manifest.jsonl").read_text().splitlines()]
    for line in manifest:
        body = subprocess.run([BINARY, "cat", tmp / "view", line["shard"]], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            for member in tar:
                uid, ext = member.name.split(".", 1)
                seen.setdefault(uid, {})[ext] = tar.extractfile(member).read()
        require(len(body) % 10240 == 0, "the stream is no whole archive")
    require(seen == {uid: record for uid, record in records.items() if uid in kept}, "a view's stream is not the dataset's samples")
    require(json.loads((tmp / "view/sizes.json").read_text()) == {m["object"]: m["num_uids"] for m in manifest}, "sizes.json")
    try:
        import webdataset
    except ImportError:
        print("webdataset is not installed: pipe: was not tried")
    else:
        url = f"pipe:{BINARY} cat {tmp}/view {{00000000..{len(manifest) - 1:08d}}}"
        loaded = [sample["__key__"] for sample in webdataset.WebDataset(url, shardshuffle=False)]
        require(loaded == [uid for uid in order if uid in kept], "webdataset does not read the view through a pipe")
    require("view and dataset agree" in reinforce("verify", tmp / "view", check=(0,)).stdout, "verify")
    dropped = next(iter(drops))
    require("dropped by keep[0]: similarity" in reinforce("inspect", tmp / "view", "--uid", dropped, check=(0,)).stdout, "inspect")
    require("\n  kept\n" in reinforce("inspect", tmp / "view", "--uid", next(iter(kept)), check=(0,)).stdout, "inspect")
    with open(tmp / "out/00000001.tar", "r+b") as tar:
        tar.seek(700)
        tar.write(b"x")
    require("00000001.tar is not what the view was made of" in reinforce("verify", tmp / "view", check=(1,)).stdout, "verify")

    for url in ("view", "view/manifest.jsonl"):
        job = write_job(tmp / "again.yaml", tmp / url, tmp / "again")
        require("a view of a dataset" in reinforce("run", job, check=(2,)).stderr, f"a job reads {url}")

    # Looking only.
    shutil.rmtree(tmp / "view")
    report = curate(tmp, {"keep": [{"score": "similarity", "top": 0.6}]}, "--dry-run", "--histogram", tmp / "spread.svg")
    require(not (tmp / "view").exists() and report["kept"] == len(kept), "a dry run differs")
    require(sum(report["scores"][0]["kept"]) == len(kept), "the histogram does not count what is kept")
    svg = xml.etree.ElementTree.parse(tmp / "spread.svg").getroot()
    require(len(svg.findall(".//{http://www.w3.org/2000/svg}rect")) > 20, "the picture has no bars")

    # What cannot be meant.
    error = curate(tmp, {"keep": [{"score": "similarity", "teacher": "clip-c", "min": 0}]}, check=(2,))
    require('no teacher "clip-c"; it has clip-a, clip-b' in error, error)
    error = curate(tmp, {"keep": [{"score": "words", "caption": "syn_txt", "min": 0}]}, check=(2,))
    require("it has text, syn_text" in error, error)
    error = curate(tmp, {"duplicates": [{"by": "embedding", "radius": 0.1}]}, check=(2,))
    require("2 teachers, say which of clip-a, clip-b" in error, error)
    path = tmp / "over.yaml"
    path.write_text(json.dumps({"dataset": {"url": str(tmp / "out")}, "output": {"url": str(tmp / "out")}}))
    require("a dataset is there" in reinforce("curate", path, check=(1,)).stderr, "a dataset was written over")
print("ok")
