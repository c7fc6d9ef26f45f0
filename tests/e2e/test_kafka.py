"""A folder goes into Kafka and comes out as a dataset: the same samples as without Kafka, each once, whatever is killed.

Run by tests/support/kafka.sh, which starts a real broker.
"""
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

from harness import BINARY, RULES, make_images, reinforce, require, write_job

BROKERS = os.environ["KAFKA_BROKERS"]
CONSUMER = pathlib.Path(__file__).parents[2] / "deploy/consume_events.py"


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
    reinforce("run", write_job(tmp / "folder.yaml", tmp / "images", tmp / "folder", curate=RULES))
    for name, options, kafka in [("bytes", (), {}), ("keys", ("--keys",), {"objects": str(tmp / "images")}),
                                 ("protobuf", ("--schema", "protobuf"), {})]:
        produce(f"same-{name}", tmp / "images", *options)
        events = {"topic": f"told-{name}", "format": "protobuf", "samples": True, "transactional": True}
        job = write_job(tmp / f"{name}.yaml", f"kafka:same-{name}", tmp / name,
                        kafka={"brokers": BROKERS, "follow": False, **kafka}, events=events, curate=RULES)
        done = reinforce("run", job)
        require(done.returncode == 3, f"{name}: broken samples are quarantined, exit 3; got {done.returncode}")
        for table in ("samples", "captions", "scores"):
            require(by_uid(tmp / name, table) == by_uid(tmp / "folder", table), f"{name}: {table} differ")
        require(reinforce("verify", tmp / name).returncode == 0, f"{name}: verify agrees")
        again = reinforce("run", job)
        require(" 0 taken by this run" in again.stdout, f"{name}: nothing is read twice: {again.stdout}")
        kinds = re.findall(r"reinforce\.kind=(\w+)", kcat("-C", "-t", f"told-{name}", "-e", "-f", "%h\n"))
        want = {"shard_done": query(tmp / name, "select count(*) from outputs")[0][0],
                **{kind: query(tmp / name, f"select count(*) from samples where state = {state}")[0][0]
                   for state, kind in ((1, "sample_done"), (2, "sample_quarantined"), (4, "sample_filtered"))}}
        require(dict(collections.Counter(kinds)) == want, f"{name}: {collections.Counter(kinds)} events for {want}")


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


def events_are(tmp, output, topic):
    """What a consumer that is killed on its way has kept of the topic is what the catalog says, each thing once."""
    want = {"shard_done": [(f"{output}/{key}", *counts) for key, *counts in
                           query(output, "select object_key, sha256, n_done, n_quarantined, n_filtered from outputs")],
            "sample_done": [(uid,) for uid, in query(output, "select uid from samples where state = 1")],
            "sample_quarantined": query(output, "select uid, stage, reason from samples where state = 2"),
            "sample_filtered": query(output, "select uid, stage, reason, detail from samples where state = 4")}
    n, told, table = sum(map(len, want.values())), [], tmp / "told.sqlite"
    for step in range(2):
        consumer = subprocess.Popen([sys.executable, CONSUMER, BROKERS, topic, table])
        deadline = time.monotonic() + 40
        while len(told) < (n if step else 1):
            time.sleep(0.1)
            require(time.monotonic() < deadline and consumer.poll() is None, f"{len(told)} of {n} events came")
            with contextlib.closing(sqlite3.connect(table)) as db, contextlib.suppress(sqlite3.OperationalError):
                told = [json.loads(body) for body, in db.execute("select body from events")]
        consumer.send_signal(signal.SIGTERM if step else signal.SIGKILL)
        consumer.wait()
    fields = {"shard_done": ("object", "sha256", "samples_done", "samples_quarantined", "samples_filtered"),
              "sample_done": ("uid",), "sample_quarantined": ("uid", "stage", "reason"),
              "sample_filtered": ("uid", "stage", "reason", "detail")}
    for kind, names in fields.items():
        got = [tuple(e[name] for name in names) for e in told if e["kind"] == kind]
        require(sorted(got) == sorted(want[kind]), f"{kind}: {len(got)} events, {len(want[kind])} in the catalog")
    captions = sorted((e["uid"], c["column"], c["index"], c["text"], teacher, cosine) for e in told
                      for c in e.get("captions", []) for teacher, cosine in c["scores"].items())
    stored = query(output, "select uid, c.column_name, c.caption_index, caption, teacher, cosine from samples s join "
                   "captions c using (job, shard, sample_index) join scores using (job, shard, sample_index, column_name, "
                   "caption_index) order by 1, 2, 3, 4, 5, 6")
    require(captions == stored, f"{len(captions)} captions with scores are told, {len(stored)} stored")


def killed_again_and_again(tmp):
    rng = random.Random(5)
    n_folders, per_folder = 4, 25
    for partition in range(4):
        kcat("-P", "-t", "killed", "-p", str(partition), text="{}\n")
    job = write_job(tmp / "killed.yaml", "kafka:killed", tmp / "killed", input={"shard_samples": 8},
                    kafka={"brokers": BROKERS, "shard_age": "300ms", "dead_letters": "killed-dead",
                           "latency_target": "60s", "properties": "session.timeout.ms=3000\n"},
                    events={"topic": "killed-told", "samples": True})
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
    require(json.loads(reinforce("status", "--json", job).stdout)["events_waiting"] == 0, "all events are published")
    events_are(tmp, tmp / "killed", "killed-told")
    pace = json.loads(reinforce("ingest", "status", "--json", job).stdout)
    require(pace["lease_wait"]["shards"] >= 13 and pace["waiting"]["shards"] == 0, f"leases are timed: {pace}")
    metrics = reinforce("metrics", job).stdout
    for line in ('reinforce_samples{job="e2e",state="done"} 100', 'reinforce_events_waiting{job="e2e"} 0',
                 'reinforce_stream_lag{job="e2e",topic="killed",partition="0"} 0',
                 'reinforce_stream_latency_target_seconds{job="e2e"} 60', "# TYPE reinforce_stream_lag gauge"):
        require(line in metrics.splitlines(), f"{line} is not in\n{metrics}")
    reinforce("metrics", "--output", tmp / "all.prom", "--catalog", f"sqlite:{tmp}/killed/catalog.sqlite")
    require("reinforce_shards{" in (tmp / "all.prom").read_text(), "a file for collectors")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    make_images(tmp / "images", 61)
    same_samples_as_a_folder(tmp)
    bad_records_are_dead_letters_and_seconds_are_dropped(tmp)
    killed_again_and_again(tmp)
    print("records of a folder, as bytes, keys and protobuf, gave the folder's dataset; each once, whatever was killed")
