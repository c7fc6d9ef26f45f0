"""`image.fast_decode`: photographs at a half or quarter of their sides, nearly the same embeddings. IM-2, IM-8.

Boxes, sizes, stored bytes and what does not reduce are as without it; a run that is resumed with another value is refused.
"""
import io
import pathlib
import tarfile
import tempfile

import numpy as np
from PIL import Image

from harness import dump_catalog, make_images, reinforce, require, write_job

N = 12


def make_photographs(folder):
    """Noise of every scale, as photographs have it: power falls with the square of the frequency."""
    rng = np.random.default_rng(5)
    kinds = [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}]
    folder.mkdir(parents=True)
    for i in range(N):
        width, height = int(rng.integers(500, 900)), int(rng.integers(500, 900))
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
        frequency[0, 0] = 1
        planes = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / frequency).real for _ in range(3)]
        rgb = np.clip(128 + 45 * np.stack([p / p.std() for p in planes], -1), 0, 255).astype(np.uint8)
        path = folder / f"photo-{i:02d}.jpg"
        Image.fromarray(rgb).save(path, quality=90, **kinds[i % len(kinds)])
        path.with_suffix(".txt").write_text(f"photograph number {i}")


def read(output):
    """The shard's members by name, and the views' embeddings [N, A, D]."""
    with tarfile.open(output / "00000000.tar") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    rows = [np.load(io.BytesIO(body))["image_emb"] for name, body in sorted(members.items()) if name.endswith(".npz")]
    return members, np.stack(rows).astype(np.float64)


def run(folder, name, images, **settings):
    reinforce("run", write_job(folder / f"{name}.yaml", images, folder / name, seed=3, captioners=[], **settings), check=(0,))
    reinforce("verify", folder / name, check=(0,))
    return read(folder / name)


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_photographs(tmp / "images")
    members, whole = run(tmp, "whole", tmp / "images")
    fast_members, fast = run(tmp, "fast", tmp / "images", image={"fast_decode": True})
    require(members.keys() == fast_members.keys(), "the same members")
    for name, body in members.items():
        if not name.endswith(".npz"):
            require(body == fast_members[name], f"{name} is the same: stored bytes, captions, boxes, operators")
    rows, fast_rows = dump_catalog(tmp / "whole", ["samples"]), dump_catalog(tmp / "fast", ["samples"])
    require(rows == fast_rows, f"the same sizes and states: {rows} {fast_rows}")
    cosines = (whole * fast).sum(-1) / np.linalg.norm(whole, axis=-1) / np.linalg.norm(fast, axis=-1)
    require(cosines.mean() > 0.999 and cosines.min() > 0.99, f"embeddings are nearly the same: {cosines}")
    require((whole != fast).any((1, 2)).sum() > N // 2, "and most images were reduced")

    again = {"workers": {"count": 2, "threads": 2, "part_samples": 4, "queue_items": 8}}
    require(run(tmp, "again", tmp / "images", image={"fast_decode": True}, **again)[0] == fast_members,
            "the same bytes from two workers")

    refused = reinforce("run", tmp / "whole.yaml", "--set", "image.fast_decode=true", check=None)
    require(refused.returncode != 0 and "image.fast_decode: false -> true" in refused.stderr, f"refused: {refused.stderr}")

    make_images(tmp / "small", 12, broken=False)  # of which no view has four pixels for one, and PNG and WebP
    require(run(tmp, "small-whole", tmp / "small", views={"count": 2, "size": 96})[0] ==
            run(tmp, "small-fast", tmp / "small", views={"count": 2, "size": 96}, image={"fast_decode": True})[0],
            "small images are decoded as ever")

    captions = [{"name": "coca", "model": str(pathlib.Path(__file__).resolve().parents[1] / "golden/models/coca_small"),
                 "count": 2}]
    reinforce("run", write_job(tmp / "captions.yaml", tmp / "images", tmp / "captions", teachers=[], views={"count": 0},
                               captioners=captions, image={"fast_decode": True, "apply_exif_orientation": True}), check=(0,))
    require(len(dump_catalog(tmp / "captions", ["captions"])["captions"]) == 3 * N, "captioners read reduced images too")
    print(f"{N} photographs: cosines with whole ones {cosines.mean():.5f} in the mean, {cosines.min():.5f} at least")
