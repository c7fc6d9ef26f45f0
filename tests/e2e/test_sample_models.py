"""The sample models mean something: a design none of them has seen, emoji of Noto Color Emoji, is named rightly.

Zero-shot top-1 of every teacher over all names of the quickstart's images, and true pairs against others; captions that
hold the name. Models that know languages are asked in three. Model cards say what the models reach on the whole held-out
design; here the bars are lower, for the images differ a little.
"""
import html
import json
import pathlib
import re
import subprocess
import tempfile

import numpy as np

from harness import ROOT, reinforce, require

SAMPLES = ROOT / "build" / "sample-images"
MODELS = ROOT / "deploy" / "models"
TEACHERS = {"clip-a": {"en": 0.7}, "clip-b": {"en": 0.6}, "siglip2": {"en": 0.6, "de": 0.6, "fr": 0.6}}
CAPTIONED = {"en": 0.42, "de": 0.2, "fr": 0.24}  # by paligemma2
EVERY = 4  # images for captions

subprocess.run([ROOT / "deploy" / "sample_images.sh", SAMPLES], check=True, stdout=subprocess.DEVNULL)
images = sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp") and not p.name.startswith("broken"))


def cldr_names(folder, languages):
    """{language: [image's name]}, from the package that the English names are from."""
    subprocess.run("apt-get -qq download unicode-cldr-core && dpkg-deb --fsys-tarfile unicode-cldr-core_*.deb | "
                   "tar -x --wildcards '*/common/annotations/*'", shell=True, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    by_language = {}
    for language in languages:
        text = next(folder.rglob(f"annotations/{language}.xml")).read_text(encoding="utf-8")
        by_language[language] = {emoji.rstrip("\ufe0f"): html.unescape(name)
                                 for emoji, name in re.findall('<annotation cp="([^"]+)" type="tts">([^<]+)<', text)}
    emoji_of = {name: emoji for emoji, name in by_language["en"].items()}
    drawn = [emoji_of[p.with_suffix(".txt").read_text()] for p in images]
    return {language: [names[emoji] for emoji in drawn] for language, names in by_language.items()}


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    names = cldr_names(tmp, ["en", "de", "fr"])
    require(len(set(names["en"])) >= 500, f"{len(set(names['en']))} names")
    for teacher, bars in TEACHERS.items():
        (tmp / "names").write_text("".join(name + "\n" for language in bars for name in names[language]))
        reinforce("embed", "--model", MODELS / teacher, "--images", *images, "--texts-file", tmp / "names", "--out",
                  tmp / "out.npz")
        rows = np.load(tmp / "out.npz")
        for (language, least), text in zip(bars.items(), np.split(rows["text_emb"], len(bars))):
            similarity = rows["image_emb"] @ text.T
            true = similarity.diagonal()
            right = float((similarity.argmax(1) == np.arange(len(images))).mean())
            above = float((similarity < true[:, None]).sum(1).mean()) / (len(images) - 1)
            print(f"{teacher}, {language}: top-1 {right:.3f} over {len(text)} names; a true pair is above {above:.4f}")
            require(right > least, f"{teacher} names {right:.3f} of the images rightly in {language}")
            require(above > 0.97, f"{teacher}: true pairs are above {above:.4f} of the others in {language}")

    asked = images[::EVERY]
    for language, least in CAPTIONED.items():
        made = json.loads(reinforce("caption", "--model", MODELS / "paligemma2", "--strategy", "greedy", "--prompt",
                                    f"caption {language}", "--json", *asked).stdout)
        wanted = {p.name: name for p, name in zip(images, names[language])}
        captions = {pathlib.Path(image["image"]).name: image["captions"][0]["text"] for image in made}
        named = float(np.mean([wanted[image].lower() in caption.lower() for image, caption in captions.items()]))
        print(f"paligemma2, {language}: {named:.3f} of {len(made)} captions name the image; {list(captions.values())[:4]}")
        require(named > least, f"paligemma2's captions in {language} name {named:.3f} of their images")
