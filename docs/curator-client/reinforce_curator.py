"""Client of `reinforce curator serve`: selects training batches, one by one or around a data loader.

Needs numpy, pyzmq, protobuf, and protoc (or grpcio-tools) to make Python of curator.proto when it is imported first.
docs/curator.md says how it is used, docs/curator-protocol.md what is sent.
"""
import dataclasses
import hashlib
import importlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import zmq

PROTOCOL = 1
CRITERIA = {"learnability": 1, "easy_reference": 2, "hard_learner": 3, "uniform": 4}
LOSSES = {"sigmoid": 1, "softmax": 2}
STATUSES = {1: "ok", 2: "partial", 3: "fallback", 4: "rejected"}
KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 15, zmq.TCP_KEEPALIVE_INTVL: 15, zmq.TCP_KEEPALIVE_CNT: 4}


class CuratorError(Exception):
    """The curator has not answered, or not with a selection: `timeout`, `refused` or `rejected`, and why."""

    def __init__(self, kind, reason):
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason


def messages(proto=None):
    """The classes of curator.proto; `proto` is its path, by default beside this file or in the repository."""
    if "curator_pb2" in sys.modules:
        return sys.modules["curator_pb2"]
    here = pathlib.Path(__file__).resolve()
    places = [here.with_name("curator.proto"), here.parent.parent.parent / "proto/curator.proto"]
    places = [pathlib.Path(proto)] if proto else places
    proto = next((place for place in places if place.exists()), None)
    if proto is None:
        raise FileNotFoundError(f"there is no {' and no '.join(map(str, places))}: copy proto/curator.proto there")
    protoc = [shutil.which("protoc")] if shutil.which("protoc") else [sys.executable, "-m", "grpc_tools.protoc"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*protoc, f"-I{proto.parent}", f"--python_out={folder}", str(proto)], check=True)
        sys.path.insert(0, folder)
        try:
            return importlib.import_module("curator_pb2")
        finally:
            sys.path.remove(folder)


def example_ids(uids):
    """uint64 [B, 2], low half and high half: of uids as a dataset has them (`__key__`), or of integers below 2^64.

    A uid of 32 hexadecimal digits is that number; of any other it is the first 32 digits of its SHA-256.
    """
    if not isinstance(uids[0], str):
        ids = np.asarray(uids, np.uint64)
        return ids if ids.ndim == 2 else np.stack([ids, np.zeros_like(ids)], 1)
    numbers = np.empty((len(uids), 2), np.uint64)
    for i, uid in enumerate(uids):
        digits = uid
        if len(uid) != 32 or not all(c in "0123456789abcdefABCDEF" for c in uid):
            digits = hashlib.sha256(uid.encode()).hexdigest()
        numbers[i] = int(digits[16:32], 16), int(digits[:16], 16)
    return numbers


@dataclasses.dataclass
class Embeddings:
    """Unit rows [B, D] of images and texts: float32 or float16 arrays, or tensors, which may be bfloat16, too.

    `scale` is linear (not its logarithm); scale and bias are those of the step at which the rows were made.
    """
    image: object
    text: object
    scale: float
    bias: float = 0.0


