"""Three coordinators gather 100,000 records of 12 partitions, and workers work on them, while coordinators, workers and the
broker are killed: every good record is exactly one sample of the catalog, and every bad one a dead letter.

    test_ingest_kills.py [SEED [RECORDS]]

Run by tests/support/postgres.sh and tests/support/kafka.sh, which start the servers. INGEST_MEMBER is the program.
"""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from fleet import WORKERS, Fleet, wait_for
from harness import BINARY, make_images, psql, reinforce, require, write_job

BROKERS, MEMBER = os.environ["KAFKA_BROKERS"], os.environ["INGEST_MEMBER"]
SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 1
N_RECORDS = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
N_PARTITIONS, N_BAD, N_AGAIN = 12, 60, 500
rng = random.Random(SEED)


def kcat(*args, text=None):
    return subprocess.run(["kcat", "-q", "-b", BROKERS, *args], check=True, capture_output=True, text=True,
                          input=text).stdout


def broker(verb):
    subprocess.run([os.environ["KAFKA_SH"], verb, os.environ["KAFKA_DIR"]], check=True)


def produce(tmp, first, last):
    path = tmp / f"{first}.jsonl"
    path.write_text("".join(f'{{"uid": "u{i}", "image": "cGl4ZWxz", "text": "text {i}"}}\n'
                            for i in range(first, last)))
    return subprocess.Popen([BINARY, "produce", "--brokers", BROKERS, "--topic", "chaos", path],
                            stdout=subprocess.DEVNULL)


def told(topic):
    """How many events are in a topic, and how many ids they have."""
    ids = re.findall(r"reinforce\.id=(\w+)", kcat("-C", "-t", topic, "-e", "-f", "%h\n"))
    return len(ids), len(set(ids))


