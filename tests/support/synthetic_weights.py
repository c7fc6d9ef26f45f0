"""synthetic_weights.c in numpy: a tensor's values follow from its name and shape."""
import numpy as np

BLOCK = 4096  # steps of the generator that are taken at once


def _powers():
    """s[j + 1] = a s[j] + c as s[j] = mul[j] s[0] + add[j]."""
    mul, add = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    m, k = 1, 0
    for i in range(BLOCK):
        m, k = m * 1664525 % 2**32, (k * 1664525 + 1013904223) % 2**32
        mul[i], add[i] = m, k
    return mul, add


MUL, ADD = _powers()


def fill(name, shape):
    s = 2166136261
    for byte in name.encode():
        s = (s ^ byte) * 16777619 % 2**32
    n = int(np.prod(shape))
    bits = np.empty(-(-n // BLOCK) * BLOCK, np.uint32)
    for i in range(0, n, BLOCK):
        bits[i:i + BLOCK] = MUL * np.uint64(s) + ADD & np.uint64(2**32 - 1)
        s = int(bits[i + BLOCK - 1])
    u = (bits[:n] >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    if name.endswith("gamma") or "layer_scale" in name:
        v = np.float32(0.1) + np.float32(0.02) * u
    elif len(shape) >= 2:
        fan = shape[0] if name.endswith(("proj", "text_projection", "projection_layer")) else int(np.prod(shape[1:]))
        v = np.float32(np.sqrt(3.0 / fan)) * u
    elif name.endswith("running_var"):
        v = np.float32(1) + np.float32(0.5) * u
    elif name.endswith(".weight"):
        v = np.float32(1) + np.float32(0.1) * u
    else:
        v = np.float32(0.1) * u
    v = v.astype(np.float32).reshape(shape)
    if "reparam" in name and len(shape) == 4 and shape[1] == 1:
        v[:, 0, shape[2] // 2, shape[3] // 2] += 1  # a folded depthwise kernel holds the identity
    return v


def pattern(side):
    """The test image, uint8 [side, side, 3]."""
    y, x, c = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    return ((37 * x + 101 * y + 7 * x * y + 59 * c) % 256).astype(np.uint8)