def _rows(x):
    """dtype number, D, and an array of the bytes."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().contiguous()
        if str(x.dtype) == "torch.bfloat16":
            return 3, x.shape[1], x.view(sys.modules["torch"].int16).numpy()
        x = x.numpy()
    x = np.ascontiguousarray(x)
    kinds = {"float32": 1, "float16": 2, "bfloat16": 3}
    if x.dtype.name not in kinds or x.ndim != 2:
        raise TypeError(f"embeddings are {x.dtype.name} {list(x.shape)}; they can be float32, float16, bfloat16 [B, D]")
    return kinds[x.dtype.name], x.shape[1], x


def _add_model(message, embeddings, frames):
    dtype, D, image = _rows(embeddings.image)
    text_dtype, text_D, text = _rows(embeddings.text)
    if (dtype, D) != (text_dtype, text_D):
        raise TypeError(f"images have {D} values a row, texts {text_D}, or their types differ")
    message.dimensions, message.dtype = D, dtype
    message.scale, message.bias = float(embeddings.scale), float(embeddings.bias)
    frames += [image, text]


@dataclasses.dataclass
class Selection:
    """What was selected. `status`: "ok", "partial" (some examples could not be) or "fallback" (uniformly: `reason`)."""
    status: str
    reason: str
    index: np.ndarray        # int64 [b] positions in the super-batch, in the order of selection
    chunk: np.ndarray        # uint16 [b]
    marginal: np.ndarray     # float32 [b] an example's own score
    conditional: np.ndarray  # float32 [b] what it added to those of earlier chunks
    marginals: np.ndarray    # float32 [B], or empty
    message: object          # SelectReply: statistics, staleness, version of the reference


class Curator:
    """A connection to a curator, of one thread. `keys` is a worker's key file, for a curator with keys."""

    def __init__(self, address="tcp://127.0.0.1:7700", job="", keys=None, proto=None, context=None):
        self.pb, self.job = messages(proto), job
        self.address, self.keys, self.context = address, keys, context or zmq.Context.instance()
        self._connect()

    def _connect(self):
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        # At most one request is kept for a curator that is not there. `immediate` would keep none, but lose the last
        # answers of one that leaves.
        self.socket.sndhwm = 1
        for option, value in KEEPALIVE.items():
            self.socket.setsockopt(option, value)
        if self.keys is not None:
            words = (line.split() for line in pathlib.Path(self.keys).read_text().splitlines())
            found = {word[0]: word[1].encode() for word in words if len(word) == 2}
            self.socket.curve_publickey, self.socket.curve_secretkey = found["public"], found["secret"]
            self.socket.curve_serverkey = found["server"]
        self.socket.connect(self.address)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _ask(self, kind, message, frames, is_ours, timeout_s, again_s):
        """The answer's parts; late answers to what was given up are passed over.

        A connection that breaks takes requests and answers with it, unsaid. Without an answer after again_s the same
        is asked again, over a new one: the curator joins it to what is under way, or has the answer still.
        """
        end = time.monotonic() + timeout_s
        while True:
            until = min(end, time.monotonic() + again_s)
            if self.socket.poll(max(0, until - time.monotonic()) * 1000, zmq.POLLOUT):
                self.socket.send_multipart([kind.encode(), message.SerializeToString(), *frames], copy=False)
            while self.socket.poll(max(0, until - time.monotonic()) * 1000):
                parts = self.socket.recv_multipart()
                if parts[0] == b"refused":
                    raise CuratorError("refused", self.pb.Refused.FromString(parts[1]).reason)
                if parts[0] == kind.encode() and is_ours(parts[1]):
                    return parts
            if time.monotonic() >= end:
                raise CuratorError("timeout", f"no answer within {timeout_s:g} s")
            self.close()
            self._connect()

    def select(self, ids, n_selected, super_batch, learner=None, reference=None, step=None, learner_step=None,
               criterion="learnability", loss="sigmoid", chunks=16, gain=1.0, seed=0, deadline_ms=0, strata=None,
               quotas=(), timeout_s=None, **options):
        """Selects n_selected of B examples.

        (job, super_batch) names the request: asked again, it has the same answer. `step` (default: super_batch) is
        of training, `learner_step` that of the learner's weights. `reference` is for a curator without a dataset.
        `deadline_ms` is the curator's, after which the answer is uniform; `timeout_s` (default: the deadline and ten
        seconds, or ten minutes) is ours. options: top_k, normalise_by_count, uniform_share, batch_scores,
        all_marginals.
        """
        ids = np.ascontiguousarray(example_ids(ids), "<u8")
        step = super_batch if step is None else step
        request = self.pb.SelectRequest(
            protocol=PROTOCOL, job=self.job, super_batch=super_batch, step=step,
            learner_step=step if learner_step is None else learner_step, n_examples=len(ids), n_selected=n_selected,
            n_chunks=min(chunks, n_selected), criterion=CRITERIA[criterion], loss=LOSSES[loss], gain=gain, seed=seed,
            deadline_ms=deadline_ms, quotas=quotas, **options)
        frames = [ids]
        if learner is not None:
            _add_model(request.learner, learner, frames)
        if reference is not None:
            _add_model(request.reference, reference, frames)
        if len(quotas) > 0:
            frames.append(np.ascontiguousarray(strata, "<u2"))
        if timeout_s is None:
            timeout_s = deadline_ms / 1000 + 10 if deadline_ms else 600

        def is_ours(body):
            reply = self.pb.SelectReply.FromString(body)
            return (reply.job, reply.super_batch) == (self.job, super_batch)

        again_s = deadline_ms / 1000 * 1.1 + 3 if deadline_ms else 60
        parts = self._ask("select", request, frames, is_ours, timeout_s, again_s)
        reply = self.pb.SelectReply.FromString(parts[1])
        if STATUSES[reply.status] == "rejected":
            raise CuratorError("rejected", reply.reason)
        arrays = [np.frombuffer(part, dtype) for part, dtype in zip(parts[2:], ("<u4", "<u2", "<f4", "<f4", "<f4"))]
        marginals = arrays[4] if len(arrays) > 4 else np.empty(0, np.float32)
        return Selection(STATUSES[reply.status], reply.reason, arrays[0].astype(np.int64), *arrays[1:4], marginals,
                         reply)

    def probe(self, ids, used, fresh, step, learner_step, n_top, reference=None, criterion="learnability",
              loss="sigmoid", gain=1.0, timeout_s=60):
        """Compares the scores of `used` embeddings, of learner_step, with those of `fresh` ones: a ProbeReply."""
        ids = np.ascontiguousarray(example_ids(ids), "<u8")
        request = self.pb.ProbeRequest(protocol=PROTOCOL, job=self.job, step=step, learner_step=learner_step,
                                       n_examples=len(ids), n_top=n_top, criterion=CRITERIA[criterion],
                                       loss=LOSSES[loss], gain=gain)
        frames = [ids]
        _add_model(request.used, used, frames)
        _add_model(request.fresh, fresh, frames)
        if reference is not None:
            _add_model(request.reference, reference, frames)

        def is_ours(body):
            reply = self.pb.ProbeReply.FromString(body)
            return (reply.job, reply.step) == (self.job, step)

        return self.pb.ProbeReply.FromString(self._ask("probe", request, frames, is_ours, timeout_s, 20)[1])

    def status(self, timeout_s=60):
        """Counts of all that this curator has answered: a StatusReply."""
        request = self.pb.StatusRequest(protocol=PROTOCOL)
        return self.pb.StatusReply.FromString(self._ask("status", request, [], lambda body: True, timeout_s, 5)[1])


