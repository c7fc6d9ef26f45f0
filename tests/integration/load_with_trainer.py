#!/usr/bin/env python3
"""Loads a reinforced dataset as the published trainers do, and replays its views.

    load_with_trainer.py DATASET [--views DIR | --reinforce BINARY] [--samples N]

DATASET holds shards, sizes.json, manifest.jsonl and trainer_config.json. Checked are, for every sample:

* shards open with tarfile; names are flat, members adjacent, keys unique; counts agree with the side files;
* embeddings load without pickle (npz) and with weights only (pth.gz);
* the trainer's pipeline yields every sample: grouping, decoding by the webdataset package, renaming, and its
  reinforcement step for every augmentation, every caption and every synthetic caption;
* torchvision over Pillow replays each view of the first N samples (default 8) to the very pixels that the product
  wrote as PNG: DIR/<uid>/view-<k>.png, or what `BINARY inspect DATASET --uid UID --views TMP` writes.

The rules are those of apple/ml-mobileclip, training/open_clip_v2.patch, written anew. Needs python3-torch (1.13 or
later), python3-torchvision, python3-pil, python3-numpy and the pip package webdataset (0.2.86 is what trainers pin).
Exits with 77 when one of them is missing.
"""
import argparse
import gzip
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import warnings

try:
    import numpy
    import torch
    import webdataset
    from PIL import Image, ImageFile
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional
    from torchvision.transforms.autoaugment import _apply_op
    from webdataset.tariterators import base_plus_ext, tar_file_expander, url_opener
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

# As the trainer sets them.
ImageFile.LOAD_TRUNCATED_IMAGES = True
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", "(Possibly )?corrupt EXIF data", UserWarning)

OPERATORS = ["Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
             "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"]
COLUMN = re.compile(r"^syn_text.*$")


def check(condition, *why):
    """An assert that survives python -O."""
    if not condition:
        raise SystemExit("FAILED: " + " ".join(str(part) for part in why))


def check_archive(shard):
    """Names and order of a shard's members; returns {key: [extensions]} in order."""
    keys = {}
    last = None
    with tarfile.open(shard) as archive:
        for member in archive:
            check(member.isreg(), shard, member.name, "is no file")
            check((member.mode, member.mtime, member.uid, member.gid, member.uname, member.gname) ==
                  (0o444, 0, 0, 0, "bigdata", "bigdata"), shard, member.name, "has another header")
            key, dot, ext = member.name.partition(".")
            check(dot and key and "/" not in member.name, shard, member.name, "is not <key>.<ext>")
            check(ext == ext.lower() or ext not in {"jpg", "png"}, shard, member.name)
            check(key == last or key not in keys, shard, key, "is there twice, or its members are not adjacent")
            keys.setdefault(key, []).append(ext)
            last = key
            check_container(shard, member.name, ext, archive.extractfile(member).read())
    for key, exts in keys.items():
        check(exts == sorted(exts), shard, key, "members are not in order", exts)
    return keys


def check_container(shard, name, ext, body):
    """Embeddings without code: 2-D float32, C order; or bfloat16 tensors alone."""
    if ext == "npz":
        with numpy.load(io.BytesIO(body), allow_pickle=False) as arrays:
            for key in arrays.files:
                array = arrays[key]
                check(array.dtype == numpy.dtype("<f4") and array.ndim == 2 and array.flags["C_CONTIGUOUS"], shard, name,
                      key, array.dtype, array.shape)
    elif ext == "pth.gz":
        raw = gzip.decompress(body)
        safe = torch.load(io.BytesIO(raw), weights_only=True)
        full = torch.load(io.BytesIO(raw), weights_only=False)
        check(type(safe) is dict and safe.keys() == full.keys(), shard, name, "is not a dict of tensors")
        for key, tensor in safe.items():
            check(tensor.dtype == torch.bfloat16 and tensor.ndim == 2 and tensor.is_contiguous(), shard, name, key,
                  tensor.dtype, tensor.shape)
            check(torch.equal(tensor, full[key]), shard, name, key, "depends on how it is loaded")


def group_members(files):
    """Adjacent files of one key, extension lower-cased; a repeated extension begins a new sample."""
    sample = None
    for item in files:
        if "fname" not in item:  # newer webdataset marks the end of a shard
            continue
        prefix, suffix = base_plus_ext(item["fname"])
        if prefix is None:
            continue
        suffix = suffix.lower()
        if sample is None or prefix != sample["__key__"] or suffix in sample:
            if sample is not None:
                yield sample
            sample = {"__key__": prefix, "__url__": item["__url__"]}
        sample[suffix] = item["data"]
    if sample is not None:
        yield sample


def tarfile_to_samples(sources):
    return group_members(tar_file_expander(url_opener(sources)))


def has_caption_and_image(sample):
    return "txt" in sample and any(ext in sample for ext in ("png", "jpg", "jpeg", "webp"))


class Replay:
    """The trainer's `decompress` and `reapply` for the parameterised transforms of its config."""

    def __init__(self, config):
        transforms = {name: dict(args) for name, args in config.items()}
        transforms = {name: args for name, args in transforms.items() if args.pop("enable", True)}
        crop = transforms["random_resized_crop"]
        self.size = [crop["size"], crop["size"]] if isinstance(crop["size"], int) else list(crop["size"])
        self.filter = InterpolationMode(crop["interpolation"])
        self.has_operators = "rand_augment" in transforms
        check("normalize" in transforms, "trainer_config.json has no normalize, which trainers delete")

    def __call__(self, image, params):
        check(len(params) == 1 + self.has_operators, "a view has", len(params), "parts")
        top, left, height, width = params[0]
        check(all(isinstance(n, int) for n in params[0]), "box is not of integers:", params[0])
        check(0 <= top and 0 <= left and top + height <= image.height and left + width <= image.width,
              "box", params[0], "is not inside", image.size)
        view = functional.resized_crop(image, top, left, height, width, self.size, self.filter)
        for op, magnitude in (params[1] or []) if self.has_operators else []:
            # an index that is no integer breaks the trainer's list indexing
            view = _apply_op(view, OPERATORS[op], magnitude, interpolation=InterpolationMode.NEAREST, fill=None)
        return view