def a_fleet_is_killed(tmp, fleet):
    """Runs until the catalog has all samples; returns how many processes and brokers were killed."""
    n_kills = n_broker_kills = 0
    starts = [lambda at=at: fleet.coordinator(at) for at in (0, 1, 0)] + [fleet.worker, fleet.worker]
    processes = [start() for start in starts]
    wait_for("coordinators that stand by read, too",
             lambda: all("partition_begun" in p.log.read_text() for p in processes[:3]))
    producer = produce(tmp, N_RECORDS // 2, N_RECORDS)
    deadline = time.monotonic() + 300
    while psql("chaos", "select count(*) from reinforce.samples").strip() != str(N_RECORDS):
        tails = "\n".join(p.log.read_text()[-1500:] for p in processes)
        require(time.monotonic() < deadline, f"not all samples were made:\n{tails}")
        for process in processes:
            require(process.poll() is None, f"{process.args[1]} gave up:\n{tails}")
        time.sleep(0.3 + rng.random())
        if n_kills < 14 and rng.random() < 0.6:
            victim = rng.randrange(len(processes))
            processes[victim].send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            processes[victim].wait()
            n_kills += 1
            processes[victim] = starts[victim]()
        if n_broker_kills < 3 and rng.random() < 0.15:
            broker("kill")
            time.sleep(rng.random())
            broker("start")
            n_broker_kills += 1
    require(producer.wait() == 0, "everything was produced")
    return n_kills, n_broker_kills


def check_catalog(tmp):
    keys = psql("chaos", "select input_key from reinforce.shards order by shard").split()
    seen = {}
    for key in keys:
        for line in (tmp / "out" / key).read_text().splitlines():
            uid = json.loads(line)["uid"]
            require(uid not in seen, f"{uid} is in {seen.get(uid)} and in {key}")
            seen[uid] = key
    missing = [i for i in range(N_RECORDS) if f"u{i}" not in seen]
    require(len(seen) == N_RECORDS and not missing, f"{len(seen)} records in the catalog; missing {missing[:5]}")
    samples = psql("chaos", "select count(*), count(distinct uid) from reinforce.samples").strip()
    require(samples == f"{N_RECORDS}|{N_RECORDS}", f"samples, and different ones: {samples}")
    return len(keys)


def what_retention_took_is_told(tmp):
    """Ten records are deleted before they are read: reading goes on behind them, and says so."""
    subprocess.run([MEMBER, "--create", BROKERS, "gap", "1"], check=True)
    job = write_job(tmp / "gap.yaml", "kafka:gap", tmp / "gap-out", catalog={"url": f"sqlite:{tmp}/gap.sqlite"},
                    kafka={"brokers": BROKERS, "follow": False})
    for first, want in [(0, {"records": 20, "gone": 0}), (20, {"records": 10, "gone": 10})]:
        kcat("-P", "-t", "gap", "-p", "0",
             text="".join(f'{{"uid": "g{i}", "image_key": "k"}}\n' for i in range(first, first + 20)))
        if first > 0:
            subprocess.run([MEMBER, "--delete-before", BROKERS, "gap", "30"], check=True)
        done = subprocess.run([MEMBER, job], capture_output=True, text=True)
        require(done.returncode == 0, done.stderr)
        counts = json.loads(done.stdout)
        require({key: counts[key] for key in want} == want, f"{counts} where {want} is to be:\n{done.stderr}")
        require(("records_gone topic=gap partition=0 from=20 to=30" in done.stderr) == (first > 0), done.stderr)


def runs_share_a_job(tmp):
    """Three runs that start at once on one catalog are members of one group, and their workers share the shards."""
    make_images(tmp / "images", 90, broken=False)
    subprocess.run(["createdb", "shared"], check=True)
    url = f"{os.environ['POSTGRES_URL']}/shared"
    reinforce("db", "migrate", "--catalog", url)
    job = write_job(tmp / "shared.yaml", "kafka:shared", tmp / "shared", catalog={"url": url},
                    input={"shard_samples": 10}, kafka={"brokers": BROKERS, "shard_age": "300ms"},
                    events={"topic": "shared-told", "samples": True})
    subprocess.run([MEMBER, "--create", BROKERS, "shared", "6"], check=True)
    logs = [open(tmp / f"shared-{i}.log", "w") for i in range(3)]
    runs = [subprocess.Popen([BINARY, "run", "-v", job], stdout=log, stderr=log) for log in logs]
    for limit in ("50", "90"):
        reinforce("produce", "--brokers", BROKERS, "--topic", "shared", "--limit", limit, tmp / "images")
        time.sleep(3)
    deadline = time.monotonic() + 60
    while psql("shared", "select coalesce(sum(n_done), 0) from reinforce.outputs").strip() != "90":
        require(time.monotonic() < deadline, "not all samples were made")
        time.sleep(0.3)
    for run in runs:
        run.send_signal(signal.SIGTERM)
    codes = [run.wait(60) for run in runs]
    texts = [(tmp / f"shared-{i}.log").read_text() for i in range(3)]
    require(codes == [0, 0, 0], f"{codes}\n" + "\n".join(text[-1500:] for text in texts))
    require(sum("partition_begun" in text for text in texts) >= 2, "partitions are shared")
    require(psql("shared", "select count(*), count(distinct uid) from reinforce.samples").strip() == "90|90", "once each")
    require(psql("shared", "select sum(n_duplicates) from reinforce.ingest_offsets").strip() == "50", "seconds are seen")
    require(reinforce("verify", tmp / "shared").returncode == 0, "verify agrees")
    require(psql("shared", "select count(*) from reinforce.outbox").strip() == "0", "all events are published")
    n_told = 90 + int(psql("shared", "select count(*) from reinforce.outputs"))
    require(told("shared-told") == (n_told, n_told), f"{told('shared-told')} events and ids, {n_told} to tell")


def a_fleet_reads_to_the_end(tmp, keys):
    """A job that does not follow is done when all is read and made, and goes on when it is submitted again."""
    make_images(tmp / "few", 40, broken=False)
    url = f"sqlite:{tmp}/few.sqlite"
    job = write_job(tmp / "few.yaml", "kafka:few", tmp / "few-out", catalog={"url": url}, workers=WORKERS,
                    input={"shard_samples": 9}, kafka={"brokers": BROKERS, "follow": False},
                    events={"topic": "few-told", "transactional": True})
    subprocess.run([MEMBER, "--create", BROKERS, "few", "3"], check=True)
    with Fleet(tmp / "few-logs", url, keys) as fleet:
        for limit in (25, 40):
            reinforce("produce", "--brokers", BROKERS, "--topic", "few", "--limit", str(limit), tmp / "few")
            require("running" in reinforce("submit", job).stdout or limit == 25, "it runs again")
            if limit == 25:
                fleet.coordinator()
                fleet.worker()
            wait_for("the job is done", lambda: fleet.status("e2e")["state"] == "done")
            samples = fleet.status("e2e")["samples"]
            require(samples["done"] == limit, f"{samples} of {limit}")
            require(reinforce("verify", tmp / "few-out").returncode == 0, "verify agrees")
            lags = json.loads(reinforce("ingest", "status", "--catalog", url, "--json", "e2e").stdout)["partitions"]
            require(len(lags) == 3 and all(p["lag"] == 0 for p in lags), f"nothing is left: {lags}")
            wait_for("all is told", lambda: fleet.status("e2e")["events_waiting"] == 0)
            n_shards = fleet.status("e2e")["shards"]["done"]
            require(told("few-told") == (n_shards, n_shards), f"{told('few-told')} events and ids of {n_shards} shards")


def a_stream_that_is_not_there_pauses_its_job(tmp, keys):
    url = f"sqlite:{tmp}/gone.sqlite"
    job = write_job(tmp / "gone.yaml", "kafka:no-such-topic", tmp / "gone-out", catalog={"url": url}, workers=WORKERS,
                    kafka={"brokers": BROKERS})
    reinforce("submit", job)
    with Fleet(tmp / "gone-logs", url, keys) as fleet:
        fleet.coordinator()
        wait_for("the job is paused", lambda: fleet.status("e2e")["state"] == "paused")
        require("no-such-topic" in fleet.status("e2e")["note"], "the note names the topic")


with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    reinforce("keys", "new", tmp / "keys")
    what_retention_took_is_told(tmp)
    runs_share_a_job(tmp)
    a_fleet_reads_to_the_end(tmp, tmp / "keys")
    a_stream_that_is_not_there_pauses_its_job(tmp, tmp / "keys")
    subprocess.run([MEMBER, "--create", BROKERS, "chaos", str(N_PARTITIONS)], check=True)
    subprocess.run(["createdb", "chaos"], check=True)
    url = f"{os.environ['POSTGRES_URL']}/chaos"
    reinforce("db", "migrate", "--catalog", url)
    job = write_job(tmp / "chaos.yaml", "kafka:chaos", tmp / "out", input={"shard_samples": 700}, catalog={"url": url},
                    captioners=[], workers={**WORKERS, "part_samples": 500, "queue_items": 64},
                    kafka={"brokers": BROKERS, "shard_age": "1s", "shard_bytes": "64KiB", "dead_letters": "chaos-dead",
                           "window": 20000, "properties": "session.timeout.ms=3000\n"},
                    events={"topic": "chaos-told", "samples": True})
    require(produce(tmp, 0, N_RECORDS // 2).wait() == 0, "the first half is there")
    bad = [f'{{"uid": "bad{i}"}}' for i in range(N_BAD)]
    for i, line in enumerate(bad):
        kcat("-P", "-t", "chaos", "-p", str(i % N_PARTITIONS), text=line + "\n")
    again = "".join(f'u{i}|{{"uid": "u{i}", "image": "cGl4ZWxz", "text": "text {i}"}}\n' for i in range(N_AGAIN))
    kcat("-P", "-t", "chaos", "-K", "|", "-X", "topic.partitioner=murmur2_random", text=again)
    reinforce("submit", job)
    with Fleet(tmp / "logs", url, tmp / "keys") as fleet:
        n_kills, n_broker_kills = a_fleet_is_killed(tmp, fleet)
        wait_for("all is told", lambda: (status := fleet.status("e2e"))["events_waiting"] == 0 and
                 status["shards"]["done"] == status["shards"]["total"])
    n_shards = check_catalog(tmp)
    n_events, n_ids = told("chaos-told")
    require(n_ids == N_RECORDS + n_shards, f"{n_events} events of {n_ids} ids, {N_RECORDS + n_shards} to tell")
    counts = psql("chaos", "select sum(n_records), sum(n_duplicates), sum(n_refused) from reinforce.ingest_offsets")
    require(counts.strip() == f"{N_RECORDS}|{N_AGAIN}|{N_BAD}", f"records, duplicates, refused: {counts}")
    letters = {}
    for line in kcat("-C", "-t", "chaos-dead", "-e", "-f", "%s|%h\n").splitlines():
        value, headers = line.split("|", 1)
        origin = re.search(r"reinforce\.topic=chaos,reinforce\.partition=\d+,reinforce\.offset=\d+", headers)[0]
        require(letters.setdefault(origin, value) == value, "one origin, one record")
    require(sorted(letters.values()) == sorted(bad), "dead letters are exactly the bad records")
    print(f"seed {SEED}: {N_RECORDS} records in {n_shards} shards, each once; {n_ids} things told by {n_events} events; "
          f"{n_kills} processes and {n_broker_kills} brokers were killed")
