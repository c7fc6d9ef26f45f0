"""A folder goes into Kafka and comes out as a dataset: the same samples as without Kafka, each once, whatever is killed.

Run by tests/support/kafka.sh, which starts a real broker.
"""
import json
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import tempfile
import time

from harness import BINARY, make_images, reinforce, require, write_job

BROKERS = os.environ["KAFKA_BROKERS"]


def kcat(*args, text=None):
    return subprocess.run(["kcat", "-q", "-b", BROKERS, *args], check=True, capture_output=True, text=True,
                          input=text).stdout


def produce(topic, source, *options):
    return reinforce("produce", "--brokers", BROKERS, "--topic", topic, *options, source)


def by_uid(output, table):
    """What is known of a sample, without where it stood."""
    db = sqlite3.connect(f"file:{output}/catalog.sqlite?mode=ro", uri=True)
    if table == "samples":
        rows = db.execute("select uid, state, reason, width, height from samples").fetchall()
    else:
        value = {"captions": "c.caption, c.log_probability", "scores": "c.teacher, c.cosine"}[table]
        rows = db.execute(f"select s.uid, c.column_name, c.caption_index, {value} from {table} c join samples s on "
                          "s.job = c.job and s.shard = c.shard and s.sample_index = c.sample_index").fetchall()
    db.close()
    return sorted(rows, key=repr)


def query(output, sql):
    db = sqlite3.connect(f"file:{output}/catalog.sqlite?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def same_samples_as_a_folder(tmp):
    reinforce("run", write_job(tmp / "folder.yaml", tmp / "images", tmp / "folder"))
    for name, options, kafka in [("bytes", (), {}), ("keys", ("--keys",), {"objects": str(tmp / "images")}),
                                 ("protobuf", ("--schema", "protobuf"), {})]:
        produce(f"same-{name}", tmp / "images", *options)
        job = write_job(tmp / f"{name}.yaml", f"kafka:same-{name}", tmp / name,
                        kafka={"brokers": BROKERS, "follow": False, **kafka})
        done = reinforce("run", job)
        require(done.returncode == 3, f"{name}: broken samples are quarantined, exit 3; got {done.returncode}")
        for table in ("samples", "captions", "scores"):
            require(by_uid(tmp / name, table) == by_uid(tmp / "folder", table), f"{name}: {table} differ")
        require(reinforce("verify", tmp / name).returncode == 0, f"{name}: verify agrees")
        again = reinforce("run", job)
        require(" 0 taken by this run" in again.stdout, f"{name}: nothing is read twice: {again.stdout}")


def bad_records_are_dead_letters_and_seconds_are_dropped(tmp):
    good = [json.dumps({"uid": f"g{i}", "image_key": f"image-{i % 7 * 3:04d}.jpg", "text": f"text {i}"})
            for i in range(30)]
    bad = ['{"uid": "b1"', '{"uid": "b2"}', '{"image_key": "k"}', "no json at all", '{"uid": "b5", "image": "?"}']
    lines = good[:10] + bad + good + good[5:8]
    kcat("-P", "-t", "mixed", "-p", "0", "-k", "key", "-H", "trace=1", text="\n".join(lines) + "\n")
    job = write_job(tmp / "mixed.yaml", "kafka:mixed", tmp / "mixed",
                    kafka={"brokers": BROKERS, "follow": False, "dead_letters": "mixed-dead",
                           "objects": str(tmp / "images")})
    done = reinforce("run", job)
    require("records      30 taken by this run, 13 duplicates dropped, 5 refused" in done.stdout, done.stdout)
    letters = kcat("-C", "-t", "mixed-dead", "-e", "-f", "%k|%s|%h\n").splitlines()
    require(sorted(line.split("|")[1] for line in letters) == sorted(bad), "the bad records, as they came")
    for line in letters:
        key, value, headers = line.split("|", 2)
        require(key == "key" and "trace=1" in headers, "key and headers are kept")
        offset = int(re.search(r"reinforce\.offset=(\d+)", headers)[1])
        require(lines[offset] == value and "reinforce.topic=mixed," in headers, "the origin is right")
    require(query(tmp / "mixed", "select sum(n_records), sum(n_duplicates), sum(n_refused) from ingest_offsets") ==
            [(30, 13, 5)], "the catalog counts the same")
    produce("mixed", tmp / "images", "--limit", "4")
    status = json.loads(reinforce("ingest", "status", "--json", job).stdout)["partitions"]
    require(sum(p["lag"] for p in status) >= 1 and sum(p["records"] for p in status) == 30, f"status: {status}")
    require("mixed" in reinforce("ingest", "status", job).stdout, "a table, too")
    require(query(tmp / "mixed", "select count(*), count(distinct uid) from samples") == [(30, 30)], "each sample once")


def killed_again_and_again(tmp):
    rng = random.Random(5)
    n_folders, per_folder = 4, 25
    for partition in range(4):
        kcat("-P", "-t", "killed", "-p", str(partition), text="{}\n")
    job = write_job(tmp / "killed.yaml", "kafka:killed", tmp / "killed", input={"shard_samples": 8},
                    kafka={"brokers": BROKERS, "shard_age": "300ms", "dead_letters": "killed-dead",
                           "properties": "session.timeout.ms=3000\n"})
    for i in range(n_folders):
        make_images(tmp / f"part-{i}" / f"p{i}", per_folder, broken=False)
        produce("killed", tmp / f"part-{i}")
        running = subprocess.Popen([BINARY, "run", job], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1.5 + 3 * rng.random())
        running.send_signal(signal.SIGKILL)
        running.wait()
    with open(tmp / "killed.log", "w") as log:
        running = subprocess.Popen([BINARY, "run", "-v", job], stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while "partition_begun" not in (tmp / "killed.log").read_text() or query(
                tmp / "killed", "select count(*) from outputs o join samples s on s.job = o.job and s.shard = "
                "o.shard")[0][0] < n_folders * per_folder:
            require(time.monotonic() < deadline and running.poll() is None, (tmp / "killed.log").read_text()[-3000:])
            time.sleep(0.3)
        running.send_signal(signal.SIGTERM)
        require(running.wait(60) == 0, f"a stream ends when it is asked to:\n{(tmp / 'killed.log').read_text()[-2000:]}")
    uids = [uid for uid, in query(tmp / "killed", "select uid from samples")]
    require(len(uids) == len(set(uids)) == n_folders * per_folder, f"{len(uids)} samples, {len(set(uids))} uids")
    # each is told once, or again when its reader was killed before the commit
    require(len(set(kcat("-C", "-t", "killed-dead", "-e", "-f", "%h\n").splitlines())) == 4, "four dead letters")
    require(query(tmp / "killed", "select sum(n_refused) from ingest_offsets") == [(4,)], "refused once each")
    require(reinforce("verify", tmp / "killed").returncode == 0, "verify agrees")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 61)
    same_samples_as_a_folder(tmp)
    bad_records_are_dead_letters_and_seconds_are_dropped(tmp)
    killed_again_and_again(tmp)
    print("records of a folder, as bytes, keys and protobuf, gave the folder's dataset; each once, whatever was killed")
