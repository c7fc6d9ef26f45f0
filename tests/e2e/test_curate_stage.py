"""Rules in a job drop samples before the captioners run: mislabelled pairs go, as they would from the finished dataset, and the
books add up through retries, repairs and extensions.
"""
import json
import pathlib
import shutil
import sqlite3
import subprocess
import tempfile

import numpy as np
from PIL import Image

from harness import ROOT, digest_objects, reinforce, require, write_job

SAMPLES = ROOT / "build" / "sample-images"
MODELS = ROOT / "deploy" / "models"
COUNT, EVERY, N_SMALL = 40, 4, 7
KEEP = [{"score": "min_side", "min": 16, "name": "too small"}, {"score": "words", "min": 1},
        {"score": "similarity", "teacher": "clip-a", "min": 0.15, "name": "mislabelled"}]
SETTINGS = {"input": {"shard_samples": N_SMALL}, "views": {"scale_min": 0.4},
            "teachers": [{"name": name, "model": str(MODELS / name)} for name in ("clip-a", "clip-b")]}
COCA = {"name": "coca", "model": str(MODELS / "coca"), "strategy": "greedy", "max_tokens": 10, "min_tokens": 0}


def make_input(folder):
    """A shard of tiny images, then others of which a quarter has another's name, and one broken; {uid: is mislabelled}."""
    subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
    images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))
    images = images[:: len(images) // COUNT][:COUNT]
    names = [path.with_suffix(".txt").read_text() for path in images]
    swapped = range(0, COUNT, EVERY)
    given = list(names)
    for i in swapped:
        given[i] = names[(i + EVERY) % COUNT]
    folder.mkdir()
    for i in range(N_SMALL):
        Image.new("RGB", (12 + i, 12), (20 * i, 90, 40)).save(folder / f"0-small-{i}.png")
        (folder / f"0-small-{i}.txt").write_text("a small picture")
    for i, path in enumerate(images):
        shutil.copy(path, folder / f"{i + 100}{path.suffix}")
        (folder / f"{i + 100}.txt").write_text(given[i])
    (folder / "999.png").write_bytes(b"no picture")
    (folder / "999.txt").write_text(names[0])
    return {str(i + 100): given[i] != names[i] for i in range(COUNT)}, images[1]


def rows(output, sql):
    db = sqlite3.connect(f"file:{output}/catalog.sqlite?mode=ro", uri=True)
    found = db.execute(sql).fetchall()
    db.close()
    return found


def ask(*args):
    return json.loads(reinforce(*args).stdout)


def check_books(output, job, done, quarantined, filtered):
    counts = {"done": done, "quarantined": quarantined, "filtered": filtered}
    status = ask("status", "--json", job)
    require(status["samples"] == counts, f"status says {status['samples']}, not {counts}")
    require(sum(line["samples"] for line in status["filtered"]) == filtered, f"status: {status['filtered']}")
    require(sum(line["samples"] for line in status["reasons"]) == quarantined, f"status: {status['reasons']}")
    require(rows(output, "select samples_done, samples_quarantined, samples_filtered from progress") ==
            [(done, quarantined, filtered)], "view progress differs")
    require(rows(output, "select sum(iif(is_retry, 0, samples_read)) - sum(done + quarantined + filtered) from accounts") == [(0,)],
            "samples read are not those done, quarantined and filtered")
    require(sum(n for _, n in rows(output, "select rule, samples from filtered")) == filtered, "view filtered differs")
    lines = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    require([sum(line[f"n_{state}"] for line in lines) for state in counts] == list(counts.values()), "the manifest differs")
    require(sum(json.loads((output / "sizes.json").read_text()).values()) == done, "sizes.json differs")
    require(reinforce("verify", output).returncode == 0, "verify agrees")
    metrics = reinforce("metrics", "--catalog", f"sqlite:{output}/catalog.sqlite").stdout
    require(f'state="filtered"}} {filtered}\n' in metrics, f"metrics: {metrics}")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    wrong, another = make_input(tmp / "in")
    out = tmp / "out"
    settings = {**SETTINGS, "curate": {"keep": KEEP}}
    job = write_job(tmp / "job.yaml", tmp / "in", out, captioners=[COCA], **settings)
    require(reinforce("run", job).returncode == 3, "one sample is broken")

    # What was dropped, and why.
    filtered = dict(rows(out, "select uid, reason from samples where state = 4"))
    mislabelled = {uid for uid, rule in filtered.items() if rule == "mislabelled"}
    too_small = {uid for uid, rule in filtered.items() if rule == "too small"}
    require(too_small == {f"0-small-{i}" for i in range(N_SMALL)}, f"small images go, not {too_small}")
    n_wrong = sum(wrong.values())
    caught = sum(wrong[uid] for uid in mislabelled) / n_wrong
    lost = sum(not wrong[uid] for uid in mislabelled) / (COUNT - n_wrong)
    print(f"of {n_wrong} mislabelled pairs {caught:.2f} are dropped, of {COUNT - n_wrong} true ones {lost:.2f}")
    require(caught >= 0.7 and lost <= 0.1, "the filter finds mislabelled pairs and keeps true ones")
    n_filtered, n_done = len(filtered), COUNT + N_SMALL - len(filtered)
    check_books(out, job, n_done, 1, n_filtered)
    images = dict(rows(out, "select model, images from cost_by_model"))
    require(images["coca"] == n_done, "captioners saw what was kept")
    require(images["clip-b"] == 2 * n_done, "so did the teacher of no rule")
    require(images["clip-a"] == 2 * COUNT, "the rule's teacher saw once what the first rule had kept")
    require(rows(out, "select n_done, n_filtered from outputs where shard = 0") == [(0, N_SMALL)], "a shard may be empty")
    require((out / "00000000.tar").read_bytes() == bytes(10240), "it is a tar without members")
    (found,) = ask("inspect", "--json", "--uid", min(mislabelled), out)
    require((found["state"], found["stage"], found["reason"]) == ("filtered", "curate", "mislabelled"), f"inspect: {found}")
    require(found["detail"].startswith("similarity of text (mean) by clip-a is "), f"inspect: {found}")
    require("too small" in reinforce("status", job).stdout, "status counts by rule")

    # The same rules over a finished dataset drop the same samples for the same scores.
    reinforce("run", write_job(tmp / "open.yaml", tmp / "in", tmp / "open", captioners=[], **SETTINGS))
    (tmp / "filters.yaml").write_text(json.dumps({"dataset": {"url": str(tmp / "open")}, "output": {"url": str(tmp / "view")},
                                                  "keep": KEEP}))
    reinforce("curate", tmp / "filters.yaml")
    drops = {line["uid"]: line for line in map(json.loads, (tmp / "view" / "drops.jsonl").read_text().splitlines())}
    require(drops.keys() == filtered.keys(), f"curate drops others: {drops.keys() ^ filtered.keys()}")
    for uid, detail in rows(out, "select uid, detail from samples where state = 4"):
        drop = drops[uid]
        want = f" is {np.float32(drop['score']):.6g}, {drop['verdict']} {np.float32(drop['threshold']):.6g}"
        require(detail.endswith(want), f"{uid}: {detail}, and {drop}")

    # Filtered samples are no failures.
    dropped = "select * from samples where state = 4 order by uid"
    before = digest_objects(out), rows(out, dropped)
    for reason in ("mislabelled", "too small"):
        require(ask("retry", "--json", "--reason", reason, job)["samples"] == 0, f"{reason} is nothing to retry")
    changed = reinforce("run", "--set", "curate.keep[2].min=0.3", job, check=(1, 2))
    require("curate.keep" in changed.stderr, f"another rule is another job: {changed.stderr}")

    # A broken shard is made again with the same bytes.
    shard = rows(out, "select object_key from outputs where n_done > 0 and n_filtered > 0 limit 1")[0][0]
    (out / shard).write_bytes(b"torn")
    reinforce("repair", job)
    reinforce("run", job)
    require((digest_objects(out), rows(out, dropped)) == before, "repair: the same bytes and rows")

    # What is tried again is judged like the rest.
    Image.open(another).save(tmp / "in" / "999.png")
    reinforce("retry", job)
    require(reinforce("run", job).returncode == 0, "nothing is quarantined any more")
    check_books(out, job, n_done, 0, n_filtered + 1)
    mended = rows(out, "select reason from samples where uid = '999' and state = 4")
    require(mended == [("mislabelled",)], f"the mended one has the wrong caption: {mended}")

    # One more captioner says something of what was kept; the rest stays filtered.
    more = {**COCA, "name": "more", "column": "syn_text_more"}
    reinforce("run", write_job(tmp / "job.yaml", tmp / "in", out, captioners=[COCA, more], **settings), check=(0,))
    check_books(out, job, n_done, 0, n_filtered + 1)
    n_more = rows(out, "select count(*) from captions where column_name = 'syn_text_more'")
    require(n_more == [(n_done,)], f"the new captions are of those that were kept: {n_more}")
