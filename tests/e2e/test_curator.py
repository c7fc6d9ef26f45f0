"""A curator and its trainers: the client of docs/curator-client against `reinforce curator serve`.

Selections are compared index by index with the specification in NumPy, tests/golden/make_curate.py. Needs python3-zmq,
python3-protobuf, protoc and python3-torch. Numbers are those of the specification's checklist.
"""
import contextlib
import io
import json
import pathlib
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

import numpy as np
import torch
import zmq
from torch.utils.data import DataLoader, TensorDataset

from harness import BINARY, ROOT, make_images, reinforce, require, write_job

sys.path += [str(ROOT / "tests/golden"), str(ROOT / "docs/curator-client")]
import make_curate  # noqa: E402
from reinforce_curator import Curator, CuratedBatches, CuratorError, Embeddings, example_ids  # noqa: E402


class Served:
    """A curator process."""

    def __init__(self, *args):
        self.process = subprocess.Popen([BINARY, "curator", "serve", "--bind", "tcp://127.0.0.1:*", "--threads", "1",
                                         *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        require(line.startswith("serving at "), f"no curator: {line}{'' if line else self.process.stderr.read()}")
        self.address = line.split()[-1]

    def end(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        _, said = self.process.communicate(timeout=60)
        require(self.process.returncode == 0, f"the curator exited {self.process.returncode}: {said}")
        return said


@contextlib.contextmanager
def curator(*args, **options):
    """A curator and a client of it."""
    served = Served(*args)
    try:
        with Curator(served.address, **options) as client:
            client.served = served
            yield client
        served.end()
    finally:
        served.process.kill()


def problem(n):
    with open(ROOT / "tests/golden/curate.jsonl") as lines:
        return json.loads(lines.readlines()[n])


def ask(client, p, super_batch, reference=True, **changes):
    """Has a problem of make_curate selected."""
    models = [Embeddings(*make_curate.embeddings(p, m), p["scale_" + m], p["bias_" + m]) for m in "LR"]
    options = {"criterion": p["criterion"], "loss": p["loss"], "chunks": p["N"], "gain": p["gain"], "seed": p["seed"],
               "step": p["step"], "top_k": p["top_k"], "normalise_by_count": p["normalise"],
               "uniform_share": p["uniform"], "quotas": p["quotas"], "learner": models[0],
               "strata": np.arange(p["B"]) % max(1, len(p["quotas"])), **changes}
    return client.select(make_curate.example_ids(p), p["b"], super_batch, reference=models[1] if reference else None,
                         **options)


def selections_are_the_specifications():
    small = [n for n in range(200) if problem(n)["B"] <= 256][:40]
    with curator(job="one") as client:
        for n in small:
            p = problem(n)
            index, chunks, _, _ = make_curate.select(p)
            got = ask(client, p, n)
            require(got.status == "ok" and got.index.tolist() == index and got.chunk.tolist() == chunks,
                    f"problem {n}: {got.index.tolist()[:5]}..., not {index[:5]}...")
            require(got.message.staleness == 0 and got.message.statistics.n_usable == p["B"], "the statistics")
        status = client.status()
        require(status.n_ok == len(small) and status.n_refused == 0, f"the status: {status}")
        # asked again, it is the same, and not selected again
        again = ask(client, problem(small[0]), small[0])
        require(again.message.SerializeToString() == ask(client, problem(small[0]), small[0]).message.SerializeToString()
                and client.status().n_repeated == 2, "a repeated request")


def two_trainers_at_once():
    p, q, wrong = problem(4), problem(5), []
    want = {"a": make_curate.select(p)[0], "b": make_curate.select(q)[0]}
    served = Served("--selections", 2)

    def train(job, problem_of_it):
        with Curator(served.address, job=job) as client:
            for step in range(20):
                if ask(client, problem_of_it, step).index.tolist() != want[job]:
                    wrong.append((job, step))

    threads = [threading.Thread(target=train, args=args) for args in (("a", p), ("b", q))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    served.end()
    require(not wrong, f"selected otherwise: {wrong}")


def late_answers_are_uniform():
    """CURATE 22: also in the queue, behind a trainer that has all the time."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((6000, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    slow = dict(ids=np.arange(6000), n_selected=3000, learner=Embeddings(rows, rows, 10, -5), criterion="hard_learner",
                chunks=3000)
    with curator("-v", "--deadline", 60000, job="slow") as client, Curator(client.served.address, job="quick") as quick:
        thread = threading.Thread(target=lambda: client.select(super_batch=1, **slow))
        thread.start()
        while quick.status().n_running == 0:
            pass
        small = dict(ids=np.arange(100), n_selected=10, learner=Embeddings(rows[:100], rows[:100], 10, -5),
                     criterion="hard_learner", chunks=2)
        took, got = [], []
        for n in range(3):
            began = time.monotonic()
            got.append(quick.select(super_batch=n, step=7, deadline_ms=150, **small))
            took.append(time.monotonic() - began)
        require(all(0.15 <= t < 0.165 + 1 for t in took), f"answers took {took} s")
        require(all(g.status == "fallback" and "deadline" in g.reason for g in got), f"statuses {[g.status for g in got]}")
        require(got[0].index.tolist() == got[2].index.tolist(), "the permutation is the seed's and the step's")
        late = quick.select(super_batch=9, step=7, deadline_ms=1, timeout_s=30, **{**small, "ids": np.arange(100)})
        require(late.status == "fallback", "one millisecond")
        require(quick.status().n_fallback_deadline == 4, "the counts")
        thread.join()
        require(quick.select(super_batch=10, **small).status == "ok", "and then it has time again")


def write_dataset(folder):
    make_images(folder / "in", 40, broken=False)
    job = write_job(folder / "job.yaml", folder / "in", folder / "out", output={"url": str(folder / "out")})
    reinforce("run", job)
    return folder / "out"


def records_of(output):
    """uid to arrays of its embeddings."""
    found = {}
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".npz"):
                    found[member.name[:-4]] = dict(np.load(io.BytesIO(tar.extractfile(member).read())))
    return found


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def references_come_from_a_dataset(folder):
    """CURATE 25, 26: what is missing is said, and another column is another reference."""
    output = write_dataset(folder)
    records = records_of(output)
    uids = sorted(records)
    D_first, D = 48, 64  # of teacher "gelu", and of "quick" behind it
    image = np.stack([unit(records[u]["image_emb"][:, D_first:].astype(np.float64).mean(0)) for u in uids])
    text = np.stack([records[u]["text_emb"][0, D_first:].astype(np.float64) for u in uids])
    B, b = len(uids), len(uids) // 2
    p = {**problem(0), "B": B, "b": b, "N": 4, "D_L": 16, "D_R": D, "loss": "sigmoid", "criterion": "learnability",
         "gain": 1.0, "top_k": False, "normalise": False, "uniform": 0.0, "quotas": [], "copies": 0, "step": 3,
         "scale_R": 30.0, "bias_R": -12.0}
    served_args = ["--dataset", output, "--teacher", "quick", "--cache", folder / "cache", "--scale", 30, "--bias", -12]

    def rows(q, model):
        if model == "L":
            return make_curate.embeddings(q, "L")
        return image.astype(np.float16), text.astype(np.float16)

    learner = Embeddings(*make_curate.embeddings(p, "L"), p["scale_L"], p["bias_L"])
    options = dict(learner=learner, step=3, chunks=4, seed=p["seed"])
    want = make_curate.select(p, rows, example_ids(uids))[0]
    log = folder / "selections.log"
    with curator(*served_args, "--log", log, "--log-inputs", job="d") as client:
        got = client.select(uids, b, 1, **options)
        require(got.status == "ok" and got.index.tolist() == want, f"selected {got.index.tolist()}, not {want}")
        version = got.message.reference_version
        require(re.fullmatch(r"quick@[0-9a-f]{16}\*30-12", version), f"version {version}")
        require(client.status().n_references == B, "the number of references")
        # one is unknown: it is not selected; many are: nobody knows what to select
        got = client.select(["nobody", *uids[1:]], b, 2, **options)
        first = "%016x%016x" % tuple(int(half) for half in example_ids(["nobody"])[0][::-1])
        require(got.status == "partial" and 0 not in got.index, "an unknown uid")
        require(got.reason == f"1 of {B} examples have no reference, the first is {first}", f"reason: {got.reason}")
        got = client.select(["nobody"] + [f"nobody-{i}" for i in range(B // 2)] + uids[B // 2 + 1:], b, 3, **options)
        require(got.status == "fallback" and got.reason.endswith(first), f"reason: {got.reason}")
        require(client.status().n_fallback_reference == 1 and client.status().n_partial == 1, "the counts")
    # mapped, not made again; and replayed
    caches = list((folder / "cache").iterdir())
    with curator(*served_args, job="d") as client:
        require(client.select(uids, b, 1, **options).index.tolist() == want, "from the cache")
        require(list((folder / "cache").iterdir()) == caches, "the cache was made again")
    replayed = reinforce("curator", "replay", *served_args, log)
    require(replayed.stdout.startswith("3 the same, 0 different, 0 without inputs"), f"replayed: {replayed.stdout}")
    replayed = reinforce("curator", "replay", "--all", *served_args, "--column", "syn_text", log, check=(1,))
    require("2 with another reference" in replayed.stdout and version in replayed.stdout, f"replayed: {replayed.stdout}")
    done = subprocess.run([BINARY, "curator", "serve", "--dataset", str(output)], capture_output=True, text=True)
    require(done.returncode == 2 and "say which of gelu, quick" in done.stderr, f"two teachers: {done.stderr}")


def selections_are_logged(folder):
    log, p = folder / "log", problem(4)
    for inputs in ([], ["--log-inputs"]):
        with curator("--log", log, *inputs, job="one") as client:
            for n in range(3):
                ask(client, p, n)
            require(client.status().n_logged == 3, "the count")
        if not inputs:
            require(log.stat().st_size < 3 * (2 * p["b"] + 700), f"{log.stat().st_size} bytes are not compact")
    replayed = reinforce("curator", "replay", log)
    require(replayed.stdout == "3 the same, 0 different, 3 without inputs, 0 with another reference\n",
            f"replayed: {replayed.stdout}")
    body = bytearray(log.read_bytes())
    body[-1] ^= 1
    log.write_bytes(body)
    replayed = reinforce("curator", "replay", log, check=(1,))
    require("2 the same" in replayed.stdout and "another checksum" in replayed.stderr, f"damaged: {replayed.stderr}")


def probes_tell_staleness():
    """CURATE 24."""
    p = problem(0)
    p.update(B=256, D_L=32, D_R=16, scale_L=10.0, bias_L=-5.0, copies=0, noise=0.5)
    used = Embeddings(*make_curate.embeddings(p, "L"), 10, -5)
    fresh = Embeddings(*(unit(x + 0.05 * np.roll(x, 1, 0)).astype(np.float32) for x in (used.image, used.text)), 10.5, -5)
    own = [np.log1p(np.exp(-(e.scale * (e.image.astype(float) * e.text).sum(-1) + e.bias))) for e in (used, fresh)]
    sigma = (own[1] - own[0]).std()
    with curator("-v", job="p") as client:
        for gain, alarm in ((0.29 / sigma, False), (0.31 / sigma, True)):
            got = client.probe(np.arange(256), used, fresh, 12, 9, 64, criterion="hard_learner", gain=gain)
            require(abs(got.sigma - sigma) < 1e-4 * sigma and got.alarm == alarm, f"sigma {got.sigma}, not {sigma}")
            require(got.staleness == 3 and 0 < got.overlap <= 1 and 0 < got.spearman <= 1, f"{got}")
        status = client.status()
        require(status.n_probes == 2 and status.n_alarms == 1, "the counts")
        selected = ask(client, problem(4), 0, step=12, learner_step=9)
        require(selected.message.staleness == 3 and selected.message.learner_step == 9, "staleness of a selection")


def halves_select_the_same():
    """CURATE 27, the wire."""
    p = problem(0)
    p.update(B=2048, b=512, N=2, D_L=64, D_R=64, loss="sigmoid", criterion="learnability", scale_L=20.0, bias_L=-10.0,
             scale_R=30.0, bias_R=-15.0, noise=1.0, copies=0, top_k=True, quotas=[], uniform=0.0, normalise=False)
    image, text = make_curate.embeddings(p, "L")
    with curator(job="h") as client:
        full = set(ask(client, p, 0).index.tolist())
        for n, (kind, least) in enumerate(((torch.float16, 0.99), (torch.bfloat16, 0.95))):
            halves = Embeddings(*(torch.from_numpy(x).to(kind) for x in (image, text)), 20, -10)
            same = len(full & set(ask(client, p, n + 1, learner=halves).index.tolist())) / p["b"]
            require(same >= least, f"{kind}: {same:.3f} of the batch is the same")


def a_lost_answer_is_asked_for_again():
    """From somebody who hears nothing the first time."""
    context = zmq.Context.instance()
    deaf = context.socket(zmq.ROUTER)
    port = deaf.bind_to_random_port("tcp://127.0.0.1")
    with Curator(f"tcp://127.0.0.1:{port}", job="again") as client:

        def answer():
            first = deaf.recv_multipart()
            second = deaf.recv_multipart()
            require(first[1:] == second[1:] and first[0] != second[0], "another request, or the same connection")
            reply = client.pb.SelectReply(protocol=1, job="again", super_batch=4, status=1, n_selected=2)
            deaf.send_multipart([second[0], b"select", reply.SerializeToString(), np.array([1, 0], "<u4"),
                                 np.zeros(2, "<u2"), np.zeros(2, "<f4"), np.zeros(2, "<f4")])

        thread = threading.Thread(target=answer)
        thread.start()
        got = client.select(np.arange(2), 2, 4, criterion="uniform", deadline_ms=1)
        thread.join()
        require(got.index.tolist() == [1, 0], "the answer to the second")
    deaf.close()


def sigterm_answers_what_it_has():
    rows = unit(np.random.default_rng(2).standard_normal((4000, 16))).astype(np.float32)
    request = dict(ids=np.arange(4000), n_selected=2000, learner=Embeddings(rows, rows, 10, -5),
                   criterion="hard_learner", timeout_s=60)
    served, got = Served(), {}

    def select(job, chunks):
        with Curator(served.address, job=job) as client:
            got[job] = client.select(super_batch=1, chunks=chunks, **request)

    with Curator(served.address) as client:
        first = threading.Thread(target=select, args=("runs", 1500))
        first.start()
        while client.status().n_running == 0:
            pass
        second = threading.Thread(target=select, args=("waits", 2))
        second.start()
        while client.status().n_waiting == 0:
            pass
        served.end()
    first.join()
    second.join()
    require(got["runs"].status == "ok", "what was under way is finished")
    require(got["waits"].status == "fallback" and "leaving" in got["waits"].reason, f"{got['waits'].reason}")


def nonsense_harms_nobody():
    p = problem(4)
    want = make_curate.select(p)[0]
    rng = np.random.default_rng(3)
    with curator("--max-request", 1, job="sound") as client:
        raw = zmq.Context.instance().socket(zmq.DEALER)
        raw.linger = 0
        raw.connect(client.served.address)
        sound = client.pb.SelectRequest(protocol=1, job="x", n_examples=2, n_selected=1, criterion=4, loss=1)
        for n in range(200):
            body = bytes(rng.integers(0, 256, int(rng.integers(0, 64)), dtype=np.uint8))
            raw.send_multipart([rng.choice([b"select", b"probe", b"status", body]), body, *[body] * int(rng.integers(12))])
        for protocol, ids, word in ((2, bytes(32), "protocol"), (1, bytes(31), "ids have 31 bytes")):
            sound.protocol = protocol
            raw.send_multipart([b"select", sound.SerializeToString(), ids])
        reasons = []
        while not reasons or "ids have 31 bytes" not in reasons[-1]:
            require(raw.poll(10000), "no answer to nonsense")
            kind, reason = raw.recv_multipart()[:2]
            require(kind in (b"refused", b"status"), f"nonsense was answered with {kind}")
            reasons.append(client.pb.Refused.FromString(reason).reason if kind == b"refused" else "")
        require("protocol is 2" in reasons[-2], reasons[-2])
        raw.send_multipart([b"select", sound.SerializeToString(), bytes(2 << 20)])  # its connection ends
        require(ask(client, p, 1).index.tolist() == want, "a sound trainer beside")
        try:
            client.select(np.arange(4), 5, 2, criterion="uniform")
            require(False, "more than there are")
        except CuratorError as error:
            require(error.kind == "rejected" and "5 examples are to be selected from 4" in error.reason, str(error))
        raw.close()


def keys_are_asked_for(folder):
    p = problem(4)
    reinforce("keys", "new", folder / "keys")
    reinforce("keys", "new", folder / "other")
    args = ["--keys", folder / "keys/coordinator.key", "--allow", folder / "keys/allow"]
    with curator(*args, job="k", keys=folder / "keys/worker.key") as client:
        require(ask(client, p, 1).status == "ok", "with keys")
        status = reinforce("curator", "status", client.served.address, "--keys", folder / "keys/worker.key").stdout
        require(re.search(r"^selected +1$", status, re.M), status)
        for keys in (None, folder / "other/worker.key"):
            with Curator(client.served.address, keys=keys) as stranger:
                try:
                    stranger.status(timeout_s=1)
                    require(False, "a stranger was served")
                except CuratorError as error:
                    require(error.kind == "timeout", str(error))
    done = subprocess.run([BINARY, "curator", "serve", "--bind", "tcp://0.0.0.0:0"], capture_output=True, text=True)
    require(done.returncode == 2 and "not loopback" in done.stderr, done.stderr)


def a_data_loader_is_wrapped():
    rng = np.random.default_rng(4)
    image, text = (torch.from_numpy(unit(rng.standard_normal((256, 8))).astype(np.float32)) for _ in range(2))
    loader = DataLoader(TensorDataset(torch.arange(256), image, text), batch_size=64)
    served = Served()
    options = dict(n_selected=16, ids=lambda batch: batch[0].numpy(),
                   embed=lambda batch: Embeddings(batch[1], batch[2], 10, -5), criterion="hard_learner", chunks=4)
    with Curator(served.address, job="loader") as client:
        batches = CuratedBatches(loader, client, **options)
        for epoch in range(2):
            seen = []
            for number, (index, images, texts) in enumerate(batches):
                chosen = set(batches.selection.index + 64 * number)
                require(set(index.tolist()) == chosen and len(chosen) == 16, "other rows than were selected")
                require(torch.equal(images, image[index]) and torch.equal(texts, text[index]), "rows that do not match")
                seen += index.tolist()
            require(len(set(seen)) == 64, "four batches an epoch")
        require(batches.counts == {"ok": 8, "partial": 0, "fallback": 0, "alone": 0} and batches.step == 8,
                f"{batches.counts}")
        served.end()  # training goes on without
        batches.timeout_s = 0.2
        sizes = [len(index) for index, _, _ in batches]
        require(sizes == [16] * 4 and batches.counts["alone"] == 4, f"{sizes} {batches.counts}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for check in (selections_are_the_specifications, two_trainers_at_once, late_answers_are_uniform,
                      references_come_from_a_dataset, selections_are_logged, probes_tell_staleness,
                      halves_select_the_same, a_lost_answer_is_asked_for_again, sigterm_answers_what_it_has,
                      nonsense_harms_nobody, keys_are_asked_for, a_data_loader_is_wrapped):
            began = time.monotonic()
            (folder / check.__name__).mkdir()
            check(*([folder / check.__name__] if check.__code__.co_argcount else []))
            print(f"{check.__name__}: ok, {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
