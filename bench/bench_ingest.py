"""Small reference records per second from a topic into shards of a catalog, in turns with kcat that writes the same
records to a file: broker, reader and catalog on this machine.

    tests/support/kafka.sh with python3 bench/bench_ingest.py build/release [--records 1000000] [--rounds 3]
    tests/support/postgres.sh with tests/support/kafka.sh with python3 bench/bench_ingest.py build/release --postgres

Needs a build with its tests (for ingest_member), kcat, and about 500 bytes of disk a record.
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("build", type=pathlib.Path)
parser.add_argument("--records", type=int, default=1_000_000)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--partitions", type=int, default=12)
parser.add_argument("--shard", type=int, default=10_000, help="records of a shard")
parser.add_argument("--postgres", action="store_true", help="a catalog in Postgres instead of SQLite")
args = parser.parse_args()
BROKERS = os.environ["KAFKA_BROKERS"]
MEMBER, BINARY = args.build / "coordinator/ingest_member", args.build / "reinforce"


def produce(tmp):
    lines = tmp / "records.jsonl"
    with open(lines, "w") as out:
        for i in range(args.records):
            out.write(f'{{"uid": "sample-{i:09d}", "image_key": "2026/11/25/{i % 1000:03d}/sample-{i:09d}.jpg", '
                      f'"text": "a photograph of subject number {i}", "license": "cc-by-4.0"}}\n')
    subprocess.run([MEMBER, "--create", BROKERS, "bench", str(args.partitions)], check=True)
    begun = time.monotonic()
    subprocess.run([BINARY, "produce", "--brokers", BROKERS, "--topic", "bench", "--keys", lines], check=True,
                   stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    print(f"produced {args.records} records of {lines.stat().st_size / args.records:.0f} bytes: "
          f"{args.records / seconds:.0f} records/s")


def ours(tmp, number):
    out = tmp / f"ours-{number}"
    url = f"sqlite:{tmp}/ours-{number}.sqlite"
    if args.postgres:
        subprocess.run(["createdb", f"bench{number}"], check=True)
        url = f"{os.environ['POSTGRES_URL']}/bench{number}"
        subprocess.run([BINARY, "db", "migrate", "--catalog", url], check=True, stdout=subprocess.DEVNULL)
    job = tmp / "job.yaml"
    job.write_text(json.dumps({
        "name": f"bench-{number}", "input": {"url": "kafka:bench", "shard_samples": args.shard},
        "output": {"url": str(out)}, "catalog": {"url": url}, "teachers": [{"model": "none"}],
        "kafka": {"brokers": BROKERS, "follow": False, "shard_age": "60s"}}))
    begun = time.monotonic()
    done = subprocess.run([MEMBER, job], check=True, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    counts = json.loads(done.stdout)
    assert counts["records"] == args.records, counts
    return args.records / seconds


def kcats(tmp):
    path = tmp / "kcat.jsonl"
    begun = time.monotonic()
    with open(path, "w") as out:
        subprocess.run(["kcat", "-q", "-b", BROKERS, "-C", "-t", "bench", "-o", "beginning", "-e"], check=True, stdout=out)
    seconds = time.monotonic() - begun
    path.unlink()
    return args.records / seconds


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    produce(tmp)
    for number in range(args.rounds):
        mine, theirs = ours(tmp, number), kcats(tmp)
        print(f"round {number}: ingest {mine:.0f} records/s, kcat to a file {theirs:.0f} records/s, ratio {mine / theirs:.2f}",
              flush=True)
