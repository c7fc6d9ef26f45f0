"""Captions of PaliGemma 2 3B at 224 pixels: ours, transformers in bfloat16 and gemma.cpp in turns.

    python3 bench/bench_paligemma.py build/release/bench [--rounds 3] [--threads 2] [--steps 4] [--rows 64]
                                     [--engines int8,stored,torch] [--gemma-cpp BINARY FILE]

Random weights; packages: torch, transformers (4.49.0). Seconds for one image (tower and prefill of 260 tokens) and for a caption's share
of 30 steps of ROWS rows, for ours of all threads together (a job's have 32 each), medians over rounds, on the clock and of processor time divided by the threads: all threads together, one image's
tokens for one caption. One engine is in memory at a time, in a process of its own: ours takes 6 GB, transformers 7, gemma.cpp (see
bench/gemma_cpp) 5.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

import machine

TOKENS, PREFIX = 30, 260


def make_model():
    import torch
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    config = PaliGemmaConfig(
        vision_config={"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
                       "num_attention_heads": 16, "patch_size": 14, "image_size": 224,
                       "projection_dim": 2304, "model_type": "siglip_vision_model",
                       "vision_use_head": False, "num_image_tokens": 256},
        text_config={"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216,
                     "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
                     "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 4096,
                     "vocab_size": 257216, "num_image_tokens": 256},
        image_token_index=257152, projection_dim=2304, hidden_size=2304, vocab_size=257216)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.03, 0.03)
        for module in model.modules():  # what to_empty() leaves undefined
            if hasattr(module, "position_ids"):
                module.position_ids = torch.arange(module.position_ids.shape[-1])[None]
            if hasattr(module, "inv_freq"):
                dim = module.inv_freq.shape[0] * 2
                module.inv_freq = 1 / 10000 ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    return model.eval()


def run_torch(args):
    """A turn of transformers, in a process of its own: [[image, decoding] on the clock, of processor time]."""
    import torch
    from transformers import DynamicCache

    torch.set_num_threads(args.threads)
    model = make_model()
    ids = torch.tensor([[257152] * 256 + [2, 16995, 657, 108]])
    pixels = torch.rand(1, 3, 224, 224, dtype=torch.bfloat16) * 2 - 1
    mask = torch.ones_like(ids)

    def timed(work):
        clock, processor = time.monotonic(), time.process_time()
        work()
        return time.monotonic() - clock, (time.process_time() - processor) / args.threads

    def image():
        model(input_ids=ids, pixel_values=pixels, attention_mask=mask, use_cache=True,
              past_key_values=DynamicCache(), logits_to_keep=1,
              cache_position=torch.arange(PREFIX))

    def decode():
        cache = DynamicCache()
        for layer in range(26):
            shape = (args.rows, 4, PREFIX, 256)
            cache.update(torch.rand(shape) - 0.5, torch.rand(shape) - 0.5, layer)
        for step in range(args.steps):
            model.language_model(input_ids=torch.full((args.rows, 1), 500 + step),
                                 past_key_values=cache, use_cache=True,
                                 cache_position=torch.tensor([PREFIX + step]),
                                 position_ids=torch.full((args.rows, 1), PREFIX + step))

    with torch.inference_mode():
        image()  # once before it counts
        images, decoding = timed(image), timed(decode)
    print(json.dumps([[images[i], decoding[i] / args.steps * TOKENS / args.rows] for i in range(2)]))


def run_ours(args, form):
    command = [os.path.join(args.folder, "bench_paligemma"), "1", str(args.threads), form,
               str(max(args.rows // args.threads, 1))]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [[float(number) for number in re.search(rf"{what} +image ([\d.]+) s, decoding ([\d.]+)", out).groups()]
            for what in ("clock", "processor")]


def run_gemma_cpp(args):
    """It has one clock."""
    binary, weights = args.gemma_cpp
    out = json.loads(subprocess.run([binary, "run", weights, str(args.threads), str(args.rows), str(args.steps)], check=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout)
    return [[out["tower_seconds"] + out["prefill_seconds"], TOKENS / out["tokens"][str(args.rows)]]] * 2


def turn(args, name):
    if name == "gemma.cpp":
        return run_gemma_cpp(args)
    if name != "torch":
        return run_ours(args, name)
    command = [sys.executable, __file__, args.folder, "--torch", "--threads", str(args.threads), "--steps", str(args.steps),
               "--rows", str(args.rows)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--engines", default="int8,stored,torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--gemma-cpp", nargs=2, metavar=("BINARY", "FILE"))
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.torch:
        return run_torch(args)
    print(machine.processor())
    print(machine.versions("torch", "transformers"), flush=True)
    health = machine.Health(args.folder, args.threads)
    health.measure("before")
    seconds = {name: [] for name in args.engines.split(",") + (["gemma.cpp"] if args.gemma_cpp else [])}
    for _ in range(args.rounds):
        for name, turns in seconds.items():
            turns.append(turn(args, name))
            print(f"{name:9} " + ", ".join(f"{what}: image {image:.2f} s, decoding {decoding:.2f}"
                                           for what, (image, decoding) in zip(("clock", "processor"), turns[-1])), flush=True)
    health.measure("after")
    print("\nmedian seconds of a caption, and how many of them the first takes")
    for i, what in enumerate(("clock", "processor")):
        captions = {name: statistics.median(sum(t[i]) for t in turns) for name, turns in seconds.items()}
        first = next(iter(captions.values()))
        for name, caption in captions.items():
            image, decoding = (statistics.median(t[i][k] for t in seconds[name]) for k in range(2))
            print(f"{name:9} {what:9} image {image:.2f}, decoding {decoding:.2f}, a caption {caption:.2f}, "
                  f"ratio {caption / first:.2f}")
    health.verdict()


if __name__ == "__main__":
    main()