def check_reinforcement(sample, replay, max_views):
    """The trainer's step for every choice it could draw; returns the sample's first views."""
    key = sample["__key__"]
    container = sample["npz"] if "npz" in sample else sample["pth.gz"]
    params = sample["paug.json"]["param_aug"]
    texts = sample["text"] if isinstance(sample["text"], list) else [sample["text"]]
    columns = [name for name in sample["syn.json"] if COLUMN.match(name)]
    check(len(params) > 0 and len(columns) > 0, key, "has no views or no synthetic captions")

    def row(array, index):
        values = array[index]
        values = values if isinstance(values, torch.Tensor) else torch.tensor(values)
        values = values.type(torch.float32)
        check(bool(torch.isfinite(values).all()), key, "row", index, "is not finite")
        return values

    check(len(container["image_emb"]) == len(params), key, "rows of image_emb", len(container["image_emb"]))
    dim = row(container["image_emb"], 0).numel()
    for index in range(len(params)):
        check(row(container["image_emb"], index).numel() == dim, key)
    text_all = container["text_emb"]
    for index in range(len(texts)):
        check(row(text_all, index).numel() == dim, key)
    for column in columns:
        captions = sample["syn.json"][column]
        check(len(captions) > 0 and all(isinstance(text, str) for text in captions), key, column, captions)
        for index in range(len(captions)):
            if len(text_all) > len(texts):  # legacy layout: synthetic rows follow the real ones
                check(row(text_all, len(texts) + index).numel() == dim, key)
            else:
                check(row(container[column + "_emb"], index).numel() == dim, key)
    image = sample["image"].convert("RGB")
    return [replay(image, view) for view in params[:max_views]]


def compare_views(key, views, folder):
    for index, view in enumerate(views):
        path = folder / f"view-{index}.png"
        check(path.is_file(), key, "there is no", path)
        with Image.open(path) as stored:
            check(stored.mode == "RGB" and stored.size == view.size, key, path, stored.mode, stored.size, view.size)
            want, got = numpy.asarray(view), numpy.asarray(stored)
        different = int((want != got).any(axis=2).sum())
        check(different == 0, key, "view", index, "differs in", different, "pixels")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=pathlib.Path)
    parser.add_argument("--views", type=pathlib.Path)
    parser.add_argument("--reinforce", type=pathlib.Path)
    parser.add_argument("--samples", type=int, default=8)
    args = parser.parse_args()

    config = json.loads((args.dataset / "trainer_config.json").read_text())
    augmentation = config["reinforce"]["image_augmentation"]
    check(augmentation == json.loads((args.dataset / "config.json").read_text()), "config.json is another recipe")
    check(len(config["model_name"].split(",")) == len(config["pretrained"].split(",")), "model lists differ in length")
    sizes = json.loads((args.dataset / "sizes.json").read_text())
    info = json.loads((args.dataset / "info.json").read_text())
    manifest = [json.loads(line) for line in (args.dataset / "manifest.jsonl").read_text().splitlines()]
    shards = sorted(args.dataset.glob("*.tar"))
    check(shards, args.dataset, "holds no shards")
    check(sorted(sizes) == [shard.name for shard in shards], "sizes.json names", sorted(sizes))
    check([line["shard"] + ".tar" for line in manifest] == [shard.name for shard in shards], "manifest.jsonl")

    keys = {shard.name: check_archive(shard) for shard in shards}
    for line in manifest:
        name = line["shard"] + ".tar"
        check(len(keys[name]) == sizes[name] == line["num_uids"] == int(info["lengths"][name]), name, "counts differ")
    total = sum(sizes.values())
    check(int(info["totalLength"]) == total, "info.json counts", info["totalLength"])

    def fail(error):
        raise error

    pipeline = webdataset.DataPipeline(
        webdataset.SimpleShardList([str(shard) for shard in shards]),
        tarfile_to_samples,
        webdataset.select(has_caption_and_image),
        webdataset.decode("pilrgba", handler=fail),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
    )
    usable = sum("txt" in exts and bool({"jpg", "png", "jpeg", "webp"} & set(exts))
                 for shard in keys.values() for exts in shard.values())
    replay = Replay(augmentation)
    n = n_views = 0
    for sample in pipeline:
        wants_views = (args.views or args.reinforce) and n < args.samples
        views = check_reinforcement(sample, replay, config["num_samples"] if wants_views else 1)
        if wants_views:
            with tempfile.TemporaryDirectory() as temporary:
                folder = pathlib.Path(temporary)
                if args.views:
                    folder = args.views / sample["__key__"].rsplit("/", 1)[-1]
                else:
                    subprocess.run([args.reinforce, "inspect", args.dataset, "--uid", sample["__key__"].rsplit("/", 1)[-1],
                                    "--views", temporary], check=True, stdout=subprocess.DEVNULL)
                compare_views(sample["__key__"], views, folder)
            n_views += len(views)
        n += 1
    check(n == usable > 0, "the trainer saw", n, "samples of", usable)
    print(f"{n} of {total} samples in {len(shards)} shards load as the trainer does; {n_views} views are equal")


if __name__ == "__main__":
    main()
