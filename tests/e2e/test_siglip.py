"""SigLIP teachers in the program: one job with three families, `embed` of any aspect ratio, `model info` and `check`."""
import json
import pathlib
import tempfile

import numpy as np
from PIL import Image

from harness import MODELS, digest_objects, make_images, reinforce, require, write_job

TEACHERS = [{"name": n, "model": str(MODELS / n)} for n in ("clip_gelu", "siglip_hf_14", "siglip2_naflex", "siglip_timm")]

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 12, broken=False)

    def run(name, **workers):
        job = write_job(tmp / f"{name}.yaml", tmp / "images", tmp / name, teachers=TEACHERS, workers=workers)
        reinforce("run", job, check=(0,))
        reinforce("verify", tmp / name, check=(0,))
        return digest_objects(tmp / name)

    require(run("one") == run("two", count=2, threads=2), "same bytes by two workers")

    # five pictures of as many shapes, in one call and one by one
    rng = np.random.default_rng(3)
    paths = []
    for i, (height, width) in enumerate([(40, 300), (300, 40), (64, 64), (200, 133), (1, 1)]):
        paths.append(tmp / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    (tmp / "texts").write_text("A Photo of a cat\na photo of a cat\na photo of a dog\n")
    for name in ("siglip_hf", "siglip2_naflex", "siglip2_naflex_8", "siglip_timm_14"):
        model = MODELS / name
        reinforce("embed", "--model", model, "--images", *paths, "--texts-file", tmp / "texts", "--out", tmp / "all.npz")
        done = np.load(tmp / "all.npz")
        require(np.allclose(np.linalg.norm(done["image_emb"], axis=1), 1, atol=1e-5), f"{name}: unit rows")
        require((done["text_emb"][0] == done["text_emb"][1]).all(), f"{name}: case does not count")
        require(abs(done["text_emb"][0] - done["text_emb"][2]).max() > 1e-3, f"{name}: words do")
        for i, path in enumerate(paths):
            reinforce("embed", "--model", model, "--images", path, "--out", tmp / "one.npz")
            require((np.load(tmp / "one.npz")["image_emb"][0] == done["image_emb"][i]).all(), f"{name}: no company counts")

    # SIGLIP 30: grey, palette, CMYK and alpha are what their RGB is; alpha is dropped
    picture = Image.fromarray(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    alpha = picture.copy()
    alpha.putalpha(Image.fromarray(rng.integers(0, 256, (50, 70), dtype=np.uint8)))
    kinds = {"rgba.png": alpha, "palette.png": picture.quantize(32), "grey.png": picture.convert("L"),
             "cmyk.jpg": picture.convert("CMYK")}
    for name, image in kinds.items():
        image.save(tmp / name, **({"quality": 95} if name.endswith("jpg") else {}))
        Image.open(tmp / name).convert("RGB").save(tmp / "rgb.png")
        reinforce("embed", "--model", MODELS / "siglip2_naflex", "--images", tmp / name, tmp / "rgb.png", "--out",
                  tmp / "kinds.npz")
        pair = np.load(tmp / "kinds.npz")["image_emb"]
        require((pair[0] == pair[1]).all(), f"{name} is embedded as its RGB")

    # by name: Pillow's two filters and TensorFlow's
    ways = {}
    for way in ("bilinear", "bicubic", "tensorflow"):
        reinforce("preprocess", "--model", MODELS / "siglip_hf", "--resize", way, paths[3], "--out", tmp / "p.npz")
        ways[way] = np.load(tmp / "p.npz")["pixels"].reshape(3, 64, 64)
    pixels = np.asarray(Image.open(paths[3])).astype(np.float32)

    def between(n):
        at = (np.arange(64, dtype=np.float32) + np.float32(0.5)) * np.float32(n / 64) - np.float32(0.5)
        low = np.floor(at).astype(int)
        return np.clip(low, 0, n - 1), np.clip(low + 1, 0, n - 1), (at - low).astype(np.float32)

    low, high, weight = between(pixels.shape[1])
    wide = pixels[:, low] + (pixels[:, high] - pixels[:, low]) * weight[None, :, None]
    low, high, weight = between(pixels.shape[0])
    want = np.floor(wide[low] + (wide[high] - wide[low]) * weight[:, None, None]) / 127.5 - 1
    require(abs(ways["tensorflow"] - want.transpose(2, 0, 1)).max() < 1.1 / 127.5, "tensorflow's way")
    require((abs(ways["tensorflow"] - want.transpose(2, 0, 1)) > 1e-6).mean() < 1e-3, "tensorflow's way, nearly everywhere")
    require(abs(ways["bilinear"] - ways["bicubic"]).max() > 0.1, "bilinear is not bicubic")
    reinforce("embed", "--model", MODELS / "siglip2_naflex", "--resize", "tensorflow", "--images", paths[3], "--out",
              tmp / "x.npz", check=(2,))

    for model in sorted(MODELS.glob("siglip*")):
        info = json.loads(reinforce("model", "info", "--json", model).stdout)
        require(info["family"] == ("siglip2" if "naflex" in model.name else "siglip"), f"{model.name}: {info['family']}")
        require(("max_patches" in info["preprocess"]) == ("naflex" in model.name), f"{model.name}: {info['preprocess']}")
        check = json.loads(reinforce("model", "check", "--json", model).stdout)
        require(check["result"] == "ok" and abs(check["logit_bias"] + 15.9) < 0.1, f"{model.name}: {check}")
