#!/usr/bin/python3
"""Makes the encoded images of tests/golden/image/ and what Pillow reads from them.

    make_image.py          writes the files, index.txt and reduced.txt
    make_image.py --check  compares the two with the Pillow at hand, changes nothing

Needs Pillow, numpy and cjpeg (Debian: python3-pil python3-numpy libjpeg-turbo-progs). The committed
digests come from Debian 12's Pillow 9.4, which decodes JPEG and WebP with the same libraries as we do.
Pillow 13 with libjpeg-turbo 3.2 and libwebp 1.6 decodes every file to the same pixels; two reference
order digests differ there (the squashed gif_offset files), because that release resizes vertically first
when it saves work. 16-bit grey is mode "I" in Pillow 9.4 and "I;16" since; the pixels are equal.

index.txt, one image a line:

    file status width height mode orientation sha256-of-RGB [reference-order digests]

status is "ok" or "bad". The last columns are there for the modes that open_clip's order (resize, crop,
then convert) treats apart: SHA-256 prefixes of a 32x32 result by that order and by conversion first,
bicubic, shortest then squash.

reduced.txt, one JPEG a line: its name and SHA-256 prefixes of RGB after draft() to a half and to a quarter.
"""
import hashlib
import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
from PIL import Image

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "image")
FILES = {}
# Indices without a palette entry are black since Pillow 10 and undefined before: what the file means,
# spelt out for any Pillow.
SPELT_OUT = {}
# Pillow takes rows that are missing inside an intact file for black; we refuse the file.
STRICTER = {"png_missing_rows.png"}


