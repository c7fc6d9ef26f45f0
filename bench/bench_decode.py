"""Steps of PaliGemma 2 3B's decoder, ours and peers' in turns: tokens a second behind 260 tokens.

    python3 bench/bench_decode.py build/release/bench [--engines ours,openvino,...] [--batches 1,8,32] [--threads 2]
                                  [--rounds 3] [--steps 4] [--keep DIR] [--json FILE]

Engines: ours (dtype int8, keys and values in bfloat16), ours-bf16 (weights as stored), torch (transformers in bfloat16), torch-int8
(its linear layers quantised dynamically), openvino (int8 weights as its LLM models have), openvino-bf16, ort (ONNX Runtime,
MatMulNBits with 8 bits and int8 arithmetic). Random weights of full size. One engine is in memory at a time: each turn is a process that
loads, warms up and measures all batches; turns go round by round. A batch is all rows together: ours gives each of its threads
rows of its own, as a worker does, so a batch of 1 is one thread's alone, and is measured with a row for each thread besides ("1 each").
Peers have as many threads. OpenVINO's attention has no soft cap here (its fused one has none), which favours it; the head is everybody's own.
--keep has ONNX Runtime's model (3 GB), else in a temporary directory. Packages: torch, transformers (4.49.0), openvino, onnx, onnxruntime; what
cannot be had is left out with the reason. --gemma-cpp BINARY FILE adds gemma.cpp, see bench/gemma_cpp. Takes up to 12 GB.
Set OMP_WAIT_POLICY=passive if others use the machine.
"""
import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import machine

LAYERS, D, MLP, HEADS, KV, HEAD, VOCAB, PREFIX = 26, 2304, 9216, 8, 4, 256, 257152, 260
MATRICES = {"q_proj": (HEADS * HEAD, D), "k_proj": (KV * HEAD, D), "v_proj": (KV * HEAD, D), "o_proj": (D, HEADS * HEAD),
            "gate_proj": (MLP, D), "up_proj": (MLP, D), "down_proj": (D, MLP)}


def timed(step, steps):
    """Median seconds of a step; the first is not counted."""
    seconds = []
    for i in range(steps + 1):
        begin = time.monotonic()
        step(i)
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds[1:])


# PyTorch

class Torch:
    def __init__(self, args, int8=False):
        import torch
        from transformers import Gemma2Config, Gemma2ForCausalLM

        torch.set_num_threads(args.threads)
        self.torch, self.dtype = torch, torch.float32 if int8 else torch.bfloat16
        config = Gemma2Config(hidden_size=D, intermediate_size=MLP, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                              num_key_value_heads=KV, head_dim=HEAD, query_pre_attn_scalar=HEAD, sliding_window=4096,
                              vocab_size=VOCAB, final_logit_softcapping=None)
        with torch.device("meta"):
            model = Gemma2ForCausalLM(config).to(self.dtype)
        for module in model.modules():  # one after the other: float32 weights of all are never there
            for name, child in list(module.named_children()):
                if int8 and isinstance(child, torch.nn.Linear):
                    setattr(module, name, self.quantized(child))
        for module in model.modules():
            for name, value in list(module._parameters.items()):
                if value is not None and value.is_meta:
                    module._parameters[name] = torch.nn.Parameter(
                        torch.empty(value.shape, dtype=self.dtype).uniform_(-0.03, 0.03), requires_grad=False)
            if hasattr(module, "inv_freq"):
                module.inv_freq = 1 / 10000 ** (torch.arange(0, HEAD, 2, dtype=torch.float32) / HEAD)
                module.original_inv_freq = module.inv_freq
        if not int8:
            model.tie_weights()
        self.model = model.eval()

    def quantized(self, linear):
        torch = self.torch
        import torch.ao.nn.quantized.dynamic as dynamic

        real = torch.nn.Linear(linear.in_features, linear.out_features, bias=False)
        real.qconfig = torch.ao.quantization.per_channel_dynamic_qconfig
        return dynamic.Linear.from_float(real)

    def measure(self, batch, steps):
        torch = self.torch
        from transformers import DynamicCache

        with torch.inference_mode():
            cache = DynamicCache()
            for layer in range(LAYERS):
                shape = (batch, KV, PREFIX, HEAD)
                cache.update((torch.rand(shape) - 0.5).to(self.dtype), (torch.rand(shape) - 0.5).to(self.dtype), layer)

            def step(i):
                out = self.model(input_ids=torch.full((batch, 1), 500 + i), past_key_values=cache, use_cache=True,
                                 cache_position=torch.tensor([PREFIX + i]),
                                 position_ids=torch.full((batch, 1), PREFIX + i))
                out.logits[:, -1].argmax(-1)
            return timed(step, steps)


