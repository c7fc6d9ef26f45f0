"""Make tests/golden/checkpoints/: what torch.save() leaves, and what a reader must refuse.

    python make_checkpoints.py OUT_DIR            # OUT_DIR = tests/golden/checkpoints

Needs torch. Run once with torch 2 and once with torch 1.13: names begin with the major version. Element i of an array of n
is i - n / 2, which every type here holds; booleans say whether i is odd.
"""
import argparse
import collections
import io
import pathlib
import sys
import zipfile

import torch

OUT = pathlib.Path(sys.argv[1])
MAJOR = torch.__version__.split(".")[0]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8]


def ramp(*shape, dtype=torch.float32):
    n = torch.Size(shape).numel()
    return (torch.arange(n) - n // 2).to(dtype).reshape(shape)


def save(name, value, **options):
    out = io.BytesIO()
    torch.save(value, out, **options)
    (OUT / f"torch{MAJOR}_{name}.pt").write_bytes(out.getvalue())
    return out.getvalue()


def rewrite(name, data, change=lambda member, body: body, method=zipfile.ZIP_STORED):
    """The archive with members changed, in the same order."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        for member in old.namelist():
            body = change(member, old.read(member))
            if body is not None:
                new.writestr(member, body)
    (OUT / f"torch{MAJOR}_{name}.pt").write_bytes(out.getvalue())


OUT.mkdir(exist_ok=True)
shared = ramp(4, 6)
good = save("views", {"whole": shared, "turned": shared.T, "slice": shared[1:3, ::2], "row": shared[2],
                      "scalar": shared[3, 5], "empty": shared[:0], "conv": ramp(2, 3, 2, 2).transpose(0, 1)})
save("dtypes", {str(d).split(".")[1]: ramp(3, 4, dtype=d) for d in DTYPES} | {
    "uint8": torch.arange(12).to(torch.uint8).reshape(3, 4), "bool": torch.arange(12).reshape(3, 4) % 2 == 1})
inner = collections.OrderedDict({"module.a": ramp(2, 2), "module.b": torch.nn.Parameter(ramp(3))})
save("wrapped", {"epoch": 7, "name": "run", "state_dict": inner, "scaler": {"scale": 1.5, "none": None, "flags": [True, 2]}})
save("plain", inner)

save("bad_global", {"a": ramp(2), "args": argparse.Namespace(lr=1)})
save("bad_value", {"a": ramp(2), "epoch": 7})
save("bad_list", [ramp(2)])
save("bad_legacy", {"a": ramp(2)}, _use_new_zipfile_serialization=False)
script = io.BytesIO()
torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), script)
(OUT / f"torch{MAJOR}_bad_script.pt").write_bytes(script.getvalue())
rewrite("bad_compressed", good, method=zipfile.ZIP_DEFLATED)
rewrite("bad_missing", good, lambda member, body: None if member.endswith("data/0") else body)
rewrite("bad_short", good, lambda member, body: body[:-4] if member.endswith("data/0") else body)
rewrite("bad_order", good, lambda member, body: b"big" if member.endswith("byteorder") else body) if MAJOR != "1" else None
single = save("single", {"a": ramp(3, 5)})
# (3, 5) with strides (5, 1): K\x05K\x01\x86; a stride of 6 leaves the storage, an opcode 'i' would make an object
rewrite("bad_stride", single, lambda m, b: b.replace(b"K\x05K\x01\x86", b"K\x06K\x01\x86") if m.endswith("data.pkl") else b)
rewrite("bad_opcode", single, lambda m, b: b[:-1] + b"0." if m.endswith("data.pkl") else b)
