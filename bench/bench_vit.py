"""Image towers: this engine against PyTorch, ONNX Runtime and OpenVINO, taking turns in one run.

    python3 bench/bench_vit.py build/release/bench/bench_vit [--models ViT-L-14,...] [--engines WORD,...] [--threads 2]
                               [--images 8] [--rounds 5] [--compile-mode default] [--json FILE]

Needs pip packages torch, open_clip_torch and timm in the interpreter that runs it, and for those peers onnx, onnxscript and
onnxruntime, openvino and nncf; torch.compile needs a C++ compiler and Python's headers. A peer that does not work here is
left out with the reason. --engines picks those whose name has one of the words ("ours", "int8", "openvino bf16").

Per model, one after the other: random weights go to a temporary folder, every engine is loaded once and gets the same batch
of photograph-like images; then all take turns, round by round. Machines are noisy, so ratios are medians over rounds of
neighbours in one round. Cosines are to PyTorch's float32, mean over the images. The text tower, which nobody runs here,
has one layer, to save memory: 23 GB are enough for So400m with seven engines.
"""

import argparse
import contextlib
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

import machine
from bench_image import MEAN, STD, photograph

MODELS = "ViT-L-14,ViT-B-16,ViT-SO400M-14-SigLIP,MobileCLIP2-S2,MobileCLIP2-S4"
FORMS = ("float32", "bf16", "int8")
LAYER_SCALE = 0.3
PAUSE = 0.1  # seconds between turns, in which the last engine's threads stop to spin


def write_snapshot(model, config, folder):
    with open(os.path.join(folder, "open_clip_config.json"), "w") as f:
        json.dump({"model_cfg": config, "preprocess_cfg": {}}, f)
    state = {k: v.contiguous() for k, v in model.state_dict().items()
             if not k.endswith(("attn_mask", "num_batches_tracked"))}
    save_file(state, os.path.join(folder, "open_clip_model.safetensors"))


