"""What a benchmark says of the machine it ran on, and how fast that was at the time."""

import importlib.metadata
import json
import os
import subprocess

PROMISING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")


def processor():
    """Name, what it has of PROMISING, and how many of them."""
    fields = {}
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = [flag for flag in PROMISING if flag in fields.get("flags", "").split()]
    name = f"{fields.get('model name', 'unknown')} (family {fields.get('cpu family')}, model {fields.get('model')})"
    return f"{name}, {os.cpu_count()} processors, {' '.join(flags)}"


def versions(*packages):
    def version(package):
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "missing"
    # libgomp's threads spin at every join of PyTorch's, which on a machine that others use takes ten times as long
    return ", ".join([*(f"{package} {version(package)}" for package in packages),
                      f"OMP_WAIT_POLICY {os.environ.get('OMP_WAIT_POLICY', 'not set')}"])


class Health:
    """The gate: what bench_health measures, before and after. A rate far below another of the same run, or a processor
    that was shared, makes a run doubtful; docs give what a quiet machine of a kind shows."""

    FLOOR, SHARE = 0.7, 0.9
    UNITS = {"float32_gflops": "GFLOP/s of FMA", "tile_gflops": "in our float32 tile", "int8_gops": "GOP/s of int8",
             "int8_tile_gops": "in our int8 tile", "read_gb": "GB/s read"}

    def __init__(self, folder, threads):
        self.command = [os.path.join(folder, "bench_health"), str(threads)]
        self.samples = []

    def measure(self, when):
        sample = json.loads(subprocess.run(self.command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        self.samples.append(sample)
        print(f"health {when}: " + ", ".join(f"{sample[key]:.0f} {unit}" for key, unit in self.UNITS.items()) +
              f"; the threads had a processor {sample['share']:.0%} of the time", flush=True)
        return sample

    def is_good(self, samples=None):
        """Of these samples (default: the last two) against the best of the run."""
        samples = samples or self.samples[-2:]
        return all(s["share"] >= self.SHARE and all(s[key] >= self.FLOOR * max(t[key] for t in self.samples)
                                                    for key in self.UNITS) for s in samples)

    def verdict(self):
        good = self.is_good()
        print("health gate: " + ("passed" if good else "NOT passed, the figures are doubtful: a rate is below "
                                 f"{self.FLOOR:.0%} of this run's best, or others took more than {1 - self.SHARE:.0%}"))
        return good
