"""Same input, same bytes: 1, 2 and 4 workers, other parts, threads and queues give one output and one catalog.

Checklist: DR 23, 26, 35, 40.
"""
import pathlib
import tempfile

from harness import RULES, digest_objects, dump_catalog, make_images, reinforce, require, write_job

VARIANTS = [
    {"count": 1, "threads": 1, "part_samples": 4, "queue_items": 8},
    {"count": 2, "threads": 1, "part_samples": 7, "queue_items": 3},
    {"count": 4, "threads": 2, "part_samples": 1000, "queue_items": 64},
]



def share_a_shard(tmp):
    """Idle workers get a part of the only shard: the same bytes, the same rows."""
    make_images(tmp / "many", 800)
    results = []
    for count in (1, 3):
        out = tmp / f"shared{count}"
        job = write_job(tmp / f"shared{count}.yaml", tmp / "many", out,
                        input={"url": str(tmp / "many"), "shard_samples": 1000},
                        workers={"count": count, "lease": "1s"})
        log = reinforce("run", job, "-v").stderr
        require((" shard_split " in log) == (count > 1), f"{count} workers, and the shard was split or not:\n{log}")
        results.append((digest_objects(out), dump_catalog(out)))
    require(results[0][0] == results[1][0], "a shared shard has other objects")
    require(results[0][1] == results[1][1], "a shared shard has other rows")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 61)
    results = []
    for i, workers in enumerate(VARIANTS):
        out = tmp / f"out{i}"
        done = reinforce("run", write_job(tmp / f"job{i}.yaml", tmp / "images", out, workers=workers, curate=RULES))
        require(done.returncode == 3, f"broken samples are quarantined, exit 3; got {done.returncode}")
        results.append((digest_objects(out), dump_catalog(out)))
    for i, (objects, rows) in enumerate(results[1:], 1):
        for name in sorted(set(objects) | set(results[0][0])):
            require(objects.get(name) == results[0][0].get(name), f"variant {i}: {name} differs")
        require(rows == results[0][1], f"variant {i}: the catalog differs")
    states = [row for row in results[0][1]["samples"]]
    require(len(states) == 61, f"every sample has one terminal state: {len(states)} of 61")
    share_a_shard(tmp)
    print(f"{len(VARIANTS)} variants, {len(results[0][0])} objects, same bytes")