class Tower:
    """A model's image tower, its images, and the files that engines load it from."""

    def __init__(self, name, n_images, threads, folder):
        self.name, self.n_images, self.threads, self.folder = name, n_images, threads, folder
        config = copy.deepcopy(open_clip.get_model_config(name))
        if config is None:
            raise ValueError(f"open_clip {open_clip.__version__} does not know {name}")
        config["text_cfg"]["layers"] = 1
        model = self.build(dict(config))
        side = config["vision_cfg"]["image_size"]
        images = torch.stack([torch.from_numpy(np.array(photograph(side, side, seed))) for seed in range(n_images)])
        self.pixels = ((images.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()
        self.pixels_path = os.path.join(folder, "pixels")
        self.pixels.numpy().tofile(self.pixels_path)
        self.settle(model.visual)
        write_snapshot(model, config, folder)
        self.module = self.fold(model.visual)

    def settle(self, module):
        """Batch norms with the statistics of the images, and layer scales at which blocks count: as they are initialised,
        a FastViT hardly sees its image, and every form of it computes the same."""
        norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for name, parameter in module.named_parameters():
            if "layer_scale" in name:
                parameter.fill_(LAYER_SCALE)
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        if norms:
            with torch.no_grad():
                module(self.pixels)
        module.eval()

    @staticmethod
    def build(config):
        kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
        return kind(**config).eval().requires_grad_(False)

    @staticmethod
    def fold(module):
        """FastViT in the form meant for inference: branches and batch norms inside the convolutions."""
        if "fastvit" not in type(getattr(module, "trunk", None)).__name__.lower():
            return module
        from timm.utils.model import reparameterize_model
        return reparameterize_model(module).eval()

    def gflop(self):
        """Of one image, a multiply-add being two."""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # one operator that the counter does not know
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            self.module(self.pixels[:1])
        torch.backends.mha.set_fastpath_enabled(fast)
        return counter.get_total_flops() / 1e9

    def onnx(self):
        """The tower for a batch of all images, exported once."""
        path = os.path.join(self.folder, "tower.onnx")
        if not os.path.exists(path):
            with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
                torch.onnx.export(self.module, (self.pixels,), path, input_names=["pixels"], output_names=["embeddings"],
                                  dynamo=True)
        return path


class Ours:
    def __init__(self, form, binary):
        self.name, self.form, self.binary = f"ours {form}", form, binary

    def load(self, tower):
        self.process = subprocess.Popen(
            [self.binary, tower.folder, str(tower.threads), str(tower.n_images), self.form, tower.pixels_path],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.n_images = tower.n_images

    def ask(self, line):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(self.process.stderr.read().strip())
        return answer

    def run(self):
        self.ask("")

    def embeddings(self):
        rows = [self.ask("embed")] + [self.process.stdout.readline() for _ in range(self.n_images - 1)]
        return np.array([row.split() for row in rows], np.float32)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class PyTorch:
    def __init__(self, form):
        self.name, self.dtype = f"torch {form}", {"float32": torch.float32, "bf16": torch.bfloat16}[form]

    def load(self, tower):
        same = self.dtype == torch.float32
        self.module = tower.module if same else copy.deepcopy(tower.module).to(self.dtype)
        self.pixels = tower.pixels.to(self.dtype)

    @torch.no_grad()
    def run(self):
        return self.module(self.pixels)

    def embeddings(self):
        return self.run().float().numpy()

    def close(self):
        self.module = None


class Compiled(PyTorch):
    def __init__(self, form, mode):
        super().__init__(form)
        self.name, self.mode = f"torch compiled {form}", mode

    def load(self, tower):
        import torch._inductor.config
        torch._dynamo.reset()
        torch._inductor.config.freezing = True  # weights are constants, packed once
        super().load(tower)
        self.module = torch.compile(self.module, mode=self.mode)
        self.run()


class OnnxRuntime:
    def __init__(self, form):
        self.name, self.form = f"onnxruntime {form}", form

    def load(self, tower):
        import onnxruntime
        path = tower.onnx() if self.form == "float32" else self.quantized(tower)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = tower.threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.dynamic_block_base", "4")  # threads share work more evenly
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {"pixels": tower.pixels.numpy()}

    @staticmethod
    def quantized(tower):
        """Dynamic int8 of the products; dynamic convolutions are slower than float32 ones."""
        from onnxruntime.quantization import QuantType, quantize_dynamic
        path = os.path.join(tower.folder, "tower-int8.onnx")
        quantize_dynamic(tower.onnx(), path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                         weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True})
        return path

    def run(self):
        return self.session.run(None, self.inputs)[0]

    def embeddings(self):
        return self.run()

    def close(self):
        self.session = None


class OpenVino:
    """bf16 is its own default where there is AMX; int8 is calibrated and static, by NNCF, the rest as it chooses."""

    def __init__(self, form):
        self.name, self.form = f"openvino {form}", form

    def load(self, tower):
        import openvino
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": tower.threads, "NUM_STREAMS": 1}
        model = core.read_model(tower.onnx())
        if self.form == "int8":
            model = self.quantized(model, tower)
        else:
            settings["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bf16": "bf16"}[self.form]
        self.request = core.compile_model(model, "CPU", settings).create_infer_request()
        self.pixels = tower.pixels.numpy()

    @staticmethod
    def quantized(model, tower):
        import nncf
        with contextlib.redirect_stdout(sys.stderr):
            others = nncf.Dataset([tower.pixels.flip(3).numpy(), tower.pixels.flip(2).numpy()])
            return nncf.quantize(model, others, subset_size=2, model_type=nncf.ModelType.TRANSFORMER)

    def run(self):
        return next(iter(self.request.infer([self.pixels], share_inputs=True).values()))

    def embeddings(self):
        return self.run().copy()

    def close(self):
        self.request = None


def load_engines(engines, tower, reference):
    """Those that work, and the mean cosine of each with the reference."""
    loaded, cosines = [], {}
    for engine in engines:
        begun = time.perf_counter()
        try:
            engine.load(tower)
            emb = engine.embeddings()
        except Exception as error:  # noqa: BLE001: whatever a peer throws here is why it is left out
            reason = str(error).strip().splitlines() or [""]
            print(f"  {engine.name}: left out: {type(error).__name__}: {reason[0][:200]}", flush=True)
            continue
        emb = emb / np.linalg.norm(emb, axis=1, keepdims=True)
        cosines[engine.name] = float((emb.astype(np.float64) * reference).sum(1).mean())
        loaded.append(engine)
        print(f"  {engine.name}: loaded in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return loaded, cosines


def take_turns(engines, rounds):
    times = {engine.name: [] for engine in engines}
    for i in range(rounds + 1):
        for engine in engines:
            time.sleep(PAUSE)
            start = time.perf_counter()
            engine.run()
            if i > 0:  # the first only warms up
                times[engine.name].append(time.perf_counter() - start)
        print(f"  round {i} of {rounds}", file=sys.stderr, flush=True)
    return times


def ratio(times, ours, other):
    return statistics.median(b / a for a, b in zip(times[ours], times[other]))


def print_results(tower, times, cosines):
    ours = [name for name in times if name.startswith("ours")]
    print(f"  {'':24s}{'images/s':>9s}{'(best)':>9s}{'cosine':>10s}   times as fast: " + ", ".join(ours))
    for name, t in times.items():
        n = tower.n_images
        print(f"  {name:24s}{n / statistics.median(t):9.3f}{n / min(t):9.3f}{cosines[name]:10.6f}   " +
              "  ".join(f"{ratio(times, mine, name):6.2f}" for mine in ours))
    for form in FORMS:
        print_best(times, [n for n in ours if n.endswith(form)], [n for n in times if n not in ours and n.endswith(form)])
    print_best(times, ours, [n for n in times if n not in ours])


def print_best(times, ours, peers):
    """The fastest of ours to the fastest of the peers."""
    if ours and peers:
        mine, best = (min(names, key=lambda name: statistics.median(times[name])) for names in (ours, peers))
        print(f"  {mine} to the fastest of {len(peers)} peers, {best}: {ratio(times, mine, best):.2f}")


def share_of_tile(tower, times, form, tile_gflops):
    """What ours reaches of the same tile with operands in the first-level cache, before and after, in %."""
    gflop = tower.gflop()
    rate = gflop * tower.n_images / statistics.median(times[f"ours {form}"])
    print(f"  ours {form}: {rate:.0f} GFLOP/s ({gflop:.1f} GFLOP an image), {100 * rate / tile_gflops:.0f} % of our "
          f"{form} tile")


def bench(name, args, health):
    engines = [Ours(form, args.binary) for form in FORMS]
    engines += [PyTorch(form) for form in ("float32", "bf16")]
    engines += [Compiled(form, args.compile_mode) for form in ("float32", "bf16")]
    engines += [OnnxRuntime(form) for form in ("float32", "int8")]
    engines += [OpenVino(form) for form in FORMS]
    engines = [e for e in engines if any(word in e.name for word in args.engines.split(","))]
    print(f"\n{name}, batch of {args.images}, {args.threads} threads, {args.rounds} rounds in turns")
    before = health.measure("before")
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
        tower = Tower(name, args.images, args.threads, folder)
        with torch.no_grad():
            reference = torch.nn.functional.normalize(tower.module(tower.pixels).double(), dim=-1).numpy()
        apart = (reference @ reference.T)[np.triu_indices(args.images, 1)]
        if len(apart) > 0:
            print(f"  cosine of two different images: {apart.mean():.4f}")
        loaded, cosines = load_engines(engines, tower, reference)
        times = take_turns(loaded, args.rounds)
        print_results(tower, times, cosines)
        for engine in loaded:
            engine.close()
    after = health.measure("after")
    for form, tile in (("float32", "tile_gflops"), ("int8", "int8_tile_gops")):
        if f"ours {form}" in times:
            share_of_tile(tower, times, form, (before[tile] + after[tile]) / 2)
    good = health.verdict()
    if args.json:
        with open(args.json, "a") as f:
            f.write(json.dumps({"model": name, "images": args.images, "threads": args.threads, "seconds": times,
                                "cosine": cosines, "health": [before, after], "good": good,
                                "processor": machine.processor()}) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--engines", default="", help="words, separated by commas; default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile-mode", default="default", help="of torch.compile")
    parser.add_argument("--scratch", help="folder for weights and exported models; default: the system's")
    parser.add_argument("--json", help="append a line per model to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    print(machine.processor())
    print(machine.versions("torch", "open_clip_torch", "timm", "onnxruntime", "openvino", "nncf"))
    health = machine.Health(os.path.dirname(args.binary), args.threads)
    for name in args.models.split(","):
        bench(name, args, health)


if __name__ == "__main__":
    sys.exit(main())
