"""Selection of a training batch (JEST, learnability, sigmoid, float32): this engine against the same algorithm in PyTorch, with
the whole B x B matrix, taking turns in one run.

    python3 bench/bench_select.py build/release/bench/bench_select [--size 65536] [--keep 32768] [--chunks 16] [--dim 768]
                                  [--threads 2] [--rounds 3] [--torch-size 16384]

Needs pip packages torch and numpy in the interpreter that runs it. PyTorch holds one matrix of scores and one of logits, 8
bytes a pair: --torch-size says where its memory ends (keep shrinks alike), and is compared with ours at that size; ours is then
timed at the full size alone. Both get the same rows and the same noise; how many of the selected examples both have is printed,
and what our process took at most. --check-tiles also compares our indices for other tiles and thread counts at full size.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F

LEARNER, REFERENCE = (60.0, -14.0), (110.0, -16.6)


class Engine:
    def __init__(self, args, size, keep, threads, tile=0, path=None):
        words = [size, keep, args.chunks, args.dim, threads, tile] + ([path] if path else [])
        self.process = subprocess.Popen([args.binary, *map(str, words)], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, line=""):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("bench_select ended")
        return answer

    def numbers(self, line, dtype):
        return np.array(self.ask(line).split(), dtype)

    def peak_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:  # not rusage: that begins with the parent's
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def scores(rows):
    """s_ij = softplus(x) of the learner - of the reference, positive pairs on the diagonal; one matrix and one more."""
    total = None
    for model, (scale, bias) in enumerate((LEARNER, REFERENCE)):
        x = torch.mm(rows[2 * model], rows[2 * model + 1].T).mul_(scale).add_(bias)
        own = F.softplus(-x.diagonal())
        loss = F.softplus(x)
        del x
        loss.diagonal().copy_(own)
        total = loss if total is None else total.sub_(loss)
    return total


def select(rows, noise, keep, chunks):
    s = scores(rows)
    gain = s.diagonal().clone()
    order = []
    for k in range(chunks):
        chosen = (gain + noise[k]).topk(keep // chunks).indices
        order.append(chosen)
        if k + 1 < chunks:
            gain += s[:, chosen].sum(1) + s[chosen].sum(0)
            gain[chosen] = -torch.inf
    return torch.cat(order)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--size", type=int, default=65536)
    parser.add_argument("--keep", type=int, default=32768)
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-size", type=int, default=16384)
    parser.add_argument("--check-tiles", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    size = min(args.torch_size, args.size)
    keep = args.keep * size // args.size
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = os.path.join(folder, "pairs")
        ours = Engine(args, size, keep, args.threads, path=path)
        ours.ask()
        rows = torch.from_numpy(np.fromfile(path, np.float32).reshape(4, size, args.dim))
        noise = torch.from_numpy(np.stack([ours.numbers(f"noise {k}", np.float32) for k in range(args.chunks)]))
        print(f"torch {torch.__version__}, {args.threads} threads, D {args.dim}, {args.chunks} chunks; {keep} of {size}")
        times = []
        for _ in range(args.rounds):
            mine = float(ours.ask())
            start = time.perf_counter()
            theirs = select(rows, noise, keep, args.chunks)
            times.append((mine, time.perf_counter() - start))
            print(f"ours {times[-1][0]:8.3f} s, PyTorch {times[-1][1]:8.3f} s, ratio {times[-1][1] / times[-1][0]:.2f}", flush=True)
        both = len(set(ours.numbers("say", int)) & set(theirs.tolist()))
        print(f"medians: ours {statistics.median(a for a, _ in times):.3f} s, PyTorch {statistics.median(b for _, b in times):.3f} s, "
              f"ratio {statistics.median(b / a for a, b in times):.2f}; {both / keep:.2%} of the batch in common")
        ours.close()
    del rows, noise, theirs
    if size < args.size:
        ours = Engine(args, args.size, args.keep, args.threads)
        first = float(ours.ask())
        print(f"{args.keep} of {args.size}: ours {first:.1f} s, process {ours.peak_bytes() / 2**30:.2f} GiB")
        index = ours.numbers("say", int)
        ours.close()
        for threads, tile in ((1, 64), (3, 1024)) if args.check_tiles else ():
            other = Engine(args, args.size, args.keep, threads, tile)
            other.ask()
            print(f"{threads} threads, tiles of {tile}: {'the same' if (other.numbers('say', int) == index).all() else 'DIFFERENT'}")
            other.close()


if __name__ == "__main__":
    sys.exit(main())