def photo(width, height, seed=1):
    """Smooth colours with edges and some noise: every decoder stage has something to do."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rng = np.random.RandomState(seed)
    r = 128 + 100 * np.sin(x / 9 + y / 17)
    g = 128 + 90 * np.cos(x / 5 - y / 7)
    b = 255 * (((x // 8) + (y // 6)) % 2)
    rgb = np.stack([r, g, b], -1) + rng.normal(0, 6, (height, width, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def alpha_ramp(width, height):
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.clip((x * 300 // max(width - 1, 1)) - 20, 0, 255)
    ramp[height // 2, :] = 0
    return ramp.astype(np.uint8)


def saved(image, format, **options):
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def cjpeg(rgb, *options):
    ppm = saved(Image.fromarray(rgb), "PPM")
    return subprocess.run(["cjpeg", "-quality", "80", *options], input=ppm, stdout=subprocess.PIPE, check=True).stdout


def make_jpeg():
    rgb = photo(61, 47)
    for name, sample in [("444", "1x1"), ("422", "2x1"), ("420", "2x2"), ("440", "1x2"), ("411", "4x1"),
                         ("410", "4x2"), ("odd", "2x2,1x2,2x1")]:
        FILES[f"jpeg_{name}.jpg"] = cjpeg(rgb, "-sample", sample)
        FILES[f"jpeg_{name}_progressive.jpg"] = cjpeg(rgb, "-sample", sample, "-progressive")
    FILES["jpeg_arithmetic.jpg"] = cjpeg(rgb, "-arithmetic")
    FILES["jpeg_restart.jpg"] = cjpeg(rgb, "-restart", "1")
    FILES["jpeg_rgb.jpg"] = cjpeg(rgb, "-rgb")
    FILES["jpeg_grey.jpg"] = cjpeg(rgb, "-grayscale")
    FILES["jpeg_grey_progressive.jpg"] = cjpeg(rgb, "-grayscale", "-progressive")
    FILES["jpeg_1x1.jpg"] = cjpeg(rgb[:1, :1])
    FILES["jpeg_1x40.jpg"] = cjpeg(photo(1, 40))
    FILES["jpeg_40x1.jpg"] = cjpeg(photo(40, 1))
    FILES["jpeg_quality_5.jpg"] = cjpeg(photo(96, 64, 3), "-quality", "5")
    cmyk = Image.fromarray(np.dstack([rgb, alpha_ramp(61, 47)]), "CMYK")
    FILES["jpeg_cmyk.jpg"] = saved(cmyk, "JPEG", quality=85)
    data = bytearray(FILES["jpeg_cmyk.jpg"])
    at = data.index(b"Adobe")
    data[at + 11] = 2  # the same bytes read as YCCK
    FILES["jpeg_ycck.jpg"] = bytes(data)
    cut = FILES["jpeg_cmyk.jpg"]
    at = cut.index(b"\xff\xee")
    FILES["jpeg_cmyk_without_adobe.jpg"] = cut[:at] + cut[at + 2 + struct.unpack(">H", cut[at + 2:at + 4])[0]:]
    for orientation in (3, 6):
        exif = b"Exif\0\0" + tiff(orientation, orientation == 3)
        FILES[f"jpeg_orientation_{orientation}.jpg"] = saved(Image.fromarray(rgb), "JPEG", exif=exif)
    base = FILES["jpeg_420.jpg"]
    FILES["jpeg_truncated.jpg"] = base[: len(base) * 2 // 3]
    FILES["jpeg_truncated_header.jpg"] = base[:100]
    progressive = FILES["jpeg_420_progressive.jpg"]
    FILES["jpeg_truncated_progressive.jpg"] = progressive[: len(progressive) // 2]
    FILES["jpeg_trailing_bytes.jpg"] = base + b"\0trailing" * 3
    broken = bytearray(base)
    for i in range(len(base) // 2, len(base) // 2 + 20):
        broken[i] = (broken[i] * 7 + 13) & 0x7F
    FILES["jpeg_damaged_scan.jpg"] = bytes(broken)


def tiff(orientation, big_endian=False):
    e = ">" if big_endian else "<"
    head = (b"MM" if big_endian else b"II") + struct.pack(e + "HI", 42, 8)
    return head + struct.pack(e + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_row(samples, depth):
    """One row of integer samples, channels interleaved, to PNG bytes."""
    if depth == 16:
        return np.asarray(samples, ">u2").tobytes()
    if depth == 8:
        return np.asarray(samples, np.uint8).tobytes()
    bits = "".join(format(int(v), f"0{depth}b") for v in samples)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


def png(samples, depth, color_type, palette=None, transparency=None, interlace=False, extra=b"", filters=True):
    """samples: [H, W, C] integers below 2**depth."""
    height, width, channels = samples.shape
    passes = [(0, 0, 1, 1)]
    if interlace:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b""
    step = max(1, channels * depth // 8)
    for top, left, dy, dx in passes:
        part = samples[top::dy, left::dx]
        if part.size == 0:
            continue
        before = None
        for y in range(part.shape[0]):
            row = pack_row(part[y].reshape(-1), depth)
            kind = y % 3 if filters else 0  # none, sub, up
            if kind == 1:
                raw += b"\1" + bytes((row[i] - (row[i - step] if i >= step else 0)) & 255 for i in range(len(row)))
            elif kind == 2:
                raw += b"\2" + bytes((row[i] - before[i]) & 255 for i in range(len(row)))
            else:
                raw += b"\0" + row
            before = row
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0,
                                                                 int(interlace)))
    out += extra
    if palette is not None:
        out += chunk(b"PLTE", bytes(palette))
    if transparency is not None:
        out += chunk(b"tRNS", bytes(transparency))
    return out + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def make_png():
    width, height = 37, 29
    rgb = photo(width, height).astype(np.int64)
    grey = rgb[:, :, :1]
    alpha = alpha_ramp(width, height).astype(np.int64)[:, :, None]
    wide = rgb * 257 + np.arange(width)[None, :, None]
    wide = np.clip(wide, 0, 65535)
    palette = [int(v) for v in np.random.RandomState(5).randint(0, 256, 768)]
    for interlace, suffix in [(False, ""), (True, "_interlaced")]:
        for depth in (1, 2, 4, 8):
            FILES[f"png_grey{depth}{suffix}.png"] = png(grey >> (8 - depth), depth, 0, interlace=interlace)
            FILES[f"png_palette{depth}{suffix}.png"] = png(grey >> (8 - depth), depth, 3, palette[:3 << depth],
                                                           interlace=interlace)
        FILES[f"png_grey16{suffix}.png"] = png(wide[:, :, :1] >> 3, 16, 0, interlace=interlace)
        FILES[f"png_rgb{suffix}.png"] = png(rgb, 8, 2, interlace=interlace)
        FILES[f"png_rgb16{suffix}.png"] = png(wide, 16, 2, interlace=interlace)
        FILES[f"png_grey_alpha{suffix}.png"] = png(np.dstack([grey, alpha]), 8, 4, interlace=interlace)
        FILES[f"png_grey_alpha16{suffix}.png"] = png(np.dstack([wide[:, :, :1], alpha * 257]), 16, 4,
                                                     interlace=interlace)
        FILES[f"png_rgba{suffix}.png"] = png(np.dstack([rgb, alpha]), 8, 6, interlace=interlace)
        FILES[f"png_rgba16{suffix}.png"] = png(np.dstack([wide, alpha * 257]), 16, 6, interlace=interlace)
    FILES["png_grey16_dark.png"] = png(wide[:, :, :1] // 200, 16, 0)
    FILES["png_palette_transparent.png"] = png(grey >> 4, 4, 3, palette[:48], range(0, 256, 16))
    FILES["png_palette_short.png"] = png(grey >> 5, 4, 3, palette[:15])  # indices 5 to 7 have no entry
    SPELT_OUT["png_palette_short.png"] = png(grey >> 5, 4, 3, palette[:15] + [0] * 9)
    FILES["png_grey_transparent.png"] = png(grey, 8, 0, transparency=[0, 128])
    FILES["png_grey1_transparent.png"] = png(grey >> 7, 1, 0, transparency=[0, 1])
    FILES["png_rgb_transparent.png"] = png(rgb, 8, 2, transparency=[0, 10, 0, 20, 0, 30])
    FILES["png_gamma.png"] = png(rgb, 8, 2, extra=chunk(b"gAMA", struct.pack(">I", 100000)))
    FILES["png_text_bomb.png"] = png(rgb[:3, :3], 8, 2,
                                     extra=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 900000, 9)))
    FILES["png_orientation_8.png"] = png(rgb, 8, 2, extra=chunk(b"eXIf", tiff(8, True)))
    FILES["png_1x1.png"] = png(rgb[:1, :1], 8, 2)
    FILES["png_1x1_interlaced.png"] = png(grey[:1, :1] >> 7, 1, 0, interlace=True)
    FILES["png_3x5_interlaced.png"] = png(rgb[:5, :3], 8, 2, interlace=True)
    whole = FILES["png_rgb.png"]
    FILES["png_truncated.png"] = whole[: len(whole) // 2]
    FILES["png_without_end.png"] = whole[:-12]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0))
    FILES["png_zero_width.png"] = whole[:8] + header + whole[8 + len(header):]
    short = png(rgb[:10], 8, 2)
    FILES["png_missing_rows.png"] = short[:8] + whole[8:33] + short[33:]
    FILES["png_only_signature.png"] = whole[:8]


def make_webp():
    rgb = Image.fromarray(photo(61, 47))
    rgba = Image.fromarray(np.dstack([photo(61, 47), alpha_ramp(61, 47)]))
    FILES["webp_lossy.webp"] = saved(rgb, "WEBP", quality=70)
    FILES["webp_lossless.webp"] = saved(rgb.crop((0, 0, 30, 20)), "WEBP", lossless=True)
    FILES["webp_lossy_alpha.webp"] = saved(rgba, "WEBP", quality=70)
    FILES["webp_lossless_alpha.webp"] = saved(rgba.crop((0, 0, 30, 20)), "WEBP", lossless=True, exact=True)
    FILES["webp_1x1.webp"] = saved(rgb.crop((0, 0, 1, 1)), "WEBP")
    FILES["webp_orientation_5.webp"] = saved(rgb, "WEBP", quality=30, exif=b"Exif\0\0" + tiff(5))
    frames = [rgba.crop((0, 0, 40, 30)), rgba.crop((9, 9, 49, 39))]
    FILES["webp_animated.webp"] = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50)
    # A first frame that does not fill its canvas: 40x30 at (6, 4) on 61x47.
    still = saved(frames[0], "WEBP", quality=60)
    body = still[12:]
    body = body[18:] if body[:4] == b"VP8X" else body

    def u24(value):
        return struct.pack("<I", value)[:3]

    frame = u24(6 // 2) + u24(4 // 2) + u24(39) + u24(29) + u24(50) + b"\0" + body
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x12\0\0\0" + u24(60) + u24(46)
    chunks += b"ANIM" + struct.pack("<I", 6) + b"\x10\x80\xf0\xff\0\0"
    chunks += b"ANMF" + struct.pack("<I", len(frame)) + frame
    FILES["webp_animated_offset.webp"] = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    whole = FILES["webp_lossy.webp"]
    FILES["webp_truncated.webp"] = whole[: len(whole) // 2]
    FILES["webp_truncated_lossless.webp"] = FILES["webp_lossless.webp"][:200]
    FILES["webp_header_only.webp"] = whole[:20]


def lzw(indices, bits):
    """Literals with a clear code before the code size grows: not small, and every decoder reads it."""
    clear, end, size = 1 << bits, (1 << bits) + 1, bits + 1
    acc = n_acc = 0
    out = bytearray()

    def put(code):
        nonlocal acc, n_acc
        acc |= code << n_acc
        n_acc += size
        while n_acc >= 8:
            out.append(acc & 255)
            acc >>= 8
            n_acc -= 8

    for i, index in enumerate(indices):
        if i % (clear - 2) == 0:
            put(clear)
        put(int(index))
    put(end)
    if n_acc:
        out.append(acc & 255)
    blocks = b"".join(bytes([len(out[i:i + 255])]) + bytes(out[i:i + 255]) for i in range(0, len(out), 255))
    return bytes([bits]) + blocks + b"\0"


def gif(screen, frame, at=(0, 0), bits=3, palette=None, local=None, transparent=None, interlace=False, tail=b";"):
    """One frame of indices [h, w] at (left, top) on a screen (width, height)."""
    height, width = frame.shape
    flags = 0x80 | (bits - 1) if palette is not None else 0
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, flags, 2, 0) + bytes(palette or [])
    if transparent is not None:
        out += b"!\xf9\4" + struct.pack("<BHB", 1, 10, transparent) + b"\0"
    flags = (0x80 | (bits - 1) if local is not None else 0) | (0x40 if interlace else 0)
    out += b"," + struct.pack("<HHHHB", *at, width, height, flags) + bytes(local or [])
    rows = range(height)
    if interlace:
        rows = [y for first, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(first, height, step)]
    return out + lzw(np.concatenate([frame[y] for y in rows]), max(bits, 2)) + tail


def make_gif():
    frame = (photo(23, 19)[:, :, 0] >> 5).astype(int)
    palette = [int(v) for v in np.random.RandomState(6).randint(0, 256, 24)]
    other = [int(v) for v in np.random.RandomState(7).randint(0, 256, 24)]
    ramp = [v for i in range(8) for v in (i, i, i)]
    size = (23, 19)
    FILES["gif_global.gif"] = gif(size, frame, palette=palette)
    FILES["gif_local.gif"] = gif(size, frame, palette=palette, local=other)
    FILES["gif_local_only.gif"] = gif(size, frame, local=other)
    FILES["gif_interlaced.gif"] = gif(size, frame, palette=palette, interlace=True)
    FILES["gif_transparent.gif"] = gif(size, frame, palette=palette, transparent=3)
    FILES["gif_offset.gif"] = gif((31, 40), frame, at=(5, 7), palette=palette)
    FILES["gif_offset_transparent.gif"] = gif((31, 40), frame, at=(5, 7), palette=palette, transparent=4)
    FILES["gif_beyond_screen.gif"] = gif((10, 12), frame, at=(2, 3), palette=palette, transparent=1)
    FILES["gif_zero_screen.gif"] = gif((0, 0), frame, palette=palette)
    FILES["gif_grey_ramp.gif"] = gif(size, frame, palette=ramp)
    FILES["gif_grey_ramp_local.gif"] = gif(size, frame, local=ramp)
    FILES["gif_no_palette.gif"] = gif(size, frame)
    FILES["gif_beyond_palette.gif"] = short_palette_gif(size, frame, palette)
    SPELT_OUT["gif_beyond_palette.gif"] = gif(size, frame, palette=palette[:12] + [0] * 12)
    FILES["gif_1x1.gif"] = gif((1, 1), frame[:1, :1], palette=palette)
    FILES["gif_without_trailer.gif"] = gif(size, frame, palette=palette, tail=b"")
    FILES["gif_compressed.gif"] = saved(Image.fromarray(photo(120, 90)).quantize(64), "GIF")
    frames = [Image.fromarray(photo(40, 30, s)).quantize(16) for s in (1, 2)]
    FILES["gif_animated.gif"] = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    whole = FILES["gif_global.gif"]
    FILES["gif_truncated.gif"] = whole[: len(whole) // 2]
    FILES["gif_header_only.gif"] = whole[:13]
    FILES["gif_no_frame.gif"] = whole[:13 + 24] + b";"
    FILES["gif_early_end.gif"] = gif(size, frame[:9], palette=palette)[: 13 + 24] + b"," + struct.pack(
        "<HHHHB", 0, 0, 23, 19, 0) + lzw(frame[:9].reshape(-1), 3) + b";"


def short_palette_gif(size, frame, palette):
    """A palette of 4 colours under 3-bit pixels: indices 4 to 7 have no entry."""
    out = b"GIF89a" + struct.pack("<HHBBB", *size, 0x81, 0, 0) + bytes(palette[:12])
    return out + b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + lzw(frame.reshape(-1), 3) + b";"


def make_others():
    FILES["other_empty.bin"] = b""
    FILES["other_text.bin"] = b"<html>not an image</html>"
    FILES["other_one_byte.bin"] = b"\xff"


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def fitted(image, mode):
    """torchvision's resize and centre crop to 32."""
    size = 32
    if mode == "squash":
        return image.resize((size, size), Image.BICUBIC)
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != size:
        other = int(size * long / short)
        image = image.resize((size, other) if width <= height else (other, size), Image.BICUBIC)
    width, height = image.size
    left, top = int(round((width - size) / 2.0)), int(round((height - size) / 2.0))
    return image.crop((left, top, left + size, top + size))


