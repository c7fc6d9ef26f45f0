"""Make tests/golden/arrays/: embeddings as the writers of numpy and torch leave them, good and to be refused.

    python make_arrays.py OUT_DIR            # OUT_DIR = tests/golden/arrays

Needs numpy and torch. Run once with numpy 2 and a current torch and once with numpy 1.24 and torch 1.13: names begin
with the major version (numpy1_, numpy2_, torch1_, torch2_). Element i of every array is i / 4 - 1, which float16 and
bfloat16 hold exactly; of float64 arrays it is i / 3 - 1, which float32 must round. The shape is (3, 5) unless said.
"""

import collections
import gzip
import io
import pathlib
import pickle
import sys

import numpy as np
import torch

OUT = pathlib.Path(sys.argv[1])
NUMPY = f"numpy{np.__version__.split('.')[0]}_"
TORCH = f"torch{torch.__version__.split('.')[0]}_"

F4 = (np.arange(15, dtype="<f4") / 4 - 1).reshape(3, 5)
F8 = (np.arange(15, dtype="<f8") / 3 - 1).reshape(3, 5)


class Stream(io.RawIOBase):
    """Cannot seek, so sizes stand behind the members."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.written += data
        return len(data)


def npz(name, save=np.savez_compressed, **arrays):
    out = io.BytesIO()
    save(out, **arrays)
    (OUT / f"{NUMPY}{name}.npz").write_bytes(out.getvalue())


def pth(name, value, compress=False, **options):
    out = io.BytesIO()
    torch.save(value, out, **options)
    data = gzip.compress(out.getvalue(), mtime=0) if compress else out.getvalue()
    (OUT / f"{TORCH}{name}.pth{'.gz' if compress else ''}").write_bytes(data)


def pkl(name, array, protocol=5):
    (OUT / f"{NUMPY}{name}.pkl").write_bytes(pickle.dumps(array, protocol=protocol))


npz("stored", np.savez, image_emb=F4, text_emb=F4.astype("<f2"))
npz("deflated", image_emb=F4, big=F4.astype(">f4"), columns=np.asfortranarray(F4), wide=F8)
stream = Stream()
np.savez_compressed(stream, image_emb=F4)
(OUT / f"{NUMPY}streamed.npz").write_bytes(stream.written)
npz("object", bad=np.array([[1.0, None]], dtype=object))
npz("integers", good=F4, bad=np.arange(6).reshape(2, 3))
npz("one_axis", bad=F4[0])
npz("three_axes", bad=F4.reshape(3, 5, 1))

tensor = torch.tensor(F4)
pth("bfloat16", {"image_emb": tensor.bfloat16(), "text_emb": tensor.bfloat16()}, compress=True)
pth("kinds", {"float": tensor, "half": tensor.half(), "double": torch.tensor(F8)})
pth("views", {"all": tensor, "turned": tensor.T, "every_other": tensor[:, ::2], "last": tensor[2:]})
pth("ordered", collections.OrderedDict(image_emb=torch.nn.Parameter(tensor)))
pth("integers", {"bad": tensor.long()})
pth("with_numpy", {"image_emb": tensor, "bad": F4})
pth("one_axis", {"bad": tensor[0]})
pth("legacy", {"image_emb": tensor}, _use_new_zipfile_serialization=False)

for protocol in 3, 4, 5:
    pkl(f"c_{protocol}", F4, protocol)
pkl("columns", np.asfortranarray(F4))
pkl("big", F4.astype(">f4"))
pkl("half", F4.astype("<f2"))
pkl("wide", F8)
pkl("strided", np.ascontiguousarray(np.repeat(F4, 2, 1))[:, ::2])
frozen = F4.copy()
frozen.flags.writeable = False
pkl("frozen", frozen)
pkl("integers", np.arange(6).reshape(2, 3))
pkl("one_axis", F4[0])
