"""ViT-L/14's image tower in float32 and int8: this engine against open_clip on PyTorch, taking turns in one run.

    python3 bench/bench_vit.py build/release/bench/bench_vit [--threads 2] [--images 8] [--rounds 5] [--model ViT-L-14]

Needs pip packages torch and open_clip_torch in the interpreter that runs it. Weights are random and go to a temporary
folder that both engines read. Machines are noisy, so only the ratio of neighbouring rounds means something.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import open_clip
import torch


def write_snapshot(model, name, folder):
    config = open_clip.get_model_config(name)
    with open(os.path.join(folder, "open_clip_config.json"), "w") as f:
        json.dump({"model_cfg": config, "preprocess_cfg": {}}, f)
    header, offset = {}, 0
    state = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("attn_mask")}
    for key, value in state.items():
        size = value.numel() * 4
        header[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "open_clip_model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for value in state.values():
            f.write(value.numpy().tobytes())


class Engine:
    def __init__(self, binary, folder, threads, images, *form):
        self.process = subprocess.Popen([binary, folder, str(threads), str(images), *form], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="ViT-L-14")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = open_clip.create_model(args.model).eval()
    size = model.visual.image_size
    size = size[0] if isinstance(size, tuple) else size
    i = torch.arange(3 * size * size)
    image = (((37 * i + 11 * (i // size)) % 255).float() / 127.5 - 1).view(1, 3, size, size)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        write_snapshot(model, args.model, folder)
        float32 = Engine(args.binary, folder, args.threads, args.images)
        int8 = Engine(args.binary, folder, args.threads, args.images, "int8")
        ours = torch.tensor([float(x) for x in float32.ask("embed").split()])
        near = torch.tensor([float(x) for x in int8.ask("embed").split()])
        theirs = torch.nn.functional.normalize(model.encode_image(image), dim=-1)[0]
        print(f"torch {torch.__version__}, open_clip {open_clip.__version__}, {args.model}, {args.threads} threads, "
              f"{args.images} images a round; embeddings differ by {(ours - theirs).abs().max():.1e}, in int8 their cosine is "
              f"{(near * theirs).sum():.5f}")

        def torch_round(batch):
            x = image.expand(batch, -1, -1, -1).contiguous()
            start = time.perf_counter()
            for _ in range(args.images // batch):
                model.encode_image(x)
            return time.perf_counter() - start

        kinds = {
            "float32": lambda: float(float32.ask("")),
            "torch, batch of 1": lambda: torch_round(1),
            "int8": lambda: float(int8.ask("")),
            f"torch, batch of {args.images}": lambda: torch_round(args.images),
        }
        for run in kinds.values():
            run()
        times = {kind: [] for kind in kinds}
        for _ in range(args.rounds):
            for kind, run in kinds.items():
                times[kind].append(run())
        for kind, t in times.items():
            print(f"{kind:22s} {args.images / statistics.median(t):7.3f} images/s (best {args.images / min(t):.3f})")
        best = min((k for k in kinds if k.startswith("torch")), key=lambda k: statistics.median(times[k]))
        for kind in ("float32", "int8"):
            ratio = statistics.median(b / a for a, b in zip(times[kind], times[best]))
            print(f"ratio to {best}: {ratio:.2f} ({kind})")
        float32.close()
        int8.close()


if __name__ == "__main__":
    sys.exit(main())
