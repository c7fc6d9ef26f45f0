"""EXIF orientation: ignored by default, as the trainers do; with the option the stored image is upright. DR 21."""
import io
import pathlib
import tarfile
import tempfile

import numpy as np
from PIL import Image

from harness import reinforce, require, write_job


def stored_image(output):
    with tarfile.open(output / "00000000.tar") as tar:
        name = next(n for n in tar.getnames() if n.endswith(".jpg"))
        return tar.extractfile(name).read()


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    (tmp / "images").mkdir()
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:, :45] = (250, 10, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise
    path = tmp / "images/turned.jpg"
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    path.with_suffix(".txt").write_text("a red half")

    reinforce("run", write_job(tmp / "a.yaml", tmp / "images", tmp / "plain"), check=(0,))
    require(stored_image(tmp / "plain") == path.read_bytes(), "by default the stored bytes are the input's")

    reinforce("run", write_job(tmp / "b.yaml", tmp / "images", tmp / "upright",
                               image={"apply_exif_orientation": True}), check=(0,))
    upright = Image.open(io.BytesIO(stored_image(tmp / "upright")))
    require(upright.size == (60, 90), f"the option turns the image: {upright.size}")
    require(upright.getexif().get(0x0112, 1) == 1, "and leaves no tag behind")
    top, bottom = upright.getpixel((30, 10)), upright.getpixel((30, 80))
    require(top[0] > 200 and bottom[0] < 60, f"the red half is on top: {top} {bottom}")
    reinforce("verify", tmp / "upright", check=(0,))
    print("EXIF orientation is ignored by default and applied on request")