def describe(name):
    if name in STRICTER:
        return f"{name} bad"
    try:
        with Image.open(io.BytesIO(SPELT_OUT[name]) if name in SPELT_OUT else os.path.join(HERE, name)) as image:
            image.load()
            mode = {"I": "I;16", "I;16B": "I;16"}.get(image.mode, image.mode)
            orientation = image.getexif().get(0x0112, 1)
            rgb = image.convert("RGB")
            line = f"{name} ok {rgb.width} {rgb.height} {mode} {orientation} {digest(rgb)}"
            if mode in ("1", "P", "LA", "RGBA", "L", "RGB") and "16" not in name:
                for fit in ("shortest", "squash"):
                    line += f" {digest(fitted(image, fit).convert('RGB'))[:16]} {digest(fitted(rgb, fit))[:16]}"
            return line
    except Exception:  # whatever Pillow raises, the file cannot be used
        return f"{name} bad"


def reduced(name):
    """None: not a JPEG that can be read, or too small for draft() to tell the two sizes apart."""
    line = name
    try:
        for reduction in (2, 4):
            with Image.open(os.path.join(HERE, name)) as image:
                if image.format != "JPEG" or min(image.size) < 16:
                    return None
                image.draft(None, (image.width // reduction, image.height // reduction))
                line += f" {digest(image.convert('RGB'))[:16]}"
    except Exception:
        return None
    return line


def main():
    index = os.path.join(HERE, "index.txt")
    drafts = os.path.join(HERE, "reduced.txt")
    make_jpeg()
    make_png()
    make_webp()
    make_gif()
    make_others()
    if sys.argv[1:] == ["--check"]:
        n_different = 0
        for path, look in (index, describe), (drafts, reduced):
            with open(path) as lines:
                for line in lines:
                    found = look(line.split()[0])
                    if found != line.strip():
                        n_different += 1
                        print(f"{os.path.basename(path)}: {line.strip()}\nfound: {found}")
        print(f"{n_different} differences with Pillow {Image.__version__}")
        return int(n_different > 0)
    os.makedirs(HERE, exist_ok=True)
    for name, data in FILES.items():
        with open(os.path.join(HERE, name), "wb") as out:
            out.write(data)
    with open(index, "w") as out:
        for name in FILES:
            out.write(describe(name) + "\n")
    with open(drafts, "w") as out:
        for line in filter(None, map(reduced, FILES)):
            out.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
