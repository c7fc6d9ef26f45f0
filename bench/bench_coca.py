"""CoCa ViT-L/14 captions, float32, bf16 and int8: this engine against open_clip's generate() on PyTorch in float32 and
bfloat16, taking turns in one run.

    python3 bench/bench_coca.py build/release/bench/bench_coca [--threads 2] [--images 8] [--captions 5] [--rounds 3]
                                [--model coca_ViT-L-14] [--torch-images 4] [--peers float32,bfloat16] [--keep DIR]

Needs pip packages torch, open_clip_torch 2.31.0 and transformers 4.49.0 in the interpreter that runs it. Weights are
random and go to a temporary folder (--keep DIR: to DIR, and are taken from there the next time). Nucleus 0.9, rows of 30
tokens, several captions of each image, as the DFNDR recipe draws them: open_clip's generate() is called once per caption,
which encodes the images anew each time; one such call is timed, as all of them cost the same. Machines are noisy, so only
the ratio of neighbouring rounds means something.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

import machine


def tokenizer_json():
    """open_clip's own vocabulary as the tokenizer.json that CoCa snapshots carry."""
    simple = SimpleTokenizer()
    vocab = dict(simple.encoder)
    start, end = "<|startoftext|>", "<|endoftext|>"
    for ours, theirs in ((start, "<start_of_text>"), (end, "<end_of_text>")):
        vocab[ours] = vocab.pop(theirs)
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocab[t], "content": t, **special} for t in (start, end)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": split}, "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "post_processor": {"type": "RobertaProcessing", "sep": [end, vocab[end]], "cls": [start, vocab[start]],
                           "trim_offsets": False, "add_prefix_space": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": end, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": [f"{a} {b}" for a, b in simple.bpe_ranks]},
    }


def write_snapshot(model, name, folder):
    with open(os.path.join(folder, "open_clip_config.json"), "w") as f:
        json.dump({"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}, f)
    with open(os.path.join(folder, "tokenizer.json"), "w") as f:
        json.dump(tokenizer_json(), f, ensure_ascii=False)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()},
              os.path.join(folder, "open_clip_model.safetensors"))


class Engine:
    def __init__(self, form, folder, args):
        self.name = "ours " + form
        self.captions = args.threads * args.images * args.captions
        self.process = subprocess.Popen([args.binary, folder, str(args.threads), str(args.images), str(args.captions),
                                         "top_p", "30", form],
                                        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def rate(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.captions / float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Generate:
    """open_clip's: one caption of each of a few images."""

    def __init__(self, model, dtype, args):
        self.name = "generate() " + str(dtype).removeprefix("torch.")
        self.model = copy.deepcopy(model).to(dtype)
        self.images = torch.randn(args.torch_images, 3, 224, 224, dtype=dtype)

    def rate(self):
        start = time.perf_counter()
        rows = self.model.generate(self.images, generation_type="top_p", top_p=0.9, seq_len=30, fixed_output_length=True)
        assert rows.shape == (len(self.images), 30)
        return len(self.images) / (time.perf_counter() - start)

    def close(self):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=8, help="images of one call of ours")
    parser.add_argument("--captions", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="coca_ViT-L-14")
    parser.add_argument("--torch-images", type=int, default=4, help="images of one generate()")
    parser.add_argument("--peers", default="float32,bfloat16", help="dtypes of generate(); bfloat16 takes minutes a call")
    parser.add_argument("--keep")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = open_clip.create_model(args.model).eval()
    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        folder = args.keep or temporary
        if not os.path.exists(os.path.join(folder, "open_clip_model.safetensors")):
            os.makedirs(folder, exist_ok=True)
            write_snapshot(model, args.model, folder)
        ours = [Engine(form, folder, args) for form in ("float32", "bf16", "int8")]
        theirs = [Generate(model, dtype, args) for dtype in map(torch.__dict__.get, args.peers.split(","))]
        print(machine.processor())
        print(machine.versions("torch", "open_clip_torch", "transformers"))
        print(f"{args.model}, {args.threads} threads; ours: "
              f"{args.captions} captions of {args.images} images a call; generate(): {args.torch_images} images")
        rates = {e.name: [] for e in ours + theirs}
        for e in ours:
            e.rate()
        health = machine.Health(os.path.dirname(args.binary), args.threads)
        health.measure("before")
        for _ in range(args.rounds):
            for e in ours + theirs:
                rates[e.name].append(e.rate())
            print("captions/s: " + ", ".join(f"{name} {r[-1]:.3f}" for name, r in rates.items()), flush=True)
        health.measure("after")
        health.verdict()
        for mine in ours:
            for peer in theirs:
                ratio = statistics.median(a / b for a, b in zip(rates[mine.name], rates[peer.name]))
                print(f"{mine.name} to {peer.name}: median ratio {ratio:.1f}")
        for e in ours + theirs:
            e.close()


if __name__ == "__main__":
    sys.exit(main())
