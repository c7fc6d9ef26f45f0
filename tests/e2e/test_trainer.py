"""A dataset the program has written is loaded as the published trainers load it, and every view is replayed.

Both containers (npz and pth.gz) and both layouts. Checklist: DR 1, 2, 5, 6, 10, 12, 20.
"""
import pathlib
import subprocess
import sys
import tempfile

from harness import BINARY, ROOT, make_images, reinforce, require, write_job

LOADER = ROOT / "tests/integration/load_with_trainer.py"

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 25)
    for name, output in [("npz", {}), ("pth", {"embedding_dtype": "bfloat16"}), ("legacy", {"layout": "legacy"})]:
        out = tmp / name
        reinforce("run", write_job(tmp / f"{name}.yaml", tmp / "images", out, output={"url": str(out), **output}))
        verified = reinforce("verify", out, check=(0,))
        require("agree" in verified.stdout, f"verify agrees: {verified.stdout}")
        done = subprocess.run([sys.executable, str(LOADER), str(out), "--reinforce", BINARY, "--samples", "6"],
                              capture_output=True, text=True)
        require(done.returncode == 0, f"{name}: the trainer's loader: {done.stdout}\n{done.stderr}")
        print(f"{name}: {done.stdout.strip().splitlines()[-1]}")

    shard = next((tmp / "npz").glob("*.tar"))
    body = bytearray(shard.read_bytes())
    body[len(body) // 2] ^= 1
    shard.write_bytes(body)
    broken = reinforce("verify", tmp / "npz", check=(1,))
    require("SHA-256" in broken.stdout, f"verify names the object that changed: {broken.stdout}")
