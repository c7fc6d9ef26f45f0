"""What the end-to-end tests share: a small corpus, a job file, the binary, and a digest of everything it wrote.

Needs python3-numpy and python3-pil.
"""
import hashlib
import json
import os
import pathlib
import sqlite3
import subprocess
import sys

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("REINFORCE_BINARY", str(ROOT / "build/dev/reinforce"))
MODELS = ROOT / "tests/golden/models"


def make_images(folder, n, broken=True):
    """n images of smooth random colour, in three formats and many sizes, a caption each; every ninth is broken."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    for i in range(n):
        width, height = int(rng.integers(40, 200)), int(rng.integers(40, 200))
        coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
        ext, options = [("jpg", {"quality": 90}), ("png", {}), ("webp", {"quality": 80})][i % 3]
        path = folder / f"image-{i:04d}.{ext}"
        image.save(path, **options)
        path.with_suffix(".txt").write_text(f"picture number {i} of {n}")
        if broken and i % 9 == 8:
            path.write_bytes(path.read_bytes()[:60])


# A job's rules that drop about a sixth of make_images().
RULES = {"keep": [{"score": "min_side", "min": 50}, {"score": "similarity", "teacher": "gelu", "min": -0.045}]}


def write_job(path, input_url, output_url, **settings):
    """A job file with two teachers and a captioner; settings are --set style paths, `a.b=value`."""
    job = {
        "name": "e2e",
        "seed": 11,
        "input": {"url": str(input_url), "shard_samples": 20},
        "output": {"url": str(output_url)},
        "views": {"count": 2},
        "captioners": [{"name": "coca", "model": str(MODELS / "coca_small"), "count": 2}],
        "teachers": [
            {"name": "gelu", "model": str(MODELS / "clip_gelu")},
            {"name": "quick", "model": str(MODELS / "clip_quickgelu")},
        ],
        "workers": {"count": 1, "threads": 1, "part_samples": 4, "queue_items": 8},
        "budget": {"failure_fraction": 1.0},
    }
    for section, values in settings.items():
        if isinstance(values, dict):
            job.setdefault(section, {}).update(values)
        else:
            job[section] = values
    path.write_text(json.dumps(job, indent=1))  # JSON is YAML
    return path


def reinforce(*args, check=(0, 3), **kwargs):
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, **kwargs)
    if check is not None and done.returncode not in check:
        sys.exit(f"reinforce {' '.join(map(str, args))} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def train(script, *args):
    """Runs a script of bench/train, with kernels that Debian's OpenBLAS has on any processor with AVX2."""
    environment = {**os.environ, "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "HASWELL")}
    done = subprocess.run([sys.executable, ROOT / "bench" / "train" / script, *map(str, args)], capture_output=True, text=True,
                          env=environment)
    if done.returncode:
        sys.exit(f"{script} failed:\n{done.stdout}\n{done.stderr}")


def digest_objects(output):
    """SHA-256 of every object of a folder that a user sees, by name."""
    return digest_bodies((str(path.relative_to(output)), path.read_bytes)
                         for path in sorted(output.rglob("*")) if path.is_file())


def digest_bodies(objects):
    """The same of (name, function that reads it) pairs; of info.json without its date, which is the job's own."""
    digests = {}
    for name, read in objects:
        if name.startswith(("_reinforce/", "catalog.sqlite")):
            continue
        body = read()
        if name == "info.json":
            info = json.loads(body)
            del info["date"]
            body = json.dumps(info).encode()
        digests[name] = hashlib.sha256(body).hexdigest()
    return digests


TABLES = ("samples", "captions", "scores", "outputs")


def dump_catalog(output, tables=TABLES):
    """Every row that says what was made, without times, epochs and owners."""
    db = sqlite3.connect(f"file:{output}/catalog.sqlite?mode=ro", uri=True)
    rows = {}
    for table in tables:
        columns = [c[1] for c in db.execute(f"pragma table_info({table})")]
        kept = [c for c in columns if c not in ("epoch", "part", "created_ms", "updated_ms", "finished_ms")]
        order = ", ".join(kept)
        rows[table] = db.execute(f"select {order} from {table} order by {order}").fetchall()
        assert rows[table], f"table {table} is empty"
    db.close()
    return rows


def psql(database, sql):
    return subprocess.run(["psql", "-X", "-A", "-t", "-d", database, "-c", sql], check=True, capture_output=True,
                          text=True).stdout


def dump_postgres(database, folder):
    """The rows of each table in the order of SQLite's columns, as harness.dump_catalog() has them."""
    db = sqlite3.connect(f"file:{folder}/catalog.sqlite?mode=ro", uri=True)
    rows = {}
    for table in TABLES:
        columns = [c[1] for c in db.execute(f"pragma table_info({table})")]
        columns = [c for c in columns if c not in ("epoch", "part", "created_ms", "updated_ms", "finished_ms")]
        text = psql(database, f"select json_build_array({', '.join(columns)}) from reinforce.{table}")
        rows[table] = [tuple(json.loads(line)) for line in text.splitlines()]
    db.close()
    return rows


def in_order(rows):
    return sorted(rows, key=lambda row: json.dumps(row))


def require(condition, message):
    if not condition:
        sys.exit(f"FAILED: {message}")
