"""Same input, same bytes: 1, 2 and 4 workers, other parts, threads and queues give one output and one catalog.

Checklist: DR 23, 26, 35, 40.
"""
import pathlib
import tempfile

from harness import digest_objects, dump_catalog, make_images, reinforce, require, write_job

VARIANTS = [
    {"count": 1, "threads": 1, "part_samples": 4, "queue_items": 8},
    {"count": 2, "threads": 1, "part_samples": 7, "queue_items": 3},
    {"count": 4, "threads": 2, "part_samples": 1000, "queue_items": 64},
]

with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 61)
    results = []
    for i, workers in enumerate(VARIANTS):
        out = tmp / f"out{i}"
        done = reinforce("run", write_job(tmp / f"job{i}.yaml", tmp / "images", out, workers=workers))
        require(done.returncode == 3, f"broken samples are quarantined, exit 3; got {done.returncode}")
        results.append((digest_objects(out), dump_catalog(out)))
    for i, (objects, rows) in enumerate(results[1:], 1):
        for name in sorted(set(objects) | set(results[0][0])):
            require(objects.get(name) == results[0][0].get(name), f"variant {i}: {name} differs")
        require(rows == results[0][1], f"variant {i}: the catalog differs")
    states = [row for row in results[0][1]["samples"]]
    require(len(states) == 61, f"every sample has one terminal state: {len(states)} of 61")
    print(f"{len(VARIANTS)} variants, {len(results[0][0])} objects, same bytes")
