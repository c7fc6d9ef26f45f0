"""Make the corpus the sample models learn from: emoji of nine designs, with their Unicode names and CLDR keywords.

    python3 corpus.py OUT [--size 96] [--designs NAME ...]

Needs npm, rsvg-convert (Debian: librsvg2-bin) and python3-pil. OUT gets WebDataset shards:

    train-00000.tar ...   eight designs
    held-out-00000.tar    the ninth, Noto, which no model is trained on
    NOTICE                package, version and licence of each design

A sample is DESIGN-CODEPOINTS with .png (size x size, on white), .txt (the Unicode name, in English) and .json:
design, hexcode, group, label (the name), tags (CLDR keywords) and labels / keywords by language. Skin tones are left
out. Noto's older drawings (noto-v1) are kin to the held-out ones and are in neither part.
"""

import argparse
import concurrent.futures
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata

from PIL import Image

# name, npm package, version. Icons of one package are drawn by one hand.
DESIGNS = [("twemoji", "@iconify-json/twemoji", "1.2.5"),
           ("openmoji", "@iconify-json/openmoji", "1.2.29"),
           ("fluent", "@iconify-json/fluent-emoji", "1.2.7"),
           ("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6"),
           ("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0"),
           ("emojione", "@iconify-json/emojione", "1.2.3"),
           ("emojione-v1", "@iconify-json/emojione-v1", "1.2.3"),
           ("fxemoji", "@iconify-json/fxemoji", "1.2.2"),
           ("noto", "@iconify-json/noto", "1.2.9")]
HELD_OUT = "noto"
NAMES = ("emojibase-data", "17.0.0")
LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "pl", "ru", "zh", "ja", "ko", "hi"]
COMPONENT = 2  # the group of skin tones and hair
SHARD = 1000


def fetch(package, version, folder):
    """Unpacks an npm package; returns its folder."""
    to = os.path.join(folder, package.replace("/", "-").lstrip("@"))
    if not os.path.isdir(to):
        packed = subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=folder, check=True,
                                capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(os.path.join(folder, packed)) as tar:
            tar.extractall(to + ".part")
        os.rename(os.path.join(to + ".part", "package"), to)
    return to


def plain(text):
    """Every kind of space one space."""
    return " ".join(text.split())


def slug(name):
    """The name as icon sets spell it in file names."""
    name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower().replace("&", "and")
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"['.!]", "", name)).strip("-")


def concepts(folder):
    """hexcode -> group, label, tags, labels and keywords by language."""
    found = {}
    for language in LANGUAGES:
        for e in json.load(open(os.path.join(folder, language, "data.json"), encoding="utf-8")):
            if e.get("group", COMPONENT) == COMPONENT:
                continue
            if language == "en":
                found[e["hexcode"]] = {"group": e["group"], "label": plain(e["label"]), "labels": {}, "keywords": {},
                                       "tags": [plain(t) for t in e.get("tags", [])]}
            if e["hexcode"] in found:
                found[e["hexcode"]]["labels"][language] = plain(e["label"])
                found[e["hexcode"]]["keywords"][language] = [plain(t) for t in e.get("tags", [])]
    return found


def rendered_svg(body, box, size):
    svg = ('<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
           f'viewBox="0 0 {box[0]} {box[1]}">{body}</svg>')
    done = subprocess.run(["rsvg-convert", "--unlimited", "-w", str(size), "-h", str(size), "-a", "-b", "white"],
                          input=svg.encode(), capture_output=True)
    if done.returncode:
        print(f"not rendered: {done.stderr.decode().strip()[:200]}", file=sys.stderr)
    return done.stdout or None


def icons(folder, known):
    """(hexcode, draw) of every icon whose name is a concept's; draw(size) gives PNG bytes."""
    pictures = os.path.join(folder, "assets")
    if os.path.isdir(pictures):  # images by code point
        codes = {hexcode.lower().replace("-fe0f", ""): hexcode for hexcode in known}
        for file in sorted(os.listdir(pictures)):
            hexcode = codes.pop(file.split(".")[0].replace("-fe0f", ""), None)  # some are there twice
            if hexcode:
                yield hexcode, lambda size, path=os.path.join(pictures, file): open(path, "rb").read()
        return
    table = json.load(open(os.path.join(folder, "icons.json"), encoding="utf-8"))
    names = {name.replace("-", ""): name for name in {**table.get("aliases", {}), **table["icons"]}}
    for hexcode, concept in sorted(known.items()):
        name = names.get(slug(concept["label"]).replace("-", ""))
        if name in table.get("aliases", {}):
            alias = table["aliases"][name]
            name = alias["parent"] if set(alias) == {"parent"} else None
        icon = table["icons"].get(name)
        if icon:
            box = [icon.get(k, table.get(k, 16)) for k in ("width", "height")]
            yield hexcode, lambda size, body=icon["body"], box=box: rendered_svg(body, box, size)


def on_white(png, size):
    if png is None:
        return None
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    if image.size != (size, size):
        image.thumbnail((size, size), Image.BICUBIC)
    canvas = Image.new("RGBA", (size, size), "white")
    canvas.alpha_composite(image, ((size - image.width) // 2, (size - image.height) // 2))
    out = io.BytesIO()
    canvas.convert("RGB").save(out, "PNG", optimize=True)
    return out.getvalue()


def add(tar, name, body):
    info = tarfile.TarInfo(name)
    info.size = len(body)
    tar.addfile(info, io.BytesIO(body))


def write_shards(out, name, samples):
    """In the order of a hash of the key: designs and concepts mixed, the same every time."""
    samples.sort(key=lambda s: hashlib.sha256(s[0].encode()).digest())
    for first in range(0, len(samples), SHARD):
        with tarfile.open(os.path.join(out, f"{name}-{first // SHARD:05}.tar"), "w") as tar:
            for key, png, meta in samples[first:first + SHARD]:
                add(tar, key + ".png", png)
                add(tar, key + ".txt", meta["label"].encode())
                add(tar, key + ".json", json.dumps(meta, ensure_ascii=False).encode())


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("out")
    args.add_argument("--size", type=int, default=96)
    args.add_argument("--designs", nargs="+", choices=[d[0] for d in DESIGNS], metavar="NAME", help="these only")
    args = args.parse_args()
    os.makedirs(args.out, exist_ok=True)
    parts, notice = {"train": [], "held-out": []}, []
    with tempfile.TemporaryDirectory() as packages:
        known = concepts(fetch(*NAMES, packages))
        notice.append(f"names and keywords: {NAMES[0]} {NAMES[1]} (MIT; data of Unicode CLDR, Unicode-3.0)")
        for design, package, version in DESIGNS:
            if args.designs and design not in args.designs:
                continue
            folder = fetch(package, version, packages)
            found = list(icons(folder, known))
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                drawn = list(pool.map(lambda icon: on_white(icon[1](args.size), args.size), found))
            part = "held-out" if design == HELD_OUT else "train"
            parts[part] += [(f"{design}-{hexcode.lower()}", png, {"design": design, "hexcode": hexcode, **known[hexcode]})
                            for (hexcode, _), png in zip(found, drawn) if png]
            licence = json.load(open(os.path.join(folder, "package.json"), encoding="utf-8")).get("license")
            notice.append(f"{design}: {package} {version} ({licence}), {sum(map(bool, drawn))} images, {part}")
            print(notice[-1], flush=True)
    for name, samples in parts.items():
        write_shards(args.out, name, samples)
    with open(os.path.join(args.out, "NOTICE"), "w", encoding="utf-8") as f:
        f.write("\n".join(notice) + "\n")


if __name__ == "__main__":
    main()
