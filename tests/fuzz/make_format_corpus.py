#!/usr/bin/env python3
"""Seeds of fuzz_tar, fuzz_jsonl and fuzz_record, made with Python's own writers.

    python3 tests/fuzz/make_format_corpus.py

Needs python3-numpy and python3-torch for members that hold embeddings.
"""
import base64
import gzip
import io
import json
import pathlib
import pickle
import tarfile

import numpy
import torch

CORPUS = pathlib.Path(__file__).parent / "corpus"
VIEW = [[32, 291, 657, 709], [[2, -0.09000000357627869], [4, -30.45317268371582]]]
ROW = numpy.array([[0.5, -0.25, 1.0]], "<f4")


def put(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def npz(**arrays):
    out = io.BytesIO()
    numpy.savez_compressed(out, **arrays)
    return out.getvalue()


def pth(**arrays):
    out = io.BytesIO()
    torch.save({k: torch.tensor(v).bfloat16() for k, v in arrays.items()}, out)
    return gzip.compress(out.getvalue(), mtime=0)


def tar(members, fmt=tarfile.USTAR_FORMAT, mtime=0, pax=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt, pax_headers=pax or {}) as archive:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(body), mtime
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue().rstrip(b"\0") + b"\0" * 1024


def text(value):
    return json.dumps(value).encode()


def zstd_raw(body):
    """One frame of one raw block, sizes of up to 255 bytes (RFC 8878)."""
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(body)]) + (len(body) << 3 | 1).to_bytes(3, "little") + body


def emb(array):
    return base64.b64encode(gzip.compress(pickle.dumps(array, protocol=5), mtime=0)).decode()


SAMPLE = [
    ("0a1b.jpg", b"\xff\xd8\xff pixels"),
    ("0a1b.json", text({"sha256": "00", "member_id": "x", "uid": "0a1b"})),
    ("0a1b.paug.json", text({"param_aug": [VIEW, [[7, 28, 34, 27], None]]})),
    ("0a1b.syn.json", text({"syn_text": ["a dog on a sofa", "caf\u00e9"]})),
    ("0a1b.txt", b"real"),
    ("0a1b.url.txt", b"https://x/"),
]
put("tar", "current.tar", tar(SAMPLE))
put("tar", "pax_float_mtime.tar", tar(SAMPLE[:2], tarfile.PAX_FORMAT, 1700000000.25))
put("tar", "pax_global.tar", tar(SAMPLE[:1], tarfile.PAX_FORMAT, 0, {"comment": "hello"}))
put("tar", "gnu_long_name.tar", tar([("d/" * 60 + "a.b.jpg", b"x")], tarfile.GNU_FORMAT))
put("tar", "npz.tar", tar([SAMPLE[0], ("0a1b.npz", npz(image_emb=ROW, text_emb=ROW))]))
put("tar", "pth.tar", tar([SAMPLE[0], ("0a1b.pth.gz", pth(image_emb=ROW, text_emb=ROW))]))
put("tar", "legacy.tar", tar(SAMPLE[:1] + SAMPLE[3:5] + [
    ("0a1b.npz", npz(image_emb=ROW, text_emb=numpy.repeat(ROW, 3, 0)))]))
put("tar", "stringified.tar", tar([SAMPLE[0], ("0a1b.paug.json", text({"param_aug": json.dumps([VIEW])}))]))
put("tar", "cut.tar", tar(SAMPLE)[:2600])

LINE = {"uid": "0a1b", "image": base64.b64encode(b"\xff\xd8\xff pixels").decode(), "text": "real",
        "url": "u", "syn_text": ["a", "caf\u00e9"], "param_aug": [VIEW], "sha256": "00", "december": 1}
put("jsonl", "current.jsonl", text(LINE) + b"\n")
put("jsonl", "two.jsonl", text({"id": 7, "caption": ["a", "b"], "image": ""}) + b"\n\n" + text({"uid": "a/b"}))
put("jsonl", "embeddings.jsonl", text({**LINE, "image_emb": emb(ROW), "text_emb": emb(ROW)}))
put("jsonl", "members.jsonl", text({"uid": "m", "tar_members": {"cls": "Nw=="}, "tar_json": {"uid": 1}}))
put("jsonl", "references.jsonl", text({"uid": "r", "image_key": "a.jpg", "text_key": "a.txt", "json_key": "b"}))
put("jsonl", "current.jsonl.gz", gzip.compress(text(LINE) + b"\n", mtime=0) * 2)
put("jsonl", "frames.jsonl.zst", zstd_raw(text({"uid": "z1"}) + b"\n") + zstd_raw(text({"id": 2})))

put("record", "syn.json", text({"syn_text": ["a", ""], "syn_text_b": ["c"], "x_captions": [], "model": "m"}))
put("record", "paug.json", text({"param_aug": [VIEW, [[7, 28, 34, 27], None]]}))
put("record", "paug_text.json", text({"param_aug": json.dumps([VIEW]), "z": [1.5, 1e300, -0.0, 2**70]}))
put("record", "key", b"./a/b.c/\xff%2F+\n")
put("record", "long_key", b"x/" * 150)