# OpenVINO

class OpenVino:
    """The graph that optimum-intel exports for a Gemma, written down: compressed int8 constants, stateful caches."""

    def __init__(self, args, precision):
        import numpy as np
        import openvino as ov
        from openvino import opset13 as ops

        self.np, self.ov, self.ops, self.rng = np, ov, ops, np.random.default_rng(7)
        self.bits8 = precision == "int8"
        model = self.build()
        config = {"INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        self.compiled = ov.Core().compile_model(model, "CPU", config)
        del model
        gc.collect()

    def weights(self, n_out, n_in):
        """A node that is float32 [out, in]."""
        np, ops = self.np, self.ops
        rows = self.rng.integers(-127, 128, (min(n_out, 4096), n_in), dtype=np.int8)
        data = np.tile(rows, (-(-n_out // len(rows)), 1))[:n_out]
        if not self.bits8:
            tensor = self.ov.Tensor((data.astype(np.float32) * (0.03 / 127)).astype(np.float16))
            return ops.convert(ops.constant(tensor, shared_memory=False), "f32")
        scale = np.full((n_out, 1), 0.03 / 127, np.float16)
        return ops.convert(ops.multiply(ops.convert(ops.constant(data), "f16"), ops.constant(scale)), "f32")

    def linear(self, x, n_out, n_in):
        return self.ops.matmul(x, self.weights(n_out, n_in), False, True)

    def constant(self, value, dtype=None):
        return self.ops.constant(self.np.array(value, dtype or self.np.int64))

    def norm(self, x):
        ops, f32 = self.ops, self.np.float32
        mean = ops.reduce_mean(ops.power(x, self.constant(2, f32)), self.constant([-1]), True)
        scaled = ops.multiply(x, ops.divide(self.constant(1, f32), ops.sqrt(ops.add(mean, self.constant(1e-6, f32)))))
        return ops.multiply(scaled, ops.constant(self.np.full((1, 1, D), 1.01, f32)))

    def heads(self, x, n):
        return self.ops.transpose(self.ops.reshape(x, self.constant([0, 0, n, HEAD]), True), self.constant([0, 2, 1, 3]))

    def turn(self, x, cos, sin):
        ops = self.ops
        half = ops.split(x, self.constant(3), 2)
        turned = ops.concat([ops.multiply(half.output(1), self.constant(-1, self.np.float32)), half.output(0)], 3)
        return ops.add(ops.multiply(x, cos), ops.multiply(turned, sin))

    def cached(self, name, new, beam):
        ops, Variable, info = self.ops, self.ov.op.util.Variable, self.ov.op.util.VariableInfo()
        info.data_shape, info.data_type, info.variable_id = self.ov.PartialShape([-1, KV, -1, HEAD]), self.ov.Type.f32, name
        variable = Variable(info)
        batch = ops.gather(ops.shape_of(beam), self.constant([0]), self.constant(0))
        empty = ops.broadcast(self.constant(0, self.np.float32),
                              ops.concat([batch, self.constant([KV, 0, HEAD])], 0))
        past = ops.gather(ops.read_value(empty, variable), beam, self.constant(0))
        both = ops.concat([past, new], 2)
        self.sinks.append(ops.assign(both, variable))
        group = self.constant(self.np.ones((1, 1, HEADS // KV, 1, 1)), self.np.float32)
        wide = ops.multiply(ops.unsqueeze(both, self.constant(2)), group)
        return ops.reshape(wide, self.constant([0, HEADS, -1, HEAD]), True)

    def build(self):
        ops, f32 = self.ops, self.np.float32
        x = given = ops.parameter([-1, 1, D], f32, name="x")
        beam = ops.parameter([-1], self.np.int32, name="beam")
        cos, sin = (ops.parameter([1, 1, 1, HEAD], f32, name=name) for name in ("cos", "sin"))
        mask = ops.parameter([-1, 1, -1, -1], f32, name="mask")
        self.sinks = []
        for i in range(LAYERS):
            normed = self.norm(x)
            q, k, v = (self.heads(self.linear(normed, *MATRICES[name]), n)
                       for name, n in (("q_proj", HEADS), ("k_proj", KV), ("v_proj", KV)))
            k = self.cached(f"k{i}", self.turn(k, cos, sin), beam)
            v = self.cached(f"v{i}", v, beam)
            mixed = ops.scaled_dot_product_attention(self.turn(q, cos, sin), k, v, mask)
            mixed = ops.reshape(ops.transpose(mixed, self.constant([0, 2, 1, 3])), self.constant([0, 0, HEADS * HEAD]), True)
            x = ops.add(x, self.norm(self.linear(mixed, *MATRICES["o_proj"])))
            normed = self.norm(x)
            gate = ops.gelu(self.linear(normed, *MATRICES["gate_proj"]), "tanh")
            inside = ops.multiply(gate, self.linear(normed, *MATRICES["up_proj"]))
            x = ops.add(x, self.norm(self.linear(inside, *MATRICES["down_proj"])))
        logits = self.linear(self.norm(x), VOCAB, D)
        best = ops.topk(logits, self.constant(1), 2, "max", "none").output(1)
        return self.ov.Model([best], self.sinks, [given, beam, cos, sin, mask])

    def measure(self, batch, steps):
        np = self.np
        request = self.compiled.create_infer_request()
        for state in request.query_state():
            state.state = self.ov.Tensor(self.rng.random((batch, KV, PREFIX, HEAD), np.float32) - 0.5)

        def step(i):
            request.infer({"x": np.full((batch, 1, D), 0.1, np.float32), "beam": np.arange(batch, dtype=np.int32),
                           "cos": np.ones((1, 1, 1, HEAD), np.float32), "sin": np.zeros((1, 1, 1, HEAD), np.float32),
                           "mask": np.zeros((batch, 1, 1, PREFIX + 1 + i), np.float32)})
        return timed(step, steps)


# ONNX Runtime

class Ort:
    CAPACITY = 384

    def __init__(self, args):
        import numpy as np
        import onnxruntime

        self.np, self.ort = np, onnxruntime
        folder = args.keep or tempfile.mkdtemp(prefix="bench_decode")
        path = os.path.join(folder, "decoder.onnx")
        if not os.path.exists(path):
            os.makedirs(folder, exist_ok=True)
            self.write(folder, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        if not args.keep:
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)

    def write(self, folder, path):
        import onnx
        from onnx import TensorProto, helper

        np, rng = self.np, self.np.random.default_rng(7)
        data = open(os.path.join(folder, "decoder.data"), "wb")
        nodes, initializers = [], []

        def initializer(name, array, kind):
            tensor = TensorProto(name=name, data_type=kind, dims=array.shape, data_location=TensorProto.EXTERNAL)
            data.seek(-(-data.tell() // 4096) * 4096)
            for key, value in (("location", "decoder.data"), ("offset", data.tell()), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            data.write(array)
            initializers.append(tensor)
            return name

        def node(op, inputs, outputs, domain="", **attributes):
            nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))
            return outputs[0]

        def quantized(name, n_out, n_in):
            blocks = n_in // 128
            rows = rng.integers(0, 256, (4096, blocks, 128), dtype=np.uint8)
            initializer(f"{name}.w", np.tile(rows, (-(-n_out // 4096), 1, 1))[:n_out], TensorProto.UINT8)
            initializer(f"{name}.s", np.full(n_out * blocks, 0.03 / 127, np.float32), TensorProto.FLOAT)

        def linear(x, name, n_out, n_in):
            quantized(name, n_out, n_in)
            return node("MatMulNBits", [x, f"{name}.w", f"{name}.s"], [name], "com.microsoft", K=n_in, N=n_out, bits=8,
                        block_size=128, accuracy_level=4)

        def norm(x, name):
            initializer(f"{name}.w", np.full(D, 1.01, np.float32), TensorProto.FLOAT)
            return node("SimplifiedLayerNormalization", [x, f"{name}.w"], [name], axis=-1, epsilon=1e-6)

        rotary = np.ones((self.CAPACITY, HEAD // 2), np.float32)
        initializer("cos", rotary, TensorProto.FLOAT)
        initializer("sin", rotary * 0, TensorProto.FLOAT)
        x = "x"
        for i in range(LAYERS):
            normed = norm(x, f"{i}.n1")
            q, k, v = (linear(normed, f"{i}.{name}", *MATRICES[name]) for name in ("q_proj", "k_proj", "v_proj"))
            mixed = node("GroupQueryAttention", [q, k, v, f"k{i}", f"v{i}", "seqlens", "total", "cos", "sin"],
                         [f"{i}.mixed", f"nk{i}", f"nv{i}"], "com.microsoft", num_heads=HEADS, kv_num_heads=KV,
                         scale=1 / 16, softcap=50.0, do_rotary=1)
            made = norm(linear(mixed, f"{i}.o", *MATRICES["o_proj"]), f"{i}.n2")
            x = node("Add", [x, made], [f"{i}.x1"])
            normed = norm(x, f"{i}.n3")
            gate = node("FastGelu", [linear(normed, f"{i}.gate", *MATRICES["gate_proj"])], [f"{i}.gelu"], "com.microsoft")
            inside = node("Mul", [gate, linear(normed, f"{i}.up", *MATRICES["up_proj"])], [f"{i}.inside"])
            made = norm(linear(inside, f"{i}.down", *MATRICES["down_proj"]), f"{i}.n4")
            x = node("Add", [x, made], [f"{i}.x2"])
        node("ArgMax", [linear(norm(x, "last"), "logits", VOCAB, D)], ["best"], axis=-1)
        data.close()
        caches = [f"{kind}{i}" for i in range(LAYERS) for kind in "kv"]
        value, F = helper.make_tensor_value_info, TensorProto.FLOAT
        graph = helper.make_graph(
            nodes, "decoder",
            [value("x", F, ["B", 1, D]), value("seqlens", TensorProto.INT32, ["B"]), value("total", TensorProto.INT32, [1])] +
            [value(name, F, ["B", KV, self.CAPACITY, HEAD]) for name in caches],
            [value("best", TensorProto.INT64, ["B", 1, 1])] +
            [value("n" + name, F, ["B", KV, self.CAPACITY, HEAD]) for name in caches], initializers)
        onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[
            helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]), path)

    def measure(self, batch, steps):
        np, ort = self.np, self.ort
        x = np.random.default_rng(1).random((batch, 1, D), np.float32)
        binding = self.session.io_binding()
        for i in range(LAYERS):
            for kind in "kv":  # one buffer, in and out
                cache = ort.OrtValue.ortvalue_from_numpy(np.full((batch, KV, self.CAPACITY, HEAD), 0.01, np.float32))
                binding.bind_ortvalue_input(f"{kind}{i}", cache)
                binding.bind_ortvalue_output(f"n{kind}{i}", cache)
        binding.bind_output("best")

        def step(i):
            binding.bind_cpu_input("x", x)
            binding.bind_cpu_input("seqlens", np.full(batch, PREFIX + i, np.int32))
            binding.bind_cpu_input("total", np.array([PREFIX + i + 1], np.int32))
            self.session.run_with_iobinding(binding)
        return timed(step, steps)


PEERS = {"torch": Torch, "torch-int8": lambda args: Torch(args, True), "openvino": lambda args: OpenVino(args, "int8"),
         "openvino-bf16": lambda args: OpenVino(args, "bf16"), "ort": Ort}
OURS = {"ours": ("int8", "bfloat16"), "ours-bf16": ("stored", "bfloat16")}


def run_peer(args):
    """A turn of a peer, in a process of its own: tokens a second of each batch."""
    engine = PEERS[args.peer](args)
    print(json.dumps({batch: batch / engine.measure(batch, args.steps) for batch in args.batches}))


def run_ours(args, name):
    form, kv = OURS[name]
    threads = args.threads
    result, reading = {}, None
    each = sorted({max(batch // threads, 1) for batch in args.batches if batch >= threads} | {min(args.batches)})
    out = json.loads(subprocess.run([os.path.join(args.folder, "bench_decode"), "1", str(threads), form,
                                     ",".join(map(str, each)), kv], check=True, stdout=subprocess.PIPE, text=True).stdout)
    reading = out["read_gb"]
    for step in out["steps"]:
        key = "1 each" if step["rows"] == threads > 1 else step["rows"]
        result[key] = step["tokens_clock"]
        if step["rows"] == threads:
            print(f"{name}: a row each: {step['weights_gb']:.1f} of {reading:.1f} GB/s, {step['of_read']:.0%}, "
                  f"a processor {out['share']:.0%} of the time")
    if 1 in args.batches and threads > 1:
        out = json.loads(subprocess.run([os.path.join(args.folder, "bench_decode"), "1", "1", form, "1", kv], check=True,
                                        stdout=subprocess.PIPE, text=True).stdout)
        result[1] = out["steps"][0]["tokens_clock"]
    return result


def turn(args, name):
    if name in OURS:
        return run_ours(args, name)
    if name == "gemma.cpp":
        binary, weights = args.gemma_cpp
        out = subprocess.run([binary, "run", weights, str(args.threads), ",".join(map(str, args.batches)), str(args.steps)],
                             check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        return {int(batch): rate for batch, rate in json.loads(out)["tokens"].items()}
    command = [sys.executable, __file__, args.folder, "--peer", name, "--threads", str(args.threads), "--steps", str(args.steps),
               "--batches", ",".join(map(str, args.batches)), *(["--keep", args.keep] if args.keep else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(f"{name}: left out: {(done.stderr.strip().splitlines() or ['no reason'])[-1][:300]}", flush=True)
        return None
    return {int(batch): rate for batch, rate in json.loads(done.stdout.splitlines()[-1]).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--engines", default="ours,torch,torch-int8,openvino,openvino-bf16,ort")
    parser.add_argument("--batches", type=lambda text: [int(word) for word in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--keep")
    parser.add_argument("--json")
    parser.add_argument("--gemma-cpp", nargs=2, metavar=("BINARY", "FILE"))
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return run_peer(args)
    print(machine.processor())
    print(machine.versions("torch", "transformers", "openvino", "onnxruntime"), flush=True)
    health = machine.Health(args.folder, args.threads)
    health.measure("before")
    rates = {name: [] for name in args.engines.split(",") + (["gemma.cpp"] if args.gemma_cpp else [])}
    for _ in range(args.rounds):
        for name in list(rates):
            rate = turn(args, name)
            if rate is None:
                del rates[name]
                continue
            rates[name].append(rate)
            print(f"{name:14} " + ", ".join(f"batch {batch}: {value:.2f}" for batch, value in rate.items()) + " tokens/s",
                  flush=True)
    health.measure("after")
    print("\nmedians of tokens/s (best)")
    for name, turns in rates.items():
        for batch in turns[0]:
            values = [t[batch] for t in turns]
            print(f"{name:14} batch {str(batch):7} {statistics.median(values):8.2f} ({max(values):.2f})")
    for batch in args.batches:
        peers = {name: statistics.median(t[batch] for t in turns) for name, turns in rates.items() if name not in OURS}
        ours = {name: statistics.median(t[batch] for t in turns) for name, turns in rates.items()
                if name in OURS and batch in turns[0]}
        if peers and ours:
            peer, mine = max(peers, key=peers.get), max(ours, key=ours.get)
            print(f"batch {batch}: {mine} to the best peer, {peer}: {ours[mine] / peers[peer]:.2f}")
    health.verdict()
    if args.json:
        with open(args.json, "a") as f:
            f.write(json.dumps({"rates": rates, "health": health.samples}) + "\n")


if __name__ == "__main__":
    main()
