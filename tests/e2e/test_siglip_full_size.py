"""SigLIP 2 So400m/14 at full size on random weights: 4.5 GB, an image and a text against a plain torch twin, and resident
memory within a tenth of what `model info` says."""
import json
import pathlib
import resource
import shutil
import struct
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from harness import MODELS, reinforce, require

D, MLP, LAYERS, HEADS, P, SIDE, VOCAB, CONTEXT = 1152, 4304, 27, 16, 14, 224, 256000, 64
torch.set_grad_enabled(False)


def shapes():
    yield "logit_scale", (1,)
    yield "logit_bias", (1,)
    yield "vision_model.embeddings.patch_embedding.weight", (D, 3, P, P)
    yield "vision_model.embeddings.patch_embedding.bias", (D,)
    yield "vision_model.embeddings.position_embedding.weight", ((SIDE // P) ** 2, D)
    yield "text_model.embeddings.token_embedding.weight", (VOCAB, D)
    yield "text_model.embeddings.position_embedding.weight", (CONTEXT, D)

    def linear(name, out, *size):
        yield name + ".weight", (out, *size)
        yield name + ".bias", (out,)

    for tower in ("vision_model", "text_model"):
        for i in range(LAYERS):
            layer = f"{tower}.encoder.layers.{i}."
            for norm in ("layer_norm1", "layer_norm2"):
                yield from linear(layer + norm, D)
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                yield from linear(layer + "self_attn." + projection, D, D)
            yield from linear(layer + "mlp.fc1", MLP, D)
            yield from linear(layer + "mlp.fc2", D, MLP)
    head = "vision_model.head."
    yield head + "probe", (1, 1, D)
    yield head + "attention.in_proj_weight", (3 * D, D)
    yield head + "attention.in_proj_bias", (3 * D,)
    yield from linear(head + "attention.out_proj", D, D)
    yield from linear(head + "layernorm", D)
    yield from linear(head + "mlp.fc1", MLP, D)
    yield from linear(head + "mlp.fc2", D, MLP)
    yield from linear("vision_model.post_layernorm", D)
    yield from linear("text_model.final_layer_norm", D)
    yield from linear("text_model.head", D, D)


def write_weights(path):
    """Views of one random block, each from another place, scaled as an initialisation would."""
    header, at = {}, 0
    for name, shape in shapes():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = (np.random.default_rng(5).random(1 << 22, np.float32) * 2 - 1)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for i, (name, shape) in enumerate(shapes()):
            n = int(np.prod(shape))
            scale = 0.1 if len(shape) == 1 else (3 / int(np.prod(shape[1:]))) ** 0.5
            shift = 1 if len(shape) == 1 and name.endswith("weight") else 0
            start = i * 7919 % len(block)
            part = np.roll(block, -start)
            if name.startswith("logit"):
                part = np.full_like(block, -15.9 if name.endswith("bias") else 4.7)
                scale, shift = 1, 0
            part = part * np.float32(scale) + np.float32(shift)
            while n > 0:
                f.write(part[:n].tobytes())
                n -= min(n, len(part))


class Twin:
    def __init__(self, path):
        with open(path, "rb") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            self.header = json.loads(f.read(size))
        self.start = 8 + size
        self.bytes = np.memmap(path, np.uint8, "r")

    def __getitem__(self, name):
        info = self.header[name]
        a, b = info["data_offsets"]
        return torch.from_numpy(np.array(self.bytes[self.start + a:self.start + b]).view(np.float32)).reshape(info["shape"])

    def linear(self, x, name):
        return F.linear(x, self[name + ".weight"], self[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, (D,), self[name + ".weight"], self[name + ".bias"], 1e-6)

    def mlp(self, x, name):
        u = self.linear(x, name + ".fc1")
        return self.linear(0.5 * u * (1 + torch.tanh(0.7978845608028654 * (u + 0.044715 * u ** 3))), name + ".fc2")

    @staticmethod
    def attend(q, k, v):
        q, k, v = (t.reshape(len(t), HEADS, -1).transpose(0, 1) for t in (q, k, v))
        return (torch.softmax(q @ k.transpose(1, 2) / q.shape[2] ** 0.5, -1) @ v).transpose(0, 1).reshape(-1, D)

    def encode(self, x, tower):
        for i in range(LAYERS):
            layer = f"{tower}.encoder.layers.{i}."
            y = self.norm(x, layer + "layer_norm1")
            y = self.attend(*(self.linear(y, f"{layer}self_attn.{p}_proj") for p in "qkv"))
            x = x + self.linear(y, layer + "self_attn.out_proj")
            x = x + self.mlp(self.norm(x, layer + "layer_norm2"), layer + "mlp")
        return x

    def image(self, pixels):
        at, head = "vision_model.embeddings.", "vision_model.head."
        x = F.conv2d(pixels[None], self[at + "patch_embedding.weight"], self[at + "patch_embedding.bias"], stride=P)[0]
        x = x.flatten(1).T + self[at + "position_embedding.weight"]
        x = self.norm(self.encode(x, "vision_model"), "vision_model.post_layernorm")
        w, b = self[head + "attention.in_proj_weight"].chunk(3), self[head + "attention.in_proj_bias"].chunk(3)
        z = self.attend(F.linear(self[head + "probe"][0], w[0], b[0]), F.linear(x, w[1], b[1]), F.linear(x, w[2], b[2]))
        z = self.linear(z, head + "attention.out_proj")
        return F.normalize(z + self.mlp(self.norm(z, head + "layernorm"), head + "mlp"), dim=-1)[0]

    def text(self, ids):
        at = "text_model.embeddings."
        x = self[at + "token_embedding.weight"][torch.tensor(ids)] + self[at + "position_embedding.weight"]
        x = self.norm(self.encode(x, "text_model")[-1:], "text_model.final_layer_norm")
        return F.normalize(self.linear(x, "text_model.head"), dim=-1)[0]


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    tower = {"hidden_size": D, "intermediate_size": MLP, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    (tmp / "config.json").write_text(json.dumps({
        "model_type": "siglip", "architectures": ["SiglipModel"], "text_config": {**tower, "vocab_size": VOCAB},
        "vision_config": {**tower, "patch_size": P, "image_size": SIDE}}))
    (tmp / "preprocessor_config.json").write_text(json.dumps({"size": {"height": SIDE, "width": SIDE}, "resample": 2}))
    shutil.copy(MODELS / "siglip_hf/tokenizer.json", tmp / "tokenizer.json")
    write_weights(tmp / "model.safetensors")

    pixels = np.random.default_rng(9).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp / "image.png")
    (tmp / "text").write_text("\n")  # one empty text: an end and pads
    reinforce("embed", "--model", tmp, "--images", tmp / "image.png", "--texts-file", tmp / "text", "--out", tmp / "e.npz")
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    info = json.loads(reinforce("model", "info", "--json", tmp).stdout)
    require(info["parameters"] == 1135463602, f"parameters: {info['parameters']}")
    said = info["memory_bytes"]["float32"]
    require(used < 1.1 * said, f"memory: {used / 1e9:.2f} GB resident, {said / 1e9:.2f} GB said")

    done, twin = np.load(tmp / "e.npz"), Twin(tmp / "model.safetensors")
    want = twin.image(torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1).numpy()
    off = abs(done["image_emb"][0] - want).max()
    require(off < 1e-4, f"the image is off by {off}")
    want = twin.text([1] + [0] * (CONTEXT - 1)).numpy()
    off_text = abs(done["text_emb"][0] - want).max()
    require(off_text < 1e-4, f"the text is off by {off_text}")
    print(f"image off by {off:.1e}, text by {off_text:.1e}; {used / 1e9:.2f} GB resident, {said / 1e9:.2f} GB said")