def take(batch, index):
    """Rows `index` of a super-batch: of tensors, arrays and lists, in tuples, lists of them, and dicts."""
    if isinstance(batch, dict):
        return {key: take(value, index) for key, value in batch.items()}
    if isinstance(batch, tuple) or (isinstance(batch, list) and batch and hasattr(batch[0], "shape")
                                    and batch[0].shape):
        return type(batch)(take(value, index) for value in batch)
    if isinstance(batch, list):
        return [batch[i] for i in index]
    return batch[index]


class CuratedBatches:
    """Training batches out of a loader of super-batches.

        loader = DataLoader(dataset, batch_size=4096, shuffle=True, drop_last=True)
        for batch in CuratedBatches(loader, curator, 2048, ids, embed, deadline_ms=2000): ...

    `ids(super_batch)` gives the examples' uids or numbers, `embed(super_batch)` the learner's Embeddings under its
    present weights (no gradients, the model as it is). Selected rows come shuffled, as the order of selection is not
    one of quality. Training never stops for want of a curator: without an answer in time the batch is drawn here,
    and counted. `counts` has how many batches were "ok", "partial", "fallback" and "alone".
    """

    def __init__(self, loader, curator, n_selected, ids, embed, seed=0, first_step=0, timeout_s=None, **options):
        self.loader, self.curator, self.n_selected = loader, curator, n_selected
        self.ids, self.embed, self.seed, self.timeout_s, self.options = ids, embed, seed, timeout_s, options
        self.step = first_step
        self.counts = {"ok": 0, "partial": 0, "fallback": 0, "alone": 0}
        self.selection = None  # the latest; None: drawn here

    def __len__(self):
        return len(self.loader)

    def _select(self, super_batch, ids):
        try:
            self.selection = self.curator.select(ids, self.n_selected, self.step, learner=self.embed(super_batch),
                                                 seed=self.seed, timeout_s=self.timeout_s, **self.options)
        except CuratorError as error:
            if error.kind != "timeout":
                raise
            self.selection = None
        self.counts["alone" if self.selection is None else self.selection.status] += 1
        rng = np.random.default_rng((self.seed, self.step))
        if self.selection is None:
            return rng.permutation(len(ids))[:self.n_selected]
        return rng.permutation(self.selection.index)

    def __iter__(self):
        for super_batch in self.loader:
            yield take(super_batch, self._select(super_batch, self.ids(super_batch)))
            self.step += 1
